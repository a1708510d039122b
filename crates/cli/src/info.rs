//! `wdsr info`: what a network costs.
#![allow(clippy::print_stdout, reason = "the figures are the command's output")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use wdsr_model::{Model, Network, NetworkConfig, Released};
use wdsr_train::{Recipe, checkpoint};

/// Output size that multiply-adds are published for.
const OUTPUT_PX: (u64, u64) = (1280, 720);
/// Published names of the notes of a model that are worth a line.
const NOTES_SHOWN: [&str; 2] = ["updates", "psnr_db"];

/// Parameters, multiply-adds and receptive radius of a model or recipe, layer by layer
///
/// Parameters are counted folded, as the model runs, and with the gains of weight normalisation,
/// as the READMEs of WDSR implementations count them. Multiply-adds are for an output of 1280 x
/// 720 pixels, as papers state them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model file, checkpoint, or recipe (.toml); without it the model that is built in
    #[arg(value_name = "MODEL|RECIPE")]
    file: Option<PathBuf>,
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
    let info = match &arguments.file {
        None => {
            let name = format!("{} (built in)", Released::DEFAULT.name());
            Info::of_model(name, &Model::builtin())
        }
        Some(path) => {
            let name = path.display().to_string();
            if path.extension().is_some_and(|suffix| suffix == "toml") {
                let recipe = Recipe::load(path, None)?;
                Info::new(name, &recipe.network, BTreeMap::new())
            } else {
                Info::of_model(name, &checkpoint::load_model(path)?)
            }
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&info)?);
    } else {
        print!("{}", info.to_table());
    }
    Ok(())
}

impl Info {
    fn of_model(name: String, model: &Model) -> Self {
        Self::new(name, model.config(), model.notes().clone())
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
            layers,
            notes,
        }
    }

    fn to_table(&self) -> String {
        let mut text = format!("{}: {}\n\n", self.name, self.label);
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what:<34}{value:>16}");
        };
        line("parameters", grouped(self.parameters as u64));
        line(
            "with gains of weight norm",
            grouped(self.parameters_with_gains as u64),
        );
        line(
            "multiply-adds per input pixel",
            grouped(self.multiply_adds_per_input_pixel as u64),
        );
        line(
            "multiply-adds for 1280 x 720 out",
            giga(self.multiply_adds_1280x720),
        );
        line(
            "receptive radius, input pixels",
            self.receptive_radius_px.to_string(),
        );
        for note in NOTES_SHOWN {
            if let Some(value) = self.notes.get(note) {
                line(note, value.clone());
            }
        }
        let _ = writeln!(
            text,
            "\n{:<18}{:>7}{:>14}{:>14}{:>18}",
            "layer", "kernel", "channels", "parameters", "multiply-adds"
        );
        for layer in &self.layers {
            let _ = writeln!(
                text,
                "{:<18}{:>7}{:>14}{:>14}{:>18}",
                layer.name,
                format!("{0}x{0}", layer.kernel),
                format!("{} > {}", layer.in_channels, layer.out_channels),
                grouped(layer.parameters as u64),
                giga(layer.multiply_adds_1280x720),
            );
        }
        text
    }
}

/// 1,190,100
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn giga(value: u64) -> String {
    format!("{:.2} G", value as f64 / 1e9)
}
