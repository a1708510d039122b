//! `wdsr upscale` over many images: which, where to, restarts, exit codes.

use std::path::Path;
#[cfg(target_os = "linux")]
use std::time::Duration;

use predicates::str::contains;
use wdsr_image::{Colour, Image, Samples};
use wdsr_testing::random;

use super::rows::small_network;
use super::upscale::{names, read};
use super::{image, program, wdsr, write};

/// Runs `wdsr upscale IN -o OUT EXTRA` and returns the exit code and the status of each input in
/// the report.
fn run(input: &Path, output: &Path, extra: &[&str]) -> (i32, Vec<String>) {
    let report = tempfile::NamedTempFile::new().expect("a file");
    let run = wdsr()
        .arg("upscale")
        .args([input, Path::new("-o"), output])
        .arg("--report")
        .arg(report.path())
        .args(extra)
        .output()
        .expect("it runs");
    let text = std::fs::read_to_string(report.path()).expect("a report");
    let status = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["status"].as_str().expect("a status").to_owned()
    };
    let code = run.status.code().expect("a code");
    (code, text.lines().map(status).collect())
}

fn folder_of(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        write(&path, &image(8, 6, Colour::Rgb));
    }
}

#[test]
fn mirrors_the_folder_tree_and_recognises_images_by_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("in/out"));
    folder_of(&input, &["a.png", "sub/b.png", "sub/deep/c.tif"]);
    std::fs::rename(input.join("sub/b.png"), input.join("sub/b.dat")).expect("renamed");
    std::fs::write(input.join("sub/notes.txt"), "left alone").expect("written");
    assert_eq!(run(&input, &output, &["-r"]), (0, vec!["done".into(); 3]));
    assert_eq!(names(&output.join("sub")), ["b.png", "deep"]);
    assert_eq!(read(&output.join("sub/deep/c.tif")).width_px, 16);
    // Its own results, which lie below the input, are not upscaled again.
    let again = run(&input, &output, &["-r"]);
    assert_eq!(again, (0, vec!["up_to_date".into(); 3]));
    let pattern = input.join("sub/**/*.tif");
    let flat = folder.path().join("flat");
    assert_eq!(run(&pattern, &flat, &["-q"]).0, 0);
    assert_eq!(names(&flat), [".wdsr-manifest.jsonl", "c.tif"]);
    assert_eq!(run(&input.join("*.gif"), &flat, &[]).0, 3);
}

#[test]
fn a_second_run_upscales_only_missing_and_changed_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["a.png", "b.png", "c.png"]);
    assert_eq!(run(&input, &output, &[]), (0, vec!["done".into(); 3]));
    std::fs::remove_file(output.join("b.png")).expect("removed");
    write(&input.join("c.png"), &image(9, 6, Colour::Rgb));
    for policy in ["skip", "error", "rename", "overwrite"] {
        // What the program made itself is not in the way, whatever the policy.
        let (code, status) = run(&input, &output, &["--if-exists", policy]);
        let expected = if policy == "skip" {
            ["up_to_date", "done", "done"]
        } else {
            ["up_to_date"; 3]
        };
        assert_eq!((code, status), (0, expected.map(String::from).to_vec()));
    }
    assert_eq!(read(&output.join("c.png")).width_px, 18);
    let other = run(&input, &output, &["-x"]);
    assert_eq!(other, (0, vec!["done".into(); 3]), "another setting");
}

#[test]
fn if_exists_decides_about_files_of_other_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["a.png"]);
    std::fs::create_dir(&output).expect("a folder");
    std::fs::write(output.join("a.png"), "of another program").expect("written");
    let kept = || std::fs::read(output.join("a.png")).expect("read") == b"of another program";
    let with = |policy| run(&input, &output, &["--if-exists", policy]);
    assert_eq!(with("skip"), (0, vec!["skipped".into()]));
    assert_eq!(with("error"), (1, vec!["failed".into()]));
    assert_eq!(with("rename"), (0, vec!["done".into()]));
    assert_eq!(with("rename"), (0, vec!["up_to_date".into()]));
    assert!(kept(), "the file of another program has changed");
    assert_eq!(read(&output.join("a-1.png")).width_px, 16);
    assert_eq!(with("overwrite"), (0, vec!["done".into()]));
    assert!(!kept(), "it was to be replaced");
}

