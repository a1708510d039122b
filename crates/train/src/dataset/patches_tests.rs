use std::path::Path;

use wdsr_eval::{Track, find_pairs};
use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_testing::random;

use super::super::cache::PairSource;
use super::*;
use crate::recipe::Recipe;

const SIZES: [(usize, usize); 4] = [(70, 66), (131, 90), (66, 140), (96, 96)];

/// Images of noise, so that no two places look alike.
fn write_images(folder: &Path) {
    for (at, (width, height)) in SIZES.into_iter().enumerate() {
        let samples = random::bytes(3 * width * height, at as u64);
        let image = Image::new(width, height, Colour::Rgb, Samples::U8(samples));
        let path = folder.join(format!("{at}.png"));
        encode(&image, &path, Format::Png).expect("written");
    }
}

fn cache(folder: &Path, scale: usize, memory_bytes: u64) -> ImageCache {
    let pairs = find_pairs(folder, scale, Track::Bicubic).expect("pairs");
    let sources: Vec<PairSource> = pairs
        .into_iter()
        .zip(SIZES)
        .map(|(pair, (width, height))| PairSource {
            pair,
            low_width_px: width / scale,
            low_height_px: height / scale,
            alignment: None,
        })
        .collect();
    ImageCache::load(&sources, memory_bytes, folder, &|_, _| {}).expect("decoded")
}

/// The definition of a batch, pixel by pixel, on whole images. Existing checkpoints are resumed to
/// the same bits as long as batches follow it.
fn reference(folder: &Path, scale: usize, patch_px: usize, seed: u64, update: u64) -> Vec<f32> {
    let pairs: Vec<_> = find_pairs(folder, scale, Track::Bicubic)
        .expect("pairs")
        .iter()
        .map(|pair| pair.load().expect("images"))
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(update);
    let pixels = |i: usize| (pairs[i].low_width_px * pairs[i].low_height_px) as u64;
    let total = (0..pairs.len()).map(pixels).sum();
    let mut values = Vec::new();
    for _ in 0..5 {
        let mut at = rng.random_range(0..total);
        let mut chosen = 0;
        while at >= pixels(chosen) {
            at -= pixels(chosen);
            chosen += 1;
        }
        let pair = &pairs[chosen];
        let x = rng.random_range(0..=pair.low_width_px - patch_px);
        let y = rng.random_range(0..=pair.low_height_px - patch_px);
        let orientation: u8 = rng.random_range(0..8);
        for (pixels, scale) in [(&pair.low, 1), (&pair.high, scale)] {
            let (side, width) = (patch_px * scale, pair.low_width_px * scale);
            for channel in 0..3 {
                for to_y in 0..side {
                    for to_x in 0..side {
                        let (mut from_x, mut from_y) = match orientation & 4 {
                            0 => (to_x, to_y),
                            _ => (to_y, to_x),
                        };
                        if orientation & 1 != 0 {
                            from_x = side - 1 - from_x;
                        }
                        if orientation & 2 != 0 {
                            from_y = side - 1 - from_y;
                        }
                        let row = y * scale + from_y;
                        let at = 3 * (row * width + x * scale + from_x) + channel;
                        values.push(f32::from(pixels[at]) / 255.0);
                    }
                }
            }
        }
    }
    values
}

fn flat(batch: &DrawnBatch) -> Vec<f32> {
    let batch = batch.planes();
    let pairs = batch.low.iter().zip(&batch.high);
    pairs
        .flat_map(|(low, high)| [low.to_chw(), high.to_chw()].concat())
        .collect()
}

#[test]
fn batches_depend_on_seed_and_update_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    write_images(folder.path());
    for (scale, patch_px) in [(2, 17), (2, 33), (3, 20)] {
        for memory_bytes in [0, u64::MAX] {
            let cache = cache(folder.path(), scale, memory_bytes);
            assert_eq!(cache.is_in_file(), memory_bytes == 0);
            let patches = Patches::new(Arc::new(cache), Vec::new(), patch_px, 5, 7);
            for update in [0, 1, 2, 1000, 12] {
                let found = flat(&patches.batch(update).expect("a batch"));
                let expected = reference(folder.path(), scale, patch_px, 7, update);
                assert!(
                    found == expected,
                    "x{scale}, patch {patch_px}, update {update}, memory {memory_bytes}"
                );
            }
        }
    }
}

