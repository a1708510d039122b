use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_kernels::Planes;
use wdsr_model::{Calibration, NetworkConfig, Precision, Upscaler};

use super::*;
use crate::Error;
use crate::recipe::DataFolder;

/// Observes nothing.
pub(super) fn ignore(_: Event<'_>) -> Result<(), Error> {
    Ok(())
}

fn trainer(root: &Path, updates: u64) -> Trainer {
    trainer_with(root, updates, "")
}

/// The folder `data` in `root`, with two images.
pub(super) fn images(root: &Path) -> PathBuf {
    let data = root.join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    for at in 0..2 {
        let samples = (0..3 * 40 * 40).map(|i| ((i * i + 7 * i + at) % 251) as u8);
        let image = Image::new(40, 40, Colour::Rgb, Samples::U8(samples.collect()));
        let path = data.join(format!("{at}.png"));
        encode(&image, &path, Format::Png).expect("written");
    }
    data
}

/// A training on two images in a folder of its own, with more keys of `[training]`.
fn trainer_with(root: &Path, updates: u64, more: &str) -> Trainer {
    let data = images(root);
    let text = format!(
        "[network]\nfeatures = 4\nblocks = 1\n[training]\nupdates = {updates}\nbatch = 2\n\
         patch_px = 12\n{more}\n[validation]\nevery_updates = 5\nimages = 1"
    );
    let mut recipe = Recipe::parse(&text, None).expect("a recipe");
    recipe.data.folders.push(DataFolder {
        path: data,
        weight: None,
    });
    let out = root.join("out");
    Trainer::prepare(recipe, &out, false, u64::MAX, &|_, _| {}).expect("a training")
}

const FAILED: NotFinite = NotFinite {
    update: 12,
    loss: f64::NAN,
};

#[test]
fn every_loss_improves_the_psnr() {
    for loss in [
        "loss = \"l1\"\ngradient_clip_norm = 0.1",
        "loss = \"l2\"",
        "loss = \"charbonnier\"",
        "loss = \"fft\"",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut trainer = trainer_with(folder.path(), 60, loss);
        trainer.run(ignore).expect("trained");
        let psnr = |at: usize| trainer.history[at].psnr_db.expect("a validation image");
        let (first, last) = (psnr(0), psnr(trainer.history.len() - 1));
        assert!(last > first + 0.5, "{loss}: {first} to {last} dB");
    }
}

pub(super) const DAMAGE: &str = "[network]\nfeatures = 4\nblocks = 1\nscale = 1\n[strength]\n\
    [[degradation.stages]]\nkind = \"noise\"\nsigma_levels = [0, 25]\n\
    [[degradation.stages]]\nkind = \"jpeg\"\nprobability = 0.5\nquality = [10, 95]\n\
    subsampling = [\"4:2:0\", \"4:4:4\"]\n[training]\nupdates = 40\nbatch = 2\npatch_px = 12\n\
    [validation]\nevery_updates = 20\nimages = 1";

/// The weights of strength 0 stay those of the identity; a run that is interrupted ends with the same
/// model.
#[test]
fn a_training_by_strength_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trainer(folder.path(), 1).recipe.data.clone();
    let mut recipe = Recipe::parse(DAMAGE, None).expect("a recipe");
    recipe.data = data;
    let prepare = |name: &str, resume| {
        let out = folder.path().join(name);
        Trainer::prepare(recipe.clone(), &out, resume, u64::MAX, &|_, _| {}).expect("a training")
    };
    let mut whole = prepare("whole", false);
    whole.run(ignore).expect("trained");
    let mut first = prepare("parts", false);
    let until_20 = |event: Event<'_>| match event {
        Event::Update { update: 21, .. } => Err(Error::io(
            Path::new("stop"),
            "write",
            std::io::ErrorKind::StorageFull.into(),
        )),
        _ => Ok(()),
    };
    first.run(until_20).expect_err("stopped");
    drop(first);
    let mut second = prepare("parts", true);
    assert_eq!(second.updates(), 20);
    second.run(ignore).expect("trained");
    let models = [&whole, &second].map(|trainer| trainer.model());
    assert_eq!(models[0].convs(), models[1].convs());
    assert_eq!(models[0].strong(), models[1].strong());
    assert_ne!(Some(models[0].convs()), models[0].strong());

    // At strength 0 the model returns the image.
    let upscaler = Upscaler::new(&models[0].at_strength(0.0)).expect("a processor");
    let pixels: Vec<u8> = (0..3 * 20 * 10).map(|i| (i * i % 251) as u8).collect();
    assert_eq!(upscaler.upscale(&pixels, 20, 10).expect("an image"), pixels);
    // The file has both.
    let path = folder.path().join("whole").join(LAST_MODEL);
    let loaded = Model::load(&path).expect("a model");
    assert_eq!(loaded.strong(), models[0].strong());
}

