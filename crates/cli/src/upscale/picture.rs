//! One picture: decoded, enlarged, encoded.

use std::path::Path;

use anyhow::Context;
use wdsr_model::{UpscaleError, Upscaler};
use wdsr_picture::{Error, Format, Limits, Picture, encode_named, is_memory_free};
use wdsr_upscale::{Enlarger, Plan, Size};

use super::Arguments;
use super::metadata::MetadataChoice;
use crate::exit::OutOfMemory;

/// A network that a plan may name.
pub(super) struct Network {
    pub(super) name: String,
    pub(super) model_hash: String,
    pub(super) upscaler: Upscaler,
}

/// What helps a picture that takes too much memory.
const AS_ROWS: &str = "or save picture and result as PNG or TIFF without transparency, which need not \
     be in memory as a whole";

/// How pictures are enlarged.
pub(super) struct Method<'a> {
    pub(super) enlarger: Enlarger<'a>,
    pub(super) limits: Limits,
    /// Memory to stay within.
    pub(super) max_bytes: Option<u64>,
}

impl<'a> Method<'a> {
    pub(super) fn new(arguments: &Arguments, plan: &'a Plan, networks: &'a [Network]) -> Self {
        let upscalers: Vec<&Upscaler> = networks.iter().map(|n| &n.upscaler).collect();
        Self {
            enlarger: Enlarger::new(plan, &upscalers).alpha(arguments.alpha.method()),
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
    decode: impl FnOnce(&Limits) -> Result<Picture, Error>,
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

/// Decodes a picture and enlarges it to what `format` can hold; a size that it cannot is known before any
/// work. `name` stands for it in messages, `progress` is told (work done, work in all).
fn enlarge_decoded(
    name: &Path,
    decode: impl FnOnce(&Limits) -> Result<Picture, Error>,
    format: Format,
    method: &Method<'_>,
    progress: &wdsr_model::Progress,
) -> anyhow::Result<Picture> {
    let (plan, target) = (method.enlarger.plan(), method.enlarger.plan().target());
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
    let picture = decode(&limits).map_err(|error| match error {
        Error::TooMuchMemory { bytes, .. } => anyhow::Error::from(OutOfMemory(format!(
            "{}: decoding it needs about {} MB of memory, more than --max-memory; raise it, {AS_ROWS}",
            name.display(),
            bytes.div_ceil(1_000_000)
        ))),
        error => error.into(),
    })?;
    if !format.supports(picture.colour, picture.depth()) {
        return Err(Refused(format!(
            "{}: {format} cannot hold its transparency or depth; use -f png or tif",
            name.display()
        ))
        .into());
    }
    if Size::of(&picture) != plan.input() {
        return Err(Refused(format!(
            "{}: expected {} pixels as its start said, found {}; let it be written to its end first",
            name.display(),
            plan.input(),
            Size::of(&picture)
        ))
        .into());
    }
    let bytes = needed_bytes(&picture, &method.enlarger);
    check_memory(name, bytes, method, AS_ROWS)?;
    (method.enlarger)
        .enlarge_with_progress(picture, progress)
        .with_context(|| name.display().to_string())
}

/// Bytes that it takes at most, from the decoded picture to the encoded file.
fn needed_bytes(picture: &Picture, enlarger: &Enlarger<'_>) -> u128 {
    let (colour, depth) = (picture.colour, picture.depth());
    let pixel = (colour.channels() * depth.bytes()) as u128;
    let decoding = enlarger.plan().input().pixels() * pixel * 2;
    // The picture, its encoder's copy, the file of noise, and what that was before it grew.
    let encoding = enlarger.plan().target().pixels() * pixel * 5;
    let most = enlarger
        .memory_bytes(colour, depth)
        .max(decoding)
        .max(encoding);
    let blocks = most + enlarger.working_bytes();
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
        "which the system does not give; free memory or cut the picture".to_owned()
    } else {
        return Ok(());
    };
    Err(OutOfMemory(format!(
        "{}: enlarging it to {} pixels needs about {} MB of memory, {refusal}",
        name.display(),
        method.enlarger.plan().target(),
        bytes.div_ceil(1_000_000)
    )))
}

/// A picture that cannot be enlarged as asked.
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
