//! Netpbm: PBM, PGM and PPM, binary and plain, PAM and PFM.
//!
//! Source: the pages pbm, pgm, ppm, pam and pfm of Netpbm's manual, <https://netpbm.sourceforge.net/doc/>.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::Path;

use image::metadata::Orientation;

use super::{Decode, Header, Limits, MAX_METADATA_BYTES, Source, after_end, check_size};
use crate::error::Error;
use crate::format::Format;
use crate::metadata::Metadata;
use crate::samples::{Colour, Depth, Outline, Samples};

const FORMAT: Format = Format::Netpbm;
/// The keyword of a comment in the texts of a PNG.
const COMMENT: &str = "Comment";
/// Most bytes of a line of a PAM header, and of the scale of a PFM.
const MAX_WORD_BYTES: u64 = 1 << 12;

/// Whether a file starts like a netpbm image: P1 to P6, PF or Pf, and then a number or a comment after white
/// space; or P7 and a line.
pub(crate) fn starts(start: &[u8]) -> bool {
    let [b'P', kind, white, rest @ ..] = start else {
        return false;
    };
    let next = rest.iter().find(|byte| !byte.is_ascii_whitespace());
    match kind {
        b'7' => *white == b'\n' && next.is_none_or(|byte| b"WHDMTE#".contains(byte)),
        b'1'..=b'6' | b'F' | b'f' => {
            let is_number = next.is_none_or(|byte| byte.is_ascii_digit() || *byte == b'#');
            white.is_ascii_whitespace() && is_number
        }
        _ => false,
    }
}

/// How samples are stored.
#[derive(Clone, Copy, PartialEq)]
enum Raster {
    /// Decimal numbers, or for bits digits, as text.
    Plain,
    /// Bytes, pairs of them in big endian, or bits in rows of whole bytes.
    Binary,
    /// Floats of 32 bits, the lowest row first.
    Float { is_little_endian: bool },
}

/// What a header says.
struct Head {
    width: u32,
    height: u32,
    raster: Raster,
    colour: Colour,
    /// [`NetpbmDecoder::white`]
    white: Option<u32>,
    comments: Vec<u8>,
}

struct NetpbmDecoder {
    /// At the first byte of the raster.
    source: Source,
    raster: Raster,
    /// The white of samples; `None` for bits, of which 1 is black.
    white: Option<u32>,
    outline: Outline,
}

pub(super) fn open(
    mut source: Source,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let failed = |error| failure(error, name);
    let mut magic = [0; 2];
    source.read_exact(&mut magic).map_err(failed)?;
    let head = match magic[1] {
        b'7' => pam_head(&mut source, name)?,
        kind => head(&mut source, kind, name)?,
    };
    let Head {
        width,
        height,
        raster,
        colour,
        white,
        comments,
    } = head;
    let (width_px, height_px) = check_size((width, height), name, limits)?;
    let outline = Outline {
        width_px,
        height_px,
        colour,
        depth: match (raster, white) {
            (Raster::Float { .. }, _) => Depth::F32,
            (_, Some(256..)) => Depth::U16,
            _ => Depth::U8,
        },
    };
    let mut metadata = Metadata::default();
    let comments = String::from_utf8_lossy(&comments).trim().to_owned();
    if !comments.is_empty() {
        metadata.texts.push((COMMENT.to_owned(), comments));
    }
    let decoder = NetpbmDecoder {
        source,
        raster,
        white,
        outline,
    };
    let (decoder, omitted) = decoder.checked(name)?;
    let samples = (outline.row_len() * height_px) as u64;
    let header = Header {
        outline,
        orientation: Orientation::NoTransforms,
        metadata,
        omitted,
        animation: None,
        pages: None,
        streams_rows: false,
        // As 16-bit numbers, and as the samples; floats only as these.
        whole_bytes: samples * if outline.depth == Depth::U8 { 3 } else { 4 },
        rows_bytes: 0,
    };
    Ok((header, Box::new(decoder)))
}

