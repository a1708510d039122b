//! Transparency: the colour under it, and how it is upscaled without a halo.
//!
//! Alpha is straight throughout. The network takes colours as they are, so the colours of transparent
//! pixels, which may be anything, are first replaced by the visible colours beside them
//! ([`spread_colour`]). No foreign colour can then be mixed into an edge, and weighting by alpha
//! (premultiplied filtering) would change next to nothing.

use rayon::prelude::*;
use wdsr_image::{Image, Samples};
use wdsr_model::Sample;

/// How to upscale alpha that is not the same everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlphaMethod {
    /// The networks, as they upscale grey: sharp edges, twice the work.
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
/// # Panics
/// If the sizes differ, or `alpha` has more than one channel.
pub(crate) fn spread_colour(colour: &mut Image, alpha: &Image) {
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
    spread_where(colour, &visible);
}

/// Replaces the samples of pixels that are not `visible` by those that spread from the others.
pub(crate) fn spread_where(image: &mut Image, visible: &[bool]) {
    let (width, channels) = (image.width_px, image.colour.channels());
    match &mut image.samples {
        Samples::U8(samples) => spread(samples, channels, width, visible),
        Samples::U16(samples) => spread(samples, channels, width, visible),
        Samples::F32(samples) => spread(samples, channels, width, visible),
    }
}

/// The progress of a pixel in [`spread`].
#[derive(Clone, Copy, PartialEq)]
enum State {
    Unknown,
    /// In the ring to be coloured next.
    InRing,
    Coloured,
}

fn spread<T: Sample>(samples: &mut [T], channels: usize, width: usize, visible: &[bool]) {
    let height = visible.len() / width;
    let neighbours = |at: usize| {
        let (x, y) = (at % width, at / width);
        let rows = y.saturating_sub(1)..(y + 2).min(height);
        let columns = x.saturating_sub(1)..(x + 2).min(width);
        rows.flat_map(move |y| columns.clone().map(move |x| y * width + x))
    };
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
    let mut ring: Vec<usize> = (0..visible.len()).filter(beside_coloured).collect();
    for at in &ring {
        states[*at] = State::InRing;
    }
    while !ring.is_empty() {
        for &at in &ring {
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
}

/// Sets upscaled alpha to the value of `small` wherever that is constant within a pixel of the
/// position (or, of reduced alpha, within the area of a pixel): opaque and transparent areas stay
/// exactly so, without ringing beside an edge. Elsewhere, where lines may be thinner than a pixel of
/// `small`, alpha does not change.
///
/// # Panics
/// If the depths differ, or either has more than one channel.
pub(crate) fn keep_flat(large: &mut Image, small: &Image) {
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
        (Samples::U8(large), Samples::U8(small)) => keep(large, small, to, from),
        (Samples::U16(large), Samples::U16(small)) => keep(large, small, to, from),
        (Samples::F32(large), Samples::F32(small)) => keep(large, small, to, from),
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
) {
    // Input positions around the middle of an output position.
    let around = |at: usize, len: usize, to_len: usize| {
        let middle = (2 * at + 1) * len / (2 * to_len);
        let radius = len.div_ceil(to_len);
        middle.saturating_sub(radius)..(middle + radius + 1).min(len)
    };
    let lower = |a: T, b: T| if b < a { b } else { a };
    let upper = |a: T, b: T| if b > a { b } else { a };
    large
        .par_chunks_mut(to_width)
        .enumerate()
        .for_each(|(y, row)| {
            let rows = around(y, height, to_height);
            let mut low = small[rows.start * width..][..width].to_vec();
            let mut high = low.clone();
            for y in rows.skip(1) {
                for (x, &sample) in small[y * width..][..width].iter().enumerate() {
                    low[x] = lower(low[x], sample);
                    high[x] = upper(high[x], sample);
                }
            }
            for (x, sample) in row.iter_mut().enumerate() {
                let columns = around(x, width, to_width);
                let low = low[columns.clone()].iter().copied().reduce(lower);
                let high = high[columns].iter().copied().reduce(upper);
                if let Some(value) = low.filter(|_| low == high) {
                    *sample = value;
                }
            }
        });
}

#[cfg(test)]
mod tests {
    use wdsr_image::Colour;

    use super::*;

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
        spread_colour(&mut image, &alpha);
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
            spread_colour(&mut after, &alpha);
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
        spread_colour(&mut image, &grey(3, 2, vec![0; 6]));
        assert_eq!(image, before);
    }

    #[test]
    fn flat_alpha_stays_flat() {
        // An opaque half, a soft column, a transparent half.
        let small = grey(7, 1, vec![255, 255, 255, 100, 0, 0, 0]);
        let upscaled = vec![250, 3, 254, 200, 90, 120, 90, 255, 120, 7, 9, 1, 2, 3];
        let mut large = grey(14, 1, upscaled);
        keep_flat(&mut large, &small);
        let expected = vec![255, 255, 255, 255, 90, 120, 90, 255, 120, 7, 0, 0, 0, 0];
        assert_eq!(large.samples, Samples::U8(expected));
        // Reduced: the left pixel covers the opaque half and more.
        let mut reduced = grey(2, 1, vec![77, 77]);
        keep_flat(&mut reduced, &small);
        assert_eq!(reduced.samples, Samples::U8(vec![77, 77]));
    }
}
