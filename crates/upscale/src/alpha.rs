//! Transparency: the colour under it, and how it is upscaled without a halo.
//!
//! Alpha is straight throughout. The network takes colours as they are, so the colours of transparent
//! pixels, which may be anything, are first replaced by the visible colours beside them
//! ([`spread_colour`]). No foreign colour can then be mixed into an edge, and weighting by alpha
//! (premultiplied filtering) would change next to nothing.

use rayon::prelude::*;
use wdsr_image::imresize::{Kernel, imresize_wrapped_to_f32};
use wdsr_image::{Image, Samples};
use wdsr_model::{Sample, UpscaleError};

use crate::progress::{CHECKED_PIXELS, Check};
use crate::size::Size;
use crate::wrap::{Wrap, around};

/// How to upscale alpha that is not the same everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlphaMethod {
    /// The networks, as they upscale grey: sharp edges, twice the work. Hard alpha, as that of sprites, is
    /// upscaled level by level instead.
    #[default]
    Network,
    /// Lanczos interpolation: softer edges, no work.
    Lanczos,
}

impl AlphaMethod {
    /// Both methods.
    pub const ALL: [Self; 2] = [Self::Network, Self::Lanczos];

    /// The name in arguments: `network`, `lanczos`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Lanczos => "lanczos",
        }
    }
}

/// Whether all samples are the same.
pub(crate) fn is_constant(samples: &Samples) -> bool {
    fn constant<T: PartialEq>(samples: &[T]) -> bool {
        samples.iter().all(|sample| *sample == samples[0])
    }
    match samples {
        Samples::U8(samples) => constant(samples),
        Samples::U16(samples) => constant(samples),
        Samples::F32(samples) => constant(samples),
    }
}

/// Most levels of alpha that is hard whatever lies where: transparent, opaque, and a shadow.
const HARD_LEVELS: usize = 3;

/// Most levels of alpha that may be hard: more come from smoothed edges.
const MAX_LEVELS: usize = 8;

/// The levels of hard alpha, as that of sprites, in ascending order: few values, and those between the least and
/// the greatest fill areas instead of smoothing edges. `None` for other alpha.
///
/// Networks know photographs and smoothed edges. Of hard edges they make dots, and of shadows, clouds
/// (`docs/experiments/upscaling.md`).
///
/// # Errors
/// If the work is to stop.
pub(crate) fn hard_levels(
    alpha: &Image,
    wrap: Wrap,
    check: &Check,
) -> Result<Option<Vec<f32>>, UpscaleError> {
    fn levels<T: Sample>(
        samples: &[T],
        width: usize,
        wrap: Wrap,
        check: &Check,
    ) -> Result<Option<Vec<f32>>, UpscaleError> {
        let mut levels: Vec<f32> = Vec::new();
        for sample in samples {
            let level = sample.to_unit();
            if let Err(at) = levels.binary_search_by(|other| other.total_cmp(&level)) {
                if levels.len() == MAX_LEVELS {
                    return Ok(None);
                }
                levels.insert(at, level);
            }
        }
        let (Some(&least), Some(&most)) = (levels.first(), levels.last()) else {
            return Ok(None);
        };
        if levels.len() > HARD_LEVELS {
            let height = samples.len() / width;
            let (mut between, mut smoothing) = (0, 0);
            for (at, sample) in samples.iter().enumerate() {
                if at % CHECKED_PIXELS == 0 {
                    check()?;
                }
                let level = sample.to_unit();
                if level > least && level < most {
                    between += 1;
                    let around =
                        || neighbours(at, (width, height), wrap).map(|at| samples[at].to_unit());
                    let is_smoothing = around().any(|v| v < level) && around().any(|v| v > level);
                    smoothing += usize::from(is_smoothing);
                }
            }
            if 2 * smoothing >= between {
                return Ok(None);
            }
        }
        Ok(Some(levels))
    }
    match &alpha.samples {
        Samples::U8(samples) => levels(samples, alpha.width_px, wrap, check),
        Samples::U16(samples) => levels(samples, alpha.width_px, wrap, check),
        Samples::F32(samples) => levels(samples, alpha.width_px, wrap, check),
    }
}

