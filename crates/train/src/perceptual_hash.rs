//! A short description of what a picture looks like, which survives resizing, blur and
//! compression: which of neighbouring cells of a coarse grid is brighter (difference hash, Krawetz
//! 2013), along rows and columns.

/// Cells on a side: 8 differences in each direction.
const CELLS: usize = 9;
/// Least range of the cells' mean brightness, 0..255. A picture flatter than this looks like every
/// other such picture.
const LEAST_RANGE: f64 = 4.0;

/// 128 bits; pictures that look alike differ in few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PerceptualHash(u128);

impl PerceptualHash {
    /// Of an R G B picture, 0..255, row-major; none for a picture too flat or small to tell.
    pub(crate) fn of(rgb: &[u8], width_px: usize, height_px: usize) -> Option<Self> {
        assert_eq!(
            rgb.len(),
            3 * width_px * height_px,
            "samples of {width_px} x {height_px} RGB"
        );
        if width_px.min(height_px) < CELLS {
            return None;
        }
        let mut cells = [[0.0; CELLS]; CELLS];
        for (y, row) in rgb.chunks_exact(3 * width_px).enumerate() {
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
                cells[y * CELLS / height_px][x * CELLS / width_px] +=
                    0.299 * r + 0.587 * g + 0.114 * b;
            }
        }
        // Cells differ in size by up to one row and column.
        let extent =
            |i: usize, px: usize| ((i + 1) * px).div_ceil(CELLS) - (i * px).div_ceil(CELLS);
        for (y, row) in cells.iter_mut().enumerate() {
            for (x, cell) in row.iter_mut().enumerate() {
                *cell /= (extent(y, height_px) * extent(x, width_px)) as f64;
            }
        }
        let all = || cells.iter().flatten().copied();
        let range = all().fold(f64::MIN, f64::max) - all().fold(f64::MAX, f64::min);
        if range < LEAST_RANGE {
            return None;
        }
        let mut bits = 0;
        for i in 0..CELLS - 1 {
            for j in 0..CELLS - 1 {
                for brighter in [cells[i][j + 1] > cells[i][j], cells[j + 1][i] > cells[j][i]] {
                    bits = bits << 1 | u128::from(brighter);
                }
            }
        }
        Some(Self(bits))
    }

    /// Bits in which two differ: 0 for the same picture, around 64 for unrelated ones.
    pub(crate) fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}
