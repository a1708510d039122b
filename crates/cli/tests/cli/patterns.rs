//! Patterns as inputs, and which paths of OUT are folders.

use std::path::Path;

use predicates::str::contains;
use wdsr_image::Colour;

use super::{image, wdsr};

/// A folder of images.
fn folder_of(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in files {
        add(folder.path(), Path::new(file));
    }
    folder
}

fn add(root: &Path, file: &Path) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    let png = wdsr_image::encode_bytes(&image(8, 6, Colour::Rgb), wdsr_image::Format::Png);
    std::fs::write(path, png.expect("encoded")).expect("written");
}

/// The exit code of `wdsr upscale INPUTS -o OUT` in a folder, and the inputs that were upscaled.
fn run(root: &Path, inputs: &[&str], output: &str) -> (i32, Vec<String>) {
    let run = wdsr()
        .current_dir(root)
        .arg("upscale")
        .args(inputs)
        .args(["-o", output, "--report", "report", "--if-exists", "rename"])
        .output()
        .expect("it runs");
    let text = std::fs::read_to_string(root.join("report")).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let done = lines.filter(|line: &serde_json::Value| line["status"] == "done");
    let input = |line: serde_json::Value| {
        let input = line["input"].as_str().expect("an input");
        input.replace(std::path::MAIN_SEPARATOR, "/")
    };
    let inputs = done.map(input);
    (run.status.code().expect("a code"), inputs.collect())
}

#[test]
fn patterns_match_as_in_a_shell() {
    for (pattern, expected) in [
        ("*.png", &["a.png", "b{1}.png"][..]),
        ("?.png", &["a.png"]),
        ("[!b]*.png", &["a.png"]),
        ("[^b]*.png", &["a.png"]),
        ("**.png", &["a.png", "b{1}.png"]),
        ("s/**/deep/**", &["s/deep/d.png"]),
        ("b{1}*", &["b{1}.png"]),
        ("*/*.png", &["s/c.png"]),
        (
            "**/*.png",
            &["a.png", "b{1}.png", "s/c.png", "s/deep/d.png"],
        ),
        ("s/**/d.png", &["s/deep/d.png"]),
        ("./s/../*.png", &["./s/../a.png", "./s/../b{1}.png"]),
        (".h/*.png", &[".h/e.png"]),
        ("*/.h/*.png", &["s/.h/f.png"]),
        ("s/**", &["s/c.png", "s/deep/d.png"]),
    ] {
        let files = [
            "a.png",
            "b{1}.png",
            "s/c.png",
            "s/deep/d.png",
            ".h/e.png",
            "s/.h/f.png",
        ];
        let folder = folder_of(&files);
        let (code, mut inputs) = run(folder.path(), &[pattern], "out");
        inputs.sort();
        assert_eq!(
            (code, &*inputs),
            (
                0,
                &*expected.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()
            ),
            "{pattern}"
        );
    }
    for pattern in ["*.jpg", "s/*/*/*.png", "[", "a.png/*", "missing/*.png"] {
        let folder = folder_of(&["a.png", "s/c.png"]);
        assert_eq!(run(folder.path(), &[pattern], "out").0, 3, "{pattern}");
    }
}

