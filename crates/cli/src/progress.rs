//! What a person sees while the program works: bars on a terminal, plain lines elsewhere, errors
//! as one line each. The only place that writes to stderr.
#![allow(clippy::print_stderr, reason = "this is the program's voice")]

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Prints an error as one line.
pub(crate) fn print_error(error: &anyhow::Error) {
    let text = format!("{error:#}").replace('\n', " ");
    eprintln!("error: {text}");
}

/// Prints a remark.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// A bar over bytes of pictures' files, the best guess of the work that needs no decoding.
pub(crate) fn bar_of_files(bytes: u64, quiet: bool) -> ProgressBar {
    bar(bytes, "{msg} [{bar:30}] {percent}%, {eta} left", quiet)
}

/// A bar over `total` steps, drawn on a terminal only. `template` as indicatif's.
pub(crate) fn bar(total: u64, template: &str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|e| unreachable!("template {template}: {e}"))
        .progress_chars("=> ");
    let bar = ProgressBar::new(total).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
