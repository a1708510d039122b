//! Standard output: the results of commands that print them.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::progress::printable;

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output: cannot write: {0}")]
pub(crate) struct StdoutError(#[from] io::Error);

impl StdoutError {
    /// Whether the reader of the pipe has closed it, as `head` does. This is not a failure of the
    /// program: it ends quietly with exit code 0, as ripgrep.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes text to standard output. `print!` would panic where this returns an error.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_ref())?;
    stdout.flush()?;
    Ok(())
}

/// Writes lines of text to standard output, with control characters escaped: names of files may have
/// them.
pub(crate) fn print_lines(text: &str) -> Result<(), StdoutError> {
    let lines = text.lines().map(|line| printable(line) + "\n");
    print(lines.collect::<String>())
}

/// Writes an object as JSON to standard output.
pub(crate) fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(object)?;
    Ok(print(text + "\n")?)
}
