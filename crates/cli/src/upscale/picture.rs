//! One picture through the network.

use std::path::Path;

use anyhow::Context;
use wdsr_model::{Progress, Upscaler};
use wdsr_picture::{Colour, Format, Limits, Picture, Samples, decode, dimensions};

use crate::exit::OutOfMemory;

/// Reads a picture and enlarges it to what `format` can hold; that it cannot is known before any
/// work.
pub(super) fn enlarge_file(
    input: &Path,
    format: Format,
    upscaler: &Upscaler,
    progress: &Progress,
) -> anyhow::Result<Picture> {
    let name = input.display();
    let (width_px, height_px) = dimensions(input)?;
    let scale = upscaler.scale();
    let longest = width_px.max(height_px) * scale;
    if longest > format.max_side_px() {
        return Err(Refused(format!(
            "{name}: the result has a side of {longest} pixels, {format} holds at most {}; use -f \
             png or tif",
            format.max_side_px()
        ))
        .into());
    }
    let picture = decode(input, &Limits::default())?;
    if !format.supports(picture.colour, picture.depth()) {
        return Err(Refused(format!(
            "{name}: {format} cannot hold its transparency or depth; use -f png or tif"
        ))
        .into());
    }
    let bytes_per_sample = match &picture.samples {
        Samples::U8(_) => 1,
        Samples::U16(_) => 2,
        Samples::F32(_) => 4,
    };
    // The enlarged samples as RGB, and the file of them.
    let result =
        width_px as u128 * height_px as u128 * (scale * scale * 3 * bytes_per_sample) as u128;
    check_memory(result * 2).map_err(|bytes| {
        OutOfMemory(format!(
            "{name}: its result of {} x {} pixels needs about {} MB of memory, which the system \
             does not give; free memory or cut the picture",
            width_px * scale,
            height_px * scale,
            bytes / 1_000_000
        ))
    })?;
    enlarge(picture, upscaler, progress).with_context(|| name.to_string())
}

/// Whether that much memory can be had now; a failed allocation later would end the program
/// without a message.
fn check_memory(bytes: u128) -> Result<(), u128> {
    let mut probe: Vec<u8> = Vec::new();
    let size = usize::try_from(bytes).map_err(|_| bytes)?;
    probe.try_reserve_exact(size).map_err(|_| bytes)?;
    // Else the compiler may leave out an allocation that nothing uses.
    std::hint::black_box(&probe);
    Ok(())
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
            || cause
                .downcast_ref()
                .is_some_and(|e| !matches!(e, Error::Write { .. } | Error::Encode { .. }))
    })
}

/// Colour through the network, alpha by bicubic interpolation, in the picture's own depth.
fn enlarge(picture: Picture, upscaler: &Upscaler, progress: &Progress) -> anyhow::Result<Picture> {
    let (colour, alpha) = picture.split_alpha();
    let grey = colour.colour == Colour::Grey;
    let rgb = if grey { colour.grey_to_rgb() } else { colour };
    let (w, h) = (rgb.width_px, rgb.height_px);
    let samples = match &rgb.samples {
        Samples::U8(v) => Samples::U8(upscaler.upscale_with_progress(v, w, h, progress)?),
        Samples::U16(v) => Samples::U16(upscaler.upscale_with_progress(v, w, h, progress)?),
        Samples::F32(v) => Samples::F32(upscaler.upscale_with_progress(v, w, h, progress)?),
    };
    let scale = upscaler.scale();
    let large = Picture {
        width_px: w * scale,
        height_px: h * scale,
        samples,
        ..rgb
    };
    let large = if grey { large.rgb_to_grey() } else { large };
    Ok(match alpha {
        Some(alpha) => large.join_alpha(&alpha.imresize(scale as f64)),
        None => large,
    })
}
