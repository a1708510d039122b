//! Conversion between frames of planar YUV, grey or R G B and R G B in 0..1, which networks take.
//!
//! A frame is a plane of luma and two of chroma, with as many samples or half as many along each axis,
//! rounded up. Samples have 8 bits, or 9 to 16 in two bytes, little-endian. Chroma is interpolated
//! linearly. Where it has half the samples, those that lie on even samples of luma are computed as 1/4,
//! 1/2, 1/4 of three, and those between two as their mean. Samples are repeated beyond an edge. Values
//! outside of 0..1, which limited range can have, are kept.
//!
//! Source: ITU-R BT.601-7, BT.709-6 and BT.2020-2, sections on signal levels; ITU-T H.273.

use rayon::prelude::*;
use wdsr_upscale::Size;

/// The weights of red, green and blue in luma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Matrix {
    /// Standard definition; ffmpeg's bt470bg and smpte170m
    Bt601,
    /// High definition
    Bt709,
    /// Ultra high definition, not of constant luminance
    #[value(skip)]
    Bt2020,
    #[value(skip)]
    Fcc,
    #[value(skip)]
    Smpte240m,
    /// No YUV: the planes are green, blue and red
    #[value(skip)]
    Gbr,
}

impl Matrix {
    /// The matrix of most videos of a size, as players guess it where a file does not tell.
    ///
    /// Source: mpv, video/mp_image.c, `mp_csp_guess_colorspace`.
    pub(crate) fn usual(size: Size) -> Self {
        if size.width_px >= 1280 || size.height_px > 576 {
            Self::Bt709
        } else {
            Self::Bt601
        }
    }

    /// Weights of red and blue; green has the rest.
    fn red_blue(self) -> (f32, f32) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Fcc => (0.3, 0.11),
            Self::Smpte240m => (0.212, 0.087),
            Self::Gbr => (0.0, 0.0),
        }
    }
}

/// The codes of black and white.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Range {
    /// Luma 16 to 235, chroma 16 to 240 (ffmpeg: tv); nearly all video
    Limited,
    /// 0 to 255 (ffmpeg: pc), as in JPEG
    Full,
}

/// Where the samples of chroma lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chroma {
    /// On every sample of luma.
    Each,
    /// On every even sample of luma.
    Even,
    /// Between an even sample of luma and the next one.
    Between,
}

impl Chroma {
    /// The number of samples for `luma` samples of luma.
    fn count(self, luma: usize) -> usize {
        match self {
            Self::Each => luma,
            Self::Even | Self::Between => luma.div_ceil(2),
        }
    }

    /// The two of `count` samples between which the sample of luma `at` lies, and the weight of the second.
    fn around(self, at: usize, count: usize) -> (usize, usize, f32) {
        let near = at / 2;
        let next = (near + 1).min(count - 1);
        match (self, at % 2) {
            (Self::Each, _) => (at, at, 0.0),
            (Self::Even, 0) => (near, near, 0.0),
            (Self::Even, _) => (near, next, 0.5),
            (Self::Between, 0) => (near, near.saturating_sub(1), 0.25),
            (Self::Between, _) => (near, next, 0.25),
        }
    }

    /// The samples of luma, of `count`, of which the sample of chroma `at` is computed, and their weights.
    fn taps(self, at: usize, count: usize) -> [(usize, f32); 3] {
        let (even, next) = (2 * at, (2 * at + 1).min(count - 1));
        match self {
            Self::Each => [(at, 1.0), (at, 0.0), (at, 0.0)],
            Self::Even => [(even, 0.5), (even.saturating_sub(1), 0.25), (next, 0.25)],
            Self::Between => [(even, 0.5), (next, 0.5), (even, 0.0)],
        }
    }
}

/// The planes of a frame and the bits of their samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Along x and y; `None` for grey.
    pub(crate) chroma: Option<[Chroma; 2]>,
    /// 8 to 16.
    pub(crate) bits: u32,
}

impl Layout {
    /// Chroma at the left, as in MPEG-2, H.264 and HEVC unless a stream says otherwise.
    pub(crate) const YUV420P: Self = Self {
        chroma: Some([Chroma::Even, Chroma::Between]),
        bits: 8,
    };

