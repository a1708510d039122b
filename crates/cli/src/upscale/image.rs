//! One image: decoded, upscaled, encoded.

use std::path::Path;

use anyhow::Context;
use wdsr_image::{Error, Format, Image, Limits, encode_named, is_memory_free};
use wdsr_model::{UpscaleError, Upscaler};
use wdsr_upscale::{ImageUpscaler, Plan, Size};

use super::Arguments;
use super::metadata::MetadataChoice;
use crate::exit::OutOfMemory;

/// A network that a plan may name.
pub(super) struct Network {
    pub(super) name: String,
    pub(super) model_hash: String,
    pub(super) upscaler: Upscaler,
}

/// What helps an image that takes too much memory.
const AS_ROWS: &str = "or save image and result as PNG or TIFF without transparency, which need not \
     be in memory as a whole";

/// How images are upscaled.
pub(super) struct Method<'a> {
    pub(super) image_upscaler: ImageUpscaler<'a>,
    pub(super) limits: Limits,
    /// Memory to stay within.
    pub(super) max_bytes: Option<u64>,
}

impl<'a> Method<'a> {
    pub(super) fn new(arguments: &Arguments, plan: &'a Plan, networks: &'a [Network]) -> Self {
        let upscalers: Vec<&Upscaler> = networks.iter().map(|n| &n.upscaler).collect();
        Self {
            image_upscaler: ImageUpscaler::new(plan, &upscalers).alpha(arguments.alpha.method()),
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

/// Decodes an image, upscales and encodes it. Returns the file, and what of the metadata is left
/// out.
pub(super) fn upscale_file(
    name: &Path,
    decode: impl FnOnce(&Limits) -> Result<Image, Error>,
    asked: &Asked<'_>,
    method: &Method<'_>,
    progress: &wdsr_model::Progress,
) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let format = asked.format;
    let mut large = upscale_decoded(name, decode, format, method, progress)?;
    let colour = large.colour;
    let left_out = asked.metadata.apply(&mut large.metadata, colour, format);
    Ok((encode_named(&large, asked.output, format)?, left_out))
}

/// Decodes an image and upscales it to what `format` can hold; a size that it cannot is known before any
/// work. `name` stands for it in messages, `progress` is told (work done, work in all).
fn upscale_decoded(
    name: &Path,
    decode: impl FnOnce(&Limits) -> Result<Image, Error>,
    format: Format,
    method: &Method<'_>,
    progress: &wdsr_model::Progress,
) -> anyhow::Result<Image> {
    let (plan, target) = (
        method.image_upscaler.plan(),
        method.image_upscaler.plan().target(),
    );
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
    let limits = Limits {
        max_bytes: method.max_bytes.unwrap_or(u64::MAX),
        ..method.limits
    };
    let image = decode(&limits).map_err(|error| match error {
        Error::TooMuchMemory { bytes, .. } => anyhow::Error::from(OutOfMemory(format!(
            "{}: decoding it needs about {} MB of memory, more than --max-memory; raise it, {AS_ROWS}",
            name.display(),
            bytes.div_ceil(1_000_000)
        ))),
        error => error.into(),
    })?;
    if !format.supports(image.colour, image.depth()) {
        return Err(Refused(format!(
            "{}: {format} cannot hold its transparency or depth; use -f png or tif",
            name.display()
        ))
        .into());
    }
    if Size::of(&image) != plan.input() {
        return Err(Refused(format!(
            "{}: expected {} pixels as its start said, found {}; let it be written to its end first",
            name.display(),
            plan.input(),
            Size::of(&image)
        ))
        .into());
    }
    let bytes = needed_bytes(&image, &method.image_upscaler);
    check_memory(name, bytes, method, AS_ROWS)?;
    (method.image_upscaler)
        .upscale_with_progress(image, progress)
        .with_context(|| name.display().to_string())
}

/// Bytes that it takes at most, from the decoded image to the encoded file.
fn needed_bytes(image: &Image, image_upscaler: &ImageUpscaler<'_>) -> u128 {
    let (colour, depth) = (image.colour, image.depth());
    let pixel = (colour.channels() * depth.bytes()) as u128;
    let decoding = image_upscaler.plan().input().pixels() * pixel * 2;
    // The image, its encoder's copy, the file of noise, and what that was before it grew.
    let encoding = image_upscaler.plan().target().pixels() * pixel * 5;
    let most = image_upscaler
        .memory_bytes(colour, depth)
        .max(decoding)
        .max(encoding);
    let blocks = most + image_upscaler.working_bytes();
    // Blocks that are freed leave gaps that later ones do not fit.
    blocks + blocks / 4
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
        "which the system does not give; free memory or cut the image".to_owned()
    } else {
        return Ok(());
    };
    Err(OutOfMemory(format!(
        "{}: upscaling it to {} pixels needs about {} MB of memory, {refusal}",
        name.display(),
        method.image_upscaler.plan().target(),
        bytes.div_ceil(1_000_000)
    )))
}

/// An image that cannot be upscaled as asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// Whether the input is what is wrong.
pub(super) fn is_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Refused>()
            || matches!(cause.downcast_ref(), Some(UpscaleError::Input { .. }))
            || cause
                .downcast_ref()
                .is_some_and(|e| !matches!(e, Error::Write { .. } | Error::Encode { .. }))
    })
}
