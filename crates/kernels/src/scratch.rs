//! Memory for intermediate results.

use crate::aligned::{AlignedBuffer, LINE};

/// Memory for a kernel's intermediate results. One per thread, reused by all kernels.
#[derive(Default)]
pub struct Scratch {
    buffer: AlignedBuffer,
}

impl Scratch {
    /// At least `len` floats of any content.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        self.buffer.grow(len);
        self.buffer.as_mut_slice()
    }

    /// Arrays of the given shapes `[rows, columns]` with any content, each on cache lines of its
    /// own.
    ///
    /// # Panics
    /// If the sizes exceed the address space.
    pub(crate) fn arrays<const N: usize>(&mut self, shapes: [[usize; 2]; N]) -> [&mut [f32]; N] {
        let whole_lines = |[rows, columns]: [usize; 2]| {
            rows.checked_mul(columns)
                .and_then(|len| len.checked_next_multiple_of(LINE))
        };
        let total = shapes.iter().try_fold(0_usize, |total, shape| {
            total.checked_add(whole_lines(*shape)?)
        });
        let total = total.unwrap_or_else(|| panic!("scratch arrays of {shapes:?} are too large"));
        let mut rest = self.floats(total);
        shapes.map(|[rows, columns]| {
            let len = rows * columns;
            let (array, left) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
            rest = left;
            &mut array[..len]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn arrays_are_disjoint_and_on_cache_lines() {
        let mut scratch = Scratch::default();
        let arrays = scratch.arrays([[3, 5], [0, 7], [1, 16], [2, 20]]);
        assert_eq!(arrays.each_ref().map(|array| array.len()), [15, 0, 16, 40]);
        for array in &arrays {
            assert!(array.as_ptr().addr().is_multiple_of(64), "{array:?}");
        }
        let [first, _, third, last] = arrays;
        first.fill(1.0);
        third.fill(2.0);
        last.fill(3.0);
        let sum = first
            .iter()
            .chain(third.iter())
            .chain(last.iter())
            .sum::<f32>();
        assert_eq!(sum, 15.0 + 32.0 + 120.0);
    }

    #[test]
    #[should_panic(expected = "are too large")]
    fn sizes_that_overflow_panic() {
        Scratch::default().arrays([[usize::MAX, 2]]);
    }
}
