//! Edges that continue at the opposite side of the image, as those of textures and panoramas.
//!
//! Each step (a pass of a network, a resizer, alpha) reads across such an edge, so that its result wraps too. A
//! network gets the image with a halo of its reach from the opposite sides, which is cut off the result:
//! every pixel of the result is computed as if the image were repeated without end.
//!
//! Kernels compute groups of four rows by Winograd's method, which rounds by the place in the group. So results of moved
//! images are the same bits if height and move are multiples of four rows (with self-ensemble also of four columns),
//! and else to the last bits of f32.

use wdsr_image::{Image, Samples};
use wdsr_model::{UpscaleError, Upscaler};

use crate::size::Size;

/// Which edges of an image continue at the opposite side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrap {
    /// None: an image that ends at its edges.
    #[default]
    None,
    /// The left and the right edge: a panorama of 360 degrees.
    X,
    /// All edges: a texture that is repeated along both axes.
    Xy,
}

impl Wrap {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::None, Self::X, Self::Xy];

    /// The name in arguments: `none`, `x`, `xy`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::X => "x",
            Self::Xy => "xy",
        }
    }

    /// Whether the left and right edge wrap, and whether the upper and lower edge do.
    pub(crate) fn axes(self) -> (bool, bool) {
        (self != Self::None, self == Self::Xy)
    }

    /// The halo of an image before a network.
    pub(crate) fn halo(self, network: &Upscaler) -> Halo {
        let (columns_px, rows_px) = network.halo_px();
        let (x, y) = self.axes();
        Halo {
            x_px: if x { columns_px } else { 0 },
            y_px: if y { rows_px } else { 0 },
        }
    }
}

/// The positions from `at - radius` to `at + radius` on an axis of `len`, in this order. Beyond an edge that
/// wraps they continue at the opposite one, beyond others there are none.
pub(crate) fn around(
    at: usize,
    radius: usize,
    len: usize,
    wraps: bool,
) -> impl Iterator<Item = usize> + Clone {
    let before = if wraps { radius } else { radius.min(at) };
    let after = if wraps {
        radius
    } else {
        radius.min(len - 1 - at)
    };
    // Not below 0.
    let first = at + before.next_multiple_of(len) - before;
    let mut next = first % len;
    (0..=before + after).map(move |_| {
        let position = next;
        next = if next + 1 == len { 0 } else { next + 1 };
        position
    })
}

/// Pixels from the opposite sides around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halo {
    pub(crate) x_px: usize,
    pub(crate) y_px: usize,
}

impl Halo {
    pub(crate) fn is_empty(self) -> bool {
        self.x_px == 0 && self.y_px == 0
    }

    /// The size of an image with the halo.
    pub(crate) fn around(self, size: Size) -> Size {
        Size {
            width_px: size.width_px + 2 * self.x_px,
            height_px: size.height_px + 2 * self.y_px,
        }
    }

    /// The image with the halo.
    pub(crate) fn added(self, image: &Image) -> Image {
        self.moved(image, self.around(Size::of(image)), -1)
    }

    /// The result of a network of that scale without the halo.
    pub(crate) fn removed(self, image: &Image, scale: usize) -> Image {
        let scaled = Self {
            x_px: self.x_px * scale,
            y_px: self.y_px * scale,
        };
        let size = Size {
            width_px: image.width_px - 2 * scaled.x_px,
            height_px: image.height_px - 2 * scaled.y_px,
        };
        scaled.moved(image, size, 1)
    }

    /// The part of an endlessly repeated image that begins `sign` halos beside its corner.
    fn moved(self, image: &Image, size: Size, sign: isize) -> Image {
        fn moved<T: Copy>(
            samples: &[T],
            channels: usize,
            from: Size,
            to: Size,
            corner: (isize, isize),
        ) -> Vec<T> {
            let mut moved = Vec::with_capacity(to.width_px * to.height_px * channels);
            for y in 0..to.height_px {
                let y = (y as isize + corner.1).rem_euclid(from.height_px as isize) as usize;
                let row = &samples[y * from.width_px * channels..][..from.width_px * channels];
                let mut x = corner.0.rem_euclid(from.width_px as isize) as usize;
                let mut left = to.width_px;
                while left > 0 {
                    let count = left.min(from.width_px - x);
                    moved.extend_from_slice(&row[x * channels..][..count * channels]);
                    left -= count;
                    x = 0;
                }
            }
            moved
        }
        let (from, channels) = (Size::of(image), image.colour.channels());
        let corner = (sign * self.x_px as isize, sign * self.y_px as isize);
        let samples = match &image.samples {
            Samples::U8(v) => Samples::U8(moved(v, channels, from, size, corner)),
            Samples::U16(v) => Samples::U16(moved(v, channels, from, size, corner)),
            Samples::F32(v) => Samples::F32(moved(v, channels, from, size, corner)),
        };
        Image {
            metadata: image.metadata.clone(),
            ..Image::new(size.width_px, size.height_px, image.colour, samples)
        }
    }

