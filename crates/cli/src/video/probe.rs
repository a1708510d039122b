//! What ffprobe tells about a video.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use serde::Deserialize;
use wdsr_upscale::Size;

use super::ffmpeg::{CommandLine, Process};
use crate::upscale::failure::Refused;
use crate::upscale::frames::Turn;
use crate::upscale::yuv::{Chroma, Coding, Layout, Matrix, Range};

/// The oldest ffmpeg with `-fps_mode`.
const OLDEST: (u32, u32) = (5, 1);

/// A file as ffprobe describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Probe {
    pub(super) program_version: Version,
    #[serde(default)]
    pub(super) streams: Vec<Stream>,
    #[serde(default)]
    pub(super) chapters: Vec<serde_json::Value>,
    #[serde(default)]
    pub(super) format: Container,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Container {
    pub(super) start_time: Option<String>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    pub(super) index: usize,
    pub(super) codec_type: String,
    pub(super) codec_name: String,
    pub(super) codec_tag_string: String,
    width: usize,
    height: usize,
    pub(super) pix_fmt: String,
    color_range: Option<String>,
    color_space: Option<String>,
    color_transfer: Option<String>,
    color_primaries: Option<String>,
    chroma_location: Option<String>,
    field_order: Option<String>,
    sample_aspect_ratio: Option<String>,
    r_frame_rate: String,
    avg_frame_rate: String,
    time_base: String,
    start_time: Option<String>,
    duration: Option<String>,
    nb_frames: Option<String>,
    pub(super) nb_read_packets: Option<String>,
    closed_captions: u8,
    side_data_list: Vec<SideData>,
    disposition: Disposition,
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SideData {
    side_data_type: String,
    displaymatrix: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Disposition {
    attached_pic: u8,
}

impl Probe {
    /// # Errors
    /// [`Refused`] if ffprobe cannot read the file.
    pub(super) fn of(path: &Path, options: &str) -> anyhow::Result<Self> {
        let line = CommandLine::default()
            .words(
                "-v error -of json -show_program_version -show_streams -show_chapters -show_format",
            )
            .words(options)
            .file(path);
        let mut process =
            Process::start("ffprobe", line, Stdio::piped(), path.display().to_string())?;
        let mut json = Vec::new();
        drop(process.stdin());
        process.stdout().read_to_end(&mut json)?;
        if let Err(error) = process.finish() {
            return Err(Refused(format!("{error}; expected a video that ffmpeg reads")).into());
        }
        let probe: Self = serde_json::from_slice(&json)
            .with_context(|| format!("{}: cannot understand ffprobe", path.display()))?;
        let version = &probe.program_version.version;
        let mut numbers = version.split(['.', '-']).map(str::parse);
        // Builds of a branch have a name instead.
        if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) {
            let (major, minor): (u32, u32) = (major, minor);
            anyhow::ensure!(
                (major, minor) >= OLDEST,
                "expected ffmpeg 5.1 or newer, found {version} on the PATH"
            );
        }
        Ok(probe)
    }

    /// The stream that is upscaled: the first of moving images.
    pub(super) fn video(&self) -> Option<&Stream> {
        let is_video = |stream: &&Stream| stream.codec_type == "video";
        let mut videos = self.streams.iter().filter(is_video);
        videos.find(|stream| stream.disposition.attached_pic == 0)
    }

    /// Seconds at which the file starts, if that is not where its time starts: as in transport streams.
    pub(super) fn start_s(&self) -> f64 {
        let of_file = seconds(self.format.start_time.as_deref()).unwrap_or(0.0);
        let of_video = self.video().and_then(|v| seconds(v.start_time.as_deref()));
        if of_file > 0.0 {
            of_file
        } else {
            of_video.unwrap_or(0.0).min(0.0)
        }
    }
}

fn seconds(text: Option<&str>) -> Option<f64> {
    text?.parse().ok()
}

/// A fraction such as 30000/1001 or 16:9; `None` if it is 0.
fn fraction(text: &str) -> Option<(u64, u64)> {
    let (num, den) = text.split_once(['/', ':'])?;
    let (num, den) = (num.parse().ok()?, den.parse().ok()?);
    (num > 0 && den > 0).then_some((num, den))
}

/// Text of ffprobe that says something.
fn told(text: &Option<String>) -> Option<&str> {
    let is_told = |text: &&str| !matches!(*text, "unknown" | "unspecified" | "reserved");
    text.as_deref().filter(is_told)
}

/// The colour tags of a stream, by ffmpeg's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ColourTags {
    pub(super) range: Option<String>,
    pub(super) matrix: Option<String>,
    pub(super) primaries: Option<String>,
    pub(super) transfer: Option<String>,
    pub(super) chroma: Option<String>,
}