/// Upscales hard alpha of these levels as floats: the outline of each level is smoothed and drawn as sharp as
/// the new size allows. Nothing lies beyond the levels of the pixels around.
///
/// # Errors
/// If the work is to stop.
pub(crate) fn upscale_levels(
    alpha: &Image,
    levels: &[f32],
    to: Size,
    wrap: Wrap,
    check: &Check,
) -> Result<Image, UpscaleError> {
    let (width, height) = (alpha.width_px, alpha.height_px);
    let values: Vec<f32> = match &alpha.samples {
        Samples::U8(samples) => samples.iter().map(|v| v.to_unit()).collect(),
        Samples::U16(samples) => samples.iter().map(|v| v.to_unit()).collect(),
        Samples::F32(samples) => samples.clone(),
    };
    let scale = to.width_px as f32 / width as f32;
    let mut large = vec![levels[0]; to.width_px * to.height_px];
    let (kernel, axes, is_stopped) = (Kernel::Cubic, wrap.axes(), || check().is_err());
    for level in levels.windows(2) {
        let mut smoothed = vec![0.0; values.len()];
        let rows = smoothed.par_chunks_mut(width).enumerate();
        rows.try_for_each(|(y, row)| {
            check()?;
            for (x, share) in row.iter_mut().enumerate() {
                *share = smoothed_share(&values, y * width + x, (width, height), level[1], wrap);
            }
            Ok::<(), UpscaleError>(())
        })?;
        let (from, to) = ((width, height), (to.width_px, to.height_px));
        let share = imresize_wrapped_to_f32(&smoothed, from, 1, to, kernel, axes, is_stopped);
        let share = share.ok_or(UpscaleError::Stopped)?;
        let pairs = large.par_iter_mut().zip(share.pixels);
        pairs.for_each(|(value, share)| {
            let share = ((share - 0.5) * scale.max(1.0) + 0.5).clamp(0.0, 1.0);
            *value += (level[1] - level[0]) * share;
        });
    }
    let large = Samples::F32(large);
    Ok(Image::new(to.width_px, to.height_px, alpha.colour, large))
}

/// The share of the pixels around a position that are at a level or above it, the nearer the heavier: weights
/// of 1, 3 and 1 along x and y.
fn smoothed_share(
    values: &[f32],
    at: usize,
    (width, height): (usize, usize),
    level: f32,
    wrap: Wrap,
) -> f32 {
    let (x, y) = (at % width, at / width);
    let (wraps_x, wraps_y) = wrap.axes();
    let before = |at: usize, len: usize, wraps| match at {
        0 if wraps => len - 1,
        at => at.saturating_sub(1),
    };
    let after = |at: usize, len: usize, wraps| match at + 1 {
        next if next < len => next,
        _ if wraps => 0,
        _ => at,
    };
    let mut share = 0.0;
    for (row, row_weight) in [
        (before(y, height, wraps_y), 0.2),
        (y, 0.6),
        (after(y, height, wraps_y), 0.2),
    ] {
        for (column, weight) in [
            (before(x, width, wraps_x), 0.2),
            (x, 0.6),
            (after(x, width, wraps_x), 0.2),
        ] {
            if values[row * width + column] >= level {
                share += row_weight * weight;
            }
        }
    }
    share
}

/// `len` samples of the value of the first.
pub(crate) fn repeat_first(samples: &Samples, len: usize) -> Samples {
    match samples {
        Samples::U8(samples) => Samples::U8(vec![samples[0]; len]),
        Samples::U16(samples) => Samples::U16(vec![samples[0]; len]),
        Samples::F32(samples) => Samples::F32(vec![samples[0]; len]),
    }
}

/// Replaces the colour of fully transparent pixels by colour that spreads from the others, ring by
/// ring: each pixel becomes the mean of its neighbours nearer to a visible pixel. An image without
/// visible pixels does not change.
///
/// # Errors
/// If the work is to stop.
///
/// # Panics
/// If the sizes differ, or `alpha` has more than one channel.
pub(crate) fn spread_colour(
    colour: &mut Image,
    alpha: &Image,
    wrap: Wrap,
    check: &Check,
) -> Result<(), UpscaleError> {
    assert_eq!(
        (colour.width_px, colour.height_px),
        (alpha.width_px, alpha.height_px),
        "size of colour and alpha"
    );
    assert_eq!(alpha.colour.channels(), 1, "channels of alpha");
    let visible: Vec<bool> = match &alpha.samples {
        Samples::U8(alpha) => alpha.iter().map(|alpha| *alpha > 0).collect(),
        Samples::U16(alpha) => alpha.iter().map(|alpha| *alpha > 0).collect(),
        Samples::F32(alpha) => alpha.iter().map(|alpha| *alpha > 0.0).collect(),
    };
    spread_where(colour, &visible, wrap, check)
}

