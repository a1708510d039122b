//! Layers of 8-bit weights, arranged for an instruction set.

use super::tiles::LayerTiles;
use super::{BYTES_PER_LANE, ByteKernel, dispatch};
use crate::Isa;
use crate::conv2d::MAX_KERNEL;
use crate::epilogue::TileOutput;
use crate::simd::{ByteProducts, ByteSimd};
use crate::strip::{Strip, StripFormat};
use crate::tile::{MAX_GROUP_PX, Sums, group_px, tiles, with_tile_size, with_tile_vectors};

/// A convolution of 8-bit weights.
#[derive(Clone, Copy)]
pub struct ByteLayer<'a> {
    /// Channels it reads.
    pub in_channels: usize,
    /// Channels it writes.
    pub out_channels: usize,
    /// Side of the kernel in pixels: 1, 3 or 5.
    pub kernel: usize,
    /// `[out_channels, in_channels, kernel, kernel]`, row-major
    pub weight: &'a [i8],
    /// The value of a unit of a sum: `[out_channels]`
    pub weight_steps: &'a [f32],
    /// `[out_channels]`
    pub bias: &'a [f32],
}

/// How the values of a map become bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteScale {
    inverse_steps: Vec<f32>,
    is_signed: bool,
}

impl ByteScale {
    /// Bytes of the given steps, one for each channel. If `is_signed`, a value of 0 is 128, else 0.
    ///
    /// # Panics
    /// If a step is not a positive normal number whose inverse is one too.
    pub fn new(steps: &[f32], is_signed: bool) -> Self {
        let inverse = |step: &f32| {
            let inverse = 1.0 / step;
            assert!(
                *step > 0.0 && step.is_normal() && inverse.is_normal(),
                "step of bytes {step}"
            );
            inverse
        };
        Self {
            inverse_steps: steps.iter().map(inverse).collect(),
            is_signed,
        }
    }

    /// The format of strips of such bytes.
    pub fn format(&self) -> StripFormat {
        match self.is_signed {
            true => StripFormat::SignedBytes,
            false => StripFormat::UnsignedBytes,
        }
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.inverse_steps.len()
    }

    /// The byte of 0.
    pub(super) fn zero(&self) -> f32 {
        if self.is_signed { 128.0 } else { 0.0 }
    }

    /// `[channels]`
    pub(super) fn inverse_steps(&self) -> &[f32] {
        &self.inverse_steps
    }
}

/// A layer, arranged for an instruction set.
#[derive(Clone)]
pub(super) struct PackedLayer {
    pub(super) isa: Isa,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) kernel: usize,
    /// The byte of 0 in the input.
    pub(super) input_zero: i32,
    /// `[out][in][tap]`
    pub(super) weight: Vec<i8>,
    /// Empty for the plain loops.
    packed: Vec<PackedTile>,
    /// What sums start at, in the bits of i32: `[out]`
    pub(super) start: Vec<f32>,
    /// A value is `sum * factor + term`: `[out]`
    pub(super) factor: Vec<f32>,
    pub(super) term: Vec<f32>,
    /// The format of the output if that is bytes.
    pub(super) output: Option<StripFormat>,
    tile_channels: usize,
    /// The weights for products of tiles, if the instruction set has them.
    pub(super) tiles: Option<Box<LayerTiles>>,
}

/// The weights of a tile of output channels: `[lanes][tap][out]` of each kind of lanes, one kind behind the other.
#[derive(Clone)]
struct PackedTile {
    first: usize,
    channels: usize,
    /// Lanes of the input that are multiplied in twos: `[2]` of four bytes.
    twos: Vec<[usize; 2]>,
    /// Lanes that are multiplied at once: four bytes.
    whole: Vec<usize>,
    /// Lanes that are multiplied in parts: `[2]` of two 16-bit integers.
    split: Vec<usize>,
    weights: Vec<f32>,
}

