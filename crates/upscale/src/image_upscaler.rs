//! An image in memory: through networks, resized, its alpha upscaled.

use std::ops::{ControlFlow, Deref};
use std::path::Path;

use wdsr_image::imresize::{Kernel, imresize_wrapped_to_f32};
use wdsr_image::{Colour, Depth, Image, Outline, RowSample, Samples, SamplesRef};
use wdsr_model::{Sample, UpscaleError, Upscaler};

use crate::alpha::{self, AlphaMethod};
use crate::depth::{check_finite, clamp_to_unit, in_depth, to_float};
use crate::error::Error;
use crate::progress::{Check, Progress};
use crate::range::{self, Mapping, Missing, Survey};
use crate::settings::Settings;
use crate::size::{Plan, Size};
use crate::wrap::Wrap;

/// The network of a pass.
pub(crate) enum Pass<'a> {
    Given(&'a Upscaler),
    AtStrength(Box<Upscaler>),
}

impl Deref for Pass<'_> {
    type Target = Upscaler;

    fn deref(&self) -> &Upscaler {
        match self {
            Self::Given(network) => network,
            Self::AtStrength(network) => network,
        }
    }
}

/// Upscales images of one size by a [`Plan`].
pub struct ImageUpscaler<'a> {
    pub(crate) plan: Plan,
    /// The network of each pass.
    pub(crate) passes: Vec<Pass<'a>>,
    pub(crate) alpha: AlphaMethod,
    pub(crate) wrap: Wrap,
    pub(crate) stretches: bool,
}