/// The pixels of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    /// What ffmpeg decodes to.
    pub(super) decoded: String,
    /// What ffmpeg encodes; the same bytes.
    pub(super) encoded: String,
    pub(super) layout: Layout,
    pub(super) is_rgb: bool,
    pub(super) has_alpha: bool,
}

impl Pixels {
    /// The planar format that holds the samples of `name` without a change.
    fn of(name: &str, tags: &ColourTags) -> Option<Self> {
        let has_alpha = matches!(name, "rgba" | "bgra" | "argb" | "abgr" | "pal8")
            || ["yuva", "gbrap", "ya", "rgba64", "bgra64"]
                .iter()
                .any(|start| name.starts_with(start));
        let planar = match name {
            "nv12" | "nv21" => "yuv420p",
            "nv16" | "yuyv422" | "uyvy422" | "yvyu422" => "yuv422p",
            "nv24" | "nv42" => "yuv444p",
            "rgb24" | "bgr24" | "rgba" | "bgra" | "argb" | "abgr" | "pal8" => "gbrp",
            "0rgb" | "0bgr" | "rgb0" | "bgr0" => "gbrp",
            "rgb48le" | "rgb48be" | "bgr48le" | "bgr48be" => "gbrp16le",
            "rgba64le" | "rgba64be" | "bgra64le" | "bgra64be" => "gbrp16le",
            "ya8" => "gray",
            "ya16le" | "ya16be" => "gray16le",
            _ => name,
        };
        let planar = planar
            .replace("p010", "yuv420p10")
            .replace("p210", "yuv422p10");
        let planar = planar
            .replace("yuva", "yuv")
            .replace("gbrap", "gbrp")
            .replace("be", "le");
        let rest = ["yuvj4", "yuv4", "gbrp", "gray"];
        let (kind, rest) = rest
            .iter()
            .find_map(|kind| Some((*kind, planar.strip_prefix(kind)?)))?;
        let (chroma, bits) = match (kind, rest.split_at_checked(3)) {
            ("gray", _) => (None, rest),
            ("gbrp", _) => (Some([Chroma::Each; 2]), rest),
            (_, Some((sampling, bits))) => {
                let [x, y] = chroma_at(tags.chroma.as_deref());
                let chroma = match sampling {
                    "20p" => [x, y],
                    "22p" => [x, Chroma::Each],
                    "40p" => [Chroma::Each, y],
                    "44p" => [Chroma::Each; 2],
                    _ => return None,
                };
                (Some(chroma), bits)
            }
            _ => return None,
        };
        let bits = match bits {
            "" => 8,
            bits => bits.strip_suffix("le")?.parse().ok()?,
        };
        Some(Self {
            encoded: planar.replace("yuvj", "yuv"),
            decoded: planar,
            layout: (8..=16)
                .contains(&bits)
                .then_some(Layout { chroma, bits })?,
            is_rgb: kind == "gbrp",
            has_alpha,
        })
    }
}

/// Where chroma lies along x and y, by ffmpeg's name. Without one it is at the left.
fn chroma_at(name: Option<&str>) -> [Chroma; 2] {
    use Chroma::{Between, Even};
    match name {
        Some("center") => [Between, Between],
        Some("topleft") => [Even, Even],
        Some("top") => [Between, Even],
        _ => [Even, Between],
    }
}

/// The video of a file, and what its frames need.
#[derive(Clone, Debug)]
pub(super) struct Video {
    pub(super) stream: Stream,
    /// Of stored frames, which [`turn`](Self::turn) makes upright.
    pub(super) stored: Size,
    pub(super) turn: Turn,
    pub(super) pixels: Pixels,
    pub(super) coding: Coding,
    /// Those of the result: all of the input, and those that were guessed.
    pub(super) tags: ColourTags,
    /// Width to height of an upright pixel; (0, 0) if unknown.
    pub(super) pixel_aspect: (u64, u64),
    pub(super) time_base: (u64, u64),
    pub(super) is_interlaced: bool,
    /// The number of frames that the file announces.
    pub(super) announced_frames: Option<u64>,
    /// The time at which the file announces the end, in seconds of its time stamps.
    pub(super) announced_end_s: Option<f64>,
    /// Frames per second.
    pub(super) rate: f64,
}

