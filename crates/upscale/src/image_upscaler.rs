//! An image as a plan wants it: through networks, resized, and its alpha.

use std::ops::ControlFlow;

use wdsr_image::imresize::{Kernel, imresize_to_f32};
use wdsr_image::{Colour, Depth, Image, Samples, SamplesRef};
use wdsr_model::{UpscaleError, Upscaler};

use crate::alpha::{self, AlphaMethod};
use crate::depth::{check_finite, clamp_to_unit, in_depth, to_float};
use crate::size::{Plan, Size};

/// Upscales images of one size as a [`Plan`] says.
pub struct ImageUpscaler<'a> {
    pub(crate) plan: &'a Plan,
    /// The network of each pass.
    pub(crate) passes: Vec<&'a Upscaler>,
    pub(crate) alpha: AlphaMethod,
}

impl<'a> ImageUpscaler<'a> {
    /// With the first of `networks` that has the scale of a pass.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(plan: &'a Plan, networks: &[&'a Upscaler]) -> Self {
        let of_scale = |&scale: &usize| {
            let network = networks.iter().find(|network| network.scale() == scale);
            *network.unwrap_or_else(|| {
                let scales: Vec<usize> = networks.iter().map(|network| network.scale()).collect();
                panic!("the plan names a network of scale {scale}, given are scales {scales:?}")
            })
        };
        Self {
            plan,
            passes: plan.passes().iter().map(of_scale).collect(),
            alpha: AlphaMethod::default(),
        }
    }

    /// What upscales alpha that is not the same everywhere; the networks unless asked otherwise.
    #[must_use]
    pub fn alpha(mut self, method: AlphaMethod) -> Self {
        self.alpha = method;
        self
    }

    /// The plan.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// The network, where one pass of it makes the result.
    pub fn only_pass(&self) -> Option<&'a Upscaler> {
        self.plan.only_pass().map(|_| self.passes[0])
    }

    /// Upscales an image on rayon's current thread pool.
    ///
    /// The result has the image's channels, depth and metadata; integers are rounded once, at the
    /// end, and floats are not clamped. Colours under fully transparent pixels are replaced by those
    /// visible beside them; alpha that is the same everywhere stays exactly so.
    ///
    /// # Errors
    /// When a sample is not finite, or a network gives what cannot be an image.
    ///
    /// # Panics
    /// When the image has another size than the plan's input.
    pub fn upscale(&self, image: Image) -> Result<Image, UpscaleError> {
        self.upscale_with_progress(image, &|_, _| ControlFlow::Continue(()))
    }

    /// [`ImageUpscaler::upscale`] that reports (work done, work in all) of the networks, from any thread,
    /// and stops when told to. The work in all stays the same; without a pass nothing is reported.
    ///
    /// # Errors
    /// Those of [`ImageUpscaler::upscale`], and [`UpscaleError::Stopped`].
    ///
    /// # Panics
    /// When the image has another size than the plan's input.
    pub fn upscale_with_progress(
        &self,
        image: Image,
        progress: &wdsr_model::Progress,
    ) -> Result<Image, UpscaleError> {
        let plan = self.plan;
        assert_eq!(
            Size::of(&image),
            plan.input(),
            "size of the image and of the plan"
        );
        let (mut colour, alpha) = image.split_alpha();
        let varying = alpha
            .as_ref()
            .is_some_and(|alpha| !alpha::is_constant(&alpha.samples));
        let alpha_passes = varying && self.alpha == AlphaMethod::Network;
        let mut progress = self.progress(progress, if alpha_passes { 2 } else { 1 });
        let Some(alpha) = alpha else {
            return self.upscale_opaque(colour, &mut progress);
        };
        check_finite(&alpha)?;
        let target = plan.target();
        if !varying {
            let samples = alpha::repeat_first(&alpha.samples, target.pixels() as usize);
            let large = Image::new(target.width_px, target.height_px, Colour::Grey, samples);
            return Ok(self
                .upscale_opaque(colour, &mut progress)?
                .join_alpha(&large));
        }
        alpha::spread_colour(&mut colour, &alpha);
        let mut large = match self.alpha {
            AlphaMethod::Network => self.upscale_opaque(alpha.clone(), &mut progress)?,
            AlphaMethod::Lanczos => {
                let depth = alpha.depth();
                in_depth(resize(to_float(alpha.clone()), target), depth)
            }
        };
        alpha::keep_flat(&mut large, &alpha);
        drop(alpha);
        Ok(self
            .upscale_opaque(colour, &mut progress)?
            .join_alpha(&large))
    }

    /// [`ImageUpscaler::upscale_with_progress`] of samples that belong to someone else, interleaved,
    /// row-major, of the plan's input size. RGB is read where it lies, if one pass makes the result;
    /// else it is copied.
    ///
    /// # Errors
    /// Those of [`ImageUpscaler::upscale_with_progress`].
    ///
    /// # Panics
    /// When the number of samples differs from size and channels.
    pub fn upscale_samples(
        &self,
        samples: SamplesRef<'_>,
        colour: Colour,
        progress: &wdsr_model::Progress,
    ) -> Result<Image, UpscaleError> {
        let size = self.plan.input();
        if let (Some(network), Colour::Rgb) = (self.only_pass(), colour) {
            let large = pass(samples, size, network, &mut self.progress(progress, 1))?;
            let Size {
                width_px,
                height_px,
            } = self.plan.target();
            return Ok(Image::new(width_px, height_px, colour, large));
        }
        let samples = samples.to_samples();
        let image = Image::new(size.width_px, size.height_px, colour, samples);
        self.upscale_with_progress(image, progress)
    }

    /// Of so many runs of all passes.
    fn progress<'p>(&self, report: &'p wdsr_model::Progress<'p>, runs: u128) -> Progress<'p> {
        let read = self.plan.sizes().into_iter().take(self.passes.len());
        Progress {
            report,
            done: 0,
            total: runs * read.map(Size::pixels).sum::<u128>(),
        }
    }

    /// An image without alpha. One pass takes and makes samples of its depth; more passes and
    /// resizing hand on floats, which are rounded once, at the end.
    fn upscale_opaque(
        &self,
        image: Image,
        progress: &mut Progress<'_>,
    ) -> Result<Image, UpscaleError> {
        if let Some(network) = self.only_pass() {
            return pass_any_colour(image, network, progress);
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
            float = pass_any_colour(float, network, progress)?;
            if depth != Depth::F32 {
                // The next step gets what a file would hold, but for the rounding.
                clamp_to_unit(&mut float);
            }
        }
        if self.plan.is_resized() {
            float = resize(float, self.plan.target());
        }
        Ok(in_depth(float, depth))
    }
}

