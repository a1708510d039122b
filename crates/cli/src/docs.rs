//! `wdsr completions` and `wdsr man`: what packages install beside the program, made from its
//! arguments.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::Arguments;

/// Write a shell's completions to standard output
#[derive(clap::Args)]
pub(crate) struct CompletionsArguments {
    /// Shell that is to complete this program's arguments
    shell: Shell,
}

pub(crate) fn completions(arguments: &CompletionsArguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "wdsr",
        &mut script,
    );
    std::io::stdout()
        .write_all(&script)
        .context("cannot write the completions")
}

/// Write manual pages, one for the program and one for each command
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Folder that gets wdsr.1, wdsr-upscale.1, ...
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(crate) fn man(arguments: &ManArguments) -> anyhow::Result<()> {
    let folder = &arguments.out;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    clap_mangen::generate_to(Arguments::command(), folder)
        .with_context(|| format!("{}: cannot write the manual pages", folder.display()))
}
