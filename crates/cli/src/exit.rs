//! Exit codes.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use crate::file_claims::Conflict;
use crate::signals;

/// The exit codes in `--help`.
pub(crate) const HELP: &str = "Exit codes: 0 success, 1 some inputs failed or another error, \
    2 wrong usage, 3 no input could be used, 4 out of memory or disk, \
    130, 143 or 129 ended by Ctrl-C, SIGTERM or SIGHUP.";

/// Some inputs failed, or an error without a code of its own.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// No input could be used: unreadable, damaged, not an image, too large.
pub(crate) const REFUSED: u8 = 3;
/// Memory or disk ran out.
pub(crate) const RAN_OUT: u8 = 4;

/// The exit code of an error that ends the program.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    if let Some(code) = signals::exit_code() {
        return code;
    }
    ExitCode::from(number_of(error))
}

/// The exit code of an error, whatever signals there were.
pub(crate) fn number_of(error: &anyhow::Error) -> u8 {
    if error.is::<WrongUsage>() || error.is::<Conflict>() {
        USAGE
    } else if ran_out(error) {
        RAN_OUT
    } else {
        FAILED
    }
}

/// Arguments that are invalid together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(pub(crate) String);

/// Not enough memory available.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OutOfMemory(pub(crate) String);

/// Whether memory or disk ran out.
pub(crate) fn ran_out(error: &anyhow::Error) -> bool {
    is_disk_full(error)
        || error.chain().any(|cause| {
            cause.is::<OutOfMemory>()
                || cause.downcast_ref::<io::Error>().is_some_and(|error| {
                    matches!(
                        error.kind(),
                        ErrorKind::FileTooLarge | ErrorKind::OutOfMemory
                    )
                })
        })
}

/// Whether the disk is full, so that other images would fail too.
pub(crate) fn is_disk_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            )
        })
    })
}
