//! Training on the adapters of this computer, software included, against the processor.
//!
//! They are ignored by default; `.ci/run gpu` installs Mesa's software where there is no driver, and runs them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use wdsr_gpu::{Choice, Gpu};
use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_model::{DevicePrecision, Model, NetworkConfig, Norm};
use wdsr_train::dataset::Cutting;
use wdsr_train::{DataFolder, Error, Event, Recipe, Trainer};

/// How far losses and weights may be off after some updates, relative to the largest.
const LOSS_TOLERANCE: f64 = 1e-4;
const WEIGHT_TOLERANCE: f64 = 1e-3;

const UPDATES: u64 = 20;

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(open);

/// The first adapter.
fn open() -> Arc<Gpu> {
    let gpu = Gpu::open(Choice::Index(0));
    Arc::new(gpu.unwrap_or_else(|error| panic!("{error}")))
}

/// The folder `data` in `root`, with three images.
fn images(root: &Path) -> PathBuf {
    let data = root.join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    for at in 0..3 {
        let sample = |i: u32| ((i / 3 % 48 * (5 + at) + i / 144 * 7 + i % 3 * 31) % 251) as u8;
        let samples = (0..3 * 48 * 48).map(sample).collect();
        let image = Image::new(48, 48, Colour::Rgb, Samples::U8(samples));
        let path = data.join(format!("{at}.png"));
        encode(&image, &path, Format::Png).expect("written");
    }
    data
}

/// The folder of a training whose images are kept in a file.
const IN_FILE: &str = "in-file";

/// A training in the folder `name`, of a recipe with these lines in [network] and [training].
fn prepare(root: &Path, name: &str, lines: [&str; 2], resume: bool) -> Trainer {
    prepare_with_rate(root, name, lines, resume, "1e-3")
}

fn prepare_with_rate(
    root: &Path,
    name: &str,
    lines: [&str; 2],
    resume: bool,
    rate: &str,
) -> Trainer {
    let [network, training] = lines;
    let text = format!(
        "[network]\n{network}\n[training]\nupdates = {UPDATES}\nbatch = 3\n{training}\n[schedule]\nlearning_rate = {rate}\n\
         [validation]\nevery_updates = 10\nimages = 1"
    );
    let mut recipe = Recipe::parse(&text, None).unwrap_or_else(|error| panic!("{error}"));
    recipe.data.folders.push(DataFolder {
        path: images(root),
        weight: None,
    });
    // Images in a file are not copied to a device.
    let memory_bytes = if name == IN_FILE { 0 } else { u64::MAX };
    let trainer = Trainer::prepare(recipe, &root.join(name), resume, memory_bytes, &|_, _| {});
    trainer.unwrap_or_else(|error| panic!("{error}"))
}

fn prepare_on_gpu(root: &Path, name: &str, lines: [&str; 2], resume: bool) -> Trainer {
    let mut trainer = prepare(root, name, lines, resume);
    trainer.use_device(GPU.clone()).expect("prepared");
    trainer
}

/// The losses of all updates.
fn run(trainer: &mut Trainer) -> Result<Vec<f64>, Error> {
    let mut losses = Vec::new();
    trainer.run(|event| {
        if let Event::Update { update, loss, .. } = event {
            losses.push(loss);
            assert_eq!(update % UPDATES, losses.len() as u64 % UPDATES);
        }
        Ok::<_, Error>(())
    })?;
    Ok(losses)
}

/// The weights of a training. The bias of a convolution before a batch normalisation is left out: it has no effect on the loss,
/// so that its gradient is rounding alone, which Adam turns into full steps.
fn weights(trainer: &Trainer) -> Vec<f32> {
    let model = trainer.model();
    let is_normed = trainer.recipe().network.norm == Norm::Batch;
    let convs = model.network().convs.iter().zip(model.convs());
    convs
        .flat_map(|(conv, weights)| {
            let has_bias = !(is_normed && conv.name.starts_with("body."));
            let bias = if has_bias { &weights.bias[..] } else { &[] };
            [&weights.weight, bias].concat()
        })
        .collect()
}

fn all_weights(model: &Model) -> Vec<f32> {
    let convs = model.convs().iter();
    convs
        .flat_map(|conv| [&conv.weight[..], &conv.bias].concat())
        .collect()
}