impl<'a> ImageUpscaler<'a> {
    /// Each pass runs the first of `networks` that has its scale.
    ///
    /// # Panics
    /// If no network has the scale of a pass.
    pub fn new(plan: Plan, networks: &[&'a Upscaler]) -> Self {
        let of_scale = |&scale: &usize| {
            let network = networks.iter().find(|network| network.scale() == scale);
            Pass::Given(network.unwrap_or_else(|| {
                let scales: Vec<usize> = networks.iter().map(|network| network.scale()).collect();
                panic!("the plan names a network of scale {scale}, given are scales {scales:?}")
            }))
        };
        Self {
            passes: plan.passes().iter().map(of_scale).collect(),
            plan,
            alpha: AlphaMethod::default(),
            wrap: Wrap::default(),
            stretches: true,
        }
    }

    /// Plans the passes by which an image gets the size of the settings; the first of `networks` is that
    /// of [`SizeRequest::OnePass`](crate::SizeRequest::OnePass). Errors name the image by `name`.
    ///
    /// # Errors
    /// If the image cannot get the size, or the result is above
    /// [`max_output_pixels`](Settings::max_output_pixels).
    ///
    /// # Panics
    /// If there is no network, or the request is out of its range ([`Plan::new`]).
    pub fn planned(
        name: &Path,
        input: Size,
        networks: &[&'a Upscaler],
        settings: &Settings,
    ) -> Result<Self, Error> {
        let name = name.to_owned();
        let scales: Vec<usize> = networks.iter().map(|network| network.scale()).collect();
        let plan = match Plan::new(input, settings.size, &scales) {
            Ok(plan) => plan,
            Err(source) => return Err(Error::Size { name, source }),
        };
        let (size, max_pixels) = (plan.target(), settings.max_output_pixels);
        if size.pixels() > u128::from(max_pixels) {
            return Err(Error::ResultTooLarge {
                name,
                size,
                max_pixels,
            });
        }
        Ok(Self::new(plan, networks)
            .alpha(settings.alpha)
            .wrap(settings.wrap))
    }

    /// How to upscale alpha that is not the same everywhere; by the networks unless set otherwise.
    #[must_use]
    pub fn alpha(mut self, method: AlphaMethod) -> Self {
        self.alpha = method;
        self
    }

    /// Which edges of images continue at the opposite side; none unless set otherwise.
    #[must_use]
    pub fn wrap(mut self, wrap: Wrap) -> Self {
        self.wrap = wrap;
        self
    }

    /// Whether 16-bit and float images that use a small part of the range from black to white, or more than
    /// it, are stretched to it for the networks; so unless set otherwise. Frames of a video should not be:
    /// each would be stretched in another way.
    #[must_use]
    pub fn stretch_range(mut self, stretches: bool) -> Self {
        self.stretches = stretches;
        self
    }

    /// Whether the first pass is by a model with a strength, which is then set by
    /// [`at_strength`](Self::at_strength); the other passes enlarge a clean image.
    pub fn has_strength(&self) -> bool {
        self.passes.first().is_some_and(|pass| pass.has_strength())
    }

    /// With the first pass at a strength, 0..=1.
    ///
    /// # Panics
    /// If the strength is not within 0..=1.
    #[must_use]
    pub fn at_strength(mut self, strength: f32) -> Self {
        if let Some(first) = self.passes.first_mut().filter(|pass| pass.has_strength()) {
            *first = Pass::AtStrength(Box::new(first.at_strength(strength)));
        }
        self
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The network, if one pass of it makes the result.
    pub(crate) fn only_pass(&self) -> Option<&Upscaler> {
        self.plan.only_pass().map(|_| &*self.passes[0])
    }

    /// Upscales an image on rayon's current thread pool.
    ///
    /// The result has the image's channels, depth and metadata; integers are rounded once, at the
    /// end, and floats are not clamped. Pixels without data (the value that
    /// [`GeoFields::no_data`](wdsr_image::GeoFields::no_data) declares, and floats beyond 1e38) stay so. Colours under fully transparent pixels are replaced by those
    /// visible beside them; alpha that is the same everywhere stays exactly so.
    ///
    /// # Errors
    /// If a sample is not finite, or a network gives what cannot be an image.
    ///
    /// # Panics
    /// If the image has another size than the plan's input.
    pub fn upscale(&self, image: Image) -> Result<Image, UpscaleError> {
        self.upscale_with_progress(image, &|_, _| ControlFlow::Continue(()))
    }

    /// [`ImageUpscaler::upscale`] that reports (work done, work in all) of the networks, from any
    /// thread, and stops when `progress` says so. The work in all stays the same; without a pass none is
    /// ever done.
    ///
    /// # Errors
    /// Those of [`ImageUpscaler::upscale`], and [`UpscaleError::Stopped`].
    ///
    /// # Panics
    /// If the image has another size than the plan's input.
    pub fn upscale_with_progress(
        &self,
        image: Image,
        progress: &wdsr_model::Progress,
    ) -> Result<Image, UpscaleError> {
        let size = Size::of(&image);
        let mut large = self.upscale_samples_of(image, progress)?;
        let to = (large.width_px, large.height_px);
        large.metadata.scale((size.width_px, size.height_px), to);
        Ok(large)
    }

    /// [`ImageUpscaler::upscale_with_progress`] with the metadata as it is.
    fn upscale_samples_of(
        &self,
        image: Image,
        progress: &wdsr_model::Progress,
    ) -> Result<Image, UpscaleError> {
        let plan = &self.plan;
        assert_eq!(
            Size::of(&image),
            plan.input(),
            "size of the image and of the plan"
        );
        let (mut colour, alpha) = image.split_alpha();
        let varying = alpha
            .as_ref()
            .is_some_and(|alpha| !alpha::is_constant(&alpha.samples));
        if let Some(alpha) = &alpha {
            check_finite(alpha)?;
        }
        let by_network = varying && self.alpha == AlphaMethod::Network && !self.passes.is_empty();
        let levels = match &alpha {
            Some(alpha) if by_network => {
                let begun = self.progress(progress, 1);
                alpha::hard_levels(alpha, self.wrap, &|| begun.check())?
            }
            _ => None,
        };
        let alpha_passes = by_network && levels.is_none();
        let mut progress = self.progress(progress, if alpha_passes { 2 } else { 1 });
        let Some(alpha) = alpha else {
            return self.upscale_colour(colour, &mut progress);
        };
        let target = plan.target();
        if !varying {
            let samples = alpha::repeat_first(&alpha.samples, target.pixels() as usize);
            let large = Image::new(target.width_px, target.height_px, Colour::Grey, samples);
            return Ok(self
                .upscale_colour(colour, &mut progress)?
                .join_alpha(&large));
        }
        alpha::spread_colour(&mut colour, &alpha, self.wrap, &|| progress.check())?;
        let depth = alpha.depth();
        let mut large = match (self.alpha, levels) {
            (AlphaMethod::Network, Some(levels)) => {
                let check: &Check = &|| progress.check();
                let large = alpha::upscale_levels(&alpha, &levels, target, self.wrap, check)?;
                in_depth(large, depth)
            }
            (AlphaMethod::Network, None) => self.upscale_opaque(alpha.clone(), &mut progress)?,
            (AlphaMethod::Lanczos, _) => {
                let check: &Check = &|| progress.check();
                let large = resize(to_float(alpha.clone()), target, self.wrap, check)?;
                in_depth(large, depth)
            }
        };
        alpha::keep_flat(&mut large, &alpha, self.wrap, &|| progress.check())?;
        drop(alpha);
        Ok(self
            .upscale_colour(colour, &mut progress)?
            .join_alpha(&large))
    }

    /// [`ImageUpscaler::upscale_with_progress`] of borrowed samples, interleaved, row-major, of the
    /// plan's input size. If one pass makes the result, RGB is read where it lies and grey is
    /// streamed through the network, both without a copy of the image; else the samples are copied.
    ///
    /// # Errors
    /// Those of [`ImageUpscaler::upscale_with_progress`].
    ///
    /// # Panics
    /// If the number of samples is not that of the size and the channels.
    pub fn upscale_samples(
        &self,
        samples: SamplesRef<'_>,
        colour: Colour,
        progress: &wdsr_model::Progress,
    ) -> Result<Image, UpscaleError> {
        let (size, target) = (self.plan.input(), self.plan.target());
        let is_plain = self.wrap == Wrap::None && self.is_plain(samples);
        let large = match (self.only_pass().filter(|_| is_plain), colour) {
            (Some(network), Colour::Rgb) => {
                pass(samples, size, network, &mut self.progress(progress, 1))?
            }
            (Some(network), Colour::Grey) => match samples {
                SamplesRef::U8(v) => Samples::U8(upscale_grey(v, size, network, progress)?),
                SamplesRef::U16(v) => Samples::U16(upscale_grey(v, size, network, progress)?),
                SamplesRef::F32(v) => Samples::F32(upscale_grey(v, size, network, progress)?),
            },
            _ => {
                let samples = samples.to_samples();
                let image = Image::new(size.width_px, size.height_px, colour, samples);
                return self.upscale_with_progress(image, progress);
            }
        };
        Ok(Image::new(target.width_px, target.height_px, colour, large))
    }

    /// The progress of `runs` runs of all passes.
    fn progress<'p>(&self, report: &'p wdsr_model::Progress<'p>, runs: u128) -> Progress<'p> {
        let read = self.pass_sizes();
        Progress::new(report, runs * read.map(Size::pixels).sum::<u128>())
    }

    /// The sizes that the passes read, with their halos.
    pub(crate) fn pass_sizes(&self) -> impl Iterator<Item = Size> {
        let sizes = self.passes.iter().zip(self.plan.sizes());
        sizes.map(|(network, size)| self.wrap.halo(network).around(size))
    }

    /// An image without alpha: its pixels without data filled, its values stretched to the range of the
    /// networks, both for the time of the work.
    fn upscale_colour(
        &self,
        mut image: Image,
        progress: &mut Progress<'_>,
    ) -> Result<Image, UpscaleError> {
        let depth = image.depth();
        let plan = &self.plan;
        let is_needed = Survey::is_needed(depth, image.metadata.geo.no_data());
        if !is_needed || self.passes.is_empty() && !plan.is_resized() {
            return self.upscale_opaque(image, progress);
        }
        let survey = range::survey(&image);
        let missing = if survey.has_missing() {
            Missing::fill(&mut image, self.wrap, &|| progress.check())?
        } else {
            None
        };
        let mapping = if self.stretches && !self.passes.is_empty() {
            survey.mapping(depth)
        } else {
            Mapping::IDENTITY
        };
        let mut large = if mapping.clips {
            let mut image = to_float(image);
            mapping.map_all(&mut image.samples);
            let clipped = range::clip(&mut image);
            let mut large = self.upscale_opaque(image, progress)?;
            let check: &Check = &|| progress.check();
            range::add_clipped(&mut large, &clipped, plan.input(), self.wrap, check)?;
            mapping.map_all_back(&mut large.samples);
            in_depth(large, depth)
        } else if mapping.is_identity() {
            self.upscale_opaque(image, progress)?
        } else {
            mapping.map_all(&mut image.samples);
            let mut large = self.upscale_opaque(image, progress)?;
            mapping.map_all_back(&mut large.samples);
            large
        };
        if let Some(missing) = missing {
            missing.restore(&mut large);
        }
        Ok(large)
    }

    /// Whether borrowed samples can go through the networks as they are.
    fn is_plain(&self, samples: SamplesRef<'_>) -> bool {
        let depth = samples.depth();
        if !self.stretches || !Survey::is_needed(depth, None) {
            return true;
        }
        let mut survey = Survey::new(samples.len(), depth, None);
        match samples {
            SamplesRef::U8(v) => survey.add(v),
            SamplesRef::U16(v) => survey.add(v),
            SamplesRef::F32(v) => survey.add(v),
        }
        !survey.has_missing() && survey.mapping(depth) == Mapping::IDENTITY
    }

    /// An image without alpha. One pass takes and makes samples of its depth; more passes and
    /// resizing hand on floats, which are rounded once, at the end.
    fn upscale_opaque(
        &self,
        image: Image,
        progress: &mut Progress<'_>,
    ) -> Result<Image, UpscaleError> {
        if let Some(network) = self.only_pass() {
            return pass_any_colour(image, network, self.wrap, progress);
        }
        if self.passes.is_empty() {
            check_finite(&image)?;
            if !self.plan.is_resized() {
                return Ok(image);
            }
        }
        let depth = image.depth();
        let mut float = to_float(image);
        for network in &self.passes {
            float = pass_any_colour(float, network, self.wrap, progress)?;
            if depth != Depth::F32 {
                // The next step gets what a file would hold, but for the rounding.
                clamp_to_unit(&mut float);
            }
        }
        if self.plan.is_resized() {
            let check: &Check = &|| progress.check();
            float = resize(float, self.plan.target(), self.wrap, check)?;
            check()?;
        }
        Ok(in_depth(float, depth))
    }
}

/// Through a network, grey as three equal colours.
fn pass_any_colour(
    image: Image,
    network: &Upscaler,
    wrap: Wrap,
    progress: &mut Progress<'_>,
) -> Result<Image, UpscaleError> {
    let halo = wrap.halo(network);
    if !halo.is_empty() {
        let (size, scale) = (Size::of(&image), network.scale());
        let image = halo.added(&image);
        let large = pass_any_colour(image, network, Wrap::None, progress);
        return match large {
            Ok(large) => Ok(halo.removed(&large, scale)),
            Err(error) => Err(halo.explained(error, 0, size, scale)),
        };
    }
    let grey = image.colour == Colour::Grey;
    let rgb = image.grey_to_rgb();
    let samples = pass(rgb.samples.borrowed(), Size::of(&rgb), network, progress)?;
    let large = Image {
        width_px: rgb.width_px * network.scale(),
        height_px: rgb.height_px * network.scale(),
        samples,
        ..rgb
    };
    Ok(if grey { large.rgb_to_grey() } else { large })
}

/// R G B through a network, in their own depth.
fn pass(
    samples: SamplesRef<'_>,
    size: Size,
    network: &Upscaler,
    progress: &mut Progress<'_>,
) -> Result<Samples, UpscaleError> {
    let (w, h) = (size.width_px, size.height_px);
    progress.pass(size.pixels(), |progress| {
        Ok(match samples {
            SamplesRef::U8(v) => Samples::U8(network.upscale_with_progress(v, w, h, progress)?),
            SamplesRef::U16(v) => Samples::U16(network.upscale_with_progress(v, w, h, progress)?),
            SamplesRef::F32(v) => Samples::F32(network.upscale_with_progress(v, w, h, progress)?),
        })
    })
}

/// Upscales an image without alpha row by row. `read` fills the next whole rows, `write` gets the next
/// rows of the result. Grey goes through the network as three equal colours.
///
/// `rows_px` rows are read at a time, or one if the image is grey.
pub(crate) fn upscale_rows<T: Sample + RowSample, E: From<UpscaleError>>(
    network: &Upscaler,
    low: &Outline,
    rows_px: usize,
    mut read: impl FnMut(&mut [T]) -> Result<(), E>,
    mut write: impl FnMut(&[T]) -> Result<(), E>,
    progress: &wdsr_model::Progress,
) -> Result<(), E> {
    let size = (low.width_px, low.height_px);
    if low.colour != Colour::Grey {
        assert_eq!(low.colour, Colour::Rgb, "colour of rows");
        return network.upscale_rows(size, rows_px, read, write, progress);
    }
    let high_width_px = low.width_px * network.scale();
    let mut low_row = vec![T::default(); low.width_px];
    let mut high_row = vec![T::default(); high_width_px];
    network.upscale_rows(
        size,
        rows_px,
        |rows| {
            for rgb_row in rows.chunks_exact_mut(low.width_px * 3) {
                read(&mut low_row)?;
                let pixels = rgb_row.as_chunks_mut::<3>().0.iter_mut();
                pixels.zip(&low_row).for_each(|(rgb, &v)| *rgb = [v; 3]);
            }
            Ok(())
        },
        |rows| {
            for rgb_row in rows.chunks_exact(high_width_px * 3) {
                let pixels = rgb_row.as_chunks::<3>().0.iter();
                let grey = high_row.iter_mut();
                grey.zip(pixels).for_each(|(v, &rgb)| *v = T::mean(rgb));
                write(&high_row)?;
            }
            Ok(())
        },
        progress,
    )
}

/// Upscales grey samples in memory row by row.
fn upscale_grey<T: Sample + RowSample>(
    samples: &[T],
    size: Size,
    network: &Upscaler,
    progress: &wdsr_model::Progress,
) -> Result<Vec<T>, UpscaleError> {
    let low = Outline {
        width_px: size.width_px,
        height_px: size.height_px,
        colour: Colour::Grey,
        depth: T::DEPTH,
    };
    assert_eq!(
        samples.len() as u128,
        size.pixels(),
        "samples of {size} grey"
    );
    let Ok(rows_px) = network.rows_within(size.width_px, size_of::<T>(), u64::MAX) else {
        unreachable!("rows within no limit");
    };
    let scale = network.scale();
    let mut large = Vec::with_capacity(samples.len() * scale * scale);
    let mut rows = samples.chunks_exact(size.width_px);
    upscale_rows::<T, UpscaleError>(
        network,
        &low,
        rows_px,
        |row| {
            row.copy_from_slice(rows.next().unwrap_or_default());
            Ok(())
        },
        |row| {
            large.extend_from_slice(row);
            Ok(())
        },
        progress,
    )?;
    Ok(large)
}

/// Floats to another size, by Lanczos's kernel.
///
/// # Errors
/// If the work is to stop.
///
/// # Panics
/// If the image is not of floats.
fn resize(image: Image, to: Size, wrap: Wrap, check: &Check) -> Result<Image, UpscaleError> {
    let Samples::F32(floats) = &image.samples else {
        panic!("floats are resized, not {:?}", image.depth());
    };
    let resized = imresize_wrapped_to_f32(
        floats,
        (image.width_px, image.height_px),
        image.colour.channels(),
        (to.width_px, to.height_px),
        Kernel::Lanczos3,
        wrap.axes(),
        || check().is_err(),
    );
    let resized = resized.ok_or(UpscaleError::Stopped)?;
    Ok(Image {
        width_px: resized.width_px,
        height_px: resized.height_px,
        samples: Samples::F32(resized.pixels),
        ..image
    })
}

#[cfg(test)]
mod tests {
    use wdsr_model::Model;

    use super::*;
    use crate::SizeRequest;

    const WIDTH_PX: usize = 13;
    const HEIGHT_PX: usize = 9;

    fn network() -> Upscaler {
        Upscaler::new(&Model::builtin()).expect("an instruction set")
    }

    fn plan(request: SizeRequest) -> Plan {
        let size = Size {
            width_px: WIDTH_PX,
            height_px: HEIGHT_PX,
        };
        Plan::new(size, request, &[2]).expect("a plan")
    }

    fn floats(colour: Colour) -> Vec<f32> {
        let sample = |i: usize| (i * 7919 % 65_521) as f32 / 60_000.0;
        (0..WIDTH_PX * HEIGHT_PX * colour.channels())
            .map(sample)
            .collect()
    }

    fn image(colour: Colour, floats: Vec<f32>, depth: Depth) -> Image {
        let image = Image::new(WIDTH_PX, HEIGHT_PX, colour, Samples::F32(floats));
        in_depth(image, depth)
    }

    #[test]
    fn borrowed_samples_give_the_same_result_as_an_image() {
        let network = network();
        for request in [
            SizeRequest::OnePass,
            SizeRequest::Width(31),
            SizeRequest::Width(9),
        ] {
            let plan = plan(request);
            let image_upscaler = ImageUpscaler::new(plan.clone(), &[&network]);
            for colour in [
                Colour::Grey,
                Colour::GreyAlpha,
                Colour::Rgb,
                Colour::RgbAlpha,
            ] {
                for depth in [Depth::U8, Depth::U16, Depth::F32] {
                    let small = image(colour, floats(colour), depth);
                    let made = image_upscaler
                        .upscale_samples(small.samples.borrowed(), colour, &|_, _| {
                            ControlFlow::Continue(())
                        })
                        .expect("an image");
                    let expected = image_upscaler.upscale(small).expect("an image");
                    assert!(made == expected, "{request:?}, {colour:?}, {depth:?}");
                    assert_eq!(Size::of(&made), plan.target());
                    assert_eq!((made.colour, made.depth()), (colour, depth));
                }
            }
        }
    }

    #[test]
    fn samples_that_are_not_finite_are_refused_also_without_a_network() {
        let network = network();
        let colour = Colour::GreyAlpha;
        let mut with_nan = floats(colour);
        // Alpha of the third pixel in the second row.
        with_nan[(WIDTH_PX + 2) * 2 + 1] = f32::NAN;
        let mut constant = floats(colour);
        constant
            .chunks_exact_mut(2)
            .for_each(|p| p[1] = f32::INFINITY);
        for request in [SizeRequest::OnePass, SizeRequest::Width(9)] {
            for (samples, at) in [(&with_nan, (2, 1)), (&constant, (0, 0))] {
                let plan = plan(request);
                let image_upscaler =
                    ImageUpscaler::new(plan.clone(), &[&network]).alpha(AlphaMethod::Lanczos);
                let result = image_upscaler.upscale(image(colour, samples.clone(), Depth::F32));
                let Err(UpscaleError::Input { x, y, .. }) = result else {
                    panic!("{request:?}, expected an error at {at:?}");
                };
                assert_eq!((x, y), at, "{request:?}");
            }
        }
        let plan = plan(SizeRequest::Factor(1.0));
        let mut grey = floats(Colour::Grey);
        grey[WIDTH_PX * HEIGHT_PX - 1] = f32::NEG_INFINITY;
        let result = ImageUpscaler::new(plan.clone(), &[&network]).upscale(image(
            Colour::Grey,
            grey,
            Depth::F32,
        ));
        let Err(UpscaleError::Input { x, y, .. }) = result else {
            panic!("infinity is kept");
        };
        assert_eq!((x, y), (WIDTH_PX - 1, HEIGHT_PX - 1));
    }

    #[test]
    fn progress_rises_over_colour_and_alpha() {
        let network = network();
        let plan = plan(SizeRequest::Factor(3.0));
        let told = std::sync::Mutex::new(Vec::new());
        let colour = Colour::RgbAlpha;
        let image_upscaler = ImageUpscaler::new(plan.clone(), &[&network]);
        image_upscaler
            .upscale_with_progress(image(colour, floats(colour), Depth::U8), &|done, total| {
                told.lock().expect("no panic").push((done, total));
                ControlFlow::Continue(())
            })
            .expect("an image");
        let mut told = told.into_inner().expect("no panic");
        told.sort_unstable();
        let (first, last) = (told[0], told[told.len() - 1]);
        assert_eq!(first.0, 0, "what is done before the networks");
        let next = told.iter().find(|(done, _)| *done > 0).expect("progress");
        assert!(next.0 < last.1 / 10, "{next:?}");
        assert_eq!(last.0, last.1);
        assert!(told.iter().all(|(_, total)| *total == last.1));
    }

    /// Counts the checks after a stop, which are the steps that are still done.
    #[test]
    fn resizing_and_transparency_stop_when_asked() {
        let network = network();
        for (request, colour, alpha) in [
            (SizeRequest::Width(9), Colour::Rgb, AlphaMethod::Network),
            (SizeRequest::Width(25), Colour::Rgb, AlphaMethod::Network),
            (
                SizeRequest::Width(9),
                Colour::RgbAlpha,
                AlphaMethod::Lanczos,
            ),
            (
                SizeRequest::Width(25),
                Colour::RgbAlpha,
                AlphaMethod::Network,
            ),
        ] {
            let image_upscaler = ImageUpscaler::new(plan(request), &[&network]).alpha(alpha);
            let count = |stop_at: usize| {
                let checks = std::sync::atomic::AtomicUsize::new(0);
                let small = image(colour, floats(colour), Depth::U8);
                let result = image_upscaler.upscale_with_progress(small, &|_, _| match checks
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                    < stop_at
                {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                });
                (checks.into_inner(), result.is_ok())
            };
            let (all, is_done) = count(usize::MAX);
            assert!(is_done && all > 6, "{request:?}: {all} checks");
            let threads = rayon::current_num_threads();
            for stop_at in 0..all {
                let (checks, is_done) = count(stop_at);
                assert!(
                    !is_done,
                    "{request:?}, {colour:?}: stop at {stop_at} of {all}"
                );
                assert!(
                    checks <= stop_at + 1 + threads,
                    "{checks}, stop at {stop_at}"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "size of the image and of the plan")]
    fn a_plan_for_another_size_is_a_bug() {
        let network = network();
        let plan = plan(SizeRequest::OnePass);
        let small = Image::new(2, 2, Colour::Grey, Samples::U8(vec![0; 4]));
        let _ = ImageUpscaler::new(plan.clone(), &[&network]).upscale(small);
    }

    #[test]
    #[should_panic(expected = "a network of scale 3, given are scales [2]")]
    fn a_plan_for_other_networks_is_a_bug() {
        let network = network();
        let size = Size {
            width_px: 5,
            height_px: 5,
        };
        let plan = Plan::new(size, SizeRequest::OnePass, &[3]).expect("a plan");
        let _ = ImageUpscaler::new(plan.clone(), &[&network]);
    }
}