#[test]
fn results_below_a_pattern_are_not_inputs() {
    let folder = folder_of(&["a.png", "s/a.png"]);
    for (times, expected) in [(1, 2), (2, 0)] {
        let (code, inputs) = run(folder.path(), &["**/*.png"], "out");
        assert_eq!((code, inputs.len()), (0, expected), "run {times}");
    }
    assert_eq!(run(folder.path(), &["*/*.png"], "out").1.len(), 0);
    // The folder that is named itself is one of inputs.
    assert_eq!(run(folder.path(), &["out/*.png"], "large").1.len(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn names_of_any_bytes_match() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for pattern in ["d/*.png", "*/*.png", "**/*.png", "d/?A.png", "d"] {
        let folder = folder_of(&["d/ok.png"]);
        add(
            folder.path(),
            &Path::new("d").join(OsStr::from_bytes(b"\x83A.png")),
        );
        add(
            folder.path(),
            &Path::new(OsStr::from_bytes(b"\xff")).join("x.txt"),
        );
        std::fs::remove_file(folder.path().join(OsStr::from_bytes(b"\xff/x.txt")))
            .expect("removed");
        let (code, inputs) = run(folder.path(), &[pattern], "out");
        let expected = if pattern == "d/?A.png" { 1 } else { 2 };
        assert_eq!((code, inputs.len()), (0, expected), "{pattern}: {inputs:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_loop_of_links_is_walked_once() {
    use std::os::unix::fs::symlink;
    let folder = folder_of(&["t/a.png", "t/s/b.png", "other/c.png"]);
    let link =
        |target: &str, name: &str| symlink(target, folder.path().join(name)).expect("a link");
    link("..", "t/s/up");
    link("loop", "t/loop");
    link("../other", "t/other");
    link("../other/c.png", "t/file.png");
    let (code, inputs) = run(folder.path(), &["t/**/*.png"], "out");
    assert_eq!(
        (code, inputs),
        (
            0,
            ["t/a.png", "t/file.png", "t/s/b.png"]
                .map(String::from)
                .to_vec()
        )
    );
    // One level of links is followed, as a shell does.
    let (code, inputs) = run(folder.path(), &["t/*/c.png"], "out2");
    assert_eq!((code, inputs), (0, vec!["t/other/c.png".to_owned()]));
}

#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_folder_does_not_end_a_pattern() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = folder_of(&["a/x.png", "c/x.png", "b/x.png"]);
    let closed = folder.path().join("b");
    let mode = |mode| std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(mode));
    mode(0o000).expect("a mode");
    // Root reads it nevertheless.
    let is_root = std::fs::read_dir(&closed).is_ok();
    for pattern in ["*/x.png", "**/x.png"] {
        let (code, inputs) = run(folder.path(), &[pattern], "out");
        std::fs::remove_dir_all(folder.path().join("out")).expect("removed");
        let found = if is_root { (0, 3) } else { (1, 2) };
        assert_eq!((code, inputs.len()), found, "{pattern}");
    }
    mode(0o700).expect("a mode");
    symlink("nowhere", folder.path().join("a/dangling.png")).expect("a link");
    for pattern in ["a/*.png", "a/**/*.png"] {
        let (code, inputs) = run(folder.path(), &[pattern], "out");
        assert_eq!(code, 1, "{pattern}: {inputs:?}");
    }
}

#[test]
fn a_trailing_slash_is_a_folder() {
    for extra in [&[][..], &["-f", "jpg"], &["-f", "png"]] {
        let folder = folder_of(&["in.png"]);
        for output in ["new/", "deep/new/", "out.heic/", "out.png/"] {
            let run = wdsr()
                .current_dir(folder.path())
                .args(["upscale", "in.png", "-o", output])
                .args(extra)
                .output()
                .expect("it runs");
            assert!(run.status.success(), "{output} {extra:?}: {run:?}");
            let suffix = extra.last().unwrap_or(&"png");
            let result = folder.path().join(output).join(format!("in.{suffix}"));
            assert!(result.is_file(), "{output} {extra:?}");
        }
    }
}

#[test]
fn no_folder_is_made_of_an_images_name() {
    let folder = folder_of(&["a.png", "b.png"]);
    for arguments in [
        &["a.png", "-o", "out.heic"][..],
        &["a.png", "-o", "out.HEIC"],
        &["a.png", "-o", "out.psd"],
        &["a.png", "b.png", "-o", "out.png"],
        &["*.png", "-o", "out.jpg"],
        &[".", "-o", "out.tif"],
    ] {
        wdsr()
            .current_dir(folder.path())
            .arg("upscale")
            .args(arguments)
            .assert()
            .code(2)
            .stderr(contains("for a new folder of that name"));
    }
    // One image is not put into a folder that may be a misspelt file.
    for output in ["results.v2", "2026.11", "out.pgn"] {
        assert_eq!(run(folder.path(), &["a.png"], output).0, 2, "{output}");
        assert_eq!(
            run(folder.path(), &["a.png", "b.png"], output).0,
            0,
            "{output}"
        );
    }
    for output in ["out", "new.v2/"] {
        let (code, names) = run(folder.path(), &["a.png"], output);
        assert_eq!(code, 0, "{output}");
        assert!(names.contains(&"a.png".to_owned()), "{output}: {names:?}");
    }
    std::fs::create_dir(folder.path().join("old.png")).expect("a folder");
    assert_eq!(run(folder.path(), &["a.png", "b.png"], "old.png").0, 0);
}

#[test]
fn control_characters_of_names_are_escaped() {
    if !cfg!(unix) {
        return;
    }
    let folder = folder_of(&[
        "in/\u{1b}]0;title\u{7}\u{1b}[31mred\nok: all fine.png",
        "in/\u{202e}gnp.png",
    ]);
    add(folder.path(), Path::new("in/\u{1b}[2Jbroken.png"));
    std::fs::write(folder.path().join("in/\u{1b}[2Jbroken.png"), "no image").expect("written");
    let run = wdsr()
        .current_dir(folder.path())
        .args(["upscale", "in", "-o", "out"])
        .output()
        .expect("it runs");
    let text = String::from_utf8(run.stderr).expect("UTF-8");
    assert_eq!(text.lines().count(), 4, "{text}");
    let risky = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!text.contains(risky), "{text:?}");
    assert!(
        text.contains(r"\u{1b}[31mred\nok: all fine.png ->"),
        "{text}"
    );
}
