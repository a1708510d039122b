//! A batch of files: in which order, what is up to date, where results go, and what is reported.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use wdsr_image::{Format, Reader};
use wdsr_upscale::{Job, Plan};

use super::existing::{self, IfExists, ResultFile};
use super::failure::{self, explained};
use super::inputs::{self, Input};
use super::manifest::{Entry, Manifest, portable};
use super::metadata::Warnings;
use super::networks::Networks;
use super::report::{self, BatchReport, Outcome};
use super::{Arguments, Tally, interrupt};
use crate::file_claims::{Conflict, FileClaims, is_same_file};
use crate::{exit, progress};

/// What all images of a batch share.
struct Batch<'a> {
    arguments: &'a Arguments,
    into_folder: bool,
    networks: Networks,
    /// The manifest of an output folder.
    manifest: Option<Manifest>,
    warnings: Warnings,
    bar: ProgressBar,
}

pub(super) fn upscale(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let networks = Networks::load(arguments)?;
    let named = arguments.inputs();
    let first = &named[0];
    let into_folder = named.len() > 1
        || first.is_dir()
        || inputs::is_pattern(first)
        || arguments.output.is_dir()
        || Format::from_extension(&arguments.output).is_none() && arguments.format.is_none();
    let (mut inputs, errors) = inputs::collect(named, arguments.recursive, &arguments.output);
    let mut manifest = into_folder
        .then(|| Manifest::read(&arguments.output, arguments.shard))
        .transpose()?;
    // Inputs of all shards, as results of one could replace inputs of another.
    let images = inputs.iter().map(|input| ("input", &*input.path));
    let read = manifest.iter().flat_map(Manifest::other_paths);
    let read = images.chain(read.map(|path| ("manifest of another shard", path)));
    let mut claims = FileClaims::of_inputs(arguments.model.file_claim().chain(read));
    if let Some(shard) = arguments.shard {
        inputs.retain(|input| shard.contains(&input.relative));
    }
    let plans = plan_results(
        arguments,
        into_folder,
        &inputs,
        manifest.as_ref(),
        &mut claims,
    );
    if let Some(manifest) = &manifest {
        claims.write("manifest", "-o", manifest.path())?;
    }
    if let Some(report) = &arguments.report {
        claims.write("report", "--report", report)?;
    }
    drop(claims);
    let mut report = BatchReport::create(arguments.report.as_deref())?;
    if let Some(manifest) = &mut manifest {
        manifest.open()?;
    }
    let bytes: Vec<u64> = inputs
        .iter()
        .map(|input| fs::metadata(&input.path).map_or(0, |file| file.len()))
        .collect();
    let mut batch = Batch {
        arguments,
        into_folder,
        networks,
        manifest,
        warnings: Warnings::default(),
        bar: progress::bar_of_files(bytes.iter().sum(), arguments.quiet),
    };

    let mut tally = Tally::default();
    for error in errors {
        tally.failures += 1;
        tally.refusals += usize::from(failure::is_refusal(&error));
        progress::print_error(&error);
        let error = progress::one_line(&error);
        report.add(&arguments_of(named), &Outcome::Failed { error })?;
    }
    let count = inputs.len();
    for (at, ((input, plan), bytes)) in inputs.iter().zip(plans).zip(bytes).enumerate() {
        if interrupt::requested() {
            break;
        }
        let name = input.path.file_name().unwrap_or_default();
        let place = if count > 1 {
            format!("[{}/{count}] ", at + 1)
        } else {
            String::new()
        };
        batch
            .bar
            .set_message(format!("{place}{}", name.to_string_lossy()));
        let result = batch.one(input, plan, bytes);
        let shown = report::shown(&input.path);
        let (outcome, stop) = match result {
            Ok(outcome) => {
                tally.done += 1;
                (outcome, None)
            }
            Err(error) if failure::is_stopped(&error) => break,
            Err(error) => {
                tally.failures += 1;
                tally.refusals += usize::from(failure::is_refusal(&error));
                batch.bar.suspend(|| progress::print_error(&error));
                let text = progress::one_line(&error);
                let stop = exit::ran_out(&error).then_some(exit::RAN_OUT);
                (Outcome::Failed { error: text }, stop)
            }
        };
        let _writing = interrupt::writing();
        report.add(&shown, &outcome)?;
        let lines = outcome.lines(&shown, &mut batch.warnings, count > 1);
        for line in lines.iter().filter(|_| !arguments.quiet) {
            batch
                .bar
                .suspend(|| progress::note(&format!("{place}{line}")));
        }
        if let Some(code) = stop {
            return Ok(ExitCode::from(code));
        }
    }
    batch.bar.finish_and_clear();
    Ok(tally.code())
}

