//! NUT, the container in which frames go from and to ffmpeg: each frame has an exact time stamp.
//!
//! One stream. The reader ends at the first byte that is no NUT; files that are cut off are an error.
//!
//! Source: <https://git.ffmpeg.org/nut.git>, docs/nut.txt, version 3.

use std::io::{self, ErrorKind, Read, Write};

use crate::upscale::frames::Frame;

const FILE_ID: &[u8; 25] = b"nut/multimedia container\0";
const MAIN: [u8; 8] = *b"NM\x7A\x56\x1F\x5F\x04\xAD";
const STREAM: [u8; 8] = *b"NS\x11\x40\x5B\xF2\xF9\xDB";
const SYNCPOINT: [u8; 8] = *b"NK\xE4\xAD\xEE\xCA\x45\x69";
/// Headers above this have a checksum of their length.
const LONG_PACKET_BYTES: u64 = 4096;
/// Largest packet that is no frame.
const MAX_PACKET_BYTES: u64 = 1 << 24;
/// Bits of a time stamp that is coded without its upper ones, in files that are written.
const PTS_SHIFT: u64 = 7;

const KEY: u64 = 1;
const CODED_PTS: u64 = 8;
const STREAM_ID: u64 = 16;
const SIZE_MSB: u64 = 32;
const CHECKSUM: u64 = 64;
const RESERVED: u64 = 128;
const SIDE_DATA: u64 = 256;
const HEADER_INDEX: u64 = 1024;
const MATCH_TIME: u64 = 2048;
const CODED: u64 = 4096;
const INVALID: u64 = 8192;

/// The bytes that a file begins with. Files of the same stream can be joined if those after the first are
/// without them: headers may be repeated.
pub(super) const FILE_ID_BYTES: u64 = FILE_ID.len() as u64;

/// What the stream's header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NutStream {
    /// The pixel format of raw frames, as ffmpeg names it.
    pub(super) fourcc: Vec<u8>,
    /// Seconds per unit of a time stamp.
    pub(super) time_base: (u64, u64),
    pub(super) size_px: (u64, u64),
    /// Width to height of a pixel; (0, 0) if unknown.
    pub(super) pixel_aspect: (u64, u64),
}

/// What a frame code stands for.
#[derive(Clone, Copy)]
struct FrameCode {
    flags: u64,
    pts_delta: i64,
    size_factor: u64,
    size_lsb: u64,
    reserved: u64,
    header: u64,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("NUT: {what}"))
}

/// Variable-length integers.
trait ReadNut: Read {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn v(&mut self) -> io::Result<u64> {
        let mut value = 0_u64;
        loop {
            let byte = self.byte()?;
            if value >> 57 != 0 {
                return Err(invalid("an integer of more than 64 bits"));
            }
            value = value << 7 | u64::from(byte & 127);
            if byte < 128 {
                return Ok(value);
            }
        }
    }

    fn s(&mut self) -> io::Result<i64> {
        let value = self.v()?.wrapping_add(1);
        let half = (value >> 1) as i64;
        Ok(if value & 1 == 1 { -half } else { half })
    }

