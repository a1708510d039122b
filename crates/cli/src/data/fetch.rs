//! `wdsr data fetch`: builds a dataset.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wdsr_data::Sources;
use wdsr_data::fetch::{FetchProgress, FetchReport, FetchRequest, fetch};

use crate::file_claims::FileClaims;
use crate::{WrongUsage, on_threads, progress, stdout};

/// Build a dataset of photographs
///
/// Its sources are Debian packages, which are downloaded and unpacked but not installed (by apt-get
/// and dpkg), and folders of public sets: cid (CID22), bsds (BSDS500), wall, div2k, flickr2k, or any
/// other name. Known images are checked by SHA-256. Images without detail, and images of Set5, Set14,
/// B100, Kodak24 and the gallery, are excluded; soft images are reduced. manifest.jsonl has source,
/// licence and processing of each image, contact-sheet.html shows them. An interrupted run can be
/// repeated; it prepares only the missing images.
#[derive(clap::Args)]
pub(super) struct FetchArguments {
    /// Folder of the dataset, for `wdsr train --data`
    #[arg(value_name = "FOLDER")]
    out: PathBuf,
    /// Use the folders cid, bsds and wall in FOLDER, if they exist
    #[arg(long, value_name = "FOLDER")]
    shared: Option<PathBuf>,
    /// Use FOLDER for the source NAME, e.g. div2k=DIV2K; may be given several times
    ///
    /// For a package, the folder of its unpacked files.
    #[arg(long, value_name = "NAME=FOLDER", value_parser = named_folder)]
    from: Vec<(String, PathBuf)>,
    /// Exclude the source NAME; may be given several times
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// Number of threads; 0: one for each processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

fn named_folder(text: &str) -> Result<(String, PathBuf), String> {
    let (name, folder) = text.split_once('=').ok_or("expected NAME=FOLDER")?;
    Ok((name.to_owned(), folder.into()))
}

pub(super) fn run(arguments: &FetchArguments) -> anyhow::Result<()> {
    let sources = Sources::built_in();
    for path in arguments
        .shared
        .iter()
        .chain(arguments.from.iter().map(|f| &f.1))
    {
        if !path.is_dir() {
            let message = format!("{}: no such folder", path.display());
            return Err(WrongUsage(message).into());
        }
    }
    let inputs = arguments.shared.iter();
    let inputs = inputs.chain(arguments.from.iter().map(|(_, folder)| folder));
    FileClaims::of_inputs(inputs.map(|folder| ("source folder", &**folder))).write_folder(
        "dataset",
        "FOLDER",
        &arguments.out,
    )?;
    let request = FetchRequest {
        out: &arguments.out,
        shared: arguments.shared.as_deref(),
        folders: &arguments.from,
        without: &arguments.without,
    };
    let bar = progress::bar(0, "{msg} [{bar:30}] {pos}/{len}, {eta} left", false);
    let report = on_threads(arguments.threads, || {
        fetch(&sources, &request, &|progress| match progress {
            FetchProgress::Downloading(name) => bar.set_message(format!("downloading {name}")),
            FetchProgress::Preparing {
                source,
                done,
                total,
            } => {
                bar.set_message(source.to_owned());
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
        })
    })??;
    bar.finish_and_clear();
    stdout::print_lines(&to_lines(&report))?;
    if let Some(first) = report.unknown.first() {
        progress::note(&format!(
            "{} images in the folder are not in the manifest, such as {}; a training would use them",
            report.unknown.len(),
            first.display()
        ));
    }
    if !report.not_given.is_empty() {
        let names = report.not_given.join(", ");
        progress::note(&format!(
            "skipped, as no folder is given (--shared, --from NAME=FOLDER): {names}"
        ));
    }
    Ok(())
}

fn to_lines(report: &FetchReport) -> String {
    let mut text = String::new();
    for source in &report.sources {
        text += &format!(
            "{:<28}{:>5} images {:>8.1} megapixels",
            source.name, source.images, source.megapixels
        );
        if source.without_licence > 0 {
            text += &format!(", {} of unknown licence", source.without_licence);
        }
        // A reason starts with its kind and a colon.
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, reason) in &source.excluded {
            let kind = reason
                .split_once(':')
                .map_or(reason.as_str(), |(kind, _)| kind);
            *reasons.entry(kind).or_default() += 1;
        }
        if !reasons.is_empty() {
            let counts = reasons
                .iter()
                .map(|(kind, count)| format!("{count} {kind}"));
            text += &format!("; excluded {}", counts.collect::<Vec<_>>().join(", "));
        }
        text.push('\n');
    }
    let images: usize = report.sources.iter().map(|source| source.images).sum();
    let megapixels: f64 = report.sources.iter().map(|source| source.megapixels).sum();
    text + &format!(
        "{:<28}{images:>5} images {megapixels:>8.1} megapixels, {} newly prepared\n",
        "total", report.prepared
    )
}
