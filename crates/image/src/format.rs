//! The file formats, and what each can hold.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::samples::{Colour, Depth};

/// A file format. All are read, AVIF with the feature `avif`; [`Format::WRITTEN`] are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// PNG: lossless, 8 and 16 bit.
    Png,
    /// JPEG: lossy, 8 bit, no alpha.
    Jpeg,
    /// WebP: read lossy or lossless, written lossless; 8 bit.
    WebP,
    /// TIFF: lossless, 8 and 16 bit, float.
    Tiff,
    /// BMP: lossless, 8 bit.
    Bmp,
    /// JPEG XL: read only; 8 and 16 bit, float.
    JpegXl,
    /// AVIF: read only, with the feature `avif`; 8 and 16 bit.
    Avif,
    /// Netpbm (PBM, PGM, PPM, PAM, PFM): read only; 8 and 16 bit, float.
    Netpbm,
    /// GIF: 256 colours in each frame, and pixels that are transparent or not.
    Gif,
    /// DDS textures of DXT1, DXT3 and DXT5: read only; 8 bit.
    Dds,
    /// QOI: read only; 8 bit.
    Qoi,
    /// TGA: read only; 8 bit. The suffix tells it, as the content has no mark.
    Tga,
}

const AVIF: &str = if cfg!(feature = "avif") { "avif, " } else { "" };

/// A name of no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown image format \"{0}\": expected png, jpg, webp, tiff, bmp, gif or (only read) jxl, {AVIF}ppm, \
         dds, qoi, tga"
)]
pub struct UnknownFormat(
    /// The name.
    pub String,
);

impl Format {
    /// All formats.
    pub const ALL: [Self; 12] = [
        Self::Png,
        Self::Jpeg,
        Self::WebP,
        Self::Tiff,
        Self::Bmp,
        Self::JpegXl,
        Self::Avif,
        Self::Netpbm,
        Self::Gif,
        Self::Dds,
        Self::Qoi,
        Self::Tga,
    ];

    /// The formats that are written.
    pub const WRITTEN: [Self; 6] = [
        Self::Png,
        Self::Jpeg,
        Self::WebP,
        Self::Tiff,
        Self::Bmp,
        Self::Gif,
    ];

    /// Whether the format is written.
    pub fn is_written(self) -> bool {
        Self::WRITTEN.contains(&self)
    }

    /// Whether the format holds animations.
    pub fn holds_animations(self) -> bool {
        matches!(self, Self::Png | Self::WebP | Self::Gif)
    }

    /// The default format for the result of a file of this format: the same if it is written, else PNG.
    pub fn of_result(self) -> Self {
        if self.is_written() { self } else { Self::Png }
    }

    /// The format by the suffix of a path (png, apng, jpg, jpeg, webp, tif, tiff, bmp, jxl, ppm, pgm, pbm, pnm,
    /// pam, pfm, gif, dds, qoi, tga and with the feature `avif` avif, any case); `None` for another suffix or none.
    pub fn from_extension(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.parse().ok()
    }