    fn bytes_per_sample(self) -> usize {
        if self.bits == 8 { 1 } else { 2 }
    }

    fn chroma_size(self, size: Size) -> Size {
        let [x, y] = self.chroma.unwrap_or([Chroma::Each; 2]);
        Size {
            width_px: x.count(size.width_px),
            height_px: y.count(size.height_px),
        }
    }

    /// Bytes of a frame.
    pub(crate) fn frame_bytes(self, size: Size) -> u128 {
        let of_chroma = self.chroma.map_or(0, |_| self.chroma_size(size).pixels());
        (size.pixels() + 2 * of_chroma) * self.bytes_per_sample() as u128
    }
}

/// The colour coding of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) matrix: Matrix,
    pub(crate) range: Range,
}

/// The levels of a coding at a number of bits.
#[derive(Clone, Copy)]
struct Levels {
    matrix: Matrix,
    /// Code of black.
    black: f32,
    /// Number of codes from black to white.
    luma_span: f32,
    /// Number of codes of chroma.
    chroma_span: f32,
    /// Code of grey in chroma.
    neutral: f32,
    /// Largest code.
    max: u16,
}

impl Levels {
    fn new(coding: Coding, bits: u32) -> Self {
        let unit = f32::from(1_u16 << (bits - 8));
        let max = u16::MAX >> (16 - bits);
        let (black, luma_span, chroma_span) = match coding.range {
            Range::Limited => (16.0 * unit, 219.0 * unit, 224.0 * unit),
            Range::Full => (0.0, f32::from(max), f32::from(max)),
        };
        Self {
            matrix: coding.matrix,
            black,
            luma_span,
            chroma_span,
            neutral: 128.0 * unit,
            max,
        }
    }

    fn to_rgb(self, codes: [f32; 3]) -> [f32; 3] {
        let light = |code: f32| (code - self.black) / self.luma_span;
        if self.matrix == Matrix::Gbr {
            let [g, b, r] = codes.map(light);
            return [r, g, b];
        }
        let (red, blue) = self.matrix.red_blue();
        let y = light(codes[0]);
        let chroma = |code: f32| (code - self.neutral) / self.chroma_span;
        let r = y + 2.0 * (1.0 - red) * chroma(codes[2]);
        let b = y + 2.0 * (1.0 - blue) * chroma(codes[1]);
        let g = (y - red * r - blue * b) / (1.0 - red - blue);
        [r, g, b]
    }

    fn luma(self, [r, g, b]: [f32; 3]) -> f32 {
        let (red, blue) = self.matrix.red_blue();
        red * r + (1.0 - red - blue) * g + blue * b
    }

    fn luma_code(self, rgb: [f32; 3]) -> u16 {
        self.rounded(self.black + self.luma_span * self.luma(rgb))
    }

    fn chroma_codes(self, rgb: [f32; 3]) -> [u16; 2] {
        if self.matrix == Matrix::Gbr {
            return [rgb[2], rgb[0]].map(|light| self.rounded(self.black + self.luma_span * light));
        }
        let (red, blue) = self.matrix.red_blue();
        let y = self.luma(rgb);
        [(rgb[2], blue), (rgb[0], red)].map(|(colour, weight)| {
            self.rounded(self.neutral + self.chroma_span * (colour - y) / (2.0 * (1.0 - weight)))
        })
    }

    /// Rounds to nearest; casts to integers clamp.
    fn rounded(self, code: f32) -> u16 {
        ((code + 0.5) as u16).min(self.max)
    }
}

/// The codes of a row.
fn codes(row: &[u8], bits: u32) -> Vec<f32> {
    match bits {
        8 => row.iter().copied().map(f32::from).collect(),
        _ => {
            let pairs = row.as_chunks::<2>().0.iter();
            pairs.map(|pair| u16::from_le_bytes(*pair).into()).collect()
        }
    }
}

/// Writes a code as sample `at` of a row.
fn set(row: &mut [u8], at: usize, bits: u32, code: u16) {
    match bits {
        // Not above 255.
        8 => row[at] = code as u8,
        _ => row[2 * at..][..2].copy_from_slice(&code.to_le_bytes()),
    }
}

