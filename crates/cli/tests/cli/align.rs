use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use predicates::str::contains;
use wdsr_image::{Colour, Image, Limits, Samples, decode};

use super::{wdsr, write};

/// A scene without end, at places that lie `shift_px` to the right of and below the pixels.
fn scene(seed: u64, width: usize, height: usize, shift_px: [f64; 2]) -> Image {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let waves: Vec<[f64; 4]> = (0..40)
        .map(|_| {
            let frequency = std::f64::consts::TAU / (6.0 * 16.0_f64.powf(random()));
            let angle = random() * std::f64::consts::TAU;
            let (u, v) = (frequency * angle.cos(), frequency * angle.sin());
            [u, v, 7.0 * random(), 3.0 + 4.0 * random()]
        })
        .collect();
    let pixel = |at: usize| {
        let x = (at % width) as f64 - shift_px[0];
        let y = (at / width) as f64 - shift_px[1];
        let mut sum = 120.0;
        for [u, v, phase, height] in &waves {
            sum += height * (u * x + v * y + phase).sin();
        }
        [0.0, 10.0, 20.0].map(|more| (sum + more).clamp(0.0, 255.0) as u8)
    };
    let samples = (0..width * height).flat_map(pixel).collect();
    Image::new(width, height, Colour::Rgb, Samples::U8(samples))
}

/// The low-resolution image of a scene that is shifted by high-resolution pixels.
fn low(seed: u64, (width, height): (usize, usize), scale: usize, shift_px: [f64; 2]) -> Image {
    scene(seed, width, height, shift_px).imresize(1.0 / scale as f64)
}

fn flat(width: usize, height: usize) -> Image {
    Image::new(
        width,
        height,
        Colour::Rgb,
        Samples::U8(vec![150; 3 * width * height]),
    )
}

fn write_pair(folder: &Path, name: &str, high: &Image, low: &Image) {
    for (sub, image) in [("HR", high), ("LR_x2", low)] {
        std::fs::create_dir_all(folder.join(sub)).expect("a folder");
        write(&folder.join(format!("{sub}/{name}.png")), image);
    }
}

/// Lines of a report by name.
fn report(folder: &Path) -> BTreeMap<String, serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("alignment.jsonl")).expect("a report");
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (value["name"].as_str().expect("a name").to_owned(), value)
    };
    text.lines().map(line).collect()
}

/// All files of a folder with their content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = std::fs::read(&path).expect("read");
            found.insert(path, content);
        }
    }
    found
}