    fn block(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(count).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == count {
            true => Ok(bytes),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<R: Read + ?Sized> ReadNut for R {}

/// Reads the frames of a file.
pub(super) struct NutReader<R> {
    input: R,
    pub(super) stream: NutStream,
    pts_shift: u64,
    codes: Vec<FrameCode>,
    /// Bytes that frames can begin with without containing them.
    headers: Vec<Vec<u8>>,
    last_pts: i64,
}

impl<R: Read> NutReader<R> {
    /// Reads up to the header of the stream; `None` if there is no byte.
    pub(super) fn open(mut input: R) -> io::Result<Option<Self>> {
        let mut id = Vec::new();
        input.by_ref().take(FILE_ID_BYTES).read_to_end(&mut id)?;
        if id.is_empty() {
            return Ok(None);
        }
        if id != FILE_ID {
            return Err(invalid("no file"));
        }
        let packet = |input: &mut R, kind: [u8; 8]| match input.block(8)? == kind {
            true => packet(input),
            false => Err(invalid("an unexpected packet")),
        };
        let main = packet(&mut input, MAIN)?;
        let (codes, headers, time_base) = main_header(&mut &main[..])?;
        let header = packet(&mut input, STREAM)?;
        let header = &mut &header[..];
        let (_id, _class) = (header.v()?, header.v()?);
        let length = header.v()?;
        let fourcc = header.block(length)?;
        let _time_base = header.v()?;
        let pts_shift = header.v()?;
        if pts_shift > 16 {
            return Err(invalid("a shift of time stamps beyond 16"));
        }
        let (_distance, _delay, _flags) = (header.v()?, header.v()?, header.v()?);
        let length = header.v()?;
        header.block(length)?;
        let stream = NutStream {
            fourcc,
            time_base,
            size_px: (header.v()?, header.v()?),
            pixel_aspect: (header.v()?, header.v()?),
        };
        Ok(Some(Self {
            input,
            stream,
            pts_shift,
            codes,
            headers,
            last_pts: 0,
        }))
    }

    /// The next frame; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let mut code = [0];
            if self.input.read(&mut code)? == 0 {
                return Ok(None);
            }
            if code != *b"N" {
                return self.frame(self.codes[usize::from(code[0])]).map(Some);
            }
            let mut kind = *b"N.......";
            self.input.read_exact(&mut kind[1..])?;
            let packet = packet(&mut self.input)?;
            if kind == SYNCPOINT {
                // Of the only time base.
                self.last_pts = (&mut &packet[..]).v()? as i64;
            }
        }
    }

    fn frame(&mut self, code: FrameCode) -> io::Result<Frame> {
        let input = &mut self.input;
        let mut flags = code.flags;
        if flags & CODED != 0 {
            flags ^= input.v()?;
        }
        if flags & (INVALID | SIDE_DATA) != 0 {
            return Err(invalid("a frame of an unsupported kind"));
        }
        if flags & STREAM_ID != 0 && input.v()? != 0 {
            return Err(invalid("a second stream"));
        }
        let mut pts = self.last_pts.wrapping_add(code.pts_delta);
        if flags & CODED_PTS != 0 {
            let (coded, unit) = (input.v()? as i64, 1_i64 << self.pts_shift);
            // Its lower bits, nearest to the last one, or all of them.
            let first = self.last_pts - (unit - 1) / 2;
            pts = match coded < unit {
                true => ((coded - first) & (unit - 1)) + first,
                false => coded - unit,
            };
        }
        let mut size = code.size_lsb;
        if flags & SIZE_MSB != 0 {
            let msb = input.v()?.checked_mul(code.size_factor);
            let whole = msb.and_then(|msb| msb.checked_add(size));
            size = whole.ok_or_else(|| invalid("a frame of more than 64 bits"))?;
        }
        if flags & MATCH_TIME != 0 {
            input.s()?;
        }
        let mut header = code.header;
        if flags & HEADER_INDEX != 0 {
            header = input.v()?;
        }
        let reserved = match flags & RESERVED {
            0 => code.reserved,
            _ => input.v()?,
        };
        for _ in 0..reserved {
            input.v()?;
        }
        if flags & CHECKSUM != 0 {
            input.block(4)?;
        }
        let elided = match size > LONG_PACKET_BYTES {
            true => &[],
            false => {
                let header = usize::try_from(header).ok();
                let header = header.and_then(|header| self.headers.get(header));
                &header.ok_or_else(|| invalid("an unknown header"))?[..]
            }
        };
        let rest = size.checked_sub(elided.len() as u64);
        let rest = rest.ok_or_else(|| invalid("a frame shorter than its header"))?;
        let mut bytes = elided.to_vec();
        bytes.extend(input.block(rest)?);
        self.last_pts = pts;
        Ok(Frame { pts, bytes })
    }
}

/// The content of a packet whose start code has been read.
fn packet(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = input.v()?;
    if length > LONG_PACKET_BYTES {
        input.block(4)?;
    }
    match length {
        4..=MAX_PACKET_BYTES => input.block(length),
        _ => Err(invalid("a packet of an impossible length")),
    }
}

type MainHeader = (Vec<FrameCode>, Vec<Vec<u8>>, (u64, u64));

fn main_header(header: &mut &[u8]) -> io::Result<MainHeader> {
    if header.v()? != 3 {
        return Err(invalid("not version 3"));
    }
    let (streams, _distance, time_bases) = (header.v()?, header.v()?, header.v()?);
    if (streams, time_bases) != (1, 1) {
        return Err(invalid("more than one stream"));
    }
    let time_base = (header.v()?, header.v()?);
    let mut codes: Vec<FrameCode> = Vec::new();
    let (mut pts_delta, mut size_factor, mut index) = (0, 1, 0);
    let invalid_code = FrameCode {
        flags: INVALID,
        pts_delta,
        size_factor,
        size_lsb: 0,
        reserved: 0,
        header: 0,
    };
    while codes.len() < 256 {
        let (flags, fields) = (header.v()?, header.v()?);
        if fields > 0 {
            pts_delta = header.s()?;
        }
        if fields > 1 {
            size_factor = header.v()?;
        }
        if fields > 2 && header.v()? != 0 {
            return Err(invalid("a second stream"));
        }
        let size = if fields > 3 { header.v()? } else { 0 };
        let reserved = if fields > 4 { header.v()? } else { 0 };
        let count = match fields {
            0..=5 => size_factor.wrapping_sub(size),
            _ => header.v()?,
        };
        if fields > 6 {
            header.s()?;
        }
        if fields > 7 {
            index = header.v()?;
        }
        for _ in 8..fields {
            header.v()?;
        }
        if !(1..=256).contains(&count) {
            return Err(invalid("an impossible table of frame codes"));
        }
        for j in 0..count {
            if codes.len() == usize::from(b'N') {
                codes.push(invalid_code);
            }
            codes.push(FrameCode {
                flags,
                pts_delta,
                size_factor,
                size_lsb: size + j,
                reserved,
                header: index,
            });
        }
    }
    let mut headers = vec![Vec::new()];
    for _ in 0..header.v()? {
        let length = header.v()?;
        headers.push(header.block(length)?);
    }
    Ok((codes, headers, time_base))
}

fn put_v(bytes: &mut Vec<u8>, value: u64) {
    for group in (1..10).rev() {
        if value >> (7 * group) != 0 {
            bytes.push((value >> (7 * group)) as u8 | 128);
        }
    }
    bytes.push((value & 127) as u8);
}

/// CRC with the polynomial 0x04C11DB7, from 0, upper bits first.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = 0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            crc = crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
        }
    }
    crc.to_be_bytes()
}