#[test]
fn rollbacks_end_at_the_best_checkpoint_and_are_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), 10);
    trainer.run(ignore).expect("trained");
    let last = trainer.state.clone();
    // A best checkpoint older than the last one.
    trainer.state.updates = 5;
    trainer.state.adam.updates = 5;
    trainer.save(BEST_CHECKPOINT).expect("saved");
    trainer.state = last.clone();

    trainer.roll_back(&FAILED).expect("rolled back");
    assert_eq!((trainer.state.updates, trainer.state.rollbacks), (10, 1));
    assert_eq!(trainer.state.parameters, last.parameters);
    trainer.roll_back(&FAILED).expect("rolled back again");
    assert_eq!((trainer.state.updates, trainer.state.rollbacks), (5, 2));
    assert_eq!(trainer.state.learning_rate_factor, 0.25);
    // Later metrics are removed, and the checkpoint has the number of rollbacks.
    let updates: Vec<u64> = trainer.history.iter().map(|m| m.update).collect();
    assert_eq!(updates, [5]);
    let path = folder.path().join("out").join(LAST_CHECKPOINT);
    let network = trainer.engine.network();
    let saved = checkpoint::load(&path, &trainer.recipe, network, &trainer.layout).expect("loaded");
    assert_eq!(saved, trainer.state);
    trainer.roll_back(&FAILED).expect("the third time");
    let error = trainer.roll_back(&FAILED).expect_err("the fourth time");
    let text = error.to_string();
    assert!(
        text.contains("3 rollbacks") && text.contains(LAST_CHECKPOINT),
        "{text}"
    );
}

#[test]
fn rolls_back_to_the_start_before_the_first_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), 10);
    let start = trainer.state.clone();
    trainer.state.parameters.fill(f32::NAN);
    trainer.roll_back(&FAILED).expect("rolled back");
    assert_eq!(trainer.state.parameters, start.parameters);
    assert_eq!(trainer.state.inputs, start.inputs);
    assert_eq!(trainer.state.learning_rate_factor, 0.5);
}

#[test]
fn never_saves_a_state_that_is_not_finite() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), 1);
    // The only update has a finite loss, but leaves a parameter that is not.
    trainer.state.adam.second_moment[0] = f32::NAN;
    let mut rollbacks = 0;
    let count = |event: Event<'_>| {
        rollbacks += u32::from(matches!(event, Event::RolledBack { .. }));
        Ok::<(), Error>(())
    };
    trainer.run(count).expect("trained");
    assert_eq!(rollbacks, 1);
    assert!(trainer.state.is_finite());
}

#[test]
fn removes_temporary_files_of_a_killed_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    for name in [".wdsr-Killed.part", "notes.part"] {
        std::fs::write(out.join(name), "").expect("written");
    }
    trainer(folder.path(), 1);
    assert!(!out.join(".wdsr-Killed.part").exists());
    assert!(out.join("notes.part").exists());
}

#[test]
fn refuses_a_folder_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = trainer(folder.path(), 1);
    let recipe = first.recipe.clone();
    let out = folder.path().join("out");
    let again = || Trainer::prepare(recipe.clone(), &out, false, u64::MAX, &|_, _| {});
    let error = again().err().expect("refused");
    assert!(
        error
            .to_string()
            .contains("another process is training here"),
        "{error}"
    );
    drop(first);
    assert!(again().is_ok());
}