#[test]
fn aligns_pairs_and_rejects_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    let size = (240, 200);
    for (name, seed, shift_px) in [
        ("whole", 1, [3.0, -5.0]),
        ("fraction", 2, [-2.4, 6.7]),
        ("still", 3, [0.0, 0.0]),
    ] {
        write_pair(
            &data,
            name,
            &scene(seed, 240, 200, [0.0; 2]),
            &low(seed, size, 2, shift_px),
        );
    }
    let deep = |image: Image| {
        let Samples::U8(samples) = image.rgb_to_grey().samples else {
            panic!("another depth");
        };
        samples
            .iter()
            .map(|v| u16::from(*v) * 257)
            .collect::<Vec<u16>>()
    };
    let high16 = Image::new(
        240,
        200,
        Colour::Grey,
        Samples::U16(deep(scene(4, 240, 200, [0.0; 2]))),
    );
    let low16 = Image::new(
        120,
        100,
        Colour::Grey,
        Samples::U16(deep(low(4, size, 2, [4.0, 2.0]))),
    );
    write_pair(&data, "deep", &high16, &low16);
    write_pair(
        &data,
        "different",
        &scene(5, 240, 200, [0.0; 2]),
        &low(6, size, 2, [0.0; 2]),
    );
    write_pair(&data, "flat", &flat(240, 200), &flat(120, 100));
    write_pair(
        &data,
        "half",
        &scene(7, 240, 200, [0.0; 2]),
        &scene(7, 240, 200, [0.0; 2]),
    );
    write_pair(&data, "broken", &flat(240, 200), &flat(120, 100));
    std::fs::write(data.join("LR_x2/broken.png"), "no image").expect("written");
    let before = files(&data);

    let run = |out: &Path, threads: &str| {
        wdsr()
            .args(["data", "align", "-j", threads])
            .arg(&data)
            .arg("-o")
            .arg(out)
            .assert()
    };
    run(&out, "2")
        .code(1)
        .stdout(contains("whole: shift +3.0"))
        .stdout(contains("flat: rejected: flat"))
        .stdout(contains(
            "half: rejected: scale mismatch: 240 x 200 pixels of 240 x 200 are not 1/2",
        ))
        .stdout(contains("4 of 8 pairs aligned"));
    assert_eq!(files(&data), before, "the input has changed");
    let report = report(&out);
    let verdicts: Vec<(&str, &str)> = report
        .iter()
        .map(|(name, line)| (name.as_str(), line["verdict"].as_str().expect("text")))
        .collect();
    let expected = [
        ("broken", "broken"),
        ("deep", "aligned"),
        ("different", "no-overlap"),
        ("flat", "flat"),
        ("fraction", "aligned"),
        ("half", "scale-mismatch"),
        ("still", "aligned"),
        ("whole", "aligned"),
    ];
    assert_eq!(verdicts, expected);
    for (name, shift_px) in [("whole", [3.0, -5.0]), ("fraction", [-2.4, 6.7])] {
        for (axis, expected) in shift_px.into_iter().enumerate() {
            let found = report[name]["shift_px"][axis].as_f64().expect("a number");
            assert!(
                (found - expected).abs() < 0.05,
                "{name}: {found} for {expected}"
            );
        }
        let residual = |key: &str| report[name][key].as_f64().expect("a number");
        assert!(residual("residual_after_levels") < 0.2 * residual("residual_before_levels"));
    }
    // A whole shift copies pixels, at their depth: the first low-resolution column lies two pixels to
    // the left of the original.
    let aligned = |path: &str| decode(&out.join(path), &Limits::default()).expect("an image");
    let (high, low) = (aligned("HR/deep.png"), aligned("LR_x2/deep.png"));
    assert_eq!((low.width_px, low.height_px), (118, 99));
    assert_eq!((high.width_px, high.height_px), (236, 198));
    let (Samples::U16(high), Samples::U16(original)) = (&high.samples, &high16.samples) else {
        panic!("another depth");
    };
    assert_eq!(high[..236], original[..236]);
    let (Samples::U16(low), Samples::U16(original)) = (&low.samples, &low16.samples) else {
        panic!("another depth");
    };
    assert_eq!(low[..118], original[120 + 2..240]);

    // The pairs are found again, and match.
    wdsr()
        .args(["data", "check", "--patch", "32"])
        .arg(&out)
        .assert()
        .stdout(contains("4 images, 4 usable at x2"));
    wdsr()
        .args(["eval", "-m", "small", "-s", "2", "--set"])
        .arg(&out)
        .assert()
        .success()
        .stdout(contains("fraction"));
    // Results stay, and are the same from another number of threads.
    run(&out, "1")
        .code(1)
        .stderr(contains("there are aligned images already"));
    let again = folder.path().join("again");
    run(&again, "1").code(1);
    let relative = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let found = files(folder).into_iter();
        found
            .map(|(path, bytes)| (path.strip_prefix(folder).expect("below").to_owned(), bytes))
            .collect()
    };
    assert_eq!(relative(&out), relative(&again));
}

