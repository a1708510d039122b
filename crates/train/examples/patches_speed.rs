//! Measures patches per second from the images of a folder, and the memory used.
//!
//!     cargo run --release -p wdsr-train --example patches_speed -- FOLDER IMAGE_MEMORY_MIB
#![allow(clippy::print_stdout, reason = "the figures are its output")]

use std::path::PathBuf;
use std::time::Instant;

use wdsr_train::dataset::{CacheOptions, Dataset, Patches};
use wdsr_train::{DataFolder, Recipe};

const BATCHES: u64 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, memory_mib] = &arguments[..] else {
        return Err("expected FOLDER IMAGE_MEMORY_MIB".into());
    };
    let mut recipe = Recipe::parse("[network]", None)?;
    recipe.data.folders.push(DataFolder {
        path: PathBuf::from(folder),
        weight: None,
    });
    let temporary = std::env::temp_dir();
    let options = CacheOptions {
        memory_bytes: memory_mib.parse::<u64>()? << 20,
        folder: &temporary,
    };
    let started = Instant::now();
    let dataset = Dataset::scan(&recipe)?.decode(&options, &|_, _| {})?;
    println!(
        "{} images, {:.0} megapixels, in a file: {}, decoded in {:.1} s",
        dataset.training.len(),
        dataset.training.high_pixels() as f64 / 1e6,
        dataset.training.is_in_file(),
        started.elapsed().as_secs_f64()
    );
    let t = &recipe.training;
    let patches = Patches::new(dataset.training, dataset.weights, t.patch_px, t.batch, 1);
    let started = Instant::now();
    for update in 0..BATCHES {
        patches.batch(update)?;
    }
    let per_second = (BATCHES * t.batch as u64) as f64 / started.elapsed().as_secs_f64();
    println!("{per_second:.0} patches/s of {0} x {0}", t.patch_px);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().filter(|line| line.starts_with("VmHWM"));
    memory.for_each(|line| println!("{line}"));
    Ok(())
}
