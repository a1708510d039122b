//! AVIF, by `zenavif-parse` (the container) and `re_rav1d` (AV1, dav1d in Rust).
//!
//! What is between them is here: the tiles of a grid are joined, chroma is brought to the size of luma, and colours
//! become red, green and blue. Neither the container's rotation and mirroring nor its colour is lost.
//!
//! Source: AV1 Image File Format v1.1.0; ISO/IEC 23008-12 (irot, imir, clap); ITU-T H.273 (matrices, ranges). Chroma is
//! interpolated as by libavif (`src/reformat.c`: between the centres of its samples).

use std::borrow::Cow;
use std::path::Path;

use image::metadata::Orientation;
use re_rav1d::{Decoder, Picture, PixelLayout, PlanarImageComponent, Settings, pixel};
use zenavif_parse::{AvifParser, ColorInformation, DecodeConfig};

use super::{Decode, Header, Limits, Source, animation, check_size, guarded};
use crate::error::{Error, one_line};
use crate::format::Format;
use crate::metadata::{Metadata, PngColour};
use crate::samples::{Colour, Depth, Outline, Samples};

/// Bytes per pixel that are held beside the result: three planes of 16 bits in the decoder, and once more here.
const PLANES_BYTES: u64 = 12;

/// A code point of H.273 that says nothing.
const UNSPECIFIED: u16 = 2;

struct AvifDecoder {
    file: AvifParser<'static>,
    outline: Outline,
    limits: Limits,
}

fn damaged(reason: impl Into<String>, name: &Path) -> Error {
    Error::damaged(reason, Format::Avif, name)
}

fn unsupported(reason: impl Into<String>, name: &Path) -> Error {
    Error::unsupported(reason, Format::Avif, name)
}

fn container_error(error: zenavif_parse::Error, name: &Path) -> Error {
    use zenavif_parse::Error as E;
    match error {
        E::UnexpectedEOF => Error::truncated("a box is not complete", Format::Avif, name),
        E::Unsupported(_) | E::ResourceLimitExceeded(_) => unsupported(one_line(&error), name),
        _ => damaged(one_line(&error), name),
    }
}

pub(super) fn open(
    source: Source,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let bytes = source.into_bytes(name)?;
    guarded(Format::Avif, name, || {
        let failed = |error| container_error(error, name);
        let config = DecodeConfig::default();
        let file = AvifParser::from_owned_with_config(bytes, &config, &zenavif_parse::Unstoppable);
        let file = file.map_err(failed)?;
        let outline = outline(&file, name, limits)?;
        let samples = outline.width_px as u64 * outline.height_px as u64;
        let (metadata, orientation) = metadata(&file);
        let header = Header {
            outline,
            orientation,
            metadata,
            omitted: omitted(&file),
            animation: None,
            pages: None,
            streams_rows: false,
            whole_bytes: outline
                .sample_bytes()
                .saturating_add(samples.saturating_mul(PLANES_BYTES)),
            rows_bytes: 0,
        };
        let decoder = AvifDecoder {
            file,
            outline,
            limits: limits.clone(),
        };
        Ok((header, Box::new(decoder) as Box<dyn Decode>))
    })
}

