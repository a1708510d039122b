//! Animated PNG, WebP and GIF files.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{BUFFER_BYTES, EncodeError, Encoding, encode_webp, png, unbuffered, write_error};
use crate::animation::{Animation, Frame, WholeDelays};
use crate::deadline::{Deadline, Stops};
use crate::error::Error;
use crate::format::Format;
use crate::metadata::Metadata;
use crate::pixels::Image;
use crate::samples::{Colour, Outline, Samples};

/// Writes an animation frame by frame, each frame whole.
///
/// PNG and WebP keep every sample, GIF reduces each frame to 256 colours and makes pixels whose alpha is
/// below a half transparent and others opaque. PNG keeps delays as fractions; WebP rounds them to
/// milliseconds and GIF to hundredths of a second, so that their sum stays right.
pub struct AnimationWriter<W: Write + Seek + 'static> {
    name: PathBuf,
    format: Format,
    outline: Outline,
    frames_left: usize,
    deadline: Deadline,
    delays: WholeDelays,
    encoder: Encoder<W>,
}

enum Encoder<W: Write + Seek + 'static> {
    Png(png::PngWriter<BufWriter<W>>),
    WebP(WebpWriter<BufWriter<W>>),
    Gif(gif::Encoder<BufWriter<W>>),
}

impl<W: Write + Seek + 'static> AnimationWriter<W> {
    /// Starts a file of `format` with the size and colour of all frames. Errors name the file by `name`.
    ///
    /// # Errors
    ///
    /// If the format holds no animations or cannot hold such an image ([`Format::check`]), or the destination
    /// cannot be written.
    ///
    /// # Panics
    ///
    /// If the animation has no frame.
    pub fn new(
        destination: W,
        name: &Path,
        format: Format,
        outline: &Outline,
        metadata: &Metadata,
        encoding: Encoding,
        animation: Animation,
    ) -> Result<Self, Error> {
        let frames = animation.frames;
        assert!(frames > 0, "an animation of {frames} frames");
        format.check_animation(frames, name)?;
        format.check(outline, name)?;
        let size = (outline.width_px, outline.height_px);
        let outline = Outline {
            colour: format.stored_colour(outline.colour),
            ..*outline
        };
        let metadata = metadata.fitted(format, size, outline.colour);
        let failed = |error| write_error(error, format, name);
        let file = BufWriter::with_capacity(BUFFER_BYTES, destination);
        let encoder = match format {
            Format::WebP => {
                let writer = WebpWriter::new(file, &outline, metadata, animation.plays);
                Encoder::WebP(writer.map_err(|error| failed(error.into()))?)
            }
            Format::Gif => {
                let plays = (frames > 1).then_some(animation.plays);
                let encoder = gif_encoder(file, &outline, plays);
                Encoder::Gif(encoder.map_err(|error| failed(gif_error(error)))?)
            }
            _ => {
                let compression = encoding.png_compression.level();
                let writer =
                    png::PngWriter::new(file, &outline, &metadata, compression, Some(animation));
                Encoder::Png(writer.map_err(failed)?)
            }
        };
        Ok(Self {
            name: name.to_owned(),
            format,
            outline,
            frames_left: frames,
            deadline: Deadline::default(),
            delays: WholeDelays::default(),
            encoder,
        })
    }

    /// Sets when writing ends; never by default. It is checked between frames.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Writes the next frame. Its colour may lack the alpha of the animation: it is opaque then.
    ///
    /// # Errors
    ///
    /// If the destination cannot be written.
    ///
    /// # Panics
    ///
    /// If the frame has another size or depth, alpha that the animation lacks, or there are more frames than
    /// announced.
    pub fn write_frame(&mut self, frame: &Frame) -> Result<(), Error> {
        let Frame { image, delay } = frame;
        assert!(self.frames_left > 0, "more frames than announced");
        self.frames_left -= 1;
        let found = image.outline();
        let expected = Outline {
            colour: found.colour,
            ..self.outline
        };
        assert_eq!(found, expected, "outline of the frame and of the animation");
        let (outline, deadline) = (self.outline, self.deadline);
        let samples = in_colour(image, outline.colour);
        let in_time = deadline.check().map_err(Into::into);
        let written = in_time.and_then(|()| match &mut self.encoder {
            Encoder::Png(writer) => writer.write_frame(&samples, *delay),
            Encoder::WebP(writer) => {
                let image = without_clock(deadline, move || webp_image(&samples, &outline))?;
                writer.write_frame(&image?, &outline, self.delays.next(*delay, 1.0))
            }
            Encoder::Gif(encoder) => {
                let delay = self.delays.next(*delay, 10.0);
                let frame = without_clock(deadline, move || gif_frame(samples, &outline, delay))?;
                encoder.write_frame(&frame).map_err(gif_error)
            }
        });
        let written = written.map_err(|error| write_error(error, self.format, &self.name));
        self.deadline.explained(written, &self.name)
    }

    /// Finishes the file after its last frame, and returns the destination.
    ///
    /// # Errors
    ///
    /// If the destination cannot be written.
    ///
    /// # Panics
    ///
    /// If frames are missing.
    pub fn finish(self) -> Result<W, Error> {
        assert_eq!(self.frames_left, 0, "frames left of the animation");
        let written = match self.encoder {
            Encoder::Png(writer) => writer.finish().and_then(unbuffered),
            Encoder::WebP(writer) => writer.finish().map_err(Into::into).and_then(unbuffered),
            Encoder::Gif(encoder) => encoder
                .into_inner()
                .map_err(Into::into)
                .and_then(unbuffered),
        };
        let written = written.map_err(|error| write_error(error, self.format, &self.name));
        self.deadline.explained(written, &self.name)
    }
}