#[test]
fn exports_batches_and_image_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), 6);
    let files = trainer.export_batches(100).expect("written");
    assert_eq!(files[0].file_name(), Some(LAST_CHECKPOINT.as_ref()));
    let bytes = std::fs::read(&files[1]).expect("read");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("complete");
    let high = tensors.tensor("high").expect("there");
    // The recipe ends after 6 updates.
    assert_eq!(high.shape(), [6, 2, 3, 24, 24]);
    let batch = trainer.patches.batch(5).expect("a batch");
    let exported: Vec<f32> = high.data()[11 * 3 * 24 * 24..]
        .iter()
        .map(|byte| f32::from(*byte) / 255.0)
        .collect();
    assert_eq!(exported, batch.planes().high[1].to_chw());

    let files = trainer.export_images().expect("written");
    let bytes = std::fs::read(&files[1]).expect("read");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("complete");
    // One image of the two is kept for validation.
    assert_eq!((files.len(), tensors.names()), (2, vec!["0.high"]));
    let source = &trainer.patches.images().files(0).high;
    let file = tensors.tensor("0.high").expect("there");
    assert_eq!(file.data(), std::fs::read(source).expect("read"));

    // The training itself is unchanged.
    assert_eq!(trainer.updates(), 0);
    trainer.run(ignore).expect("trained");
}

#[test]
fn observes_validations_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), 10);
    let mut observed = Vec::new();
    trainer
        .run(|event| {
            match event {
                Event::Update { update, .. } => observed.push(format!("update {update}")),
                Event::ValidationImage { pair, upscaled, .. } => {
                    assert_eq!(upscaled.len(), pair.high.len());
                    observed.push("image".to_owned());
                }
                Event::Validated {
                    metrics, history, ..
                } => {
                    assert_eq!(history.last(), Some(metrics));
                    observed.push(format!("validation {}", history.len()));
                }
                Event::RolledBack { .. } => unreachable!("finite losses"),
            }
            Ok::<(), Error>(())
        })
        .expect("trained");
    assert_eq!(
        observed[3..],
        [
            "update 4",
            "update 5",
            "image",
            "validation 1",
            "update 6",
            "update 7",
            "update 8",
            "update 9",
            "update 10",
            "image",
            "validation 2"
        ]
    );
}

#[test]
fn an_error_of_the_observer_leaves_the_validation_to_the_resumed_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), 10);
    let full = |event: Event<'_>| match event {
        Event::Validated { .. } => Err(Error::io(
            Path::new("report.html"),
            "write",
            std::io::ErrorKind::StorageFull.into(),
        )),
        _ => Ok(()),
    };
    let error = trainer.run(full).expect_err("stopped").to_string();
    assert!(error.contains("report.html: cannot write"), "{error}");
    let mut resumed = resume(trainer);
    assert_eq!((resumed.updates(), resumed.history().len()), (5, 0));
    let mut validated = Vec::new();
    let note = |event: Event<'_>| {
        if let Event::Validated { metrics, .. } = event {
            validated.push((metrics.update, metrics.patches_per_second.is_finite()));
        }
        Ok::<(), Error>(())
    };
    resumed.run(note).expect("trained");
    assert_eq!(validated, [(5, true), (10, true)]);
}

#[test]
fn a_stopped_training_is_saved_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), 10);
    trainer.stop_when(|| true);
    for update in 1..=3 {
        let error = trainer.run(ignore).expect_err("stopped");
        assert!(matches!(error, Error::Stopped { .. }), "{error}");
        trainer = resume(trainer);
        trainer.stop_when(|| true);
        assert_eq!(trainer.updates(), update);
    }
    trainer.stop_when(|| false);
    trainer.run(ignore).expect("trained");
    assert_eq!(trainer.history().len(), 2);
}

const COOL_DOWN: &str = "[network]\nfeatures = 4\nblocks = 1\n[training]\nupdates = 12\nbatch = 2\n\
    patch_px = 12\naverage_decay = 0.9\n[schedule]\nkind = \"constant\"\ncool_down_updates = 4\n\
    [validation]\nevery_updates = 5\nimages = 1";