#[test]
fn streams_batches_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    write_images(folder.path());
    let cache = cache(folder.path(), 2, 0);
    let patches = Arc::new(Patches::new(Arc::new(cache), Vec::new(), 24, 3, 1));
    for threads in [1, 2, 3, 7] {
        let streamed: Vec<_> = patches.stream(4..9, threads, Cutting::Here).collect();
        assert_eq!(streamed.len(), 5, "{threads} threads");
        for (batch, update) in streamed.into_iter().zip(4..) {
            let expected = patches.batch(update).expect("a batch");
            assert!(
                batch.expect("a batch") == expected,
                "{update}, {threads} threads"
            );
        }
    }
}

/// A place says what a device needs to cut the same pixels.
#[test]
fn places_are_those_of_the_pixels() {
    let folder = tempfile::tempdir().expect("a folder");
    write_images(folder.path());
    let (scale, patch_px) = (2, 19);
    let cache = Arc::new(cache(folder.path(), scale, u64::MAX));
    let patches = Arc::new(Patches::new(cache, Vec::new(), patch_px, 40, 9));
    let places = patches.stream(6..7, 1, Cutting::OnDevice).next();
    let places = places.expect("a batch").expect("a batch");
    let cut = patches.batch(6).expect("a batch");
    let mut orientations = std::collections::BTreeSet::new();
    for (place, pixels) in places.patches.iter().zip(cut.pixels()) {
        let DrawnPatch::Place(place) = place else {
            panic!("expected a place, found {place:?}");
        };
        orientations.insert(place.orientation.bits());
        let image = patches.images().whole(place.image).expect("an image");
        let width = patches.images().low_size_px(place.image).0;
        for (found, whole, scale) in [
            (&pixels.low, &image.low, 1),
            (&pixels.high, &image.high, scale),
        ] {
            let side = patch_px * scale;
            for (i, sample) in found.iter().enumerate() {
                let (x, y) = (i / 3 % side, i / 3 / side);
                let bits = place.orientation.bits();
                let (x, y) = if bits & 4 != 0 { (y, x) } else { (x, y) };
                let x = if bits & 1 != 0 { side - 1 - x } else { x };
                let y = if bits & 2 != 0 { side - 1 - y } else { y };
                let at = 3 * ((place.y * scale + y) * width * scale + place.x * scale + x) + i % 3;
                assert_eq!(*sample, whole[at], "{place:?}, sample {i}");
            }
        }
    }
    assert_eq!(orientations.len(), 8, "{orientations:?}");
}

#[test]
fn images_are_drawn_in_proportion_to_their_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    write_images(folder.path());
    let of = |images, weight| WeightedImages { images, weight };
    let weights = vec![of(0..1, 3.0), of(1..4, 1.0)];
    let patches = Patches::new(
        Arc::new(cache(folder.path(), 2, u64::MAX)),
        weights,
        16,
        1,
        3,
    );
    let mut drawn = [0; 4];
    for update in 0..4000 {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        rng.set_stream(update);
        drawn[patches.image(&mut rng)] += 1;
    }
    // 3000 expected, standard deviation 27.
    assert!((2850..=3150).contains(&drawn[0]), "{drawn:?}");
    // Within a weight by size: 65 x 45, 33 x 70 and 48 x 48 of 7539 pixels.
    let expected = [1000.0 * 2925.0 / 7539.0, 1000.0 * 2310.0 / 7539.0];
    for (found, expected) in drawn[1..3].iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 80.0, "{drawn:?}");
    }
    // The probabilities of an export agree.
    for (found, probability) in drawn.iter().zip(patches.probabilities()) {
        let expected = 4000.0 * probability;
        assert!((f64::from(*found) - expected).abs() < 150.0, "{drawn:?}");
    }
}

