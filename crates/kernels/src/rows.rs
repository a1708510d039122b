//! Rows of pixels in the lanes of vectors: as they lie in feature maps, packed in the lanes of a
//! [`Format`], and transposed.
//!
//! A lane holds one f32 or two bf16. Convolutions sum over channels, so their lanes hold channels
//! of a pixel ([`Rows::pack_channels`], [`store_channels`]). Gradients by weights sum over pixels,
//! so their lanes hold neighbouring pixels of a channel ([`pack_pixels`]).

use crate::precision::Format;
use crate::simd::Simd;
use crate::tile::{Sums, group_px};

/// Rows of pixels in each of some planes. A plane is a channel, or the channels of a lane.
#[derive(Clone, Copy)]
pub(crate) struct Rows<const ROWS: usize> {
    /// The first pixel of each row, in the first plane.
    pub(crate) rows: [*const f32; ROWS],
    /// Floats from a plane to the next.
    pub(crate) plane_len: usize,
    pub(crate) planes: usize,
}

impl<const ROWS: usize> Rows<ROWS> {
    /// The rows some pixels to the right.
    #[inline(always)]
    pub(crate) fn skip(self, pixels: usize) -> Self {
        let mut rows = self.rows;
        for row in &mut rows {
            *row = row.wrapping_add(pixels);
        }
        Self { rows, ..self }
    }
}

/// Channels as rows: `len` rows of `columns` lanes, a multiple of [`group_px`], zero where no
/// channel is.
#[derive(Clone, Copy)]
pub(crate) struct Transposed {
    pub(crate) start: *const f32,
    pub(crate) columns: usize,
    pub(crate) len: usize,
}

/// [`Transposed::columns`] for so many channels: whole groups.
pub(crate) fn transposed_columns<S: Simd>(channels: usize) -> usize {
    channels.next_multiple_of(group_px::<S>())
}

impl Rows<1> {
    /// The row with the channels of each pixel packed in lanes of the format `F`: the row itself
    /// if a lane holds one float, else a copy in `packed`, whose planes are `packed_len` floats
    /// long.
    ///
    /// # Safety
    /// `len` pixels rounded up to a group can be read from each plane, and `packed_len` is at least
    /// as much. `packed` holds `[planes][packed_len]`.
    #[inline(always)]
    pub(crate) unsafe fn pack_channels<S: Simd, F: Format<S>>(
        self,
        simd: S,
        len: usize,
        packed: *mut f32,
        packed_len: usize,
    ) -> Self {
        if F::PER_LANE == 1 {
            return self;
        }
        let [row] = self.rows;
        for (plane, channel) in (0..self.planes).step_by(F::PER_LANE).enumerate() {
            for pixel in (0..len.next_multiple_of(group_px::<S>())).step_by(S::LANES) {
                // SAFETY: `pixel` lies below `len` rounded up to a group; the caller promises so
                // many pixels of each channel to read and of each plane to write.
                unsafe {
                    let from = row.add(channel * self.plane_len + pixel);
                    let second = if channel + 1 < self.planes {
                        simd.load(from.add(self.plane_len))
                    } else {
                        simd.splat(0.0)
                    };
                    let value = F::join(simd, simd.load(from), second);
                    simd.store(packed.add(plane * packed_len + pixel), value);
                }
            }
        }
        Self {
            rows: [packed],
            plane_len: packed_len,
            planes: self.planes.div_ceil(F::PER_LANE),
        }
    }

