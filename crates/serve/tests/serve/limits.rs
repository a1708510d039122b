//! Each limit, and what is answered beyond it.

use std::time::{Duration, Instant};

use wdsr_image::Colour;
use wdsr_serve::Limits;

use super::{Running, image, png, refusal, size_of, small};

/// The status and code of an upscaling under limits.
fn refused(limits: Limits, query: &str, file: &[u8]) -> (u16, String, String) {
    refusal(&Running::start(limits).upscale(query, file))
}

#[test]
fn a_large_body_is_refused_before_and_while_it_is_sent() {
    let max_body_bytes = 1000;
    let server = Running::start(Limits {
        max_body_bytes,
        ..Limits::default()
    });
    let mut connection = server.connect();
    // Refused by its length, before any byte of the body.
    connection
        .send_head("POST /v1/upscale", &["content-length: 1001"])
        .expect("sent");
    let answer = connection.receive().expect("an answer");
    assert_eq!(refusal(&answer).1, "body_too_large");
    let mut connection = server.connect();
    connection
        .send_head("POST /v1/upscale", &["transfer-encoding: chunked"])
        .expect("sent");
    for _ in 0..3 {
        let _ = connection.send(&[b"200\r\n", &[7; 0x200][..], b"\r\n"].concat());
    }
    let answer = connection.receive().expect("an answer");
    assert_eq!(
        (answer.status, &*refusal(&answer).1),
        (413, "body_too_large")
    );
}

#[test]
fn pixels_memory_and_time_are_limited() {
    let file = png(&image(300, 200, Colour::Rgb));
    let (status, code, message) = refused(
        Limits {
            max_pixels: 59_999,
            ..Limits::default()
        },
        "",
        &file,
    );
    assert_eq!((status, &*code), (413, "image_too_large"));
    assert_eq!(
        message,
        "the image is too large: 300 x 200 = 60000 pixels, allowed are 59999"
    );
    let limits = Limits {
        max_output_pixels: 239_999,
        ..Limits::default()
    };
    let (status, code, message) = refused(limits, "scale=2", &file);
    assert_eq!((status, &*code), (422, "result_too_large"), "{message}");
    let limits = Limits {
        max_memory_bytes: 25 << 20,
        ..Limits::default()
    };
    let (status, code, message) = refused(limits, "scale=2", &file);
    assert_eq!((status, &*code), (422, "too_much_memory"), "{message}");
    assert!(
        message.contains("MiB of memory, allowed are 25 MiB"),
        "{message}"
    );
    let limits = Limits {
        timeout: Duration::from_millis(30),
        ..Limits::default()
    };
    let (status, code, message) = refused(limits, "scale=8&model=base", &file);
    assert_eq!(
        (status, &*code, &*message),
        (503, "timed_out", "the image: not done within 0.03 s")
    );
}

/// The memory of a result that streams counts too.
#[test]
fn a_result_in_memory_counts_as_memory() {
    let file = png(&image(1000, 1000, Colour::Rgb));
    let limits = Limits {
        max_memory_bytes: 60 << 20,
        ..Limits::default()
    };
    let (status, code, message) = refused(limits, "scale=4&model=small", &file);
    assert_eq!((status, &*code), (422, "too_much_memory"), "{message}");
}

#[test]
fn images_wait_in_a_queue_that_has_an_end() {
    let limits = Limits {
        concurrency: 1,
        queue: 1,
        ..Limits::default()
    };
    let server = Running::start(limits);
    let running = server.start_long();
    server.wait_for("wdsr_images_running", 1.0);
    let mut waiting = server.connect();
    let file = small();
    let length = format!("content-length: {}", file.len());
    waiting
        .send_head("POST /v1/upscale?model=small", &[&length])
        .expect("sent");
    waiting.send(&file).expect("sent");
    server.wait_for("wdsr_images_waiting", 1.0);
    let answer = server.upscale("model=small", &file);
    assert_eq!((answer.status, &*refusal(&answer).1), (429, "busy"));
    assert!(
        answer
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|s| (1..=60).contains(&s))
    );
    let ready = server.request("GET /readyz", b"");
    assert_eq!(
        (ready.status, server.request("GET /healthz", b"").status),
        (429, 200)
    );
    // The turn comes when the first client goes.
    drop(running);
    let answer = waiting.receive().expect("an answer");
    assert_eq!((answer.status, size_of(&answer.body)), (200, (48, 40)));
}

#[test]
fn a_small_image_does_not_wait_for_a_large_one() {
    let server = Running::start(Limits::default());
    let _running = server.start_long();
    server.wait_for("wdsr_images_running", 1.0);
    let answer = server.upscale("model=small", &small());
    assert_eq!(answer.status, 200);
    assert_eq!(
        server.metric("wdsr_images_running"),
        1.0,
        "the large one runs"
    );
}

#[test]
fn bodies_take_no_more_memory_than_all_may_hold() {
    let file = small();
    let server = Running::start(Limits {
        max_held_bytes: file.len() as u64 - 1,
        ..Limits::default()
    });
    let answer = server.upscale("", &file);
    assert_eq!((answer.status, &*refusal(&answer).1), (429, "busy"));
    server.wait_for("wdsr_held_bytes", 0.0);
}

#[test]
fn work_stops_when_its_client_goes() {
    let server = Running::start(Limits::default());
    let connection = server.start_long();
    server.wait_for("wdsr_images_running", 1.0);
    let gone = Instant::now();
    drop(connection);
    server.wait_for("wdsr_images_running", 0.0);
    // Far below the seconds that it takes, on a loaded machine too; docs/server.md has measurements.
    assert!(
        gone.elapsed() < Duration::from_millis(1500),
        "{:?}",
        gone.elapsed()
    );
    assert_eq!(
        server.metric("wdsr_images_total{outcome=\"cancelled\"}"),
        1.0
    );
}

#[test]
fn a_waiting_image_leaves_the_queue_when_its_client_goes() {
    let server = Running::start(Limits {
        concurrency: 1,
        ..Limits::default()
    });
    let _running = server.start_long();
    server.wait_for("wdsr_images_running", 1.0);
    let waiting = server.start_long();
    server.wait_for("wdsr_images_waiting", 1.0);
    drop(waiting);
    server.wait_for("wdsr_images_waiting", 0.0);
}
