//! Progress bars, messages and errors: what the program writes to standard error.
//!
//! A message that cannot be written is dropped, because no work depends on its reader.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// An error and its causes on one line. A cause that the text before it ends with is omitted.
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

/// A text as a terminal may print it: control characters, which could move the cursor or forge lines,
/// and marks that reverse the direction of the text are escaped.
pub(crate) fn printable(text: &str) -> String {
    let is_risky = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match is_risky(c) {
            true => printable.extend(c.escape_default()),
            false => printable.push(c),
        }
    }
    printable
}

/// Prints an error as one line to standard error.
pub(crate) fn print_error(error: &anyhow::Error) {
    note(&format!("error: {}", one_line(error)));
}

/// Prints one line to standard error.
pub(crate) fn note(text: &str) {
    let _dropped = writeln!(std::io::stderr(), "{}", printable(text));
}

/// Warns of the images of a dataset's folder that are skipped because of their format.
pub(crate) fn warn_of_unread_images(folder: &Path) {
    if let Some(unread) = wdsr_image::unread_images_in(folder) {
        note(&format!("warning: {}: {unread}", folder.display()));
    }
}

/// Prints a line of a log to standard output.
pub(crate) fn print_line(text: &str) {
    let _dropped = writeln!(std::io::stdout(), "{text}");
}

/// A progress bar over the bytes of image files, the best estimate of the work before decoding.
pub(crate) fn bar_of_files(bytes: u64, quiet: bool) -> ProgressBar {
    bar(bytes, "{msg} [{bar:30}] {percent}%, {eta} left", quiet)
}

/// The part of `bytes` that is done when `done` of `total` steps are.
pub(crate) fn share(bytes: u64, done: usize, total: usize) -> u64 {
    (u128::from(bytes) * done as u128 / total as u128) as u64
}

/// A progress bar over `total` steps, drawn on a terminal only. `template` is one of indicatif.
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
    fn repeated_causes_are_omitted() {
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