#[test]
fn shards_share_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let files: Vec<String> = (0..8).map(|i| format!("{i}.png")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    folder_of(&input, &files);
    let (_, first) = run(&input, &output, &["--shard", "1/2"]);
    let (_, second) = run(&input, &output, &["--shard", "2/2"]);
    assert_eq!(first.len() + second.len(), 8);
    assert!(
        !first.is_empty() && !second.is_empty(),
        "{first:?} {second:?}"
    );
    assert_eq!(run(&input, &output, &[]), (0, vec!["up_to_date".into(); 8]));
    assert_eq!(run(&input, &output, &["--shard", "3/2"]).0, 2);
}

/// The statuses of the inputs in a report, with the results.
fn outcomes(report: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(report).expect("a report");
    let outcome = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let output = text("output");
        let output = Path::new(&output).file_name().unwrap_or_default();
        (text("status"), output.to_string_lossy().into_owned())
    };
    text.lines().map(outcome).collect()
}

#[test]
fn results_of_another_folder_are_files_of_others() {
    for (policy, code, expected, kept) in [
        ("skip", 0, ("skipped", "a.png"), true),
        ("error", 1, ("failed", ""), true),
        ("rename", 0, ("done", "a-1.png"), true),
        ("overwrite", 0, ("done", "a.png"), false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        folder_of(&path("one"), &["a.png"]);
        folder_of(&path("two"), &["a.png"]);
        write(&path("two/a.png"), &image(9, 6, Colour::Rgb));
        assert_eq!(run(&path("one"), &path("out"), &[]).0, 0);
        let before = std::fs::read(path("out/a.png")).expect("read");
        let report = path("report");
        let (two, report_text) = (path("two"), report.to_str().expect("UTF-8"));
        let extra = ["--if-exists", policy, "--report", report_text];
        let again = |times: usize| {
            let run = wdsr()
                .arg("upscale")
                .args([&*two, Path::new("-o"), &path("out")])
                .args(extra)
                .output()
                .expect("it runs");
            assert_eq!(run.status.code(), Some(code), "{policy}, run {times}");
            outcomes(&report)
        };
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        assert_eq!(again(1), vec![expected.clone()], "{policy}");
        let after = std::fs::read(path("out/a.png")).expect("read");
        assert_eq!(before == after, kept, "{policy}");
        let second = match expected.0.as_str() {
            "done" => ("up_to_date".to_owned(), expected.1),
            _ => expected,
        };
        assert_eq!(again(2), [second], "{policy} again");
        // The first folder's result is its own still, unless it was replaced.
        let first = run(&path("one"), &path("out"), &["--if-exists", policy]);
        let status = if kept { "up_to_date" } else { "done" };
        assert_eq!(
            first,
            (0, vec![status.to_owned()]),
            "{policy}, first folder"
        );
    }
}

#[test]
fn inputs_of_one_result_name_get_numbers_with_rename() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for (at, name) in ["x", "y", "z"].into_iter().enumerate() {
        folder_of(&path(name), &["p.png"]);
        write(&path(name).join("p.png"), &image(8 + at, 6, Colour::Rgb));
    }
    let run = |order: [&str; 3]| {
        let report = path("report");
        wdsr()
            .arg("upscale")
            .args(order.map(|name| path(name).join("p.png")))
            .args([
                Path::new("-o"),
                &path("out"),
                Path::new("--report"),
                &report,
            ])
            .args(["--if-exists", "rename"])
            .assert()
            .success();
        outcomes(&report)
    };
    let of =
        |status: &str, names: [&str; 3]| names.map(|name| (status.to_owned(), name.to_owned()));
    assert_eq!(
        run(["x", "y", "z"]),
        of("done", ["p.png", "p-1.png", "p-2.png"])
    );
    // Each is recognised, whatever the order.
    let again = run(["z", "x", "y"]);
    assert_eq!(again, of("up_to_date", ["p-2.png", "p.png", "p-1.png"]));
    for (at, name) in ["p.png", "p-1.png", "p-2.png"].into_iter().enumerate() {
        assert_eq!(
            read(&path("out").join(name)).width_px,
            2 * (8 + at),
            "{name}"
        );
    }
}