    /// The usual suffix, without the dot: png, jpg, webp, tif, bmp, jxl, avif, ppm, gif, dds, qoi, tga.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::WebP => "webp",
            Self::Tiff => "tif",
            Self::Bmp => "bmp",
            Self::JpegXl => "jxl",
            Self::Avif => "avif",
            Self::Netpbm => "ppm",
            Self::Gif => "gif",
            Self::Dds => "dds",
            Self::Qoi => "qoi",
            Self::Tga => "tga",
        }
    }

    /// The longest side that the format and its readers support.
    ///
    /// JPEG, GIF and TGA store 16 bits, WebP 14 bits, PNG 31 bits, TIFF 32 bits, JPEG XL 30 bits. BMP stores 31 bits; 65 535
    /// is the limit of the decoder of the `image` crate; AV1 stores 16 bits, and AVIF joins tiles.
    pub fn max_side_px(self) -> usize {
        match self {
            Self::Png => 0x7fff_ffff,
            Self::Jpeg | Self::Bmp | Self::Gif | Self::Tga => 65_535,
            Self::WebP => 16_383,
            Self::Tiff => 0xffff_ffff,
            Self::JpegXl => 1 << 30,
            Self::Avif | Self::Netpbm | Self::Dds | Self::Qoi => 0xffff_ffff,
        }
    }

    /// Whether an image of this colour and depth can be written without losing a channel or bits
    /// (JPEG's lossy compression and GIF's few colours aside). False for a format that is not written.
    ///
    /// WebP, BMP and GIF have no grey: it is written as RGB, without loss, and read back as RGB.
    pub fn supports(self, colour: Colour, depth: Depth) -> bool {
        match self {
            Self::Png => depth != Depth::F32,
            Self::Jpeg => depth == Depth::U8 && !colour.has_alpha(),
            Self::WebP | Self::Bmp | Self::Gif => depth == Depth::U8,
            Self::Tiff => true,
            Self::JpegXl | Self::Avif | Self::Netpbm | Self::Dds | Self::Qoi | Self::Tga => false,
        }
    }

    /// The colour in which the format stores an image of this colour.
    pub(crate) fn stored_colour(self, colour: Colour) -> Colour {
        let rgb = if colour.has_alpha() {
            Colour::RgbAlpha
        } else {
            Colour::Rgb
        };
        match self {
            Self::WebP | Self::Bmp | Self::Gif => rgb,
            _ => colour,
        }
    }

    /// Whether an ICC profile can be written.
    pub fn holds_icc_profile(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::WebP | Self::Tiff)
    }

    /// Whether an EXIF block can be written.
    pub fn holds_exif(self) -> bool {
        self.holds_icc_profile()
    }

    /// Whether an XMP packet can be written.
    pub fn holds_xmp(self) -> bool {
        self.holds_icc_profile()
    }

    /// Whether IPTC records can be written.
    pub fn holds_iptc(self) -> bool {
        matches!(self, Self::Jpeg | Self::Tiff)
    }

    /// Whether the format has a field for the resolution; WebP has it in EXIF only.
    pub fn holds_resolution(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Tiff | Self::Bmp)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::WebP => "webp",
            Self::Tiff => "tiff",
            Self::Bmp => "bmp",
            Self::JpegXl => "jxl",
            Self::Avif => "avif",
            Self::Netpbm => "netpbm",
            Self::Gif => "gif",
            Self::Dds => "dds",
            Self::Qoi => "qoi",
            Self::Tga => "tga",
        })
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name.to_ascii_lowercase().as_str() {
            "png" | "apng" => Ok(Self::Png),
            "jpg" | "jpeg" => Ok(Self::Jpeg),
            "webp" => Ok(Self::WebP),
            "tif" | "tiff" => Ok(Self::Tiff),
            "bmp" => Ok(Self::Bmp),
            "jxl" => Ok(Self::JpegXl),
            "avif" if cfg!(feature = "avif") => Ok(Self::Avif),
            "netpbm" | "ppm" | "pgm" | "pbm" | "pnm" | "pam" | "pfm" => Ok(Self::Netpbm),
            "gif" => Ok(Self::Gif),
            "dds" => Ok(Self::Dds),
            "qoi" => Ok(Self::Qoi),
            "tga" | "icb" | "vda" | "vst" => Ok(Self::Tga),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_in_any_case_and_print_back() {
        for format in Format::ALL {
            if format == Format::Avif && !cfg!(feature = "avif") {
                continue;
            }
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(format.extension().to_uppercase().parse(), Ok(format));
            let path = Path::new("a.b")
                .join("x")
                .with_extension(format.extension());
            assert_eq!(Format::from_extension(&path), Some(format));
        }
        let unknown = "psd".parse::<Format>().expect_err("psd is not read");
        assert_eq!(
            unknown.to_string().replace("avif, ", ""),
            "unknown image format \"psd\": expected png, jpg, webp, tiff, bmp, gif or (only read) jxl, ppm, dds, qoi, \
             tga"
        );
        assert_eq!(Format::from_extension(Path::new("folder.png/image")), None);
    }
}
