//! A batch of files: in which order, what is up to date, where results go, and what is reported.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use wdsr_batch::{Entry, Input, InputError, Manifest, Shard, is_url, portable};
use wdsr_image::{Error as ImageError, Format};

use super::destination::Destination;
use super::existing::{self, IfExists, ResultFile};
use super::failure::{self, Deadline, explained};
use super::metadata::Warnings;
use super::networks::Networks;
use super::report::{self, BatchReport, Outcome};
use super::rows::Rows;
use super::{Arguments, Tally, video};
use crate::file_claims::{Conflict, FileClaims, is_same_file};
use crate::{progress, signals};

/// Why images are not tried.
const INTERRUPTED: &str = "interrupted";
const DISK_FULL: &str = "the disk is full";

/// What all images of a batch share.
struct Batch<'a> {
    arguments: &'a Arguments,
    networks: Networks<'a>,
    /// The manifest of an output folder.
    manifest: Option<Manifest>,
    warnings: Warnings,
    bar: ProgressBar,
}

pub(super) fn upscale(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let networks = Networks::load(arguments.networks())?;
    let destination = Destination::of(arguments, networks.scale())?;
    let folder = destination.folder();
    let output = folder.or(arguments.output.as_deref());
    let (mut inputs, errors) = wdsr_batch::collect(arguments.inputs(), arguments.recursive, output);
    for (result, image) in destination.take_results(&mut inputs) {
        let (result, image) = (result.display(), image.display());
        progress::note(&format!(
            "{result}: skipped, it has the name of the result of {image}; with -o it is upscaled too"
        ));
    }
    if let ([input], [_], None) = (&inputs[..], arguments.inputs(), folder)
        && let Ok(format) = format_of(&input.path)
    {
        arguments.encoding.check(arguments.format_for(format))?;
    }
    let mut manifest = folder
        .map(|folder| Manifest::find(folder, &manifest_end(arguments)))
        .transpose()?;
    let mut plans = plan_results(arguments, &destination, &inputs, manifest.as_ref())?;
    // Nothing conflicts, so files may be created.
    let mut report = BatchReport::create(arguments.report.as_deref())?;
    if let Some(manifest) = &mut manifest {
        manifest.open(&mut waiting_in(manifest.folder().to_owned()))?;
        // With the results of earlier runs.
        plans = plan_results(arguments, &destination, &inputs, Some(manifest))?;
    }
    inputs.retain(|input| is_in_shard(arguments, input));
    let bytes: Vec<u64> = inputs.iter().map(|input| input.bytes).collect();
    let mut batch = Batch {
        arguments,
        networks,
        manifest,
        warnings: Warnings::default(),
        bar: progress::bar_of_files(bytes.iter().sum(), arguments.quiet),
    };

    let mut tally = Tally::default();
    let is_batch = inputs.len() + errors.len() > 1;
    for InputError { path, error } in errors {
        let error = error.into();
        progress::print_error(&error);
        tally.classify(&error);
        let error = progress::one_line(&error);
        let outcome = Outcome::Failed { error };
        tally.add(&outcome);
        report.add(&report::shown(&path), &outcome)?;
    }
    let count = inputs.len();
    let mut plans = plans.into_iter();
    for (at, (input, bytes)) in inputs.iter().zip(bytes).enumerate() {
        let name = input.path.file_name().unwrap_or_default();
        let place = if is_batch {
            format!("[{}/{count}] ", at + 1)
        } else {
            String::new()
        };
        batch.bar.set_message(progress::printable(&format!(
            "{place}{}",
            name.to_string_lossy()
        )));
        let not_tried = match () {
            () if tally.disk_full => Some(DISK_FULL),
            () if signals::requested() => Some(INTERRUPTED),
            () => None,
        };
        let outcome = match (not_tried, plans.next()) {
            (None, Some(plan)) => match batch.one(input, plan, bytes) {
                Ok(outcome) => outcome,
                Err(error) if failure::is_stopped(&error) => Outcome::NotTried {
                    reason: INTERRUPTED,
                },
                Err(error) => {
                    batch.bar.suspend(|| progress::print_error(&error));
                    tally.classify(&error);
                    let error = progress::one_line(&error);
                    Outcome::Failed { error }
                }
            },
            (reason, _) => Outcome::NotTried {
                reason: reason.unwrap_or(INTERRUPTED),
            },
        };
        tally.add(&outcome);
        let shown = report::shown(&input.path);
        let _writing = signals::writing();
        report.add(&shown, &outcome)?;
        let lines = outcome.lines(&shown, &mut batch.warnings, is_batch);
        for line in lines.iter().filter(|_| !arguments.quiet) {
            batch
                .bar
                .suspend(|| progress::note(&format!("{place}{line}")));
        }
    }
    batch.bar.finish_and_clear();
    if is_batch && !arguments.quiet {
        progress::note(&tally.line(started.elapsed()));
    }
    Ok(tally.code())
}

