//! `wdsr info`: size and cost of a network.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use indicatif::HumanCount;
use serde::Serialize;
use wdsr_model::{Model, Network, NetworkConfig};
use wdsr_train::{Overrides, Recipe, checkpoint};

use crate::models::{self, Choice};
use crate::stdout;

/// The output size in published multiply-adds.
const OUTPUT_PX: (u64, u64) = (1280, 720);
/// The notes of a model that are printed.
const NOTES_SHOWN: [&str; 3] = ["updates", "psnr_db", "int8_images"];

/// Print parameters, multiply-adds and receptive radius of a network
///
/// Parameters are counted as the model runs, and with the gains of weight normalisation, as in the
/// READMEs of WDSR implementations. Multiply-adds are for an output of 1280 x 720 pixels, as in
/// papers. The receptive radius is the number of input pixels on each side of a pixel that its result
/// depends on. Layers of one shape that all blocks have are one line, with the figures of all of them; `--json` lists
/// each. A model that removes damage has a strength.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model file, built-in kind, checkpoint or recipe (.toml) [default: base]
    #[arg(value_name = "MODEL|RECIPE")]
    file: Option<PathBuf>,
    /// Scale of the built-in model [default: 2]
    #[arg(short = 's', long, value_name = "N")]
    scale: Option<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Info {
    name: String,
    label: String,
    network: NetworkConfig,
    parameters: usize,
    parameters_with_gains: usize,
    multiply_adds_per_input_pixel: usize,
    multiply_adds_1280x720: u64,
    receptive_radius_px: usize,
    /// Least and largest strength of a model that removes damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<[f32; 2]>,
    /// Whether it has scales for int8.
    has_int8: bool,
    layers: Vec<Layer>,
    notes: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    kernel: usize,
    in_channels: usize,
    out_channels: usize,
    parameters: usize,
    multiply_adds_1280x720: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let choice = arguments.file.as_deref();
    let info = match models::file(choice) {
        None => {
            let Choice { name, model } = models::load(choice, arguments.scale)?;
            Info::of_model(name, &model)
        }
        Some(_) if arguments.scale.is_some() => {
            return Err(models::scale_of_file().into());
        }
        Some(path) => {
            models::check_name(path)?;
            let name = path.display().to_string();
            if path.extension().is_some_and(|suffix| suffix == "toml") {
                let recipe = Recipe::load(path, Overrides::default())?;
                Info::new(name, &recipe.network, BTreeMap::new())
            } else {
                let model = checkpoint::load_model(path);
                let model = model.or_else(|error| models::or_of_others(path, error))?;
                Info::of_model(name, &model)
            }
        }
    };
    if arguments.json {
        stdout::print_json(&info)
    } else {
        Ok(stdout::print_lines(&info.to_table())?)
    }
}

impl Info {
    fn of_model(name: String, model: &Model) -> Self {
        Self {
            strength: model.strong().map(|_| [0.0, 1.0]),
            has_int8: model.int8().is_some(),
            ..Self::new(name, model.config(), model.notes().clone())
        }
    }

    fn new(name: String, config: &NetworkConfig, notes: BTreeMap<String, String>) -> Self {
        let network = Network::new(config);
        let scale = config.scale as u64;
        let input_pixels = OUTPUT_PX.0 * OUTPUT_PX.1 / (scale * scale);
        let layers = network
            .convs
            .iter()
            .zip(network.conv_multiply_adds_per_pixel())
            .map(|(conv, multiply_adds)| Layer {
                name: conv.name.clone(),
                kernel: conv.kernel,
                in_channels: conv.in_channels,
                out_channels: conv.out_channels,
                parameters: conv.weights() + conv.out_channels,
                multiply_adds_1280x720: multiply_adds as u64 * input_pixels,
            })
            .collect();
        Self {
            name,
            label: config.label(),
            network: config.clone(),
            parameters: network.parameters(),
            parameters_with_gains: network.parameters() + network.gains(),
            multiply_adds_per_input_pixel: network.multiply_adds_per_pixel(),
            multiply_adds_1280x720: network.multiply_adds(OUTPUT_PX.0, OUTPUT_PX.1),
            receptive_radius_px: network.receptive_radius_px(),
            strength: None,
            has_int8: false,
            layers,
            notes,
        }
    }

    fn to_table(&self) -> String {
        let mut text = format!("{}: {}\n\n", self.name, self.label);
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "{label:<36}{value:>16}");
        };
        line("parameters", HumanCount(self.parameters as u64).to_string());
        line(
            "parameters with gains",
            HumanCount(self.parameters_with_gains as u64).to_string(),
        );
        line(
            "multiply-adds per input pixel",
            HumanCount(self.multiply_adds_per_input_pixel as u64).to_string(),
        );
        line(
            "multiply-adds, 1280 x 720 output",
            giga(self.multiply_adds_1280x720),
        );
        line(
            "receptive radius in input pixels",
            self.receptive_radius_px.to_string(),
        );
        if self.has_int8 {
            line("--precision int8", "has scales".to_owned());
        }
        if let Some([least, largest]) = self.strength {
            line("strength (--strength)", format!("{least} to {largest}"));
        }
        for note in NOTES_SHOWN {
            if let Some(value) = self.notes.get(note) {
                line(note, value.clone());
            }
        }
        let _ = writeln!(
            text,
            "\n{:<20}{:>7}{:>8}{:>14}{:>14}{:>16}",
            "layers", "count", "kernel", "channels", "parameters", "multiply-adds"
        );
        for layers in self.equal_layers() {
            let first = layers[0];
            let name = match layers.len() {
                1 => first.name.clone(),
                _ => pattern(&first.name),
            };
            let parameters: usize = layers.iter().map(|layer| layer.parameters).sum();
            let multiply_adds = layers.iter().map(|layer| layer.multiply_adds_1280x720);
            let _ = writeln!(
                text,
                "{name:<20}{:>7}{:>8}{:>14}{:>14}{:>16}",
                layers.len(),
                format!("{0}x{0}", first.kernel),
                format!("{} -> {}", first.in_channels, first.out_channels),
                HumanCount(parameters as u64).to_string(),
                giga(multiply_adds.sum()),
            );
        }
        text
    }

    /// Layers of one shape whose names differ in the first number alone, which is a block's.
    fn equal_layers(&self) -> Vec<Vec<&Layer>> {
        let kind = |layer: &Layer| {
            let shape = [layer.kernel, layer.in_channels, layer.out_channels];
            (pattern(&layer.name), shape)
        };
        let mut all: Vec<Vec<&Layer>> = Vec::new();
        for layer in &self.layers {
            match all.iter_mut().find(|layers| kind(layers[0]) == kind(layer)) {
                Some(layers) => layers.push(layer),
                None => all.push(vec![layer]),
            }
        }
        all
    }
}

/// A name with `*` in the place of its first number.
fn pattern(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').collect();
    let mut numbers = parts
        .iter_mut()
        .filter(|part| part.parse::<usize>().is_ok());
    if let Some(first) = numbers.next() {
        *first = "*";
    }
    parts.join(".")
}

fn giga(value: u64) -> String {
    format!("{:.2} G", value as f64 / 1e9)
}
