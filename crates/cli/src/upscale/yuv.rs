//! Conversion between frames of yuv420p and R G B in 0..1, which networks take.
//!
//! A frame is a plane of luma and two of chroma with half its columns and rows, rounded up. Chroma
//! samples lie on the even columns, between two rows ("left", as in MPEG-2, H.264 and HEVC unless a
//! stream says otherwise). To RGB they are interpolated linearly; from RGB they are 1/4, 1/2, 1/4 of
//! three columns and the mean of two rows. Samples are repeated beyond an edge. Values outside of 0..1,
//! which limited range can have, are kept.
//!
//! Source: ITU-R BT.601-7 and BT.709-6, sections on signal levels; ITU-T H.273, chroma location 0.

use rayon::prelude::*;
use wdsr_upscale::Size;

/// The weights of red, green and blue in luma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Matrix {
    /// Standard definition; ffmpeg's bt470bg and smpte170m
    Bt601,
    /// High definition
    Bt709,
}

impl Matrix {
    /// The matrix of most videos of a size, as players guess it where a file does not tell.
    ///
    /// Source: mpv, video/mp_image.c, `mp_csp_guess_colorspace`.
    pub(super) fn usual(size: Size) -> Self {
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
        }
    }
}

/// The codes of black and white.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Range {
    /// Luma 16 to 235, chroma 16 to 240 (ffmpeg: tv); nearly all video
    Limited,
    /// 0 to 255 (ffmpeg: pc), as in JPEG
    Full,
}

impl Range {
    /// Code of black, number of codes from black to white, and number of codes of chroma.
    fn codes(self) -> (f32, f32, f32) {
        match self {
            Self::Limited => (16.0, 219.0, 224.0),
            Self::Full => (0.0, 255.0, 255.0),
        }
    }
}

/// The colour coding of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    pub(super) matrix: Matrix,
    pub(super) range: Range,
}

/// The code of grey.
const NEUTRAL: f32 = 128.0;

impl Coding {
    fn to_rgb(self, [y, u, v]: [f32; 3]) -> [f32; 3] {
        let (black, luma_codes, chroma_codes) = self.range.codes();
        let (red, blue) = self.matrix.red_blue();
        let y = (y - black) / luma_codes;
        let chroma = |code: f32| (code - NEUTRAL) / chroma_codes;
        let r = y + 2.0 * (1.0 - red) * chroma(v);
        let b = y + 2.0 * (1.0 - blue) * chroma(u);
        let g = (y - red * r - blue * b) / (1.0 - red - blue);
        [r, g, b]
    }

    fn luma(self, [r, g, b]: [f32; 3]) -> f32 {
        let (red, blue) = self.matrix.red_blue();
        red * r + (1.0 - red - blue) * g + blue * b
    }

    fn luma_code(self, rgb: [f32; 3]) -> u8 {
        let (black, luma_codes, _) = self.range.codes();
        rounded(black + luma_codes * self.luma(rgb))
    }

    fn chroma_codes(self, rgb: [f32; 3]) -> [u8; 2] {
        let (_, _, chroma_codes) = self.range.codes();
        let (red, blue) = self.matrix.red_blue();
        let y = self.luma(rgb);
        [(rgb[2], blue), (rgb[0], red)].map(|(colour, weight)| {
            rounded(NEUTRAL + chroma_codes * (colour - y) / (2.0 * (1.0 - weight)))
        })
    }
}

/// Rounds to nearest; casts to integers clamp.
fn rounded(code: f32) -> u8 {
    (code + 0.5) as u8
}

fn chroma_size(size: Size) -> Size {
    Size {
        width_px: size.width_px.div_ceil(2),
        height_px: size.height_px.div_ceil(2),
    }
}

/// Bytes of a frame.
pub(super) fn frame_bytes(size: Size) -> u128 {
    size.pixels() + 2 * chroma_size(size).pixels()
}

/// Converts a frame to R G B, interleaved, black 0 and white 1.
///
/// # Panics
/// If the frame has another size.
pub(super) fn to_rgb(frame: &[u8], size: Size, coding: Coding) -> Vec<f32> {
    assert_eq!(
        frame.len() as u128,
        frame_bytes(size),
        "bytes of a frame of {size}"
    );
    let (width, chroma) = (size.width_px, chroma_size(size));
    let (luma, rest) = frame.split_at(width * size.height_px);
    let planes = rest.split_at(chroma.width_px * chroma.height_px);
    let mut pixels = vec![0.0; luma.len() * 3];
    pixels
        .par_chunks_mut(width * 3)
        .zip(luma.par_chunks(width))
        .enumerate()
        .for_each(|(y, (pixels, luma))| {
            let [u, v] = [planes.0, planes.1].map(|plane| chroma_row(plane, chroma, y));
            let pixels = pixels.as_chunks_mut::<3>().0.iter_mut();
            for (x, (pixel, &luma)) in pixels.zip(luma).enumerate() {
                let right = (x.div_ceil(2)).min(chroma.width_px - 1);
                let [u, v] = [&u, &v].map(|row| (row[x / 2] + row[right]) / 2.0);
                *pixel = coding.to_rgb([f32::from(luma), u, v]);
            }
        });
    pixels
}

