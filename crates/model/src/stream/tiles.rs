//! Tiles of an image, so that the rows that are in use at a time fit the cache.
//!
//! A wave is computed tile by tile, from left to right. A convolution reads pixels beyond the right
//! end of what is computed, so each map is delayed: in every tile it ends some pixels before the maps
//! that it is computed from, and starts as many pixels earlier. What it reads left of its tile is the
//! margin, kept from the tile before. So no pixel is computed twice.

use std::collections::HashMap;
use std::ops::Range;

use wdsr_kernels::{STRIP_ROWS, Strip, StripLayout};

use super::plan::{Map, Plan};

/// Tiles end at multiples of it if possible: the pixels of the widest register tile.
const ALIGNMENT_PX: usize = 32;

/// The tiles of an image's width.
pub(crate) struct Tiles {
    image_width_px: usize,
    tile_width_px: usize,
}

/// One of the tiles.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    tiles: &'a Tiles,
    index: usize,
}

impl Tiles {
    /// Divides an image into tiles of at most `max_width_px`, as equal as vectors allow.
    pub(crate) fn new(image_width_px: usize, max_width_px: usize) -> Self {
        let equal_px = image_width_px.div_ceil(image_width_px.div_ceil(max_width_px));
        let tile_width_px = equal_px
            .next_multiple_of(ALIGNMENT_PX)
            .min(max_width_px)
            .min(image_width_px);
        Self {
            image_width_px,
            tile_width_px,
        }
    }

    pub(crate) fn image_width_px(&self) -> usize {
        self.image_width_px
    }

    pub(crate) fn count(&self) -> usize {
        self.image_width_px.div_ceil(self.tile_width_px)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Tile<'_>> {
        (0..self.count()).map(|index| Tile { tiles: self, index })
    }

    /// The layout of each map's strips. Those of a scale are as wide as the widest of them, with the
    /// largest of their margins.
    pub(super) fn layouts(&self, plan: &Plan) -> Vec<StripLayout> {
        let last = Tile {
            tiles: self,
            index: self.count() - 1,
        };
        // Width and margin by scale.
        let mut widest = HashMap::new();
        for map in &plan.maps {
            let scale = map.shape.scale;
            let (width_px, margin_px) = widest
                .entry(scale)
                .or_insert((self.tile_width_px * scale, 0));
            *width_px = last.columns(map).len().max(*width_px);
            if self.count() > 1 {
                *margin_px = map.margin_px.max(*margin_px);
            }
        }
        let layout = |map: &Map| {
            let (width_px, margin_px) = widest[&map.shape.scale];
            StripLayout {
                width_px,
                margin_px,
                rows: STRIP_ROWS * map.shape.scale,
                rows_above: map.margin_px,
                format: map.format,
            }
        };
        plan.maps.iter().map(layout).collect()
    }
}

impl<'a> Tile<'a> {
    /// All tiles of the image.
    pub(super) fn all(self) -> &'a Tiles {
        self.tiles
    }

    /// Its index from the left.
    pub(super) fn index(self) -> usize {
        self.index
    }

    /// Its columns of pixels in a map.
    pub(super) fn columns(self, map: &Map) -> Range<usize> {
        let Tiles {
            image_width_px,
            tile_width_px,
        } = *self.tiles;
        let start = (self.index * tile_width_px).saturating_sub(map.delay_px);
        let end = match (self.index + 1) * tile_width_px {
            end if end < image_width_px => end.saturating_sub(map.delay_px),
            _ => image_width_px,
        };
        start * map.shape.scale..end * map.shape.scale
    }

    pub(super) fn is_first(self) -> bool {
        self.index == 0
    }

    pub(super) fn is_last(self) -> bool {
        self.index + 1 == self.tiles.count()
    }
}

/// The left margins of the next tile's strips, by map.
#[derive(Default)]
pub(super) struct LeftMargins {
    maps: Vec<Vec<f32>>,
}

impl LeftMargins {
    /// Memory in bytes.
    pub(super) fn memory_bytes(plan: &Plan, tiles: &Tiles) -> usize {
        let floats = plan
            .maps
            .iter()
            .map(|map| map.margin_px * map.shape.channels * map.shape.scale * STRIP_ROWS);
        match tiles.count() {
            1 => 0,
            _ => floats.sum::<usize>() * size_of::<f32>(),
        }
    }

    /// Sets the left margin of a strip that has been computed, and keeps that of its right neighbour.
    pub(super) fn exchange(&mut self, tile: Tile<'_>, plan: &Plan, map: usize, strip: &mut Strip) {
        let margin_px = plan.maps[map].margin_px;
        if tile.all().count() == 1 || margin_px == 0 {
            return;
        }
        self.maps.resize_with(plan.maps.len(), Vec::new);
        let margin = &mut self.maps[map];
        strip.set_left_margin(margin_px, (!tile.is_first()).then_some(margin));
        if !tile.is_last() {
            strip.copy_right_margin(margin_px, margin);
        }
    }
}
