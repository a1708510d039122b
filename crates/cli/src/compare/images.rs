//! The images of a comparison: decoded for figures, and as files that a browser shows.

use std::path::{Path, PathBuf};

use anyhow::Context;
use wdsr_eval::{Protocol, psnr_db, ssim};
use wdsr_image::{
    Colour, Depth, Error, Format, Image, Limits, Metadata, Reader, Samples, encode_bytes,
};
use wdsr_upscale::Size;

use super::sets::ImageSet;

/// Most pixels of an image. Browsers need 4 bytes for each, several times.
const MAX_PIXELS: u64 = 100_000_000;
/// Width and height of the window of SSIM.
const SSIM_WINDOW_PX: usize = 11;

/// An image or a folder of images that was named.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) is_original: bool,
}

/// An image for the page.
pub(super) struct LoadedImage {
    pub(super) path: PathBuf,
    pub(super) size: Size,
    /// What is not shown as it is, for people.
    pub(super) notes: Vec<String>,
    /// The file that is embedded.
    pub(super) file: Vec<u8>,
    /// Its media type.
    pub(super) media_type: &'static str,
    rgb: Vec<u8>,
    is_grey: bool,
}

/// Similarity of two images.
pub(super) struct Figures {
    /// The numbers of the images in the set: the one that is judged, and what it is compared with.
    pub(super) of: [usize; 2],
    pub(super) psnr_db: f64,
    /// `None` for images smaller than its window.
    pub(super) ssim: Option<f64>,
}

/// The images of a set with their figures.
pub(super) struct LoadedSet {
    pub(super) name: String,
    pub(super) images: Vec<LoadedImage>,
    pub(super) figures: Vec<Figures>,
}

impl LoadedSet {
    /// Loads the images and compares them, `crop_px` cropped from each side.
    ///
    /// # Errors
    /// If an image cannot be read, or the sizes do not go together.
    pub(super) fn load(set: &ImageSet, sources: &[Source], crop_px: usize) -> anyhow::Result<Self> {
        let images = set.files.iter().map(|file| LoadedImage::load(file));
        let images = images.collect::<anyhow::Result<Vec<_>>>()?;
        check_sizes(&images)?;
        let original = sources.iter().position(|source| source.is_original);
        let pairs: Vec<[usize; 2]> = match original {
            Some(original) => (0..original).map(|at| [at, original]).collect(),
            None => (1..images.len()).map(|at| [at, 0]).collect(),
        };
        let figures = pairs.into_iter().filter_map(|[at, with]| {
            let (psnr_db, ssim) = compare(&images[at], &images[with], crop_px)?;
            let of = [at, with];
            Some(Figures { of, psnr_db, ssim })
        });
        Ok(Self {
            name: set.name.clone(),
            figures: figures.collect(),
            images,
        })
    }
}

impl LoadedImage {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let limits = Limits {
            max_pixels: MAX_PIXELS,
            ..Limits::default()
        };
        let reader = Reader::from_bytes(bytes.clone(), path, &limits).map_err(|error| {
            let is_large = matches!(error, Error::TooLarge { .. });
            let error = anyhow::Error::from(error);
            match is_large {
                true => error.context("cut the images for a comparison"),
                false => error,
            }
        })?;
        let format = reader.format();
        let has_more = reader.pages() > 1 || !reader.omitted().is_empty();
        let image = reader.read_all()?;
        let mut notes = Vec::new();
        let depth = image.depth();
        if depth != Depth::U8 {
            notes.push(format!("{depth}, shown and compared in 8 bits"));
        }
        if has_more {
            notes.push("only the first image of the file".to_owned());
        }
        let (size, is_grey) = (Size::of(&image), image.colour.is_grey());
        let rgb = image.to_rgb8();
        let media_type = match format {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::WebP => "image/webp",
            _ => "",
        };
        let metadata = &image.metadata;
        // EXIF and XMP may have a position, and an orientation, which browsers disagree about.
        let is_plain = metadata.exif.is_none() && metadata.xmp.is_none();
        let (file, media_type) = if !media_type.is_empty() && depth == Depth::U8 && is_plain {
            (bytes, media_type)
        } else {
            (
                as_png(image, &rgb).context(path.display().to_string())?,
                "image/png",
            )
        };
        Ok(Self {
            path: path.to_owned(),
            size,
            notes,
            file,
            media_type,
            rgb,
            is_grey,
        })
    }
}

/// An image as an 8-bit PNG with its colour profile. Images of another depth lose their alpha.
fn as_png(image: Image, rgb: &[u8]) -> Result<Vec<u8>, Error> {
    let mut metadata = Metadata::default();
    metadata.icc_profile = image.metadata.icc_profile.clone();
    metadata.png_colour = image.metadata.png_colour;
    let samples = Samples::U8(rgb.to_vec());
    let mut shown = match image.depth() {
        Depth::U8 => image,
        _ => Image::new(image.width_px, image.height_px, Colour::Rgb, samples),
    };
    shown.metadata = metadata;
    encode_bytes(&shown, Format::Png)
}

/// Checks that all images have the size of the largest, or its shape at half its size or less.
fn check_sizes(images: &[LoadedImage]) -> anyhow::Result<()> {
    let pixels = |image: &&LoadedImage| image.size.pixels();
    let Some(largest) = images.iter().max_by_key(pixels) else {
        return Ok(());
    };
    match images
        .iter()
        .find(|image| !goes_with(image.size, largest.size))
    {
        None => Ok(()),
        Some(image) => anyhow::bail!(
            "{} is {}, {} is {}: expected images of the same size, or smaller ones of the same shape; crop or \
             resize one",
            image.path.display(),
            image.size,
            largest.path.display(),
            largest.size
        ),
    }
}

/// Whether an image can be shown over a larger one: it has the same size, or the same shape to a pixel of
/// its own at two thirds of the size or less.
fn goes_with(size: Size, largest: Size) -> bool {
    let factor = largest.width_px as f64 / size.width_px as f64;
    let height_px = size.height_px as f64 * factor;
    size == largest || factor >= 1.5 && (height_px - largest.height_px as f64).abs() < factor
}

/// PSNR and SSIM of two images; `None` for images of different sizes or smaller than what is cropped.
fn compare(a: &LoadedImage, b: &LoadedImage, crop_px: usize) -> Option<(f64, Option<f64>)> {
    let Size {
        width_px,
        height_px,
    } = a.size;
    let shortest_px = width_px.min(height_px);
    if a.size != b.size || shortest_px <= 2 * crop_px {
        return None;
    }
    let channel = Protocol::Benchmark.channel(a.is_grey && b.is_grey);
    let (a, b) = (&a.rgb, &b.rgb);
    let has_window = shortest_px >= SSIM_WINDOW_PX + 2 * crop_px;
    let ssim = has_window.then(|| ssim(a, b, width_px, height_px, channel, crop_px));
    Some((psnr_db(a, b, width_px, height_px, channel, crop_px), ssim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_images_of_the_same_shape_go_with_larger_ones() {
        let size = |width_px, height_px| Size {
            width_px,
            height_px,
        };
        for (small, goes) in [
            (size(640, 480), true),
            (size(320, 240), true),
            (size(160, 120), true),
            (size(213, 160), true),
            (size(320, 238), false),
            (size(640, 479), false),
            (size(600, 450), false),
            (size(480, 640), false),
        ] {
            assert_eq!(goes_with(small, size(640, 480)), goes, "{small}");
        }
        // An odd side that was rounded down.
        assert!(goes_with(size(320, 240), size(641, 481)));
    }
}
