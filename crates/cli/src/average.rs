//! `wdsr average`: averages the weights of models.

use std::path::PathBuf;

use wdsr_model::Model;
use wdsr_train::checkpoint::load_model;

use crate::WrongUsage;
use crate::file_claims::FileClaims;
use crate::progress::print_line;

/// Average the weights of models of one training
///
/// Of the cool-downs of a run, say. Score the average before it is used: models of different trainings
/// average to nothing useful.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model files or checkpoints, two or more
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Write the average to FILE, a .safetensors model in float32
    #[arg(short = 'o', long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let inputs = arguments.models.iter().map(|path| ("model", &**path));
    FileClaims::of_inputs(inputs).write("average", "--out", &arguments.out)?;
    let models: Result<Vec<Model>, _> = arguments.models.iter().map(|p| load_model(p)).collect();
    let average = Model::average(&models?).map_err(|error| {
        let names = [&arguments.models[0], &arguments.models[error.at]].map(|path| path.display());
        let message = format!(
            "{}: not of the network of {}: {error}; name models of one training",
            names[1], names[0]
        );
        WrongUsage(message)
    })?;
    average.save(&arguments.out)?;
    let count = arguments.models.len();
    print_line(&format!(
        "{}: average of {count} models",
        arguments.out.display()
    ));
    Ok(())
}