/// A zoom remains in pairs that are aligned by a shift, and vanishes by `--affine`.
#[test]
fn affine_alignment_corrects_a_zoom() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, root) = (folder.path().join("data"), folder.path());
    let high = scene(8, 320, 280, [0.0; 2]);
    // 316 x 276 pixels of the original are stretched to the low-resolution size.
    let (width, height) = (316, 276);
    let cropped = scene(8, width, height, [-2.0, -2.0]);
    let zoomed = cropped.imresize(320.0 / 316.0).imresize(0.5);
    let (width_px, height_px) = (zoomed.width_px, zoomed.height_px);
    assert_eq!((width_px, height_px), (160, 140));
    write_pair(&data, "zoomed", &high, &zoomed);
    let residual = |out: &str, options: &[&str]| {
        wdsr()
            .args(["data", "align"])
            .arg(&data)
            .arg("-o")
            .arg(root.join(out))
            .args(options)
            .assert()
            .success();
        let line = report(&root.join(out)).remove("zoomed").expect("a line");
        (
            line["residual_after_levels"].as_f64().expect("a number"),
            line["matrix"].clone(),
        )
    };
    let (by_shift, matrix) = residual("shift", &[]);
    assert!(matrix.is_null(), "{matrix}");
    let (by_matrix, matrix) = residual("affine", &["--affine"]);
    assert!(by_matrix < 0.5 * by_shift, "{by_matrix} and {by_shift}");
    let zoom = matrix[0][0].as_f64().expect("a number");
    assert!((zoom - 316.0 / 320.0).abs() < 1e-3, "{zoom}");
}

#[test]
fn align_never_overwrites_its_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    write_pair(
        data,
        "a",
        &scene(1, 160, 140, [0.0; 2]),
        &low(1, (160, 140), 2, [2.0, 0.0]),
    );
    let before = files(data);
    for (arguments, code, message) in [
        (&[".", "-o", "."][..], 2, "would replace the image"),
        (
            &["-s", "5", ".", "-o", "out"],
            2,
            "expected 1, 2, 3, 4 or 8",
        ),
        // Originals alone have nothing to align.
        (
            &["-s", "3", ".", "-o", "out"],
            1,
            "no low-resolution image to align",
        ),
    ] {
        wdsr()
            .args(["data", "align"])
            .args(arguments)
            .current_dir(data)
            .assert()
            .code(code)
            .stderr(contains(message));
    }
    assert_eq!(files(data), before);
}

const RECIPE: &str = r#"
[network]
features = 8
blocks = 1
scale = 4
[training]
updates = 2
batch = 2
patch_px = 16
[schedule]
milestones = [1]
[validation]
every_updates = 2
images = 1
protocol = "div2k"
"#;

/// A set in the layout of the challenge. Shifts of the images, by pair.
fn write_track(root: &Path, track: &str) -> Vec<(String, [f64; 2])> {
    let suffixes: &[&str] = match track {
        "mild" => &["m"],
        "difficult" => &["d"],
        _ => &["w1", "w2", "w3", "w4"],
    };
    let (high, low_folder) = (
        root.join("DIV2K_train_HR"),
        root.join(format!("DIV2K_train_LR_{track}")),
    );
    for folder in [&high, &low_folder] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    let mut shifts = Vec::new();
    for seed in 1..=3_u64 {
        let name = format!("{seed:04}");
        write(
            &high.join(format!("{name}.png")),
            &scene(seed, 208, 192, [0.0; 2]),
        );
        for (at, suffix) in suffixes.iter().enumerate() {
            let shift_px = [seed as f64 - 2.5, 1.5 + at as f64];
            let low = low(seed, (208, 192), 4, shift_px);
            write(&low_folder.join(format!("{name}x4{suffix}.png")), &low);
            let name = match track {
                "wild" => format!("{name}x4{suffix}"),
                _ => name.clone(),
            };
            shifts.push((name, shift_px));
        }
    }
    shifts
}