impl Format {
    /// Checks that the format can hold an animation of so many frames. Errors name the file by `name`.
    ///
    /// # Errors
    ///
    /// If there is more than one frame, and the format holds one image.
    pub fn check_animation(self, frames: usize, name: &Path) -> Result<(), Error> {
        if frames == 1 || self.holds_animations() {
            return Ok(());
        }
        Err(Error::CannotHold {
            path: name.to_owned(),
            format: self,
            what: format!("an animation of {frames} frames"),
            remedy: "png, webp, gif can".to_owned(),
        })
    }
}

/// 8-bit samples in the colour of the animation.
fn in_colour(image: &Image, colour: Colour) -> Vec<u8> {
    let Samples::U8(samples) = &image.samples else {
        unreachable!("animations have 8 bits: {:?}", image.outline());
    };
    let from = image.colour;
    assert!(
        colour.has_alpha() || !from.has_alpha(),
        "a frame of {from:?} in an animation of {colour:?}"
    );
    if from == colour {
        return samples.clone();
    }
    let channels = from.channels();
    let pixels = samples.chunks_exact(channels);
    let mut out = Vec::with_capacity(pixels.len() * colour.channels());
    for pixel in pixels {
        match from.is_grey() {
            true if !colour.is_grey() => out.extend([pixel[0]; 3]),
            true => out.push(pixel[0]),
            false => out.extend(&pixel[..3]),
        }
        if colour.has_alpha() {
            out.push(if from.has_alpha() {
                pixel[channels - 1]
            } else {
                255
            });
        }
    }
    out
}

/// A GIF file of one frame.
pub(super) fn encode_gif(
    samples: Vec<u8>,
    outline: Outline,
    deadline: Deadline,
) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = gif_encoder(Vec::new(), &outline, None).map_err(gif_error)?;
    let frame = without_clock(deadline, move || gif_frame(samples, &outline, 0))?;
    encoder.write_frame(&frame).map_err(gif_error)?;
    Ok(encoder.into_inner()?)
}

/// The result of an encoder that looks at no clock.
fn without_clock<T: Send + 'static>(
    deadline: Deadline,
    encode: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EncodeError> {
    Ok(deadline.within(Path::new(""), Stops::Late, move || Ok(encode()))?)
}

fn gif_encoder<W: Write>(
    file: W,
    outline: &Outline,
    plays: Option<u32>,
) -> Result<gif::Encoder<W>, gif::EncodingError> {
    // The format has no longer side.
    let (width, height) = (outline.width_px as u16, outline.height_px as u16);
    let mut encoder = gif::Encoder::new(file, width, height, &[])?;
    match plays {
        None => {}
        Some(0) => encoder.set_repeat(gif::Repeat::Infinite)?,
        // The count is that of repetitions.
        Some(plays) => {
            let plays = u16::try_from(plays).unwrap_or(u16::MAX);
            encoder.set_repeat(gif::Repeat::Finite(plays))?;
        }
    }
    Ok(encoder)
}

/// A frame of at most 256 colours, chosen by the crate `gif`.
fn gif_frame(mut samples: Vec<u8>, outline: &Outline, delay: u64) -> gif::Frame<'static> {
    /// 1 is the best choice of colours, 30 the fastest.
    const SPEED: i32 = 10;
    let (width, height) = (outline.width_px as u16, outline.height_px as u16);
    let has_alpha = outline.colour.has_alpha();
    let mut frame = if has_alpha {
        for pixel in samples.as_chunks_mut::<4>().0 {
            pixel[3] = if pixel[3] < 128 { 0 } else { 255 };
        }
        gif::Frame::from_rgba_speed(width, height, &mut samples, SPEED)
    } else {
        gif::Frame::from_rgb_speed(width, height, &samples, SPEED)
    };
    frame.delay = u16::try_from(delay).unwrap_or(u16::MAX);
    // Nothing of a frame shows through the transparent pixels of the next.
    frame.dispose = if has_alpha {
        gif::DisposalMethod::Background
    } else {
        gif::DisposalMethod::Keep
    };
    frame
}

