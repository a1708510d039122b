//! Clients that send what is no image, or send and read slowly.

use std::thread;
use std::time::{Duration, Instant};

use wdsr_image::{Colour, Format, encode_bytes};
use wdsr_serve::Limits;
use wdsr_testing::http;

use super::{Running, image, png, refusal, small};

#[test]
fn hostile_bodies_are_refused_and_the_server_goes_on() {
    let server = Running::start(Limits::default());
    let whole = small();
    let mut bomb = whole.clone();
    // The header says 60,000 x 60,000 pixels; its checksum is made again.
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let checksum = crc32fast::hash(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&checksum);
    let jpeg = encode_bytes(&image(64, 64, Colour::Rgb), Format::Jpeg).expect("a file");
    let flipped = Vec::from_iter(
        whole
            .iter()
            .enumerate()
            .map(|(at, v)| if at > 60 { v ^ 0x5a } else { *v }),
    );
    for (name, body, status) in [
        ("empty", &b""[..], 422),
        ("text", b"hello, world, this is no image", 415),
        ("html", b"<html><script>alert(1)</script></html>", 415),
        ("bomb", &bomb, 413),
        ("truncated png", &whole[..whole.len() / 2], 422),
        ("truncated jpeg", &jpeg[..jpeg.len() / 2], 422),
        ("damaged", &flipped, 422),
        ("pdf", b"%PDF-1.7 and no image", 415),
        ("gif", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", 422),
    ] {
        let answer = server.upscale("model=small", body);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(!refusal(&answer).2.is_empty(), "{name}");
    }
    let wrong_type =
        |header: &str| http::request(server.address, "POST /v1/upscale", &[header], &whole).status;
    assert_eq!(wrong_type("content-type: application/json"), 415);
    assert_eq!(wrong_type("content-encoding: gzip"), 415);
    assert_eq!(wrong_type("content-type: multipart/form-data"), 415);
    assert_eq!(
        wrong_type("content-type: multipart/form-data; boundary=x"),
        422
    );
    assert_eq!(server.upscale("model=small", &whole).status, 200);
    server.wait_for("wdsr_held_bytes", 0.0);
}

#[test]
fn slow_clients_time_out_and_block_no_other() {
    let client_timeout = Duration::from_millis(300);
    let server = Running::start(Limits {
        client_timeout,
        ..Limits::default()
    });
    let started = Instant::now();
    let mut slow_head = server.connect();
    slow_head
        .send(b"POST /v1/upscale HTTP/1.1\r\nhost: local")
        .expect("sent");
    let mut idle = server.connect();
    let mut slow_body = server.connect();
    slow_body
        .send_head("POST /v1/upscale", &["content-length: 5000"])
        .expect("sent");
    slow_body.send(b"\x89PNG").expect("sent");
    assert_eq!(server.upscale("model=small", &small()).status, 200);
    assert_eq!(
        refusal(&slow_body.receive().expect("an answer")).1,
        "too_slow"
    );
    // Closed, without an answer or with 408.
    for connection in [&mut slow_head, &mut idle] {
        if let Ok(answer) = connection.receive() {
            assert_eq!(answer.status, 408);
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_client_that_does_not_read_loses_its_connection() {
    let client_timeout = Duration::from_millis(300);
    let server = Running::start(Limits {
        client_timeout,
        ..Limits::default()
    });
    let file = png(&image(2400, 2400, Colour::Grey));
    let mut connection = server.connect();
    let length = format!("content-length: {}", file.len());
    // 17 MB, more than the buffers of a connection.
    connection
        .send_head("POST /v1/upscale?scale=1&format=bmp", &[&length])
        .and_then(|()| connection.send(&file))
        .expect("sent");
    let head = connection.receive_head().expect("an answer");
    assert_eq!(head.status, 200);
    assert!(server.metric("wdsr_held_bytes") > 0.0);
    thread::sleep(client_timeout);
    server.wait_for("wdsr_held_bytes", 0.0);
}