/// A packet of numbers, of which `text` follows the one at its place.
fn put_packet(bytes: &mut Vec<u8>, kind: [u8; 8], content: &[u8]) {
    bytes.extend(kind);
    put_v(bytes, content.len() as u64 + 4);
    bytes.extend(content);
    bytes.extend(checksum(content));
}

/// Writes the headers of a file.
pub(super) fn write_headers(output: &mut impl Write, stream: &NutStream) -> io::Result<()> {
    let content = |numbers: &[u64]| {
        let mut content = Vec::new();
        numbers.iter().for_each(|v| put_v(&mut content, *v));
        content
    };
    let mut bytes = FILE_ID.to_vec();
    let (num, den) = stream.time_base;
    // Version, streams, distance, time bases; all codes with six fields: of no pts, factor 1, stream 0,
    // size 0, nothing reserved, 255 of them; no headers.
    let flags = KEY | CODED_PTS | SIZE_MSB | CHECKSUM;
    let main = [3, 1, 1 << 16, 1, num, den, flags, 6, 0, 1, 0, 0, 0, 255, 0];
    put_packet(&mut bytes, MAIN, &content(&main));
    // Number, class.
    let mut header = content(&[0, 0, stream.fourcc.len() as u64]);
    header.extend(&stream.fourcc);
    let (width, height) = stream.size_px;
    let (across, down) = stream.pixel_aspect;
    // Time base, shift, distance, delay, flags, no further data; no colour space.
    header.extend(content(&[0, PTS_SHIFT, 1, 0, 0, 0]));
    header.extend(content(&[width, height, across, down, 0]));
    put_packet(&mut bytes, STREAM, &header);
    output.write_all(&bytes)
}

/// Writes a frame. Its time stamp is not negative.
pub(super) fn write_frame(output: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let pts = u64::try_from(frame.pts).unwrap_or_default();
    let mut syncpoint = Vec::new();
    put_v(&mut syncpoint, pts);
    put_v(&mut syncpoint, 0);
    let mut bytes = Vec::new();
    put_packet(&mut bytes, SYNCPOINT, &syncpoint);
    // The first code.
    let mut header = vec![0];
    put_v(&mut header, pts + (1 << PTS_SHIFT));
    put_v(&mut header, frame.bytes.len() as u64);
    bytes.extend(&header);
    bytes.extend(checksum(&header));
    output.write_all(&bytes)?;
    output.write_all(&frame.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_with_their_time_stamps() {
        let stream = NutStream {
            fourcc: b"Y3\x0b\x0a".to_vec(),
            time_base: (1001, 30000),
            size_px: (1920, 1081),
            pixel_aspect: (4, 3),
        };
        let mut file = Vec::new();
        write_headers(&mut file, &stream).expect("written");
        let stamps = [0, 1, 127, 128, 1 << 40];
        for (at, pts) in stamps.into_iter().enumerate() {
            let bytes = vec![at as u8; 3000 * at];
            write_frame(&mut file, &Frame { pts, bytes }).expect("written");
        }
        let mut reader = NutReader::open(&file[..]).expect("read").expect("a header");
        assert_eq!(reader.stream, stream);
        for (at, pts) in stamps.into_iter().enumerate() {
            let frame = reader.next().expect("read").expect("a frame");
            assert_eq!((frame.pts, frame.bytes), (pts, vec![at as u8; 3000 * at]));
        }
        assert!(reader.next().expect("read").is_none());
        // Every file that is cut off ends without a panic.
        for length in (0..file.len()).step_by(7) {
            if let Ok(Some(mut reader)) = NutReader::open(&file[..length]) {
                while let Ok(Some(_)) = reader.next() {}
            }
        }
        assert!(NutReader::open(&b""[..]).expect("read").is_none());
    }
}