/// All inputs as the report names them for an error of none of them alone.
fn arguments_of(inputs: &[PathBuf]) -> String {
    let names: Vec<String> = inputs.iter().map(|i| i.display().to_string()).collect();
    names.join(" ")
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
        let limits = self.arguments.reading_limits();
        let mut reader = Reader::open(&input.path, &limits).map_err(explained)?;
        let input_hash = match self.manifest {
            Some(_) => format!("{:032x}", reader.content_hash().map_err(explained)?),
            None => String::new(),
        };
        let upscalers = self.networks.upscalers();
        let job = Job::new(reader, &upscalers, self.arguments.settings()).map_err(explained)?;
        let settings = self.settings_text(job.plan(), format);
        let place = &input.relative;
        let manifest = self.manifest.as_ref();
        let is_current = |output: &Path| {
            let own = manifest.and_then(|manifest| manifest.own_result(output, place));
            own.is_some_and(|own| own.input_hash == input_hash && own.settings == settings)
        };
        let named = || input.path.display().to_string();
        let output = match result.target.with_context(named)? {
            ResultFile::Own(output) if is_current(&output) => {
                let output = report::shown(&output);
                return Ok(Outcome::UpToDate { output });
            }
            ResultFile::Skip(output) => {
                let output = report::shown(&output);
                return Ok(Outcome::Skipped { output });
            }
            // Another program may have created it since the results were planned.
            ResultFile::Write(output)
                if self.arguments.if_exists != IfExists::Overwrite
                    && output.symlink_metadata().is_ok() =>
            {
                if self.arguments.if_exists == IfExists::Skip {
                    let output = report::shown(&output);
                    return Ok(Outcome::Skipped { output });
                }
                bail!(
                    "{}: {} was created by another program during this run; run it again",
                    input.path.display(),
                    output.display()
                );
            }
            ResultFile::Write(output) | ResultFile::Own(output) => output,
        };
        result.claim.with_context(named)?;

        let (bar, start) = (&self.bar, self.bar.position());
        let progress = |done: usize, total: usize| {
            bar.set_position(start + progress::share(bytes, done, total));
            interrupt::flow()
        };
        if let (Some(folder), true) = (output.parent(), self.into_folder) {
            fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot create the folder", folder.display()))?;
        }
        let (file, summary) = job
            .into_file(&output, format, &progress)
            .map_err(explained)?;
        let _writing = interrupt::writing();
        let write = || format!("cannot write {}", output.display());
        if let Some(manifest) = &mut self.manifest {
            manifest.add(Entry {
                output: manifest.name_of(&output),
                output_bytes: file.as_file().metadata().with_context(write)?.len(),
                input: portable(place),
                input_hash,
                settings,
            })?;
        }
        file.publish().with_context(write)?;
        Ok(Outcome::done(&output, summary, started.elapsed()))
    }

    /// Program, options and models that a result depends on, as the manifest records them.
    fn settings_text(&self, plan: &Plan, format: Format) -> String {
        let arguments = self.arguments;
        format!(
            "wdsr {}, {}, self-ensemble {}, alpha {:?}, metadata {}, models [{}], {}, {format}",
            env!("CARGO_PKG_VERSION"),
            self.networks.precision.name(),
            arguments.model.self_ensemble,
            arguments.alpha.method(),
            arguments.metadata.name(),
            self.networks.hashes_of(plan).join(" "),
            plan.target()
        )
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
fn plan_results(
    arguments: &Arguments,
    into_folder: bool,
    inputs: &[Input],
    manifest: Option<&Manifest>,
    claims: &mut FileClaims,
) -> Vec<anyhow::Result<ResultPlan>> {
    let mut first_of_name = HashMap::new();
    let mut plan = |input| {
        let (output, format) = result_name(arguments, into_folder, input)?;
        if let Some(other) = first_of_name.insert(output.clone(), &input.path) {
            bail!(
                "{}: its result {} is already that of {}; upscale them into different folders",
                input.path.display(),
                output.display(),
                other.display()
            );
        }
        let taken = |path: &Path| claims.contains(path);
        let (place, policy) = (&input.relative, arguments.if_exists);
        let target = existing::target(&output, place, policy, manifest, &taken);
        let path = target.as_ref().map_or(&*output, ResultFile::path);
        let claim = claims.write("result", "-o", path);
        Ok(ResultPlan {
            format,
            target,
            claim,
        })
    };
    inputs.iter().map(|input: &Input| plan(input)).collect()
}

/// The name of an input's result, unless it exists and another has to be found, and its format.
fn result_name(
    arguments: &Arguments,
    into_folder: bool,
    input: &Input,
) -> anyhow::Result<(PathBuf, Format)> {
    let out = &arguments.output;
    // An input of a format that is not read has no result, so it takes no other's name.
    let found = Format::of_file(&input.path)?;
    let format = arguments
        .chosen_format(into_folder)
        .unwrap_or(found.of_result());
    let output = if into_folder {
        let mut name = input.relative.file_stem().unwrap_or_default().to_owned();
        name.push(".");
        name.push(format.extension());
        out.join(&input.relative).with_file_name(name)
    } else {
        out.clone()
    };
    if is_same_file(&input.path, &output) {
        bail!(
            "{}: the result would replace the input; give -o another folder",
            input.path.display()
        );
    }
    Ok((output, format))
}
