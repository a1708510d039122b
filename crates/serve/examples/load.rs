//! Load on a server: clients that send small images of mixed sizes, each the next when it has the answer.
//!
//!     cargo run --release -p wdsr-serve --example load -- 127.0.0.1:8080 CLIENTS SECONDS [REQUESTS]
//!
//! Prints requests per second, the times of answers, and the memory of the server before and after. With
//! REQUESTS it ends after so many.
#![allow(clippy::print_stdout, reason = "the results are for people")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};
use wdsr_testing::http::{self, Connection};
use wdsr_testing::images::texture;

/// Sides of the images.
const SIDES_PX: [usize; 6] = [16, 32, 48, 64, 96, 128];

fn memory_mib(address: SocketAddr) -> u64 {
    let text = http::request(address, "GET /metrics", &[], b"").text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    line.and_then(|bytes| bytes.parse::<u64>().ok())
        .unwrap_or(0)
        >> 20
}

fn main() {
    let arguments = Vec::from_iter(std::env::args().skip(1));
    let number = |at: usize| {
        arguments
            .get(at)
            .and_then(|text| text.parse::<usize>().ok())
    };
    let address = arguments
        .first()
        .and_then(|text| text.parse::<SocketAddr>().ok());
    let (Some(address), Some(clients), Some(seconds)) = (address, number(1), number(2)) else {
        println!("usage: load ADDRESS CLIENTS SECONDS [REQUESTS]");
        return;
    };
    let most = number(3).unwrap_or(usize::MAX);
    let files = SIDES_PX.map(|side| {
        let image = Image::new(side, side, Colour::Rgb, Samples::U8(texture(side, side, 3)));
        encode_bytes(&image, Format::Png).expect("a file")
    });
    let before = memory_mib(address);
    let (started, sent) = (Instant::now(), AtomicUsize::new(0));
    let end = started + Duration::from_secs(seconds as u64);
    let client = || {
        let (mut times, mut refused) = (Vec::new(), 0);
        let mut connection = Connection::open(address).expect("a connection");
        while Instant::now() < end {
            let at = sent.fetch_add(1, Ordering::Relaxed);
            if at >= most {
                break;
            }
            let asked = Instant::now();
            let file = &files[at % files.len()];
            let answer = connection
                .request("POST /v1/upscale", &[], file)
                .expect("an answer");
            match answer.status {
                200 => times.push(asked.elapsed()),
                429 => refused += 1,
                status => panic!("{status}: {}", answer.text()),
            }
        }
        (times, refused)
    };
    let (mut times, mut refused) = (Vec::new(), 0);
    thread::scope(|scope| {
        let clients = Vec::from_iter((0..clients).map(|_| scope.spawn(client)));
        for client in clients {
            let (of_client, refused_of_client) = client.join().expect("no panic");
            times.extend(of_client);
            refused += refused_of_client;
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: f64| times[(part * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    println!(
        "{clients} clients, {seconds:.1} s: {} answers, {:.1} per second, {refused} refused; p50 {:.1} ms, p99 {:.1} ms, \
         longest {:.1} ms; memory {before} MiB before, {} MiB after",
        times.len(),
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0),
        memory_mib(address)
    );
}
