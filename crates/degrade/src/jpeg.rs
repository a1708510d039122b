//! Compression and decompression as JPEG, without the file between them.
//!
//! The steps that lose information are those of libjpeg-turbo with its default settings, in the same
//! integer arithmetic, so the result is what Pillow returns for an image that it saved. Coding of the
//! coefficients loses nothing and is omitted.
//!
//! Source: libjpeg-turbo 3.0 `jccolor.c`, `jcsample.c`, `jfdctint.c`, `jcdctmgr.c`, `jidctint.c`,
//! `jdsample.c`, `jdcolor.c`; tables of Annex K of ITU-T T.81.

use wdsr_model::strength::{ANNEX_K_LUMA, jpeg_step};

use crate::planes::Planes;
use crate::stage::Subsampling;

/// One compression with its values drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Compression {
    pub(crate) quality: u8,
    pub(crate) subsampling: Subsampling,
    /// Columns and rows, 0..16, that are cut off at the left and the top, so that the grid of blocks
    /// lies anywhere.
    pub(crate) grid_px: (usize, usize),
}

/// Columns and rows of the largest unit of blocks (4:2:0).
pub(crate) const GRID_PX: usize = 16;
/// Pixels beyond a unit of blocks that chroma's interpolation reads.
pub(crate) const CHROMA_REACH_PX: usize = 2;

impl Compression {
    /// What a decoder returns of the image. Columns and rows that were cut off stay as they are, but
    /// rounded.
    pub(crate) fn apply(&self, image: &mut Planes) {
        let (left, top) = self.grid_px;
        let left = left.min(image.width_px - 1);
        let top = top.min(image.height_px - 1);
        let (width, height) = (image.width_px - left, image.height_px - top);
        let mut pixels = image.to_interleaved();
        let cut: Vec<u8> = pixels
            .chunks_exact(3 * image.width_px)
            .skip(top)
            .flat_map(|row| &row[3 * left..])
            .copied()
            .collect();
        let decoded = jpeg_rgb(&cut, width, height, self.quality, self.subsampling);
        let rows = pixels.chunks_exact_mut(3 * image.width_px).skip(top);
        for (to, from) in rows.zip(decoded.chunks_exact(3 * width)) {
            to[3 * left..].copy_from_slice(from);
        }
        *image = Planes::from_interleaved(image.width_px, image.height_px, &pixels);
    }
}

/// What a decoder returns of an image saved as JPEG by Pillow (libjpeg-turbo), bit for bit.
///
/// # Shapes
/// - pixels and result: `[height_px, width_px, 3]` R G B row-major, 0..255
/// - quality: libjpeg's, 1..=100; values outside are clipped
///
/// # Panics
/// If the number of samples is not that of the size, or a side is 0.
pub fn jpeg_rgb(
    pixels: &[u8],
    width_px: usize,
    height_px: usize,
    quality: u8,
    subsampling: Subsampling,
) -> Vec<u8> {
    assert_samples(pixels.len(), width_px, height_px, 3);
    let mut planes = [(); 3].map(|()| Vec::with_capacity(width_px * height_px));
    for pixel in pixels.as_chunks::<3>().0 {
        for (plane, sample) in planes.iter_mut().zip(to_ycc(*pixel)) {
            plane.push(sample);
        }
    }
    let [y, cb, cr] = planes.map(|samples| Plane {
        width_px,
        height_px,
        samples,
    });
    let y = y.compressed(&table(&ANNEX_K_LUMA, quality));
    let table = table(&CHROMA, quality);
    let [cb, cr] = [cb, cr].map(|chroma| match subsampling {
        Subsampling::S444 => chroma.compressed(&table),
        Subsampling::S422 => chroma
            .halved(1)
            .compressed(&table)
            .cropped(width_px.div_ceil(2))
            .doubled_columns(width_px),
        Subsampling::S420 => chroma
            .halved(2)
            .compressed(&table)
            .cropped(width_px.div_ceil(2))
            .doubled(width_px, height_px),
    });
    let samples = y.samples.iter().zip(&cb.samples).zip(&cr.samples);
    samples
        .flat_map(|((&y, &cb), &cr)| to_rgb(y, cb, cr))
        .collect()
}

/// What a decoder returns of a grey image saved as JPEG by Pillow (libjpeg-turbo), bit for bit.
///
/// # Shapes
/// - samples and result: `[height_px, width_px]` row-major, 0..255
/// - quality: libjpeg's, 1..=100; values outside are clipped
///
/// # Panics
/// If the number of samples is not that of the size, or a side is 0.
pub fn jpeg_grey(samples: &[u8], width_px: usize, height_px: usize, quality: u8) -> Vec<u8> {
    assert_samples(samples.len(), width_px, height_px, 1);
    let plane = Plane {
        width_px,
        height_px,
        samples: samples.to_vec(),
    };
    plane.compressed(&table(&ANNEX_K_LUMA, quality)).samples
}