impl Batch<'_> {
    /// Upscales one image unless its result is up to date or kept.
    fn one(
        &mut self,
        input: &Input,
        plan: anyhow::Result<ResultPlan>,
        bytes: u64,
    ) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let start = self.bar.position();
        let outcome = plan.and_then(|plan| self.upscale(input, plan, bytes, started));
        if matches!(outcome, Ok(Outcome::Done { .. })) {
            self.bar.set_position(start + bytes);
        } else {
            // An image without work does not count for the time left.
            self.bar.set_position(start);
            let length = self.bar.length().unwrap_or(0);
            self.bar.set_length(length.saturating_sub(bytes));
        }
        outcome
    }

    fn upscale(
        &mut self,
        input: &Input,
        result: ResultPlan,
        bytes: u64,
        started: Instant,
    ) -> anyhow::Result<Outcome> {
        let format = result.format;
        let deadline = Deadline::start(self.arguments.timeout());
        let limits = deadline.limits(self.arguments.reading_limits());
        let failed = |error: ImageError| deadline.explained(&input.path, error);
        let flow = || deadline.flow();
        let opened = wdsr_batch::open(&input.path, &limits, &flow);
        let opened = opened.map_err(|error| deadline.explained_place(&input.path, error))?;
        let mut reader = opened.reader;
        let input_hash = match self.manifest {
            Some(_) => format!("{:032x}", reader.content_hash().map_err(failed)?),
            None => String::new(),
        };
        let mut job = (self.networks.job(reader, self.arguments.settings())).map_err(explained)?;
        let mut settings = self.networks.settings_text(
            &job,
            &self.arguments.settings(),
            self.arguments.model.self_ensemble,
            format,
        );
        if let Some(rows) = self.arguments.rows {
            let origin = format!("{settings}, of an image of {} bytes", opened.bytes);
            job = job.band(rows.0, &origin).map_err(explained)?;
            settings += &rows.name_end();
        }
        let is_current = |entry: &Arc<Entry>| entry.is_current(&input_hash, &settings);
        let named = || input.path.display().to_string();
        let output = match result.target.with_context(named)? {
            ResultFile::Own(output, entries) if entries.iter().any(is_current) => {
                let output = report::shown(&output);
                return Ok(Outcome::UpToDate { output });
            }
            ResultFile::Skip(output) => {
                let output = report::shown(&output);
                return Ok(Outcome::Skipped { output });
            }
            // Another program may have created it since the results were planned.
            ResultFile::Write(output)
                if self.arguments.if_exists() != IfExists::Overwrite
                    && !is_url(&output)
                    && output.symlink_metadata().is_ok() =>
            {
                if self.arguments.if_exists() == IfExists::Skip {
                    let output = report::shown(&output);
                    return Ok(Outcome::Skipped { output });
                }
                bail!(
                    "{}: {} was created by another program during this run; run it again",
                    input.path.display(),
                    output.display()
                );
            }
            ResultFile::Write(output) | ResultFile::Own(output, _) => output,
        };
        result.claim.with_context(named)?;

        let (bar, start) = (&self.bar, self.bar.position());
        let progress = |done: usize, total: usize| {
            bar.set_position(start + progress::share(bytes, done, total));
            deadline.flow()
        };
        if self.manifest.is_some() {
            wdsr_batch::create_folder_of(&output)?;
        }
        let (file, summary) = job
            .into_file(&wdsr_batch::local_target(&output), format, &progress)
            .map_err(|error| deadline.explained(&input.path, error))?;
        // An object that is stored can be given up, a file that gets its name is waited for.
        let _writing = (!is_url(&output)).then(signals::writing);
        let write = || format!("cannot write {}", output.display());
        let published = if let Some(manifest) = &mut self.manifest {
            let entry = Entry {
                output: manifest.name_of(&output),
                output_bytes: file.as_file().metadata().with_context(write)?.len(),
                output_hash: wdsr_batch::hash_of(file.as_file()).with_context(write)?,
                input: portable(&input.relative),
                input_place: wdsr_batch::hash_of_place(&input.path),
                input_hash,
                settings,
            };
            manifest.publish(file, &output, &entry, &flow)
        } else {
            wdsr_batch::publish(file, &output, &flow)
        };
        published.map_err(|error| deadline.explained_place(&input.path, error))?;
        let model = self.networks.name_of(&summary);
        let device = self.networks.device_used();
        Ok(Outcome::done(&output, model, &summary, started.elapsed()).on_device(device))
    }
}

