//! What a convolution does with its sums.

use crate::simd::Simd;
use crate::tile::{MAX_GROUP_PX, Sums};

/// What happens to a sum before it is stored. `Maps` are the feature maps that the convolution
/// works on, [`Planes`](crate::Planes) or [`Strip`](crate::Strip)s; those given here have the
/// shape of its output.
pub enum Epilogue<'a, Maps> {
    /// `output = sum`
    Store,
    /// `output = max(sum, 0)`
    Relu,
    /// `output = max(sum, 0) + slope * min(sum, 0)`, with a slope for each channel of the output
    /// (PReLU, He et al. 2015).
    PRelu(&'a [f32]),
    /// `output = sum + term`
    Add(&'a Maps),
    /// `PRelu` of `sum + term`.
    AddPRelu(&'a Maps, &'a [f32]),
    /// `output += sum`
    Accumulate,
    /// `output = sum` where the given maps are positive, else 0: the gradient through a ReLU
    /// whose result is given.
    WherePositive(&'a Maps),
}

impl<Maps> Clone for Epilogue<'_, Maps> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Maps> Copy for Epilogue<'_, Maps> {}

impl<'a, Maps> Epilogue<'a, Maps> {
    /// The other maps that it reads.
    pub(crate) fn maps(self) -> Option<&'a Maps> {
        match self {
            Self::Add(maps) | Self::AddPRelu(maps, _) | Self::WherePositive(maps) => Some(maps),
            _ => None,
        }
    }

    /// Asserts that there is a slope for each channel of the output.
    pub(crate) fn check(self, channels: usize) {
        if let Self::PRelu(slopes) | Self::AddPRelu(_, slopes) = self {
            assert_eq!(slopes.len(), channels, "slopes, output channels");
        }
    }

    /// The epilogue for a place of the output, given the address of that place in its maps.
    pub(crate) fn at(self, address: impl FnOnce(&Maps) -> *const f32) -> TileEpilogue {
        match self {
            Self::Store => TileEpilogue::Store,
            Self::Relu => TileEpilogue::Relu,
            Self::PRelu(slopes) => TileEpilogue::PRelu(slopes.as_ptr()),
            Self::Add(term) => TileEpilogue::Add(address(term)),
            Self::AddPRelu(term, slopes) => TileEpilogue::AddPRelu(address(term), slopes.as_ptr()),
            Self::Accumulate => TileEpilogue::Accumulate,
            Self::WherePositive(gate) => TileEpilogue::WherePositive(address(gate)),
        }
    }

    /// One value of a channel, for the plain loops.
    pub(crate) fn apply(
        self,
        channel: usize,
        sum: f32,
        before: f32,
        other: impl FnOnce(&Maps) -> f32,
    ) -> f32 {
        let prelu = |slopes: &[f32], sum: f32| slopes[channel].mul_add(sum.min(0.0), sum.max(0.0));
        match self {
            Self::Store => sum,
            Self::Relu => sum.max(0.0),
            Self::PRelu(slopes) => prelu(slopes, sum),
            Self::Add(term) => sum + other(term),
            Self::AddPRelu(term, slopes) => prelu(slopes, sum + other(term)),
            Self::Accumulate => before + sum,
            Self::WherePositive(gate) if other(gate) > 0.0 => sum,
            Self::WherePositive(_) => 0.0,
        }
    }
}

/// Where a tile of sums is stored: channels lie `plane_len` floats apart, and a tile `at` floats behind
/// `to` starts in the channel `at / plane_len`.
#[derive(Clone, Copy)]
pub(crate) struct TileOutput {
    pub(crate) to: *mut f32,
    pub(crate) plane_len: usize,
    pub(crate) epilogue: TileEpilogue,
}

/// An [`Epilogue`] with its maps as an address: the place there of `TileOutput::to`.
#[derive(Clone, Copy)]
pub(crate) enum TileEpilogue {
    Store,
    Relu,
    /// A slope for each channel.
    PRelu(*const f32),
    Add(*const f32),
    /// The term, and a slope for each channel.
    AddPRelu(*const f32, *const f32),
    Accumulate,
    WherePositive(*const f32),
}

impl TileOutput {
    /// The output some pixels to the right.
    pub(crate) fn skip(self, pixels: usize) -> Self {
        let epilogue = match self.epilogue {
            TileEpilogue::Add(term) => TileEpilogue::Add(term.wrapping_add(pixels)),
            TileEpilogue::AddPRelu(term, slopes) => {
                TileEpilogue::AddPRelu(term.wrapping_add(pixels), slopes)
            }
            TileEpilogue::WherePositive(gate) => {
                TileEpilogue::WherePositive(gate.wrapping_add(pixels))
            }
            other => other,
        };
        Self {
            to: self.to.wrapping_add(pixels),
            epilogue,
            ..self
        }
    }

    /// Stores a tile of sums `at` floats behind `to`.
    ///
    /// # Safety
    /// The tile's `N` channels of `V` vectors can be written there, and read at the same place of
    /// the epilogue's maps. The epilogue has a slope for each of these channels.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd, const N: usize, const V: usize>(
        self,
        simd: S,
        sums: Sums<S, N, V>,
        at: usize,
    ) {
        for o in 0..N {
            for v in 0..V {
                let at = at + o * self.plane_len + v * S::LANES;
                // SAFETY: the caller promises this vector of the tile in the output and the maps, and
                // the slope of its channel.
                unsafe { simd.store(self.to.add(at), self.value(simd, sums[o][v], at)) }
            }
        }
    }

    /// Stores the first `len` pixels of a tile alone, at most [`MAX_GROUP_PX`].
    ///
    /// # Safety
    /// `len` pixels of `N` channels can be written `at` floats behind `to`. The whole tile can be
    /// read there and at the same place of the epilogue's maps. The epilogue has a slope for each of
    /// these channels.
    #[inline(always)]
    pub(crate) unsafe fn store_first<S: Simd, const N: usize, const V: usize>(
        self,
        simd: S,
        sums: Sums<S, N, V>,
        at: usize,
        len: usize,
    ) {
        let mut pixels = [0.0; MAX_GROUP_PX];
        for o in 0..N {
            let at = at + o * self.plane_len;
            // SAFETY: `V` vectors fit into `pixels` (`group_px` asserts it); the caller promises
            // the tile to read, its slopes, and `len` pixels to write.
            unsafe {
                for v in 0..V {
                    let value = self.value(simd, sums[o][v], at + v * S::LANES);
                    simd.store(pixels.as_mut_ptr().add(v * S::LANES), value);
                }
                std::ptr::copy_nonoverlapping(pixels.as_ptr(), self.to.add(at), len);
            }
        }
    }

    /// # Safety
    /// A vector can be read `at` floats behind `to` and at the same place of the epilogue's maps, which
    /// has a slope for the channel there.
    #[inline(always)]
    unsafe fn value<S: Simd>(self, simd: S, sum: S::V, at: usize) -> S::V {
        // SAFETY: the caller promises a readable vector at this place of the output and the maps, and
        // the channel's slope.
        unsafe {
            match self.epilogue {
                TileEpilogue::Store => sum,
                TileEpilogue::Relu => simd.relu(sum),
                TileEpilogue::PRelu(slopes) => prelu(simd, sum, *slopes.add(at / self.plane_len)),
                TileEpilogue::Add(term) => simd.add(simd.load(term.add(at)), sum),
                TileEpilogue::AddPRelu(term, slopes) => {
                    let sum = simd.add(simd.load(term.add(at)), sum);
                    prelu(simd, sum, *slopes.add(at / self.plane_len))
                }
                TileEpilogue::Accumulate => simd.add(simd.load(self.to.add(at)), sum),
                TileEpilogue::WherePositive(gate) => {
                    simd.where_positive(simd.load(gate.add(at)), sum)
                }
            }
        }
    }
}

/// max(sum, 0) + slope * min(sum, 0)
#[inline(always)]
fn prelu<S: Simd>(simd: S, sum: S::V, slope: f32) -> S::V {
    let positive = simd.relu(sum);
    simd.mul_add(simd.splat(slope), simd.sub(sum, positive), positive)
}
