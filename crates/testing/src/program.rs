//! The program `wdsr` as a test runs it, built by Cargo for the tests of its crate.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// The path of the program.
pub fn path() -> PathBuf {
    assert_cmd::cargo::cargo_bin("wdsr")
}

/// A command of the program, with assertions about its output and exit code.
pub fn wdsr() -> assert_cmd::Command {
    assert_cmd::Command::new(path())
}

/// Runs the program after bash has set limits, e.g. `ulimit -v 900000`, and returns its exit code
/// and its standard error.
pub fn under_limits<A: AsRef<OsStr>>(
    limits: &str,
    arguments: impl IntoIterator<Item = A>,
) -> (Option<i32>, String) {
    let run = Command::new("bash")
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(path())
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("bash: {e}"));
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    (run.status.code(), text)
}
