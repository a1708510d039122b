//! Crops of validation images for the report of a training.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wdsr_eval::{Channel, ImagePair, bicubic, psnr_db};
use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};

use crate::page::escape;

/// Side of a crop in low-resolution pixels.
const CROP_PX: usize = 48;
/// Step between candidate positions of a crop, in low-resolution pixels.
const CROP_STEP_PX: usize = 24;

/// A square of a validation image: low resolution, bicubic, model and original.
pub(crate) struct Crop {
    name: String,
    /// Caption, PSNR against the original (RGB), PNG.
    images: [(&'static str, Option<f64>, Vec<u8>); 4],
}

impl Crop {
    /// The square where the error of bicubic interpolation is largest. `upscaled` is the output of the
    /// model.
    ///
    /// # Panics
    /// If `upscaled` has another number of samples than the original.
    pub(crate) fn new(name: &str, pair: &ImagePair, upscaled: &[u8]) -> Self {
        assert_eq!(upscaled.len(), pair.high.len(), "samples of {name}");
        let scale = pair.scale;
        let bicubic = bicubic(pair);
        let (width, height) = (pair.low_width_px, pair.low_height_px);
        let side = CROP_PX.min(width).min(height);
        let (x, y) = worst_square(pair, &bicubic, side);
        let high_side = side * scale;
        let of_high = |pixels: &[u8]| {
            let row = |row: usize| {
                let at = 3 * ((y * scale + row) * width * scale + x * scale);
                &pixels[at..at + 3 * high_side]
            };
            (0..high_side).flat_map(row).copied().collect::<Vec<u8>>()
        };
        let low: Vec<u8> = (0..side)
            .flat_map(|row| {
                let at = 3 * ((y + row) * width + x);
                &pair.low[at..at + 3 * side]
            })
            .copied()
            .collect();
        let original = of_high(&pair.high);
        let scored = |caption, pixels: Vec<u8>| {
            let psnr = psnr_db(&pixels, &original, high_side, high_side, Channel::Rgb, 0);
            (caption, Some(psnr), png(high_side, pixels))
        };
        Self {
            name: name.to_owned(),
            images: [
                ("low resolution", None, png(side, low)),
                scored("bicubic", of_high(&bicubic)),
                scored("this model", of_high(upscaled)),
                ("original", None, png(high_side, original.clone())),
            ],
        }
    }

    pub(crate) fn to_html(&self) -> String {
        let figure = |(caption, psnr, png): &(&str, Option<f64>, Vec<u8>)| {
            let psnr = match psnr {
                Some(psnr) => format!(", {psnr:.2} dB"),
                None => String::new(),
            };
            format!(
                "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{}\"><figcaption>\
                 {caption}{psnr}</figcaption></figure>\n",
                BASE64.encode(png)
            )
        };
        let figures: String = self.images.iter().map(figure).collect();
        let name = escape(&self.name);
        format!("<h3>{name}</h3>\n<div class=\"strip\">\n{figures}</div>\n")
    }
}

/// The low-resolution corner of the square with the largest absolute error of `upscaled`.
fn worst_square(pair: &ImagePair, upscaled: &[u8], side: usize) -> (usize, usize) {
    let (width, height, scale) = (pair.low_width_px, pair.low_height_px, pair.scale);
    let error = |&(x, y): &(usize, usize)| {
        let rows = y * scale..(y + side) * scale;
        rows.map(|row| {
            let at = 3 * (row * width * scale + x * scale);
            let span = at..at + 3 * side * scale;
            let pairs = upscaled[span.clone()].iter().zip(&pair.high[span]);
            pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
        })
        .sum::<u64>()
    };
    let columns = (0..=width - side).step_by(CROP_STEP_PX);
    let corners = columns.flat_map(|x| {
        (0..=height - side)
            .step_by(CROP_STEP_PX)
            .map(move |y| (x, y))
    });
    corners.max_by_key(error).unwrap_or((0, 0))
}

fn png(side: usize, rgb: Vec<u8>) -> Vec<u8> {
    let image = Image::new(side, side, Colour::Rgb, Samples::U8(rgb));
    encode_bytes(&image, Format::Png)
        .unwrap_or_else(|e| unreachable!("PNG holds {side} x {side} RGB: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_where_the_error_of_bicubic_is_largest() {
        let (width, height, scale) = (120, 100, 2);
        // Flat except for one noisy corner.
        let sample = |i: usize| {
            let (pixel, channel) = (i / 3, i % 3);
            let (x, y) = (pixel % (width * scale), pixel / (width * scale));
            if x > 150 && y > 120 {
                ((x * 7919 + y * 104_729 + channel) % 251) as u8
            } else {
                100
            }
        };
        let high: Vec<u8> = (0..3 * width * height * scale * scale)
            .map(sample)
            .collect();
        let pair = ImagePair {
            low: vec![100; 3 * width * height],
            high,
            low_width_px: width,
            low_height_px: height,
            scale,
            grey: false,
            jpeg_table_scale: None,
        };
        let upscaled = bicubic(&pair);
        let (x, y) = worst_square(&pair, &upscaled, CROP_PX);
        assert_eq!((x, y), (72, 48));
        let crop = Crop::new("<a>", &pair, &pair.high);
        let html = crop.to_html();
        assert!(html.contains("&lt;a&gt;"), "{html}");
        // The original itself has no error.
        assert!(html.contains("this model, inf dB"), "{html}");
        assert_eq!(html.matches("data:image/png;base64,").count(), 4);
    }
}
