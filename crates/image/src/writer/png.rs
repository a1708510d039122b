//! PNG files, whole or row by row.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BUFFER_BYTES, EncodeError};
use crate::animation::{Animation, Delay};
use crate::metadata::{self, Metadata};
use crate::samples::{Colour, Depth, Outline};

/// A PNG file, its header written.
pub(super) struct PngWriter<W: Write + 'static> {
    state: State<W>,
    destination: Shared<W>,
    depth: Depth,
    /// Samples of 16 bits in the file's byte order.
    big_endian: Vec<u8>,
}

enum State<W: Write + 'static> {
    Header(::png::Writer<Shared<W>>),
    Rows(Box<::png::StreamWriter<'static, Shared<W>>>),
    /// An error ended the file.
    Failed,
}

impl<W: Write + 'static> PngWriter<W> {
    pub(super) fn new(
        destination: W,
        outline: &Outline,
        metadata: &Metadata,
        compression: ::png::Compression,
        animation: Option<Animation>,
    ) -> Result<Self, EncodeError> {
        let mut info = metadata::png::info_of(metadata);
        info.width = outline.width_px as u32;
        info.height = outline.height_px as u32;
        info.color_type = match outline.colour {
            Colour::Grey => ::png::ColorType::Grayscale,
            Colour::GreyAlpha => ::png::ColorType::GrayscaleAlpha,
            Colour::Rgb => ::png::ColorType::Rgb,
            Colour::RgbAlpha => ::png::ColorType::Rgba,
        };
        info.bit_depth = match outline.depth {
            Depth::U8 => ::png::BitDepth::Eight,
            _ => ::png::BitDepth::Sixteen,
        };
        let destination = Shared::new(destination);
        let write_header = || {
            let mut encoder = ::png::Encoder::with_info(destination.clone(), info)?;
            encoder.set_compression(compression);
            encoder.set_filter(::png::Filter::Adaptive);
            if let Some(Animation { frames, plays }) = animation {
                let frames = u32::try_from(frames).unwrap_or(u32::MAX);
                encoder.set_animated(frames, plays)?;
            }
            let mut writer = encoder.write_header()?;
            metadata::png::write(metadata, &mut writer)?;
            Ok(writer)
        };
        let writer = write_header()
            .map_err(|error: ::png::EncodingError| destination.first_error(error.into()))?;
        Ok(Self {
            state: State::Header(writer),
            destination,
            depth: outline.depth,
            big_endian: Vec::new(),
        })
    }

    /// Writes whole rows, in the machine's byte order.
    pub(super) fn write_rows(&mut self, rows: &[u8]) -> Result<(), EncodeError> {
        let written = self.try_write_rows(rows);
        written.map_err(|error| self.destination.first_error(error))
    }

    fn try_write_rows(&mut self, rows: &[u8]) -> Result<(), EncodeError> {
        self.state = match std::mem::replace(&mut self.state, State::Failed) {
            State::Header(writer) => {
                let stream = writer.into_stream_writer_with_size(BUFFER_BYTES);
                State::Rows(Box::new(stream?))
            }
            state => state,
        };
        let State::Rows(stream) = &mut self.state else {
            return Err("rows after an error".into());
        };
        for piece in rows.chunks(BUFFER_BYTES) {
            let piece = if self.depth == Depth::U16 {
                in_big_endian(piece, &mut self.big_endian)
            } else {
                piece
            };
            stream.write_all(piece)?;
        }
        Ok(())
    }

    /// Writes all rows, in the machine's byte order, and the end of the file.
    pub(super) fn write_all(mut self, samples: &[u8]) -> Result<W, EncodeError> {
        let State::Header(mut writer) = self.state else {
            return Err("all rows after some rows".into());
        };
        let samples = if self.depth == Depth::U16 {
            in_big_endian(samples, &mut self.big_endian)
        } else {
            samples
        };
        writer
            .write_image_data(samples)
            .and_then(|()| writer.finish())
            .map_err(|error| self.destination.first_error(error.into()))?;
        self.destination.into_inner()
    }

    /// Writes a frame of an animation of 8 bits.
    pub(super) fn write_frame(&mut self, samples: &[u8], delay: Delay) -> Result<(), EncodeError> {
        let State::Header(writer) = &mut self.state else {
            return Err("a frame after rows".into());
        };
        let (numerator, denominator) = delay.seconds();
        let written = writer
            .set_frame_delay(numerator, denominator)
            .and_then(|()| writer.write_image_data(samples));
        written.map_err(|error| self.destination.first_error(error.into()))
    }

    /// Writes the end of the file.
    pub(super) fn finish(self) -> Result<W, EncodeError> {
        let finished = match self.state {
            State::Header(writer) => writer.finish(),
            State::Rows(stream) => stream.finish(),
            State::Failed => return Err("the end after an error".into()),
        };
        finished.map_err(|error| self.destination.first_error(error.into()))?;
        self.destination.into_inner()
    }
}

fn in_big_endian<'a>(samples: &[u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    buffer.clear();
    let samples = samples.as_chunks::<2>().0.iter();
    buffer.extend(samples.flat_map(|&v| u16::from_ne_bytes(v).to_be_bytes()));
    buffer
}

/// A destination that keeps the first error of a write: the encoder wraps errors, and ignores those at
/// the end of the file, which its stream writer writes when it is dropped.
struct Shared<W>(Arc<Mutex<Destination<W>>>);

struct Destination<W> {
    writer: W,
    error: Option<io::Error>,
}

impl<W: Write> Shared<W> {
    fn new(writer: W) -> Self {
        let error = None;
        Self(Arc::new(Mutex::new(Destination { writer, error })))
    }

    fn lock(&self) -> MutexGuard<'_, Destination<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of a write that caused `error`, or `error` itself.
    fn first_error(&self, error: EncodeError) -> EncodeError {
        match self.lock().error.take() {
            Some(first) => first.into(),
            None => error,
        }
    }

    /// The destination, or an error that the encoder ignored. The encoder has dropped its handle.
    fn into_inner(self) -> Result<W, EncodeError> {
        let Some(destination) = Arc::into_inner(self.0) else {
            return Err("the encoder did not end".into());
        };
        let destination = destination
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match destination.error {
            Some(error) => Err(error.into()),
            None => Ok(destination.writer),
        }
    }
}

impl<W> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write> Write for Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut destination = self.lock();
        let written = destination.writer.write(bytes);
        if let Err(error) = &written
            && error.kind() != io::ErrorKind::Interrupted
        {
            let copy = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            destination.error.get_or_insert(copy);
        }
        written
    }

    /// Left to the caller: the encoder flushes after every chunk.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
