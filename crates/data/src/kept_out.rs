//! Images that no training may use (those of the test sets and of the gallery), recognised by hashes
//! alone.
//!
//! A list has perceptual hashes of each image: of the whole image, and of nine windows of half its
//! sides. [`KeptOut::find`] searches an image for each of them at all positions, at sizes from the
//! whole image down to a quarter of its sides. So it recognises an image that is rescaled,
//! recompressed, brightened, part of a larger image (of up to four times its sides), or cropped to
//! at least three quarters of each side.
//!
//! It does not recognise images that are rotated, flipped or stretched, smaller crops, and other
//! photographs of the same subject. Flat windows, which look like any sky, are not in the list.

use std::path::Path;

use crate::error::Error;
use crate::perceptual_hash::{Brightness, PerceptualHash, Window};

/// Maximum of differing bits, of 128, between a window and a kept-out one. Of 672 training photographs
/// three have 9 differing bits from a part of a test image that they have nothing in common with, the
/// others more. 36 test images
/// reduced to 0.71 and saved as JPEG of quality 70 differ in up to 5 bits, as part of a larger JPEG in
/// up to 5, without a fifth of their width in up to 7, and 31 of 36 without 10 to 22% of both sides in
/// up to 7.
const NEAR_BITS: u32 = 8;
/// Below this many differing bits a window is aligned.
const ALIGN_BITS: u32 = 27;
/// Maximum number of moves by one step.
const MAX_MOVES: usize = 6;
/// Factor from the sides of a window to the next smaller size.
const SHRINK: f64 = 0.94;
/// Sides of the smallest window as a share of the largest one's.
const LEAST_SIDE: f64 = 0.25;
/// Step between windows as a share of their sides.
const STEP: f64 = 1.0 / 16.0;
/// Maximum factor between aspect ratios that are treated as equal.
const SAME_ASPECT: f64 = 1.03;

/// Hashes of images that no training may use.
pub struct KeptOut {
    groups: Vec<AspectGroup>,
}

/// Hashes of windows of about one aspect ratio.
struct AspectGroup {
    /// Width over height.
    aspect: f64,
    /// The halves of each hash.
    halves: [Vec<u64>; 2],
    /// Of the image of each hash.
    names: Vec<String>,
}

/// A kept-out image that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptOutMatch {
    /// The kept-out image's name.
    pub name: String,
    /// Differing bits of 128.
    pub bits: u32,
}

impl KeptOut {
    /// Parses the lines of [`list_entry`]; skips empty lines and comments (`#`). `path` is for messages.
    ///
    /// # Errors
    /// If a line is invalid.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut groups: Vec<AspectGroup> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = || Error::List {
                path: path.to_owned(),
                line: at + 1,
                expected: "NAME WIDTHxHEIGHT and hashes of 32 hexadecimal digits",
                found: line.to_owned(),
            };
            let mut words = line.split_whitespace();
            let name = words.next().ok_or_else(invalid)?;
            let size = words.next().and_then(|size| size.split_once('x'));
            let (width, height) = size.ok_or_else(invalid)?;
            let side = |text: &str| text.parse::<u32>().ok().filter(|side| *side > 0);
            let (width, height) = side(width).zip(side(height)).ok_or_else(invalid)?;
            let aspect = f64::from(width) / f64::from(height);
            let is_similar = |group: &AspectGroup| {
                (1.0 / SAME_ASPECT..=SAME_ASPECT).contains(&(group.aspect / aspect))
            };
            let hashes = words
                .map(PerceptualHash::from_hex)
                .collect::<Option<Vec<_>>>()
                .filter(|hashes| !hashes.is_empty())
                .ok_or_else(invalid)?;
            let at = groups.iter().position(is_similar).unwrap_or_else(|| {
                groups.push(AspectGroup {
                    aspect,
                    halves: Default::default(),
                    names: Vec::new(),
                });
                groups.len() - 1
            });
            let group = &mut groups[at];
            group.names.extend(hashes.iter().map(|_| name.to_owned()));
            for (at, of_group) in group.halves.iter_mut().enumerate() {
                of_group.extend(hashes.iter().map(|hash| hash.halves()[at]));
            }
        }
        Ok(Self { groups })
    }

    /// The kept-out image that an R G B image (0..255, row-major) matches best, if any.
    pub fn find(&self, rgb: &[u8], width_px: usize, height_px: usize) -> Option<KeptOutMatch> {
        let brightness = Brightness::of(rgb, width_px, height_px);
        let aspect = width_px as f64 / height_px as f64;
        let mut best: Option<(u32, &str)> = None;
        for group in &self.groups {
            let count = group.names.len();
            let mut distances = vec![0; count];
            let mut least_bits = vec![u64::from(ALIGN_BITS); count];
            let mut nearest: Vec<Option<Window>> = vec![None; count];
            for_each_window(aspect, group.aspect, |window| {
                let Some(hash) = brightness.hash(window) else {
                    return;
                };
                hash.distances([&group.halves[0], &group.halves[1]], &mut distances);
                for at in 0..count {
                    if distances[at] < least_bits[at] {
                        least_bits[at] = distances[at];
                        nearest[at] = Some(window);
                    }
                }
            });
            for (at, nearest) in nearest.into_iter().enumerate() {
                let Some(window) = nearest else {
                    continue;
                };
                let hash = PerceptualHash::of_halves([group.halves[0][at], group.halves[1][at]]);
                let bits = align(&brightness, hash, least_bits[at] as u32, window);
                if bits <= NEAR_BITS && best.is_none_or(|(least, _)| bits < least) {
                    best = Some((bits, &group.names[at]));
                }
            }
        }
        best.map(|(bits, name)| KeptOutMatch {
            name: name.to_owned(),
            bits,
        })
    }
}