impl Video {
    /// `matrix` and `range` replace those of the file.
    ///
    /// # Errors
    /// [`Refused`] if there is no video or its pixels are of an unsupported kind.
    pub(super) fn of(
        probe: &Probe,
        name: &Path,
        matrix: Option<Matrix>,
        range: Option<Range>,
    ) -> Result<Self, Refused> {
        let refused = |message: String| Refused(format!("{}: {message}", name.display()));
        let Some(stream) = probe.video() else {
            return Err(refused(
                "expected a video, found none in the file".to_owned(),
            ));
        };
        let stored = Size {
            width_px: stream.width,
            height_px: stream.height,
        };
        let mut tags = ColourTags {
            range: told(&stream.color_range).map(str::to_owned),
            matrix: told(&stream.color_space).map(str::to_owned),
            primaries: told(&stream.color_primaries).map(str::to_owned),
            transfer: told(&stream.color_transfer).map(str::to_owned),
            chroma: told(&stream.chroma_location).map(str::to_owned),
        };
        let Some(pixels) = Pixels::of(&stream.pix_fmt, &tags) else {
            return Err(refused(format!(
                "pixel format {} is unsupported; convert it first: ffmpeg -i IN -c copy -c:v ffv1 -pix_fmt \
                 yuv444p OUT.mkv",
                stream.pix_fmt
            )));
        };
        let turn = turn_of(stream).ok_or_else(|| {
            refused("expected a rotation by a multiple of 90 degrees, found another".to_owned())
        })?;
        let matrix = match (pixels.is_rgb, matrix, tags.matrix.as_deref()) {
            (true, _, _) | (_, None, Some("gbr")) => Matrix::Gbr,
            (_, Some(matrix), _) => matrix,
            (_, None, None) => Matrix::usual(turn.size(stored)),
            (_, None, Some("bt470bg" | "smpte170m")) => Matrix::Bt601,
            (_, None, Some("bt709")) => Matrix::Bt709,
            (_, None, Some("bt2020nc")) => Matrix::Bt2020,
            (_, None, Some("fcc")) => Matrix::Fcc,
            (_, None, Some("smpte240m")) => Matrix::Smpte240m,
            (_, None, Some(other)) => {
                let message = format!("matrix {other} is unsupported; --matrix overrides the tag");
                return Err(refused(message));
            }
        };
        let is_full = pixels.is_rgb || stream.pix_fmt.starts_with("yuvj");
        let range = match (range, tags.range.as_deref()) {
            (Some(range), _) => range,
            (None, Some("pc")) => Range::Full,
            (None, None) if is_full => Range::Full,
            (None, _) => Range::Limited,
        };
        // Players would guess the matrix from the new size. A tag of the same matrix stays.
        let is_bt601 = matches!(tags.matrix.as_deref(), Some("bt470bg" | "smpte170m"));
        let matrix_tag = match matrix {
            Matrix::Bt601 if !is_bt601 => Some("smpte170m"),
            Matrix::Bt709 => Some("bt709"),
            Matrix::Gbr => Some("gbr"),
            _ => None,
        };
        tags.matrix = matrix_tag.map(str::to_owned).or(tags.matrix);
        tags.range = Some(if range == Range::Full { "pc" } else { "tv" }.to_owned());
        let pixel_aspect = stream.sample_aspect_ratio.as_deref().and_then(fraction);
        let (across, down) = pixel_aspect.unwrap_or((0, 0));
        let rates = [&stream.avg_frame_rate, &stream.r_frame_rate].map(|rate| fraction(rate));
        let (num, den) = rates[0].or(rates[1]).unwrap_or((25, 1));
        let rate = num as f64 / den as f64;
        let start_s = seconds(stream.start_time.as_deref());
        let tag = stream.tags.get("DURATION").and_then(|text| clock(text));
        let duration_s = seconds(stream.duration.as_deref()).or(tag);
        let announced_frames = stream.nb_frames.as_deref().and_then(|n| n.parse().ok());
        let announced_frames = announced_frames.filter(|n| *n > 0);
        Ok(Self {
            stored,
            turn,
            coding: Coding { matrix, range },
            pixel_aspect: if turn.is_sideways() {
                (down, across)
            } else {
                (across, down)
            },
            time_base: fraction(&stream.time_base).unwrap_or((1, 90000)),
            is_interlaced: matches!(
                stream.field_order.as_deref(),
                Some("tt" | "bb" | "tb" | "bt")
            ),
            announced_frames,
            announced_end_s: start_s
                .zip(duration_s)
                .map(|(start, length)| start + length),
            rate,
            stream: stream.clone(),
            pixels,
            tags,
        })
    }

    /// Frames of the video, as far as the file tells.
    pub(super) fn expected_frames(&self) -> Option<u64> {
        let by_duration = || Some((seconds(self.stream.duration.as_deref())? * self.rate) as u64);
        self.announced_frames.or_else(by_duration)
    }

