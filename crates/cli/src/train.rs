//! `wdsr train`: trains a network by a recipe on a folder of pictures.
#![allow(clippy::print_stdout, reason = "the log of a training is its output")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use wdsr_train::patches::Pictures;
use wdsr_train::{Event, Recipe, Trainer};

use crate::{on_threads, progress};

/// Train a network by a recipe
///
/// FOLDER of `--data` holds pictures (all subfolders are read; the low-resolution ones are made
/// by imresize) or pairs in DIV2K's layout. The folder of `--out` receives checkpoints, models,
/// and a log of metrics as JSON lines. A training that was stopped at any moment goes on from its
/// last checkpoint with `--resume`, to the same result.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to train and how (TOML; see recipes/)
    recipe: PathBuf,
    /// Pictures to train on
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Where checkpoints, models and metrics go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Go on with the training that stands in the folder of --out
    #[arg(long)]
    resume: bool,
    /// Threads; 0: one for each processor
    #[arg(short = 'j', long, default_value_t = 0)]
    threads: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let recipe = Recipe::load(&arguments.recipe, None)?;
    println!("{}", recipe.to_toml().trim_end());
    on_threads(arguments.threads, || train(arguments, recipe))?
}

fn train(arguments: &Arguments, recipe: Recipe) -> anyhow::Result<()> {
    let reading = progress::bar(0, "reading pictures [{bar:30}] {pos}/{len}", false);
    let pictures = Pictures::load(
        &arguments.data,
        recipe.network.scale,
        recipe.training.patch_px,
        recipe.validation.pictures,
        &|done, total| {
            reading.set_length(total as u64);
            reading.set_position(done as u64);
        },
    )?;
    reading.finish_and_clear();
    let pixels: usize = pictures.training.iter().map(|p| p.high.len() / 3).sum();
    println!(
        "{}: {} pictures, {:.0} megapixels; {} kept for validation; {} too small",
        recipe.network.label(),
        pictures.training.len(),
        pixels as f64 / 1e6,
        pictures.validation.len(),
        pictures.too_small.len()
    );
    let total = recipe.training.updates;
    let batch = recipe.training.batch as f64;
    let mut trainer = Trainer::new(recipe, &arguments.out, pictures, arguments.resume)?;
    if trainer.updates() > 0 {
        println!("going on after update {}", trainer.updates());
    }
    let bar = progress::bar(
        total,
        "[{bar:30}] {pos}/{len} updates, {msg}, {eta} left",
        false,
    );
    bar.set_position(trainer.updates());
    bar.reset_eta();
    let mut shown = (trainer.updates(), Instant::now(), 0.0);
    trainer.run(|event| match event {
        Event::Update { update, loss } => {
            shown.2 += loss;
            if shown.1.elapsed() >= Duration::from_secs(2) {
                let (since, at, sum) = shown;
                let updates = (update - since) as f64;
                let patches = updates * batch / at.elapsed().as_secs_f64();
                bar.set_position(update);
                bar.set_message(format!("loss {:.5}, {patches:.0} patches/s", sum / updates));
                shown = (update, Instant::now(), 0.0);
            }
        }
        Event::Validated(m) => bar.suspend(|| {
            let left = (total - m.update) as f64 * batch / m.patches_per_second;
            let psnr = match (m.psnr_db, m.bicubic_psnr_db) {
                (Some(psnr), Some(bicubic)) => {
                    format!("validation {psnr:.3} dB (bicubic {bicubic:.3})")
                }
                _ => "no validation pictures".to_owned(),
            };
            println!(
                "update {}/{total}  loss {:.5}  {psnr}  learning rate {:.2e}  {:.0} patches/s  {} left",
                m.update,
                m.loss,
                m.learning_rate,
                m.patches_per_second,
                indicatif::HumanDuration(Duration::from_secs_f64(left))
            );
        }),
    })?;
    bar.finish_and_clear();
    println!(
        "model: {}",
        arguments.out.join("model.safetensors").display()
    );
    Ok(())
}
