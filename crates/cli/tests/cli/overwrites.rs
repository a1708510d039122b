//! No command replaces what it reads, nor writes two outputs to one file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use wdsr_image::Colour;
use wdsr_model::Model;

use super::data::PACKAGES;
use super::{image, program, write};

/// A folder of originals: images under names that meet, models and links.
struct Originals {
    folder: tempfile::TempDir,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

impl Originals {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let images = [
            "one/photo.jpg",
            "one/photo.png",
            "x/p.png",
            "y/p.png",
            "t/album/p.png",
            "t/album/album/p.png",
        ];
        for (at, name) in images.into_iter().enumerate() {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            write(&path, &image(8 + at, 6, Colour::Rgb));
        }
        fs::create_dir(root.join("model")).expect("a folder");
        for name in ["model/p.png", "model/model.bin", "model/model.safetensors"] {
            Model::builtin().save(&root.join(name)).expect("written");
        }
        for folder in ["hard", "links"] {
            fs::create_dir(root.join(folder)).expect("a folder");
        }
        let hard = |from: &str, to: &str| {
            fs::hard_link(root.join(from), root.join(to)).expect("a hard link");
        };
        hard("y/p.png", "hard/p.png");
        hard("model/model.bin", "hard/model.bin");
        #[cfg(unix)]
        for (target, link) in [
            ("../y/p.png", "links/p.png"),
            ("../model/model.bin", "links/model.bin"),
            ("equal.bin", "links/equal.param"),
            ("one", "one-link"),
            ("y", "y-link"),
            ("y/p.png", "input-link.png"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).expect("a link");
        }
        let before = files(root);
        Self { folder, before }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program there, with a file as standard input; its exit code and errors. No original may
    /// have changed.
    fn run_with(&self, arguments: &str, input: Option<&str>) -> (i32, String) {
        let mut command = std::process::Command::new(program::path());
        command.current_dir(self.root()).args(arguments.split(' '));
        if let Some(input) = input {
            command.stdin(File::open(self.root().join(input)).expect("opened"));
        }
        let run = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&run.stderr).into_owned();
        let after = files(self.root());
        for (path, bytes) in &self.before {
            let kept = after.get(path) == Some(bytes);
            assert!(kept, "{arguments}: {} has changed; {text}", path.display());
        }
        (run.status.code().expect("a code"), text)
    }

    /// A run that must end with `code`, its errors naming all of `named`.
    fn expect(&self, arguments: &str, code: i32, named: &[&str]) {
        let (found, text) = self.run_with(arguments, None);
        assert_eq!(found, code, "{arguments}: {text}");
        for named in named {
            assert!(text.contains(named), "{arguments}: no {named} in {text}");
        }
    }

    /// A run that must be refused before it creates anything.
    fn expect_refused(&self, arguments: &str, named: &[&str]) {
        self.expect(arguments, 2, named);
        assert_eq!(files(self.root()).len(), self.before.len(), "{arguments}");
    }
}

/// All files below a folder, with what they hold; links count as what they lead to.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(folder).expect("a folder");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            found.insert(path, bytes);
        }
    }
    found
}

#[test]
fn no_result_replaces_another_input() {
    let own = "error: one/photo.png: the result would replace the input";
    let photo = [own, "error: one/photo.jpg", "photo.png; give -o another"];
    let p = [
        "error: x/p.png: ",
        "would replace the input",
        "y/p.png; give -o another path",
    ];
    let album = [
        "error: t/album/album/p.png",
        "replace the input t/album/p.png",
    ];
    let cases: [(&str, &[&str]); 15] = [
        ("one -o one -f png", &photo),
        (
            "./one -o x/../one -f png",
            &["photo.jpg: x/../one/photo.png"],
        ),
        ("one/photo.jpg one/photo.png -o one -f png", &photo),
        ("one/* -o one -f png", &photo),
        (
            "one -o one-link -f png",
            &["one-link/photo.png: the result would replace"],
        ),
        ("x/p.png y/p.png -o y", &p),
        ("x/p.png x/../y/./p.png -o y", &["the input x/../y/./p.png"]),
        ("x/p.png y/p.png -o y-link", &p),
        (
            "x/p.png input-link.png -o y",
            &["replace the input input-link.png"],
        ),
        ("x hard/p.png -o y", &["replace the input hard/p.png"]),
        (
            "x/p.png y -o links",
            &["x/p.png: links/p.png", "replace the input y/p.png"],
        ),
        (
            "x/p.png y/p.png -o hard",
            &["x/p.png: hard/p.png", "replace the input y/p.png"],
        ),
        ("t/album -r -o t", &album),
        ("t/album -r -o t/album/..", &album),
        (
            "x/p.png -o model -m model/p.png",
            &["would replace the model model/p.png"],
        ),
    ];
    for (arguments, named) in cases {
        if cfg!(unix) || !arguments.contains("link") {
            Originals::new().expect(&format!("upscale {arguments}"), 1, named);
        }
    }
}

