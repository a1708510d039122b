//! Results that are sent while they are computed.

use std::io;

use wdsr_image::{Colour, Encoding, Format, PngCompression, Writer, encode_bytes};
use wdsr_serve::Limits;
use wdsr_testing::http::{Answer, Connection};

use super::{Running, image, png, refusal, size_of, small};

/// Sends an image to be streamed.
fn send(server: &Running, query: &str, file: &[u8]) -> Connection {
    let mut connection = server.connect();
    let length = format!("content-length: {}", file.len());
    connection
        .send_head(&format!("POST /v1/stream?{query}"), &[&length])
        .and_then(|()| connection.send(file))
        .expect("sent");
    connection
}

fn streamed(server: &Running, query: &str, file: &[u8]) -> io::Result<Answer> {
    send(server, query, file).receive()
}

#[test]
fn a_streamed_result_has_the_bytes_of_a_whole_one() {
    let server = Running::start(Limits::default());
    let rgb = png(&image(300, 200, Colour::Rgb));
    let alpha = png(&image(60, 40, Colour::RgbAlpha));
    let photo = encode_bytes(&image(60, 40, Colour::Rgb), Format::Jpeg).expect("a file");
    for (query, file, is_streamed) in [
        ("model=small&scale=4&compression=none", &rgb, true),
        ("scale=4&compression=none", &rgb, true),
        ("model=small&factor=3.7&compression=none", &rgb, true),
        ("model=small&scale=8&compression=none", &alpha, true),
        ("model=small&format=png", &photo, false),
        ("model=small&format=tif", &rgb, false),
        ("model=small", &photo, false),
    ] {
        let answer = streamed(&server, query, file).expect("an answer");
        let whole = server.upscale(query, file);
        assert_eq!((answer.status, whole.status), (200, 200), "{query}");
        assert!(answer.body == whole.body, "{query}: results");
        for header in ["content-type", "content-disposition", "wdsr-warnings"] {
            assert_eq!(answer.header(header), whole.header(header), "{query}");
        }
        let is_chunked = answer.header("transfer-encoding") == "chunked";
        assert_eq!(is_chunked, is_streamed, "{query}");
        let report = |answer: &Answer| -> serde_json::Value {
            serde_json::from_str(answer.header("wdsr-report")).expect("JSON")
        };
        let [of_stream, of_whole] = [&answer, &whole].map(report);
        for key in [
            "width_px",
            "height_px",
            "steps",
            "model",
            "damage",
            "device",
        ] {
            assert_eq!(of_stream[key], of_whole[key], "{query}: {key}");
        }
    }
    server.wait_for("wdsr_held_bytes", 0.0);
}

#[test]
fn the_first_bytes_come_before_the_last_row_is_computed() {
    let server = Running::start(Limits::default());
    let file = png(&image(1500, 1500, Colour::Rgb));
    let mut connection = send(&server, "model=base&scale=4", &file);
    let head = connection.receive_head().expect("an answer");
    assert_eq!(head.status, 200);
    let first = connection.chunk().expect("no error").expect("a chunk");
    assert!(first.starts_with(b"\x89PNG"), "{:?}", &first[..8]);
    assert_eq!(server.metric("wdsr_images_running"), 1.0);
    // The work stops when the client goes.
    drop(connection);
    server.wait_for("wdsr_images_running", 0.0);
    let cancelled = server.metric("wdsr_images_total{outcome=\"cancelled\"}");
    assert_eq!(cancelled, 1.0);
    server.wait_for("wdsr_held_bytes", 0.0);
}

/// The result takes 48 MB, of which a whole answer may hold none.
#[test]
fn a_streamed_result_takes_the_memory_of_some_rows() {
    let file = png(&image(1000, 1000, Colour::Rgb));
    let query = "scale=4&model=small&compression=none";
    let limits = Limits {
        max_memory_bytes: 60 << 20,
        max_held_bytes: file.len() as u64 + (1 << 20),
        ..Limits::default()
    };
    let server = Running::start(limits);
    let whole = server.upscale(query, &file);
    assert_eq!(refusal(&whole).1, "too_much_memory");
    let answer = streamed(&server, query, &file).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body.len() > 48_000_000, "{}", answer.body.len());
    assert_eq!(size_of(&answer.body), (4000, 4000));
    server.wait_for("wdsr_held_bytes", 0.0);
}

#[test]
fn an_error_before_the_first_bytes_has_its_status() {
    let server = Running::start(Limits::default());
    let file = small();
    for (query, file, code) in [
        ("scale=9", &file[..], "invalid_request"),
        ("model=small", &file[..file.len() / 2], "unusable_image"),
        ("model=small", b"text", "unsupported_format"),
    ] {
        let answer = streamed(&server, query, file).expect("an answer");
        assert_eq!(refusal(&answer).1, code, "{query}");
    }
}

/// A PNG of 900 x 900 pixels whose rows are damaged after most of them, which is found when they are inflated.
fn damaged() -> Vec<u8> {
    let image = image(900, 900, Colour::Rgb);
    let mut encoding = Encoding::DEFAULT;
    encoding.png_compression = PngCompression::None;
    let writer = Writer::with_pages(
        io::Cursor::new(Vec::new()),
        "x".as_ref(),
        Format::Png,
        &image.outline(),
        &image.metadata,
        encoding,
        0,
    );
    let written = writer.and_then(|writer| writer.write_all(image.samples.borrowed()));
    let mut file = written.expect("a file").into_inner();
    // Behind the signature and the header: the length, the kind and the data of the only chunk of rows.
    let length = u32::from_be_bytes([file[33], file[34], file[35], file[36]]) as usize;
    assert_eq!(
        (&file[37..41], file.len()),
        (&b"IDAT"[..], 41 + length + 16)
    );
    // More than a row, with the kind of its filter.
    let at = 41 + length * 4 / 5;
    file[at..at + 6000].fill(0xff);
    let checksum = crc32fast::hash(&file[37..41 + length]).to_be_bytes();
    file[41 + length..][..4].copy_from_slice(&checksum);
    file
}

#[test]
fn an_error_after_the_first_bytes_breaks_the_connection() {
    let server = Running::start(Limits::default());
    let file = damaged();
    let query = "model=small&scale=2&compression=none";
    let mut connection = send(&server, query, &file);
    let head = connection.receive_head().expect("an answer");
    assert_eq!(head.status, 200, "{}", head.text());
    let mut received = 0;
    let error = loop {
        match connection.chunk() {
            Ok(Some(chunk)) => received += chunk.len(),
            Ok(None) => panic!("a whole answer of {received} bytes"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    assert!(received > 1 << 20, "{received} bytes");
    server.wait_for("wdsr_images_total{outcome=\"unusable_image\"}", 1.0);
    server.wait_for("wdsr_held_bytes", 0.0);
}