impl PackedLayer {
    /// The layer on bytes of the scale `input`. Its output is f32, or bytes of the scale `output`. `is_padded` says that there
    /// are planes of any content behind those of the input, as many as a tile has.
    ///
    /// # Panics
    /// If lengths differ, the kernel is not 1, 3 or 5, or a sum does not fit 31 bits.
    pub(super) fn new(
        isa: Isa,
        input: &ByteScale,
        layer: ByteLayer<'_>,
        output: Option<&ByteScale>,
        is_padded: bool,
    ) -> Self {
        let ByteLayer {
            in_channels,
            out_channels,
            kernel,
            weight,
            weight_steps,
            bias,
        } = layer;
        assert!(
            matches!(kernel, 1 | 3 | 5),
            "kernel {kernel}, expected 1, 3 or 5"
        );
        let taps = kernel * kernel;
        assert_eq!(
            weight.len(),
            out_channels * in_channels * taps,
            "weights of bytes"
        );
        assert_eq!(weight_steps.len(), out_channels, "steps of weights");
        assert_eq!(bias.len(), out_channels, "biases");
        assert_eq!(input.channels(), in_channels, "steps of the input");
        let (mut factor, mut term) = (weight_steps.to_vec(), bias.to_vec());
        if let Some(output) = output {
            assert_eq!(output.channels(), out_channels, "steps of the output");
            for (o, inverse) in output.inverse_steps.iter().enumerate() {
                factor[o] *= inverse;
                term[o] = term[o].mul_add(*inverse, output.zero());
            }
        }
        let largest_sum = in_channels as f32 * taps as f32 * LARGEST_PRODUCT;
        assert!(
            largest_sum < SUM_LIMIT,
            "sums of bytes of {in_channels} channels reach {largest_sum}, expected less than 2^31"
        );
        if output.is_some() {
            // With a factor as large as the limit nearly every byte is 0 or 255.
            for (factor, term) in factor.iter_mut().zip(&mut term) {
                *factor = factor.min(RESULT_LIMIT / largest_sum);
                *term = term.clamp(-RESULT_LIMIT, RESULT_LIMIT);
            }
        }
        let mut packed = Self {
            isa: isa.with_one_rounding(),
            in_channels,
            out_channels,
            kernel,
            input_zero: input.zero() as i32,
            weight: weight.to_vec(),
            packed: Vec::new(),
            start: Vec::new(),
            factor,
            term,
            output: output.map(ByteScale::format),
            tile_channels: 1,
            tiles: None,
        };
        if packed.isa != Isa::REFERENCE {
            packed.pack();
        }
        packed.tiles = LayerTiles::of(isa, &packed, is_padded).map(Box::new);
        packed
    }

    /// Arranges the weights for vectors.
    fn pack(&mut self) {
        let arrangement = dispatch(self.isa, ArrangementOf);
        self.tile_channels = arrangement.tile_channels;
        let taps = self.kernel * self.kernel;
        let start = self.weight.chunks_exact(self.in_channels * taps).map(|w| {
            let sum: i32 = w.iter().map(|w| i32::from(*w)).sum();
            f32::from_bits((sum * (arrangement.offset - self.input_zero)) as u32)
        });
        self.start = start.collect();
        let tiles = self.tiles();
        self.packed = tiles
            .map(|tile| self.packed_tile(arrangement.products, tile))
            .collect();
    }

    /// The weights of so many output channels from one on.
    fn packed_tile(&self, products: ByteProducts, (first, channels): (usize, usize)) -> PackedTile {
        let lane = |lane: usize| {
            let taps = 0..self.kernel * self.kernel;
            let places = taps.flat_map(move |tap| (first..first + channels).map(move |o| (o, tap)));
            places.map(move |(o, tap)| self.lane_of_weights(o, lane, tap))
        };
        let is_whole = |at: &usize| lane(*at).all(|weights| products.take_one(weights));
        let are_two =
            |a: usize, b: usize| lane(a).zip(lane(b)).all(|(a, b)| products.take_two([a, b]));
        let (whole, split): (Vec<_>, Vec<_>) = (0..self.in_lanes()).partition(is_whole);
        let (twos, whole) = matched(whole, are_two);
        let of_twos = twos.iter().flat_map(|[a, b]| {
            let both = lane(*a).zip(lane(*b));
            both.flat_map(|(a, b)| [a, b].map(lane_of_bytes))
        });
        let of_whole = whole.iter().flat_map(|at| lane(*at).map(lane_of_bytes));
        let of_split = split.iter().flat_map(|at| lane(*at));
        let of_split = of_split.flat_map(|[a, b, c, d]| {
            [[a, c], [b, d]].map(|words| lane_of_words(words.map(i16::from)))
        });
        let weights = of_twos.chain(of_whole).chain(of_split).collect();
        PackedTile {
            first,
            channels,
            twos,
            whole,
            split,
            weights,
        }
    }

