//! `wdsr data degrade`: degraded low-resolution images of a recipe, as files.

use std::path::PathBuf;

use anyhow::Context;
use wdsr_eval::{ImagePair, Track, find_pairs};
use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_train::dataset::Degrader;
use wdsr_train::{Overrides, Recipe};

use crate::file_claims::FileClaims;
use crate::{WrongUsage, on_threads, progress, stdout};

/// Degrade images as a recipe's training does
///
/// For looking at a degradation, and for fixed test sets. Writes OUT/input with the degraded
/// low-resolution images and OUT/target with their originals, brightened and shifted as the recipe says;
/// `wdsr eval --set OUT` scores them. Under `[strength]` the strengths are spread evenly over the images.
/// The same recipe and folder give the same files.
#[derive(clap::Args)]
pub(super) struct DegradeArguments {
    /// Folder of images
    folder: PathBuf,
    /// Recipe with a `[degradation]` table
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Folder of the results
    #[arg(short = 'o', long, value_name = "OUT")]
    out: PathBuf,
    /// Number of threads; 0: one for each processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(super) fn run(arguments: &DegradeArguments) -> anyhow::Result<()> {
    let recipe = Recipe::load(&arguments.recipe, Overrides::default())?;
    let Some(degrader) = Degrader::of(&recipe) else {
        let recipe = arguments.recipe.display();
        let message = format!("{recipe}: expected a [degradation] table, found none");
        return Err(WrongUsage(message).into());
    };
    let scale = recipe.network.scale;
    let pairs = find_pairs(&arguments.folder, scale, Track::Bicubic)?;
    let folders = ["input", "target"].map(|name| arguments.out.join(name));
    let inputs = [("recipe", &*arguments.recipe)].into_iter();
    let originals = pairs.iter().map(|pair| ("image", &*pair.high));
    let mut claims = FileClaims::of_inputs(inputs.chain(originals));
    for folder in &folders {
        for pair in &pairs {
            let file = folder.join(format!("{}.png", pair.name));
            claims.write("result", "--out", &file)?;
        }
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    }
    let bar = progress::bar(pairs.len() as u64, "{pos}/{len}, {eta} left", false);
    on_threads(arguments.threads, || {
        for (index, pair) in pairs.iter().enumerate() {
            let (degraded, strength) = degrader.degraded(&pair.load()?, index, pairs.len());
            let ImagePair {
                low,
                high,
                low_width_px,
                low_height_px,
                ..
            } = degraded;
            for (folder, pixels, scale) in [(&folders[0], low, 1), (&folders[1], high, scale)] {
                let (width_px, height_px) = (low_width_px * scale, low_height_px * scale);
                let image = Image::new(width_px, height_px, Colour::Rgb, Samples::U8(pixels));
                let path = folder.join(format!("{}.png", pair.name));
                encode(&image, &path, Format::Png)?;
            }
            bar.inc(1);
            let strength = strength.map(|strength| format!(", strength {strength:.2}"));
            let line = format!("{}{}", pair.name, strength.unwrap_or_default());
            bar.suspend(|| stdout::print_lines(&line))?;
        }
        anyhow::Ok(())
    })??;
    bar.finish_and_clear();
    Ok(())
}
