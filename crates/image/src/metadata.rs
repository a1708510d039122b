//! What an image file says about its image: colour, camera, place, author, print size.
//!
//! Each submodule knows how one kind of file, or one block inside files, holds it. Those for files
//! work on what a decoder has read and what an encoder is about to write, so that they serve
//! writers of whole images and of rows alike.

pub(crate) mod bmp;
mod exif;
mod icc;
mod iptc;
pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod tiff;
mod xmp;

use image::metadata::Orientation;

use crate::format::Format;
use crate::samples::Colour;

/// Longest EXIF block of a JPEG: a segment of 65 535 bytes less its length and `Exif\0\0`.
const MAX_JPEG_EXIF_BYTES: usize = 65_535 - 2 - 6;

/// Longest XMP packet of a JPEG, as for EXIF. (The extension for longer ones is not written.)
const MAX_JPEG_XMP_BYTES: usize = 65_535 - 2 - jpeg::XMP_PREFIX.len();

/// Longest IPTC record of a JPEG: the segment less its prefix and the head of the resource.
const MAX_JPEG_IPTC_BYTES: usize = 65_535 - 2 - jpeg::PHOTOSHOP_PREFIX.len() - 13;

/// What travels with the samples of an image.
///
/// [`decode`](crate::decode) reads it, turned upright as the pixels are: an orientation is reset,
/// and what would no longer be true (thumbnails, areas given in pixels) is taken out.
/// [`encode`](crate::encode) writes what the format holds, with the size of the written image
/// wherever a size is told.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metadata {
    /// ICC profile, byte for byte. It is carried along, never applied.
    pub icc_profile: Option<Vec<u8>>,
    /// The colour space of a PNG file without an ICC profile.
    pub png_colour: Option<PngColour>,
    /// EXIF block: a TIFF header and its directories, without the `Exif\0\0` of JPEG files.
    pub exif: Option<Vec<u8>>,
    /// XMP packet: XML in UTF-8.
    pub xmp: Option<Vec<u8>>,
    /// IPTC-IIM records (caption, credit, keywords), without Photoshop's wrapping.
    pub iptc: Option<Vec<u8>>,
    /// Size of a pixel on paper. It is kept as it is, so an image upscaled twice is printed twice
    /// as large.
    pub resolution: Option<Resolution>,
    /// Text chunks of a PNG file: keyword and text.
    pub texts: Vec<(String, String)>,
    /// What the file had and this does not, in words, each with the reason.
    pub dropped: Vec<String>,
}

/// Samples per length, along x and y; positive and finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolution {
    /// Pixels per inch.
    PerInch {
        /// Along x.
        x: f64,
        /// Along y.
        y: f64,
    },
    /// Only the ratio is known: a pixel is `y` high where it is `x` wide.
    Ratio {
        /// Along x.
        x: f64,
        /// Along y.
        y: f64,
    },
}

/// The PNG chunks that say how samples become colours, as the file has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PngColour {
    /// `sRGB`: the rendering intent, 0 to 3.
    pub srgb_intent: Option<u8>,
    /// `gAMA`: 100 000 times the exponent.
    pub gamma: Option<u32>,
    /// `cHRM`: 100 000 times x and y of white, red, green and blue.
    pub chromaticities: Option<[u32; 8]>,
    /// `cICP`: primaries, transfer function, matrix (0), full range.
    pub code_points: Option<[u8; 4]>,
}

/// What of an image's metadata is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataPolicy {
    /// All of it.
    #[default]
    Keep,
    /// Only what defines the colours: the ICC profile or the colour chunks of PNG.
    Strip,
    /// All but the place where the image was taken.
    StripGps,
}

impl Resolution {
    /// Nothing if a value is none that a file means seriously, or if pixels are just square.
    fn of(x: f64, y: f64, per_inch: Option<f64>) -> Option<Self> {
        let sound = |v: f64| v.is_finite() && (1e-6..=1e9).contains(&v);
        match per_inch {
            _ if !sound(x) || !sound(y) => None,
            Some(factor) => Some(Self::PerInch {
                x: x * factor,
                y: y * factor,
            }),
            None if x == y => None,
            None => Some(Self::Ratio { x, y }),
        }
    }
}