/// Luma of JPEG, rounded: also Pillow's conversion of colour to grey.
pub fn luma(pixel: [u8; 3]) -> u8 {
    to_ycc(pixel)[0]
}

/// By how much the luma steps of a quality, 1..=100, are larger than those of Annex K (ITU-T T.81): what
/// [`wdsr_image::Reader::jpeg_table_scale`] reads off a file of [`jpeg_rgb`] or [`jpeg_grey`].
pub fn jpeg_table_scale(quality: u8) -> f64 {
    let steps: i32 = table(&ANNEX_K_LUMA, quality).iter().sum();
    let annex_k: u32 = ANNEX_K_LUMA.iter().map(|step| u32::from(*step)).sum();
    f64::from(steps) / f64::from(annex_k)
}

fn assert_samples(found: usize, width_px: usize, height_px: usize, channels: usize) {
    assert!(
        width_px > 0 && height_px > 0,
        "{width_px} x {height_px} pixels"
    );
    assert_eq!(
        found,
        width_px * height_px * channels,
        "samples of {width_px} x {height_px} x {channels}"
    );
}

const CHROMA: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// A quantisation table, row-major, at libjpeg's quality.
fn table(base: &[u8; 64], quality: u8) -> [i32; 64] {
    base.map(|step| i32::from(jpeg_step(step, quality)))
}

fn to_ycc([r, g, b]: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = [r, g, b].map(i32::from);
    let offset = (128 << 16) + (1 << 15) - 1;
    [
        (19595 * r + 38470 * g + 7471 * b + (1 << 15)) >> 16,
        (-11059 * r - 21709 * g + 32768 * b + offset) >> 16,
        (32768 * r - 27439 * g - 5329 * b + offset) >> 16,
    ]
    .map(clipped)
}

fn to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let half = 1 << 15;
    [
        y + ((91881 * cr + half) >> 16),
        y + ((-22554 * cb - 46802 * cr + half) >> 16),
        y + ((116_130 * cb + half) >> 16),
    ]
    .map(clipped)
}

fn clipped(value: i32) -> u8 {
    value.clamp(0, 255) as u8
}

