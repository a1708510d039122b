use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_image::{Colour, Limits, Samples, decode};
use wdsr_model::{ExportPrecision, Model, NetworkConfig};

use super::{image, wdsr, write};

fn saved_model(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("small.safetensors");
    Model::embedded().save(&path).expect("written");
    path
}

#[test]
fn onnx_is_written_in_either_precision() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (flag, precision) in [
        (None, ExportPrecision::F32),
        (Some("--f16"), ExportPrecision::F16),
    ] {
        let output = folder.path().join("small.onnx");
        wdsr()
            .arg("convert")
            .args([&model, &output])
            .args(flag)
            .assert()
            .success()
            .stderr(contains("small.onnx (wdsr-b 32/16 x2)"));
        let expected = Model::embedded().to_onnx(precision).expect("in range");
        assert!(std::fs::read(&output).expect("written") == expected);
    }
    // The model and its conversion, no temporary file.
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 2, "files left");
}

#[test]
fn ncnn_is_written_as_two_files_in_either_precision() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (flag, precision) in [
        (None, ExportPrecision::F32),
        (Some("--f16"), ExportPrecision::F16),
    ] {
        let output = folder.path().join("small-x2.param");
        wdsr()
            .arg("convert")
            .args([&model, &output])
            .args(flag)
            .assert()
            .success()
            .stderr(contains("small-x2.param (wdsr-b 32/16 x2)"))
            .stderr(contains("Upscayl").not());
        let expected = Model::embedded().to_ncnn(precision).expect("in range");
        let param = std::fs::read_to_string(&output).expect("written");
        assert_eq!(param, expected.param);
        let bin = std::fs::read(folder.path().join("small-x2.bin")).expect("written");
        assert!(bin == expected.bin, "weights of {precision:?}");
    }
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 3, "files left");
}

#[test]
fn a_name_that_upscayl_takes_for_another_scale_is_noted() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, scale) in [
        ("wdsr-b-32x16-x2", 1),
        ("x3", 3),
        ("3x", 3),
        ("small", 4),
        ("8x", 8),
    ] {
        wdsr()
            .arg("convert")
            .args([&model, &folder.path().join(name).with_extension("param")])
            .assert()
            .success()
            .stderr(contains(format!(
                "Upscayl reads a scale of {scale} off the name {name}; call it model-x2"
            )));
    }
}

#[test]
fn the_official_layout_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    let output = folder.path().join("official.safetensors");
    wdsr()
        .arg("convert")
        .args([&model, &output])
        .args(["--layout", "official"])
        .assert()
        .success()
        .stderr(contains(
            "options: --model wdsr_b --scale 2 --n_resblocks 16",
        ))
        .stderr(contains("wdsr_b.py").not());
    assert!(std::fs::read(&output).expect("written") == Model::embedded().to_official());
    // And read again, as what it is.
    let back = folder.path().join("back.safetensors");
    wdsr()
        .arg("convert")
        .args([&output, &back])
        .assert()
        .success()
        .stderr(contains("layout official"));
    let (back, embedded) = (Model::load(&back).expect("read"), Model::embedded());
    for (found, expected) in back.convs().iter().zip(embedded.convs()) {
        let pairs = found.weight.iter().zip(&expected.weight);
        for (found, expected) in pairs.chain(found.bias.iter().zip(&expected.bias)) {
            assert!(
                (found - expected).abs() <= 1e-6 * expected.abs(),
                "{found}, expected {expected}"
            );
        }
    }

    let config = NetworkConfig {
        expansion: 9,
        ..NetworkConfig::wdsr_b(10, 1, 2)
    };
    Model::random(&config, 1).save(&model).expect("written");
    wdsr()
        .arg("convert")
        .args([&model, &output])
        .args(["--layout", "official"])
        .assert()
        .success()
        .stderr(contains(
            "wdsr_b.py fixes an expansion of 6 and 8 low-rank channels; change it to 9 and 8",
        ));
}

#[test]
fn a_model_in_float16_is_half_as_large_and_upscales_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("full.safetensors");
    let config = NetworkConfig::wdsr_b(8, 2, 2);
    Model::random(&config, 1).save(&model).expect("written");
    let half = folder.path().join("half.safetensors");
    let convert = wdsr()
        .arg("convert")
        .args([&model, &half])
        .arg("--f16")
        .assert();
    convert.success();
    let size = |path| std::fs::metadata(path).expect("a file").len();
    assert!(size(&half) * 2 < size(&model) + 10_000, "{}", size(&half));
    let input = folder.path().join("input.png");
    write(&input, &image(40, 30, Colour::Rgb));
    let [full, half] = [&model, &half].map(|model| {
        let output = model.with_extension("png");
        let arguments = [Path::new("-m"), model, &input, Path::new("-o"), &output];
        wdsr().arg("upscale").args(arguments).assert().success();
        let large = decode(&output, &Limits::default()).expect("an image");
        match large.samples {
            Samples::U8(samples) => samples,
            other => panic!("{other:?}"),
        }
    });
    let difference = full.iter().zip(&half).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(
        difference.is_some_and(|levels| (1..=3).contains(&levels)),
        "{difference:?}"
    );
}

