//! Bytes of planes of f32.

use super::layer::{Bytes, Lanes, join_lanes};
use super::{BYTES_PER_LANE, ByteKernel, ByteScale, dispatch, reference};
use crate::Isa;
use crate::simd::ByteSimd;
use crate::strip::{STRIP_OVERSHOOT, Strip, StripFormat};
use crate::tile::{MAX_GROUP_PX, prefetch};

/// Rounds a strip of planes to bytes of the given scale.
///
/// # Shapes
/// - input: a strip of the scale's channels, [`StripFormat::Planes`]
/// - output: a strip of as many, of the scale's format and the same layout except for `rows_above` and `format`, whose
///   rows and columns the input holds
///
/// # Panics
/// If the shapes differ, or the input does not cover the output.
pub fn quantize_strip(isa: Isa, input: &Strip, scale: &ByteScale, output: &mut Strip) {
    assert_eq!(input.channels(), scale.channels(), "input channels");
    assert_eq!(output.channels(), scale.channels(), "output channels");
    input.check_format(&[StripFormat::Planes]);
    output.check_format(&[scale.format()]);
    let offset = output.offset_in(input, 0);
    let isa = isa.with_one_rounding();
    if isa == Isa::REFERENCE {
        return reference::quantize(input, offset, scale, output);
    }
    const { assert!(MAX_GROUP_PX <= STRIP_OVERSHOOT, "pixels read") }
    let (from_len, to_len, width_px) = (input.plane_len(), output.plane_len(), output.width_px());
    for y in output.inside() {
        let run = QuantizeRun {
            scale,
            from: input.at(y as isize + offset.rows, offset.px),
            from_len,
            to: output.lanes_mut(y),
            to_len,
            len_px: width_px,
        };
        dispatch(isa, run);
    }
    output.clear_border();
}

/// A run of pixels. Both sides have the scale's channels, and `len_px` pixels rounded up to a group in each plane: strips of
/// the same width do.
pub(super) struct QuantizeRun<'a> {
    pub(super) scale: &'a ByteScale,
    pub(super) from: *const f32,
    pub(super) from_len: usize,
    pub(super) to: *mut f32,
    pub(super) to_len: usize,
    pub(super) len_px: usize,
}

impl ByteKernel for QuantizeRun<'_> {
    type Output = ();

    #[inline(always)]
    fn vectorized<S: ByteSimd>(self, simd: S) {
        let Self {
            scale,
            from,
            from_len,
            to,
            to_len,
            len_px,
        } = self;
        // SAFETY: see the type.
        unsafe { quantize::<S, Bytes>(simd, scale, (from, from_len), (to, to_len), len_px) }
    }
}

/// Rounds `len_px` pixels of planes that lie `from_len` floats apart to lanes of bytes, whose planes lie `to_len` lanes
/// apart.
///
/// # Safety
/// `len_px` pixels rounded up to a group can be read from each channel of the scale, and written to each plane of lanes.
#[inline(always)]
pub(super) unsafe fn quantize<S: ByteSimd, L: Lanes>(
    simd: S,
    scale: &ByteScale,
    (from, from_len): (*const f32, usize),
    (to, to_len): (*mut f32, usize),
    len_px: usize,
) {
    let zero = simd.splat(scale.zero());
    let inverse = scale.inverse_steps();
    prefetch(
        simd,
        from.wrapping_add(len_px),
        from_len,
        inverse.len(),
        len_px,
    );
    for (lane, inverse) in inverse.chunks(BYTES_PER_LANE).enumerate() {
        for pixel in (0..len_px).step_by(S::LANES) {
            let mut values = [zero; BYTES_PER_LANE];
            for (c, inverse) in inverse.iter().enumerate() {
                // SAFETY: the caller promises this vector of the channel.
                let value =
                    unsafe { simd.load(from.add((lane * BYTES_PER_LANE + c) * from_len + pixel)) };
                values[c] = simd.limit_byte(simd.mul_add(value, simd.splat(*inverse), zero));
            }
            let bytes = join_lanes::<S, L>(simd, values);
            // SAFETY: the caller promises these vectors.
            unsafe { simd.store(to.add(lane * to_len + pixel), bytes) }
        }
    }
}