/// Replaces the samples of pixels that are not `visible` by those that spread from the others.
///
/// # Errors
/// If the work is to stop.
pub(crate) fn spread_where(
    image: &mut Image,
    visible: &[bool],
    wrap: Wrap,
    check: &Check,
) -> Result<(), UpscaleError> {
    let (width, channels) = (image.width_px, image.colour.channels());
    match &mut image.samples {
        Samples::U8(samples) => spread(samples, channels, width, visible, wrap, check),
        Samples::U16(samples) => spread(samples, channels, width, visible, wrap, check),
        Samples::F32(samples) => spread(samples, channels, width, visible, wrap, check),
    }
}

/// The positions around one, itself included.
fn neighbours(
    at: usize,
    (width, height): (usize, usize),
    wrap: Wrap,
) -> impl Iterator<Item = usize> {
    let (wraps_x, wraps_y) = wrap.axes();
    let rows = around(at / width, 1, height, wraps_y);
    let columns = around(at % width, 1, width, wraps_x);
    rows.flat_map(move |y| columns.clone().map(move |x| y * width + x))
}

/// The progress of a pixel in [`spread`].
#[derive(Clone, Copy, PartialEq)]
enum State {
    Unknown,
    /// In the ring to be coloured next.
    InRing,
    Coloured,
}

fn spread<T: Sample>(
    samples: &mut [T],
    channels: usize,
    width: usize,
    visible: &[bool],
    wrap: Wrap,
    check: &Check,
) -> Result<(), UpscaleError> {
    let height = visible.len() / width;
    let neighbours = |at: usize| neighbours(at, (width, height), wrap);
    let mut states: Vec<State> = visible
        .iter()
        .map(|visible| match visible {
            true => State::Coloured,
            false => State::Unknown,
        })
        .collect();
    let beside_coloured = |at: &usize| {
        states[*at] == State::Unknown && neighbours(*at).any(|at| states[at] == State::Coloured)
    };
    let mut ring: Vec<usize> = Vec::new();
    for first in (0..visible.len()).step_by(CHECKED_PIXELS) {
        check()?;
        let pixels = first..visible.len().min(first + CHECKED_PIXELS);
        ring.extend(pixels.filter(beside_coloured));
    }
    for at in &ring {
        states[*at] = State::InRing;
    }
    while !ring.is_empty() {
        for (number, &at) in ring.iter().enumerate() {
            if number % CHECKED_PIXELS == 0 {
                check()?;
            }
            let mut sums = [0.0; 4];
            let mut count = 0.0;
            for from in neighbours(at).filter(|from| states[*from] == State::Coloured) {
                count += 1.0;
                for (sum, sample) in sums.iter_mut().zip(&samples[from * channels..][..channels]) {
                    *sum += sample.to_unit();
                }
            }
            for (sample, sum) in samples[at * channels..][..channels].iter_mut().zip(sums) {
                *sample = T::from_unit(sum / count);
            }
        }
        for at in &ring {
            states[*at] = State::Coloured;
        }
        let mut next = Vec::new();
        for &at in &ring {
            for neighbour in neighbours(at) {
                if states[neighbour] == State::Unknown {
                    states[neighbour] = State::InRing;
                    next.push(neighbour);
                }
            }
        }
        ring = next;
    }
    Ok(())
}

/// Sets upscaled alpha to the value of `small` wherever that is constant within a pixel of the
/// position (or, of reduced alpha, within the area of a pixel): opaque and transparent areas stay
/// exactly so, without ringing beside an edge. Elsewhere, where lines may be thinner than a pixel of
/// `small`, alpha does not change.
///
/// # Errors
/// If the work is to stop.
///
/// # Panics
/// If the depths differ, or either has more than one channel.
pub(crate) fn keep_flat(
    large: &mut Image,
    small: &Image,
    wrap: Wrap,
    check: &Check,
) -> Result<(), UpscaleError> {
    assert_eq!(
        (large.colour.channels(), small.colour.channels()),
        (1, 1),
        "channels of upscaled alpha and alpha"
    );
    let (from, to) = (
        (small.width_px, small.height_px),
        (large.width_px, large.height_px),
    );
    match (&mut large.samples, &small.samples) {
        (Samples::U8(large), Samples::U8(small)) => keep(large, small, to, from, wrap, check),
        (Samples::U16(large), Samples::U16(small)) => keep(large, small, to, from, wrap, check),
        (Samples::F32(large), Samples::F32(small)) => keep(large, small, to, from, wrap, check),
        (large, small) => panic!(
            "depth {:?} of upscaled alpha, {:?} of alpha",
            large.depth(),
            small.depth()
        ),
    }
}