/// Converts a frame to R G B, interleaved, black 0 and white 1.
///
/// # Panics
/// If the frame has another size.
pub(crate) fn to_rgb(frame: &[u8], size: Size, layout: Layout, coding: Coding) -> Vec<f32> {
    assert_eq!(
        frame.len() as u128,
        layout.frame_bytes(size),
        "bytes of a frame of {size}"
    );
    let (levels, width) = (Levels::new(coding, layout.bits), size.width_px);
    let row_bytes = width * layout.bytes_per_sample();
    let (luma, chroma) = frame.split_at(row_bytes * size.height_px);
    let planes = chroma.split_at(chroma.len() / 2);
    let chroma = layout.chroma_size(size);
    let mut pixels = vec![0.0; width * size.height_px * 3];
    pixels
        .par_chunks_mut(width * 3)
        .zip(luma.par_chunks(row_bytes))
        .enumerate()
        .for_each(|(y, (pixels, luma))| {
            let luma = codes(luma, layout.bits);
            let pixels = pixels.as_chunks_mut::<3>().0.iter_mut().zip(luma);
            let Some([x_axis, y_axis]) = layout.chroma else {
                pixels.for_each(|(pixel, luma)| {
                    *pixel = [(luma - levels.black) / levels.luma_span; 3];
                });
                return;
            };
            let around = y_axis.around(y, chroma.height_px);
            let [u, v] = [planes.0, planes.1]
                .map(|plane| chroma_row(plane, chroma.width_px, layout, around));
            for (x, (pixel, luma)) in pixels.enumerate() {
                let (near, far, weight) = x_axis.around(x, chroma.width_px);
                let [u, v] = [&u, &v].map(|row| row[near] * (1.0 - weight) + row[far] * weight);
                *pixel = levels.to_rgb([luma, u, v]);
            }
        });
    pixels
}

/// A row of chroma at the height of a row of luma.
fn chroma_row(
    plane: &[u8],
    width: usize,
    layout: Layout,
    (near, far, weight): (usize, usize, f32),
) -> Vec<f32> {
    let row_bytes = width * layout.bytes_per_sample();
    let [near, far] = [near, far].map(|y| codes(&plane[y * row_bytes..][..row_bytes], layout.bits));
    let rows = near.iter().zip(far);
    rows.map(|(near, far)| near * (1.0 - weight) + far * weight)
        .collect()
}