#[test]
fn a_changed_result_is_not_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["a.tif"]);
    assert_eq!(run(&input, &output, &[]).0, 0);
    let result = output.join("a.tif");
    let bytes = std::fs::read(&result).expect("read");
    let mut edited = bytes.clone();
    *edited.last_mut().expect("bytes") ^= 1;
    for changed in [
        vec![0; bytes.len()],
        edited,
        bytes[1..].to_vec(),
        Vec::new(),
    ] {
        for (policy, code, status) in [
            ("skip", 0, "skipped"),
            ("error", 1, "failed"),
            ("overwrite", 0, "done"),
        ] {
            std::fs::write(&result, &changed).expect("written");
            let found = run(&input, &output, &["--if-exists", policy]);
            assert_eq!(found, (code, vec![status.to_owned()]));
        }
        assert_eq!(std::fs::read(&result).expect("read"), bytes);
        assert_eq!(run(&input, &output, &[]), (0, vec!["up_to_date".into()]));
    }
}

#[test]
fn the_newest_result_counts_whatever_the_manifest() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let files: Vec<String> = (0..6).map(|i| format!("{i}.tif")).collect();
    folder_of(&input, &Vec::from_iter(files.iter().map(String::as_str)));
    let run = |extra: &[&str]| run(&input, &output, &[extra, &["-q"]].concat()).1;
    let contents = || {
        files
            .iter()
            .map(|f| std::fs::read(output.join(f)).expect("read"))
    };
    let base_of_shards = |count: u64| {
        for index in 1..=count {
            run(&["--shard", &format!("{index}/{count}")]);
        }
        contents().collect::<Vec<_>>()
    };
    // Uncompressed results have the same length whatever the options.
    let expected = base_of_shards(3);
    for shards in [1, 2, 3, 5] {
        base_of_shards(shards);
        assert_eq!(run(&["-x"]), vec!["done"; 6]);
        assert!(
            contents()
                .zip(&expected)
                .all(|(found, base)| found != *base),
            "all replaced"
        );
        let again = run(&[]);
        assert_eq!(again, vec!["done"; 6], "{shards} shards");
        assert!(contents().eq(expected.iter().cloned()), "{shards} shards");
        assert_eq!(run(&[]), vec!["up_to_date"; 6]);
    }
}

#[test]
fn an_entry_without_its_result_does_not_hide_the_older_one() {
    // Killed between the entry and the name of a result: the older result is there.
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["a.png"]);
    assert_eq!(run(&input, &output, &[]).0, 0);
    let old = std::fs::read(output.join("a.png")).expect("read");
    assert_eq!(run(&input, &output, &["-x"]).0, 0);
    std::fs::write(output.join("a.png"), old).expect("written");
    for policy in ["skip", "error", "rename"] {
        let found = run(&input, &output, &["--if-exists", policy]);
        assert_eq!(found, (0, vec!["up_to_date".into()]), "{policy}");
    }
    let found = run(&input, &output, &["-x", "--if-exists", "skip"]);
    assert_eq!(found, (0, vec!["done".into()]));
}