#[test]
fn tracks_of_ntire_2018_are_checked_aligned_trained_on_and_scored() {
    for track in ["mild", "difficult", "wild"] {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, set) = (folder.path(), folder.path().join("DIV2K"));
        let shifts = write_track(&set, track);
        let count = shifts.len();
        wdsr()
            .args([
                "data", "check", "-s", "4", "--patch", "16", "--track", track,
            ])
            .arg(&set)
            .assert()
            .success()
            .stdout(contains(format!("{count} images, {count} usable at x4")));

        // Estimated when the training starts, or once by align; to the same pairs.
        let train = |shifts: &str, data: &Path, out: &str| {
            let recipe = root.join(format!("{out}.toml"));
            std::fs::write(&recipe, format!("{RECIPE}{shifts}")).expect("written");
            let run = wdsr()
                .arg("train")
                .arg(&recipe)
                .arg("--data")
                .arg(data)
                .arg("--out")
                .arg(root.join(out))
                .assert()
                .success();
            String::from_utf8_lossy(&run.get_output().stdout).into_owned()
        };
        let of_track = |shifts: &str| format!("[data]\ntrack = \"{track}\"\nshifts = {shifts}\n");
        let text = train(&of_track("\"estimate\""), &set, "estimated");
        assert!(
            text.contains(&format!("{count} estimated shifts corrected")),
            "{text}"
        );
        for (name, [right, down]) in &shifts {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name}: shift ")));
            let line = line.unwrap_or_else(|| panic!("{name}: {text}"));
            let numbers: Vec<f64> = line
                .split([' ', ','])
                .filter_map(|word| word.parse().ok())
                .collect();
            let error = (numbers[0] - right).hypot(numbers[1] - down);
            assert!(error < 0.08, "{line} for {right}, {down}");
        }
        let aligned = root.join("aligned");
        wdsr()
            .args(["data", "align", "-s", "4", "--track", track])
            .arg(&set)
            .arg("-o")
            .arg(&aligned)
            .assert()
            .success();
        let text = train(&of_track("[\"aligned/alignment.jsonl\"]"), &set, "known");
        assert!(
            text.contains(&format!("{count} known shifts corrected")),
            "{text}"
        );
        train("", &aligned, "aligned-run");
        let model = |run: &str| {
            std::fs::read(root.join(run).join("last.checkpoint")).expect("a checkpoint")
        };
        let weights = |run: &str| {
            let model = wdsr_model::Model::load(&root.join(run).join("model.safetensors"))
                .expect("a model");
            model.convs().to_vec()
        };
        assert!(!model("known").is_empty());
        assert_eq!(weights("estimated"), weights("known"), "{track}");
        assert_eq!(weights("known"), weights("aligned-run"), "{track}");

        wdsr()
            .args(["eval", "--track", track, "--protocol", "ntire2018", "-m"])
            .arg(root.join("known/model.safetensors"))
            .arg("--set")
            .arg(&set)
            .assert()
            .success()
            .stdout(contains(shifts[0].0.clone()));
    }
}

/// The validation images of the wild track: one low-resolution image for each original, as published, or
/// four, as for training.
#[test]
fn wild_track_is_validated_and_scored_on_its_validation_images() {
    for suffixes in [&["w"][..], &["w1", "w2", "w3", "w4"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        write_track(&root.join("train"), "wild");
        let valid = root.join("valid");
        let (high, low_folder) = (
            valid.join("DIV2K_valid_HR"),
            valid.join("DIV2K_valid_LR_wild"),
        );
        for folder in [&high, &low_folder] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        for seed in 801..=802_u64 {
            let name = format!("{seed:04}");
            write(
                &high.join(format!("{name}.png")),
                &scene(seed, 176, 160, [0.0; 2]),
            );
            for suffix in suffixes {
                let low = low(seed, (176, 160), 4, [0.0; 2]);
                write(&low_folder.join(format!("{name}x4{suffix}.png")), &low);
            }
        }
        let names: Vec<String> = (801..=802)
            .flat_map(|seed| suffixes.iter().map(move |end| format!("{seed:04}x4{end}")))
            .collect();

        let data = "[data]\ntrack = \"wild\"\nshifts = \"estimate\"\nvalidation = \"valid\"\n";
        let recipe = RECIPE.replace("images = 1", "images = 10");
        std::fs::write(root.join("recipe.toml"), format!("{recipe}{data}")).expect("written");
        wdsr()
            .current_dir(root)
            .args(["train", "recipe.toml", "--data", "train", "--out", "out"])
            .assert()
            .success()
            .stdout(contains("estimated shifts corrected"));
        let lines = std::fs::read_to_string(root.join("out/metrics.jsonl")).expect("metrics");
        assert!(lines.contains("psnr"), "{lines}");

        let scored = wdsr()
            .current_dir(root)
            .args(["eval", "--set", "valid", "--track", "wild"])
            .args(["--protocol", "ntire2018", "-m", "out/model.safetensors"])
            .assert()
            .success();
        let text = String::from_utf8_lossy(&scored.get_output().stdout).into_owned();
        let found: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|word| word.starts_with("080"))
            .collect();
        assert_eq!(found, names, "{text}");
        assert!(text.contains("DIV2K_valid_LR_wild"), "{text}");
    }
}