/// The header of a file of that kind, 1 to 6, F or f.
fn head(source: &mut Source, kind: u8, name: &Path) -> Result<Head, Error> {
    let damaged = |reason: &str| Error::damaged(reason, FORMAT, name);
    let mut comments = Vec::new();
    let mut number = |source: &mut Source, what: &str| match header_number(source, &mut comments) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(damaged(&format!("its header has no {what}"))),
        Err(error) => Err(failure(error, name)),
    };
    let (width, height) = (number(source, "width")?, number(source, "height")?);
    let white = match kind {
        b'1' | b'4' | b'F' | b'f' => None,
        _ => Some(checked_white(number(source, "largest value")?, name)?),
    };
    let raster = match kind {
        b'1'..=b'3' => Raster::Plain,
        b'F' | b'f' => {
            let word = word_until(source, u8::is_ascii_whitespace);
            let word = word.map_err(|error| failure(error, name))?;
            let scale = str::from_utf8(&word)
                .ok()
                .and_then(|word| word.parse().ok());
            let scale = scale.filter(|scale: &f32| scale.is_finite() && *scale != 0.0);
            let scale = scale.ok_or_else(|| damaged("its header has no scale"))?;
            Raster::Float {
                is_little_endian: scale < 0.0,
            }
        }
        _ => Raster::Binary,
    };
    let is_rgb = matches!(kind, b'3' | b'6' | b'F');
    Ok(Head {
        width,
        height,
        raster,
        colour: Colour::new(!is_rgb, false),
        white,
        comments,
    })
}

/// The header of a PAM.
fn pam_head(source: &mut Source, name: &Path) -> Result<Head, Error> {
    let damaged = |reason: String| Error::damaged(reason, FORMAT, name);
    let [mut width, mut height, mut depth, mut white] = [None; 4];
    let mut kind = String::new();
    let mut comments = Vec::new();
    loop {
        let line = word_until(source, |byte| *byte == b'\n').map_err(|e| failure(e, name))?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            comments.extend(comment.bytes().chain([b'\n']));
            if comments.len() as u64 > MAX_METADATA_BYTES {
                return Err(damaged("its comments do not end".to_owned()));
            }
            continue;
        }
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        let number = || {
            let number = value.parse::<u32>().ok();
            number.ok_or_else(|| damaged(format!("its {key} is \"{value}\", expected a number")))
        };
        match key {
            "WIDTH" => width = Some(number()?),
            "HEIGHT" => height = Some(number()?),
            "DEPTH" => depth = Some(number()?),
            "MAXVAL" => white = Some(checked_white(number()?, name)?),
            // Several make one kind.
            "TUPLTYPE" if kind.is_empty() => value.clone_into(&mut kind),
            "TUPLTYPE" => kind = format!("{kind} {value}"),
            "ENDHDR" => break,
            "" => {}
            other => {
                return Err(damaged(format!(
                    "its header has an unknown key, \"{other}\""
                )));
            }
        }
    }
    let missing = |key: &str| damaged(format!("its header has no {key}"));
    let depth = depth.ok_or_else(|| missing("DEPTH"))?;
    let colour = match (kind.as_str(), depth) {
        ("BLACKANDWHITE" | "GRAYSCALE" | "", 1) => Colour::Grey,
        ("BLACKANDWHITE_ALPHA" | "GRAYSCALE_ALPHA" | "", 2) => Colour::GreyAlpha,
        ("RGB" | "", 3) => Colour::Rgb,
        ("RGB_ALPHA" | "", 4) => Colour::RgbAlpha,
        _ => {
            let reason = format!("{depth} samples per pixel of kind \"{kind}\"");
            return Err(Error::unsupported(reason, FORMAT, name));
        }
    };
    Ok(Head {
        width: width.ok_or_else(|| missing("WIDTH"))?,
        height: height.ok_or_else(|| missing("HEIGHT"))?,
        raster: Raster::Binary,
        colour,
        white: Some(white.ok_or_else(|| missing("MAXVAL"))?),
        comments,
    })
}

/// The largest value of samples, if it is one.
fn checked_white(white: u32, name: &Path) -> Result<u32, Error> {
    match white {
        1..=0xffff => Ok(white),
        other => {
            let reason = format!("its largest value is {other}, expected 1 to 65535");
            Err(Error::damaged(reason, FORMAT, name))
        }
    }
}