    /// What of the video no result has.
    pub(super) fn lost(&self) -> Vec<String> {
        let mut lost = Vec::new();
        if self.pixels.has_alpha {
            lost.push("transparency".to_owned());
        }
        if self.stream.closed_captions != 0 {
            lost.push("closed captions in frames".to_owned());
        }
        let kinds = self.stream.side_data_list.iter();
        let kinds = kinds.map(|data| data.side_data_type.as_str());
        let kept = ["Display Matrix", "CPB properties"];
        lost.extend(kinds.filter(|kind| !kept.contains(kind)).map(str::to_owned));
        lost
    }

    /// The kind of high dynamic range, by its transfer curve.
    pub(super) fn hdr(&self) -> Option<&'static str> {
        match self.tags.transfer.as_deref() {
            Some("smpte2084") => Some("HDR (PQ)"),
            Some("arib-std-b67") => Some("HDR (HLG)"),
            _ => None,
        }
    }
}

/// Seconds of a time such as 00:00:02.500000000.
fn clock(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |sum, part| {
        Some(sum * 60.0 + part.parse::<f64>().ok()?)
    })
}

/// The turn of a stream's display matrix; `None` for a rotation that is no multiple of 90 degrees.
fn turn_of(stream: &Stream) -> Option<Turn> {
    let mut matrices = stream.side_data_list.iter();
    let Some(data) = matrices.find(|data| data.side_data_type == "Display Matrix") else {
        return Some(Turn::NONE);
    };
    // Lines such as "00000001:        65536           0           0".
    let lines = data
        .displaymatrix
        .lines()
        .filter_map(|line| line.split_once(':'));
    let mut rows = lines.map(|(_, row)| {
        let mut values = row
            .split_whitespace()
            .map(|v| v.parse::<f64>().unwrap_or(0.0));
        [values.next().unwrap_or(0.0), values.next().unwrap_or(0.0)]
    });
    let matrix = [rows.next()?, rows.next()?];
    let largest = matrix
        .as_flattened()
        .iter()
        .fold(0.0_f64, |a, b| a.max(b.abs()));
    let turn = matrix.map(|row| row.map(|value| (value / largest).round() as i8));
    let is_right = matrix.as_flattened().iter().all(|value| {
        let part = (value / largest).abs();
        !(0.01..=0.99).contains(&part)
    });
    let [[a, b], [c, d]] = turn;
    let is_turn = is_right && (a * d - b * c).abs() == 1;
    is_turn.then_some(Turn(turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_formats_are_planar_without_a_change_of_samples() {
        let [each, even, between] = [Chroma::Each, Chroma::Even, Chroma::Between];
        let left = ColourTags::default();
        for (name, decoded, encoded, chroma, bits) in [
            ("yuv420p", "yuv420p", "yuv420p", Some([even, between]), 8),
            ("yuvj422p", "yuvj422p", "yuv422p", Some([even, each]), 8),
            (
                "yuv444p12be",
                "yuv444p12le",
                "yuv444p12le",
                Some([each, each]),
                12,
            ),
            (
                "yuva420p10le",
                "yuv420p10le",
                "yuv420p10le",
                Some([even, between]),
                10,
            ),
            (
                "p010le",
                "yuv420p10le",
                "yuv420p10le",
                Some([even, between]),
                10,
            ),
            ("gray", "gray", "gray", None, 8),
            ("gray10le", "gray10le", "gray10le", None, 10),
            ("bgr0", "gbrp", "gbrp", Some([each, each]), 8),
            ("gbrp10le", "gbrp10le", "gbrp10le", Some([each, each]), 10),
        ] {
            let pixels = Pixels::of(name, &left).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(
                (&*pixels.decoded, &*pixels.encoded),
                (decoded, encoded),
                "{name}"
            );
            assert_eq!(pixels.layout, Layout { chroma, bits }, "{name}");
            assert_eq!(pixels.has_alpha, name.starts_with("yuva"), "{name}");
        }
        for name in [
            "yuv411p",
            "yuv410p",
            "grayf32le",
            "xyz12le",
            "bayer_rggb8",
            "",
        ] {
            assert_eq!(Pixels::of(name, &left), None, "{name}");
        }
    }

    #[test]
    fn rotations_by_other_angles_are_none() {
        let stream = |rows: &str| Stream {
            side_data_list: vec![SideData {
                side_data_type: "Display Matrix".to_owned(),
                displaymatrix: rows.to_owned(),
            }],
            ..Stream::default()
        };
        let turned = "\n00000000: 0 65536 0\n00000001: -65536 0 0\n00000002: 0 0 1073741824\n";
        assert_eq!(turn_of(&stream(turned)), Some(Turn([[0, 1], [-1, 0]])));
        let slanted = "\n00000000: 46341 46341 0\n00000001: -46341 46341 0\n";
        assert_eq!(turn_of(&stream(slanted)), None);
        assert_eq!(turn_of(&Stream::default()), Some(Turn::NONE));
    }
}
