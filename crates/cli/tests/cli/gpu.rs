//! `--device` and `wdsr devices`. Those with the feature `gpu` need a driver, such as Mesa's software (`.ci/run gpu`).

use predicates::str::contains;
use wdsr_image::Colour;

use crate::{image, wdsr, write};

/// The rows of `wdsr devices --json`.
fn devices() -> Vec<serde_json::Value> {
    let run = wdsr().args(["devices", "--json"]).assert().success();
    serde_json::from_slice(&run.get_output().stdout).expect("JSON")
}

#[test]
fn the_processor_is_the_first_device() {
    let devices = devices();
    assert_eq!(devices[0]["device"], "cpu", "{devices:?}");
    assert!(devices[0]["gflops"].as_f64() > Some(0.0), "{devices:?}");
}

#[test]
fn wrong_devices_and_precisions_are_wrong_usage() {
    for (options, message) in [
        (["--device", "cuda"], "expected auto, cpu, gpu, or gpu:N"),
        (["--precision", "f16"], "only GPUs compute in f16"),
    ] {
        let run = wdsr().args(["upscale", "a.png"]).args(options).assert();
        run.code(2).stderr(contains(message));
    }
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_program_without_gpus_names_its_feature() {
    let run = wdsr()
        .args(["upscale", "a.png", "--device", "gpu"])
        .assert();
    run.code(2)
        .stderr(contains("built without GPUs; build it with --features gpu"));
    let run = wdsr().arg("devices").assert().success();
    run.stdout(contains("build it with --features gpu"));
}

#[test]
fn auto_without_a_gpu_computes_on_the_processor() {
    let folder = tempfile::tempdir().expect("folder");
    let [low, by_auto, by_cpu] = ["low.png", "auto.png", "cpu.png"].map(|n| folder.path().join(n));
    write(&low, &image(23, 17, Colour::Rgb));
    for (device, output) in [("auto", &by_auto), ("cpu", &by_cpu)] {
        let mut run = wdsr();
        run.args(["upscale", "-m", "small", "--device", device, "-o"])
            .arg(output)
            .arg(&low);
        let run = without_drivers(&mut run).assert().success();
        if device == "auto" && cfg!(feature = "gpu") {
            run.stderr(contains("--device auto: no GPU found"));
        }
    }
    let bytes = |path| std::fs::read(path).expect("a result");
    assert_eq!(bytes(&by_auto), bytes(&by_cpu), "results by auto and cpu");
}

/// The program where Vulkan has no driver.
fn without_drivers(run: &mut assert_cmd::Command) -> &mut assert_cmd::Command {
    run.env("VK_ICD_FILENAMES", "/none")
        .env("VK_DRIVER_FILES", "/none")
}

#[cfg(all(feature = "gpu", target_os = "linux"))]
mod with_feature {
    use predicates::prelude::PredicateBooleanExt;
    use wdsr_image::{Limits, Samples, decode};

    use super::*;
    use crate::{study, train};

    #[test]
    fn the_environment_only_switches_matrices_off() {
        let mut run = wdsr();
        run.args(["upscale", "a.png", "--device", "gpu:0"])
            .env("WDSR_MATRICES", "on");
        let expected = "WDSR_MATRICES=on: expected off; set it so, or unset it";
        run.assert().failure().stderr(contains(expected));
    }

    #[test]
    fn a_gpu_that_is_demanded_and_absent_is_an_error() {
        let mut run = wdsr();
        run.args(["upscale", "a.png", "--device", "gpu"]);
        let run = without_drivers(&mut run).assert().code(1);
        run.stderr(contains("no GPU found: expected a driver for Vulkan"));
        let mut run = wdsr();
        let run = without_drivers(run.arg("devices")).assert().success();
        run.stdout(contains("no GPU found"));
        let run = wdsr()
            .args(["upscale", "a.png", "--device", "gpu:99"])
            .assert();
        run.code(1)
            .stderr(contains("gpu:99: expected a number below"));
    }

    #[test]
    fn images_are_upscaled_on_a_gpu_and_their_lines_name_it() {
        let folder = tempfile::tempdir().expect("folder");
        let [low, by_gpu, by_cpu, report] =
            ["low.png", "gpu.png", "cpu.png", "report"].map(|n| folder.path().join(n));
        write(&low, &image(61, 47, Colour::RgbAlpha));
        let name = devices()[1]["name"].as_str().expect("a name").to_owned();
        let run = wdsr()
            .args(["upscale", "-m", "small", "--device", "gpu:0", "--report"])
            .args([&report, &"-o".into(), &by_gpu, &low])
            .assert()
            .success();
        run.stderr(contains(format!("; on {name};")));
        let report = std::fs::read_to_string(report).expect("a report");
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["device"], name.as_str(), "{report}");
        let run = wdsr()
            .args(["upscale", "-m", "small", "-o"])
            .args([&by_cpu, &low])
            .assert();
        run.success();
        let samples = |path| match decode(path, &Limits::default()).expect("an image").samples {
            Samples::U8(samples) => samples,
            other => panic!("expected 8 bits, found {:?}", other.borrowed().depth()),
        };
        let pairs = samples(&by_gpu).into_iter().zip(samples(&by_cpu));
        let differences: Vec<u8> = pairs.map(|(gpu, cpu)| gpu.abs_diff(cpu)).collect();
        let changed = differences.iter().filter(|d| **d > 0).count();
        assert!(differences.iter().all(|d| *d <= 1), "{differences:?}");
        assert!(
            changed * 100 < differences.len(),
            "{changed} of {}",
            differences.len()
        );
    }

    #[test]
    fn a_batch_on_another_device_is_upscaled_again() {
        let folder = tempfile::tempdir().expect("folder");
        let [low, out] = ["low", "out"].map(|n| folder.path().join(n));
        std::fs::create_dir(&low).expect("folder");
        write(&low.join("a.png"), &image(20, 16, Colour::Rgb));
        for (device, line) in [
            ("cpu", "done"),
            ("gpu:0", "1 done"),
            ("gpu:0", "up to date"),
        ] {
            let run = wdsr()
                .args(["upscale", "-m", "small", "--device", device, "-o"])
                .args([&out, &low])
                .assert()
                .success();
            let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
            assert_eq!(
                said.contains("up to date"),
                line == "up to date",
                "{device}: {said}"
            );
        }
    }

    #[test]
    fn a_training_goes_on_from_gpu_to_processor_and_back() {
        let folder = tempfile::tempdir().expect("folder");
        let constant = train::RECIPE.replace("cosine", "constant");
        train::prepare(folder.path(), &constant);
        let name = devices()[1]["name"].as_str().expect("a name").to_owned();
        let run = |more: &[&str]| {
            let paths = ["recipe.toml", "data", "out"].map(|name| folder.path().join(name));
            let [recipe, data, out] = &paths;
            let mut run = wdsr();
            run.arg("train").arg(recipe).arg("--data").arg(data);
            run.arg("--out").arg(out).args(more).assert()
        };
        run(&["--updates", "10", "--device", "gpu:0"])
            .success()
            .stdout(contains(format!(
                "training in f32 on {name}, which has the images"
            )));
        run(&["--updates", "20", "--resume"]).success();
        let run = run(&["--updates", "30", "--resume", "--device", "gpu:0"]);
        run.success();
        let metrics = std::fs::read_to_string(folder.path().join("out/metrics.jsonl"));
        let metrics = metrics.expect("a log");
        let psnr_db = |line: &str| -> f64 {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["psnr_db"].as_f64().expect("a PSNR")
        };
        let psnr_db: Vec<f64> = metrics.lines().map(psnr_db).collect();
        assert_eq!(psnr_db.len(), 3, "{metrics}");
        assert!(psnr_db[2] > psnr_db[0], "{metrics}");
    }

    #[test]
    fn a_recipe_that_a_gpu_cannot_train_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        // Without [network] it is that of the model.
        let model = wdsr_testing::paths::built_in_model("small-x2");
        let recipe = format!(
            "[start]\nfrom = {model:?}\n[training]\nupdates = 2\nbatch = 2\npatch_px = 8\nint8 = true\n\
             [validation]\nimages = 1"
        );
        train::prepare(folder.path(), &recipe);
        let mut run = wdsr();
        run.arg("train").arg(folder.path().join("recipe.toml"));
        run.arg("--data").arg(folder.path().join("data"));
        run.arg("--out").arg(folder.path().join("out"));
        let run = run.args(["--device", "gpu:0"]).assert().code(1);
        run.stderr(contains(
            "cannot train with training.int8 = true; use --device cpu",
        ));
    }

    #[test]
    fn a_study_trains_on_a_gpu() {
        let folder = tempfile::tempdir().expect("folder");
        study::prepare(folder.path());
        let name = devices()[1]["name"].as_str().expect("a name").to_owned();
        let depth = [
            "depth",
            "--blocks",
            "1",
            "--updates",
            "2",
            "--seeds",
            "1",
            "--device",
            "gpu:0",
        ];
        let run = study::study(folder.path(), &depth).assert().success();
        let output = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
        let trained = output
            .matches(&*format!("training in f32 on {name}"))
            .count();
        assert_eq!(trained, 4, "{output}");
    }

    #[test]
    fn a_gpu_is_measured_and_checked() {
        let run = wdsr()
            .args([
                "bench",
                "--network",
                "wdsr-b-8x2",
                "--size",
                "40x30",
                "--device",
                "gpu:0",
            ])
            .arg("--json")
            .assert()
            .success();
        let report: serde_json::Value =
            serde_json::from_slice(&run.get_output().stdout).expect("JSON");
        assert_eq!(report["gpu"], devices()[1]["name"], "{report}");
        for key in ["gflops", "peak_gflops", "ratio_to_peak"] {
            assert!(report[key].as_f64() > Some(0.0), "{key} of {report}");
        }
    }

    #[test]
    fn precisions_of_the_processor_are_wrong_usage_on_a_gpu() {
        for precision in ["bf16", "int8"] {
            for command in [&["bench"][..], &["upscale", "a.png"]] {
                let mut run = wdsr();
                run.args(command);
                let run = run.args(["--device", "gpu:0", "--precision", precision]);
                let message = contains(format!("--precision {precision}: "))
                    .and(contains("computes in f32 or f16; choose one of these"));
                run.assert().code(2).stderr(message);
            }
        }
    }
}
