//! Help, manual pages, completions.

use std::collections::BTreeSet;
use std::path::Path;

use crate::wdsr;

/// Standard output of the program in a pipe, without a terminal's width.
fn output_of(arguments: &[&str]) -> String {
    let output = wdsr()
        .args(arguments)
        .env_remove("COLUMNS")
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    String::from_utf8(output).expect("UTF-8")
}

/// The commands in a help text, without `help`.
fn commands_in(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

/// The words of every command; the program itself, which has no words, comes first.
fn all_commands() -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = vec![vec![]];
    let mut at = 0;
    while at < commands.len() {
        let mut words: Vec<&str> = commands[at].iter().map(String::as_str).collect();
        words.push("-h");
        let help = output_of(&words);
        let subcommands = commands_in(&help).into_iter().map(|name| {
            let mut words = commands[at].clone();
            words.push(name.to_owned());
            words
        });
        let subcommands: Vec<_> = subcommands.collect();
        commands.extend(subcommands);
        at += 1;
    }
    commands
}

/// The program's own help as it is without the feature `serve`, which is what is recorded.
fn without_server(command: &[String], help: String) -> String {
    if !command.is_empty() {
        return help;
    }
    let is_other = |line: &&str| !line.trim_start().starts_with("serve ");
    help.split_inclusive('\n').filter(is_other).collect()
}

#[test]
fn help_is_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let renew = std::env::var_os("WDSR_RENEW_SNAPSHOTS").is_some();
    let mut names = BTreeSet::new();
    let mut different = Vec::new();
    for command in all_commands() {
        for (flag, suffix) in [("-h", "short"), ("--help", "long")] {
            let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
            words.push(flag);
            let help = without_server(&command, output_of(&words));
            let name = format!(
                "{}.{suffix}.txt",
                [&["wdsr"], &words[..words.len() - 1]].concat().join("-")
            );
            let path = folder.join(&name);
            if renew {
                std::fs::write(&path, &help).expect("written");
            } else if std::fs::read_to_string(&path).ok().as_ref() != Some(&help) {
                different.push(format!("{name}, now:\n{help}"));
            }
            names.insert(name);
        }
    }
    for file in std::fs::read_dir(&folder).expect("the snapshots") {
        let name = file.expect("a file").file_name();
        let name = name.to_str().expect("UTF-8");
        if !cfg!(feature = "serve") && name.starts_with("wdsr-serve.") {
            continue;
        }
        if !names.contains(name) && renew {
            std::fs::remove_file(folder.join(name)).expect("removed");
        } else if !names.contains(name) {
            different.push(format!("{name}: no such command"));
        }
    }
    assert!(
        different.is_empty(),
        "help differs from crates/cli/tests/snapshots; if that is intended, renew them by\n\
         WDSR_RENEW_SNAPSHOTS=1 cargo test -p wdsr-cli docs::help\n\n{}",
        different.join("\n")
    );
}

#[test]
fn version_names_the_program() {
    let expected = format!("wdsr {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(output_of(&["--version"]), expected);
}

#[test]
fn all_commands_have_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("man1");
    wdsr().arg("man").arg("--out").arg(&out).assert().success();
    for command in all_commands() {
        let name = [vec!["wdsr".to_owned()], command].concat().join("-");
        let page = std::fs::read_to_string(out.join(format!("{name}.1"))).expect("a page");
        assert!(page.contains(".SH NAME"), "{name}: {page}");
    }
    let page = std::fs::read_to_string(out.join("wdsr-upscale.1")).expect("a page");
    assert!(page.contains("\\-\\-if\\-exists"), "{page}");
    wdsr()
        .arg("man")
        .arg("--out")
        .arg(out.join("wdsr.1"))
        .assert()
        .code(1)
        .stderr(predicates::str::contains("wdsr.1: cannot create"));
}

#[test]
fn all_shells_have_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = output_of(&["completions", shell]);
        for word in ["upscale", "if-exists", "completions"] {
            assert!(script.contains(word), "{shell} has no {word}");
        }
    }
    wdsr().args(["completions", "csh"]).assert().code(2);
}
