//! The `wdsr` command: upscale images, score models, train them, convert them.
#![forbid(unsafe_code)]

mod average;
mod bench;
mod command_line;
mod compare;
mod convert;
mod data;
mod device;
mod device_list;
mod docs;
mod eval;
mod exit;
mod file_claims;
mod info;
mod join;
mod model_list;
mod models;
mod progress;
mod quantize;
mod ranks;
#[cfg(feature = "serve")]
mod serve;
mod signals;
mod stdout;
mod study;
mod threads;
mod time_limit;
mod train;
mod training_view;
mod units;
mod upscale;
mod video;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use exit::WrongUsage;
pub(crate) use threads::on_threads;

/// Image super-resolution with WDSR networks: upscale images, score models, train them.
#[derive(Parser)]
#[command(
    name = "wdsr",
    // Also where the file is wdsr.exe.
    bin_name = "wdsr",
    version,
    override_usage = "wdsr <COMMAND>\n       wdsr IMAGE...    (short for wdsr upscale IMAGE...)",
    after_help = exit::HELP
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Upscale(Box<upscale::Arguments>),
    Video(Box<video::Arguments>),
    Eval(eval::Arguments),
    Train(train::Arguments),
    Convert(convert::Arguments),
    Average(average::Arguments),
    Quantize(quantize::Arguments),
    Join(join::Arguments),
    Compare(compare::Arguments),
    Models(model_list::Arguments),
    Info(info::Arguments),
    Bench(bench::Arguments),
    Devices(device_list::Arguments),
    Study(study::Arguments),
    Data(data::Arguments),
    #[cfg(feature = "serve")]
    Serve(serve::Arguments),
    /// Serve upscaling over HTTP
    #[cfg(not(feature = "serve"))]
    #[command(hide = true, disable_help_flag = true)]
    Serve {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    Completions(docs::CompletionsArguments),
    Man(docs::ManArguments),
}

/// Prints no panics of the decoders of JPEG XL and AVIF: they become errors that name the file.
fn silence_decoder_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_in_decoder = |at: &std::panic::Location<'_>| {
            ["/jxl-", "/re_rav1d-", "/zenavif-parse-"]
                .iter()
                .any(|name| at.file().contains(name))
        };
        if !info.location().is_some_and(is_in_decoder) {
            report(info);
        }
    }));
}

fn main() -> ExitCode {
    silence_decoder_panics();
    let program = Arguments::command();
    let is_command = |word: &OsStr| word == "help" || program.find_subcommand(word).is_some();
    let line = command_line::with_command(std::env::args_os(), is_command);
    let arguments = Arguments::parse_from(line);
    let result = match arguments.command {
        Command::Upscale(arguments) => upscale::run(&arguments),
        Command::Video(arguments) => video::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Train(arguments) => train::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Convert(arguments) => convert::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Data(arguments) => data::run(&arguments),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(&arguments),
        #[cfg(not(feature = "serve"))]
        Command::Serve { .. } => Err(WrongUsage(
            "this program was built without the server; build it with --features serve".to_owned(),
        )
        .into()),
        Command::Devices(arguments) => device_list::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Study(arguments) => study::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Average(arguments) => average::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Quantize(arguments) => quantize::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Join(arguments) => join::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Models(arguments) => model_list::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Info(arguments) => info::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Completions(arguments) => {
            docs::completions(&arguments, Arguments::command()).map(|()| ExitCode::SUCCESS)
        }
        Command::Man(arguments) => {
            docs::man(&arguments, Arguments::command()).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        if let Some(error) = error.downcast_ref::<stdout::StdoutError>()
            && error.is_closed_pipe()
        {
            return ExitCode::SUCCESS;
        }
        progress::print_error(&error);
        exit::code_of(&error)
    })
}
