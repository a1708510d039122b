//! `wdsr video`. Tests with videos need ffmpeg and are ignored by default; `.ci/run video` runs them.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::upscale::names;
use super::{program, wdsr};

/// A folder with videos.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a program in the folder; words are separated by spaces.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, words: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.0.path())
            .args(words.split_whitespace());
        command
    }

    fn ffmpeg(&self, words: &str) -> Vec<u8> {
        let run = self
            .command("ffmpeg", &format!("-v error -nostdin -y {words}"))
            .output();
        let run = run.expect("ffmpeg");
        assert!(
            run.status.success(),
            "ffmpeg {words}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        run.stdout
    }

    /// A clip of `frames` frames: `options` after its source, of this size.
    fn clip(&self, name: &str, size: &str, frames: usize, options: &str) {
        let source = format!("-f lavfi -i mandelbrot=size={size}:rate=10 -frames:v {frames}");
        self.ffmpeg(&format!("{source} {options} {name}"));
    }

    /// What ffprobe prints of the entries, as words.
    fn probe(&self, name: &str, entries: &str) -> String {
        let words = format!("-v error -of csv=p=0 -show_entries {entries} {name}");
        let run = self.command("ffprobe", &words).output().expect("ffprobe");
        let text = String::from_utf8_lossy(&run.stdout).replace(['\n', ','], " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The times of all frames in units of 1/10000 s.
    fn times(&self, name: &str) -> Vec<i64> {
        let words = self.probe(name, "frame=pts_time -select_streams v:0");
        let time = |word: &str| (word.parse::<f64>().expect("a time") * 1e4).round() as i64;
        words.split(' ').map(time).collect()
    }

    /// The bytes of all frames.
    fn frames(&self, name: &str) -> Vec<u8> {
        self.ffmpeg(&format!(
            "-i {name} -fps_mode passthrough -map 0:v:0 -f rawvideo -"
        ))
    }

    /// Runs `wdsr video WORDS -m small`, where `--` may follow.
    fn video(&self, words: &str) -> Output {
        self.command(program::path(), &format!("video -m small {words}"))
            .output()
            .expect("it runs")
    }

    /// Standard error of a run with that exit code.
    fn told(&self, words: &str, code: i32) -> String {
        told(&self.video(words), code)
    }

    /// The frames of a Y4M, upscaled by pipes.
    fn upscaled_y4m(&self, y4m: Vec<u8>, options: &str) -> Vec<u8> {
        let mut run = wdsr();
        run.args(["video", "-m", "small", "-", "-"]);
        let run = run
            .args(options.split_whitespace())
            .write_stdin(y4m)
            .output();
        let run = run.expect("it runs");
        told(&run, 0);
        std::fs::write(self.path("piped.y4m"), run.stdout).expect("written");
        self.frames("piped.y4m")
    }
}

fn told(run: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

const LOSSLESS: &str = "-- -c:v ffv1 -strict -1";

#[test]
#[ignore = "needs ffmpeg"]
fn frames_of_every_format_are_those_of_pipes() {
    let folder = Folder::new();
    for (format, size, tags) in [
        ("yuv420p", "47x31", "tv bt709 bt709 bt709"),
        ("yuv420p10le", "48x32", "tv bt2020nc smpte2084 bt2020"),
        ("yuv422p10le", "46x31", "tv bt709 bt709 bt709"),
        ("yuv444p", "47x31", "tv smpte170m bt709 bt709"),
        ("gray", "47x31", "pc bt709 bt709 bt709"),
    ] {
        let words = Vec::from_iter(tags.split(' '));
        let [range, matrix, transfer, primaries] = words[..] else {
            panic!("four tags: {tags}");
        };
        let tagged = format!(
            "-vf format={format},setparams=range={range}:colorspace={matrix}:color_trc={transfer}:color_primaries={primaries}"
        );
        let tagged = format!(
            "{tagged} -color_range {range} -color_trc {transfer} -color_primaries {primaries}"
        );
        folder.clip(
            "in.mkv",
            size,
            2,
            &format!("{tagged} -colorspace {matrix} -c:v ffv1"),
        );
        let text = folder.told(&format!("in.mkv out.mkv {LOSSLESS}"), 0);
        let is_hdr = format == "yuv420p10le";
        assert_eq!(text.contains("HDR (PQ)"), is_hdr, "{text}");
        assert!(
            !text.contains("lost") && text.contains("2 frames"),
            "{text}"
        );
        let (width, height) = size.split_once('x').expect("a size");
        let double = |side: &str| 2 * side.parse::<usize>().expect("a number");
        let entries =
            "stream=width,height,pix_fmt,color_range,color_space,color_transfer,color_primaries";
        assert_eq!(
            folder.probe("out.mkv", entries),
            format!("{} {} {format} {tags}", double(width), double(height))
        );
        let frames = folder.frames("out.mkv");
        if format == "yuv420p" {
            let raw = ["--rawvideo", "47x31:yuv420p", "--matrix", "bt709"];
            let mut run = wdsr();
            run.args(["upscale", "-m", "small", "-", "-o", "-"])
                .args(raw);
            let run = run.write_stdin(folder.frames("in.mkv")).output();
            let run = run.expect("it runs");
            assert!(run.stdout == frames, "frames of raw video");
            continue;
        }
        if is_hdr {
            let is_deep = frames
                .as_chunks::<2>()
                .0
                .iter()
                .any(|[low, _]| low % 4 != 0);
            assert!(is_deep, "10 bits are not 8");
            continue;
        }
        let y4m = folder.ffmpeg("-i in.mkv -strict -1 -f yuv4mpegpipe -");
        // Y4M has no matrix, and no range of grey.
        let range = if range == "pc" { "full" } else { "limited" };
        let matrix = if matrix == "bt709" { matrix } else { "bt601" };
        let options = format!("--matrix {matrix} --range {range}");
        assert!(
            folder.upscaled_y4m(y4m, &options) == frames,
            "{format}: frames of Y4M"
        );
    }
    // Without tags the result has the guessed ones, which would be others at its size.
    folder.clip("in.mkv", "48x32", 1, "-c:v ffv1 -pix_fmt yuv420p");
    folder.told("in.mkv out.mp4", 0);
    let entries = "stream=codec_name,color_range,color_space,pix_fmt";
    assert_eq!(
        folder.probe("out.mp4", entries),
        "h264 yuv420p tv smpte170m"
    );
    assert_eq!(
        names(folder.0.path()),
        ["in.mkv", "out.mkv", "out.mp4", "piped.y4m"]
    );
}

#[test]
#[ignore = "needs ffmpeg"]
fn frames_of_red_green_and_blue_are_images() {
    let folder = Folder::new();
    for (format, depth_format) in [
        ("gbrp", "rgb24"),
        ("bgr0", "rgb24"),
        ("gbrp16le", "rgb48be"),
    ] {
        folder.clip(
            "in.mkv",
            "47x31",
            1,
            &format!("-vf format={format} -c:v ffv1"),
        );
        folder.told(&format!("in.mkv out.mkv {LOSSLESS}"), 0);
        folder.ffmpeg(&format!("-i in.mkv -pix_fmt {depth_format} in.png"));
        let upscale = "upscale in.png -m small -o large.png --if-exists overwrite";
        let run = folder
            .command(program::path(), upscale)
            .output()
            .expect("it runs");
        told(&run, 0);
        let raw =
            |name: &str| folder.ffmpeg(&format!("-i {name} -f rawvideo -pix_fmt {depth_format} -"));
        assert!(raw("out.mkv") == raw("large.png"), "{format}");
    }
}

/// Samples of 12 and 16 bits follow those of 8 bits: the arithmetic is the same, with more digits.
#[test]
#[ignore = "needs ffmpeg"]
fn frames_of_12_and_16_bits_are_those_of_8_with_more_digits() {
    let folder = Folder::new();
    for (size, eight, deep, bits) in [
        ("47x31", "yuv420p", "yuv420p10le", 10),
        ("46x31", "yuv422p", "yuv422p12le", 12),
        ("47x31", "yuv444p", "yuv444p16le", 16),
        ("47x31", "gray", "gray16le", 16),
    ] {
        // From 8 bits, so that both are the same frame.
        let range = if eight == "gray" { "pc" } else { "tv" };
        let coded = format!("-color_range {range} -strict -1 -c:v ffv1");
        folder.clip("8.mkv", size, 1, &format!("-vf format={eight} {coded}"));
        folder.ffmpeg(&format!("-i 8.mkv -vf format={deep} {coded} deep.mkv"));
        let frames = [("8.mkv", eight), ("deep.mkv", deep)].map(|(name, format)| {
            folder.told(&format!("{name} out.mkv {LOSSLESS}"), 0);
            assert_eq!(folder.probe("out.mkv", "stream=pix_fmt"), format);
            folder.frames("out.mkv")
        });
        let deep_samples = frames[1].as_chunks::<2>().0;
        assert_eq!(deep_samples.len(), frames[0].len(), "{deep}");
        // Gray is of the full range, whose white is 2^bits - 1.
        let scale = match eight {
            "gray" => f64::from((1_u32 << bits) - 1) / 255.0,
            _ => f64::from(1_u32 << (bits - 8)),
        };
        let pairs = deep_samples.iter().zip(&frames[0]);
        let differences = pairs.map(|(deep, eight)| {
            (f64::from(u16::from_le_bytes(*deep)) / scale - f64::from(*eight)).abs()
        });
        let differences = Vec::from_iter(differences);
        let most = differences.iter().copied().fold(0.0, f64::max);
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        assert!(
            most < 1.5 && mean < 0.35,
            "{deep}: {most}, {mean} levels of 8 bits"
        );
    }
}

#[test]
#[ignore = "needs ffmpeg"]
fn webm_gets_vp9_and_its_sound() {
    let folder = Folder::new();
    folder.ffmpeg(
        "-f lavfi -i mandelbrot=size=48x32:rate=10 -f lavfi -i sine=d=0.3 -frames:v 3 \
         -c:v libvpx-vp9 -pix_fmt yuv420p -c:a libopus in.webm",
    );
    let text = folder.told("in.webm out.webm", 0);
    assert!(!text.contains("lost"), "{text}");
    assert_eq!(folder.probe("out.webm", "stream=codec_name"), "vp9 opus");
    // Opus begins before 0, which moves sound and video alike.
    let times = |name: &str| {
        let times = folder.times(name);
        Vec::from_iter(times.iter().map(|time| time - times[0]))
    };
    assert_eq!(times("out.webm"), times("in.webm"));
}

#[test]
#[ignore = "needs ffmpeg"]
fn time_stamps_and_other_streams_are_kept() {
    let folder = Folder::new();
    std::fs::write(
        folder.path("a.srt"),
        "1\n00:00:00,100 --> 00:00:00,700\nHello\n",
    )
    .expect("written");
    let chapters =
        ";FFMETADATA1\ntitle=Clip\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=One\n";
    std::fs::write(folder.path("a.txt"), chapters).expect("written");
    // Variable: 0, 140, 280, 300, 440, ... ms.
    let video =
        "-f lavfi -i testsrc2=size=48x32:rate=10:d=0.8,settb=1/1000,setpts=N*100+mod(N\\,3)*40";
    let others = "-f lavfi -i sine=d=1 -i a.srt -i a.txt -map 0 -map 1 -map 2 -map_metadata 3 -map_chapters 3";
    let coded =
        "-fps_mode passthrough -enc_time_base:v 1/1000 -c:v libx264 -bf 2 -c:a flac -c:s srt";
    let attached = "-attach a.txt -metadata:s:t mimetype=text/plain -metadata:s:a language=deu";
    folder.ffmpeg(&format!("{video} {others} {coded} {attached} in.mkv"));
    let text = folder.told("in.mkv out.mkv --segment 3", 0);
    for word in [
        "audio 1 (flac)",
        "subtitle 2 (subrip)",
        "attachment 3",
        "1 chapters",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("lost"), "{text}");
    assert_eq!(folder.times("out.mkv"), folder.times("in.mkv"));
    assert_eq!(folder.times("out.mkv")[..4], [0, 1400, 2800, 3000]);
    let streams = "stream=codec_name:stream_tags=language:format_tags=title:chapter_tags=title";
    let kinds = folder.probe("out.mkv", streams);
    assert_eq!(kinds, folder.probe("in.mkv", streams));
    assert!(
        kinds.contains("deu") && kinds.contains("Clip") && kinds.contains("One"),
        "{kinds}"
    );

    let text = folder.told("in.mkv out.mp4 --segment 3", 0);
    for word in [
        "warning: in.mkv: the result will have no attachment 3",
        "subtitle 2 (subrip) as mov_text",
        "lost: attachment 3",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(folder.times("out.mp4"), folder.times("in.mkv"));
    let kinds = folder.probe("out.mp4", "stream=codec_type,codec_name");
    assert_eq!(
        kinds,
        "h264 video flac audio mov_text subtitle bin_data data"
    );
}

#[test]
#[ignore = "needs ffmpeg"]
fn rotated_video_is_upright() {
    let folder = Folder::new();
    folder.clip(
        "stored.mp4",
        "48x32",
        1,
        "-c:v libx264 -qp 0 -pix_fmt yuv444p",
    );
    for angle in [90, 180, 270] {
        folder.ffmpeg(&format!(
            "-i stored.mp4 -c copy -metadata:s:v rotate={angle} in.mp4"
        ));
        // Which ffmpeg turns.
        let y4m = folder.ffmpeg("-i in.mp4 -strict -1 -f yuv4mpegpipe -");
        folder.told(&format!("in.mp4 out.mkv {LOSSLESS}"), 0);
        let size = if angle != 180 { "64 96" } else { "96 64" };
        assert_eq!(
            folder.probe("out.mkv", "stream=width,height:side_data=rotation"),
            size
        );
        assert!(
            folder.frames("out.mkv") == folder.upscaled_y4m(y4m, ""),
            "{angle} degrees"
        );
    }
}

#[test]
#[ignore = "needs ffmpeg"]
fn interlaced_video_needs_a_decision() {
    let folder = Folder::new();
    let fields = "-vf setfield=tff,setsar=4/3 -flags +ildct+ilme -c:v libx264 -x264opts tff=1";
    folder.clip("in.mp4", "64x64", 3, fields);
    let text = folder.told("in.mp4 out.mkv", 3);
    assert!(
        text.contains("interlaced") && text.contains("--interlaced deinterlace"),
        "{text}"
    );
    assert_eq!(names(folder.0.path()), ["in.mp4"]);
    let mut frames = Vec::new();
    for action in ["keep", "deinterlace"] {
        folder.told(
            &format!("in.mp4 out.mkv --interlaced {action} {LOSSLESS}"),
            0,
        );
        assert_eq!(folder.times("out.mkv"), [0, 1000, 2000]);
        let entries = "stream=sample_aspect_ratio";
        assert_eq!(folder.probe("out.mkv", entries), "4:3", "{action}");
        frames.push(folder.frames("out.mkv"));
    }
    assert_ne!(frames[0], frames[1]);
}

/// A run that is slow enough to be stopped.
fn start(folder: &Folder, words: &str) -> Child {
    let mut command = folder.command(program::path(), &format!("video -m small -j 1 {words}"));
    let child = command
        .env("WDSR_ISA", "reference")
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("it starts");
    let state = folder.path("out.mkv.wdsr-segments/state.json");
    let started = Instant::now();
    while !std::fs::read_to_string(&state).is_ok_and(|text| text.contains("frames")) {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no segment is written"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
#[ignore = "needs ffmpeg"]
#[cfg(target_os = "linux")]
fn a_stopped_run_resumes_to_the_same_frames() {
    let folder = Folder::new();
    let reference = |words: &str| {
        let mut command = folder.command(program::path(), &format!("video -m small {words}"));
        told(
            &command
                .env("WDSR_ISA", "reference")
                .output()
                .expect("it runs"),
            0,
        )
    };
    folder.clip("in.mp4", "16x16", 8, "-c:v libx264 -pix_fmt yuv420p");
    reference("in.mp4 whole.mkv --segment 2");
    let expected = folder.frames("whole.mkv");
    for (signal, code) in [("-INT", Some(130)), ("-TERM", Some(143)), ("-KILL", None)] {
        let child = start(&folder, "in.mp4 out.mkv --segment 2");
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .expect("kill")
                .success()
        );
        let run = child.wait_with_output().expect("it ends");
        assert_eq!(run.status.code(), code, "{signal}: {run:?}");
        assert!(!folder.path("out.mkv").exists(), "{signal}");
        let text = reference("in.mp4 out.mkv --segment 2");
        let resumed = ["2", "4", "6", "8"].map(|n| format!("resuming after {n} frames"));
        assert!(
            resumed.iter().any(|word| text.contains(word)),
            "{signal}: {text}"
        );
        assert!(
            folder.frames("out.mkv") == expected,
            "{signal}: other frames"
        );
        assert_eq!(
            folder.times("out.mkv"),
            folder.times("whole.mkv"),
            "{signal}"
        );
        assert_eq!(names(folder.0.path()), ["in.mp4", "out.mkv", "whole.mkv"]);
        std::fs::remove_file(folder.path("out.mkv")).expect("removed");
    }
    // Another option begins again.
    let mut child = start(&folder, "in.mp4 out.mkv --segment 2");
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let text = folder.told("in.mp4 out.mkv --segment 2 -- -c:v ffv1", 0);
    assert!(
        text.contains("are of another encoder; starting again"),
        "{text}"
    );
    assert!(text.contains("8 frames"), "{text}");
}

#[test]
#[ignore = "needs ffmpeg"]
fn broken_videos_and_wrong_encoders_are_named() {
    let folder = Folder::new();
    folder.clip("in.mkv", "48x32", 20, "-c:v libx264 -g 5 -preset ultrafast");
    let bytes = std::fs::read(folder.path("in.mkv")).expect("read");
    std::fs::write(folder.path("cut.mkv"), &bytes[..bytes.len() / 2]).expect("written");
    let text = folder.told("cut.mkv out.mkv", 1);
    assert!(
        text.contains("error: cut.mkv: ") && text.contains("frames could be read"),
        "{text}"
    );
    let read = folder.times("out.mkv").len();
    assert!(
        (1..20).contains(&read) && text.contains(&format!("cut.mkv: {read} frames")),
        "{read}: {text}"
    );
    std::fs::remove_file(folder.path("out.mkv")).expect("removed");

    std::fs::write(folder.path("text.mkv"), "no video").expect("written");
    folder.ffmpeg("-f lavfi -i sine=d=0.1 sound.flac");
    for (words, code, word) in [
        ("none.mkv out.mkv", 3, "none.mkv: cannot read"),
        ("text.mkv out.mkv", 3, "expected a video that ffmpeg reads"),
        ("sound.flac out.mkv", 3, "expected a video, found none"),
        ("in.mkv out.mkv -- -c:v none", 1, "Unknown encoder 'none'"),
        (
            "in.mkv out.mp4 -- -c:v ffv1",
            2,
            "the suffix .mp4 cannot hold the encoded video",
        ),
        ("in.mkv in.mkv", 2, "would replace the input"),
        (
            "in.mkv out.png",
            2,
            "expected a suffix that names a container",
        ),
        ("in.mkv sound.flac --if-exists error", 1, "already exists"),
        (
            "in.mkv out.mkv -m photo",
            2,
            "cannot be used multiple times",
        ),
        ("in.mkv out.mkv --max-memory 1M", 4, "--max-memory"),
        ("in.mkv -", 2, "expected two files"),
    ] {
        let text = folder.told(words, code);
        assert!(text.contains(word), "{words}: {text}");
    }
    folder.told("in.mkv sound.flac --if-exists skip", 0);
    let kept = names(folder.0.path());
    let results = kept
        .iter()
        .filter(|name| name.starts_with("out") && !name.ends_with("segments"));
    assert_eq!(results.count(), 0, "{kept:?}");
}

#[test]
fn a_missing_ffmpeg_is_named_with_its_package() {
    let folder = Folder::new();
    std::fs::write(folder.path("in.mp4"), "a video").expect("written");
    let mut command = folder.command(program::path(), "video in.mp4 out.mp4");
    let run = command
        .env("PATH", folder.0.path())
        .output()
        .expect("it runs");
    let text = told(&run, 1);
    assert!(
        text.contains("ffprobe is not on the PATH; install the package ffmpeg"),
        "{text}"
    );
    assert_eq!(names(folder.0.path()), ["in.mp4"]);
}

/// A Y4M of frames of 8 x 6, and what `wdsr video - -` makes of it.
fn run_y4m(parameters: &str, frames: &[&[u8]]) -> Output {
    let mut y4m = format!("YUV4MPEG2 W8 H6 F25:1 {parameters}\n").into_bytes();
    for frame in frames {
        y4m.extend(b"FRAME\n");
        y4m.extend(*frame);
    }
    let run = wdsr()
        .args(["video", "-m", "small", "-", "-"])
        .write_stdin(y4m)
        .output();
    run.expect("it runs")
}

#[test]
fn y4m_streams_through_pipes() {
    let grey = [100; 8 * 6 + 2 * 4 * 3];
    let run = run_y4m("Ip C420mpeg2 XYSCSS=420MPEG2", &[&grey, &grey]);
    told(&run, 0);
    let header = b"YUV4MPEG2 W16 H12 F25:1 Ip C420mpeg2 XYSCSS=420MPEG2\n";
    let frame_bytes = 6 + 16 * 12 + 2 * 8 * 6;
    assert!(run.stdout.starts_with(header));
    assert_eq!(run.stdout.len(), header.len() + 2 * frame_bytes);
    // Deep grey: two bytes a sample.
    let run = run_y4m("Cmono10", &[&[0, 2].repeat(48)]);
    told(&run, 0);
    let frame = run
        .stdout
        .rsplit(|byte| *byte == b'\n')
        .next()
        .expect("a frame");
    let codes = frame
        .as_chunks::<2>()
        .0
        .iter()
        .map(|code| u16::from_le_bytes(*code));
    assert!(
        codes.clone().count() == 192 && codes.clone().all(|code| code.abs_diff(512) < 3),
        "{frame:?}"
    );

    let run = run_y4m("C420jpeg", &[&grey, &grey[..50]]);
    let text = told(&run, 1);
    assert!(
        text.contains("frame 2 is truncated; the 1 before it are written"),
        "{text}"
    );
    assert_eq!(
        run.stdout.len(),
        "YUV4MPEG2 W16 H12 F25:1 C420jpeg\n".len() + frame_bytes
    );
    for (parameters, frames, word) in [
        ("C411", &[&grey[..]][..], "Y4M of colour 411 is unsupported"),
        ("It C420", &[&grey], "interlaced"),
        ("C420", &[], "no whole frame"),
    ] {
        let text = told(&run_y4m(parameters, frames), 3);
        assert!(text.contains(word), "{parameters}: {text}");
    }
    let text = told(
        &wdsr()
            .args(["video", "-", "-"])
            .write_stdin("RIFF")
            .output()
            .expect("it runs"),
        3,
    );
    assert!(text.contains("expected Y4M"), "{text}");
}