/// Waits for the run that writes to a folder, with a note, until a signal.
fn waiting_in(folder: PathBuf) -> impl FnMut() -> bool {
    let mut is_noted = false;
    move || {
        if !is_noted && !signals::requested() {
            let folder = folder.display();
            progress::note(&format!(
                "another run writes to {folder}; waiting for its end"
            ));
            is_noted = true;
        }
        !signals::requested()
    }
}

/// Where the result of an input goes.
struct ResultPlan {
    format: Format,
    target: anyhow::Result<ResultFile>,
    /// A conflict fails only the image whose result would be written.
    claim: Result<(), Conflict>,
}

/// Chooses and claims the files of all results before the first is written. What is wrong with one
/// image's result is an error of that image alone.
///
/// Returns a plan for each input of this run's shard. After a signal plans are missing at the end:
/// results of earlier runs are read to be recognised, which may take long.
fn plan_results(
    arguments: &Arguments,
    destination: &Destination,
    inputs: &[Input],
    manifest: Option<&Manifest>,
) -> Result<Vec<anyhow::Result<ResultPlan>>, Conflict> {
    // Inputs of all shards, as results of one could replace inputs of another.
    let images = inputs.iter().map(|input| ("input", &*input.path));
    let read = manifest.into_iter().flat_map(Manifest::other_paths);
    let read = images.chain(read.map(|path| ("manifest of another shard", path)));
    let mut claims = FileClaims::of_inputs(arguments.model.file_claim().chain(read));
    let mut first_of_name = HashMap::new();
    let mut plan = |input: &Input| {
        let (output, format) = result_name(arguments, destination, input)?;
        let policy = arguments.if_exists();
        let other = first_of_name.insert(output.clone(), input.path.clone());
        if let Some(other) = other.filter(|_| policy != IfExists::Rename) {
            bail!(
                "{}: its result {} is already that of {}; upscale them into different folders, or use \
                 --if-exists rename",
                input.path.display(),
                output.display(),
                other.display()
            );
        }
        let own = |path: &Path| manifest.map_or(Ok(Vec::new()), |m| m.own_result(path, input));
        let exists = |path: &Path| match manifest {
            Some(manifest) => manifest.has_result(path),
            None => wdsr_batch::exists(path),
        };
        let taken = |path: &Path| claims.contains(path);
        let target = existing::target(&output, policy, &own, &taken, &exists);
        let path = target.as_ref().map_or(&*output, ResultFile::path);
        let claim = claims.write("result", "-o", path);
        Ok(ResultPlan {
            format,
            target,
            claim,
        })
    };
    let planned = inputs
        .iter()
        .filter(|input| is_in_shard(arguments, input))
        .take_while(|_| !signals::requested());
    let plans = planned.map(&mut plan).collect();
    if let Some(manifest) = manifest.filter(|manifest| !is_url(manifest.folder())) {
        claims.write("manifest", "-o", manifest.path())?;
    }
    if let Some(report) = &arguments.report {
        claims.write("report", "--report", report)?;
    }
    Ok(plans)
}

/// What the name of the manifest has for runs that share the folder: `-2-of-8`, `-rows-1-of-4`.
fn manifest_end(arguments: &Arguments) -> String {
    let shard = arguments.shard.map(Shard::name_end);
    let rows = arguments.rows.map(Rows::name_end);
    shard.into_iter().chain(rows).collect()
}

fn is_in_shard(arguments: &Arguments, input: &Input) -> bool {
    arguments
        .shard
        .is_none_or(|shard| shard.contains(&input.relative))
}

/// The format of an input: of a file by its content, of an object by the suffix of its URL.
fn format_of(path: &Path) -> Result<Format, ImageError> {
    match is_url(path) {
        true => Ok(Format::from_extension(path).unwrap_or(Format::Png)),
        false => Format::of_file(path),
    }
}

/// The name of an input's result, unless it exists and another has to be found, and its format.
fn result_name(
    arguments: &Arguments,
    destination: &Destination,
    input: &Input,
) -> anyhow::Result<(PathBuf, Format)> {
    // An input of a format that is not read has no result, so it takes no other's name.
    let found = format_of(&input.path).map_err(|error| match error {
        ImageError::NotAnImage { .. } => {
            video::refusal(&input.path).map_or_else(|| error.into(), anyhow::Error::from)
        }
        _ => error.into(),
    })?;
    let format = arguments.format_for(found);
    let output = destination.result(input, format);
    if is_same_file(&input.path, &output) {
        bail!(
            "{}: the result would replace the input; give -o another folder",
            input.path.display()
        );
    }
    Ok((output, format))
}
