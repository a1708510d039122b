//! Frames of a video, upscaled one by one.
//!
//! One thread reads ahead and another writes, so that both overlap with the network. At most one frame
//! waits on either side, which bounds the memory.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use wdsr_image::{Colour, Depth, Image, Samples};
use wdsr_model::UpscaleError;
use wdsr_upscale::{Error, ImageUpscaler, Size};

use super::failure::explained;
use super::yuv::{self, Coding, Layout};
use crate::exit::OutOfMemory;
use crate::signals;

/// A frame.
pub(crate) struct Frame {
    /// Time stamp in units of the video's time base; 0 where the video has none.
    pub(crate) pts: i64,
    pub(crate) bytes: Vec<u8>,
}

/// What the bytes of a frame mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameFormat {
    /// R G B interleaved, 8 bit.
    Rgb24,
    /// Planes.
    Planar(Layout, Coding),
}

impl FrameFormat {
    pub(crate) fn frame_bytes(self, size: Size) -> u128 {
        match self {
            Self::Rgb24 => size.pixels() * 3,
            Self::Planar(layout, _) => layout.frame_bytes(size),
        }
    }

    /// Depth of the frames between input and output.
    fn depth(self) -> Depth {
        match self {
            Self::Rgb24 => Depth::U8,
            // Rounded only once, when they become YUV again.
            Self::Planar(..) => Depth::F32,
        }
    }

    fn image_of(self, frame: Vec<u8>, size: Size) -> Image {
        let samples = match self {
            Self::Rgb24 => Samples::U8(frame),
            Self::Planar(layout, coding) => Samples::F32(yuv::to_rgb(&frame, size, layout, coding)),
        };
        Image::new(size.width_px, size.height_px, Colour::Rgb, samples)
    }

    fn frame_of(self, image: Image) -> Vec<u8> {
        let size = Size::of(&image);
        match (self, image.samples) {
            (Self::Rgb24, Samples::U8(samples)) => samples,
            (Self::Planar(layout, coding), Samples::F32(samples)) => {
                yuv::from_rgb(&samples, size, layout, coding)
            }
            (format, samples) => panic!("frames of {format:?} from {:?}", samples.depth()),
        }
    }
}

/// How stored frames are turned to be upright: the signs of a display matrix `[[a, b], [c, d]]`, by which
/// a pixel at (x, y) is shown at (ax + cy, bx + dy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(pub(crate) [[i8; 2]; 2]);

impl Turn {
    pub(crate) const NONE: Self = Self([[1, 0], [0, 1]]);

    /// Whether width and height are exchanged.
    pub(crate) fn is_sideways(self) -> bool {
        self.0[0][0] == 0
    }

    /// The size of an upright frame.
    pub(crate) fn size(self, stored: Size) -> Size {
        match self.is_sideways() {
            false => stored,
            true => Size {
                width_px: stored.height_px,
                height_px: stored.width_px,
            },
        }
    }

    fn upright(self, image: Image) -> Image {
        let Samples::F32(samples) = &image.samples else {
            assert_eq!(self, Self::NONE, "the turn of frames that are no floats");
            return image;
        };
        if self == Self::NONE {
            return image;
        }
        let stored = Size::of(&image);
        let size = self.size(stored);
        let Self([[a, b], [c, d]]) = self;
        // A negative axis begins at the far edge.
        let along = |by_x: i8, by_y: i8, x: usize, y: usize, length: usize| match (by_x, by_y) {
            (1, _) => x,
            (-1, _) => length - 1 - x,
            (_, 1) => y,
            _ => length - 1 - y,
        };
        let mut turned = vec![0.0; samples.len()];
        let pixels = turned.as_chunks_mut::<3>().0;
        for (at, pixel) in samples.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = (at % stored.width_px, at / stored.width_px);
            let to_x = along(a, c, x, y, size.width_px);
            let to_y = along(b, d, x, y, size.height_px);
            pixels[to_y * size.width_px + to_x] = *pixel;
        }
        Image::new(
            size.width_px,
            size.height_px,
            Colour::Rgb,
            Samples::F32(turned),
        )
    }
}

/// The work on the frames of a video.
pub(crate) struct FrameUpscaler<'a> {
    /// The video, for messages.
    pub(crate) name: &'a Path,
    pub(crate) upscaler: ImageUpscaler<'a>,
    pub(crate) format: FrameFormat,
    /// Size of stored frames.
    pub(crate) stored: Size,
    pub(crate) turn: Turn,
}

/// The error of a run on `name` that a signal stopped.
pub(crate) fn stopped(name: PathBuf) -> anyhow::Error {
    let source = UpscaleError::Stopped;
    explained(Error::Network { name, source })
}

/// What [`FrameUpscaler::run`] did.
pub(crate) struct FramesDone<T> {
    /// Frames that were upscaled.
    pub(crate) count: u64,
    /// Whether the source ended, and had a frame.
    pub(crate) is_whole: bool,
    /// Why it ended: an error of the source, after the frames before it; or one that stopped the work.
    pub(crate) result: anyhow::Result<()>,
    /// The outcome of the writer.
    pub(crate) written: T,
}

