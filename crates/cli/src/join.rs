//! `wdsr join`: joins the bands of an image.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use wdsr_image::{Format, JoinError, Limits, join_bands};

use crate::file_claims::FileClaims;
use crate::{WrongUsage, progress, signals};

/// Join the bands of an image that wdsr upscale --rows made
///
/// The file is that of the image upscaled at once, byte for byte. Bands may be given in any order; missing
/// rows, rows that are twice, and bands of other images, models or options are errors.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The bands, TIFF files
    #[arg(required = true, value_name = "BAND")]
    bands: Vec<PathBuf>,
    /// Write the image to FILE, a .tif (BigTIFF above 4 GB)
    #[arg(short = 'o', long, value_name = "FILE")]
    output: PathBuf,
    /// Print errors only
    #[arg(short = 'q', long)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        bands,
        output,
        quiet,
    } = arguments;
    if Format::from_extension(output) != Some(Format::Tiff) {
        let message = format!("{}: expected a name that ends with .tif", output.display());
        return Err(WrongUsage(message).into());
    }
    let inputs = bands.iter().map(|path| ("band", &**path));
    FileClaims::of_inputs(inputs).write("image", "-o", output)?;
    signals::listen("interrupted: no image is written")?;
    let bar = progress::bar(0, "{msg} [{bar:30}] {percent}%, {eta} left", *quiet);
    let on_rows = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        match signals::requested() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    // The bands are the user's own results.
    let limits = Limits {
        max_pixels: u64::MAX,
        ..Limits::default()
    };
    let joined = join_bands(bands, output, &limits, &on_rows);
    bar.finish_and_clear();
    if let (Err(JoinError::Stopped), Some(code)) = (&joined, signals::exit_code()) {
        return Ok(code);
    }
    let (file, outline) = joined?;
    let _writing = signals::writing();
    file.publish()
        .with_context(|| format!("cannot write {}", output.display()))?;
    if !quiet {
        progress::note(&format!(
            "{} ({} x {}: {} bands)",
            output.display(),
            outline.width_px,
            outline.height_px,
            bands.len()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