/// Size, colour and depth by the headers of the AV1 data.
fn outline(file: &AvifParser<'_>, name: &Path, limits: &Limits) -> Result<Outline, Error> {
    let failed = |error| container_error(error, name);
    if file
        .animation_info()
        .is_some_and(|info| info.frame_count > 1)
    {
        return Err(animation(Format::Avif, name));
    }
    let grid = file.grid_config();
    if file.premultiplied_alpha() {
        return Err(unsupported("its colours are multiplied by alpha", name));
    }
    if grid.is_some() && file.alpha_data().is_some() {
        return Err(unsupported("it is a grid with an alpha channel", name));
    }
    let first = match grid {
        Some(_) => file.tile_data(0),
        None => file.primary_data(),
    };
    let header_of = |bytes: &[u8]| zenavif_parse::AV1Metadata::parse_av1_bitstream(bytes);
    let first = header_of(&first.map_err(failed)?).map_err(failed)?;
    let (width, height) = (first.max_frame_width.get(), first.max_frame_height.get());
    let size = match grid {
        None => (width, height),
        Some(grid) => {
            let across = |tiles: u8, size: u32, given: u32| {
                let all = u32::from(tiles).saturating_mul(size);
                if given == 0 { all } else { given.min(all) }
            };
            (
                across(grid.columns, width, grid.output_width),
                across(grid.rows, height, grid.output_height),
            )
        }
    };
    let (width_px, height_px) = check_size(size, name, limits)?;
    let mut bits = first.bit_depth;
    let alpha = file.alpha_data().transpose().map_err(failed)?;
    if let Some(alpha) = &alpha {
        bits = bits.max(header_of(alpha).map_err(failed)?.bit_depth);
    }
    Ok(Outline {
        width_px,
        height_px,
        colour: Colour::new(first.monochrome, alpha.is_some()),
        depth: if bits > 8 { Depth::U16 } else { Depth::U8 },
    })
}

fn metadata(file: &AvifParser<'_>) -> (Metadata, Orientation) {
    let (icc_profile, code_points) = match file.color_info() {
        Some(ColorInformation::IccProfile(profile)) => (Some(profile.clone()), None),
        Some(ColorInformation::Nclx {
            color_primaries,
            transfer_characteristics,
            ..
        }) => (
            None,
            code_points(*color_primaries, *transfer_characteristics),
        ),
        None => (None, None),
    };
    let mut damaged = Vec::new();
    let mut block = |what: &str, read: Option<zenavif_parse::Result<_>>| match read? {
        Ok(bytes) => Some(Cow::into_owned(bytes)),
        Err(_) => {
            damaged.push(format!("{what}: it is damaged"));
            None
        }
    };
    let (exif, xmp) = (block("EXIF", file.exif()), block("XMP", file.xmp()));
    // The orientation of EXIF is not that of the file.
    let own = orientation(file);
    let (mut metadata, orientation) = Metadata::of_blocks(icc_profile, exif, xmp, Some(own));
    metadata.png_colour = code_points.map(|points| PngColour {
        code_points: Some(points),
        ..PngColour::default()
    });
    metadata.dropped.extend(damaged);
    if let Some(aspect) = file.pixel_aspect_ratio()
        && aspect.h_spacing != aspect.v_spacing
    {
        let (h, v) = (aspect.h_spacing, aspect.v_spacing);
        metadata
            .dropped
            .push(format!("pixels of {h}:{v} (pasp): the result's are square"));
    }
    (metadata, orientation)
}

/// Code points of PNG for primaries and transfer function; `None` for sRGB, which is meant without.
fn code_points(primaries: u16, transfer: u16) -> Option<[u8; 4]> {
    let specified = |value: u16, default| if value == UNSPECIFIED { default } else { value };
    let points = [specified(primaries, 1), specified(transfer, 13)];
    if points == [1, 13] {
        return None;
    }
    let [primaries, transfer] = points.map(|value| u8::try_from(value).ok());
    Some([primaries?, transfer?, 0, 1])
}

/// The orientation that irot and then imir give.
fn orientation(file: &AvifParser<'_>) -> Orientation {
    let turns = file
        .rotation()
        .map_or(0, |rotation| rotation.angle / 90 % 4);
    // Axis 0 exchanges top and bottom, 1 left and right.
    let axis = file.mirror().map(|mirror| mirror.axis);
    let exif = match (turns, axis) {
        (0, None) => 1,
        (0, Some(0)) => 4,
        (0, Some(_)) => 2,
        (1, None) => 8,
        (1, Some(0)) => 5,
        (1, Some(_)) => 7,
        (2, None) => 3,
        (2, Some(0)) => 2,
        (2, Some(_)) => 4,
        (_, None) => 6,
        (_, Some(0)) => 7,
        (_, Some(_)) => 5,
    };
    Orientation::from_exif(exif).unwrap_or(Orientation::NoTransforms)
}

