//! Compression and decompression as JPEG.

use jpeg_decoder::Decoder;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

use crate::planes::Planes;
use crate::stage::Subsampling;

/// One compression with its values drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Compression {
    pub(crate) quality: u8,
    pub(crate) subsampling: Subsampling,
    /// Columns and rows, 0..16, that are cut off at the left and the top, so that the grid of blocks
    /// lies anywhere.
    pub(crate) grid_px: (usize, usize),
}

/// Columns and rows of the largest unit of blocks (4:2:0).
pub(crate) const GRID_PX: usize = 16;
/// Pixels beyond a unit of blocks that chroma's interpolation reads.
pub(crate) const CHROMA_REACH_PX: usize = 2;

impl Compression {
    /// What a decoder returns of the image, compressed with libjpeg's tables (Annex K of ITU-T T.81,
    /// scaled by the quality). Columns and rows that were cut off stay as they are, but rounded.
    pub(crate) fn apply(&self, image: &mut Planes) {
        let (left, top) = self.grid_px;
        let left = left.min(image.width_px - 1);
        let top = top.min(image.height_px - 1);
        let (width, height) = (image.width_px - left, image.height_px - top);
        let pixels = image.to_interleaved();
        let cut: Vec<u8> = pixels
            .chunks_exact(3 * image.width_px)
            .skip(top)
            .flat_map(|row| &row[3 * left..])
            .copied()
            .collect();
        let decoded = self.through_a_file(&cut, width, height);
        let mut pixels = pixels;
        let rows = pixels.chunks_exact_mut(3 * image.width_px).skip(top);
        for (to, from) in rows.zip(decoded.chunks_exact(3 * width)) {
            to[3 * left..].copy_from_slice(from);
        }
        *image = Planes::from_interleaved(image.width_px, image.height_px, &pixels);
    }

    fn through_a_file(&self, pixels: &[u8], width_px: usize, height_px: usize) -> Vec<u8> {
        let sides = (u16::try_from(width_px), u16::try_from(height_px));
        let (Ok(width), Ok(height)) = sides else {
            panic!("a JPEG file holds at most 65535 pixels a side, not {width_px} x {height_px}");
        };
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, self.quality);
        encoder.set_sampling_factor(match self.subsampling {
            Subsampling::S420 => SamplingFactor::F_2_2,
            Subsampling::S422 => SamplingFactor::F_2_1,
            Subsampling::S444 => SamplingFactor::F_1_1,
        });
        encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
        let encoded = encoder.encode(pixels, width, height, ColorType::Rgb);
        encoded.unwrap_or_else(|error| unreachable!("a vector takes every byte: {error}"));
        let decoded = Decoder::new(file.as_slice()).decode();
        decoded.unwrap_or_else(|error| unreachable!("the file was made above: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(width: usize, height: usize) -> Planes {
        let mut image = Planes::zeros(width, height);
        for (channel, plane) in image.planes_mut().enumerate() {
            for (i, v) in plane.iter_mut().enumerate() {
                let (x, y) = ((i % width) as f32, (i / width) as f32);
                *v = 128.0 + 60.0 * (0.3 * x + 0.2 * y + channel as f32).sin();
            }
        }
        image
    }

    fn squared_error(a: &Planes, b: &Planes) -> f64 {
        let pairs = a.samples.iter().zip(&b.samples);
        let sum: f64 = pairs.map(|(a, b)| f64::from((a - b) * (a - b))).sum();
        sum / a.samples.len() as f64
    }

    #[test]
    fn lower_quality_and_halved_chroma_lose_more() {
        let original = waves(50, 38);
        let loss = |quality, subsampling| {
            let mut image = original.clone();
            let grid_px = (3, 5);
            Compression {
                quality,
                subsampling,
                grid_px,
            }
            .apply(&mut image);
            squared_error(&image, &original)
        };
        let best = loss(95, Subsampling::S444);
        assert!(best < 4.0, "{best}");
        assert!(loss(95, Subsampling::S444) < loss(95, Subsampling::S422));
        assert!(loss(95, Subsampling::S422) < loss(95, Subsampling::S420));
        assert!(loss(95, Subsampling::S444) < loss(30, Subsampling::S444));
        assert!(loss(30, Subsampling::S444) < loss(5, Subsampling::S444));
    }

    /// Blocks of quality 1 are nearly flat, so the largest step lies where a block begins.
    #[test]
    fn the_grid_lies_where_it_was_drawn() {
        for left in [0, 3, 7] {
            let mut image = Planes::zeros(64, 24);
            for plane in image.planes_mut() {
                for (i, v) in plane.iter_mut().enumerate() {
                    *v = 4.0 * (i % 64) as f32;
                }
            }
            Compression {
                quality: 1,
                subsampling: Subsampling::S444,
                grid_px: (left, 0),
            }
            .apply(&mut image);
            let row = &image.samples[..64];
            let step = |x: usize| (row[x] - row[x - 1]).abs();
            for x in left + 9..60 {
                let on_grid = (x - left).is_multiple_of(8);
                assert!(
                    on_grid || step(x) < 12.0,
                    "column {x} from {left}: {}",
                    step(x)
                );
            }
            assert!(step(left + 16) > 12.0, "{row:?}");
        }
    }
}
