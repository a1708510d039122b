//! Metadata of image files: colour, camera, location, author, print size.
//!
//! Each submodule handles one file format, or one block inside files. Those of file formats work on the
//! data of decoders and encoders.

pub(crate) mod bmp;
mod exif;
mod geo;
mod icc;
mod iptc;
pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod tiff;
mod xmp;

use image::metadata::Orientation;

use crate::band::Band;
use crate::format::Format;
use crate::samples::Colour;
pub use geo::GeoFields;

/// Longest EXIF block of a JPEG: a segment of 65 535 bytes less its length and `Exif\0\0`.
const MAX_JPEG_EXIF_BYTES: usize = 65_535 - 2 - 6;

/// Longest XMP packet of a JPEG, as for EXIF. (The extension for longer ones is not written.)
const MAX_JPEG_XMP_BYTES: usize = 65_535 - 2 - jpeg::XMP_PREFIX.len();

/// Longest IPTC record of a JPEG: the segment less its prefix and the head of the resource.
const MAX_JPEG_IPTC_BYTES: usize = 65_535 - 2 - jpeg::PHOTOSHOP_PREFIX.len() - 13;

/// The metadata of an image.
///
/// [`Reader`](crate::Reader) makes it that of the upright image: an orientation is reset, thumbnails are
/// removed, and so are areas if the image was turned; regions turn with it, or are removed. [`Writer`](crate::Writer) writes what the format can
/// hold, and replaces sizes in it by that of the written image.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metadata {
    /// ICC profile, byte for byte. It is copied, never applied.
    pub icc_profile: Option<Vec<u8>>,
    /// The chunks of a PNG file that define its colours, beside an ICC profile.
    pub png_colour: Option<PngColour>,
    /// EXIF block: a TIFF header and its directories, without the `Exif\0\0` of JPEG files.
    pub exif: Option<Vec<u8>>,
    /// XMP packet: XML in UTF-8.
    pub xmp: Option<Vec<u8>>,
    /// IPTC-IIM records (caption, credit, keywords), without Photoshop's wrapping.
    pub iptc: Option<Vec<u8>>,
    /// Size of a pixel on paper. Upscaling does not change it, so an image upscaled by 2 is printed
    /// twice as large.
    pub resolution: Option<Resolution>,
    /// Text chunks of a PNG file: keyword and text.
    pub texts: Vec<(String, String)>,
    /// Other chunks of a PNG file, type and content: the background (`bKGD`) and the time of the last
    /// change (`tIME`).
    pub png_chunks: Vec<([u8; 4], Vec<u8>)>,
    /// Comments of a JPEG file, byte for byte.
    pub jpeg_comments: Vec<Vec<u8>>,
    /// The fields of a TIFF file that place the image on the Earth, and GDAL's own.
    pub geo: GeoFields,
    /// The place in a larger image, of a band in a TIFF file.
    pub band: Option<Band>,
    /// The metadata of the file that was dropped, each with the reason.
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
    /// Only the ratio is known.
    Ratio {
        /// Along x.
        x: f64,
        /// Along y.
        y: f64,
    },
}

/// The PNG chunks that define the colours of samples, as in the file.
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
    /// `mDCV`: primaries, white point and luminances of the mastering display, as in the chunk.
    pub mastering_display: Option<[u8; 24]>,
    /// `cLLI`: light levels of the content, as in the chunk.
    pub content_light: Option<[u8; 8]>,
}

/// Which metadata to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataPolicy {
    /// All of it.
    #[default]
    Keep,
    /// Only what defines the colours: the ICC profile or the colour chunks of PNG.
    Strip,
    /// All but the location where the image was taken.
    StripGps,
}

impl MetadataPolicy {
    /// All, with their names in arguments.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("keep", Self::Keep),
        ("strip", Self::Strip),
        ("strip-gps", Self::StripGps),
    ];
}

