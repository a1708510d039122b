//! One picture: decoded, through networks, resized, and its alpha.

use std::path::Path;

use anyhow::Context;
use wdsr_model::{UpscaleError, Upscaler};
use wdsr_picture::imresize::{Kernel, imresize_to_f32};
use wdsr_picture::{Colour, Depth, Format, Limits, Picture, Samples, encode_named, is_memory_free};

use super::Arguments;
use super::alpha::{self, AlphaMethod};
use super::depth::{clamp_to_unit, in_depth, to_float};
use super::memory;
use super::metadata::MetadataChoice;
use super::size::{Plan, Size};
use crate::exit::OutOfMemory;

/// A network that a plan may name.
pub(super) struct Network {
    pub(super) name: String,
    pub(super) model_hash: String,
    pub(super) upscaler: Upscaler,
}

/// The network of a scale that a plan names.
pub(super) fn of_scale(networks: &[Network], scale: usize) -> &Network {
    networks
        .iter()
        .find(|network| network.upscaler.scale() == scale)
        .unwrap_or_else(|| unreachable!("a plan names x{scale}, which is not there"))
}

/// How pictures are enlarged.
pub(super) struct Method<'a> {
    pub(super) plan: &'a Plan,
    pub(super) networks: &'a [Network],
    pub(super) alpha: AlphaMethod,
    pub(super) limits: Limits,
    /// Memory to stay within.
    pub(super) max_bytes: Option<u64>,
}

impl<'a> Method<'a> {
    pub(super) fn new(arguments: &Arguments, plan: &'a Plan, networks: &'a [Network]) -> Self {
        Self {
            plan,
            networks,
            alpha: arguments.alpha,
            limits: arguments.limits.decoding(),
            max_bytes: arguments.max_memory,
        }
    }
}

/// What the result is to be.
pub(super) struct Asked<'a> {
    /// The file, or what stands for it in messages.
    pub(super) output: &'a Path,
    pub(super) format: Format,
    pub(super) metadata: MetadataChoice,
}

/// Decodes a picture, enlarges and encodes it. Returns the file, and what of the metadata is left
/// out.
pub(super) fn enlarge_file(
    name: &Path,
    decode: impl FnOnce(&Limits) -> Result<Picture, wdsr_picture::Error>,
    asked: &Asked<'_>,
    method: &Method<'_>,
    progress: &wdsr_model::Progress,
) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let format = asked.format;
    let mut large = enlarge_decoded(name, decode, format, method, progress)?;
    let colour = large.colour;
    let left_out = asked.metadata.apply(&mut large.metadata, colour, format);
    Ok((encode_named(&large, asked.output, format)?, left_out))
}

/// Decodes a picture and enlarges it to what `format` can hold; that it cannot is known before any
/// work. `name` stands for it in messages, `progress` is told (work done, work in all).
fn enlarge_decoded(
    name: &Path,
    decode: impl FnOnce(&Limits) -> Result<Picture, wdsr_picture::Error>,
    format: Format,
    method: &Method<'_>,
    progress: &wdsr_model::Progress,
) -> anyhow::Result<Picture> {
    let target = method.plan.target;
    let longest = target.width_px.max(target.height_px);
    if longest > format.max_side_px() {
        return Err(Refused(format!(
            "{}: the result has a side of {longest} pixels, {format} holds at most {}; use -f \
             png or tif",
            name.display(),
            format.max_side_px()
        ))
        .into());
    }
    let picture = decode(&method.limits)?;
    if !format.supports(picture.colour, picture.depth()) {
        return Err(Refused(format!(
            "{}: {format} cannot hold its transparency or depth; use -f png or tif",
            name.display()
        ))
        .into());
    }
    let bytes = memory::needed_bytes(picture.colour, picture.depth(), method);
    check_memory(
        name,
        bytes,
        method,
        "or save picture and result as PNG or TIFF without transparency, which need not be in \
         memory as a whole",
    )?;
    enlarge(picture, method, progress).with_context(|| name.display().to_string())
}

/// Refuses what needs more memory than is allowed or there; `remedy` says what helps beside a
/// higher limit.
pub(super) fn check_memory(
    name: &Path,
    bytes: u128,
    method: &Method<'_>,
    remedy: &str,
) -> Result<(), OutOfMemory> {
    let refusal = if method
        .max_bytes
        .is_some_and(|most| bytes > u128::from(most))
    {
        format!("more than --max-memory; raise it, {remedy}")
    } else if !is_memory_free(bytes) {
        "which the system does not give; free memory or cut the picture".to_owned()
    } else {
        return Ok(());
    };
    Err(OutOfMemory(format!(
        "{}: enlarging it to {} pixels needs about {} MB of memory, {refusal}",
        name.display(),
        method.plan.target,
        bytes.div_ceil(1_000_000)
    )))
}

