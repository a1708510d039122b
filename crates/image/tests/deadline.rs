//! Reading and writing end at a deadline, for each format. A program of its own: other tests would take its time.

use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use wdsr_image::{
    Colour, Deadline, Error, Format, Image, Limits, Reader, Samples, Writer, decode_bytes,
    encode_bytes,
};

/// An image that takes much longer to code than the deadlines of these tests.
fn noise(side_px: usize) -> Image {
    let mut state = 1_u32;
    let samples = (0..side_px * side_px * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    Image::new(
        side_px,
        side_px,
        Colour::Rgb,
        Samples::U8(samples.collect()),
    )
}

fn deadline(milliseconds: u64) -> Deadline {
    Deadline::at(Instant::now() + Duration::from_millis(milliseconds))
}

/// An end at the deadline: at work, or before a place for work that cannot be stopped, which late threads of the
/// other tests have.
fn ended(error: &Error) -> bool {
    matches!(error, Error::TimedOut { path } | Error::TooManyLate { path } if path == Path::new("slow"))
}

#[test]
fn decoding_ends_at_the_deadline() {
    let image = noise(1500);
    let jxl = include_bytes!("jxl/rgb16.jxl");
    let files = Format::WRITTEN.map(|format| encode_bytes(&image, format).expect("a file"));
    for file in files.iter().map(Vec::as_slice).chain([&jxl[..]]) {
        for milliseconds in [0, 1] {
            let limits = Limits {
                deadline: deadline(milliseconds),
                ..Limits::default()
            };
            let result = decode_bytes(file, Path::new("slow"), &limits);
            let is_small = file.len() == jxl.len();
            match result {
                Err(error) if ended(&error) => {}
                Ok(_) if is_small && milliseconds > 0 => {}
                other => panic!("{:?}", other.map(|image| image.outline())),
            }
        }
    }
}

#[test]
fn rows_end_at_the_deadline() {
    for format in [Format::Png, Format::Tiff] {
        let file = encode_bytes(&noise(100), format).expect("a file");
        let limits = Limits {
            deadline: deadline(300),
            ..Limits::default()
        };
        // Without the deadline these rows would never end.
        let read = || -> Result<(), Error> {
            let mut reader = Reader::from_bytes(file.clone(), Path::new("rows"), &limits)?;
            let mut row = vec![0_u8; 300];
            loop {
                for _ in 0..100 {
                    reader.read_rows(&mut row)?;
                }
                reader.restart()?;
            }
        };
        let result = read();
        assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    }
}

#[test]
fn encoding_ends_at_the_deadline() {
    let image = noise(1500);
    let outline = image.outline();
    for format in Format::WRITTEN {
        for milliseconds in [0, 1] {
            let file = Cursor::new(Vec::new());
            let (name, metadata) = (Path::new("slow"), &image.metadata);
            let writer = Writer::new(file, name, format, &outline, metadata).expect("a header");
            let writer = writer.deadline(deadline(milliseconds));
            let Err(error) = writer.write_all(image.samples.borrowed()) else {
                panic!("{format} is written");
            };
            assert!(ended(&error), "{format}: {error}");
        }
    }
}

#[test]
fn a_far_deadline_changes_no_pixel() {
    let image = noise(60);
    for format in Format::WRITTEN {
        let far = deadline(3_600_000);
        let file = Cursor::new(Vec::new());
        let (name, metadata) = (Path::new("x"), &image.metadata);
        let writer = Writer::new(file, name, format, &image.outline(), metadata).expect("a header");
        let written = writer
            .deadline(far.clone())
            .write_all(image.samples.borrowed());
        let file = written.expect("a file").into_inner();
        let limits = Limits {
            deadline: far,
            ..Limits::default()
        };
        let read = decode_bytes(&file, name, &limits).expect("an image");
        let plain = encode_bytes(&image, format).expect("a file");
        let expected = decode_bytes(&plain, name, &Limits::default()).expect("an image");
        assert_eq!(read.samples, expected.samples, "{format}");
    }
}