    /// The weights of an output channel and a tap for a lane of the input.
    fn lane_of_weights(&self, o: usize, lane: usize, tap: usize) -> [i8; BYTES_PER_LANE] {
        let taps = self.kernel * self.kernel;
        std::array::from_fn(|c| match lane * BYTES_PER_LANE + c {
            i if i < self.in_channels => self.weight[(o * self.in_channels + i) * taps + tap],
            _ => 0,
        })
    }

    /// Tiles of output channels: (first channel, channels). If the output is bytes, each begins at a lane.
    pub(super) fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        self.tiles_of(self.out_channels)
    }

    /// Those of so many channels from one on that begins a lane.
    pub(super) fn tiles_of(&self, channels: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let unit = match self.output {
            Some(_) => BYTES_PER_LANE,
            None => 1,
        };
        let whole = channels.next_multiple_of(unit);
        tiles(whole, self.tile_channels, unit)
            .map(move |(first, count)| (first, count.min(channels - first)))
    }

    /// Lanes of the input.
    pub(super) fn in_lanes(&self) -> usize {
        self.in_channels.div_ceil(BYTES_PER_LANE)
    }

    /// The sums of `len` pixels, at most a segment, whose first taps lie at `input`, planes that are `plane_len` lanes
    /// long.
    ///
    /// # Safety
    /// `len` pixels rounded up to a group can be read behind each tap of each plane, written to each plane of the
    /// output, and read from the epilogue's maps. The output has the layer's format.
    #[inline(always)]
    pub(super) unsafe fn run<S: ByteSimd, I: Lanes, O: Lanes>(
        &self,
        simd: S,
        (input, plane_len): (*const f32, usize),
        taps: &[usize],
        output: TileOutput,
        len: usize,
    ) {
        for tile in &self.packed {
            let first = tile.first;
            let start = self.start[first..].as_ptr();
            with_tile_size!(S, tile.channels, N => {
                for pixel in (0..len).step_by(group_px::<S>()) {
                    with_tile_vectors!(S, len - pixel, V => {
                        // SAFETY: the tile lies below the output's channels, its pixels below `len` rounded up to a
                        // group: the caller's promises. The arrays hold the tile's channels.
                        unsafe {
                            let mut sums = [[simd.splat(0.0); V]; N];
                            for (o, sums) in sums.iter_mut().enumerate() {
                                *sums = [simd.splat(*start.add(o)); V];
                            }
                            let input = (input.add(pixel), plane_len);
                            let sums = accumulate::<S, I, N, V>(simd, input, taps, tile, sums);
                            self.store::<S, O, N, V>(simd, sums, output, first, pixel);
                        }
                    });
                }
            });
        }
    }

    /// Stores the sums of a tile, whose first channel is `first`, from `pixel` on.
    ///
    /// # Safety
    /// The tile lies below the output's channels; `V` vectors can be written to each plane of the output, and read from
    /// the epilogue's maps. The output has the layer's format.
    #[inline(always)]
    pub(super) unsafe fn store<S: ByteSimd, O: Lanes, const N: usize, const V: usize>(
        &self,
        simd: S,
        sums: Sums<S, N, V>,
        output: TileOutput,
        first: usize,
        pixel: usize,
    ) {
        let [factor, term] = [&self.factor, &self.term].map(|values| values[first..].as_ptr());
        let mut values = sums;
        // SAFETY: the arrays hold the tile's channels; the rest is the caller's promise.
        unsafe {
            for o in 0..N {
                let factor = simd.splat(*factor.add(o));
                let term = simd.splat(*term.add(o));
                for v in 0..V {
                    let sum = simd.to_f32(sums[o][v]);
                    values[o][v] = simd.mul_add(sum, factor, term);
                }
            }
            if self.output.is_none() {
                output.store(simd, values, first * output.plane_len + pixel);
            } else {
                let to = (output.to.add(pixel), output.plane_len);
                store_bytes::<S, O, N, V>(simd, values, to, first);
            }
        }
    }
}

/// Four 8-bit weights.
fn lane_of_bytes(weights: [i8; 4]) -> f32 {
    f32::from_bits(u32::from_le_bytes(weights.map(|w| w as u8)))
}