/// A channel, row-major.
struct Plane {
    width_px: usize,
    height_px: usize,
    samples: Vec<u8>,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.width_px..][..self.width_px]
    }

    /// Half the columns, and of `rows` = 2 half the rows: means whose rounding alternates by column.
    /// The last column is repeated to whole blocks before, so that the rounding alternates there too.
    fn halved(&self, rows: usize) -> Self {
        let width_px = self.width_px.div_ceil(16) * 8;
        let height_px = self.height_px.div_ceil(rows);
        let mut samples = Vec::with_capacity(width_px * height_px);
        for y in 0..height_px {
            let row = |i: usize| self.row((rows * y + i).min(self.height_px - 1));
            let (first, second) = (row(0), row(1));
            for x in 0..width_px {
                let [left, right] = [2 * x, 2 * x + 1].map(|x| x.min(self.width_px - 1));
                let pair = |row: &[u8]| u16::from(row[left]) + u16::from(row[right]);
                let odd = (x % 2) as u16;
                let mean = match rows {
                    1 => (pair(first) + odd) >> 1,
                    _ => (pair(first) + pair(second) + 1 + odd) >> 2,
                };
                samples.push(mean as u8);
            }
        }
        Self {
            width_px,
            height_px,
            samples,
        }
    }

    fn cropped(mut self, width_px: usize) -> Self {
        for y in 1..self.height_px {
            let row = y * self.width_px;
            self.samples.copy_within(row..row + width_px, y * width_px);
        }
        self.samples.truncate(width_px * self.height_px);
        self.width_px = width_px;
        self
    }

    /// Twice the columns by a triangle filter, cropped to `width_px`.
    fn doubled_columns(&self, width_px: usize) -> Self {
        let mut samples = Vec::with_capacity(width_px * self.height_px);
        for y in 0..self.height_px {
            let row = self.row(y);
            for x in 0..width_px {
                samples.push(match self.far_column(x) {
                    Some(far) => {
                        let sum = 3 * u16::from(row[x / 2]) + u16::from(row[far]);
                        ((sum + 1 + (x % 2) as u16) >> 2) as u8
                    }
                    None => row[x / 2],
                });
            }
        }
        Self {
            width_px,
            height_px: self.height_px,
            samples,
        }
    }

    /// Twice the columns and rows by a triangle filter, cropped to a size.
    fn doubled(&self, width_px: usize, height_px: usize) -> Self {
        let mut samples = Vec::with_capacity(width_px * height_px);
        for y in 0..height_px {
            let near = self.row(y / 2);
            if self.is_too_narrow() {
                samples.extend((0..width_px).map(|x| near[x / 2]));
                continue;
            }
            let last = self.height_px - 1;
            let far = self.row(if y % 2 == 0 {
                (y / 2).saturating_sub(1)
            } else {
                (y / 2 + 1).min(last)
            });
            let sum = |x: usize| 3 * u16::from(near[x]) + u16::from(far[x]);
            for x in 0..width_px {
                let other = self.far_column(x).map_or_else(|| sum(x / 2), sum);
                let rounding = 8 - (x % 2) as u16;
                samples.push(((3 * sum(x / 2) + other + rounding) >> 4) as u8);
            }
        }
        Self {
            width_px,
            height_px,
            samples,
        }
    }

    /// libjpeg repeats pixels instead of interpolating planes of one or two columns.
    fn is_too_narrow(&self) -> bool {
        self.width_px <= 2
    }

    /// The second column that column `x` of twice the width is interpolated from, if there is one.
    fn far_column(&self, x: usize) -> Option<usize> {
        let far = if x.is_multiple_of(2) {
            (x / 2).checked_sub(1)
        } else {
            Some(x / 2 + 1)
        };
        far.filter(|&far| far < self.width_px && !self.is_too_narrow())
    }

    /// Transformed, quantised by a table and back, in blocks of 8x8; the last column and row are
    /// repeated up to whole blocks.
    fn compressed(mut self, table: &[i32; 64]) -> Self {
        let (width, height) = (self.width_px, self.height_px);
        for top in (0..height).step_by(8) {
            for left in (0..width).step_by(8) {
                let mut block: [i32; 64] = std::array::from_fn(|i| {
                    let (x, y) = (left + i % 8, top + i / 8);
                    let at = y.min(height - 1) * width + x.min(width - 1);
                    i32::from(self.samples[at]) - 128
                });
                forward_transform(&mut block);
                for (coefficient, &step) in block.iter_mut().zip(table) {
                    // The transform is scaled by 8. Halves are rounded away from zero.
                    let levels = (coefficient.abs() + 4 * step) / (8 * step);
                    *coefficient = coefficient.signum() * levels * step;
                }
                inverse_transform(&mut block);
                let columns = (width - left).min(8);
                for (y, row) in (top..height.min(top + 8)).zip(block.as_chunks::<8>().0) {
                    let to = &mut self.samples[y * width + left..][..columns];
                    for (to, &level) in to.iter_mut().zip(row) {
                        *to = clipped(level + 128);
                    }
                }
            }
        }
        self
    }
}

/// Fraction bits of the constants of the transforms.
const CONST_BITS: u32 = 13;
/// Fraction bits of the values between the two passes.
const PASS_BITS: u32 = 2;
const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12299;
const F_1_847: i32 = 15137;
const F_1_961: i32 = 16069;
const F_2_053: i32 = 16819;
const F_2_562: i32 = 20995;
const F_3_072: i32 = 25172;

/// `value / 2^bits`, rounded half up.
fn descaled(value: i32, bits: u32) -> i32 {
    (value + (1 << (bits - 1))) >> bits
}

/// The accurate integer DCT (`jfdctint.c`), scaled by 8.
fn forward_transform(block: &mut [i32; 64]) {
    for i in 0..8 {
        forward_pass(block, |k| 8 * i + k, true);
    }
    for i in 0..8 {
        forward_pass(block, |k| 8 * k + i, false);
    }
}

fn forward_pass(block: &mut [i32; 64], at: impl Fn(usize) -> usize, is_first: bool) {
    let d: [i32; 8] = std::array::from_fn(|k| block[at(k)]);
    let [t0, t1, t2, t3] = std::array::from_fn(|k| d[k] + d[7 - k]);
    let [t7, t6, t5, t4] = std::array::from_fn(|k| d[k] - d[7 - k]);
    let (t10, t13, t11, t12) = (t0 + t3, t0 - t3, t1 + t2, t1 - t2);
    let whole = |value: i32| {
        if is_first {
            value << PASS_BITS
        } else {
            descaled(value, PASS_BITS)
        }
    };
    let bits = if is_first {
        CONST_BITS - PASS_BITS
    } else {
        CONST_BITS + PASS_BITS
    };
    let z = (t12 + t13) * F_0_541;
    block[at(0)] = whole(t10 + t11);
    block[at(4)] = whole(t10 - t11);
    block[at(2)] = descaled(z + t13 * F_0_765, bits);
    block[at(6)] = descaled(z - t12 * F_1_847, bits);
    let odd = odd_part([t4, t5, t6, t7]);
    for (k, value) in [7, 5, 3, 1].into_iter().zip(odd) {
        block[at(k)] = descaled(value, bits);
    }
}