#[test]
fn two_runs_into_one_folder_work_one_after_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["a.png", "b.png", "c.png", "d.png"]);
    let start = |report: &str| {
        std::process::Command::new(program::path())
            .args(["upscale", "-q", "-j", "1", "--report"])
            .args([
                &folder.path().join(report),
                &input,
                Path::new("-o"),
                &output,
            ])
            .spawn()
            .expect("it runs")
    };
    let mut runs = ["1", "2", "3"].map(start);
    let mut done = 0;
    for (run, report) in runs.iter_mut().zip(["1", "2", "3"]) {
        assert!(run.wait().expect("it ends").success(), "run {report}");
        let outcomes = outcomes(&folder.path().join(report));
        assert_eq!(outcomes.len(), 4);
        done += outcomes
            .iter()
            .filter(|(status, _)| status == "done")
            .count();
    }
    assert_eq!(done, 4, "each image is upscaled once");
}

#[test]
fn one_image_that_needs_too_much_memory_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["1.png", "3.png"]);
    // Alpha keeps it from streaming.
    write(&input.join("2.png"), &image(1200, 1200, Colour::RgbAlpha));
    let limit = ["--max-memory", "100M"];
    for status in ["done", "up_to_date"] {
        let found = run(&input, &output, &limit);
        assert_eq!(
            found,
            (1, [status, "failed", status].map(String::from).to_vec())
        );
    }
    // 4 where no image was upscaled for want of memory.
    assert_eq!(
        run(&input.join("2.png"), &output, &limit),
        (4, vec!["failed".into()])
    );
}

#[test]
fn an_image_that_takes_too_long_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["1.png", "3.png"]);
    write(&input.join("2.png"), &image(3000, 3000, Colour::Grey));
    let found = run(&input, &output, &["-m", "base", "-x", "--timeout", "4"]);
    assert_eq!(
        found,
        (1, ["done", "failed", "done"].map(String::from).to_vec())
    );
    assert_eq!(names(&output), [".wdsr-manifest.jsonl", "1.png", "3.png"]);
    wdsr()
        .args(["upscale", "--timeout", "0.001", "-o", "-"])
        .arg(input.join("2.png"))
        .assert()
        .code(1)
        .stderr(contains(
            "2.png: not done within 0.001 s; --timeout allows more",
        ));
    // Without a network, decoding and encoding take the time.
    for format in ["png", "webp", "tif"] {
        let output = folder.path().join(format);
        let options = ["--factor", "1", "-f", format, "--timeout", "0.01"];
        let found = run(&input.join("2.png"), &output, &options);
        assert_eq!(found, (1, vec!["failed".into()]), "{format}");
        let left = if output.exists() {
            names(&output)
        } else {
            Vec::new()
        };
        assert!(
            left.iter().all(|name| name == ".wdsr-manifest.jsonl"),
            "{format}: {left:?}"
        );
    }
    for wrong in ["0", "-1", "nan", "inf", "soon"] {
        assert_eq!(run(&input, &output, &["--timeout", wrong]).0, 2, "{wrong}");
    }
}

#[test]
fn untrusted_sets_tight_limits_that_options_loosen() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out"));
    write(&input, &image(4100, 4100, Colour::Grey));
    let with = |extra: &[&str]| {
        let extra = [&["--untrusted", "-m", "small"], extra].concat();
        let mut command = wdsr();
        command
            .arg("upscale")
            .args([&input, Path::new("-o"), &output])
            .args(extra);
        command.assert()
    };
    with(&[]).code(3).stderr(contains("allowed are 16000000"));
    let allowed = ["--max-pixels", "20M"];
    with(&[&allowed[..], &["--factor", "5"]].concat())
        .code(3)
        .stderr(contains("allowed are 256000000"));
    with(&[&allowed[..], &["--factor", "3.9"]].concat())
        .code(4)
        .stderr(contains("allowed are 1024 MiB"));
    with(&[&allowed[..], &["--timeout", "0.5"]].concat())
        .code(1)
        .stderr(contains("within 0.5 s"));
}