/// A finished run is lengthened from the point before its cool-down, to the bits of a run that was so long
/// from the start; its first end stays.
#[test]
fn a_run_is_lengthened_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trainer(folder.path(), 1).recipe.data.clone();
    let prepare = |name: &str, updates: u64, cool_down: u64, resume: bool| {
        let text = COOL_DOWN
            .replace("updates = 12", &format!("updates = {updates}"))
            .replace(
                "cool_down_updates = 4",
                &format!("cool_down_updates = {cool_down}"),
            );
        let mut recipe = Recipe::parse(&text, None).expect("a recipe");
        recipe.data = data.clone();
        let out = folder.path().join(name);
        Trainer::prepare(recipe, &out, resume, u64::MAX, &|_, _| {})
    };
    let train = |name: &str, updates, cool_down, resume| {
        let mut trainer = prepare(name, updates, cool_down, resume).expect("a training");
        let from = trainer.updates();
        trainer.run(ignore).expect("trained");
        (
            from,
            trainer.model().convs().to_vec(),
            trainer.state.clone(),
        )
    };
    let (_, cooled, _) = train("parts", 12, 4, false);
    let (from, lengthened, state) = train("parts", 20, 3, true);
    assert_eq!(from, 8, "the update before the cool-down");
    let (_, whole, whole_state) = train("whole", 20, 3, false);
    assert_eq!(lengthened, whole);
    assert_eq!(state.adam, whole_state.adam);
    assert_eq!((state.updates, whole_state.updates), (20, 20));
    let kept = |updates: u64| {
        let path = folder.path().join("parts").join(cooled_model(updates));
        Model::load(&path).expect("a model").convs().to_vec()
    };
    assert_eq!((kept(12), kept(20)), (cooled, lengthened));

    // Neither end nor cool-down may lie before what is done, and the stable part has to be the same.
    for (updates, cool_down) in [(10, 0), (24, 12)] {
        let error = prepare("parts", updates, cool_down, true).map(|_| ());
        let error = error.expect_err("too late").to_string();
        assert!(error.contains("another recipe"), "{error}");
    }
    assert_eq!(
        prepare("parts", 24, 4, true).expect("a training").updates(),
        17
    );
}

#[test]
fn a_cosine_is_not_lengthened() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer_with(folder.path(), 10, "[schedule]\nkind = \"cosine\"");
    trainer.run(ignore).expect("trained");
    let (mut recipe, out) = (trainer.recipe.clone(), trainer.folder.clone());
    drop(trainer);
    recipe.training.updates = 20;
    let error = Trainer::prepare(recipe, &out, true, u64::MAX, &|_, _| {}).map(|_| ());
    let error = error.expect_err("another rate").to_string();
    assert!(
        error.contains("training.updates is 10 there, 20 here"),
        "{error}"
    );
    assert!(error.contains("--from"), "{error}");
}

/// The training in the same folder, resumed.
fn resume(trainer: Trainer) -> Trainer {
    let (recipe, folder) = (trainer.recipe.clone(), trainer.folder.clone());
    drop(trainer);
    Trainer::prepare(recipe, &folder, true, u64::MAX, &|_, _| {}).expect("a training")
}

/// A run with the scales of the model in a folder, and the sums of losses of its first and last ten updates.
fn trained_in_int8(root: &Path, start: &Path, name: &str, mut stop_at: u64) -> (Trainer, [f64; 2]) {
    let text = format!(
        "[start]\nfrom = {start:?}\n[training]\nupdates = 60\nbatch = 2\npatch_px = 12\nint8 = true\n\
         [schedule]\nkind = \"constant\"\nlearning_rate = 1e-4\n[validation]\nevery_updates = 30\nimages = 1"
    );
    let from = Model::load(start).expect("a model");
    let mut recipe = Recipe::parse(&text, Some(from.config())).expect("a recipe");
    recipe.data.folders.push(DataFolder {
        path: images(root),
        weight: None,
    });
    let prepare = |resume| {
        let out = root.join(name);
        Trainer::prepare(recipe.clone(), &out, resume, u64::MAX, &|_, _| {}).expect("a training")
    };
    let mut losses = Vec::new();
    let mut observe = |event: Event<'_>| match event {
        Event::Update { update, .. } if update == stop_at => {
            stop_at = 0;
            let kind = std::io::ErrorKind::StorageFull;
            Err(Error::io(Path::new("stop"), "write", kind.into()))
        }
        Event::Update { loss, .. } => {
            losses.push(loss);
            Ok(())
        }
        _ => Ok(()),
    };
    let mut trainer = prepare(false);
    if trainer.run(&mut observe).is_err() {
        drop(trainer);
        trainer = prepare(true);
        assert_eq!(trainer.updates(), 30);
        trainer.run(&mut observe).expect("trained");
    }
    let ends = [&losses[..10], &losses[losses.len() - 10..]].map(|losses| losses.iter().sum());
    (trainer, ends)
}