fn omitted(file: &AvifParser<'_>) -> Vec<String> {
    let found = [
        (
            file.gain_map_data().is_some(),
            "gain map: results have no HDR part",
        ),
        (file.has_depth_map(), "depth map: it is not upscaled"),
        (
            file.clean_aperture().is_some(),
            "crop (clap): the whole image is upscaled",
        ),
    ];
    let found = found.into_iter().filter(|(is_there, _)| *is_there);
    found.map(|(_, what)| what.to_owned()).collect()
}

impl Decode for AvifDecoder {
    fn read_all(self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        guarded(Format::Avif, name, || self.read(name))
    }
}

impl AvifDecoder {
    fn read(&self, name: &Path) -> Result<Samples, Error> {
        let failed = |error| container_error(error, name);
        let (file, size) = (&self.file, (self.outline.width_px, self.outline.height_px));
        let decode = |bytes: zenavif_parse::Result<Cow<'_, [u8]>>| {
            picture(bytes.map_err(failed)?.into_owned(), &self.limits, name)
        };
        let mut colour = match file.grid_config() {
            None => Planes::of(&[decode(file.primary_data())?], 1, size, name)?,
            Some(grid) => {
                let (rows, columns) = (usize::from(grid.rows), usize::from(grid.columns));
                let tiles = (0..rows * columns).map(|index| decode(file.tile_data(index)));
                Planes::of(&tiles.collect::<Result<Vec<_>, _>>()?, columns, size, name)?
            }
        };
        if let Some(ColorInformation::Nclx {
            color_primaries,
            matrix_coefficients,
            full_range,
            ..
        }) = file.color_info()
        {
            colour.code_points = (*color_primaries, *matrix_coefficients);
            colour.is_full_range = *full_range;
        }
        let alpha = file
            .alpha_data()
            .map(|bytes| Planes::of(&[decode(bytes)?], 1, size, name));
        let alpha = alpha.transpose()?;
        if colour.planes.len() == 1 && !self.outline.colour.is_grey() {
            return Err(damaged("its picture is grey, its header is not", name));
        }
        Ok(match self.outline.depth {
            Depth::U8 => {
                Samples::U8(self.samples(&colour, alpha.as_ref(), 255.0, |v| v as u8, name)?)
            }
            _ => {
                Samples::U16(self.samples(&colour, alpha.as_ref(), 65_535.0, |v| v as u16, name)?)
            }
        })
    }

    /// The samples of all pixels, 0 to `most`.
    fn samples<T: Copy + Default>(
        &self,
        colour: &Planes,
        alpha: Option<&Planes>,
        most: f32,
        of: impl Fn(f32) -> T,
        name: &Path,
    ) -> Result<Vec<T>, Error> {
        let channels = self.outline.colour.channels();
        let (width_px, height_px) = colour.size;
        let is_grey = self.outline.colour.is_grey();
        let matrix = if is_grey {
            Matrix::Identity
        } else {
            Matrix::of(colour.code_points, name)?
        };
        let level = |value: f32| of(value.clamp(0.0, 1.0) * most + 0.5);
        let mut samples = vec![T::default(); width_px * height_px * channels];
        let [mut luma, mut blue, mut red] = [(); 3].map(|()| vec![0.0; width_px]);
        for (y, row) in samples.chunks_exact_mut(width_px * channels).enumerate() {
            let mut pixels = row.chunks_exact_mut(channels);
            colour.row(0, y, false, &mut luma);
            if is_grey {
                pixels
                    .by_ref()
                    .zip(&luma)
                    .for_each(|(pixel, &luma)| pixel[0] = level(luma));
            } else {
                let is_chroma = !matches!(matrix, Matrix::Identity);
                colour.row(1, y, is_chroma, &mut blue);
                colour.row(2, y, is_chroma, &mut red);
                for (pixel, ((&luma, &blue), &red)) in pixels.zip(luma.iter().zip(&blue).zip(&red))
                {
                    let rgb = matrix.rgb(luma, blue, red).map(level);
                    pixel[..3].copy_from_slice(&rgb);
                }
            }
            if let Some(alpha) = alpha {
                alpha.row(0, y, false, &mut luma);
                let last = row.iter_mut().skip(channels - 1).step_by(channels);
                last.zip(&luma)
                    .for_each(|(sample, &alpha)| *sample = level(alpha));
            }
        }
        Ok(samples)
    }
}

