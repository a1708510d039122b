//! What a person sees while the program works: bars on a terminal, plain lines elsewhere, errors
//! as one line each. The only place that writes to stderr.
#![allow(clippy::print_stderr, reason = "this is the program's voice")]

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// An error and its causes on one line. A cause that the text before it ends with is not repeated.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.replace('\n', " ")
}

/// Prints an error as one line.
pub(crate) fn print_error(error: &anyhow::Error) {
    eprintln!("error: {}", one_line(error));
}

/// Prints a remark.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints a line of a log that nothing depends on: when nobody reads it any more (the reader of a
/// pipe is gone, the terminal closed), the work goes on.
pub(crate) fn print_line(text: &str) {
    // A training keeps all of it in its folder.
    let _gone = writeln!(std::io::stdout(), "{text}");
}

/// A bar over bytes of images' files, the best guess of the work that needs no decoding.
pub(crate) fn bar_of_files(bytes: u64, quiet: bool) -> ProgressBar {
    bar(bytes, "{msg} [{bar:30}] {percent}%, {eta} left", quiet)
}

/// How many of `bytes` count as done when `done` of `total` parts of the work are.
pub(crate) fn share(bytes: u64, done: usize, total: usize) -> u64 {
    (u128::from(bytes) * done as u128 / total as u128) as u64
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use anyhow::Context;

    use super::one_line;

    #[test]
    fn a_cause_is_told_once() {
        let source = io::Error::other("the disk is gone");
        let path = PathBuf::from("a.png");
        let error: anyhow::Error = wdsr_image::Error::Read { path, source }.into();
        let error = Err::<(), _>(error).context("in\na folder").unwrap_err();
        assert_eq!(
            one_line(&error),
            "in a folder: cannot read a.png: the disk is gone"
        );
    }
}
