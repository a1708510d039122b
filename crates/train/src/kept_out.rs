//! Pictures that no training may see, recognised by hashes alone: those of the test sets and of
//! the gallery.
//!
//! A list holds perceptual hashes of each picture: of all of it, and of nine windows of half its sides.
//! [`KeptOut::find`] looks for each of them everywhere in a picture, at sizes from all of it down to
//! a quarter of its sides. So it recognises a kept-out picture rescaled, recompressed, brightened,
//! as a part of a larger picture (down to a quarter of its sides), or cropped as long as three
//! quarters of each side are left.
//!
//! What it cannot tell: pictures that were turned, mirrored or stretched, smaller crops, other
//! photographs of the same thing, and windows so flat that they look like any sky, which are not
//! in the list.

use std::path::Path;

use crate::error::Error;
use crate::perceptual_hash::{Brightness, PerceptualHash, Window};

/// Bits of 128 in which a window and a kept-out one differ at most.
const NEAR_BITS: u32 = 12;
/// Sides of windows shrink by this factor.
const SHRINK: f64 = 0.94;
/// Windows looked at have at least this share of the largest one's sides.
const LEAST_SIDE: f64 = 0.25;
/// Steps between windows, as a share of their sides.
const STEP: f64 = 1.0 / 16.0;
/// Aspect ratios that are looked at together differ by this factor at most.
const SAME_ASPECT: f64 = 1.03;

/// Hashes of pictures that may not be trained on.
pub struct KeptOut {
    shapes: Vec<Shape>,
}

/// Windows of about one aspect ratio.
struct Shape {
    /// Width over height.
    aspect: f64,
    entries: Vec<(String, PerceptualHash)>,
}

/// A picture that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// The kept-out picture's name.
    pub name: String,
    /// Bits of 128 in which they differ.
    pub bits: u32,
}

impl KeptOut {
    /// Reads lines as [`line_of`] writes them; empty ones and those that begin with `#` are passed
    /// over. `path` stands for the list in messages.
    ///
    /// # Errors
    /// When a line is of another form.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut shapes: Vec<Shape> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || Error::Data {
                path: path.to_owned(),
                reason: format!(
                    "line {}: expected NAME WIDTHxHEIGHT and hashes of 32 hexadecimal digits, \
                     found {line:?}",
                    at + 1
                ),
            };
            let mut words = line.split_whitespace();
            let name = words.next().ok_or_else(wrong)?;
            let size = words.next().and_then(|size| size.split_once('x'));
            let (width, height) = size.ok_or_else(wrong)?;
            let side = |text: &str| text.parse::<u32>().ok().filter(|side| *side > 0);
            let (width, height) = side(width).zip(side(height)).ok_or_else(wrong)?;
            let aspect = f64::from(width) / f64::from(height);
            let like = |shape: &&mut Shape| {
                (1.0 / SAME_ASPECT..=SAME_ASPECT).contains(&(shape.aspect / aspect))
            };
            let hashes = words
                .map(|word| PerceptualHash::from_hex(word).map(|hash| (name.to_owned(), hash)))
                .collect::<Option<Vec<_>>>()
                .filter(|hashes| !hashes.is_empty())
                .ok_or_else(wrong)?;
            match shapes.iter_mut().find(like) {
                Some(shape) => shape.entries.extend(hashes),
                None => shapes.push(Shape {
                    aspect,
                    entries: hashes,
                }),
            }
        }
        Ok(Self { shapes })
    }

    /// The kept-out picture that an R G B picture (0..255, row-major) shows most clearly, if any.
    pub fn find(&self, rgb: &[u8], width_px: usize, height_px: usize) -> Option<Recognised> {
        let brightness = Brightness::of(rgb, width_px, height_px);
        let aspect = width_px as f64 / height_px as f64;
        let mut best: Option<(u32, &str)> = None;
        for shape in &self.shapes {
            for_each_window(aspect, shape.aspect, |window| {
                let Some(hash) = brightness.hash(window) else {
                    return;
                };
                for (name, kept_out) in &shape.entries {
                    let bits = hash.distance(*kept_out);
                    if bits <= NEAR_BITS && best.is_none_or(|(least, _)| bits < least) {
                        best = Some((bits, name));
                    }
                }
            });
        }
        best.map(|(bits, name)| Recognised {
            name: name.to_owned(),
            bits,
        })
    }
}

/// Windows of a shape's aspect ratio in a picture of another, from the largest down.
fn for_each_window(picture_aspect: f64, window_aspect: f64, mut visit: impl FnMut(Window)) {
    let ratio = window_aspect / picture_aspect;
    // A ratio that is only about the picture's own is taken for it.
    let ratio = if (1.0 / SAME_ASPECT..=SAME_ASPECT).contains(&ratio) {
        1.0
    } else {
        ratio
    };
    let (widest, highest) = (ratio.min(1.0), (1.0 / ratio).min(1.0));
    let mut side = 1.0;
    while side >= LEAST_SIDE {
        let (width, height) = (widest * side, highest * side);
        // Evenly spread, the first and the last at the edges.
        let places = |size: f64| {
            let steps = ((1.0 - size) / (size * STEP)).ceil().max(0.0);
            (0..=steps as usize).map(move |i| {
                if steps == 0.0 {
                    0.0
                } else {
                    (1.0 - size) * i as f64 / steps
                }
            })
        };
        for y in places(height) {
            for x in places(width) {
                visit(Window {
                    x,
                    y,
                    width,
                    height,
                });
            }
        }
        side *= SHRINK;
    }
}

/// The line of a list for an R G B picture (0..255, row-major): its name, its size, the hashes of
/// the whole and of its windows that are distinct enough. None for a picture that is flat.
///
/// # Panics
/// When the name has white space or begins with `#`.
pub fn line_of(name: &str, rgb: &[u8], width_px: usize, height_px: usize) -> Option<String> {
    assert!(
        !name.contains(char::is_whitespace) && !name.starts_with('#'),
        "name {name:?} in a list"
    );
    let brightness = Brightness::of(rgb, width_px, height_px);
    let whole = brightness.hash(Window {
        x: 0.0,
        y: 0.0,
        width: 1.0,
        height: 1.0,
    })?;
    let mut line = format!("{name} {width_px}x{height_px} {}", whole.to_hex());
    for y in [0.0, 0.25, 0.5] {
        for x in [0.0, 0.25, 0.5] {
            let (width, height) = (0.5, 0.5);
            let window = Window {
                x,
                y,
                width,
                height,
            };
            if let Some(hash) = brightness.distinct_hash(window) {
                line += &format!(" {}", hash.to_hex());
            }
        }
    }
    Some(line)
}
