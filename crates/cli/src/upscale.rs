//! `wdsr upscale`: enlarges pictures.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use wdsr_model::{Isa, Upscaler};
use wdsr_picture::{
    Colour, Format, Limits, Picture, Samples, decode, dimensions, encode, pictures_in,
};

use crate::models::ModelArguments;
use crate::{on_threads, progress};

/// Enlarge pictures
///
/// Depth, transparency and colour profile are kept. A picture that fails is reported and the
/// others are done; the exit code is then 1.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Pictures, and folders of pictures
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// A file for one picture; a folder for several
    #[arg(short = 'o', long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Format of the results: png, jpg, webp, tif or bmp; otherwise by the suffix of OUT, or as
    /// the input
    #[arg(short = 'f', long)]
    format: Option<Format>,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// One picture to enlarge.
struct Job {
    input: PathBuf,
    output: PathBuf,
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    on_threads(arguments.model.threads, || enlarge_all(arguments))?
}

fn enlarge_all(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (_, upscaler) = arguments
        .model
        .upscaler(arguments.model.precision.or_f32(Isa::detect()?))?;
    let mut failures = 0;
    let mut fail = |error: anyhow::Error| {
        progress::print_error(&error);
        failures += 1;
    };
    let mut inputs = Vec::new();
    for input in &arguments.inputs {
        if input.is_dir() {
            match pictures_in(input, false) {
                Ok(pictures) => inputs.extend(pictures),
                Err(error) => fail(error.into()),
            }
        } else {
            inputs.push(input.clone());
        }
    }
    let into_folder = arguments.inputs.len() > 1
        || arguments.inputs[0].is_dir()
        || arguments.output.is_dir()
        || Format::from_extension(&arguments.output).is_none() && arguments.format.is_none();
    if into_folder {
        std::fs::create_dir_all(&arguments.output)
            .with_context(|| format!("{}: cannot create the folder", arguments.output.display()))?;
    }
    let mut taken: HashMap<PathBuf, PathBuf> = HashMap::new();
    for input in inputs {
        let result = plan(&input, arguments, into_folder).and_then(|job| {
            if let Some(other) = taken.insert(job.output.clone(), input.clone()) {
                bail!(
                    "{}: its result {} is already that of {}; enlarge them into different folders",
                    input.display(),
                    job.output.display(),
                    other.display()
                );
            }
            enlarge_file(&job, &upscaler, arguments.quiet)
        });
        if let Err(error) = result {
            fail(error);
        }
    }
    Ok(if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where the result of an input goes, and in which format.
fn plan(input: &Path, arguments: &Arguments, into_folder: bool) -> anyhow::Result<Job> {
    let format = arguments
        .format
        .or_else(|| {
            if into_folder {
                None
            } else {
                Format::from_extension(&arguments.output)
            }
        })
        .or_else(|| Format::from_extension(input))
        .unwrap_or(Format::Png);
    let output = if into_folder {
        let stem = input
            .file_stem()
            .ok_or_else(|| anyhow!("{}: not the name of a file", input.display()))?;
        let mut name = stem.to_owned();
        name.push(".");
        name.push(format.extension());
        arguments.output.join(name)
    } else {
        arguments.output.clone()
    };
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(input, &output) {
        bail!(
            "{}: the result would replace the input; give -o another folder",
            input.display()
        );
    }
    Ok(Job {
        input: input.to_owned(),
        output,
        format,
    })
}

fn enlarge_file(job: &Job, upscaler: &Upscaler, quiet: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    // The format's limit is known before any work.
    let (width_px, height_px) = dimensions(&job.input)?;
    let longest = width_px.max(height_px) * upscaler.scale();
    if longest > job.format.max_side_px() {
        bail!(
            "{}: the result has a side of {longest} pixels, {} holds at most {}; use -f png or tif",
            job.input.display(),
            job.format,
            job.format.max_side_px()
        );
    }
    let picture = decode(&job.input, &Limits::default())?;
    if !job.format.supports(picture.colour, picture.depth()) {
        bail!(
            "{}: {} cannot hold its transparency or depth; use -f png or tif",
            job.input.display(),
            job.format
        );
    }
    let name = job
        .input
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let bar = progress::bar(1, "{msg} [{bar:30}] {percent}%, {eta} left", quiet);
    bar.set_message(name);
    let result = enlarge(picture, upscaler, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    encode(&result, &job.output, job.format)?;
    bar.finish_and_clear();
    if !quiet {
        progress::note(&format!(
            "{} -> {} ({} x {}, {:.1} s)",
            job.input.display(),
            job.output.display(),
            result.width_px,
            result.height_px,
            started.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

/// Colour through the network, alpha by bicubic interpolation, in the picture's own depth.
fn enlarge(
    picture: Picture,
    upscaler: &Upscaler,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Picture {
    let (colour, alpha) = picture.split_alpha();
    let grey = colour.colour == Colour::Grey;
    let rgb = if grey { colour.grey_to_rgb() } else { colour };
    let (w, h) = (rgb.width_px, rgb.height_px);
    let samples = match &rgb.samples {
        Samples::U8(v) => Samples::U8(upscaler.upscale_with_progress(v, w, h, progress)),
        Samples::U16(v) => Samples::U16(upscaler.upscale_with_progress(v, w, h, progress)),
        Samples::F32(v) => Samples::F32(upscaler.upscale_with_progress(v, w, h, progress)),
    };
    let scale = upscaler.scale();
    let large = Picture {
        width_px: w * scale,
        height_px: h * scale,
        samples,
        ..rgb
    };
    let large = if grey { large.rgb_to_grey() } else { large };
    match alpha {
        Some(alpha) => large.join_alpha(&alpha.imresize(scale as f64)),
        None => large,
    }
}