/// Twos of lanes that fit, searched for from the lane that fits the fewest others on, and the rest in order.
fn matched(lanes: Vec<usize>, fit: impl Fn(usize, usize) -> bool) -> (Vec<[usize; 2]>, Vec<usize>) {
    let all = 0..lanes.len();
    let fit = |a: usize, b: usize| a != b && fit(lanes[a], lanes[b]);
    let row = |a: usize| Vec::from_iter(all.clone().map(|b| fit(a, b)));
    let fits = Vec::from_iter(all.clone().map(row));
    let mut is_left = vec![true; lanes.len()];
    // Of those that `of` names and are left, the one that fits the fewest others.
    let fewest = |is_left: &[bool], of: &dyn Fn(usize) -> bool| {
        let others = |a: usize| all.clone().filter(|b| is_left[*b] && fits[a][*b]).count();
        let left = all.clone().filter(|a| is_left[*a] && of(*a));
        left.min_by_key(|a| others(*a))
    };
    let (mut twos, mut rest) = (Vec::new(), Vec::new());
    while let Some(first) = fewest(&is_left, &|_| true) {
        is_left[first] = false;
        match fewest(&is_left, &|other| fits[first][other]) {
            Some(second) => {
                is_left[second] = false;
                twos.push([lanes[first], lanes[second]]);
            }
            None => rest.push(lanes[first]),
        }
    }
    rest.sort_unstable();
    (twos, rest)
}

/// Two 16-bit weights.
pub(super) fn lane_of_words([low, high]: [i16; 2]) -> f32 {
    f32::from_bits(u32::from(low as u16) | u32::from(high as u16) << 16)
}

/// What planes of lanes hold.
pub(super) trait Lanes {
    /// Whether that is lanes of bytes as products take them.
    const ARE_PREPARED: bool;
}

/// Lanes of bytes, as in strips.
pub(super) struct Bytes;

impl Lanes for Bytes {
    const ARE_PREPARED: bool = false;
}

/// Lanes prepared once for all products.
pub(super) struct Prepared;

impl Lanes for Prepared {
    const ARE_PREPARED: bool = true;
}

/// Four channels of a vector of pixels, each a float below 2^31, as lanes.
#[inline(always)]
pub(super) fn join_lanes<S: ByteSimd, L: Lanes>(simd: S, channels: [S::V; BYTES_PER_LANE]) -> S::V {
    let bytes = simd.join_bytes(channels);
    match L::ARE_PREPARED {
        true => simd.prepared(bytes),
        false => bytes,
    }
}

/// Of a byte and a weight.
const LARGEST_PRODUCT: f32 = 255.0 * 128.0;
/// Sums from here on do not fit i32.
const SUM_LIMIT: f32 = (1_u32 << 31) as f32;
/// Results that are rounded to bytes fit i32: the sum's part and the term's stay below it.
const RESULT_LIMIT: f32 = (1_u32 << 30) as f32 * 0.99;

// Groups are read beyond the end of a row.
const _: () = assert!(MAX_GROUP_PX + MAX_KERNEL <= crate::strip::STRIP_OVERSHOOT);

/// How weights are arranged.
struct Arrangement {
    tile_channels: usize,
    products: ByteProducts,
    /// What is subtracted from each byte.
    offset: i32,
}

struct ArrangementOf;

impl ByteKernel for ArrangementOf {
    type Output = Arrangement;

    #[inline(always)]
    fn vectorized<S: ByteSimd>(self, _: S) -> Arrangement {
        const {
            assert!(
                S::BYTE_TILE_CHANNELS <= S::TILE_CHANNELS
                    && S::BYTE_TILE_CHANNELS % BYTES_PER_LANE == 0
            )
        }
        Arrangement {
            tile_channels: S::BYTE_TILE_CHANNELS,
            products: S::PRODUCTS,
            offset: S::OFFSET,
        }
    }
}

