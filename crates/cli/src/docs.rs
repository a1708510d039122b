//! `wdsr completions` and `wdsr man`: files that packages install beside the program.

use std::path::PathBuf;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

use crate::stdout;

/// Print shell completions to standard output
#[derive(clap::Args)]
pub(crate) struct CompletionsArguments {
    /// Shell to print completions for
    shell: Shell,
}

pub(crate) fn completions(
    arguments: &CompletionsArguments,
    mut program: Command,
) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "wdsr", &mut script);
    Ok(stdout::print(script)?)
}

/// Write manual pages: one for the program, one for each command
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Folder to write wdsr.1, wdsr-upscale.1, ... to
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(crate) fn man(arguments: &ManArguments, program: Command) -> anyhow::Result<()> {
    let folder = &arguments.out;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    clap_mangen::generate_to(program, folder)
        .with_context(|| format!("{}: cannot write the manual pages", folder.display()))
}