#[test]
fn no_result_replaces_an_input_of_another_shard() {
    let originals = Originals::new();
    let codes = ["1/3", "2/3", "3/3"].map(|shard| {
        let arguments = format!("upscale t/album -r -o t --shard {shard}");
        originals.run_with(&arguments, None).0
    });
    assert_eq!(codes.iter().sum::<i32>(), 1, "{codes:?}");
}

#[test]
fn a_conflict_fails_its_own_image_only() {
    let originals = Originals::new();
    originals.expect(
        "upscale t/album one -r -o t",
        1,
        &["t/album/p.png -> t/p.png"],
    );
    for result in ["t/p.png", "t/photo.png", "t/photo.jpg"] {
        assert!(originals.root().join(result).exists(), "{result}");
    }
    let text = "t/album/p.png: t/p.png is up to date";
    originals.expect("upscale t/album one -r -o t", 1, &[text]);
}

#[test]
fn existing_inputs_follow_if_exists() {
    for (policy, named) in [
        ("rename", "one/photo.jpg -> one/photo-1.png"),
        ("skip", "one/photo.jpg: skipped, one/photo.png exists"),
        ("error", "one/photo.png already exists"),
    ] {
        let arguments = format!("upscale one -o one -f png --if-exists {policy}");
        Originals::new().expect(&arguments, 1, &[named]);
    }
    // Names that are chosen anew do not meet either: p-1.png is the second result's own name.
    let originals = Originals::new();
    let root = originals.root();
    fs::create_dir(root.join("in")).expect("a folder");
    for name in ["p.png", "p-1.png"] {
        fs::copy(root.join("x/p.png"), root.join("in").join(name)).expect("copied");
    }
    let arguments = "upscale in/p-1.png in/p.png -o y --if-exists rename";
    originals.expect(
        arguments,
        0,
        &["p-1.png -> y/p-1.png", "p.png -> y/p-2.png"],
    );
    let current = ["p-1.png is up to date", "p-2.png is up to date"];
    originals.expect(arguments, 0, &current);
}

/// The first image takes a second on plain loops, in which the file of the second result appears.
#[test]
fn a_file_that_appears_during_the_run_follows_if_exists() {
    for (policy, code) in [("skip", 0), ("error", 1), ("rename", 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir(root.join("in")).expect("a folder");
        write(&root.join("in/a.png"), &image(48, 32, Colour::Rgb));
        write(&root.join("in/b.png"), &image(8, 6, Colour::Rgb));
        let mut child = std::process::Command::new(program::path())
            .current_dir(root)
            .env("WDSR_ISA", "reference")
            .args(["upscale", "-q", "in", "-o", "out", "--if-exists", policy])
            .args(["-m", "small", "-j", "1"])
            .spawn()
            .expect("it runs");
        // The first result is being written.
        let has_part = || {
            let files = fs::read_dir(root.join("out"))
                .into_iter()
                .flatten()
                .flatten();
            files
                .map(|file| file.path())
                .any(|path| path.extension() == Some("part".as_ref()))
        };
        while !has_part() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!root.join("out/a.png").exists(), "the first image is done");
        fs::write(root.join("out/b.png"), "of another program").expect("written");
        assert_eq!(
            child.wait().expect("it ends").code(),
            Some(code),
            "{policy}"
        );
        let kept = fs::read(root.join("out/b.png")).expect("read");
        assert!(kept == b"of another program", "{policy}: it has changed");
    }
}

