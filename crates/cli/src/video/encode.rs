//! Segments of the result, as ffmpeg encodes them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ChildStdin;

use wdsr_upscale::Size;

use super::ffmpeg::{CommandLine, Process};
use super::nut::{self, NutStream};
use super::probe::{ColourTags, Video};
use super::segments::Segments;
use crate::upscale::frames::{Frame, FrameWriter};

/// How segments are encoded.
#[derive(Clone)]
pub(super) struct Encoding {
    line: CommandLine,
    /// The frames.
    stream: NutStream,
    /// The result, for errors.
    output: String,
}

impl Encoding {
    /// `decoded` has the pixel format and the time base of the frames.
    pub(super) fn new(
        video: &Video,
        decoded: &NutStream,
        target: Size,
        options: &[String],
        output: String,
    ) -> Self {
        let ColourTags {
            range,
            matrix,
            primaries,
            transfer,
            chroma,
        } = &video.tags;
        let parameters = [
            ("range", range),
            ("colorspace", matrix),
            ("color_primaries", primaries),
            ("color_trc", transfer),
        ];
        let parameters = parameters.iter().filter_map(|(name, value)| {
            let value = value.as_deref()?;
            Some(format!("{name}={value}"))
        });
        let parameters = Vec::from_iter(parameters).join(":");
        let (num, den) = video.time_base;
        let frame_bytes = video.pixels.layout.frame_bytes(target);
        let mut line = CommandLine::ffmpeg()
            // Eight frames, from which ffmpeg estimates the rate.
            .words(&format!(
                "-probesize {} -copyts -f nut -i pipe:0",
                8 * frame_bytes + 4096
            ))
            .words(&format!("-vf setparams={parameters} -fps_mode passthrough"))
            .words(&format!(
                "-enc_time_base {num}/{den} -pix_fmt {}",
                video.pixels.encoded
            ));
        if let Some(chroma) = chroma {
            line = line.words(&format!("-chroma_sample_location {chroma}"));
        }
        for option in options {
            line = line.word(option);
        }
        Self {
            line: line.words("-avoid_negative_ts disabled -f nut pipe:1"),
            stream: NutStream {
                size_px: (target.width_px as u64, target.height_px as u64),
                pixel_aspect: video.pixel_aspect,
                ..decoded.clone()
            },
            output,
        }
    }

    fn start(&self, (file, path): (File, PathBuf)) -> anyhow::Result<Encoder> {
        let line = self.line.clone();
        let mut process = Process::start(
            "ffmpeg",
            line,
            file.try_clone()?.into(),
            self.output.clone(),
        )?;
        let mut stdin = BufWriter::new(process.stdin());
        // An encoder that has ended tells why at its end.
        let _ended = nut::write_headers(&mut stdin, &self.stream);
        Ok(Encoder {
            process,
            stdin: Some(stdin),
            file,
            path,
            frames: 0,
        })
    }

    /// Encodes one black frame into a file of that name.
    ///
    /// # Errors
    /// If the options of the encoder do not serve.
    pub(super) fn try_out(&self, path: PathBuf, bytes: usize) -> anyhow::Result<()> {
        let mut encoder = self.start((File::create(&path)?, path))?;
        let bytes = vec![0; bytes];
        let _ended = encoder.write(&Frame { pts: 0, bytes });
        encoder.close();
        encoder.process.finish()?;
        Ok(())
    }

    /// A thread that encodes frames into segments. Its outcome is the segments: all of them at the end of
    /// the video, those that are complete if the run is stopped.
    pub(super) fn writer(self, mut segments: Segments) -> anyhow::Result<FrameWriter<Segments>> {
        FrameWriter::start(move |frames| {
            let mut count = segments.frames();
            let mut current: Option<Encoder> = None;
            // The one before, which may have frames to encode.
            let mut last: Option<Encoder> = None;
            while let Ok(frame) = frames.recv() {
                let Some(frame) = frame else {
                    for encoder in last.take().into_iter().chain(current) {
                        encoder.finish(&mut segments)?;
                    }
                    return Ok(segments);
                };
                let mut encoder = match current.take() {
                    Some(encoder) => encoder,
                    None => self.start(segments.create(count)?)?,
                };
                if let Err(error) = encoder.write(&frame) {
                    encoder.close();
                    encoder.process.finish()?;
                    return Err(error.into());
                }
                count += 1;
                if encoder.frames < segments.length_frames() {
                    current = Some(encoder);
                    continue;
                }
                encoder.close();
                if let Some(last) = last.replace(encoder) {
                    last.finish(&mut segments)?;
                }
            }
            if let Some(last) = last {
                last.finish(&mut segments)?;
            }
            Ok(segments)
        })
    }
}

/// An encoder of one segment.
struct Encoder {
    process: Process,
    /// `None` after the last frame.
    stdin: Option<BufWriter<ChildStdin>>,
    file: File,
    path: PathBuf,
    frames: u64,
}

impl Encoder {
    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.frames += 1;
        match &mut self.stdin {
            Some(stdin) => nut::write_frame(stdin, frame),
            None => unreachable!("a frame after the last one"),
        }
    }

    /// Ends the input.
    fn close(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            let _ended = stdin.flush();
        }
    }

    /// Waits for the segment and adds it.
    fn finish(mut self, segments: &mut Segments) -> anyhow::Result<()> {
        self.close();
        self.process.finish()?;
        segments.add(&self.file, &self.path, self.frames)
    }
}