/// The fewest bits in which a window differs from a hash when it is moved and resized slightly.
fn align(brightness: &Brightness, hash: PerceptualHash, bits: u32, window: Window) -> u32 {
    let (mut bits, mut window) = (bits, window);
    for step in [1.0 / 24.0, 1.0 / 48.0, 1.0 / 96.0] {
        for _ in 0..MAX_MOVES {
            let (dx, dy) = (window.width * step, window.height * step);
            let moves = [
                (dx, 0.0, 0.0, 0.0),
                (-dx, 0.0, 0.0, 0.0),
                (0.0, dy, 0.0, 0.0),
                (0.0, -dy, 0.0, 0.0),
                // Larger and smaller around the centre.
                (-dx / 2.0, -dy / 2.0, dx, dy),
                (dx / 2.0, dy / 2.0, -dx, -dy),
            ];
            let tried = moves.into_iter().filter_map(|(x, y, width, height)| {
                let moved = Window {
                    x: window.x + x,
                    y: window.y + y,
                    width: window.width + width,
                    height: window.height + height,
                };
                let inside = |start: f64, side: f64| start >= 0.0 && start + side <= 1.0;
                if !inside(moved.x, moved.width) || !inside(moved.y, moved.height) {
                    return None;
                }
                Some((brightness.hash(moved)?.distance(hash), moved))
            });
            match tried.min_by_key(|(bits, _)| *bits) {
                Some((fewer, moved)) if fewer < bits => (bits, window) = (fewer, moved),
                _ => break,
            }
        }
    }
    bits
}