/// Adds to `sums` all lanes and taps of a kernel. Taps are offsets from `input`.
///
/// # Safety
/// `V` vectors can be read behind each tap of each of the tile's lanes, planes that are `plane_len` lanes long. The tile has
/// `N` channels and so many taps, and was arranged for the instruction set.
#[inline(always)]
unsafe fn accumulate<S: ByteSimd, I: Lanes, const N: usize, const V: usize>(
    simd: S,
    (input, plane_len): (*const f32, usize),
    taps: &[usize],
    tile: &PackedTile,
    mut sums: Sums<S, N, V>,
) -> Sums<S, N, V> {
    let mut weights = tile.weights.as_ptr();
    if S::PRODUCTS == ByteProducts::Short {
        for [first, second] in &tile.twos {
            for tap in taps {
                // SAFETY: the caller promises these vectors, and weights of the tile, two for each channel.
                unsafe {
                    let first = load::<S, I, V>(simd, input.add(first * plane_len + tap));
                    let second = load::<S, I, V>(simd, input.add(second * plane_len + tap));
                    for o in 0..N {
                        let both = [
                            simd.weights(weights, 2 * o),
                            simd.weights(weights, 2 * o + 1),
                        ];
                        for v in 0..V {
                            let lanes = [first[v], second[v]];
                            sums[o][v] = simd.dot_two_lanes(both, lanes, sums[o][v]);
                        }
                    }
                    weights = weights.add(2 * N);
                }
            }
        }
    }
    let (whole, split) = match S::PRODUCTS {
        ByteProducts::All => (0..tile.whole.len(), &[][..]),
        ByteProducts::Short => (0..tile.whole.len(), &tile.split[..]),
        ByteProducts::None => (0..0, &tile.split[..]),
    };
    for at in whole {
        // Where all lanes are whole, they are in order.
        let lane = match S::PRODUCTS {
            ByteProducts::All => at,
            _ => tile.whole[at],
        };
        for tap in taps {
            // SAFETY: as above; each channel has one of these weights.
            unsafe {
                let lanes = load::<S, I, V>(simd, input.add(lane * plane_len + tap));
                for o in 0..N {
                    let weight = simd.weights(weights, o);
                    for v in 0..V {
                        sums[o][v] = simd.dot(weight, lanes[v], sums[o][v]);
                    }
                }
                weights = weights.add(N);
            }
        }
    }
    for lane in split {
        for tap in taps {
            // SAFETY: as above; each channel has two of these weights.
            unsafe {
                let lanes = load::<S, I, V>(simd, input.add(lane * plane_len + tap));
                for o in 0..N {
                    let words = [
                        simd.weights(weights, 2 * o),
                        simd.weights(weights, 2 * o + 1),
                    ];
                    for v in 0..V {
                        sums[o][v] = simd.dot_words(words, lanes[v], sums[o][v]);
                    }
                }
                weights = weights.add(2 * N);
            }
        }
    }
    sums
}

/// Vectors of lanes as products take them.
///
/// # Safety
/// `V` vectors can be read.
#[inline(always)]
unsafe fn load<S: ByteSimd, I: Lanes, const V: usize>(simd: S, from: *const f32) -> [S::V; V] {
    let mut lanes = [simd.splat(0.0); V];
    for (v, lanes) in lanes.iter_mut().enumerate() {
        // SAFETY: the caller promises these vectors.
        *lanes = unsafe { simd.load(from.add(v * S::LANES)) };
        if !I::ARE_PREPARED {
            *lanes = simd.prepared(*lanes);
        }
    }
    lanes
}

/// Stores the values of channels from `channel` on, rounded to bytes, as lanes.
///
/// # Safety
/// `V` vectors can be written to each of the planes of these channels, which are `plane_len` lanes long.
#[inline(always)]
unsafe fn store_bytes<S: ByteSimd, L: Lanes, const N: usize, const V: usize>(
    simd: S,
    values: Sums<S, N, V>,
    (to, plane_len): (*mut f32, usize),
    channel: usize,
) {
    for first in (0..N).step_by(BYTES_PER_LANE) {
        for v in 0..V {
            let mut lane = [simd.splat(0.0); BYTES_PER_LANE];
            for (c, lane) in lane.iter_mut().enumerate() {
                if first + c < N {
                    *lane = values[first + c][v];
                }
            }
            let (bytes, at) = (
                join_lanes::<S, L>(simd, lane),
                (channel + first) / BYTES_PER_LANE,
            );
            // SAFETY: the caller promises these vectors.
            unsafe { simd.store(to.add(at * plane_len + v * S::LANES), bytes) }
        }
    }
}

/// Asserts that a strip has the channels and the format of a layer's output.
pub(super) fn check_output(layer: &PackedLayer, output: &Strip) {
    assert_eq!(output.channels(), layer.out_channels, "output channels");
    output.check_format(&[layer.output.unwrap_or(StripFormat::Planes)]);
}
