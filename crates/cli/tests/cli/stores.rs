//! URLs as inputs and results. What needs a store is in `python/tests/stores`.

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use super::wdsr;

#[test]
fn servers_of_http_are_no_targets_and_credentials_are_not_shown() {
    let signed = "https://anna:word@host/a.png?sig=secret";
    for arguments in [&[signed][..], &["x.png", "-o", signed]] {
        let run = wdsr().arg("upscale").args(arguments).assert().code(2);
        let shown = contains("https://host/a.png: HTTP servers are only read");
        run.stderr(shown.and(contains("secret").or(contains("anna")).not()));
    }
}

#[cfg(not(feature = "stores"))]
#[test]
fn a_program_without_stores_names_its_feature() {
    let folder = tempfile::tempdir().expect("a folder");
    for url in ["s3://bucket/a.png", "gs://bucket/in/"] {
        let mut command = wdsr();
        let run = command.args(["upscale", url, "-o"]).arg(folder.path());
        run.assert().code(1).stderr(contains(
            "built without object stores; build with --features stores",
        ));
    }
}