/// Visits the windows of an aspect ratio in an image of another, from the largest down.
fn for_each_window(image_aspect: f64, window_aspect: f64, mut visit: impl FnMut(Window)) {
    let ratio = window_aspect / image_aspect;
    // A ratio similar to the image's counts as equal.
    let ratio = if (1.0 / SAME_ASPECT..=SAME_ASPECT).contains(&ratio) {
        1.0
    } else {
        ratio
    };
    let (widest, highest) = (ratio.min(1.0), (1.0 / ratio).min(1.0));
    let mut side = 1.0;
    while side >= LEAST_SIDE {
        let (width, height) = (widest * side, highest * side);
        // Evenly spread, with the first and the last at the edges.
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

/// The line of a list for an R G B image (0..255, row-major): name, size, and the hashes of the whole
/// image and of its distinct windows. None for a flat image.
///
/// # Panics
/// If the name contains white space or starts with `#`.
pub fn list_entry(name: &str, rgb: &[u8], width_px: usize, height_px: usize) -> Option<String> {
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

/// A random image of blobs and noise, unlike that of any other seed.
#[cfg(test)]
pub(crate) fn scene(seed: u64, (width_px, height_px): (usize, usize)) -> Vec<u8> {
    use rand::{Rng, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut blobs = || -> [f64; 5] { std::array::from_fn(|_| random.random()) };
    let blobs: Vec<_> = (0..40).map(|_| blobs()).collect();
    let mut rgb = Vec::with_capacity(3 * width_px * height_px);
    for y in 0..height_px {
        for x in 0..width_px {
            let (x, y) = (x as f64 / width_px as f64, y as f64 / height_px as f64);
            let light: f64 = blobs
                .iter()
                .map(|[cx, cy, sx, sy, level]| {
                    let (dx, dy) = ((x - cx) / (0.03 + 0.2 * sx), (y - cy) / (0.03 + 0.2 * sy));
                    (200.0 * level - 100.0) * (-dx * dx - dy * dy).exp()
                })
                .sum();
            let noise: f64 = random.random();
            let value = 120.0 + light + 24.0 * noise;
            rgb.extend([value, value + 9.0, value - 9.0].map(|v| v.clamp(0.0, 255.0) as u8));
        }
    }
    rgb
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rayon::prelude::*;
    use wdsr_image::{Colour, Image, Limits, Samples, decode, images_in};

    use super::*;

    const LIST: &str = include_str!("lists/kept_out.txt");

    fn part(rgb: &[u8], width_px: usize, at: (usize, usize), size: (usize, usize)) -> Vec<u8> {
        let row = |y: usize| &rgb[3 * (y * width_px + at.0)..][..3 * size.0];
        (at.1..at.1 + size.1).flat_map(row).copied().collect()
    }

    #[test]
    #[ignore = "needs the test sets: set WDSR_DATA to the folder that contains them"]
    fn recognises_cropped_and_rescaled_test_images() {
        let kept = KeptOut::parse(LIST, Path::new("kept_out.txt")).expect("a list");
        let mut images = Vec::new();
        for (set, folder, count) in [
            ("Set5", "Set5", 5),
            ("Set14", "Set14", 14),
            ("B100", "B100", 100),
            ("Kodak24", "Kodak24", 24),
            ("LIVE1", "LIVE1", 29),
            ("classic5", "classic5", 5),
            ("DIV2K", "DIV2K_valid_center256", 100),
        ] {
            let folder = wdsr_testing::paths::test_set(folder).join("HR");
            let files = images_in(&folder, false).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(files.len(), count, "{set}");
            images.extend(files.into_iter().map(|file| (set, file)));
        }
        // Whether an image of which a part is cut is recognised, if it is tried.
        let is_recognised = |(at, (set, file)): (usize, &(&str, PathBuf))| -> Option<bool> {
            let name = file.file_name().expect("a name").to_string_lossy();
            let name = format!("{set}/{name}");
            let image = decode(file, &Limits::default()).expect("an image");
            let (rgb, (width, height)) = (image.to_rgb8(), (image.width_px, image.height_px));
            let Some(line) = list_entry(&name, &rgb, width, height) else {
                assert!(LIST.contains(&format!("# {name} is flat\n")), "{name}");
                return None;
            };
            // Windows that match other images are deleted from the list.
            let is_listed = LIST.lines().any(|listed| {
                let mut words = line.split(' ');
                let mut listed = listed.split(' ');
                let is_start = (0..2).all(|_| words.next() == listed.next());
                is_start && listed.all(|hash| words.any(|word| word == hash))
            });
            assert!(is_listed, "{name} is not as listed");
            // All of them would take minutes.
            if at % 12 != 0 {
                return None;
            }
            let small =
                Image::new(width, height, Colour::Rgb, Samples::U8(rgb.clone())).imresize(0.6);
            let found = kept.find(&small.to_rgb8(), small.width_px, small.height_px);
            let found = found.expect("recognised").name;
            // LIVE1 and classic5 have images of other sets.
            let is_repeated = ["LIVE1", "classic5"].contains(set);
            assert!(found == name || is_repeated, "{name} rescaled: {found}");
            let size = (width * 9 / 10, height);
            let cut = part(&rgb, width, (width / 13, 0), size);
            let found = kept.find(&cut, size.0, size.1);
            Some(found.is_some_and(|found| found.name == name || is_repeated))
        };
        let recognised: Vec<Option<bool>> =
            images.par_iter().enumerate().map(is_recognised).collect();
        let tried = recognised.iter().flatten().count();
        let cropped = recognised.iter().flatten().filter(|is| **is).count();
        assert!(tried > 20, "{tried} images were cropped");
        // Windows that are not distinct are not in the list.
        assert!(
            5 * cropped >= 4 * tried,
            "{cropped} of {tried} cropped images recognised"
        );
    }

    #[test]
    fn does_not_recognise_other_images() {
        let kept = KeptOut::parse(LIST, Path::new("kept_out.txt")).expect("a list");
        for seed in 0..3 {
            let size = (300, 200);
            let found = kept.find(&scene(seed, size), size.0, size.1);
            assert_eq!(found, None, "scene {seed}");
        }
    }

    #[test]
    fn names_an_invalid_line() {
        for line in [
            "a",
            "a 3x",
            "a 3x4",
            "a 3x4 12",
            "a 0x4 00000000000000000000000000000000",
        ] {
            let error = KeptOut::parse(&format!("# list\n{line}"), Path::new("list.txt"));
            let error = error.err().expect("an invalid line").to_string();
            assert!(error.contains("list.txt: line 2"), "{error}");
        }
    }
}