#[test]
fn a_batch_ends_with_a_summary() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["a.png", "b.png", "c.png"]);
    std::fs::write(input.join("d.png"), "no image").expect("written");
    let missing = folder.path().join("missing*.png");
    let report = folder.path().join("report");
    let with = |inputs: &[&Path], extra: &[&str]| {
        let run = wdsr()
            .arg("upscale")
            .args(inputs)
            .args([Path::new("-o"), &output, Path::new("--report"), &report])
            .args(extra)
            .output()
            .expect("it runs");
        let text = String::from_utf8(run.stderr).expect("UTF-8");
        let last = text.lines().last().unwrap_or_default().to_owned();
        (last, outcomes(&report).len())
    };
    let (last, lines) = with(&[&input, &missing], &[]);
    assert!(last.starts_with("5 inputs: 3 done, 2 failed; "), "{last}");
    assert_eq!(lines, 5, "a line for each");
    let (last, _) = with(&[&input], &[]);
    assert!(
        last.starts_with("4 inputs: 3 up to date, 1 failed; "),
        "{last}"
    );
    let (last, _) = with(&[&input], &["-q"]);
    assert!(last.starts_with("error: "), "only errors: {last}");
    let text = std::fs::read_to_string(&report).expect("read");
    let failed = text
        .lines()
        .find(|line| line.contains("failed"))
        .expect("a line");
    assert!(failed.contains("d.png"), "{failed}");
}

/// The disk is full in the midst of a batch; quotas and limits of file systems are the same to a program.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_a_batch_and_reports_what_was_not_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    folder_of(&input, &["a.png", "b.png", "c.png"]);
    std::fs::create_dir(&output).expect("a folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&output)
        .output();
    if !mounted.is_ok_and(|run| run.status.success()) {
        // No right to mount a small disk.
        return;
    }
    std::fs::write(output.join("ballast"), vec![0; 50 << 10]).expect("written");
    write(&input.join("b.png"), &noise(100, 80, Colour::Rgb));
    let full = run(&input, &output, &[]);
    let files = names(&output);
    std::fs::remove_file(output.join("ballast")).expect("removed");
    std::fs::write(output.join("ballast"), []).expect("written");
    write(&input.join("b.png"), &image(8, 6, Colour::Rgb));
    let again = run(&input, &output, &[]);
    let unmounted = std::process::Command::new("umount").arg(&output).status();
    assert!(unmounted.is_ok_and(|status| status.success()), "umount");
    assert_eq!(
        full,
        (
            4,
            ["done", "failed", "not_tried"].map(String::from).to_vec()
        )
    );
    assert_eq!(files, [".wdsr-manifest.jsonl", "a.png", "ballast"]);
    assert_eq!(
        again,
        (0, ["up_to_date", "done", "done"].map(String::from).to_vec())
    );
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_runs_out_ends_with_code_4() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("in.png");
    write(&input, &image(6000, 6000, Colour::Rgb));
    // 864 MB are needed for the result. WebP is not written row by row.
    let output = folder.path().join("out.webp");
    let arguments = ["upscale", "-j", "1", "-o"].map(Path::new);
    let (code, text) = program::under_limits(
        "ulimit -v 900000",
        arguments.into_iter().chain([&*output, &*input]),
    );
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("memory"), "{text}");
    assert_eq!(names(folder.path()), ["in.png"]);
}

/// An image whose file is as large as its samples.
fn noise(width: usize, height: usize, colour: Colour) -> Image {
    let samples = random::bytes(width * height * colour.channels(), 1);
    Image::new(width, height, colour, Samples::U8(samples))
}

