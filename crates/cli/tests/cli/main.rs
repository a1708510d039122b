//! The program as a user runs it.

mod align;
mod alpha;
mod animations;
mod bands;
mod batches;
mod bench;
mod compare;
mod contact;
mod contents;
mod convert;
mod damage;
mod data;
#[cfg(target_os = "linux")]
mod deploy;
mod docs;
mod eval;
mod gpu;
mod info;
mod int8;
mod metadata;
#[cfg(unix)]
mod mpi;
#[cfg(target_os = "linux")]
mod names;
mod overwrites;
mod patterns;
mod pipes;
mod rows;
mod serve;
#[cfg(target_os = "linux")]
mod signals;
mod sizes;
#[cfg(target_os = "linux")]
mod special_files;
#[cfg(target_os = "linux")]
mod stdout;
mod stores;
mod study;
mod train;
mod upscale;
mod video;

use std::path::Path;

use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_testing::images::texture;
use wdsr_testing::program::{self, wdsr};

/// A smooth image with some texture.
fn image(width: usize, height: usize, colour: Colour) -> Image {
    let samples = texture(width, height, colour.channels());
    Image::new(width, height, colour, Samples::U8(samples))
}

fn write(path: &Path, image: &Image) {
    encode(image, path, Format::from_extension(path).expect("a suffix")).expect("written");
}
