//! The server as its clients see it.

mod device;
mod hostile;
mod jobs;
mod limits;
mod requests;
mod stop;
mod stream;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};
use wdsr_model::Device;
use wdsr_serve::{Access, Ended, Limits, Options, Server, Stopper};
use wdsr_testing::http::{self, Answer, Connection};
use wdsr_testing::images::texture;

/// A server on a free port, which is stopped when it is dropped.
struct Running {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<Ended>>,
}

impl Running {
    fn start(limits: Limits) -> Self {
        Self::with_access(Access::ThisComputer, limits)
    }

    fn with_access(access: Access, limits: Limits) -> Self {
        Self::with(access, None, limits)
    }

    fn with(access: Access, device: Option<Arc<dyn Device>>, limits: Limits) -> Self {
        let server = Server::bind(Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            access,
            threads: 2,
            device,
            limits,
        });
        let server = server.unwrap_or_else(|e| panic!("{e}"));
        Self {
            address: server.address(),
            stopper: server.stopper(),
            thread: Some(thread::spawn(|| server.run())),
        }
    }

    fn request(&self, request: &str, body: &[u8]) -> Answer {
        http::request(self.address, request, &[], body)
    }

    fn upscale(&self, query: &str, body: &[u8]) -> Answer {
        self.request(&format!("POST /v1/upscale?{query}"), body)
    }

    fn connect(&self) -> Connection {
        Connection::open(self.address).expect("a connection")
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> f64 {
        let text = self.request("GET /metrics", b"").text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("{name} in {text}"));
        value.parse().expect("a number")
    }

    /// Waits until a metric has a value, and returns how long that took.
    fn wait_for(&self, name: &str, expected: f64) -> Duration {
        let started = Instant::now();
        while self.metric(name) != expected {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{name} is not {expected}"
            );
            thread::sleep(Duration::from_millis(2));
        }
        started.elapsed()
    }

    /// Starts an upscaling that takes seconds.
    fn start_long(&self) -> Connection {
        let mut connection = self.connect();
        let image = png(&image(1500, 1500, Colour::Rgb));
        let length = format!("content-length: {}", image.len());
        connection
            .send_head("POST /v1/upscale?model=base&scale=4", &[&length])
            .and_then(|()| connection.send(&image))
            .expect("sent");
        connection
    }

    fn join(mut self) -> Ended {
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stopper.stop();
            self.stopper.stop();
            let _ = thread.join();
        }
    }
}

fn image(width_px: usize, height_px: usize, colour: Colour) -> Image {
    let samples = texture(width_px, height_px, colour.channels());
    Image::new(width_px, height_px, colour, Samples::U8(samples))
}

fn png(image: &Image) -> Vec<u8> {
    encode_bytes(image, Format::Png).expect("a file")
}

fn small() -> Vec<u8> {
    png(&image(24, 20, Colour::Rgb))
}

/// The code and the message of a refusal.
fn refusal(answer: &Answer) -> (u16, String, String) {
    let json = json(answer);
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("message"))
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()))
}

fn size_of(file: &[u8]) -> (usize, usize) {
    let image = wdsr_image::decode_bytes(file, Path::new("x"), &wdsr_image::Limits::default());
    let image = image.expect("an image");
    (image.width_px, image.height_px)
}