/// Converts R G B as of [`to_rgb`] to a frame.
///
/// # Panics
/// If there are not three samples for each pixel.
pub(crate) fn from_rgb(pixels: &[f32], size: Size, layout: Layout, coding: Coding) -> Vec<u8> {
    let (width, height, chroma) = (size.width_px, size.height_px, layout.chroma_size(size));
    assert_eq!(
        pixels.len() as u128,
        size.pixels() * 3,
        "samples of {size} pixels"
    );
    let (levels, bits) = (Levels::new(coding, layout.bits), layout.bits);
    let pixels = pixels.as_chunks::<3>().0;
    let mut frame = vec![0; layout.frame_bytes(size) as usize];
    let row_bytes = |width: usize| width * layout.bytes_per_sample();
    let (luma, planes) = frame.split_at_mut(row_bytes(width) * height);
    luma.par_chunks_mut(row_bytes(width))
        .zip(pixels.par_chunks(width))
        .for_each(|(codes, pixels)| {
            for (x, &rgb) in pixels.iter().enumerate() {
                let code = match levels.matrix {
                    Matrix::Gbr => levels.rounded(levels.black + levels.luma_span * rgb[1]),
                    _ => levels.luma_code(rgb),
                };
                set(codes, x, bits, code);
            }
        });
    let Some([x_axis, y_axis]) = layout.chroma else {
        return frame;
    };
    let (u, v) = planes.split_at_mut(planes.len() / 2);
    u.par_chunks_mut(row_bytes(chroma.width_px))
        .zip(v.par_chunks_mut(row_bytes(chroma.width_px)))
        .enumerate()
        .for_each(|(y, (u, v))| {
            let rows = y_axis.taps(y, height);
            for x in 0..chroma.width_px {
                let columns = x_axis.taps(x, width);
                let mean = std::array::from_fn(|c| {
                    let column = |(x, weight): (usize, f32)| {
                        let sample = |(y, weight): (usize, f32)| pixels[y * width + x][c] * weight;
                        weight * rows.iter().copied().map(sample).sum::<f32>()
                    };
                    columns.iter().copied().map(column).sum()
                });
                let codes = levels.chroma_codes(mean);
                set(u, x, bits, codes[0]);
                set(v, x, bits, codes[1]);
            }
        });
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODINGS: [Coding; 4] = {
        const fn coding(matrix: Matrix, range: Range) -> Coding {
            Coding { matrix, range }
        }
        [
            coding(Matrix::Bt601, Range::Limited),
            coding(Matrix::Bt601, Range::Full),
            coding(Matrix::Bt709, Range::Limited),
            coding(Matrix::Bt709, Range::Full),
        ]
    };

    const YUV420P: Layout = Layout::YUV420P;

    fn rounded(value: f32) -> u8 {
        (value + 0.5) as u8
    }

    fn size(width_px: usize, height_px: usize) -> Size {
        Size {
            width_px,
            height_px,
        }
    }

    /// Made by ffmpeg 5.1.9 (zimg), with MATRIX 170m or 709 and RANGE limited or full:
    ///
    /// ```text
    /// ffmpeg -f rawvideo -s 16x8 -pix_fmt yuv420p -i frame.yuv -vf "zscale=matrixin=MATRIX:
    ///     rangein=RANGE:chromalin=left:filter=bilinear:matrix=gbr:range=full,format=gbrp" \
    ///     -pix_fmt rgb24 -f rawvideo bt601-limited.rgb
    /// ffmpeg -f rawvideo -s 16x8 -pix_fmt rgb24 -i frame.rgb -vf "format=gbrp,zscale=matrixin=gbr:
    ///     rangein=full:filter=bilinear:matrix=MATRIX:range=RANGE:chromal=left,format=yuv420p" \
    ///     -f rawvideo bt601-limited.yuv
    /// ```
    ///
    /// Both frames are random numbers, but frame.rgb is linear from row to row: zimg takes four rows
    /// for one of chroma, and every symmetric filter agrees there but at the upper and lower edge.
    macro_rules! golden {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/data/yuv/", $name)).as_slice()
        };
    }

    #[test]
    fn conversions_are_those_of_ffmpeg_to_the_byte() {
        let golden = [
            (golden!("bt601-limited.rgb"), golden!("bt601-limited.yuv")),
            (golden!("bt601-full.rgb"), golden!("bt601-full.yuv")),
            (golden!("bt709-limited.rgb"), golden!("bt709-limited.yuv")),
            (golden!("bt709-full.rgb"), golden!("bt709-full.yuv")),
        ];
        let size = size(16, 8);
        for (coding, (rgb, yuv)) in CODINGS.into_iter().zip(golden) {
            let floats = to_rgb(golden!("frame.yuv"), size, YUV420P, coding);
            let bytes: Vec<u8> = floats.iter().map(|v| rounded(v * 255.0)).collect();
            assert_eq!(bytes, rgb, "R G B by {coding:?}");
            let floats: Vec<f32> = golden!("frame.rgb")
                .iter()
                .map(|v| f32::from(*v) / 255.0)
                .collect();
            let mut frame = from_rgb(&floats, size, YUV420P, coding);
            // Rows 0 and 3 of the 8 x 4 samples of U, and of V.
            for row in [128..136, 152..160, 160..168, 184..192] {
                frame[row.clone()].copy_from_slice(&yuv[row]);
            }
            assert_eq!(frame, yuv, "YUV by {coding:?}");
        }
    }

    /// All positions of chroma, at 8 bits and more.
    fn layouts() -> impl Iterator<Item = Layout> {
        use Chroma::*;
        let axes = [Each, Even, Between];
        let chroma = axes
            .into_iter()
            .flat_map(move |x| axes.map(|y| Some([x, y])));
        let chroma = chroma.chain([None]);
        chroma.flat_map(|chroma| [8, 10].map(|bits| Layout { chroma, bits }))
    }

    /// A frame of these codes, given as those of 8 bits.
    fn frame_of(planes: [Vec<f32>; 3], layout: Layout) -> Vec<u8> {
        let planes = &planes[..if layout.chroma.is_some() { 3 } else { 1 }];
        let unit = f32::from(1_u16 << (layout.bits - 8));
        let mut frame = vec![0; planes.concat().len() * layout.bytes_per_sample()];
        for (at, code) in planes.concat().into_iter().enumerate() {
            set(&mut frame, at, layout.bits, (code * unit + 0.5) as u16);
        }
        frame
    }

    #[test]
    fn constant_colours_stay_exact() {
        let size = size(5, 3);
        for layout in layouts() {
            let chroma = layout.chroma_size(size).pixels() as usize;
            let step = if layout == YUV420P { 15 } else { 85 };
            for coding in CODINGS {
                for y in (0..=255).step_by(step / 3) {
                    for u in (0..=255).step_by(step) {
                        for v in (0..=255).step_by(step) {
                            let plane = |code: i32, count| vec![code as f32; count];
                            let planes = [plane(y, 15), plane(u, chroma), plane(v, chroma)];
                            let frame = frame_of(planes, layout);
                            let rgb = to_rgb(&frame, size, layout, coding);
                            let again = from_rgb(&rgb, size, layout, coding);
                            assert_eq!(again, frame, "{layout:?}, {coding:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn smooth_frames_come_back_within_a_code_of_8_bits() {
        for (width, height) in [(32, 24), (33, 25), (1, 1), (2, 1), (1, 2), (7, 2)] {
            let size = size(width, height);
            for layout in layouts() {
                let plane = |size: Size, phase: usize| {
                    let width = size.width_px;
                    let wave = move |i: usize| {
                        let (x, y) = (i % width, i / width);
                        128.0 + 50.0 * (0.06 * x as f32 + 0.05 * y as f32 + phase as f32).sin()
                    };
                    (0..width * size.height_px).map(wave).collect()
                };
                let chroma = layout.chroma_size(size);
                let frame = frame_of([plane(size, 0), plane(chroma, 1), plane(chroma, 2)], layout);
                for coding in CODINGS {
                    let rgb = to_rgb(&frame, size, layout, coding);
                    let again = from_rgb(&rgb, size, layout, coding);
                    assert_eq!(again.len(), frame.len(), "bytes of {size}");
                    let unit = f32::from(1_u16 << (layout.bits - 8));
                    let pairs = codes(&again, layout.bits)
                        .into_iter()
                        .zip(codes(&frame, layout.bits));
                    let worst = pairs.map(|(a, b)| (a - b).abs() / unit).fold(0.0, f32::max);
                    // An odd edge repeats the last sample of chroma.
                    let most = if layout == YUV420P { 1.0 } else { 1.5 };
                    assert!(worst <= most, "{size}, {layout:?}, {coding:?}: {worst}");
                }
            }
        }
    }

    /// As tagged "gbr" with full range.
    #[test]
    fn planes_of_colours_keep_every_code() {
        let coding = Coding {
            matrix: Matrix::Gbr,
            range: Range::Full,
        };
        let layout = Layout {
            chroma: Some([Chroma::Each; 2]),
            bits: 10,
        };
        let [g, b, r]: [Vec<u16>; 3] =
            [0, 1, 2].map(|plane| (0..1024).map(|i| (i * 7 + plane * 300) % 1024).collect());
        let frame: Vec<u8> = [&g[..], &b, &r]
            .concat()
            .iter()
            .flat_map(|c| c.to_le_bytes())
            .collect();
        let rgb = to_rgb(&frame, size(32, 32), layout, coding);
        assert_eq!(rgb[0], f32::from(r[0]) / 1023.0);
        assert_eq!(from_rgb(&rgb, size(32, 32), layout, coding), frame);
    }

    #[test]
    fn the_usual_matrix_goes_by_size() {
        for ((width, height), matrix) in [
            ((720, 576), Matrix::Bt601),
            ((1278, 500), Matrix::Bt601),
            ((1280, 500), Matrix::Bt709),
            ((720, 578), Matrix::Bt709),
        ] {
            assert_eq!(Matrix::usual(size(width, height)), matrix);
        }
    }
}
