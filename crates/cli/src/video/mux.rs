//! The result's file: the video of all segments, and whatever else the input has.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::thread;
use std::time::Duration;

use super::ffmpeg::{CommandLine, FfmpegError, Process};
use super::probe::{Probe, Stream, Video};
use crate::upscale::frames;
use crate::{WrongUsage, signals};

/// Subtitles that containers can hold instead of others.
const SUBTITLES: [&str; 3] = ["mov_text", "webvtt", "subrip"];
/// Tags of a video that are not those of its result.
const STALE_TAGS: [&str; 6] = [
    "BPS",
    "NUMBER_OF_",
    "DURATION",
    "_STATISTICS",
    "ENCODER",
    "ROTATE",
];

/// A stream that is copied.
#[derive(Clone)]
struct Copied {
    stream: Stream,
    /// The codec to which it is converted.
    codec: Option<&'static str>,
}

/// What becomes of the input's streams beside the video.
#[derive(Clone)]
pub(super) struct Mux<'a> {
    input: &'a Path,
    pub(super) video: &'a Video,
    /// Time of the input that becomes 0.
    start_s: f64,
    copied: Vec<Copied>,
    /// Streams that the container cannot hold.
    pub(super) lost: Vec<String>,
    /// Tag of the encoded video.
    tag: Option<&'static str>,
    /// Pixel format of the encoded video.
    pub(super) stored: String,
}

impl<'a> Mux<'a> {
    /// Finds out which streams a container can hold, by a file of a part of the video.
    ///
    /// # Errors
    /// [`WrongUsage`] if it cannot hold the video.
    pub(super) fn plan(
        input: &'a Path,
        probe: &Probe,
        video: &'a Video,
        part: &Path,
        output: &Path,
    ) -> anyhow::Result<Self> {
        let is_other = |stream: &&Stream| {
            // These are made again, of chapters and of the tag "timecode".
            let is_made = matches!(&*stream.codec_tag_string, "tmcd" | "text");
            stream.index != video.stream.index && !(is_made && stream.codec_type == "data")
        };
        let encoded = Probe::of(part, "")?;
        let is_hevc = encoded
            .video()
            .is_some_and(|stream| stream.codec_name == "hevc");
        let suffix = output.extension().and_then(OsStr::to_str);
        let copied = probe.streams.iter().filter(is_other);
        let copied = copied.map(|stream| Copied {
            stream: stream.clone(),
            codec: None,
        });
        let mut mux = Self {
            input,
            video,
            start_s: probe.start_s(),
            copied: copied.collect(),
            lost: Vec::new(),
            // Players of Apple want this tag.
            tag: matches!(suffix, Some("mp4" | "mov" | "m4v"))
                .then_some("hvc1")
                .filter(|_| is_hevc),
            stored: encoded
                .video()
                .map_or_else(String::new, |stream| stream.pix_fmt.clone()),
        };
        let is_possible = |mux: &Self| {
            let copy = |stdin: &mut ChildStdin| io::copy(&mut std::fs::File::open(part)?, stdin);
            match mux.run(output, true, |stdin| copy(stdin).map(|_| ())) {
                Ok(()) => Ok(true),
                Err(error) => match error.downcast_ref() {
                    Some(FfmpegError::Failed { source: None, .. }) => Ok(false),
                    _ => Err(error),
                },
            }
        };
        if is_possible(&mux)? {
            return Ok(mux);
        }
        let candidates = std::mem::take(&mut mux.copied);
        if let Err(error) = mux.run(output, true, |stdin| {
            io::copy(&mut std::fs::File::open(part)?, stdin).map(|_| ())
        }) {
            return Err(match error.downcast_ref() {
                Some(FfmpegError::Failed {
                    source: None,
                    messages,
                    ..
                }) => {
                    let output = output.extension().unwrap_or_default().display();
                    WrongUsage(format!(
                        "a file with the suffix .{output} cannot hold the encoded video; choose another suffix \
                         of OUT or another encoder (-- -c:v ...): {messages}"
                    ))
                    .into()
                }
                _ => error,
            });
        }
        for Copied { stream, .. } in candidates {
            let is_subtitle = stream.codec_type == "subtitle";
            let converted = SUBTITLES.map(Some).into_iter().filter(|_| is_subtitle);
            let mut is_held = false;
            for codec in [None].into_iter().chain(converted) {
                let alone = Self {
                    copied: vec![Copied {
                        stream: stream.clone(),
                        codec,
                    }],
                    ..mux.clone()
                };
                if is_possible(&alone)? {
                    mux.copied.extend(alone.copied);
                    is_held = true;
                    break;
                }
            }
            if !is_held {
                mux.lost.push(name_of(&stream));
            }
        }
        Ok(mux)
    }