/// Every fault is found before the training starts, and names its key and a remedy.
#[test]
fn pairs_that_data_shifts_cannot_align_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, set) = (folder.path(), folder.path().join("DIV2K"));
    write_track(&set, "mild");
    let refuses = |recipe: &str, expected: &str| {
        std::fs::write(root.join("recipe.toml"), recipe).expect("written");
        wdsr()
            .arg("train")
            .arg(root.join("recipe.toml"))
            .arg("--data")
            .arg(&set)
            .arg("--out")
            .arg(root.join("out"))
            .assert()
            .code(1)
            .stderr(contains(expected));
        assert!(!root.join("out/last.checkpoint").exists());
    };
    let data = |keys: &str| format!("{RECIPE}[data]\n{keys}\n");
    refuses(
        &data("shifts = \"guess\""),
        "expected \"estimate\" or a list of reports",
    );
    refuses(
        &data("shifts = [\"none.jsonl\"]\ntrack = \"mild\""),
        "none.jsonl: cannot read",
    );
    refuses(
        &data("shifts = \"estimate\""),
        "remove data.shifts, or give pairs",
    );
    std::fs::write(root.join("empty.jsonl"), "").expect("written");
    refuses(
        &data("shifts = [\"empty.jsonl\"]\ntrack = \"mild\""),
        "the reports of data.shifts have no line for 0001 at x4",
    );
    std::fs::write(root.join("text.jsonl"), "0001\n").expect("written");
    refuses(
        &data("shifts = [\"text.jsonl\"]\ntrack = \"mild\""),
        "text.jsonl: line 1: ",
    );
    let degraded = "[[degradation.stages]]\nkind = \"downsample\"\nmethods = [\"area\"]\n";
    refuses(
        &format!("{}{degraded}", data("shifts = \"estimate\"")),
        "data.shifts has no effect with [degradation]",
    );
    refuses(
        &format!("{}{degraded}", data("track = \"mild\"")),
        "data.track has no effect with [degradation]",
    );
    write(
        &set.join("DIV2K_train_LR_mild/0002x4m.png"),
        &low(9, (208, 192), 4, [0.0; 2]),
    );
    refuses(
        &data("shifts = \"estimate\"\ntrack = \"mild\""),
        "0002x4m.png: data.shifts = \"estimate\" failed: ",
    );
    // A report skips such pairs.
    wdsr()
        .args(["data", "align", "-s", "4", "--track", "mild"])
        .arg(&set)
        .arg("-o")
        .arg(root.join("aligned"))
        .assert()
        .code(1);
    let recipe = data("shifts = [\"aligned/alignment.jsonl\"]\ntrack = \"mild\"");
    std::fs::write(root.join("recipe.toml"), recipe).expect("written");
    wdsr()
        .arg("train")
        .arg(root.join("recipe.toml"))
        .arg("--data")
        .arg(&set)
        .arg("--out")
        .arg(root.join("out"))
        .assert()
        .success()
        .stdout(contains("2 known shifts corrected"))
        .stdout(contains("1 pairs skipped"));
}