/// With less memory than it asks for the program says so; with as much it comes to the end, through
/// passes, floats, alpha and the file.
#[test]
#[cfg(target_os = "linux")]
fn memory_is_checked_before_the_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    let model = small_network(folder.path());
    let run = |extra: &[&str], limit_kb: u64| {
        let arguments = ["upscale", "-q", "-j", "1", "-m"].map(Path::new);
        let arguments = arguments.into_iter().chain([&*model, Path::new("-o")]);
        let paths = arguments.chain([&*output, &*input]);
        program::under_limits(
            &format!("ulimit -v {limit_kb}; export MALLOC_ARENA_MAX=1"),
            paths.chain(extra.iter().map(Path::new)),
        )
    };
    for (colour, extra) in [
        (Colour::RgbAlpha, &["-s", "2"][..]),
        (Colour::RgbAlpha, &["-s", "2", "--alpha", "lanczos"]),
        (Colour::Grey, &["--factor", "2.7"]),
    ] {
        write(&input, &noise(500, 360, colour));
        // The limit that lets the program start, which is not tested here.
        let (start_kb, text) = (30_000..60_000)
            .step_by(1_000)
            .map(|limit_kb| (limit_kb, run(extra, limit_kb)))
            .find_map(|(limit_kb, (code, text))| {
                let is_told = code == Some(4) && text.contains("upscaling the image to");
                is_told.then_some((limit_kb, text))
            })
            .unwrap_or_else(|| panic!("{colour:?} {extra:?}: no limit is told"));
        let mebibytes = text
            .split(" MiB")
            .next()
            .and_then(|text| text.rsplit(' ').next());
        let needed_kb = mebibytes
            .expect("mebibytes")
            .parse::<u64>()
            .expect("a number")
            * 1024;
        // The first limit that lets the work begin must let it end.
        let codes = (10..=16).map(|part| {
            let (code, text) = run(extra, start_kb + needed_kb * part / 16);
            let is_told = code == Some(0) || code == Some(4) && text.contains(" MiB of memory");
            assert!(is_told, "{colour:?} {extra:?}, {part}/16: {code:?} {text}");
            code
        });
        let done = codes.into_iter().any(|code| code == Some(0));
        assert!(done, "{colour:?} {extra:?}: {needed_kb} kB do not suffice");
        std::fs::remove_file(&output).expect("removed");
    }
}

/// The processor time that a process has used, by the kernel's count of 10 ms.
#[cfg(target_os = "linux")]
fn processor_time_ms(process: u32) -> u64 {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    // After the name in parentheses: user and system time are the 12th and 13th field.
    let (_, fields) = text.rsplit_once(')').expect("a name");
    let fields = fields.split_whitespace().skip(11).take(2);
    10 * fields
        .map(|n| n.parse::<u64>().expect("ticks"))
        .sum::<u64>()
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupt_finishes_an_image_and_a_second_drops_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&input).expect("a folder");
    for i in 0..4 {
        write(&input.join(format!("{i}.png")), &image(64, 64, Colour::Rgb));
    }
    for interrupts in [1, 2] {
        let mut child = std::process::Command::new(program::path())
            .env("WDSR_ISA", "reference")
            .args(["upscale", "-q", "-j", "1", "-m", "small"])
            .args([&input, Path::new("-o"), &output])
            .spawn()
            .expect("it runs");
        // The first image begins right after the manifest, and takes a second on plain loops.
        let manifest = output.join(".wdsr-manifest.jsonl");
        while !manifest.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let before_ms = processor_time_ms(child.id());
        while processor_time_ms(child.id()) < before_ms + 200 {
            std::thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..interrupts {
            let pid = child.id().to_string();
            let kill = std::process::Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .expect("kill");
            assert!(kill.success(), "no such process");
            // Two signals that wait at once are one.
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(child.wait().expect("it ends").code(), Some(130));
        let expected: &[&str] = if interrupts == 1 {
            &[".wdsr-manifest.jsonl", "0.png"]
        } else {
            &[".wdsr-manifest.jsonl"]
        };
        assert_eq!(names(&output), expected);
        std::fs::remove_dir_all(&output).expect("removed");
    }
}

#[test]
fn the_help_lists_the_exit_codes() {
    wdsr()
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("130, 143 or 129 ended by"));
}