fn keep<T: Copy + PartialOrd + Send + Sync>(
    large: &mut [T],
    small: &[T],
    (to_width, to_height): (usize, usize),
    (width, height): (usize, usize),
    wrap: Wrap,
    check: &Check,
) -> Result<(), UpscaleError> {
    let (wraps_x, wraps_y) = wrap.axes();
    // Input positions around the middle of an output position.
    let around = |at: usize, len: usize, to_len: usize, wraps: bool| {
        let middle = (2 * at + 1) * len / (2 * to_len);
        around(middle, len.div_ceil(to_len), len, wraps)
    };
    let lower = |a: T, b: T| if b < a { b } else { a };
    let upper = |a: T, b: T| if b > a { b } else { a };
    large
        .par_chunks_mut(to_width)
        .enumerate()
        .try_for_each(|(y, row)| {
            check()?;
            let middle = (2 * y + 1) * height / (2 * to_height);
            let mut low = small[middle * width..][..width].to_vec();
            let mut high = low.clone();
            for y in around(y, height, to_height, wraps_y) {
                for (x, &sample) in small[y * width..][..width].iter().enumerate() {
                    low[x] = lower(low[x], sample);
                    high[x] = upper(high[x], sample);
                }
            }
            for (x, sample) in row.iter_mut().enumerate() {
                let columns = around(x, width, to_width, wraps_x);
                let low = columns.clone().map(|x| low[x]).reduce(lower);
                let high = columns.map(|x| high[x]).reduce(upper);
                if let Some(value) = low.filter(|_| low == high) {
                    *sample = value;
                }
            }
            Ok(())
        })
}

#[cfg(test)]
mod tests {
    use wdsr_image::Colour;

    use super::*;

    /// Work that is not stopped.
    const NEVER: &Check = &|| Ok(());

    fn grey(width: usize, height: usize, samples: Vec<u8>) -> Image {
        Image::new(width, height, Colour::Grey, Samples::U8(samples))
    }

    #[test]
    fn colour_spreads_from_the_nearest_visible_pixels() {
        // One row: garbage, red, garbage x 5, blue.
        let mut colours = [[9, 200, 9]; 8];
        (colours[1], colours[7]) = ([255, 0, 0], [0, 0, 255]);
        let alpha = grey(8, 1, vec![0, 255, 0, 0, 0, 0, 0, 1]);
        let mut image = Image::new(8, 1, Colour::Rgb, Samples::U8(colours.concat()));
        spread_colour(&mut image, &alpha, Wrap::None, NEVER).expect("not stopped");
        let (red, blue, mixed) = ([255, 0, 0], [0, 0, 255], [128, 0, 128]);
        let expected = [red, red, red, red, mixed, blue, blue, blue].concat();
        assert_eq!(image.samples, Samples::U8(expected));
    }

    #[test]
    fn visible_pixels_keep_their_colour_and_all_others_get_one() {
        let (width, height): (usize, usize) = (37, 23);
        let noise = |i: usize| (i * 7919 % 65_521) as u16;
        // Visible: a disc, nearly transparent at one pixel of its edge.
        let alpha: Vec<u16> = (0..width * height)
            .map(|i| {
                match usize::abs_diff(i % width, 12).pow(2) + usize::abs_diff(i / width, 9).pow(2) {
                    0..16 => 65_535,
                    16 => 1,
                    _ => 0,
                }
            })
            .collect();
        for colour in [Colour::Grey, Colour::Rgb] {
            let len = width * height * colour.channels();
            // Dark where visible, noise from 1000 on elsewhere.
            let samples: Vec<u16> = (0..len)
                .map(|i| match alpha[i / colour.channels()] {
                    0 => noise(i).max(1000),
                    _ => noise(i) % 1000,
                })
                .collect();
            let before = Image::new(width, height, colour, Samples::U16(samples.clone()));
            let alpha = Image::new(width, height, Colour::Grey, Samples::U16(alpha.clone()));
            let mut after = before.clone();
            spread_colour(&mut after, &alpha, Wrap::None, NEVER).expect("not stopped");
            let (Samples::U16(spread), Samples::U16(alpha)) = (&after.samples, &alpha.samples)
            else {
                panic!("another depth: {:?}", after.depth());
            };
            for (i, (spread, sample)) in spread.iter().zip(&samples).enumerate() {
                match alpha[i / colour.channels()] {
                    0 => assert!(*spread < 1000, "sample {i} is {spread}"),
                    _ => assert_eq!(spread, sample, "sample {i}"),
                }
            }
        }
    }

