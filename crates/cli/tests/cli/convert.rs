use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_convert::{to_ncnn, to_onnx, to_pytorch};
use wdsr_image::{Colour, Limits, Samples, decode};
use wdsr_model::{Model, NetworkConfig, WeightFormat};

use super::{image, wdsr, write};

fn saved_model(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("small.safetensors");
    Model::builtin().save(&path).expect("written");
    path
}

#[test]
fn writes_onnx_in_both_number_formats() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (flag, format) in [
        (None, WeightFormat::F32),
        (Some("--f16"), WeightFormat::F16),
    ] {
        let output = folder.path().join("small.onnx");
        wdsr()
            .arg("convert")
            .args([&model, &output])
            .args(flag)
            .assert()
            .success()
            .stderr(contains("small.onnx (wdsr-b 32/16 x2)"));
        let expected = to_onnx(&Model::builtin(), format).expect("in range");
        assert!(std::fs::read(&output).expect("written") == expected);
    }
    // The model and its conversion, no temporary file.
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 2, "files left");
}

#[test]
fn writes_ncnn_as_two_files_in_both_number_formats() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (flag, format) in [
        (None, WeightFormat::F32),
        (Some("--f16"), WeightFormat::F16),
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
        let expected = to_ncnn(&Model::builtin(), format).expect("in range");
        let param = std::fs::read_to_string(&output).expect("written");
        assert_eq!(param, expected.param);
        let bin = std::fs::read(folder.path().join("small-x2.bin")).expect("written");
        assert!(bin == expected.bin, "weights in {format:?}");
    }
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 3, "files left");
}

#[test]
fn warns_of_names_that_upscayl_reads_another_scale_from() {
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
                "Upscayl reads scale {scale} from the name {name}; for Upscayl rename the files to model-x2"
            )));
    }
}

#[test]
fn writes_the_official_layout() {
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
    assert!(std::fs::read(&output).expect("written") == to_pytorch(&Model::builtin()));
    // It is read back.
    let back = folder.path().join("back.safetensors");
    wdsr()
        .arg("convert")
        .args([&output, &back])
        .assert()
        .success()
        .stderr(contains("layout official"));
    let (back, original) = (Model::load(&back).expect("read"), Model::builtin());
    for (found, expected) in back.convs().iter().zip(original.convs()) {
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
            "wdsr_b.py has a fixed expansion of 6 and 8 low-rank channels; change them to 9 and 8",
        ));
}

#[test]
fn float16_models_are_half_as_large_and_upscale_nearly_the_same() {
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
fn options_of_other_formats_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, options, reason) in [
        (
            "out.onnx",
            &["--layout", "official"][..],
            "--layout applies to .safetensors",
        ),
        (
            "out.safetensors",
            &["--layout", "official", "--f16"],
            "--f16 does not apply to the official",
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
fn unknown_formats_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, found) in [("out.tflite", "found .tflite"), ("out", "found no suffix")] {
        wdsr()
            .arg("convert")
            .args([&model, &folder.path().join(name)])
            .assert()
            .code(2)
            .stderr(contains(name).and(contains(
                "expected a file name with the suffix .safetensors, .onnx or .param",
            )))
            .stderr(contains(found));
        assert!(!folder.path().join(name).exists(), "{name} is written");
    }
}

#[test]
fn names_files_that_cannot_be_read_or_written() {
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
fn converts_checkpoints_and_prints_what_was_recognised() {
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
    let expected = wdsr_convert::import(&input, &wdsr_convert::Options::default()).expect("read");
    assert_eq!(model.convs(), expected.model.convs());
    assert_eq!(model.config(), expected.model.config());
    // Other commands read the result.
    wdsr().arg("info").arg(&output).assert().success();
}

#[test]
fn options_set_what_a_checkpoint_does_not_record() {
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
            "input 255 x - 255 m, m = (0.5, 0.25, 0) (as given)",
        ))
        .stderr(contains("residual scale 0.1 (as given)"));
    let model = Model::load(&output).expect("a model");
    assert_eq!(model.config().mean, [0.5, 0.25, 0.0]);
    assert_eq!(model.config().residual_scale, 0.1);

    for (option, value, expected) in [
        ("--mean", "0.5,0.5", "expected a number or three as R,G,B"),
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
fn refuses_checkpoints_that_call_code() {
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
        .stderr(contains("evil.pt: object: the pickle calls `posix.system`"));
    assert!(
        !touched.exists() && !output.exists(),
        "the code was run, or a file written"
    );
}

#[test]
fn checkpoints_of_others_run_without_conversion() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = wdsr_testing::paths::checkout("tests/golden/checkpoints/compact_x4.pth");
    let image = wdsr_testing::paths::checkout("samples/chelsea.png");
    let at = |name: &str| folder.path().join(name);
    let converted = at("compact.safetensors");
    wdsr()
        .arg("convert")
        .args([&checkpoint, &converted])
        .assert()
        .success();
    for (model, result) in [(&checkpoint, "direct.png"), (&converted, "converted.png")] {
        wdsr()
            .arg("upscale")
            .arg(&image)
            .arg("-m")
            .arg(model)
            .arg("-o")
            .arg(at(result))
            .assert()
            .success();
    }
    let [direct, converted] =
        ["direct.png", "converted.png"].map(|name| std::fs::read(at(name)).expect("a result"));
    assert_eq!(direct, converted);
    wdsr()
        .arg("info")
        .arg(&checkpoint)
        .assert()
        .success()
        .stdout(contains("compact 8/3 x4"))
        .stderr(contains("Compact"));
}