    /// The copied streams, for the line of the result.
    pub(super) fn copied(&self) -> Vec<String> {
        let name = |copied: &Copied| match copied.codec {
            None => name_of(&copied.stream),
            Some(codec) => format!("{} as {codec}", name_of(&copied.stream)),
        };
        self.copied.iter().map(name).collect()
    }

    /// Copied streams that a result does not have: containers drop empty ones.
    pub(super) fn missing_in(&self, result: &Probe) -> Vec<String> {
        let kinds = ["video", "audio", "subtitle", "attachment"];
        let missing = kinds.into_iter().filter_map(|kind| {
            let is_of_kind = |stream: &&Stream| stream.codec_type == kind;
            let copied = self.copied.iter().map(|copied| &copied.stream);
            let upscaled = usize::from(kind == "video");
            let wanted = copied.filter(is_of_kind).count() + upscaled;
            let found = result.streams.iter().filter(is_of_kind).count();
            (found < wanted).then(|| format!("{} of {wanted} {kind} streams", wanted - found))
        });
        missing.collect()
    }

    /// Writes the file `output`; `write` writes the encoded video.
    ///
    /// # Errors
    /// If ffmpeg fails, or a signal ends it.
    pub(super) fn run(
        &self,
        output: &Path,
        is_trial: bool,
        write: impl FnOnce(&mut ChildStdin) -> io::Result<()> + Send,
    ) -> anyhow::Result<()> {
        let line = self.line(output, is_trial);
        let mut process =
            Process::start("ffmpeg", line, Stdio::null(), output.display().to_string())?;
        let mut stdin = process.stdin();
        thread::scope(|scope| {
            let writer = scope.spawn(move || write(&mut stdin));
            while !process.has_ended() {
                if signals::requested() {
                    drop(process);
                    return Err(frames::stopped(self.input.to_owned()));
                }
                thread::sleep(Duration::from_millis(5));
            }
            process.finish()?;
            let written = writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A trial reads no more than it needs.
            if !is_trial {
                written?;
            }
            Ok(())
        })
    }

    fn line(&self, output: &Path, is_trial: bool) -> CommandLine {
        let mut line = CommandLine::ffmpeg().words("-copyts -f nut -i pipe:0");
        if is_trial {
            line = line.words("-t 0.1");
        }
        if self.start_s != 0.0 {
            line = line.words(&format!("-itsoffset {:.6}", -self.start_s));
        }
        line = line
            .words("-i")
            .file(self.input)
            // Also FLAC and others in MP4, which older versions call experimental.
            .words("-map 0:v:0 -c copy -strict -2 -map_metadata 1 -map_chapters 1");
        let index = self.video.stream.index;
        line = line.words(&format!("-map_metadata:s:0 1:s:{index}"));
        if let Some(tag) = self.tag {
            line = line.words(&format!("-tag:0 {tag}"));
        }
        for (at, copied) in (1..).zip(&self.copied) {
            let index = copied.stream.index;
            line = line.words(&format!("-map 1:{index} -map_metadata:s:{at} 1:s:{index}"));
            if let Some(codec) = copied.codec {
                line = line.words(&format!("-c:{at} {codec}"));
            }
        }
        for name in self.video.stream.tags.keys() {
            let upper = name.to_uppercase();
            if STALE_TAGS.iter().any(|stale| upper.starts_with(stale)) {
                line = line.words("-metadata:s:0").word(format!("{name}="));
            }
        }
        // For formats of video that have no tags of their own.
        let tags = &self.video.tags;
        let transfer = tags.transfer.as_deref().map(|transfer| match transfer {
            "bt470m" => "gamma22",
            "bt470bg" => "gamma28",
            _ => transfer,
        });
        // Options have other names than ffprobe prints.
        let matrix = tags.matrix.as_deref().map(|matrix| match matrix {
            "gbr" => "rgb",
            _ => matrix,
        });
        for (option, value) in [
            ("color_range", tags.range.as_deref()),
            ("colorspace", matrix),
            ("color_primaries", tags.primaries.as_deref()),
            ("color_trc", transfer),
            ("chroma_sample_location", tags.chroma.as_deref()),
        ] {
            if let Some(value) = value {
                line = line.words(&format!("-{option}:v:0 {value}"));
            }
        }
        line.file(output)
    }
}

/// A stream, by its kind, number and codec.
fn name_of(stream: &Stream) -> String {
    let (kind, index) = (&stream.codec_type, stream.index);
    match &*stream.codec_name {
        "" => format!("{kind} {index}"),
        codec => format!("{kind} {index} ({codec})"),
    }
}
