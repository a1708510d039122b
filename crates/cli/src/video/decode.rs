//! The frames of a video, as ffmpeg decodes them.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};

use super::ffmpeg::{CommandLine, FfmpegError, Process};
use super::nut::{NutReader, NutStream};
use super::probe::Video;
use crate::progress;
use crate::upscale::failure::Refused;
use crate::upscale::frames::Frame;

/// A video of which fewer frames could be read than it announces.
#[derive(Debug, thiserror::Error)]
#[error("{}: {frames} frames could be read{}, the result has those: {messages}", name.display(), of(*announced))]
struct Partial {
    name: PathBuf,
    frames: u64,
    announced: Option<u64>,
    messages: String,
}

fn of(announced: Option<u64>) -> String {
    announced.map_or_else(String::new, |count| format!(" of {count}"))
}

pub(super) struct Decoder {
    name: PathBuf,
    /// `None` after the end.
    process: Option<Process>,
    reader: NutReader<BufReader<ChildStdout>>,
    video: Video,
    /// Time stamp that becomes 0.
    origin: i64,
    /// Frames so far, skipped ones included.
    frames: u64,
    last_pts: i64,
}

impl Decoder {
    /// Starts after the first `skipped` frames. `start_s` is the time of the file that becomes 0. `None` if
    /// there are no further frames.
    ///
    /// # Errors
    /// [`Refused`] if the video has no frame.
    pub(super) fn start(
        name: &Path,
        video: &Video,
        start_s: f64,
        skipped: u64,
        deinterlaces: bool,
    ) -> anyhow::Result<Option<Self>> {
        let mut filters = vec![format!("select=gte(n\\,{skipped})")];
        if deinterlaces {
            filters.insert(0, "bwdif=mode=send_frame".to_owned());
        }
        let (num, den) = video.time_base;
        let line = CommandLine::ffmpeg()
            .words("-copyts -noautorotate -i")
            .file(name)
            .words(&format!(
                "-map 0:{} -map_chapters -1 -map_metadata -1 -vf",
                video.stream.index
            ))
            .word(filters.join(","))
            .words(&format!("-fps_mode passthrough -enc_time_base {num}/{den}"))
            .words(&format!("-c:v rawvideo -pix_fmt {}", video.pixels.decoded))
            .words("-avoid_negative_ts disabled -f nut pipe:1");
        let work = name.display().to_string();
        let mut process = Process::start("ffmpeg", line, Stdio::piped(), work)?;
        drop(process.stdin());
        let stdout = BufReader::with_capacity(1 << 20, process.stdout());
        let Some(reader) = NutReader::open(stdout)? else {
            let messages = match process.finish() {
                Ok(messages) | Err(FfmpegError::Failed { messages, .. }) => messages,
                Err(error) => return Err(error.into()),
            };
            if skipped > 0 {
                return Ok(None);
            }
            let name = name.display();
            return Err(Refused(format!("{name}: no frame could be read: {messages}")).into());
        };
        let (num, den) = reader.stream.time_base;
        let origin = (start_s * den as f64 / num as f64).round() as i64;
        Ok(Some(Self {
            name: name.to_owned(),
            process: Some(process),
            reader,
            video: video.clone(),
            origin,
            frames: skipped,
            last_pts: 0,
        }))
    }

    pub(super) fn stream(&self) -> &NutStream {
        &self.reader.stream
    }

    /// The next frame; `None` at the end. Its time stamp is not negative.
    ///
    /// # Errors
    /// At the end, if the video is shorter than it announces.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Frame>> {
        let end = match self.reader.next() {
            Ok(Some(frame)) => {
                self.frames += 1;
                self.last_pts = frame.pts;
                let pts = (frame.pts - self.origin).max(0);
                return Ok(Some(Frame { pts, ..frame }));
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let Some(process) = self.process.take() else {
            return Ok(None);
        };
        let finished = process.finish();
        let has_failed = finished.is_err() || end.is_some();
        let messages = match finished {
            Ok(messages) | Err(FfmpegError::Failed { messages, .. }) => messages,
            Err(error) => return Err(error.into()),
        };
        let announced = self.video.announced_frames;
        let is_suspicious = !messages.is_empty() || announced.is_some_and(|n| self.frames < n);
        if has_failed || is_suspicious && self.ends_early() {
            return Err(Partial {
                name: self.name.clone(),
                frames: self.frames,
                announced,
                messages,
            }
            .into());
        }
        if !messages.is_empty() {
            let name = self.name.display();
            progress::note(&format!("warning: {name}: ffmpeg reported: {messages}"));
        }
        Ok(None)
    }

    /// Whether the last frame ends before the end that the file announces.
    fn ends_early(&self) -> bool {
        let (num, den) = self.reader.stream.time_base;
        let last_s = self.last_pts as f64 * num as f64 / den as f64;
        let end = self.video.announced_end_s;
        end.is_some_and(|end_s| last_s + 2.5 / self.video.rate < end_s)
    }
}