/// A row of chroma, interpolated to the height of a row of luma.
fn chroma_row(plane: &[u8], size: Size, luma_y: usize) -> Vec<f32> {
    let near = luma_y / 2;
    let far = match luma_y % 2 {
        0 => near.saturating_sub(1),
        _ => (near + 1).min(size.height_px - 1),
    };
    let [near, far] = [near, far].map(|y| &plane[y * size.width_px..][..size.width_px]);
    near.iter()
        .zip(far)
        .map(|(&near, &far)| f32::from(near) * 0.75 + f32::from(far) * 0.25)
        .collect()
}

/// Converts R G B as of [`to_rgb`] to a frame.
///
/// # Panics
/// If there are not three samples for each pixel.
pub(super) fn from_rgb(pixels: &[f32], size: Size, coding: Coding) -> Vec<u8> {
    let (width, height, chroma) = (size.width_px, size.height_px, chroma_size(size));
    assert_eq!(
        pixels.len() as u128,
        size.pixels() * 3,
        "samples of {size} pixels"
    );
    let pixels = pixels.as_chunks::<3>().0;
    let mut frame = vec![0; frame_bytes(size) as usize];
    let (luma, rest) = frame.split_at_mut(width * height);
    let (u, v) = rest.split_at_mut(chroma.width_px * chroma.height_px);
    luma.par_chunks_mut(width)
        .zip(pixels.par_chunks(width))
        .for_each(|(codes, pixels)| {
            for (code, &rgb) in codes.iter_mut().zip(pixels) {
                *code = coding.luma_code(rgb);
            }
        });
    u.par_chunks_mut(chroma.width_px)
        .zip(v.par_chunks_mut(chroma.width_px))
        .enumerate()
        .for_each(|(y, (u, v))| {
            let rows = [2 * y, (2 * y + 1).min(height - 1)].map(|y| &pixels[y * width..][..width]);
            for (x, (u, v)) in u.iter_mut().zip(v).enumerate() {
                let columns = [2 * x, (2 * x).saturating_sub(1), (2 * x + 1).min(width - 1)];
                let mean = std::array::from_fn(|c| {
                    let [middle, left, right] = columns.map(|x| rows[0][x][c] + rows[1][x][c]);
                    (2.0 * middle + left + right) / 8.0
                });
                [*u, *v] = coding.chroma_codes(mean);
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
            let floats = to_rgb(golden!("frame.yuv"), size, coding);
            let bytes: Vec<u8> = floats.iter().map(|v| rounded(v * 255.0)).collect();
            assert_eq!(bytes, rgb, "R G B by {coding:?}");
            let floats: Vec<f32> = golden!("frame.rgb")
                .iter()
                .map(|v| f32::from(*v) / 255.0)
                .collect();
            let mut frame = from_rgb(&floats, size, coding);
            // Rows 0 and 3 of the 8 x 4 samples of U, and of V.
            for row in [128..136, 152..160, 160..168, 184..192] {
                frame[row.clone()].copy_from_slice(&yuv[row]);
            }
            assert_eq!(frame, yuv, "YUV by {coding:?}");
        }
    }

    #[test]
    fn constant_colours_stay_exact() {
        let size = size(5, 3);
        for coding in CODINGS {
            for y in (0..=255).step_by(5) {
                for u in (0..=255).step_by(15) {
                    for v in (0..=255).step_by(15) {
                        let planes = [vec![y; 15], vec![u; 6], vec![v; 6]];
                        let frame = planes.concat();
                        let rgb = to_rgb(&frame, size, coding);
                        assert_eq!(from_rgb(&rgb, size, coding), frame, "{coding:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn smooth_frames_come_back_within_a_code() {
        for (width, height) in [(32, 24), (33, 25), (1, 1), (2, 1), (1, 2), (7, 2)] {
            let size = size(width, height);
            let chroma = chroma_size(size);
            let plane = |size: Size, phase: usize| {
                let width = size.width_px;
                let wave = move |i: usize| {
                    let (x, y) = (i % width, i / width);
                    128.0 + 50.0 * (0.06 * x as f32 + 0.05 * y as f32 + phase as f32).sin()
                };
                (0..width * size.height_px).map(move |i| rounded(wave(i)))
            };
            let frame: Vec<u8> = plane(size, 0)
                .chain(plane(chroma, 1))
                .chain(plane(chroma, 2))
                .collect();
            for coding in CODINGS {
                let rgb = to_rgb(&frame, size, coding);
                let again = from_rgb(&rgb, size, coding);
                assert_eq!(again.len(), frame.len(), "bytes of {size}");
                let worst = again.iter().zip(&frame).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "{size}, {coding:?}: {worst:?}");
            }
        }
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