fn check_close(found: &[f64], expected: &[f64], tolerance: f64, label: &str) {
    assert_eq!(found.len(), expected.len(), "{label}");
    let largest = expected.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * largest,
            "{label}, element {at}: {found} and {expected}, largest {largest}"
        );
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn losses_and_weights_follow_those_of_the_processor() {
    for (at, lines) in [
        [
            "block = \"wdsr-b\"\nfeatures = 5\nblocks = 2",
            "patch_px = 11",
        ],
        [
            "block = \"wdsr-a\"\nfeatures = 8\nblocks = 1\nscale = 3\nresidual_scale = 0.3",
            "patch_px = 8\nloss = \"l2\"\ngradient_clip_norm = 0.05",
        ],
        [
            "block = \"wdsr-b\"\nfeatures = 4\nblocks = 1\nnorm = \"none\"",
            "patch_px = 9\nloss = \"charbonnier\"\naverage_decay = 0",
        ],
        [
            "block = \"edsr\"\nfeatures = 6\nblocks = 2\nscale = 4\nnorm = \"none\"\nresidual_scale = 0.1",
            "patch_px = 6",
        ],
        [
            "block = \"edsr\"\nfeatures = 4\nblocks = 1\nnorm = \"weight\"",
            "patch_px = 10",
        ],
        [
            "block = \"wdsr-b\"\nfeatures = 6\nblocks = 2",
            "patch_px = 11\nbranches = true",
        ],
        [
            "block = \"wdsr-a\"\nfeatures = 5\nblocks = 1\nnorm = \"none\"\nresidual_scale = 0.5",
            "patch_px = 9\nbranches = true\ngradient_clip_norm = 0.05",
        ],
        [
            "block = \"wdsr-a\"\nfeatures = 4\nblocks = 1\nscale = 1",
            "patch_px = 11\nloss = \"fft\"",
        ],
        [
            "block = \"wdsr-a\"\nfeatures = 5\nblocks = 2\nnorm = \"batch\"\nresidual_scale = 0.5",
            "patch_px = 11",
        ],
        [
            "block = \"wdsr-b\"\nfeatures = 6\nblocks = 1\nnorm = \"batch\"",
            "patch_px = 22\ngradient_clip_norm = 0.05",
        ],
        [
            "block = \"wdsr-b\"\nfeatures = 4\nblocks = 1",
            "patch_px = 7\nloss = \"fft\"\nfft_weight = 0.3",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let folder = tempfile::tempdir().expect("a folder");
        let label = format!("network {at}, {lines:?}");
        let mut here = prepare(folder.path(), "here", lines, false);
        let mut there = prepare_on_gpu(folder.path(), "there", lines, false);
        let before = doubles(&weights(&here));
        let losses = run(&mut here).expect("trained");
        check_close(
            &run(&mut there).expect("trained"),
            &losses,
            LOSS_TOLERANCE,
            &label,
        );
        let after = doubles(&weights(&here));
        check_close(
            &doubles(&weights(&there)),
            &after,
            WEIGHT_TOLERANCE,
            &label,
        );
        // The tolerance shows more than the initial weights.
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
        let largest = after.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
        assert!(
            moved.fold(0.0, f64::max) > 5.0 * WEIGHT_TOLERANCE * largest,
            "{label}: the weights hardly move"
        );
    }
}

/// How far losses and weights in f16 may be off.
const F16_LOSS_TOLERANCE: f64 = 3e-4;
const F16_WEIGHT_TOLERANCE: f64 = 2e-2;

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn a_gpu_with_matrices_follows_the_processor_in_f16() {
    let has_matrices = GPU.summary().has_matrices();
    for lines in [
        [
            "block = \"wdsr-b\"\nfeatures = 12\nblocks = 2",
            "patch_px = 11",
        ],
        [
            "block = \"wdsr-a\"\nfeatures = 8\nblocks = 1\nscale = 3\nresidual_scale = 0.3",
            "patch_px = 13\nloss = \"l2\"",
        ],
        [
            "block = \"edsr\"\nfeatures = 20\nblocks = 1\nscale = 4\nnorm = \"none\"",
            "patch_px = 6\nloss = \"charbonnier\"\nbranches = true",
        ],
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let label = format!("{lines:?}");
        let mut here = prepare(folder.path(), "here", lines, false);
        let half = format!("{}\nprecision = \"bf16\"", lines[1]);
        let mut there = prepare_on_gpu(folder.path(), "there", [lines[0], &half], false);
        let precision = there.device_precision();
        let expected = match has_matrices {
            true => DevicePrecision::F16,
            false => DevicePrecision::F32,
        };
        assert_eq!(precision, Some(expected), "{label}");
        let losses = run(&mut here).expect("trained");
        let found = run(&mut there).expect("trained");
        check_close(&found, &losses, F16_LOSS_TOLERANCE, &label);
        let after = doubles(&weights(&here));
        let found = doubles(&weights(&there));
        check_close(&found, &after, F16_WEIGHT_TOLERANCE, &label);
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn a_teacher_is_followed_as_on_the_processor() {
    let folder = tempfile::tempdir().expect("a folder");
    let teacher = folder.path().join("teacher.safetensors");
    let model = Model::random(&NetworkConfig::wdsr_b(4, 1, 2), 3);
    model.save(&teacher).expect("written");
    let training = format!(
        "patch_px = 8\n[teacher]\nweight = 0.3\nmodel = {:?}",
        teacher.display().to_string()
    );
    let lines = ["features = 4\nblocks = 1", &training];
    let mut here = prepare(folder.path(), "here", lines, false);
    let mut there = prepare_on_gpu(folder.path(), "there", lines, false);
    let expected = run(&mut here).expect("trained");
    let found = run(&mut there).expect("trained");
    check_close(&found, &expected, LOSS_TOLERANCE, "teacher");
}

/// The recipe of a training by strength.
const DAMAGE: [&str; 2] = [
    "block = \"wdsr-b\"\nfeatures = 5\nblocks = 1\nscale = 1\nresidual_scale = 0.5",
    "patch_px = 11\n[strength]\nrange = [0.1, 1]\n[[degradation.stages]]\nkind = \"jpeg\"\nquality = [10, 90]\nsubsampling = [\"4:4:4\"]",
];

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn a_training_by_strength_follows_the_processor() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut here = prepare(folder.path(), "here", DAMAGE, false);
    let mut there = prepare_on_gpu(folder.path(), "there", DAMAGE, false);
    let losses = run(&mut here).expect("trained");
    let found = run(&mut there).expect("trained");
    check_close(&found, &losses, LOSS_TOLERANCE, "strength");
    for strength in [0.0, 0.4, 1.0] {
        let [here, there] = [&here, &there]
            .map(|trainer| doubles(&all_weights(&trainer.model().at_strength(strength))));
        let label = format!("strength {strength}");
        check_close(&there, &here, WEIGHT_TOLERANCE, &label);
    }
}

/// At a rate so low that the biases stay, what is folded into them shows the running statistics.
#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn running_statistics_are_those_of_the_processor() {
    let folder = tempfile::tempdir().expect("a folder");
    let prepare = |name| prepare_with_rate(folder.path(), name, NORMED, false, "1e-12");
    let (mut here, mut there) = (prepare("here"), prepare("there"));
    there.use_device(GPU.clone()).expect("prepared");
    let before = doubles(&all_weights(&here.model()));
    run(&mut here).expect("trained");
    run(&mut there).expect("trained");
    let [here, there] = [&here, &there].map(|trainer| doubles(&all_weights(&trainer.model())));
    check_close(&there, &here, 1e-5, "statistics");
    assert!(
        here.iter()
            .zip(before)
            .any(|(after, before)| (after - before).abs() > 0.1)
    );
}

const SMALL: [&str; 2] = [
    "block = \"wdsr-b\"\nfeatures = 4\nblocks = 1",
    "patch_px = 8",
];

/// With statistics beside the parameters.
const NORMED: [&str; 2] = [
    "block = \"wdsr-b\"\nfeatures = 5\nblocks = 1\nnorm = \"batch\"",
    "patch_px = 8",
];

fn bits(trainer: &Trainer) -> Vec<u32> {
    weights(trainer).iter().map(|v| v.to_bits()).collect()
}

/// Runs a training until it has observed an update, and stops it.
fn run_until(trainer: &mut Trainer, last: u64) {
    let observed = Rc::new(Cell::new(0));
    let seen = Rc::clone(&observed);
    trainer.stop_when(move || seen.get() >= last);
    let stopped = trainer.run(|event| {
        if let Event::Update { update, .. } = event {
            observed.set(update);
        }
        Ok::<_, Error>(())
    });
    let stopped = stopped.expect_err("stopped");
    assert!(matches!(stopped, Error::Stopped { .. }), "{stopped}");
    trainer.stop_when(|| false);
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn a_training_has_the_same_bits_again_and_when_it_is_resumed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut whole = prepare_on_gpu(folder.path(), "whole", SMALL, false);
    let losses = run(&mut whole).expect("trained");
    let mut again = prepare_on_gpu(folder.path(), "again", SMALL, false);
    assert_eq!(run(&mut again).expect("trained"), losses);
    assert_eq!(bits(&again), bits(&whole));
    let mut first = prepare_on_gpu(folder.path(), "parts", SMALL, false);
    run_until(&mut first, 7);
    drop(first);
    let mut in_file = prepare_on_gpu(folder.path(), IN_FILE, SMALL, false);
    assert!(in_file.summary().in_file);
    assert_eq!(in_file.device_cutting(), Some(Cutting::Here));
    assert_eq!(whole.device_cutting(), Some(Cutting::OnDevice));
    assert_eq!(run(&mut in_file).expect("trained"), losses);
    assert_eq!(bits(&in_file), bits(&whole));
    let mut second = prepare_on_gpu(folder.path(), "parts", SMALL, true);
    assert!(
        (7..UPDATES).contains(&second.updates()),
        "{}",
        second.updates()
    );
    second.run(|_| Ok::<_, Error>(())).expect("trained");
    assert_eq!(bits(&second), bits(&whole));
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn checkpoints_go_from_gpu_to_processor_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut here = prepare(folder.path(), "here", NORMED, false);
    run(&mut here).expect("trained");
    let expected = doubles(&weights(&here));
    for from_gpu in [true, false] {
        let name = if from_gpu { "from" } else { "to" };
        let prepare = |on_gpu: bool, resume: bool| match on_gpu {
            true => prepare_on_gpu(folder.path(), name, NORMED, resume),
            false => prepare(folder.path(), name, NORMED, resume),
        };
        run_until(&mut prepare(from_gpu, false), 10);
        let mut rest = prepare(!from_gpu, true);
        rest.run(|_| Ok::<_, Error>(())).expect("trained");
        assert_eq!(rest.updates(), UPDATES);
        let found = doubles(&weights(&rest));
        check_close(&found, &expected, WEIGHT_TOLERANCE, name);
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn a_lost_device_ends_the_training_and_leaves_its_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let gpu = open();
    let mut trainer = prepare(folder.path(), "out", SMALL, false);
    trainer.use_device(gpu.clone()).expect("prepared");
    let lost = trainer.run(|event| {
        if matches!(event, Event::Update { update: 12, .. }) {
            gpu.lose();
        }
        Ok::<_, Error>(())
    });
    match lost {
        Err(Error::DeviceLost {
            device, checkpoint, ..
        }) => {
            assert_eq!(device, gpu.summary().name);
            assert_eq!(checkpoint, Some(folder.path().join("out/last.checkpoint")));
        }
        other => panic!("expected a lost device, found {other:?}"),
    }
    drop(trainer);
    // The device is opened again.
    let mut resumed = prepare(folder.path(), "out", SMALL, true);
    assert_eq!(resumed.updates(), 10);
    resumed.use_device(gpu).expect("prepared");
    resumed.run(|_| Ok::<_, Error>(())).expect("trained");
    assert_eq!(resumed.updates(), UPDATES);
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn a_loss_that_is_not_finite_rolls_back() {
    let folder = tempfile::tempdir().expect("a folder");
    // The first rate is 1e33; after a rollback it is 1e-3.
    let rates = "patch_px = 8\nrollbacks = 1\nrollback_factor = 1e-36";
    let lines = [SMALL[0], rates];
    let mut trainer = prepare_with_rate(folder.path(), "out", lines, false, "1e33");
    trainer.use_device(GPU.clone()).expect("prepared");
    let mut rollbacks = Vec::new();
    trainer
        .run(|event| {
            if let Event::RolledBack { to_update, .. } = event {
                rollbacks.push(to_update);
            }
            Ok::<_, Error>(())
        })
        .expect("trained");
    assert_eq!(rollbacks, [0]);
    assert_eq!(trainer.updates(), UPDATES);
    assert!(weights(&trainer).iter().all(|v| v.is_finite()));
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn what_a_gpu_does_not_train_is_an_error_that_names_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = wdsr_testing::paths::built_in_model("small-x2");
    let training = format!("patch_px = 8\nint8 = true\n[start]\nfrom = {model:?}");
    let lines = [
        "block = \"wdsr-b\"\nfeatures = 32\nblocks = 8\nlow_rank = 25",
        &training,
    ];
    let mut trainer = prepare(folder.path(), "out", lines, false);
    match trainer.use_device(GPU.clone()) {
        Err(Error::NotOnDevice { key, .. }) => assert_eq!(key, "training.int8 = true"),
        other => panic!("expected an error that names the key, found {other:?}"),
    }
    assert_eq!(trainer.device_name(), None);
}