/// The bytes up to one that ends them, which is read too.
fn word_until(source: &mut Source, ends: impl Fn(&u8) -> bool) -> io::Result<Vec<u8>> {
    let mut word = Vec::new();
    loop {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        if ends(&byte[0]) {
            return Ok(word);
        }
        if word.len() as u64 == MAX_WORD_BYTES {
            let reason = "its header has an endless line";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        word.push(byte[0]);
    }
}

/// The next number of a header and the white space that ends it; `None` if there is something else.
/// Comments before and behind it are added to `comments`.
fn header_number(stream: &mut Source, comments: &mut Vec<u8>) -> io::Result<Option<u32>> {
    let mut number: Option<u32> = None;
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        match byte[0] {
            b'#' => {
                let mut limited = stream.take(MAX_METADATA_BYTES);
                limited.read_until(b'\n', comments)?;
                if comments.len() as u64 >= MAX_METADATA_BYTES {
                    return Ok(None);
                }
                if number.is_some() {
                    return Ok(number);
                }
            }
            digit @ b'0'..=b'9' => {
                let digit = u32::from(digit - b'0');
                let longer = number.unwrap_or(0).checked_mul(10);
                match longer.and_then(|longer| longer.checked_add(digit)) {
                    Some(longer) => number = Some(longer),
                    None => return Ok(None),
                }
            }
            white if white.is_ascii_whitespace() => {
                if number.is_some() {
                    return Ok(number);
                }
            }
            _ => return Ok(None),
        }
    }
}

impl NetpbmDecoder {
    /// Bytes of a binary raster; of a plain one the least that it can have.
    fn raster_bytes(&self) -> u64 {
        let rows = self.outline.height_px as u64;
        let row_len = self.outline.row_len() as u64;
        match (self.raster, self.white) {
            (Raster::Float { .. }, _) => 4 * row_len * rows,
            (Raster::Binary, None) => row_len.div_ceil(8) * rows,
            (Raster::Binary, Some(256..)) => 2 * row_len * rows,
            (Raster::Plain, Some(_)) => 2 * row_len * rows - 1,
            _ => row_len * rows,
        }
    }

    /// Checks that the file is long enough, before memory is allocated, and describes what follows the
    /// raster.
    fn checked(mut self, name: &Path) -> Result<(Self, Vec<String>), Error> {
        let needed = self.raster_bytes();
        let mut measure = || -> io::Result<(u64, Vec<String>)> {
            let start = self.source.stream_position()?;
            let found = self.source.len_bytes()?.saturating_sub(start);
            let mut rest = Vec::new();
            if self.raster != Raster::Plain && found > needed {
                self.source.seek(SeekFrom::Start(start + needed))?;
                rest = after_end::rest_of(&mut self.source)?;
                self.source.seek(SeekFrom::Start(start))?;
            }
            let omitted = after_end::described(&rest, false);
            Ok((found, omitted))
        };
        let (found, omitted) = measure().map_err(|error| failure(error, name))?;
        if found < needed {
            let reason = format!("{found} of {needed} bytes");
            return Err(Error::truncated(reason, FORMAT, name));
        }
        Ok((self, omitted))
    }

    /// Reads all samples as they are in the file; a white bit is 1.
    fn samples(&mut self) -> io::Result<Vec<u16>> {
        let (row_len, rows) = (self.outline.row_len(), self.outline.height_px);
        let mut samples = Vec::with_capacity(row_len * rows);
        if self.raster == Raster::Plain {
            let mut plain = PlainNumbers::new(&mut self.source, self.white.is_none());
            for _ in 0..row_len * rows {
                samples.push(plain.next()?);
            }
            if self.white.is_none() {
                samples.iter_mut().for_each(|bit| *bit = 1 - *bit);
            }
            return Ok(samples);
        }
        let mut row = vec![0; (self.raster_bytes() / rows as u64) as usize];
        for _ in 0..rows {
            self.source.read_exact(&mut row)?;
            match self.white {
                None => {
                    let bit = |at: usize| u16::from(row[at / 8] >> (7 - at % 8) & 1 == 0);
                    samples.extend((0..row_len).map(bit));
                }
                Some(256..) => {
                    let pairs = row.as_chunks::<2>().0;
                    samples.extend(pairs.iter().map(|pair| u16::from_be_bytes(*pair)));
                }
                Some(_) => samples.extend(row.iter().map(|byte| u16::from(*byte))),
            }
        }
        Ok(samples)
    }
}