#[test]
fn options_that_do_not_fit_the_format_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, options, reason) in [
        (
            "out.onnx",
            &["--layout", "official"][..],
            "--layout is for .safetensors",
        ),
        (
            "out.safetensors",
            &["--layout", "official", "--f16"],
            "--f16 is not for the official",
        ),
    ] {
        wdsr()
            .arg("convert")
            .args([&model, &folder.path().join(name)])
            .args(options)
            .assert()
            .code(2)
            .stderr(contains(name).and(contains(reason)));
        assert!(!folder.path().join(name).exists(), "{name} is written");
    }
}

#[test]
fn an_unknown_format_is_wrong_usage_that_names_the_known_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, found) in [("out.tflite", "found .tflite"), ("out", "found no suffix")] {
        wdsr()
            .arg("convert")
            .args([&model, &folder.path().join(name)])
            .assert()
            .code(2)
            .stderr(contains(name).and(contains(
                "expected a name that ends in .safetensors, .onnx or",
            )))
            .stderr(contains(found));
        assert!(!folder.path().join(name).exists(), "{name} is written");
    }
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    let damaged = folder.path().join("damaged.safetensors");
    std::fs::write(&damaged, b"not a model").expect("written");
    wdsr()
        .arg("convert")
        .args([&damaged, &folder.path().join("out.onnx")])
        .assert()
        .code(1)
        .stderr(contains(
            "damaged.safetensors: expected a checkpoint of torch.save",
        ));
    wdsr()
        .arg("convert")
        .args([&model, &folder.path().join("nowhere/out.onnx")])
        .assert()
        .code(1)
        .stderr(contains("nowhere/out.onnx: cannot write"));
}

fn checkpoint(name: &str) -> std::path::PathBuf {
    let (_, cases) = wdsr_testing::golden::checkpoints();
    let case = cases.into_iter().find(|case| case.file == name);
    case.unwrap_or_else(|| panic!("no golden checkpoint {name}"))
        .path
}

#[test]
fn a_checkpoint_becomes_a_model_and_what_was_recognised_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("imported.safetensors");
    let input = checkpoint("official_wdsr-b_x2_legacy.pt");
    wdsr()
        .arg("convert")
        .args([&input, &output])
        .assert()
        .success()
        .stderr(contains(
            "layout official (JiahuiYu/wdsr_ntire2018), weight_g and weight_v folded",
        ))
        .stderr(contains(
            "input (255 x - 255 m) / 127.5, m = (0.4488, 0.4371, 0.404)",
        ))
        .stderr(contains("residual scale 1"))
        .stderr(contains("expansion 6, low-rank width 12"))
        .stderr(contains("imported.safetensors (wdsr-b 16/2 x2)"));
    let model = Model::load(&output).expect("a model");
    let expected = wdsr_import::import(&input, &wdsr_import::Options::default()).expect("read");
    assert_eq!(model.convs(), expected.model.convs());
    assert_eq!(model.config(), expected.model.config());
    // Every other command takes the result.
    wdsr().arg("info").arg(&output).assert().success();
}

#[test]
fn what_a_checkpoint_cannot_say_is_given_by_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("imported.safetensors");
    let input = checkpoint("yjn870_wdsr-b_x3.pth.tar");
    wdsr()
        .arg("convert")
        .args([&input, &output])
        .args(["--range", "byte", "--mean", "0.5,0.25,0"])
        .args(["--residual-scale", "0.1", "--weights", "state_dict"])
        .assert()
        .success()
        .stderr(contains("layout yjn870/WDSR-pytorch under `state_dict`"))
        .stderr(contains(
            "input 255 x - 255 m, m = (0.5, 0.25, 0) (as asked)",
        ))
        .stderr(contains("residual scale 0.1 (as asked)"));
    let model = Model::load(&output).expect("a model");
    assert_eq!(model.config().mean, [0.5, 0.25, 0.0]);
    assert_eq!(model.config().residual_scale, 0.1);

    for (option, value, expected) in [
        (
            "--mean",
            "0.5,0.5",
            "expected one number, or three as R,G,B",
        ),
        ("--mean", "114", "expected numbers in 0..1"),
        ("--range", "255", "invalid value"),
    ] {
        wdsr()
            .arg("convert")
            .args([&input, &output])
            .args([option, value])
            .assert()
            .code(2)
            .stderr(contains(expected));
    }
    wdsr()
        .arg("convert")
        .args([&input, &output])
        .args(["--weights", "params"])
        .assert()
        .code(1)
        .stderr(contains(
            "expected a state dict under `params`, found `epoch`, `state_dict`",
        ));
}

#[test]
fn a_checkpoint_that_wants_code_run_is_refused_and_nothing_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (
        folder.path().join("evil.pt"),
        folder.path().join("out.onnx"),
    );
    let touched = folder.path().join("touched");
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
    bytes.extend(b"\x80\x02M\xe9\x03.\x80\x02}.");
    let command = format!("touch {}", touched.display());
    bytes.extend(b"\x80\x02cposix\nsystem\nX");
    bytes.extend(u32::try_from(command.len()).expect("short").to_le_bytes());
    bytes.extend(command.bytes());
    bytes.extend(b"\x85R.");
    std::fs::write(&input, bytes).expect("written");
    wdsr()
        .arg("convert")
        .args([&input, &output])
        .assert()
        .code(1)
        .stderr(contains(
            "evil.pt: object: the pickle wants `posix.system` called",
        ));
    assert!(!touched.exists() && !output.exists(), "something was done");
}