    #[test]
    fn an_image_without_visible_pixels_does_not_change() {
        let mut image = grey(3, 2, vec![1, 2, 3, 4, 5, 6]);
        let before = image.clone();
        let alpha = grey(3, 2, vec![0; 6]);
        spread_colour(&mut image, &alpha, Wrap::None, NEVER).expect("not stopped");
        assert_eq!(image, before);
    }

    #[test]
    fn hard_alpha_has_few_levels_that_fill_areas() {
        // A disc over its shadow, and the same with smoothed edges.
        let alpha = |x: usize, y: usize, soft: bool| {
            let distance = ((x as f32 - 16.0).powi(2) + (y as f32 - 14.0).powi(2)).sqrt();
            let cover = ((10.0 - distance) * 4.0).round().clamp(0.0, 4.0) / 4.0;
            match cover {
                cover if soft => (cover * 255.0) as u8,
                cover if cover >= 0.5 => 255,
                _ if y > 24 && x > 8 && x < 30 => 100,
                _ if y < 4 => 40,
                _ => 0,
            }
        };
        let image = |soft| {
            grey(
                32,
                32,
                (0..32 * 32).map(|i| alpha(i % 32, i / 32, soft)).collect(),
            )
        };
        let levels = |soft| hard_levels(&image(soft), Wrap::None, NEVER).expect("not stopped");
        let expected = [0, 40, 100, 255].map(|v: u8| v.to_unit());
        assert_eq!(levels(false).expect("hard"), expected);
        assert_eq!(levels(true), None);
    }

    #[test]
    fn upscaled_levels_stay_between_the_pixels_around() {
        let small = grey(
            9,
            9,
            (0..81).map(|i| [0, 100, 255][i * 7919 % 101 % 3]).collect(),
        );
        let levels = hard_levels(&small, Wrap::None, NEVER).expect("not stopped");
        let levels = levels.expect("hard");
        let to = Size {
            width_px: 27,
            height_px: 27,
        };
        let large = upscale_levels(&small, &levels, to, Wrap::None, NEVER).expect("not stopped");
        let Samples::F32(large) = large.samples else {
            panic!("floats");
        };
        let Samples::U8(small) = &small.samples else {
            panic!("8 bits");
        };
        for (i, value) in large.iter().enumerate() {
            let (x, y) = (i % 27 / 3, i / 27 / 3);
            let near = || {
                let rows = y.saturating_sub(3)..(y + 4).min(9);
                rows.flat_map(move |y| {
                    (x.saturating_sub(3)..(x + 4).min(9)).map(move |x| y * 9 + x)
                })
            };
            let least = near().map(|at| small[at]).min().expect("near").to_unit();
            let most = near().map(|at| small[at]).max().expect("near").to_unit();
            assert!(
                (least - 1e-6..=most + 1e-6).contains(value),
                "{value} at {i}"
            );
        }
    }

    #[test]
    fn flat_alpha_stays_flat() {
        // An opaque half, a soft column, a transparent half.
        let small = grey(7, 1, vec![255, 255, 255, 100, 0, 0, 0]);
        let upscaled = vec![250, 3, 254, 200, 90, 120, 90, 255, 120, 7, 9, 1, 2, 3];
        let mut large = grey(14, 1, upscaled);
        keep_flat(&mut large, &small, Wrap::None, NEVER).expect("not stopped");
        let expected = vec![255, 255, 255, 255, 90, 120, 90, 255, 120, 7, 0, 0, 0, 0];
        assert_eq!(large.samples, Samples::U8(expected));
        // Reduced: the left pixel covers the opaque half and more.
        let mut reduced = grey(2, 1, vec![77, 77]);
        keep_flat(&mut reduced, &small, Wrap::None, NEVER).expect("not stopped");
        assert_eq!(reduced.samples, Samples::U8(vec![77, 77]));
    }
}
