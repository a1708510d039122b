//! Stopping, and addresses that need a token.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wdsr_image::Colour;
use wdsr_serve::{Access, Ended, Limits, Options, Server};
use wdsr_testing::http::Connection;

use super::{Running, image, png};

/// Starts an upscaling of some tenths of a second.
fn start_short(server: &Running) -> Connection {
    let file = png(&image(500, 400, Colour::Rgb));
    let mut connection = server.connect();
    let length = format!("content-length: {}", file.len());
    connection
        .send_head("POST /v1/upscale?model=base&scale=4", &[&length])
        .and_then(|()| connection.send(&file))
        .expect("sent");
    server.wait_for("wdsr_images_running", 1.0);
    connection
}

#[test]
fn a_stopped_server_finishes_what_runs() {
    let server = Running::start(Limits::default());
    let mut running = start_short(&server);
    let _idle = server.connect();
    server.stopper.stop();
    let answer = running.receive().expect("an answer");
    assert_eq!(answer.status, 200);
    let address = server.address;
    assert_eq!(server.join(), Ended::Finished);
    assert!(Connection::open(address).is_err(), "it listens no more");
}

#[test]
fn a_second_stop_or_the_end_of_the_time_drops_what_runs() {
    let server = Running::start(Limits::default());
    let mut running = server.start_long();
    server.wait_for("wdsr_images_running", 1.0);
    let started = Instant::now();
    server.stopper.stop();
    server.stopper.stop();
    assert_eq!(server.join(), Ended::Dropped);
    assert!(running.receive().is_err());

    let shutdown_timeout = Duration::from_millis(100);
    let server = Running::start(Limits {
        shutdown_timeout,
        ..Limits::default()
    });
    let _running = server.start_long();
    server.wait_for("wdsr_images_running", 1.0);
    server.stopper.stop();
    assert_eq!(server.join(), Ended::Dropped);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn jobs_are_cancelled_at_the_stop() {
    let server = Running::start(Limits::default());
    let file = png(&image(1500, 1500, Colour::Rgb));
    let answer = server.request("POST /v1/jobs?model=base&scale=4", &file);
    let mut listener = server.connect();
    listener
        .send_head(&format!("GET {}/events", answer.header("location")), &[])
        .expect("sent");
    listener.receive_head().expect("an answer");
    server.stopper.stop();
    let mut last = Vec::new();
    while let Some(chunk) = listener.chunk().expect("an event") {
        last = chunk;
    }
    assert!(String::from_utf8_lossy(&last).contains("\"cancelled\""));
    assert_eq!(server.join(), Ended::Finished);
}

#[test]
fn other_computers_need_a_token() {
    let bind = |address: &str, access: Access| {
        Server::bind(Options {
            listen: address.parse::<SocketAddr>().expect("an address"),
            access,
            threads: 1,
            device: None,
            limits: Limits::default(),
        })
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let error = bind(address, Access::ThisComputer).err().expect("no token");
        assert!(
            error
                .to_string()
                .contains("there is no token; give --token-file FILE, or --no-token"),
            "{error}"
        );
    }
    let server = bind("127.0.0.1:0", Access::Everyone).expect("a server");
    let error = bind(&server.address().to_string(), Access::Everyone)
        .err()
        .expect("in use");
    assert!(
        error.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{error}"
    );
}