impl<'a> FrameUpscaler<'a> {
    /// For upright frames of a size.
    pub(crate) fn new(
        name: &'a Path,
        upscaler: ImageUpscaler<'a>,
        strength: f32,
        format: FrameFormat,
        size: Size,
    ) -> Self {
        // Frames of different ranges would flicker.
        let upscaler = upscaler.stretch_range(false).at_strength(strength);
        Self {
            name,
            upscaler,
            format,
            stored: size,
            turn: Turn::NONE,
        }
    }

    /// # Errors
    /// If a frame needs more memory than there is or than `max_bytes`.
    pub(crate) fn check_memory(&self, max_bytes: Option<u64>) -> Result<(), OutOfMemory> {
        let target = self.upscaler.plan().target();
        // One that is read, one that waits, and the current one, on either side.
        let waiting_bytes =
            3 * (self.format.frame_bytes(self.stored) + self.format.frame_bytes(target));
        let check =
            self.upscaler
                .check_memory(Colour::Rgb, self.format.depth(), waiting_bytes, max_bytes);
        check.map_err(|error| {
            let name = self.name.display();
            OutOfMemory(format!(
                "{name}: {error}; raise --max-memory or use smaller frames"
            ))
        })
    }

    /// Upscales all frames. `stops` tells, by the number of frames so far, whether to stop before the next
    /// one.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn run<T>(
        &self,
        frames: &Receiver<Next>,
        writer: FrameWriter<T>,
        bar: &ProgressBar,
        stops: impl Fn(u64) -> bool,
    ) -> anyhow::Result<FramesDone<T>> {
        let report = |_: usize, _: usize| signals::flow();
        let mut count = 0_u64;
        let frame_error = |number: u64, source: UpscaleError| {
            let name = format!("{}: frame {number}", self.name.display()).into();
            explained(Error::Network { name, source })
        };
        let (is_whole, result) = loop {
            if stops(count) {
                break (false, Err(frame_error(count + 1, UpscaleError::Stopped)));
            }
            let Frame { pts, bytes } = match frames.recv_timeout(Duration::from_millis(100)) {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::End(result)) => break (count > 0, result),
                // An idle source must not delay an interrupt.
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => panic!("the reader ended without an end"),
            };
            let image = self.turn.upright(self.format.image_of(bytes, self.stored));
            let large = match self.upscaler.upscale_with_progress(image, &report) {
                Ok(large) => large,
                Err(error) => break (false, Err(frame_error(count + 1, error))),
            };
            let bytes = self.format.frame_of(large);
            if !writer.send(Frame { pts, bytes }) {
                // `finish` returns the error.
                break (false, Ok(()));
            }
            count += 1;
            bar.inc(1);
        };
        bar.finish_and_clear();
        let written = writer.finish(is_whole)?;
        Ok(FramesDone {
            count,
            is_whole,
            result,
            written,
        })
    }
}

/// A message of the reader; [`Next::End`] is the last.
pub(crate) enum Next {
    Frame(Frame),
    /// Whether the source ended after a whole frame.
    End(anyhow::Result<()>),
}

/// Reads frames on a thread of its own, which ends with the source or the receiver. `read` returns `None`
/// at the end.
pub(crate) fn read_ahead(
    mut read: impl FnMut() -> anyhow::Result<Option<Frame>> + Send + 'static,
) -> anyhow::Result<Receiver<Next>> {
    let (sender, receiver) = sync_channel(1);
    let read_all = move || {
        loop {
            let next = match read() {
                Ok(Some(frame)) => Next::Frame(frame),
                Ok(None) => Next::End(Ok(())),
                Err(error) => Next::End(Err(error)),
            };
            let ends = matches!(next, Next::End(_));
            if sender.send(next).is_err() || ends {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("reader".to_owned());
    thread.spawn(read_all).context("cannot start a thread")?;
    Ok(receiver)
}

/// A thread that writes frames.
pub(crate) struct FrameWriter<T> {
    /// `None` after the last frame of a video.
    frames: SyncSender<Option<Frame>>,
    thread: JoinHandle<anyhow::Result<T>>,
}

impl<T: Send + 'static> FrameWriter<T> {
    /// `write` takes frames until `None`; a channel that closes before it is that of a stopped run.
    pub(crate) fn start(
        write: impl FnOnce(&Receiver<Option<Frame>>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(1);
        let thread = thread::Builder::new().name("writer".to_owned());
        let thread = thread
            .spawn(move || write(&receiver))
            .context("cannot start a thread")?;
        Ok(Self {
            frames: sender,
            thread,
        })
    }
}

impl<T> FrameWriter<T> {
    /// Sends a frame; false if the thread has ended with an error.
    fn send(&self, frame: Frame) -> bool {
        self.frames.send(Some(frame)).is_ok()
    }

    /// Waits until all frames are written.
    fn finish(self, is_whole: bool) -> anyhow::Result<T> {
        if is_whole {
            // A writer that has ended with an error returns it below.
            let _ended = self.frames.send(None);
        }
        drop(self.frames);
        self.thread
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    }
}