    /// An error of a network that got the image with the halo from row `first_row` on, with the position in the
    /// image of that size.
    pub(crate) fn explained(
        self,
        error: UpscaleError,
        first_row: usize,
        size: Size,
        scale: usize,
    ) -> UpscaleError {
        let moved =
            |at: usize, halo: usize, len: usize| (at + halo.next_multiple_of(len) - halo) % len;
        let (w, h) = (size.width_px, size.height_px);
        match error {
            UpscaleError::Input { value, x, y } => UpscaleError::Input {
                value,
                x: moved(x, self.x_px, w),
                y: moved(y + first_row, self.y_px, h),
            },
            UpscaleError::NotFinite { value, x, y } => UpscaleError::NotFinite {
                value,
                x: moved(x, self.x_px * scale, w * scale),
                y: moved(y + first_row * scale, self.y_px * scale, h * scale),
            },
            error => error,
        }
    }
}

/// Rows of an image as rows with a halo, for images that stream.
pub(crate) struct HaloRows<T> {
    pub(crate) halo: Halo,
    /// The first and the last rows of the image, as many as the halo has.
    pub(crate) first: Vec<T>,
    pub(crate) last: Vec<T>,
    /// The number of the next row, halo included.
    pub(crate) next: usize,
}

impl<T: Copy> HaloRows<T> {
    /// Fills a row of the image with its halo. `read` reads the next row of an image of `size` without it.
    pub(crate) fn read<E>(
        &mut self,
        row: &mut [T],
        size: Size,
        read: impl FnOnce(&mut [T]) -> Result<(), E>,
    ) -> Result<(), E> {
        let width_px = size.width_px;
        let channels = row.len() / (width_px + 2 * self.halo.x_px);
        let (left, len) = (self.halo.x_px * channels, width_px * channels);
        let middle = &mut row[left..][..len];
        let (y, top) = (self.next, self.halo.y_px);
        self.next += 1;
        match y.checked_sub(top) {
            None => middle.copy_from_slice(&self.last[y * len..][..len]),
            Some(y) if y < size.height_px => read(middle)?,
            Some(y) => {
                let at = (y - size.height_px) * len;
                middle.copy_from_slice(&self.first[at..][..len]);
            }
        }
        // From the middle outwards, as the halo may be wider than the image.
        for at in (0..left).rev() {
            row[at] = row[at + len];
        }
        for at in left + len..row.len() {
            row[at] = row[at - len];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wdsr_image::Colour;

    use super::*;

    #[test]
    fn positions_continue_at_the_opposite_edge() {
        let positions = |at, radius, len, wraps| around(at, radius, len, wraps).collect::<Vec<_>>();
        assert_eq!(positions(0, 1, 4, true), [3, 0, 1]);
        assert_eq!(positions(3, 1, 4, true), [2, 3, 0]);
        assert_eq!(positions(0, 1, 4, false), [0, 1]);
        assert_eq!(positions(3, 2, 4, false), [1, 2, 3]);
        assert_eq!(positions(0, 2, 1, true), [0; 5]);
        assert_eq!(positions(1, 3, 2, true), [0, 1, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_halo_repeats_the_image_and_is_removed() {
        let image = Image::new(3, 1, Colour::Grey, Samples::U8(vec![1, 2, 3]));
        let halo = Halo { x_px: 4, y_px: 1 };
        let with = halo.added(&image);
        let row = [3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1];
        assert_eq!(with.samples, Samples::U8([row; 3].concat()));
        assert_eq!(halo.removed(&with, 1), image);
        let mut rows = HaloRows {
            halo,
            first: vec![1_u8, 2, 3],
            last: vec![1, 2, 3],
            next: 0,
        };
        for _ in 0..3 {
            let mut read = [0; 11];
            let next = |row: &mut [u8]| -> Result<(), ()> {
                row.copy_from_slice(&[1, 2, 3]);
                Ok(())
            };
            rows.read(&mut read, Size::of(&image), next).expect("a row");
            assert_eq!(read, row);
        }
    }
}