/// A picture that cannot be enlarged as asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// Whether the input is what is wrong.
pub(super) fn is_refusal(error: &anyhow::Error) -> bool {
    use wdsr_picture::Error;
    error.chain().any(|cause| {
        cause.is::<Refused>()
            || matches!(cause.downcast_ref(), Some(UpscaleError::Input { .. }))
            || cause
                .downcast_ref()
                .is_some_and(|e| !matches!(e, Error::Write { .. } | Error::Encode { .. }))
    })
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

/// Enlarges colour and alpha, each in the picture's own depth.
pub(super) fn enlarge(
    picture: Picture,
    method: &Method<'_>,
    progress: &wdsr_model::Progress,
) -> Result<Picture, UpscaleError> {
    let plan = method.plan;
    let (mut colour, alpha) = picture.split_alpha();
    let varying = alpha
        .as_ref()
        .is_some_and(|alpha| !alpha::is_constant(&alpha.samples));
    let alpha_passes = varying && method.alpha == AlphaMethod::Network;
    let read = plan.sizes().into_iter().take(plan.passes.len());
    let pixels: u128 = read.map(Size::pixels).sum();
    let mut progress = Progress {
        report: progress,
        done: 0,
        total: pixels * if alpha_passes { 2 } else { 1 },
    };
    let Some(alpha) = alpha else {
        return enlarge_opaque(colour, method, &mut progress);
    };
    if !varying {
        let samples = alpha::repeat_first(&alpha.samples, plan.target.pixels() as usize);
        let target = plan.target;
        let large = Picture::new(target.width_px, target.height_px, Colour::Grey, samples);
        return Ok(enlarge_opaque(colour, method, &mut progress)?.join_alpha(&large));
    }
    alpha::spread_colour(&mut colour, &alpha);
    let mut large = match method.alpha {
        AlphaMethod::Network => enlarge_opaque(alpha.clone(), method, &mut progress)?,
        AlphaMethod::Lanczos => {
            let depth = alpha.depth();
            in_depth(resize(to_float(alpha.clone()), plan.target), depth)
        }
    };
    alpha::keep_flat(&mut large, &alpha);
    drop(alpha);
    Ok(enlarge_opaque(colour, method, &mut progress)?.join_alpha(&large))
}

/// A picture without alpha. One pass takes and makes samples of its depth; more passes and
/// resizing hand on floats, which are rounded once, at the end.
fn enlarge_opaque(
    picture: Picture,
    method: &Method<'_>,
    progress: &mut Progress<'_>,
) -> Result<Picture, UpscaleError> {
    let plan = method.plan;
    if let Some(scale) = plan.only_pass() {
        return pass(picture, of_scale(method.networks, scale), progress);
    }
    if plan.passes.is_empty() && !plan.is_resized() {
        return Ok(picture);
    }
    let depth = picture.depth();
    let mut float = to_float(picture);
    for &scale in &plan.passes {
        float = pass(float, of_scale(method.networks, scale), progress)?;
        if depth != Depth::F32 {
            // The next step gets what a file would hold, but for the rounding.
            clamp_to_unit(&mut float);
        }
    }
    if plan.is_resized() {
        float = resize(float, plan.target);
    }
    Ok(in_depth(float, depth))
}

/// Through a network, grey as three equal colours.
fn pass(
    picture: Picture,
    network: &Network,
    progress: &mut Progress<'_>,
) -> Result<Picture, UpscaleError> {
    let grey = picture.colour == Colour::Grey;
    let rgb = picture.grey_to_rgb();
    let (w, h) = (rgb.width_px, rgb.height_px);
    let upscaler = &network.upscaler;
    let samples = progress.pass(w as u128 * h as u128, |progress| {
        Ok(match &rgb.samples {
            Samples::U8(v) => Samples::U8(upscaler.upscale_with_progress(v, w, h, progress)?),
            Samples::U16(v) => Samples::U16(upscaler.upscale_with_progress(v, w, h, progress)?),
            Samples::F32(v) => Samples::F32(upscaler.upscale_with_progress(v, w, h, progress)?),
        })
    })?;
    let large = Picture {
        width_px: w * upscaler.scale(),
        height_px: h * upscaler.scale(),
        samples,
        ..rgb
    };
    Ok(if grey { large.rgb_to_grey() } else { large })
}

/// Floats to another size, by Lanczos's kernel.
///
/// # Panics
/// When the picture is not of floats.
fn resize(picture: Picture, to: Size) -> Picture {
    let Samples::F32(floats) = &picture.samples else {
        panic!("floats are resized, not {:?}", picture.depth());
    };
    let resized = imresize_to_f32(
        floats,
        picture.width_px,
        picture.height_px,
        picture.colour.channels(),
        to.width_px,
        to.height_px,
        Kernel::Lanczos3,
    );
    Picture {
        width_px: resized.width_px,
        height_px: resized.height_px,
        samples: Samples::F32(resized.pixels),
        ..picture
    }
}