#[test]
fn a_training_in_int8_improves_what_int8_computes() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let mut trainer = trainer(root, 60);
    trainer.run(ignore).expect("trained");
    // Scales of a patch of each image.
    let model = trainer.model();
    let mut calibration = Calibration::new(&model, trainer.isa).expect("a network with int8");
    let batch = trainer.patches.batch(0).expect("read").planes();
    let pixels = |planes: &Planes| -> Vec<f32> {
        let (width, height) = (planes.width_px(), planes.height_px());
        let at = |i: usize| planes.row(i % 3, i / 3 / width)[i / 3 % width];
        (0..3 * width * height).map(at).collect()
    };
    for low in &batch.low {
        calibration.add(&pixels(low), low.width_px(), low.height_px());
    }
    let start = root.join("start.safetensors");
    calibration.finish(model).save(&start).expect("written");
    drop(trainer);

    let (trained, [first, last]) = trained_in_int8(root, &start, "whole", 0);
    assert!(last < first, "losses {first} to {last}");
    let (resumed, _) = trained_in_int8(root, &start, "parts", 31);
    let [whole, parts] = [&trained, &resumed].map(Trainer::model);
    assert_eq!(whole.convs(), parts.convs());
    assert_eq!(whole.int8(), parts.int8());

    // The file's result in int8 is that of the forward pass: the loss against it is that of f32's rounding.
    let path = root.join("whole").join(LAST_MODEL);
    let model = Model::load(&path).expect("a model");
    let upscaler = Upscaler::with_isa(&model, trained.isa).precision(Precision::Int8);
    let high = batch.low.iter().map(|low| {
        let (width, height) = (low.width_px(), low.height_px());
        let large = upscaler
            .upscale(&pixels(low), width, height)
            .expect("an image");
        let mut high = Planes::zeros(3, 2 * width, 2 * height);
        for (i, value) in large.into_iter().enumerate() {
            high.row_mut(i % 3, i / 3 / (2 * width))[i / 3 % (2 * width)] = value;
        }
        high
    });
    let batch = Batch {
        high: high.collect(),
        low: batch.low,
        ..batch
    };
    let loss = |engine: &GradientEngine| engine.run(model.convs(), &[], &batch).loss;
    let in_int8 = loss(&trained.engine);
    let in_f32 = loss(&GradientEngine::new(model.network().clone(), trained.isa));
    assert!(
        in_int8 < 1e-4 && in_int8 < in_f32 / 10.0,
        "{in_int8}, in f32 {in_f32}"
    );
}

#[test]
fn a_training_in_int8_needs_scales_of_its_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let data = images(root);
    let start = root.join("start.safetensors");
    let config = NetworkConfig::wdsr_b(4, 1, 2);
    Model::random(&config, 1).save(&start).expect("written");
    let prepare = |keys: &str| {
        let text =
            format!("[start]\nfrom = {start:?}\n[training]\nint8 = true\npatch_px = 12\n{keys}");
        let mut recipe = Recipe::parse(&text, Some(&config)).map_err(|error| error.to_string())?;
        recipe.data.folders.push(DataFolder {
            path: data.clone(),
            weight: None,
        });
        let trainer = Trainer::prepare(recipe, &root.join("out"), false, u64::MAX, &|_, _| {});
        trainer.map(|_| ()).map_err(|error| error.to_string())
    };
    for (keys, words) in [
        (
            "",
            "expected a model with scales for int8, found none; add them by `wdsr quantize`",
        ),
        (
            "[network]\nblock = \"wdsr-b\"\nfeatures = 8",
            "training.int8 starts from a model of the same network",
        ),
        ("precision = \"bf16\"", "training.precision = \"f32\""),
        (
            "[network]\nresidual_scale = 0.1",
            "network.residual_scale = 1",
        ),
    ] {
        let error = prepare(keys).expect_err("refused");
        assert!(error.contains(words), "{keys}: {error}");
    }
}
