//! Frames of animated PNG, WebP and GIF files, laid over each other by the crate `image`.

use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{AnimationDecoder, ImageResult};

use super::{Decode, animation, read_error};
use crate::animation::{Delay, Frame};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::format::Format;
use crate::pixels::Image;
use crate::samples::{Colour, Outline, Samples};

type DecodedFrames = image::Frames<'static>;

/// The decoder of an animation, or of a GIF image.
pub(super) struct FrameDecoder {
    outline: Outline,
    format: Format,
    is_animation: bool,
    start: Box<dyn FnOnce() -> ImageResult<DecodedFrames> + Send>,
}

impl FrameDecoder {
    pub(super) fn new<D: AnimationDecoder<'static>>(
        outline: Outline,
        format: Format,
        is_animation: bool,
        start: impl FnOnce() -> ImageResult<D> + Send + 'static,
    ) -> Self {
        Self {
            outline,
            format,
            is_animation,
            start: Box::new(|| start().map(AnimationDecoder::into_frames)),
        }
    }
}

impl Decode for FrameDecoder {
    fn read_all(self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        let format = self.format;
        if self.is_animation {
            return Err(animation(format, name));
        }
        let outline = self.outline;
        let mut frames = self.frames(name)?;
        let frame = frames.next().ok_or_else(|| no_frame(format, name))?;
        let frame = frame.map_err(|error| read_error(error, format, name))?;
        Ok(samples_of(frame, &outline))
    }

    fn frames(self: Box<Self>, name: &Path) -> Result<DecodedFrames, Error> {
        (self.start)().map_err(|error| read_error(error, self.format, name))
    }
}

fn no_frame(format: Format, name: &Path) -> Error {
    Error::damaged("it has no frame", format, name)
}

/// The samples of a frame in the colour of the animation.
fn samples_of(frame: image::Frame, outline: &Outline) -> Samples {
    let samples = Samples::U8(frame.into_buffer().into_raw());
    if outline.colour.has_alpha() {
        samples
    } else {
        samples.pick(4, &[0, 1, 2])
    }
}

/// The frames of an animation in order, by [`Reader::into_frames`](super::Reader::into_frames).
pub struct Frames {
    pub(super) name: PathBuf,
    pub(super) format: Format,
    /// As the pixels are stored.
    pub(super) outline: Outline,
    pub(super) orientation: Orientation,
    pub(super) deadline: Deadline,
    /// How many are missing yet.
    pub(super) left: usize,
    pub(super) decoded: DecodedFrames,
}

impl Iterator for Frames {
    type Item = Result<Frame, Error>;

    /// The next frame: RGB, with alpha unless all of it is opaque.
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let left = self.left;
        let frame = self.read();
        if frame.is_err() {
            self.left = 0;
        }
        let frame = frame.and_then(|frame| match frame {
            Some(frame) => Ok(frame),
            None => {
                let reason = format!("{} frames are missing", left + 1);
                Err(Error::truncated(reason, self.format, &self.name))
            }
        });
        Some(self.deadline.explained(frame, &self.name))
    }
}

impl Frames {
    fn read(&mut self) -> Result<Option<Frame>, Error> {
        let (format, name) = (self.format, &self.name);
        let in_time = self.deadline.check();
        in_time.map_err(|error| read_error(error.into(), format, name))?;
        let Some(frame) = self.decoded.next() else {
            return Ok(None);
        };
        let frame = frame.map_err(|error| read_error(error, format, name))?;
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let samples = samples_of(frame, &self.outline);
        let size = (self.outline.width_px, self.outline.height_px);
        let image = Image::new(size.0, size.1, self.outline.colour, samples);
        Ok(Some(Frame {
            image: without_opaque_alpha(image).turned(self.orientation),
            delay: Delay::of_ms(numerator, denominator),
        }))
    }
}

/// RGB of an image whose alpha is opaque everywhere.
fn without_opaque_alpha(image: Image) -> Image {
    let Samples::U8(samples) = &image.samples else {
        return image;
    };
    let is_opaque = samples.as_chunks::<4>().0.iter().all(|[.., a]| *a == 255);
    if image.colour != Colour::RgbAlpha || !is_opaque {
        return image;
    }
    let samples = image.samples.pick(4, &[0, 1, 2]);
    Image::new(image.width_px, image.height_px, Colour::Rgb, samples)
}
