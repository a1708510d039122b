//! Measures `imresize` in input megapixels a second on an image of the size of DIV2K's (2040 x
//! 1356, 8-bit RGB, made of noise): `cargo run --release -p wdsr-image --example imresize_speed`.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::hint::black_box;
use std::time::Instant;

use wdsr_image::imresize::imresize_u8;

fn main() {
    let (width_px, height_px) = (2040, 1356);
    let mut state = 1u32;
    let pixels: Vec<u8> = (0..width_px * height_px * 3)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    for (name, scale) in [("1/2", 0.5), ("1/3", 1.0 / 3.0), ("1/4", 0.25), ("2", 2.0)] {
        let (mut best_s, rounds) = (f64::INFINITY, 10);
        for _ in 0..rounds {
            let start = Instant::now();
            black_box(imresize_u8(
                black_box(&pixels),
                width_px,
                height_px,
                3,
                scale,
            ));
            best_s = best_s.min(start.elapsed().as_secs_f64());
        }
        let megapixels = (width_px * height_px) as f64 / 1e6;
        println!(
            "scale {name:>3}: {:.0} megapixel/s, best of {rounds}",
            megapixels / best_s
        );
    }
}