#[test]
fn flat_patches_are_drawn_again() {
    let folder = tempfile::tempdir().expect("a folder");
    write_images(folder.path());
    // All but the first image are flat.
    for (at, (width, height)) in SIZES.into_iter().enumerate().skip(1) {
        let image = Image::new(
            width,
            height,
            Colour::Rgb,
            Samples::U8(vec![90; 3 * width * height]),
        );
        let path = folder.path().join(format!("{at}.png"));
        encode(&image, &path, Format::Png).expect("written");
    }
    let flat_patches = |least_detail: f64| {
        let cache = Arc::new(cache(folder.path(), 2, u64::MAX));
        let patches = Patches::new(cache, Vec::new(), 16, 20, 3).with_least_detail(least_detail);
        let batches = (0..10).map(|update| patches.batch(update).expect("a batch"));
        let high = batches.flat_map(|batch| batch.planes().high);
        let is_flat = |p: &Planes| p.to_chw().iter().all(|v| *v == 90.0 / 255.0);
        high.filter(is_flat).count()
    };
    // The first image has 1,155 of 8,694 pixels: 87% of the patches are flat, and 24% after ten
    // draws; standard deviations 5 and 6 of 200.
    let (all, fewer) = (flat_patches(0.0), flat_patches(1.0));
    assert!((155..=190).contains(&all), "{all} of 200 flat");
    assert!((25..=75).contains(&fewer), "{fewer} of 200 flat");
}

/// Patches of a degradation without random values: the mean of the pixels that each covers.
#[test]
fn degraded_patches_lie_where_their_originals_lie() {
    let folder = tempfile::tempdir().expect("a folder");
    write_images(folder.path());
    for scale in [1, 2] {
        let stage = match scale {
            1 => "kind = \"exposure\"\ngain = [0.5, 0.5]",
            _ => "kind = \"downsample\"\nmethods = [\"area\"]",
        };
        let text = format!("[network]\nscale = {scale}\n[[degradation.stages]]\n{stage}");
        let recipe = Recipe::parse(&text, None).expect("a recipe");
        for memory_bytes in [0, u64::MAX] {
            let cache = Arc::new(cache(folder.path(), scale, memory_bytes));
            let patches =
                Patches::new(cache, Vec::new(), 17, 30, 7).with_degrader(Degrader::of(&recipe));
            let batch = patches.batch(3).expect("a batch");
            assert_eq!(batch.strength, None);
            let batch = batch.planes();
            for (low, high) in batch.low.iter().zip(&batch.high) {
                for (channel, y, x) in (0..3 * 17 * 17).map(|i| (i / 289, i / 17 % 17, i % 17)) {
                    let covered = (0..scale * scale).map(|i| {
                        let row = high.row(channel, y * scale + i / scale);
                        row[x * scale + i % scale]
                    });
                    let mean = covered.sum::<f32>() / (scale * scale) as f32;
                    // Both sides are rounded, and at scale 1 both are darkened.
                    let found = low.row(channel, y)[x];
                    assert!((found - mean).abs() <= 0.51 / 255.0, "{found} for {mean}");
                }
            }
        }
    }
}

#[test]
fn batches_by_strength_depend_on_seed_and_update_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    write_images(folder.path());
    let text = "[network]\n[strength]\nclean = \"x\"\nrange = [0.25, 0.75]\n\
                [[degradation.stages]]\nkind = \"downsample\"\nmethods = [\"bicubic\"]\n\
                [[degradation.stages]]\nkind = \"noise\"\nprobability = 0.5\nsigma_levels = [0, 25]\n\
                [[degradation.stages]]\nkind = \"jpeg\"\nprobability = 0.5\nquality = [10, 95]\n\
                subsampling = [\"4:2:0\"]";
    let recipe = Recipe::parse(text, None).expect("a recipe");
    let of = |memory_bytes| {
        let cache = Arc::new(cache(folder.path(), 2, memory_bytes));
        Patches::new(cache, Vec::new(), 16, 3, 7).with_degrader(Degrader::of(&recipe))
    };
    let (in_memory, in_file) = (of(u64::MAX), of(0));
    let mut strengths = Vec::new();
    for update in [5, 0, 1] {
        let batch = in_memory.batch(update).expect("a batch");
        let again = in_file.batch(update).expect("a batch");
        assert!(flat(&batch) == flat(&again), "{update}");
        assert_eq!(batch.strength, again.strength);
        strengths.extend(batch.strength);
    }
    assert!(strengths.iter().all(|s| (0.25..=0.75).contains(s)));
    assert!(strengths[0] != strengths[1], "{strengths:?}");
}

#[test]
fn detail_is_the_mean_difference_of_neighbours() {
    // Columns 0, 10, 10 in every channel: differences 10 and 0 across, none down.
    let pixels: Vec<u8> = [0, 10, 10].into_iter().flat_map(|v| [v; 3]).collect();
    assert_eq!(detail(&pixels.repeat(3), 3), 2.5);
    assert_eq!(detail(&[7; 3], 1), 0.0);
}