impl Metadata {
    /// Keeps what `policy` says. Nothing that it takes out is in [`dropped`](Self::dropped),
    /// except a block that cannot be searched for what has to go.
    ///
    /// [`StripGps`](MetadataPolicy::StripGps) takes out the GPS directory of EXIF and, in XMP and
    /// PNG texts, every property whose name begins with GPS or is a geographic coordinate. Names
    /// of places in words, and a camera maker's own note, stay.
    pub fn apply(&mut self, policy: MetadataPolicy) {
        match policy {
            MetadataPolicy::Keep => {}
            MetadataPolicy::Strip => {
                *self = Self {
                    icc_profile: self.icc_profile.take(),
                    png_colour: self.png_colour.take(),
                    ..Self::default()
                }
            }
            MetadataPolicy::StripGps => {
                if let Some(exif) = &mut self.exif {
                    exif::strip_gps(exif);
                }
                self.edit_xmp(&xmp::without_gps);
                let places = |name: &str| name.to_ascii_lowercase().contains("gps");
                self.texts.retain(|(keyword, _)| !places(keyword));
            }
        }
    }

    /// What is lost when an image of that colour is written as `format`, in words, each
    /// with the reason.
    pub fn lost_in(&self, format: Format, colour: Colour) -> Vec<String> {
        let mut lost = Vec::new();
        let mut say = |what: &str, why: &str| lost.push(format!("{what}: {why}"));
        let cannot = format!("{format} cannot hold it");
        let too_long = |bytes: usize, most: usize| {
            format!("its {bytes} bytes are too long for {format} (at most {most})")
        };
        if let Some(profile) = &self.icc_profile {
            if !format.holds_icc_profile() {
                say("ICC profile", &cannot);
            } else if icc::contradicts(profile, format.stored_colour(colour)) {
                let why = format!("it does not describe the pixels that {format} holds");
                say("ICC profile", &why);
            }
        }
        if self.png_colour.is_some_and(|colour| !colour.is_srgb()) && format != Format::Png {
            say("colour space chunks of PNG", &cannot);
        }
        let jpeg = format == Format::Jpeg;
        for (what, block, held, most) in [
            ("EXIF", &self.exif, format.holds_exif(), MAX_JPEG_EXIF_BYTES),
            ("XMP", &self.xmp, format.holds_xmp(), MAX_JPEG_XMP_BYTES),
            ("IPTC", &self.iptc, format.holds_iptc(), MAX_JPEG_IPTC_BYTES),
        ] {
            match block {
                Some(_) if !held => say(what, &cannot),
                Some(block) if jpeg && block.len() > most => {
                    say(what, &too_long(block.len(), most));
                }
                _ => {}
            }
        }
        let in_exif = || self.exif.as_deref().and_then(exif::resolution).is_some();
        if self.resolution.is_some() && !format.holds_resolution() && !in_exif() {
            say("resolution", &cannot);
        }
        if !self.texts.is_empty() && format != Format::Png {
            say("text chunks of PNG", &cannot);
        }
        lost
    }

    /// Drops an ICC profile of another colour space than the pixels.
    pub(crate) fn drop_foreign_profile(&mut self, colour: Colour) {
        if let Some(profile) = self
            .icc_profile
            .take_if(|profile| icc::contradicts(profile, colour))
        {
            let space = profile[16..20].escape_ascii();
            let pixels = if colour.is_grey() { "grey" } else { "RGB" };
            self.dropped.push(format!(
                "ICC profile: it is of colour space \"{space}\", the pixels are {pixels}"
            ));
        }
    }

    /// This metadata as a file of `format` with an image of that size holds it: without what
    /// [`lost_in`](Self::lost_in) names, and with that size wherever a size is told.
    pub(crate) fn fitted(
        &self,
        format: Format,
        (width_px, height_px): (usize, usize),
        colour: Colour,
    ) -> Self {
        let jpeg = format == Format::Jpeg;
        let fits = |block: &Option<Vec<u8>>, held: bool, most: usize| {
            let fits = |block: &&Vec<u8>| held && !(jpeg && block.len() > most);
            block.as_ref().filter(fits).cloned()
        };
        let stored = format.stored_colour(colour);
        let describes =
            |profile: &&Vec<u8>| format.holds_icc_profile() && !icc::contradicts(profile, stored);
        let mut fitted = Self {
            icc_profile: self.icc_profile.as_ref().filter(describes).cloned(),
            png_colour: self.png_colour.filter(|_| format == Format::Png),
            exif: fits(&self.exif, format.holds_exif(), MAX_JPEG_EXIF_BYTES),
            xmp: None,
            iptc: fits(&self.iptc, format.holds_iptc(), MAX_JPEG_IPTC_BYTES),
            resolution: self.resolution.filter(|_| format.holds_resolution()),
            texts: self.texts.clone(),
            dropped: Vec::new(),
        };
        if let Some(exif) = &mut fitted.exif {
            exif::set_size(exif, width_px, height_px);
        }
        if let Some(packet) = &self.xmp {
            // `decode` kept no packet that cannot be edited; a caller's own is written as it is.
            let edited = xmp::with_size(packet, width_px, height_px);
            let packet = edited.or_else(|| Some(packet.clone()));
            fitted.xmp = fits(&packet, format.holds_xmp(), MAX_JPEG_XMP_BYTES);
        }
        fitted
    }