impl Resolution {
    /// `None` if a value is implausible, or if only the ratio is known and it is 1.
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
    /// Removes what `policy` does not keep. That is not added to [`dropped`](Self::dropped), except for a
    /// block that cannot be searched and is therefore removed whole.
    ///
    /// [`StripGps`](MetadataPolicy::StripGps) removes the GPS directories of EXIF wherever they are, the
    /// georeference of TIFF, from XMP every property whose name is of GPS or a coordinate as well as
    /// comments, and PNG texts and JPEG comments that mention GPS or a coordinate. Place names and the
    /// camera maker's own note stay.
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
                if let Some(mut block) = self.exif.take() {
                    if exif::strip_gps(&mut block) {
                        self.exif = Some(block);
                    } else {
                        let what = "EXIF: it has too many directories to be searched for GPS";
                        self.dropped.push(what.to_owned());
                    }
                }
                self.edit_xmp(&xmp::without_gps);
                self.texts
                    .retain(|(keyword, text)| !names_position(keyword) && !names_position(text));
                self.jpeg_comments
                    .retain(|comment| !names_position(&String::from_utf8_lossy(comment)));
                self.geo.remove_position();
            }
        }
    }

    /// The metadata that is lost if an image of this colour is written as `format`, each with the reason.
    pub fn lost_in(&self, format: Format, colour: Colour) -> Vec<String> {
        let mut lost = Vec::new();
        let mut add = |what: &str, why: &str| lost.push(format!("{what}: {why}"));
        let cannot = format!("{format} cannot hold it");
        let too_long = |bytes: usize, most: usize| {
            format!("its {bytes} bytes are too long for {format} (at most {most})")
        };
        if let Some(profile) = &self.icc_profile {
            if !format.holds_icc_profile() {
                add("ICC profile", &cannot);
            } else if icc::contradicts(profile, format.stored_colour(colour)) {
                let why = format!("it does not describe the pixels that {format} holds");
                add("ICC profile", &why);
            }
        }
        if self.png_colour.is_some_and(|colour| !colour.is_srgb()) && format != Format::Png {
            add("colour space chunks of PNG", &cannot);
        }
        let jpeg = format == Format::Jpeg;
        for (what, block, held, most) in [
            ("EXIF", &self.exif, format.holds_exif(), MAX_JPEG_EXIF_BYTES),
            ("XMP", &self.xmp, format.holds_xmp(), MAX_JPEG_XMP_BYTES),
            ("IPTC", &self.iptc, format.holds_iptc(), MAX_JPEG_IPTC_BYTES),
        ] {
            match block {
                Some(_) if !held => add(what, &cannot),
                Some(block) if jpeg && block.len() > most => {
                    add(what, &too_long(block.len(), most));
                }
                _ => {}
            }
        }
        let in_exif = || self.exif.as_deref().and_then(exif::resolution).is_some();
        if self.resolution.is_some() && !format.holds_resolution() && !in_exif() {
            add("resolution", &cannot);
        }
        if !self.texts.is_empty() && format != Format::Png {
            add("text chunks of PNG", &cannot);
        }
        if !self.png_chunks.is_empty() && format != Format::Png {
            add("background and time of PNG", &cannot);
        }
        if !self.jpeg_comments.is_empty() && !jpeg {
            add("comment of JPEG", &cannot);
        }
        if !self.geo.is_empty() && format != Format::Tiff {
            add("GeoTIFF tags", &cannot);
        }
        if self.band.is_some() && format != Format::Tiff {
            add("place in a larger image", &cannot);
        }
        lost
    }

    /// Adapts positions and sizes in pixels, and the size of a pixel on the ground, to an image of another
    /// size. [`Writer`](crate::Writer) does not: it sets the sizes of the image itself only.
    pub fn scale(&mut self, from_px: (usize, usize), to_px: (usize, usize)) {
        let factors = [
            to_px.0 as f64 / from_px.0 as f64,
            to_px.1 as f64 / from_px.1 as f64,
        ];
        if factors == [1.0; 2] {
            return;
        }
        if let Some(block) = &mut self.exif
            && exif::scale_areas(block, factors).is_none()
            && exif::remove_areas(block)
        {
            let what = "subject area in EXIF: its numbers have 16 bits, too few for the result";
            self.dropped.push(what.to_owned());
        }
        self.edit_xmp(&|packet| xmp::scaled(packet, factors));
        self.geo.scale(factors);
    }

    /// Makes it that of a band of the image: the georeference moves to the first row, and the band has its
    /// place. Other positions stay those in the whole image.
    pub fn cut(&mut self, band: Band) {
        self.geo.move_up(band.rows.start);
        self.band = Some(band);
    }

    /// Drops an ICC profile of another colour space than the pixels.
    pub(crate) fn drop_foreign_profile(&mut self, colour: Colour) {
        if let Some(profile) = self
            .icc_profile
            .take_if(|profile| icc::contradicts(profile, colour))
        {
            let space = profile[16..20].escape_ascii();
            let pixels = if colour.is_grey() { "grey" } else { "RGB" };
            let change = match &profile[16..20] {
                b"CMYK" => "; it was not applied, so the colours differ from those of a printer",
                _ => "",
            };
            self.dropped.push(format!(
                "ICC profile: it is of colour space \"{space}\", the pixels are {pixels}{change}"
            ));
        }
    }

    /// The metadata as written to a file of `format` with an image of this size: without what
    /// [`lost_in`](Self::lost_in) names, and with its sizes replaced.
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
            png_chunks: png::fitting_chunks(&self.png_chunks, stored),
            jpeg_comments: self.jpeg_comments.clone(),
            geo: self.geo.clone(),
            band: self.band.clone(),
            dropped: Vec::new(),
        };
        if let Some(exif) = &mut fitted.exif {
            exif::set_size(exif, width_px, height_px);
        }
        if let Some(packet) = &self.xmp {
            // A reader keeps no packet that cannot be edited; a caller's own is written unchanged.
            let edited = xmp::with_size(packet, width_px, height_px);
            let packet = edited.or_else(|| Some(packet.clone()));
            fitted.xmp = fits(&packet, format.holds_xmp(), MAX_JPEG_XMP_BYTES);
        }
        fitted
    }

    /// Sets a file's EXIF block. Returns its orientation.
    fn set_exif(&mut self, mut block: Vec<u8>) -> Orientation {
        if block.starts_with(jpeg::EXIF_PREFIX) {
            // Some writers of WebP and PNG put it there.
            block.drain(..jpeg::EXIF_PREFIX.len());
        }
        match exif::make_upright(&mut block) {
            Some(orientation) => {
                if let Some(program) = exif::remove_structure(&mut block) {
                    self.dropped.push(structure_dropped(program));
                }
                self.exif = Some(block);
                orientation
            }
            None => {
                self.dropped.push("EXIF: it is damaged".to_owned());
                Orientation::NoTransforms
            }
        }
    }

    /// Sets a file's XMP packet.
    fn set_xmp(&mut self, packet: Vec<u8>) {
        if packet.len() > xmp::MAX_BYTES {
            let most = xmp::MAX_BYTES;
            self.dropped
                .push(format!("XMP: it is longer than {most} bytes"));
            return;
        }
        self.xmp = Some(packet);
        self.edit_xmp(&xmp::of_pixels);
    }

    /// Edits the packet. One that is not XML cannot be searched, so it is dropped.
    fn edit_xmp(&mut self, edit: &dyn Fn(&[u8]) -> Option<Vec<u8>>) {
        if let Some(packet) = self.xmp.take() {
            self.xmp = edit(&packet);
            if self.xmp.is_none() {
                self.dropped.push("XMP: it is damaged".to_owned());
            }
        }
    }

    /// The last step of reading, with the orientation that will be applied to the pixels. An orientation
    /// in XMP is reset only if there is one to apply: if XMP alone has an orientation, neither pixels
    /// nor packet change.
    fn turned(mut self, orientation: Orientation) -> (Self, Orientation) {
        if orientation != Orientation::NoTransforms {
            if self.exif.as_mut().is_some_and(exif::remove_areas) {
                let what = "subject area in EXIF: it is that of the image before its rotation";
                self.dropped.push(what.to_owned());
            }
            let regions = self
                .xmp
                .as_deref()
                .map_or_else(Default::default, xmp::regions);
            let turns = regions.turn && !regions.others;
            self.edit_xmp(&|packet| xmp::upright(packet, orientation, turns));
            if regions.turn && !turns || regions.others {
                let what = "regions in XMP: they are those of the image before its rotation";
                self.dropped.push(what.to_owned());
            }
            if self.geo.remove_position() {
                let what = "GeoTIFF tags: they are those of the image before its rotation";
                self.dropped.push(what.to_owned());
            }
        }
        self.resolution_from_exif();
        (self, orientation)
    }

    /// Takes the resolution from EXIF if the file has none.
    fn resolution_from_exif(&mut self) {
        if self.resolution.is_none() {
            self.resolution = self.exif.as_deref().and_then(exif::resolution);
        }
    }

    /// The metadata from the blocks of a file. The orientation is that of EXIF if the format has none of
    /// its own.
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

/// Why a description is dropped that `program` reads as the structure of the file.
fn structure_dropped(program: &str) -> String {
    format!("description by {program}: it gives the size and number of the input's images")
}

/// Whether a text mentions GPS or a coordinate.
fn names_position(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["gps", "latitude", "longitude"]
        .iter()
        .any(|word| text.contains(word))
}

impl PngColour {
    /// Whether these chunks describe sRGB, which is assumed without them.
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
        let is_hdr = self.mastering_display.is_some() || self.content_light.is_some();
        code_points && !is_hdr && (self.srgb_intent.is_some() || gamma && chromaticities)
    }
}
