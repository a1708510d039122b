//! A short description of what an image looks like, which survives resizing, blur and
//! compression: which of neighbouring cells of a coarse grid is brighter (difference hash, Krawetz
//! 2013), along rows and columns.

/// Cells on a side: 8 differences in each direction.
const CELLS: usize = 9;
/// Least range of the cells' mean brightness, 0..255. Flatter images all look alike.
const LEAST_RANGE: f64 = 4.0;

/// 128 bits; images that look alike differ in few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PerceptualHash(u128);

impl PerceptualHash {
    /// The hash of an R G B image, 0..255, row-major; none if it is too flat or too small.
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
        Self::of_cells(&cells)
    }

    fn of_cells(cells: &[[f64; CELLS]; CELLS]) -> Option<Self> {
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for &cell in cells.as_flattened() {
            least = if cell < least { cell } else { least };
            most = if cell > most { cell } else { most };
        }
        if most - least < LEAST_RANGE {
            return None;
        }
        let mut bits = 0;
        for i in 0..CELLS - 1 {
            let mut of_row = 0_u16;
            for j in 0..CELLS - 1 {
                of_row = of_row << 1 | u16::from(cells[i][j + 1] > cells[i][j]);
                of_row = of_row << 1 | u16::from(cells[j + 1][i] > cells[j][i]);
            }
            bits = bits << 16 | u128::from(of_row);
        }
        Some(Self(bits))
    }

    /// Number of bits that differ: 0 for the same image, around 64 for unrelated ones.
    pub(crate) fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }

    /// Its first and its second 64 bits.
    pub(crate) fn halves(self) -> [u64; 2] {
        [(self.0 >> 64) as u64, self.0 as u64]
    }

    /// The hash of two halves.
    pub(crate) fn of_halves([first, second]: [u64; 2]) -> Self {
        Self(u128::from(first) << 64 | u128::from(second))
    }

    /// The distance to each of many hashes, given by their halves. The loop becomes vectors.
    pub(crate) fn distances(self, [first, second]: [&[u64]; 2], to: &mut [u64]) {
        let halves = self.halves();
        for (to, (first, second)) in to.iter_mut().zip(first.iter().zip(second)) {
            let bits = (first ^ halves[0]).count_ones() + (second ^ halves[1]).count_ones();
            *to = u64::from(bits);
        }
    }

    /// The bits as 32 hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// Parses [`to_hex`](Self::to_hex).
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let bits = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 32).then_some(Self(bits))
    }
}

/// A part of an image; position and size as shares of the image's width and height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// Sums over the brightness of an image, from which the hash of any window is computed in constant
/// time. The image is reduced to at most [`LONGEST_PX`] first.
pub(crate) struct Brightness {
    width_px: usize,
    height_px: usize,
    /// `(height_px + 1) x (width_px + 1)`: sums over everything above and to the left.
    sums: Vec<f64>,
}

/// With this, cells of the smallest windows are still 4 pixels wide.
const LONGEST_PX: usize = 384;
/// Least difference of two cells, 0..255, that noise and compression do not reverse.
const CLEAR: f64 = 2.0;
/// Least share of clear differences in a distinct window.
const DISTINCT_SHARE: f64 = 0.75;

impl Brightness {
    /// The sums of an R G B image, 0..255, row-major.
    pub(crate) fn of(rgb: &[u8], width_px: usize, height_px: usize) -> Self {
        assert_eq!(
            rgb.len(),
            3 * width_px * height_px,
            "samples of {width_px} x {height_px} RGB"
        );
        let reduced = |px: usize| {
            let longest = width_px.max(height_px).max(LONGEST_PX);
            (px * LONGEST_PX / longest).clamp(1, px)
        };
        let (width, height) = (reduced(width_px), reduced(height_px));
        let mut cells = vec![(0.0, 0u32); width * height];
        for (y, row) in rgb.chunks_exact(3 * width_px).enumerate() {
            let row_of_cells = y * height / height_px * width;
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
                let cell = &mut cells[row_of_cells + x * width / width_px];
                cell.0 += 0.299 * r + 0.587 * g + 0.114 * b;
                cell.1 += 1;
            }
        }
        let stride = width + 1;
        let mut sums = vec![0.0; stride * (height + 1)];
        for y in 0..height {
            let mut row = 0.0;
            for x in 0..width {
                let (sum, count) = cells[y * width + x];
                row += sum / f64::from(count);
                sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1] + row;
            }
        }
        Self {
            width_px: width,
            height_px: height,
            sums,
        }
    }

    /// The hash of a window; none if it is too flat or too small.
    pub(crate) fn hash(&self, window: Window) -> Option<PerceptualHash> {
        PerceptualHash::of_cells(&self.cells(window)?)
    }

    /// The hash of a distinct window; none if less than [`DISTINCT_SHARE`] of the differences between
    /// its cells are clear, or most differences in a direction have the same sign.
    pub(crate) fn distinct_hash(&self, window: Window) -> Option<PerceptualHash> {
        let cells = self.cells(window)?;
        let mut clear = 0;
        let mut rising = [0; 2];
        for i in 0..CELLS - 1 {
            for j in 0..CELLS - 1 {
                for (direction, next) in [cells[i][j + 1], cells[j + 1][i]].into_iter().enumerate()
                {
                    let here = if direction == 0 {
                        cells[i][j]
                    } else {
                        cells[j][i]
                    };
                    clear += usize::from((next - here).abs() >= CLEAR);
                    rising[direction] += usize::from(next > here);
                }
            }
        }
        let all = (CELLS - 1) * (CELLS - 1);
        let mixed = |rising: usize| (all / 4..=3 * all / 4).contains(&rising);
        if (clear as f64) < DISTINCT_SHARE * (2 * all) as f64 || !rising.into_iter().all(mixed) {
            return None;
        }
        PerceptualHash::of_cells(&cells)
    }

    /// Mean brightness of a window's cells.
    fn cells(&self, window: Window) -> Option<[[f64; CELLS]; CELLS]> {
        let edges = |start: f64, side: f64, px: usize| {
            let px = px as f64;
            let mut edges = [0; CELLS + 1];
            for (i, edge) in edges.iter_mut().enumerate() {
                let place = (start + side * i as f64 / CELLS as f64) * px;
                *edge = place.round().clamp(0.0, px) as usize;
            }
            edges
        };
        let xs = edges(window.x, window.width, self.width_px);
        let ys = edges(window.y, window.height, self.height_px);
        let grows = |edges: &[usize]| edges.windows(2).all(|pair| pair[0] < pair[1]);
        if !grows(&xs) || !grows(&ys) {
            return None;
        }
        // Plain loops: this is most of a search for kept-out images.
        let mut at = [[0.0; CELLS + 1]; CELLS + 1];
        for i in 0..=CELLS {
            let sums = &self.sums[ys[i] * (self.width_px + 1)..][..=self.width_px];
            for j in 0..=CELLS {
                at[i][j] = sums[xs[j]];
            }
        }
        let mut cells = [[0.0; CELLS]; CELLS];
        for i in 0..CELLS {
            for j in 0..CELLS {
                let sum = at[i + 1][j + 1] - at[i][j + 1] - at[i + 1][j] + at[i][j];
                cells[i][j] = sum / ((ys[i + 1] - ys[i]) * (xs[j + 1] - xs[j])) as f64;
            }
        }
        Some(cells)
    }
}