/// The first picture of AV1 data.
fn picture(bytes: Vec<u8>, limits: &Limits, name: &Path) -> Result<Picture, Error> {
    let failed = |error: re_rav1d::Error| match error {
        re_rav1d::Error::Again => {
            Error::truncated("its AV1 data are not complete", Format::Avif, name)
        }
        error => damaged(one_line(&error), name),
    };
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(u32::try_from(limits.max_pixels).unwrap_or(u32::MAX));
    let mut decoder = Decoder::with_settings(&settings).map_err(failed)?;
    let mut sent = decoder.send_data(bytes, None, None, None);
    loop {
        match (sent, decoder.get_picture()) {
            (_, Ok(picture)) => return Ok(picture),
            // More data wait for room in the decoder.
            (Err(re_rav1d::Error::Again), Err(re_rav1d::Error::Again)) => {
                sent = decoder.send_pending_data();
            }
            (Err(error), _) | (Ok(()), Err(error)) => return Err(failed(error)),
        }
    }
}

/// The planes of an image: luma, and unless it is grey two of chroma.
struct Planes {
    planes: Vec<Vec<u16>>,
    size: (usize, usize),
    /// The logarithms of how much smaller chroma is, across and down.
    shifts: (usize, usize),
    bits: usize,
    /// Primaries and matrix.
    code_points: (u16, u16),
    is_full_range: bool,
}

impl Planes {
    /// Joins the pictures of a grid of so many columns. What lies beyond the image is cut off.
    fn of(
        pictures: &[Picture],
        columns: usize,
        size: (usize, usize),
        name: &Path,
    ) -> Result<Self, Error> {
        let first = &pictures[0];
        let kind = |picture: &Picture| {
            let size = (picture.width() as usize, picture.height() as usize);
            (size, picture.pixel_layout(), picture.bit_depth())
        };
        let ((tile_width, tile_height), layout, bits) = kind(first);
        if pictures.iter().any(|picture| kind(picture) != kind(first)) {
            return Err(damaged("the tiles of its grid differ in kind", name));
        }
        if tile_width * columns < size.0 || tile_height * (pictures.len() / columns) < size.1 {
            return Err(damaged("its picture is smaller than the image", name));
        }
        let shifts = match layout {
            PixelLayout::I420 => (1, 1),
            PixelLayout::I422 => (1, 0),
            PixelLayout::I400 | PixelLayout::I444 => (0, 0),
        };
        let count = if layout == PixelLayout::I400 { 1 } else { 3 };
        let mut joined = Self {
            planes: Vec::new(),
            size,
            shifts,
            bits,
            // The decoder has no name for some primaries, which matter for one matrix.
            code_points: (UNSPECIFIED, first.matrix_coefficients() as u16),
            is_full_range: first.color_range() == pixel::YUVRange::Full,
        };
        for plane in 0..count {
            let (width_px, height_px) = joined.plane_size(plane);
            let (across, down) = joined.shifts_of(plane);
            let (tile_width, tile_height) = (
                tile_width.div_ceil(1 << across),
                tile_height.div_ceil(1 << down),
            );
            let mut samples = vec![0; width_px * height_px];
            for (index, picture) in pictures.iter().enumerate() {
                let (left, top) = (index % columns * tile_width, index / columns * tile_height);
                let component = PlanarImageComponent::from(plane);
                let (from, stride) = (picture.plane(component), picture.stride(component) as usize);
                let to = samples.chunks_exact_mut(width_px).skip(top);
                for (to, from) in to.zip(from.chunks(stride)).take(tile_height) {
                    let to = to
                        .get_mut(left..)
                        .unwrap_or_default()
                        .iter_mut()
                        .take(tile_width);
                    if bits == 8 {
                        to.zip(from).for_each(|(to, &from)| *to = from.into());
                    } else {
                        let from = from.as_chunks().0.iter().copied().map(u16::from_ne_bytes);
                        to.zip(from).for_each(|(to, from)| *to = from);
                    }
                }
            }
            joined.planes.push(samples);
        }
        Ok(joined)
    }

