//! `wdsr completions` and `wdsr man`: files that packages install beside the program.

use std::path::PathBuf;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

use crate::{WrongUsage, stdout};

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

/// Print the manual page of the program or of a command
///
/// `wdsr man upscale | man -l -` shows one.
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Command whose page to print, e.g. upscale or data fetch
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
    /// Write all pages to FOLDER instead: wdsr.1, wdsr-upscale.1, ...
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(crate) fn man(arguments: &ManArguments, program: Command) -> anyhow::Result<()> {
    let Some(folder) = &arguments.out else {
        return print_page(&arguments.command, program);
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    clap_mangen::generate_to(program, folder)
        .with_context(|| format!("{}: cannot write the manual pages", folder.display()))
}

/// Prints the manual page of the command of these words, or of the program.
fn print_page(words: &[String], mut program: Command) -> anyhow::Result<()> {
    // Gives commands their full names.
    program.build();
    let mut command = &program;
    for word in words {
        command = command.find_subcommand(word).ok_or_else(|| {
            WrongUsage(format!(
                "{}: no such command; `wdsr --help` lists them",
                words.join(" ")
            ))
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(stdout::print(page)?)
}