#[test]
fn a_report_that_is_an_input_or_output_is_refused() {
    let originals = Originals::new();
    let upscale = "upscale y/p.png -o out -m model/model.bin --report";
    for (report, other) in [
        ("y/p.png", "replace the input y/p.png"),
        ("./x/../y/p.png", "replace the input y/p.png"),
        ("hard/p.png", "replace the input y/p.png"),
        ("links/p.png", "replace the input y/p.png"),
        ("model/model.bin", "replace the model model/model.bin"),
        ("hard/model.bin", "replace the model model/model.bin"),
        ("links/model.bin", "replace the model model/model.bin"),
        ("out/p.png", "be the same file as the result out/p.png"),
        (
            "out/new/../p.png",
            "be the same file as the result out/p.png",
        ),
        (
            "out/.wdsr-manifest.jsonl",
            "the same file as the manifest out/",
        ),
    ] {
        if cfg!(unix) || !report.starts_with("links") {
            let start = format!("{report}: the report would ");
            let named = [&*start, other, "give --report another path"];
            originals.expect_refused(&format!("{upscale} {report}"), &named);
        }
    }
    let of_folder = "upscale one -o out --report one/photo.jpg";
    originals.expect_refused(of_folder, &["replace the input one/photo.jpg"]);
    let single = "upscale one/photo.jpg -o out.png --report out.png";
    originals.expect_refused(single, &["the same file as the result out.png"]);
    let kept = "upscale x/p.png -o y --if-exists POLICY --report y/p.png";
    for policy in ["skip", "error"] {
        let arguments = kept.replace("POLICY", policy);
        originals.expect_refused(&arguments, &["the same file as the result y/p.png"]);
    }
}

#[test]
fn a_manifest_that_is_an_input_or_of_another_shard_is_refused() {
    let originals = Originals::new();
    let root = originals.root();
    originals.expect("upscale x -o out --shard 1/1", 0, &[]);
    let report = "upscale x -o out --report out/.wdsr-manifest-1-of-1.jsonl";
    originals.expect(report, 2, &["replace the manifest of another shard"]);
    fs::create_dir(root.join("linked")).expect("a folder");
    let manifest = root.join("linked/.wdsr-manifest.jsonl");
    fs::hard_link(root.join("y/p.png"), manifest).expect("a link");
    let named = ["the manifest would replace the input y/p.png"];
    originals.expect("upscale y/p.png -o linked", 2, &named);
}

#[test]
#[cfg(target_os = "linux")]
fn pipes_and_raw_video_replace_no_input() {
    let originals = Originals::new();
    let raw = "--rawvideo 2x2:rgb24";
    for (arguments, input, named) in [
        (
            "- -o y/p.png",
            Some("y/p.png"),
            "replace the standard input",
        ),
        (
            "- -o hard/p.png",
            Some("y/p.png"),
            "replace the standard input",
        ),
        (
            "- -o new.png --report y/p.png",
            Some("y/p.png"),
            "the standard input",
        ),
        (
            "- -o new.png --report ./new.png",
            Some("y/p.png"),
            "the result new.png",
        ),
        (
            "y/p.png -o - --report links/p.png",
            None,
            "the input y/p.png",
        ),
        (
            &format!("y/p.png -o ./y/p.png {raw}"),
            None,
            "the input y/p.png",
        ),
        (
            &format!("y/p.png -o hard/p.png {raw}"),
            None,
            "the input y/p.png",
        ),
        (
            &format!("y/p.png -o links/p.png {raw}"),
            None,
            "the input y/p.png",
        ),
        (
            &format!("- -o y/p.png {raw}"),
            Some("y/p.png"),
            "the standard input",
        ),
        (
            &format!("y/p.png -m model/model.bin -o hard/model.bin {raw}"),
            None,
            "the model",
        ),
    ] {
        let (code, text) = originals.run_with(&format!("upscale {arguments}"), input);
        assert_eq!(code, 2, "{arguments}: {text}");
        assert!(text.contains(named), "{arguments}: {text}");
        assert_eq!(
            files(originals.root()).len(),
            originals.before.len(),
            "{arguments}"
        );
    }
    // Pipes and devices are no files that could be lost.
    let devices = "upscale y/p.png -o - --report /dev/stdout";
    assert_eq!(originals.run_with(devices, None).0, 0);
    let report = originals.root().join("report.jsonl");
    let run = wdsr_to_file(
        "upscale y/p.png -o - --report report.jsonl",
        &originals,
        &report,
    );
    assert!(run.contains("same file as the standard output"), "{run}");
}

/// What the program prints on standard error, with standard output in a file.
#[cfg(target_os = "linux")]
fn wdsr_to_file(arguments: &str, originals: &Originals, output: &Path) -> String {
    let run = std::process::Command::new(program::path())
        .current_dir(originals.root())
        .args(arguments.split(' '))
        .stdout(File::create(output).expect("created"))
        .output()
        .expect("it runs");
    assert_eq!(run.status.code(), Some(2));
    String::from_utf8_lossy(&run.stderr).into_owned()
}

