//! An image that flows through the network: some rows at a time are decoded, upscaled and encoded, so that
//! its height is no matter of memory.

use std::path::Path;

use anyhow::Context;
use wdsr_image::{
    Colour, Depth, Format, Metadata, NewFile, Outline, RowReader, RowSample, encode_rows,
    is_memory_free,
};
use wdsr_model::{Progress, Sample, Upscaler};

use super::image::{Asked, Method};
use crate::exit::OutOfMemory;

/// Memory for an image unless asked otherwise: enough for images of any usual width.
const DEFAULT_MAX_BYTES: u64 = 2 << 30;

/// What the program takes besides: code, weights, stacks, buffers of files.
const FIXED_BYTES: u64 = 24 << 20;

/// Upscales an image by one pass of a network into a new file, and tells what of the metadata is
/// left out; `None` if the plan wants more, or image or result cannot be read or written row by
/// row.
pub(super) fn upscale_file(
    input: &Path,
    asked: &Asked<'_>,
    method: &Method<'_>,
    progress: &Progress,
) -> anyhow::Result<Option<(NewFile, Vec<String>)>> {
    let Some(upscaler) = method.image_upscaler.only_pass() else {
        return Ok(None);
    };
    let format = asked.format;
    if !matches!(format, Format::Png | Format::Tiff) {
        return Ok(None);
    }
    let Some(mut reader) = RowReader::open(input, &method.limits)? else {
        return Ok(None);
    };
    let low = reader.outline();
    // Transparency needs more than the rows nearby.
    let flows = match low.colour {
        Colour::Grey | Colour::Rgb => format.supports(low.colour, low.depth),
        Colour::GreyAlpha | Colour::RgbAlpha => false,
    };
    if !flows {
        return Ok(None);
    }
    let rows_px = rows_at_a_time(input, &reader, upscaler, method.max_bytes)?;
    let mut metadata = reader.metadata().clone();
    let left_out = asked.metadata.apply(&mut metadata, low.colour, format);
    let run = Run {
        upscaler,
        rows_px,
        asked,
        metadata: &metadata,
        progress,
    };
    let file = match low.depth {
        Depth::U8 => run.upscale::<u8>(&mut reader),
        Depth::U16 => run.upscale::<u16>(&mut reader),
        Depth::F32 => run.upscale::<f32>(&mut reader),
    };
    let file = file.with_context(|| input.display().to_string())?;
    Ok(Some((file, left_out)))
}

/// How many rows are read at a time so that all of the program stays within the memory allowed.
fn rows_at_a_time(
    input: &Path,
    reader: &RowReader,
    upscaler: &Upscaler,
    max_bytes: Option<u64>,
) -> anyhow::Result<usize> {
    let low = reader.outline();
    let (width_px, sample_bytes) = (low.width_px, low.depth.bytes());
    let row_bytes = (width_px * 3 * sample_bytes) as u64;
    // A row of the result as it is encoded, some times over.
    let others = FIXED_BYTES + reader.memory_bytes() + 8 * row_bytes * upscaler.scale() as u64;
    let mut max_bytes = max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
    let rows_px = loop {
        let bytes = |rows_px| others + upscaler.memory_bytes(width_px, rows_px, sample_bytes);
        match upscaler.rows_within(width_px, sample_bytes, max_bytes.saturating_sub(others)) {
            // The system may give less than is allowed.
            Ok(rows_px) if !is_memory_free(u128::from(bytes(rows_px))) => max_bytes /= 2,
            found => break found,
        }
    };
    rows_px.map_err(|least: u64| {
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        OutOfMemory(format!(
            "{}: {} x {} pixels need at least {} MB of memory, {} MB are allowed or free; raise \
             --max-memory or free memory, or use fewer --threads or narrower --tile{}",
            input.display(),
            low.width_px,
            low.height_px,
            megabytes(others + least),
            megabytes(max_bytes),
            if reader.memory_bytes() > least {
                ", or save the image with smaller strips or tiles"
            } else {
                ""
            }
        ))
        .into()
    })
}

struct Run<'a> {
    upscaler: &'a Upscaler,
    rows_px: usize,
    asked: &'a Asked<'a>,
    metadata: &'a Metadata,
    progress: &'a Progress<'a>,
}

impl Run<'_> {
    fn upscale<T: Sample + RowSample>(&self, reader: &mut RowReader) -> anyhow::Result<NewFile> {
        let low = reader.outline();
        let scale = self.upscaler.scale();
        let high = Outline {
            width_px: low.width_px * scale,
            height_px: low.height_px * scale,
            ..low
        };
        let grey = low.colour == Colour::Grey;
        let Asked { output, format, .. } = *self.asked;
        encode_rows(output, format, &high, self.metadata, |sink| {
            let mut row = vec![T::default(); if grey { high.width_px } else { 0 }];
            let mut low_row = vec![T::default(); if grey { low.width_px } else { 0 }];
            self.upscaler.upscale_rows::<T, anyhow::Error>(
                (low.width_px, low.height_px),
                self.rows_px,
                |rows| {
                    if !grey {
                        return Ok(reader.read(rows)?);
                    }
                    // The network sees grey as three equal colours.
                    for rows in rows.chunks_exact_mut(low.width_px * 3) {
                        reader.read(&mut low_row)?;
                        let pixels = rows.as_chunks_mut::<3>().0.iter_mut();
                        pixels.zip(&low_row).for_each(|(rgb, &v)| *rgb = [v; 3]);
                    }
                    Ok(())
                },
                |rows| {
                    if !grey {
                        return Ok(sink(rows)?);
                    }
                    for rows in rows.chunks_exact(high.width_px * 3) {
                        let pixels = rows.as_chunks::<3>().0.iter();
                        row.iter_mut()
                            .zip(pixels)
                            .for_each(|(v, &rgb)| *v = T::mean(rgb));
                        sink(&row)?;
                    }
                    Ok(())
                },
                self.progress,
            )
        })
    }
}

/// Bytes as people write them: a number and K, M, G or T, powers of 1024.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let parse = || {
        let unit_at = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let power = match unit
            .to_ascii_uppercase()
            .trim_end_matches('B')
            .trim_end_matches('I')
        {
            "" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            _ => return None,
        };
        let bytes = number
            .parse::<u64>()
            .ok()?
            .checked_mul(1_u64.checked_shl(10 * power)?)?;
        (bytes > 0).then_some(bytes)
    };
    parse().ok_or_else(|| format!("expected a size such as 500M or 2G, found {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_bytes_are_read() {
        assert_eq!(parse_bytes("500M"), Ok(500 << 20));
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("1gb"), Ok(1 << 30));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for text in ["", "G", "0", "-1M", "1.5G", "1X", "99999999999T", "1 G"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
