//! `wdsr quantize`: adds the scales for int8 to a model.

use std::path::PathBuf;

use anyhow::Context;
use wdsr_eval::{Pair, Track, find_pairs_and_problems};
use wdsr_model::{Calibration, Isa, Model};

use crate::exit::WrongUsage;
use crate::file_claims::FileClaims;
use crate::models::{self, Choice};
use crate::progress::{self, print_line};
use crate::threads::on_threads;

/// The largest side of the central part of a low-resolution image that is used.
const CROP_PX: usize = 96;

/// Add the scales for --precision int8 to a model
///
/// The model runs on training photographs, as `wdsr eval --set` reads them. For each convolution the scales are those with
/// the least error on samples of what it reads there. The weights stay as they are, so that the model gives the same
/// results in f32 as before. The number of threads changes nothing.
///
/// Do not use images that the model is scored on.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model file, or a built-in kind: base or small
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Scale of the built-in model
    #[arg(short = 's', long, value_name = "N")]
    scale: Option<usize>,
    /// Folder of high-resolution photographs, or of pairs
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Number of images to use, evenly spread over the sorted names
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    images: usize,
    /// Write the model to FILE, a .safetensors model
    #[arg(short = 'o', long, value_name = "FILE")]
    out: PathBuf,
    /// Write the weights in float16; the scales stay in float32
    #[arg(long)]
    f16: bool,
    /// Number of threads; 0 for one per processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let file = models::file(Some(&arguments.model)).map(|file| ("model", file));
    FileClaims::of_inputs(file).write("model", "--out", &arguments.out)?;
    let Choice { name, model } = models::load(Some(&arguments.model), arguments.scale)?;
    let calibration = Calibration::new(&model, Isa::detect()?)
        .map_err(|error| WrongUsage(format!("{name}: {error}")))?;
    progress::warn_of_unread_images(&arguments.data);
    let scale = model.config().scale;
    let (pairs, problems) = find_pairs_and_problems(&arguments.data, scale, Track::default())?;
    for problem in problems {
        progress::note(&problem.to_string());
    }
    let chosen = spread(&pairs, arguments.images);
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else {
        let message = format!(
            "{}: expected images to calibrate with, found none",
            arguments.data.display()
        );
        return Err(WrongUsage(message).into());
    };
    let used = format!("{} images, {} to {}", chosen.len(), first.name, last.name);
    let quantized = on_threads(arguments.threads, || {
        calibrate(calibration, &model, &chosen, &used)
    })??;
    let format = match arguments.f16 {
        true => wdsr_model::WeightFormat::F16,
        false => wdsr_model::WeightFormat::F32,
    };
    quantized.save_in(&arguments.out, format)?;
    print_line(&format!(
        "{}: {name} with scales for int8 from {used}",
        arguments.out.display()
    ));
    Ok(())
}

/// At most `count` of the pairs, evenly spread.
fn spread(pairs: &[Pair], count: usize) -> Vec<&Pair> {
    let count = count.min(pairs.len());
    (0..count)
        .map(|index| &pairs[(2 * index + 1) * pairs.len() / (2 * count)])
        .collect()
}

fn calibrate(
    mut calibration: Calibration,
    model: &Model,
    pairs: &[&Pair],
    used: &str,
) -> anyhow::Result<Model> {
    for pair in pairs {
        let images = pair
            .load()
            .with_context(|| format!("{}: cannot calibrate with it", pair.name))?;
        let (width_px, height_px) = (images.low_width_px, images.low_height_px);
        let (crop_width, crop_height) = (width_px.min(CROP_PX), height_px.min(CROP_PX));
        let (left, top) = ((width_px - crop_width) / 2, (height_px - crop_height) / 2);
        let rows = images.low.chunks_exact(3 * width_px);
        let pixels: Vec<f32> = rows
            .skip(top)
            .take(crop_height)
            .flat_map(|row| &row[3 * left..3 * (left + crop_width)])
            .map(|sample| f32::from(*sample) / 255.0)
            .collect();
        calibration.add(&pixels, crop_width, crop_height);
    }
    let mut notes = model.notes().clone();
    notes.insert("int8_images".to_owned(), used.to_owned());
    let model = Model::new(model.config(), model.convs().to_vec(), notes);
    Ok(calibration.finish(model))
}