#[test]
fn a_conversion_replaces_neither_its_input_nor_its_other_file() {
    let originals = Originals::new();
    let bin = "the weights would replace the input";
    for (arguments, named) in [
        ("model/model.bin model/model.param", bin),
        ("model/model.bin x/../model/model.param", bin),
        ("model/model.bin hard/model.param", bin),
        ("model/model.bin links/model.param", bin),
        (
            "model/model.safetensors model/model.safetensors --f16",
            "the model would replace",
        ),
        (
            "model/model.safetensors ./model/../model/model.safetensors",
            "the model would replace",
        ),
        (
            "model/model.safetensors links/equal.param",
            "the same file as the model",
        ),
    ] {
        if cfg!(unix) || !arguments.contains("links") {
            originals.expect_refused(&format!("convert {arguments}"), &[named, "give OUT"]);
        }
    }
}

#[test]
fn a_benchmark_does_not_replace_its_model() {
    let originals = Originals::new();
    let links = if cfg!(unix) {
        "links/model.bin"
    } else {
        "hard/model.bin"
    };
    for path in [
        "model/model.bin",
        "./x/../model/model.bin",
        "hard/model.bin",
        links,
    ] {
        let arguments = format!("bench -m model/model.bin --save-onnx {path}");
        let named = [
            "the ONNX model would replace the model",
            "give --save-onnx another path",
        ];
        originals.expect_refused(&arguments, &named);
    }
}

#[test]
fn a_training_replaces_neither_recipe_nor_model() {
    const RECIPE: &str = "[network]\nblock = \"wdsr-b\"\nfeatures = 4\nblocks = 1\nscale = 2\n\
        [training]\nupdates = 1\nbatch = 1\npatch_px = 3\n[validation]\nimages = 1\n";
    let mut originals = Originals::new();
    let root = originals.root().to_owned();
    fs::create_dir(root.join("run")).expect("a folder");
    let taught = format!("{RECIPE}[teacher]\nmodel = \"run/best.safetensors\"\nweight = 0.5\n");
    for (name, recipe) in [
        ("run/recipe.toml", RECIPE),
        ("r.toml", RECIPE),
        ("t.toml", &taught),
    ] {
        fs::write(root.join(name), recipe).expect("written");
    }
    for name in ["model", "best"] {
        let path = root.join(format!("run/{name}.safetensors"));
        fs::copy(root.join("model/model.bin"), path).expect("copied");
    }
    fs::hard_link(root.join("r.toml"), root.join("hard/metrics.jsonl")).expect("a link");
    originals.before = files(&root);
    for (arguments, named) in [
        (
            "train run/recipe.toml --out run",
            "replace the recipe run/recipe.toml",
        ),
        (
            "train run/../run/recipe.toml --out ./run",
            "replace the recipe",
        ),
        (
            "train r.toml --out hard",
            "hard/metrics.jsonl: the run's file would replace",
        ),
        (
            "train r.toml --out run --from run/model.safetensors",
            "replace the model",
        ),
        (
            "train r.toml --out run --from ./run/best.safetensors",
            "replace the model",
        ),
        ("train t.toml --out run", "replace the teacher"),
    ] {
        let arguments = format!("{arguments} --data t");
        originals.expect_refused(&arguments, &[named, "give --out another path"]);
    }
    let teacher = "runs/taught-seed1/model.safetensors";
    fs::create_dir_all(root.join("study/runs/taught-seed1")).expect("a folder");
    fs::copy(
        root.join("model/model.bin"),
        root.join("study").join(teacher),
    )
    .expect("copied");
    originals.before = files(&root);
    let study = format!("study gains --data t --out study --teacher study/{teacher}");
    originals.expect_refused(&study, &["replace the teacher", "give --out another path"]);
}

#[test]
fn a_dataset_is_not_built_over_its_sources() {
    let originals = Originals::new();
    let without: String = PACKAGES
        .iter()
        .map(|name| format!(" --without {name}"))
        .collect();
    for source in [
        "--from my=t/album",
        "--from my=t",
        "--from my=./t/album/../album/album",
        "--shared t",
        "--from one=one --from my=t/album",
    ] {
        let named = [
            "the dataset would replace the source folder",
            "give FOLDER another path",
        ];
        originals.expect_refused(&format!("data fetch t {source}{without}"), &named);
    }
}
