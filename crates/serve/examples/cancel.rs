//! How long work goes on after its client has gone: the longest of some ends, spread over the time of each request.
//!
//!     cargo run --release -p wdsr-serve --example cancel -- [ENDS] [PART OF THE NAME OF A REQUEST]
#![allow(clippy::print_stdout, reason = "the results are for people")]

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};
use wdsr_serve::{Access, Limits, Options, Server};
use wdsr_testing::http::{self, Connection};
use wdsr_testing::images::texture;

/// An image of 12 megapixels, or less, in a format.
fn file(width_px: usize, height_px: usize, colour: Colour, format: Format) -> Vec<u8> {
    let mut samples = texture(width_px, height_px, colour.channels());
    if colour.has_alpha() {
        // Opaque stripes, so that colour spreads over the gaps.
        for (at, pixel) in samples.chunks_exact_mut(colour.channels()).enumerate() {
            let is_opaque = at % width_px % 500 < 100;
            pixel[colour.channels() - 1] = if is_opaque { 255 } else { 0 };
        }
    }
    let image = Image::new(width_px, height_px, colour, Samples::U8(samples));
    encode_bytes(&image, format).expect("a file")
}

fn running(address: SocketAddr) -> bool {
    let text = http::request(address, "GET /metrics", &[], b"").text();
    !text.contains("\nwdsr_images_running 0\n")
}

fn main() {
    let ends = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let ends: u32 = ends.unwrap_or(20);
    let part = std::env::args().nth(2).unwrap_or_default();
    let limits = Limits {
        max_memory_bytes: 4 << 30,
        timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    let options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        access: Access::ThisComputer,
        threads: 0,
        device: None,
        limits,
    };
    let server = Server::bind(options).expect("a server");
    let (address, stopper) = (server.address(), server.stopper());
    let thread = thread::spawn(|| server.run());
    let rgb = |format| file(4000, 3000, Colour::Rgb, format);
    let photo = rgb(Format::Jpeg);
    let small = file(1500, 1000, Colour::Rgb, Format::Png);
    let sprite = file(4000, 3000, Colour::RgbAlpha, Format::Png);
    let cases = [
        ("network, x4, 1.5 megapixels", &small, "model=base&scale=4"),
        (
            "PNG, high",
            &photo,
            "factor=1&model=base&format=png&compression=high",
        ),
        (
            "network, PNG, high",
            &small,
            "model=small&scale=2&compression=high",
        ),
        ("reduction by a half", &photo, "factor=0.5&format=bmp"),
        (
            "Lanczos after a pass",
            &small,
            "model=small&factor=1.9&format=bmp",
        ),
        (
            "transparency",
            &sprite,
            "factor=0.5&alpha=lanczos&compression=none",
        ),
        ("JPEG", &photo, "factor=1&model=base"),
        ("choice by damage", &photo, "factor=0.9"),
    ];
    println!("| request | time | longest work after the end | median |\n|---|---|---|---|");
    for (name, file, query) in cases.into_iter().filter(|(name, ..)| name.contains(&part)) {
        let request = format!("POST /v1/upscale?{query}");
        let started = Instant::now();
        let answer = http::request(address, &request, &[], file);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let time = started.elapsed();
        let mut after = Vec::new();
        for end in 1..=ends {
            let mut connection = Connection::open(address).expect("a connection");
            let length = format!("content-length: {}", file.len());
            connection.send_head(&request, &[&length]).expect("sent");
            connection.send(file).expect("sent");
            thread::sleep(time * end / (ends + 1));
            drop(connection);
            let gone = Instant::now();
            while running(address) {
                thread::sleep(Duration::from_millis(1));
            }
            after.push(gone.elapsed().as_secs_f64() * 1e3);
        }
        after.sort_unstable_by(f64::total_cmp);
        let (most, middle) = (after[after.len() - 1], after[after.len() / 2]);
        println!(
            "| {name} | {:.2} s | {most:.0} ms | {middle:.0} ms |",
            time.as_secs_f64()
        );
    }
    stopper.stop();
    thread.join().expect("no panic");
}
