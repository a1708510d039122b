//! `wdsr compare`: shows images side by side in one HTML page.

mod images;
mod page;
mod sets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use wdsr_atomic_file::AtomicFile;

use crate::file_claims::FileClaims;
use crate::{WrongUsage, exit, on_threads, progress};
use images::{LoadedSet, Source};
use page::PageWriter;
use sets::{ImageSet, find_sets};

/// The default page.
const PAGE: &str = "compare.html";
/// Most bytes of image files in a page: browsers hold the whole page in memory.
const MAX_PAGE_BYTES: usize = 300 << 20;

/// Compare images in an HTML page
///
/// The page is one file that needs no network. It shows two of the images with a divider between them, in
/// turn, or their difference, zoomed to single pixels, and has PSNR and SSIM against the original, or
/// of the images against each other.
///
/// Of folders the images with the same names (without suffix) are compared. Images must have the same size
/// or the same shape; a smaller one, such as an input beside its results, is shown enlarged and has no figures.
///
/// JPEG, PNG and WebP files without EXIF and XMP are embedded as they are, other images as 8-bit PNG with
/// their colour profile. An image may have 100 megapixels, all files of a page 300 MiB.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Images of one scene, or folders of images
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    images: Vec<PathBuf>,
    /// What the figures compare with
    #[arg(long, value_name = "IMAGE|FOLDER")]
    original: Option<PathBuf>,
    /// Crop N pixels from each side for the figures, as `wdsr eval` does at scale N
    #[arg(short = 's', long, value_name = "N", default_value_t = 0)]
    scale: usize,
    /// Write the page to FILE [default: compare.html, unless it exists]
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print errors only
    #[arg(short = 'q', long)]
    quiet: bool,
}

impl Arguments {
    /// The page's path. One that the user did not name is not replaced.
    fn output(&self) -> Result<&Path, WrongUsage> {
        match &self.output {
            Some(output) => Ok(output),
            None if Path::new(PAGE).symlink_metadata().is_ok() => Err(WrongUsage(format!(
                "{PAGE} already exists; remove it, or name the page by -o"
            ))),
            None => Ok(Path::new(PAGE)),
        }
    }

    /// The images and the original, each with its name in the page.
    fn sources(&self) -> Result<Vec<Source>, WrongUsage> {
        let images = self.images.iter().map(|path| (path, false));
        let original = self.original.iter().map(|path| (path, true));
        let sources = images.chain(original);
        let sources = Vec::from_iter(sources.map(|(path, is_original)| Source {
            path: path.clone(),
            is_original,
        }));
        if sources.len() < 2 {
            let message = "expected two or more images or folders, or --original, found one image";
            return Err(WrongUsage(message.to_owned()));
        }
        Ok(sources)
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let sources = arguments.sources()?;
    let output = arguments.output()?;
    let (sets, problems) = find_sets(&sources)?;
    let files = sets.iter().flat_map(|set| &set.files);
    let inputs = files.map(|file| ("input", &**file));
    FileClaims::of_inputs(inputs).write("page", "-o", output)?;
    for problem in &problems {
        progress::note(problem);
    }
    on_threads(0, || {
        write_page(arguments, &sources, &sets, output, problems.len())
    })?
}

fn write_page(
    arguments: &Arguments,
    sources: &[Source],
    sets: &[ImageSet],
    output: &Path,
    mut failures: usize,
) -> anyhow::Result<ExitCode> {
    let cannot_write = || format!("{}: cannot write", output.display());
    let file = AtomicFile::create(output).with_context(cannot_write)?;
    let mut page = PageWriter::start(file, sources, arguments.scale).with_context(cannot_write)?;
    let bar = progress::bar(
        sets.len() as u64,
        "[{bar:30}] {pos}/{len}, {eta} left",
        arguments.quiet,
    );
    for set in sets {
        match LoadedSet::load(set, sources, arguments.scale) {
            Ok(loaded) => {
                page.add(&loaded).with_context(cannot_write)?;
                if page.image_bytes() > MAX_PAGE_BYTES {
                    anyhow::bail!(
                        "{}: the images have more than {} MiB, which browsers may not show; compare fewer or \
                         smaller ones",
                        output.display(),
                        MAX_PAGE_BYTES >> 20
                    );
                }
            }
            Err(error) if exit::ran_out(&error) => return Err(error),
            Err(error) => {
                bar.suspend(|| progress::print_error(&error));
                failures += 1;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if page.sets() == 0 {
        return Ok(ExitCode::from(exit::REFUSED));
    }
    let (count, bytes) = (page.sets(), page.image_bytes());
    let file = page.finish().with_context(cannot_write)?;
    file.publish().with_context(cannot_write)?;
    if !arguments.quiet {
        let of = if count == 1 {
            "1 comparison".to_owned()
        } else {
            format!("{count} comparisons")
        };
        progress::note(&format!(
            "{}: {of}, images of {:.1} MB; open it in a browser",
            output.display(),
            bytes as f64 / 1e6
        ));
    }
    Ok(match failures {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::FAILED),
    })
}
