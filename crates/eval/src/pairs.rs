//! Pairs of a low- and a high-resolution image.

use std::path::PathBuf;

use wdsr_image::imresize::{Rounding, imresize_u8_rounded};
use wdsr_image::{Limits, Reader, decode};

use crate::error::Error;

/// The files of a low- and a high-resolution image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Name of the image, without suffix.
    pub name: String,
    /// High-resolution image.
    pub high: PathBuf,
    /// Low-resolution image; `imresize` computes it if there is none.
    pub low: Option<PathBuf>,
    /// Scale of the pair.
    pub scale: usize,
    /// How a computed low-resolution image is rounded to 8 bit.
    pub low_rounding: Rounding,
}

/// A low- and a high-resolution image, `[height, width, 3]` R G B row-major, 0..255. The
/// high-resolution one is exactly `scale` times as wide and high. Grey images are replicated to R G B.
#[derive(Clone, Debug)]
pub struct ImagePair {
    /// Low-resolution image, `low_width_px * low_height_px * 3` samples.
    pub low: Vec<u8>,
    /// High-resolution image, `scale * scale` times as many samples.
    pub high: Vec<u8>,
    /// Width of the low-resolution image.
    pub low_width_px: usize,
    /// Height of the low-resolution image.
    pub low_height_px: usize,
    /// Scale of the pair.
    pub scale: usize,
    /// Whether the high-resolution image is grey in its file.
    pub grey: bool,
    /// Of a low-resolution image that was a JPEG file: by how much its luma quantisation steps are
    /// larger than those of Annex K (ITU-T T.81).
    pub jpeg_table_scale: Option<f64>,
}

impl ImagePair {
    /// Width and height of the high-resolution image.
    pub fn high_size_px(&self) -> (usize, usize) {
        (
            self.low_width_px * self.scale,
            self.low_height_px * self.scale,
        )
    }
}

impl Pair {
    /// Reads the images. Crops the high-resolution one at the right and bottom to a multiple of the
    /// scale. Computes the low-resolution one from it by MATLAB's bicubic `imresize` if it has no file.
    ///
    /// # Errors
    /// If an image cannot be read, the high-resolution one is smaller than the scale, or the
    /// low-resolution one is not 1/scale of it.
    pub fn load(&self) -> Result<ImagePair, Error> {
        let scale = self.scale;
        let limits = Limits::default();
        let image = decode(&self.high, &limits)?;
        let (high_width_px, high_height_px) = (image.width_px, image.height_px);
        let (low_width_px, low_height_px) = (high_width_px / scale, high_height_px / scale);
        if low_width_px == 0 || low_height_px == 0 {
            return Err(Error::SmallerThanScale {
                path: self.high.clone(),
                width_px: high_width_px,
                height_px: high_height_px,
                scale,
            });
        }
        let grey = image.colour.is_grey();
        let (width_px, height_px) = (low_width_px * scale, low_height_px * scale);
        let high = crop_top_left(image.to_rgb8(), high_width_px, width_px, height_px);
        let mut jpeg_table_scale = None;
        let low = match &self.low {
            None => {
                let down = 1.0 / scale as f64;
                let rounding = self.low_rounding;
                imresize_u8_rounded(&high, width_px, height_px, 3, down, rounding).pixels
            }
            Some(path) => {
                let reader = Reader::open(path, &limits)?;
                jpeg_table_scale = reader.jpeg_table_scale();
                let low = reader.read_all()?;
                if (low.width_px, low.height_px) != (low_width_px, low_height_px) {
                    return Err(Error::SizeMismatch {
                        low: path.clone(),
                        high: self.high.clone(),
                        low_width_px: low.width_px,
                        low_height_px: low.height_px,
                        expected_width_px: low_width_px,
                        expected_height_px: low_height_px,
                        high_width_px,
                        high_height_px,
                        scale,
                    });
                }
                low.to_rgb8()
            }
        };
        Ok(ImagePair {
            low,
            high,
            low_width_px,
            low_height_px,
            scale,
            grey,
            jpeg_table_scale,
        })
    }
}

/// The first `to_width_px` x `to_height_px` pixels of an RGB image `width_px` wide.
fn crop_top_left(
    mut rgb: Vec<u8>,
    width_px: usize,
    to_width_px: usize,
    to_height_px: usize,
) -> Vec<u8> {
    let (row, to_row) = (width_px * 3, to_width_px * 3);
    if to_row != row {
        for y in 1..to_height_px {
            rgb.copy_within(y * row..y * row + to_row, y * to_row);
        }
    }
    rgb.truncate(to_row * to_height_px);
    rgb
}