    /// Transposes `len` pixels in lanes of the format `F`: a row for each lane of pixels.
    ///
    /// # Safety
    /// `len` pixels rounded up to a group can be read from each plane. `packed` holds
    /// `[planes][packed_len]`, where `packed_len` lanes hold `len` pixels rounded up to a group.
    /// `to` holds as many rows of `columns` as there are lanes, rounded up to 8. `columns` is a multiple of [`group_px`] that
    /// holds the channels.
    #[inline(always)]
    pub(crate) unsafe fn transpose<S: Simd, F: Format<S>>(
        self,
        simd: S,
        len: usize,
        (packed, packed_len): (*mut f32, usize),
        to: (*mut f32, usize),
    ) -> Transposed {
        if F::PER_LANE == 1 {
            // SAFETY: a group is a multiple of 8 pixels; the caller promises the pixels to read and
            // the rows to write.
            return unsafe { self.transpose_lanes(simd, len, to) };
        }
        let [row] = self.rows;
        for channel in 0..self.planes {
            // SAFETY: the caller promises the pixels of each channel, and `packed_len` lanes of
            // `packed` for each.
            unsafe {
                let from = row.add(channel * self.plane_len);
                pack_pixels::<S, F>(simd, from, len, packed.add(channel * packed_len));
            }
        }
        let packed = Self {
            rows: [packed],
            plane_len: packed_len,
            planes: self.planes,
        };
        // SAFETY: the lanes of `len` pixels, rounded up to 8, lie below `packed_len`, which holds a
        // group; the caller promises the rows to write.
        unsafe { packed.transpose_lanes(simd, len.div_ceil(F::PER_LANE), to) }
    }

    /// Transposes `len` lanes.
    ///
    /// # Safety
    /// `len` lanes rounded up to 8 can be read from each plane, and so many rows of `columns` be written to `to`. `columns` is a
    /// multiple of [`group_px`] that holds the channels.
    #[inline(always)]
    pub(crate) unsafe fn transpose_lanes<S: Simd>(
        self,
        simd: S,
        len: usize,
        (to, columns): (*mut f32, usize),
    ) -> Transposed {
        let (channels, plane_len, [row]) = (self.planes, self.plane_len, self.rows);
        debug_assert!(
            channels <= columns,
            "{channels} channels in {columns} columns"
        );
        // SAFETY: pixels lie below `len` rounded up to 8, channels below `planes` in what is read
        // and below `columns` in what is written: the caller's promises.
        unsafe {
            for pixel in (0..len).step_by(8) {
                for first in (0..channels).step_by(8) {
                    let block = to.add(pixel * columns + first);
                    if first + 8 <= channels {
                        let from = row.add(first * plane_len + pixel);
                        simd.transpose_8x8(from, plane_len, block, columns);
                    } else {
                        for channel in first..channels {
                            for p in 0..8 {
                                let value = *row.add(channel * plane_len + pixel + p);
                                *to.add((pixel + p) * columns + channel) = value;
                            }
                        }
                    }
                }
                for p in 0..8 {
                    for channel in channels..columns {
                        *to.add((pixel + p) * columns + channel) = 0.0;
                    }
                }
            }
        }
        Transposed {
            start: to,
            columns,
            len,
        }
    }
}

/// Packs `len` pixels of a channel in lanes of the format `F`. `to` may be `from`.
///
/// # Safety
/// `len` pixels rounded up to a group can be read, and as many lanes be written as hold them.
#[inline(always)]
pub(crate) unsafe fn pack_pixels<S: Simd, F: Format<S>>(
    simd: S,
    from: *const f32,
    len: usize,
    to: *mut f32,
) {
    for pixel in (0..len).step_by(group_px::<S>()) {
        // SAFETY: the caller promises this group of pixels to read and its lanes to write. In
        // place, it is read before it is written, and no later group lies there.
        unsafe {
            let from = from.add(pixel);
            let pixels = [simd.load(from), simd.load(from.add(S::LANES))];
            F::store_pixels(simd, to.add(pixel / F::PER_LANE), pixels);
        }
    }
}

/// Stores a tile with the channels of each pixel packed in lanes of the format `F`.
///
/// # Safety
/// `N / PER_LANE` planes, rounded up, of `V` vectors can be written, `plane_len` floats apart.
#[inline(always)]
pub(crate) unsafe fn store_channels<S: Simd, F: Format<S>, const N: usize, const V: usize>(
    simd: S,
    tile: Sums<S, N, V>,
    to: *mut f32,
    plane_len: usize,
) {
    for o in (0..N).step_by(F::PER_LANE) {
        // A tile has whole lanes, so this is the lane's last channel; `min` shows the compiler that
        // it is below `N`.
        let last = usize::min(o + F::PER_LANE, N) - 1;
        for v in 0..V {
            let lane = F::join(simd, tile[o][v], tile[last][v]);
            // SAFETY: the caller promises `V` vectors in each plane of lanes.
            unsafe { simd.store(to.add(o / F::PER_LANE * plane_len + v * S::LANES), lane) }
        }
    }
}