    fn shifts_of(&self, plane: usize) -> (usize, usize) {
        if plane == 0 { (0, 0) } else { self.shifts }
    }

    fn plane_size(&self, plane: usize) -> (usize, usize) {
        let (across, down) = self.shifts_of(plane);
        (
            self.size.0.div_ceil(1 << across),
            self.size.1.div_ceil(1 << down),
        )
    }

    /// A row of a plane at the size of the image: luma 0 to 1, chroma -0.5 to 0.5.
    fn row(&self, plane: usize, y: usize, is_chroma: bool, row: &mut [f32]) {
        let (width_px, height_px) = self.plane_size(plane);
        let (across, down) = self.shifts_of(plane);
        let (zero, range) = match (self.is_full_range, is_chroma) {
            (true, false) => (0, (1 << self.bits) - 1),
            (true, true) => (1 << (self.bits - 1), (1 << self.bits) - 1),
            (false, false) => (16 << (self.bits - 8), 219 << (self.bits - 8)),
            (false, true) => (1 << (self.bits - 1), 224 << (self.bits - 8)),
        };
        // A sample, and its neighbour on the side of the pixel, which counts a third of it.
        let two = |at: usize, shift: usize, length: usize| {
            let near = at >> shift;
            let far = match (shift, at % 2) {
                (0, _) => near,
                (_, 0) => near.saturating_sub(1),
                _ => (near + 1).min(length - 1),
            };
            (near, far)
        };
        let line = |y: usize| &self.planes[plane][y * width_px..][..width_px];
        let (near, far) = two(y, down, height_px);
        let (near, far) = (line(near), line(far));
        let down = |x: usize| (3 * u32::from(near[x]) + u32::from(far[x])) as f32;
        for (x, value) in row.iter_mut().enumerate() {
            let (near, far) = two(x, across, width_px);
            let sum = 3.0 * down(near) + down(far);
            *value = (sum / 16.0 - zero as f32) / range as f32;
        }
    }
}

/// How red, green and blue come from luma and chroma.
enum Matrix {
    /// They are stored as green, blue, red.
    Identity,
    YCgCo,
    /// The weights of red and blue in luma.
    Weights(f32, f32),
}

impl Matrix {
    /// Source: ITU-T H.273, table 4.
    fn of((primaries, matrix): (u16, u16), name: &Path) -> Result<Self, Error> {
        let of_primaries = |primaries| match primaries {
            1 => Some(Self::Weights(0.2126, 0.0722)),
            5 | 6 => Some(Self::Weights(0.299, 0.114)),
            9 => Some(Self::Weights(0.2627, 0.0593)),
            12 => Some(Self::Weights(0.22897, 0.07929)),
            _ => None,
        };
        let found = match matrix {
            0 => Some(Self::Identity),
            1 | 5 | 6 | 9 => of_primaries(matrix),
            // As libavif takes it: those of BT.601.
            UNSPECIFIED => of_primaries(6),
            4 => Some(Self::Weights(0.30, 0.11)),
            7 => Some(Self::Weights(0.212, 0.087)),
            8 => Some(Self::YCgCo),
            12 => of_primaries(primaries),
            _ => None,
        };
        found.ok_or_else(|| unsupported(format!("its matrix is number {matrix} of H.273"), name))
    }

    fn rgb(&self, luma: f32, blue: f32, red: f32) -> [f32; 3] {
        match *self {
            Self::Identity => [red, luma, blue],
            Self::YCgCo => {
                let (green, orange) = (blue, red);
                let rest = luma - green;
                [rest + orange, luma + green, rest - orange]
            }
            Self::Weights(of_red, of_blue) => {
                let r = luma + 2.0 * (1.0 - of_red) * red;
                let b = luma + 2.0 * (1.0 - of_blue) * blue;
                let g = (luma - of_red * r - of_blue * b) / (1.0 - of_red - of_blue);
                [r, g, b]
            }
        }
    }
}
