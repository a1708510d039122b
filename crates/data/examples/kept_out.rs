//! Writes the list of images that no training may use:
//!
//!     cargo run --release -p wdsr-data --example kept_out -- NAME=FOLDER... > LIST
//!
//! The images of a folder are listed as NAME/file. `LIST.txt` instead of NAME=FOLDER is a list that exists.
//! With `--against NAME=FOLDER...` after them, prints the images of those folders that match the list
//! instead: windows that match images which have nothing in common with them are deleted from the list.
#![allow(clippy::print_stdout, reason = "the list is the output")]

use std::path::Path;

use rayon::prelude::*;
use wdsr_data::kept_out::{KeptOut, list_entry};
use wdsr_image::{Limits, decode, images_in};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let end = arguments.iter().position(|a| a == "--against");
    let (listed, against) = arguments.split_at(end.unwrap_or(arguments.len()));
    let mut list = String::new();
    let (lists, folders): (Vec<_>, Vec<_>) = listed.iter().partition(|a| a.ends_with(".txt"));
    for file in lists {
        list += &std::fs::read_to_string(file).expect("a list");
    }
    for (name, rgb, (w, h)) in folders.into_iter().flat_map(|a| images(a)).map(read) {
        list += &list_entry(&name, &rgb, w, h).unwrap_or(format!("# {name} is flat"));
        list.push('\n');
    }
    if end.is_none() {
        print!("{list}");
        return;
    }
    let kept = KeptOut::parse(&list, Path::new("list")).expect("a list");
    let all: Vec<_> = against[1..].iter().flat_map(|a| images(a)).collect();
    all.into_par_iter().for_each(|image| {
        let (name, rgb, (w, h)) = read(image);
        if let Some(found) = kept.find(&rgb, w, h) {
            println!("{:3} {} {name}", found.bits, found.name);
        }
    });
}

fn images(argument: &str) -> Vec<(String, std::path::PathBuf)> {
    let (set, folder) = argument.split_once('=').expect("NAME=FOLDER");
    let files = images_in(Path::new(folder), true).expect("a folder of images");
    let name = |file: &Path| format!("{set}/{}", file.file_name().unwrap().to_string_lossy());
    files.into_iter().map(|file| (name(&file), file)).collect()
}

fn read((name, file): (String, std::path::PathBuf)) -> (String, Vec<u8>, (usize, usize)) {
    let image = decode(&file, &Limits::default()).expect("an image");
    (name, image.to_rgb8(), (image.width_px, image.height_px))
}
