//! What a convolution does with its sums.

use crate::simd::Simd;
use crate::tile::{LONGEST_GROUP_PX, Sums};

/// What happens to a sum before it is stored. `Maps` are the feature maps that the convolution
/// works on, [`Planes`](crate::Planes) or [`Strip`](crate::Strip)s; those given here have the
/// shape of its output.
pub enum Epilogue<'a, Maps> {
    /// `output = sum`
    Store,
    /// `output = max(sum, 0)`
    Relu,
    /// `output = sum + term`
    Add(&'a Maps),
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
            Self::Add(maps) | Self::WherePositive(maps) => Some(maps),
            _ => None,
        }
    }

    /// The epilogue with its maps reduced to a pointer: the place in them of a place in the output.
    pub(crate) fn at(self, place: impl FnOnce(&Maps) -> *const f32) -> Finish {
        match self {
            Self::Store => Finish::Store,
            Self::Relu => Finish::Relu,
            Self::Add(term) => Finish::Add(place(term)),
            Self::Accumulate => Finish::Accumulate,
            Self::WherePositive(gate) => Finish::WherePositive(place(gate)),
        }
    }

    /// One value, for the plain loops.
    pub(crate) fn apply(self, sum: f32, before: f32, other: impl FnOnce(&Maps) -> f32) -> f32 {
        match self {
            Self::Store => sum,
            Self::Relu => sum.max(0.0),
            Self::Add(term) => sum + other(term),
            Self::Accumulate => before + sum,
            Self::WherePositive(gate) if other(gate) > 0.0 => sum,
            Self::WherePositive(_) => 0.0,
        }
    }
}

/// An [`Epilogue`] at one place.
#[derive(Clone, Copy)]
pub(crate) enum Finish {
    Store,
    Relu,
    Add(*const f32),
    Accumulate,
    WherePositive(*const f32),
}

impl Finish {
    /// The same some pixels further on.
    pub(crate) fn skip(self, pixels: usize) -> Self {
        match self {
            Self::Add(term) => Self::Add(term.wrapping_add(pixels)),
            Self::WherePositive(gate) => Self::WherePositive(gate.wrapping_add(pixels)),
            other => other,
        }
    }

    /// Stores a tile of sums `at` floats behind `to`, its channels `plane_len` floats apart.
    ///
    /// # Safety
    /// As for [`Simd`]; the tile can be written there, and read at the same place of the other
    /// maps.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd, const N: usize, const V: usize>(
        self,
        sums: Sums<S, N, V>,
        to: *mut f32,
        at: usize,
        plane_len: usize,
    ) {
        for o in 0..N {
            for v in 0..V {
                let at = at + o * plane_len + v * S::LANES;
                // SAFETY: the caller's promises.
                unsafe { S::store(to.add(at), self.value::<S>(sums[o][v], to, at)) }
            }
        }
    }

    /// [`Finish::store`] of the first `len` pixels of the tile alone.
    ///
    /// # Safety
    /// As for [`Finish::store`], but only `len` pixels need be writable.
    #[inline(always)]
    pub(crate) unsafe fn store_first<S: Simd, const N: usize, const V: usize>(
        self,
        sums: Sums<S, N, V>,
        to: *mut f32,
        at: usize,
        plane_len: usize,
        len: usize,
    ) {
        let mut pixels = [0.0; LONGEST_GROUP_PX];
        for o in 0..N {
            let at = at + o * plane_len;
            // SAFETY: the caller's promises; the group fits into `pixels`.
            unsafe {
                for v in 0..V {
                    let value = self.value::<S>(sums[o][v], to, at + v * S::LANES);
                    S::store(pixels.as_mut_ptr().add(v * S::LANES), value);
                }
                std::ptr::copy_nonoverlapping(pixels.as_ptr(), to.add(at), len);
            }
        }
    }

    /// # Safety
    /// As for [`Finish::store`].
    #[inline(always)]
    unsafe fn value<S: Simd>(self, sum: S::V, to: *mut f32, at: usize) -> S::V {
        // SAFETY: the caller's promises.
        unsafe {
            match self {
                Self::Store => sum,
                Self::Relu => S::relu(sum),
                Self::Add(term) => S::add(S::load(term.add(at)), sum),
                Self::Accumulate => S::add(S::load(to.add(at)), sum),
                Self::WherePositive(gate) => S::where_positive(S::load(gate.add(at)), sum),
            }
        }
    }
}