impl NetpbmDecoder {
    /// Reads all floats.
    fn floats(&mut self, is_little_endian: bool) -> io::Result<Vec<f32>> {
        let (row_len, rows) = (self.outline.row_len(), self.outline.height_px);
        let mut samples = vec![0.0_f32; row_len * rows];
        for row in samples.chunks_exact_mut(row_len).rev() {
            self.source.read_exact(bytemuck::cast_slice_mut(row))?;
            if is_little_endian != cfg!(target_endian = "little") {
                row.iter_mut()
                    .for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
            }
        }
        Ok(samples)
    }
}

impl Decode for NetpbmDecoder {
    fn read_all(mut self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        if let Raster::Float { is_little_endian } = self.raster {
            let samples = self.floats(is_little_endian);
            return samples
                .map(Samples::F32)
                .map_err(|error| failure(error, name));
        }
        let samples = self.samples().map_err(|error| failure(error, name))?;
        let white = self.white.unwrap_or(1);
        if let Some(sample) = samples.iter().find(|sample| u32::from(**sample) > white) {
            let reason =
                format!("a sample is {sample}, above the largest value of its header, {white}");
            return Err(Error::damaged(reason, FORMAT, name));
        }
        // Rounded; exact where the largest value is that of the depth.
        let scaled = |sample: u16, to: u64| {
            let white = u64::from(white);
            (u64::from(sample) * to * 2 + white) / (2 * white)
        };
        Ok(match self.outline.depth {
            Depth::U16 => Samples::U16(samples.iter().map(|v| scaled(*v, 0xffff) as u16).collect()),
            _ => Samples::U8(samples.iter().map(|v| scaled(*v, 0xff) as u8).collect()),
        })
    }
}

/// The numbers of a plain raster.
struct PlainNumbers<'a> {
    bytes: io::Bytes<&'a mut Source>,
    /// Whether each digit is a number of its own.
    are_bits: bool,
}

impl<'a> PlainNumbers<'a> {
    fn new(source: &'a mut Source, are_bits: bool) -> Self {
        let bytes = source.bytes();
        Self { bytes, are_bits }
    }

    fn next(&mut self) -> io::Result<u16> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        let mut number: Option<u16> = None;
        let mut is_comment = false;
        loop {
            let byte = match (self.bytes.next().transpose()?, number) {
                (Some(byte), _) => byte,
                // The last number may end with the file.
                (None, Some(number)) => return Ok(number),
                (None, None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            match byte {
                b'\n' | b'\r' if is_comment => is_comment = false,
                _ if is_comment => {}
                b'#' => is_comment = true,
                b'0' | b'1' if self.are_bits => return Ok(u16::from(byte - b'0')),
                b'0'..=b'9' if !self.are_bits => {
                    let longer = number.unwrap_or(0).checked_mul(10);
                    let longer = longer.and_then(|n| n.checked_add(u16::from(byte - b'0')));
                    number = Some(longer.ok_or_else(|| invalid("a sample is above 65535"))?);
                }
                white if white.is_ascii_whitespace() => {
                    if let Some(number) = number {
                        return Ok(number);
                    }
                }
                other => {
                    let other = char::from(other).escape_default();
                    return Err(invalid(&format!("expected a number, found {other}")));
                }
            }
        }
    }
}

fn failure(error: io::Error, name: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::truncated("its raster is not complete", FORMAT, name)
        }
        io::ErrorKind::InvalidData => Error::damaged(error.to_string(), FORMAT, name),
        _ => Error::Read {
            path: name.to_owned(),
            source: error,
        },
    }
}