/// The rotation that both directions share, of the odd inputs.
fn odd_part([t0, t1, t2, t3]: [i32; 4]) -> [i32; 4] {
    let (z1, z2, z3, z4) = (t0 + t3, t1 + t2, t0 + t2, t1 + t3);
    let z5 = (z3 + z4) * F_1_175;
    let (z1, z2) = (-z1 * F_0_899, -z2 * F_2_562);
    let (z3, z4) = (z5 - z3 * F_1_961, z5 - z4 * F_0_390);
    [
        t0 * F_0_298 + z1 + z3,
        t1 * F_2_053 + z2 + z4,
        t2 * F_3_072 + z2 + z3,
        t3 * F_1_501 + z1 + z4,
    ]
}

/// The accurate integer inverse DCT (`jidctint.c`).
fn inverse_transform(block: &mut [i32; 64]) {
    for i in 0..8 {
        inverse_pass(block, |k| 8 * k + i, CONST_BITS - PASS_BITS);
    }
    for i in 0..8 {
        inverse_pass(block, |k| 8 * i + k, CONST_BITS + PASS_BITS + 3);
    }
}

fn inverse_pass(block: &mut [i32; 64], at: impl Fn(usize) -> usize, bits: u32) {
    let d: [i32; 8] = std::array::from_fn(|k| block[at(k)]);
    let z = (d[2] + d[6]) * F_0_541;
    let (t2, t3) = (z - d[6] * F_1_847, z + d[2] * F_0_765);
    let (t0, t1) = ((d[0] + d[4]) << CONST_BITS, (d[0] - d[4]) << CONST_BITS);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
    let [o0, o1, o2, o3] = odd_part([d[7], d[5], d[3], d[1]]);
    for (k, (even, odd)) in even.into_iter().zip([o3, o2, o1, o0]).enumerate() {
        block[at(k)] = descaled(even + odd, bits);
        block[at(7 - k)] = descaled(even - odd, bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(width: usize, height: usize) -> Planes {
        let mut image = Planes::zeros(width, height);
        for (channel, plane) in image.planes_mut().enumerate() {
            for (i, v) in plane.iter_mut().enumerate() {
                let (x, y) = ((i % width) as f32, (i / width) as f32);
                *v = 128.0 + 60.0 * (0.3 * x + 0.2 * y + channel as f32).sin();
            }
        }
        image
    }

    fn squared_error(a: &Planes, b: &Planes) -> f64 {
        let pairs = a.samples.iter().zip(&b.samples);
        let sum: f64 = pairs.map(|(a, b)| f64::from((a - b) * (a - b))).sum();
        sum / a.samples.len() as f64
    }

    #[test]
    fn lower_quality_and_halved_chroma_lose_more() {
        let original = waves(50, 38);
        let loss = |quality, subsampling| {
            let mut image = original.clone();
            let grid_px = (3, 5);
            Compression {
                quality,
                subsampling,
                grid_px,
            }
            .apply(&mut image);
            squared_error(&image, &original)
        };
        let best = loss(95, Subsampling::S444);
        assert!(best < 4.0, "{best}");
        assert!(loss(95, Subsampling::S444) < loss(95, Subsampling::S422));
        assert!(loss(95, Subsampling::S422) < loss(95, Subsampling::S420));
        assert!(loss(95, Subsampling::S444) < loss(30, Subsampling::S444));
        assert!(loss(30, Subsampling::S444) < loss(5, Subsampling::S444));
    }

    /// Blocks of quality 1 are nearly flat, so the largest step lies where a block begins.
    #[test]
    fn the_grid_lies_where_it_was_drawn() {
        for left in [0, 3, 7] {
            let mut image = Planes::zeros(64, 24);
            for plane in image.planes_mut() {
                for (i, v) in plane.iter_mut().enumerate() {
                    *v = 4.0 * (i % 64) as f32;
                }
            }
            Compression {
                quality: 1,
                subsampling: Subsampling::S444,
                grid_px: (left, 0),
            }
            .apply(&mut image);
            let row = &image.samples[..64];
            let step = |x: usize| (row[x] - row[x - 1]).abs();
            for x in left + 9..60 {
                let on_grid = (x - left).is_multiple_of(8);
                assert!(
                    on_grid || step(x) < 12.0,
                    "column {x} from {left}: {}",
                    step(x)
                );
            }
            assert!(step(left + 16) > 12.0, "{row:?}");
        }
    }
}
