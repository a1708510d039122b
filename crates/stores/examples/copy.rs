//! Copies an object into a file, or a file into an object: `copy SOURCE TARGET [NOTE]`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::fs::File;
use std::ops::ControlFlow;

use wdsr_stores::{Location, fetch, find, list, store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let go_on = || ControlFlow::Continue(());
    let location = |url: &str| Location::parse(url, url);
    match &arguments[..] {
        [folder] => {
            for object in list(&location(folder)?, true, &go_on)? {
                println!("{} {}", object.bytes, object.url.display());
            }
        }
        [source, target] if source.contains("://") => {
            fetch(&location(source)?, u64::MAX, &File::create(target)?, &go_on)?;
        }
        [source, target, note @ ..] => {
            let note = note.first().map(String::as_str);
            store(&File::open(source)?, &location(target)?, note, &go_on)?;
            println!("{:?}", find(&location(target)?, &go_on)?);
        }
        [] => println!("copy FOLDER/ | SOURCE TARGET [NOTE]"),
    }
    Ok(())
}
