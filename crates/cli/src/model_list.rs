//! `wdsr models`: lists the built-in models.

use std::fmt::Write;

use indicatif::HumanCount;
use serde::Serialize;
use wdsr_model::{BuiltinModel, Network};

use crate::stdout;

/// The licence of the models.
const LICENCE: &str = env!("CARGO_PKG_LICENSE");

/// List the built-in models
///
/// -m KIND -s SCALE chooses one, for upscale, eval, info, bench and convert. `wdsr info KIND -s SCALE`
/// prints more of it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ListedModel {
    kind: &'static str,
    scale: usize,
    network: String,
    /// Of one strength, for a model that has one.
    parameters: usize,
    /// Size of its file.
    bytes: usize,
    /// Whether it has a strength (`--strength`).
    has_strength: bool,
    purpose: &'static str,
    licence: &'static str,
}

impl ListedModel {
    fn of(builtin: &BuiltinModel) -> Self {
        let model = builtin.load();
        Self {
            kind: builtin.kind,
            scale: builtin.scale,
            network: model.config().label(),
            parameters: Network::new(model.config()).parameters(),
            bytes: builtin.file_bytes(),
            has_strength: model.strong().is_some(),
            purpose: purpose(builtin),
            licence: LICENCE,
        }
    }
}

/// What a model is for.
fn purpose(builtin: &BuiltinModel) -> &'static str {
    match (builtin.kind, builtin.scale) {
        ("base", _) => "clean images; the default for them",
        ("photo", 1) => "removal of JPEG artifacts and noise at the same size",
        ("photo", _) => "images with JPEG artifacts or noise; the default for them",
        ("small", _) => "clean images; half the work of base",
        (kind, _) => unreachable!("{kind} has a purpose"),
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let models = Vec::from_iter(BuiltinModel::ALL.iter().map(ListedModel::of));
    if arguments.json {
        return stdout::print_json(&models);
    }
    let mut text = format!(
        "{:<7}{:>5}{:>12}{:>9}  {}\n",
        "model", "scale", "parameters", "file", "for"
    );
    for model in &models {
        let _ = writeln!(
            text,
            "{:<7}{:>5}{:>12}{:>9}  {}",
            model.kind,
            format!("x{}", model.scale),
            HumanCount(model.parameters as u64).to_string(),
            format!("{} KB", model.bytes.div_ceil(1000)),
            model.purpose
        );
    }
    let _ = write!(
        text,
        "\nLicence: {LICENCE}. -m MODEL -s SCALE chooses one; wdsr info MODEL -s SCALE prints more.\n"
    );
    Ok(stdout::print_lines(&text)?)
}