fn gif_error(error: gif::EncodingError) -> EncodeError {
    match error {
        gif::EncodingError::Io(error) => error.into(),
        error => error.into(),
    }
}

/// An animated WebP file of lossless frames.
///
/// Source: RFC 9649, section 2.7.
struct WebpWriter<W> {
    file: W,
    /// EXIF and XMP, for the end of the file.
    blocks: [Option<Vec<u8>>; 2],
    /// Length of the file so far.
    length: u64,
}

impl<W: Write + Seek> WebpWriter<W> {
    fn new(file: W, outline: &Outline, metadata: Metadata, plays: u32) -> io::Result<Self> {
        const ICC: u8 = 0x20;
        const ALPHA: u8 = 0x10;
        const EXIF: u8 = 0x08;
        const XMP: u8 = 0x04;
        const ANIMATION: u8 = 0x02;
        let mut flags = ANIMATION;
        for (is_there, flag) in [
            (metadata.icc_profile.is_some(), ICC),
            (outline.colour.has_alpha(), ALPHA),
            (metadata.exif.is_some(), EXIF),
            (metadata.xmp.is_some(), XMP),
        ] {
            flags |= if is_there { flag } else { 0 };
        }
        let mut writer = Self {
            file,
            blocks: [metadata.exif, metadata.xmp],
            length: 0,
        };
        writer.append(b"RIFF\0\0\0\0WEBP")?;
        let size = size_of(outline);
        writer.chunk(b"VP8X", &[&[flags, 0, 0, 0][..], &size].concat())?;
        if let Some(profile) = &metadata.icc_profile {
            writer.chunk(b"ICCP", profile)?;
        }
        let plays = u16::try_from(plays).unwrap_or(u16::MAX).to_le_bytes();
        const BACKGROUND: [u8; 4] = [0; 4];
        writer.chunk(b"ANIM", &[&BACKGROUND[..], &plays].concat())?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn chunk(&mut self, kind: &[u8; 4], content: &[u8]) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, "WebP files end at 4 GiB");
        let length = u32::try_from(content.len()).map_err(|_| too_long())?;
        if self.length + u64::from(length) + 9 > u64::from(u32::MAX) {
            return Err(too_long());
        }
        self.append(kind)?;
        self.append(&length.to_le_bytes())?;
        self.append(content)?;
        self.append(&[0][..content.len() % 2])
    }

    /// Writes a frame, whose image is a chunk of a still file.
    fn write_frame(
        &mut self,
        image: &[u8],
        outline: &Outline,
        delay_ms: u64,
    ) -> Result<(), EncodeError> {
        const PLACE: [u8; 6] = [0; 6];
        const LONGEST_MS: u64 = (1 << 24) - 1;
        // The frame replaces the one before, also where it is transparent.
        const DO_NOT_BLEND: u8 = 2;
        let delay = delay_ms.min(LONGEST_MS).to_le_bytes();
        let size = size_of(outline);
        let content = [&PLACE[..], &size, &delay[..3], &[DO_NOT_BLEND], image].concat();
        Ok(self.chunk(b"ANMF", &content)?)
    }

    fn finish(mut self) -> io::Result<W> {
        let [exif, xmp] = std::mem::take(&mut self.blocks);
        for (kind, block) in [(b"EXIF", exif), (b"XMP ", xmp)] {
            if let Some(block) = block {
                self.chunk(kind, &block)?;
            }
        }
        let length = (self.length - 8) as u32;
        self.file.seek(SeekFrom::Start(4))?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(self.file)
    }
}

/// The chunk of a lossless image.
fn webp_image(samples: &[u8], outline: &Outline) -> Result<Vec<u8>, EncodeError> {
    const FILE_HEADER_BYTES: usize = 12;
    let colour = if outline.colour.has_alpha() {
        image_webp::ColorType::Rgba8
    } else {
        image_webp::ColorType::Rgb8
    };
    let size_px = (outline.width_px as u32, outline.height_px as u32);
    let mut file = encode_webp(samples, size_px, colour, [const { Vec::new() }; 3])?;
    let chunk = file.split_off(FILE_HEADER_BYTES);
    if !chunk.starts_with(b"VP8L") {
        return Err("the encoder wrote no lossless image".into());
    }
    Ok(chunk)
}

/// Width and height less one, in three bytes each.
fn size_of(outline: &Outline) -> [u8; 6] {
    let [w0, w1, w2, _] = (outline.width_px as u32 - 1).to_le_bytes();
    let [h0, h1, h2, _] = (outline.height_px as u32 - 1).to_le_bytes();
    [w0, w1, w2, h0, h1, h2]
}