    /// Takes a file's EXIF block. Returns the orientation that it tells.
    fn set_exif(&mut self, mut block: Vec<u8>) -> Orientation {
        if block.starts_with(jpeg::EXIF_PREFIX) {
            // Some writers of WebP and PNG put it there.
            block.drain(..jpeg::EXIF_PREFIX.len());
        }
        match exif::make_upright(&mut block) {
            Some(orientation) => {
                self.exif = Some(block);
                orientation
            }
            None => {
                self.dropped.push("EXIF: it is damaged".to_owned());
                Orientation::NoTransforms
            }
        }
    }

    /// Takes a file's XMP packet.
    fn set_xmp(&mut self, packet: Vec<u8>) {
        self.xmp = Some(packet);
        self.edit_xmp(&xmp::without_thumbnails);
    }

    /// Keeps the edited packet. One that is no XML cannot be searched, so it is left out.
    fn edit_xmp(&mut self, edit: &dyn Fn(&[u8]) -> Option<Vec<u8>>) {
        if let Some(packet) = self.xmp.take() {
            self.xmp = edit(&packet);
            if self.xmp.is_none() {
                self.dropped.push("XMP: it is damaged".to_owned());
            }
        }
    }

    /// The last step of reading: with the orientation by which the pixels are to be turned. An
    /// orientation in XMP is reset only then; told by XMP alone it is left to those who heed it,
    /// and pixels and packet stay as they were to each other.
    fn turned(mut self, orientation: Orientation) -> (Self, Orientation) {
        if orientation != Orientation::NoTransforms {
            self.edit_xmp(&xmp::upright);
        }
        self.resolution_from_exif();
        (self, orientation)
    }

    /// Where the file itself tells no resolution, the one that EXIF tells.
    fn resolution_from_exif(&mut self) {
        if self.resolution.is_none() {
            self.resolution = self.exif.as_deref().and_then(exif::resolution);
        }
    }

    /// From the blocks of a file. The orientation is that of EXIF where the format has none of its
    /// own.
    pub(crate) fn of_blocks(
        icc_profile: Option<Vec<u8>>,
        exif: Option<Vec<u8>>,
        xmp: Option<Vec<u8>>,
        own: Option<Orientation>,
    ) -> (Self, Orientation) {
        let mut metadata = Self {
            icc_profile,
            ..Self::default()
        };
        let of_exif = exif.map_or(Orientation::NoTransforms, |block| metadata.set_exif(block));
        if let Some(packet) = xmp {
            metadata.set_xmp(packet);
        }
        metadata.turned(own.unwrap_or(of_exif))
    }
}

impl PngColour {
    /// Whether these chunks say no more than what is assumed without them.
    fn is_srgb(&self) -> bool {
        // Chromaticities and exponent that stand in for sRGB: PNG, third edition, section 11.3.2.5.
        const SRGB: [u32; 8] = [
            31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000,
        ];
        let near = |a: u32, b: u32, most: u32| a.abs_diff(b) <= most;
        let gamma = self.gamma.is_none_or(|gamma| near(gamma, 45_455, 1_000));
        let chromaticities = self
            .chromaticities
            .is_none_or(|c| c.iter().zip(SRGB).all(|(&a, b)| near(a, b, 100)));
        // H.273: BT.709 primaries, IEC 61966-2-1 transfer function.
        let code_points = self.code_points.is_none_or(|c| c[..2] == [1, 13]);
        code_points && (self.srgb_intent.is_some() || gamma && chromaticities)
    }
}