/// Counts the pixels that networks have read.
struct Progress<'a> {
    report: &'a wdsr_model::Progress<'a>,
    done: u128,
    total: u128,
}

impl Progress<'_> {
    /// Runs a pass over so many pixels, which reports its own progress.
    fn pass<T>(
        &mut self,
        pixels: u128,
        run: impl FnOnce(&wdsr_model::Progress) -> Result<T, UpscaleError>,
    ) -> Result<T, UpscaleError> {
        const STEPS: u128 = 1_000_000;
        let (before, total) = (self.done, self.total);
        let result = run(&|done, of| {
            let done = before + pixels * done as u128 / of as u128;
            (self.report)((done * STEPS / total) as usize, STEPS as usize)
        })?;
        self.done += pixels;
        Ok(result)
    }
}

/// Through a network, grey as three equal colours.
fn pass_any_colour(
    image: Image,
    network: &Upscaler,
    progress: &mut Progress<'_>,
) -> Result<Image, UpscaleError> {
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

/// Floats to another size, by Lanczos's kernel.
///
/// # Panics
/// When the image is not of floats.
fn resize(image: Image, to: Size) -> Image {
    let Samples::F32(floats) = &image.samples else {
        panic!("floats are resized, not {:?}", image.depth());
    };
    let resized = imresize_to_f32(
        floats,
        image.width_px,
        image.height_px,
        image.colour.channels(),
        to.width_px,
        to.height_px,
        Kernel::Lanczos3,
    );
    Image {
        width_px: resized.width_px,
        height_px: resized.height_px,
        samples: Samples::F32(resized.pixels),
        ..image
    }
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
    fn samples_of_someone_else_are_upscaled_as_an_image() {
        let network = network();
        for request in [
            SizeRequest::OnePass,
            SizeRequest::Width(31),
            SizeRequest::Width(9),
        ] {
            let plan = plan(request);
            let image_upscaler = ImageUpscaler::new(&plan, &[&network]);
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
    fn what_is_not_finite_is_refused_also_without_a_network() {
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
                    ImageUpscaler::new(&plan, &[&network]).alpha(AlphaMethod::Lanczos);
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
        let result =
            ImageUpscaler::new(&plan, &[&network]).upscale(image(Colour::Grey, grey, Depth::F32));
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
        let image_upscaler = ImageUpscaler::new(&plan, &[&network]);
        image_upscaler
            .upscale_with_progress(image(colour, floats(colour), Depth::U8), &|done, total| {
                told.lock().expect("no panic").push((done, total));
                ControlFlow::Continue(())
            })
            .expect("an image");
        let mut told = told.into_inner().expect("no panic");
        told.sort_unstable();
        let (first, last) = (told[0], told[told.len() - 1]);
        assert!(first.0 > 0 && first.0 < last.1 / 10, "{first:?}");
        assert_eq!(last.0, last.1);
        assert!(told.iter().all(|(_, total)| *total == last.1));
    }

    #[test]
    #[should_panic(expected = "size of the image and of the plan")]
    fn a_plan_for_another_size_is_a_bug() {
        let network = network();
        let plan = plan(SizeRequest::OnePass);
        let small = Image::new(2, 2, Colour::Grey, Samples::U8(vec![0; 4]));
        let _ = ImageUpscaler::new(&plan, &[&network]).upscale(small);
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
        let _ = ImageUpscaler::new(&plan, &[&network]);
    }
}
