//! A convolution of strips of bytes.

use super::layer::{ByteLayer, ByteScale, Bytes, PackedLayer, check_output};
use super::tiles::{self, LayerTiles};
#[cfg(target_arch = "x86_64")]
use super::winograd::{FourRows, WinogradBytes};
use super::{ByteKernel, dispatch, reference};
use crate::direct::square_taps;
use crate::epilogue::{TileEpilogue, TileOutput};
#[cfg(target_arch = "x86_64")]
use crate::rows::Rows;
use crate::simd::ByteSimd;
use crate::strip::{Offset, Strip, StripFormat};
use crate::tiles::{TileKernel, Tiles};
use crate::{Epilogue, Isa, Scratch};

/// Pixels whose input stays in the cache for all tiles of output channels.
const SEGMENT_PX: usize = 64;

/// A convolution on [`Strip`]s of bytes, its weights arranged for an instruction set.
#[derive(Clone)]
pub struct ByteConv {
    layer: PackedLayer,
    #[cfg(target_arch = "x86_64")]
    winograd: Option<WinogradBytes>,
    input: StripFormat,
}

impl ByteConv {
    /// Arranges the weights for bytes of the scale `input`. The result is f32, or bytes of the scale `output`.
    ///
    /// # Panics
    /// If lengths differ, the kernel is not 1, 3 or 5, or a sum does not fit 31 bits.
    pub fn new(
        isa: Isa,
        input: &ByteScale,
        layer: ByteLayer<'_>,
        output: Option<&ByteScale>,
    ) -> Self {
        let layer = PackedLayer::new(isa, input, layer, output, false);
        Self {
            #[cfg(target_arch = "x86_64")]
            winograd: WinogradBytes::of(&layer),
            layer,
            input: input.format(),
        }
    }

    /// Convolves `input` into `output`. Rows and columns are as in [`StripConv::run`](crate::StripConv::run).
    ///
    /// # Shapes
    /// - input: a strip of `in_channels` in the format of the input's scale
    /// - output: a strip of `out_channels`, in the format of the output's scale or [`StripFormat::Planes`]
    /// - maps of the epilogue: planes of `out_channels`
    ///
    /// # Panics
    /// If the shapes differ, the input does not cover the output plus the kernel's reach, or bytes are to be stored with
    /// another epilogue than [`Epilogue::Store`].
    pub fn run(
        &self,
        input: &Strip,
        output: &mut Strip,
        epilogue: Epilogue<'_, Strip>,
        scratch: &mut Scratch,
    ) {
        let layer = &self.layer;
        assert_eq!(input.channels(), layer.in_channels, "input channels");
        input.check_format(&[self.input]);
        check_output(layer, output);
        epilogue.check(layer.out_channels);
        assert!(
            layer.output.is_none() || matches!(epilogue, Epilogue::Store),
            "epilogue of bytes"
        );
        let maps_offset = epilogue.maps().map_or(Offset::ZERO, |maps| {
            assert_eq!(maps.channels(), output.channels(), "maps of the epilogue");
            output.offset_in(maps, 0)
        });
        let reach = (layer.kernel / 2) as isize;
        let offset = output.offset_in(input, layer.kernel / 2);
        if layer.isa == Isa::REFERENCE {
            let (input, epilogue) = ((input, offset), (epilogue, maps_offset));
            return reference::convolution(layer, input, output, epilogue);
        }
        let (plane_len, width_px) = (input.plane_len(), output.width_px());
        let first_tap = |y: usize| input.lanes(y as isize + offset.rows - reach, offset.px - reach);
        let target = |output: &mut Strip, y: usize| TileOutput {
            to: output.lanes_mut(y),
            plane_len: output.plane_len(),
            epilogue: epilogue.at(|maps| maps.at(y as isize + maps_offset.rows, maps_offset.px)),
        };
        if let Some(tiles) = &layer.tiles {
            let [sums] = scratch.arrays([tiles::SUMS]);
            for y in output.inside() {
                tiles.run_kernel(TileRun {
                    layer,
                    tiles,
                    input: first_tap(y),
                    plane_len,
                    output: target(output, y),
                    width_px,
                    sums,
                });
            }
            output.clear_border();
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(winograd) = &self.winograd {
            for first in output.groups() {
                let source = Rows {
                    rows: std::array::from_fn(|row| first_tap(first + row)),
                    plane_len,
                    planes: layer.in_lanes(),
                };
                let targets = std::array::from_fn(|row| target(output, first + row));
                // SAFETY: all strips have rows as `ConvRun` says, also those of a group that lie outside the maps.
                let rows =
                    unsafe { FourRows::new(layer, winograd, source, targets, width_px, scratch) };
                rows.run();
            }
            output.clear_border();
            return;
        }
        let taps = square_taps(layer.kernel, layer.in_lanes() * plane_len);
        for y in output.inside() {
            let run = ConvRun {
                layer,
                input: first_tap(y),
                plane_len,
                taps: &taps,
                output: target(output, y),
                width_px,
            };
            dispatch(layer.isa, run);
        }
        output.clear_border();
    }
}

/// A row. All strips have rows of `plane_len` lanes: a border, `width_px` pixels or more, and
/// [`STRIP_OVERSHOOT`](crate::strip::STRIP_OVERSHOOT) lanes for the rest of a group and the taps. The offsets say that the
/// rows and pixels of all taps lie in the strips, which have the layer's channels.
struct ConvRun<'a> {
    layer: &'a PackedLayer,
    input: *const f32,
    plane_len: usize,
    taps: &'a [usize],
    output: TileOutput,
    width_px: usize,
}

impl ByteKernel for ConvRun<'_> {
    type Output = ();

    #[inline(always)]
    fn vectorized<S: ByteSimd>(self, simd: S) {
        for first in (0..self.width_px).step_by(SEGMENT_PX) {
            let len = SEGMENT_PX.min(self.width_px - first);
            let input = (self.input.wrapping_add(first), self.plane_len);
            // SAFETY: see the type.
            unsafe {
                self.layer.run::<S, Bytes, Bytes>(
                    simd,
                    input,
                    self.taps,
                    self.output.skip(first),
                    len,
                );
            }
        }
    }
}

/// A row, as [`ConvRun`] says, on tiles.
struct TileRun<'a> {
    layer: &'a PackedLayer,
    tiles: &'a LayerTiles,
    input: *const f32,
    plane_len: usize,
    output: TileOutput,
    width_px: usize,
    sums: &'a mut [f32],
}

impl TileKernel for TileRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(self, tiles: &mut T) {
        for first in (0..self.width_px).step_by(tiles::SEGMENT_PX) {
            let len = tiles::SEGMENT_PX.min(self.width_px - first);
            let input = (self.input.wrapping_add(first), self.plane_len);
            let output = self.output.skip(first);
            // SAFETY: see `ConvRun`. The rows of a strip follow each other, each with its planes.
            unsafe { (self.tiles).run(tiles, self.layer, input, output, len, self.sums) }
        }
    }
}

/// An output of lanes without epilogue.
pub(super) fn stored(to: *mut f32, plane_len: usize) -> TileOutput {
    TileOutput {
        to,
        plane_len,
        epilogue: TileEpilogue::Store,
    }
}
