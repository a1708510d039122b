//! Training on the adapters of this computer, software included, against the processor.
//!
//! They are ignored by default; `.ci/run gpu` installs Mesa's software where there is no driver, and runs them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use wdsr_gpu::{Choice, Gpu, GpuPrecision};
use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_train::{DataFolder, Error, Event, Recipe, Trainer};

/// How far losses and weights may be off after some updates, relative to the largest.
const LOSS_TOLERANCE: f64 = 1e-4;
const WEIGHT_TOLERANCE: f64 = 1e-3;

const UPDATES: u64 = 20;

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(open);

/// The first adapter.
fn open() -> Arc<Gpu> {
    let gpu = Gpu::open(Choice::Index(0), GpuPrecision::F32);
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

/// A training in the folder `name`, of a recipe with these lines in [network] and [training].
fn prepare(root: &Path, name: &str, lines: [&str; 2], resume: bool) -> Trainer {
    let [network, training] = lines;
    let text = format!(
        "[network]\n{network}\n[training]\nupdates = {UPDATES}\nbatch = 3\n{training}\n[schedule]\nlearning_rate = 1e-3\n\
         [validation]\nevery_updates = 10\nimages = 1"
    );
    let mut recipe = Recipe::parse(&text, None).unwrap_or_else(|error| panic!("{error}"));
    recipe.data.folders.push(DataFolder {
        path: images(root),
        weight: None,
    });
    let trainer = Trainer::prepare(recipe, &root.join(name), resume, u64::MAX, &|_, _| {});
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

fn weights(trainer: &Trainer) -> Vec<f32> {
    let model = trainer.model();
    let convs = model.convs().iter();
    convs
        .flat_map(|conv| {
            conv.weight
                .iter()
                .chain(&conv.bias)
                .copied()
                .collect::<Vec<_>>()
        })
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
            "block = \"wdsr-a\"\nfeatures = 4\nblocks = 1\nscale = 1",
            "patch_px = 10",
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
