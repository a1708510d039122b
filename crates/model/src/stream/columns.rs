//! An image in columns, so that the rows alive at a time fit the cache.
//!
//! A wave is computed column by column, from the left to the right. A convolution reads pixels beyond
//! the right end of what has been made, so each map lags: in every column it is made up to some pixels
//! short of where the maps that it is made from end, and begins as many pixels earlier. What it reads
//! left of its column is the margin, kept from the column before. So no pixel is computed twice.

use std::collections::HashMap;
use std::ops::Range;

use wdsr_kernels::{STRIP_ROWS, Strip, StripLayout};

use super::plan::{Map, Plan};

/// Columns end at multiples of it where they may: the pixels of the widest tile.
const COLUMN_PX: usize = 32;

/// The columns of an image.
pub(crate) struct Columns {
    width_px: usize,
    column_px: usize,
}

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    columns: &'a Columns,
    index: usize,
}

impl Columns {
    /// Cuts an image into columns of `most_px` or fewer, as equal as vectors allow.
    pub(crate) fn new(width_px: usize, most_px: usize) -> Self {
        let equal_px = width_px.div_ceil(width_px.div_ceil(most_px));
        let column_px = equal_px
            .next_multiple_of(COLUMN_PX)
            .min(most_px)
            .min(width_px);
        Self {
            width_px,
            column_px,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.width_px.div_ceil(self.column_px)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Column<'_>> {
        (0..self.count()).map(|index| Column {
            columns: self,
            index,
        })
    }

    /// The layout of the strips of each map. Those of a scale are as wide as the widest of them, with the
    /// margin of those read furthest to the left.
    pub(super) fn layouts(&self, plan: &Plan) -> Vec<StripLayout> {
        let last = Column {
            columns: self,
            index: self.count() - 1,
        };
        // Width and margin by scale.
        let mut widest = HashMap::new();
        for map in &plan.maps {
            let scale = map.shape.scale;
            let (width_px, margin_px) = widest.entry(scale).or_insert((self.column_px * scale, 0));
            *width_px = last.of(map).len().max(*width_px);
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
            }
        };
        plan.maps.iter().map(layout).collect()
    }
}

impl<'a> Column<'a> {
    /// The columns that it is one of.
    pub(super) fn all(self) -> &'a Columns {
        self.columns
    }

    /// Its place from the left.
    pub(super) fn index(self) -> usize {
        self.index
    }

    /// The columns of a map that are made now.
    pub(super) fn of(self, map: &Map) -> Range<usize> {
        let Columns {
            width_px,
            column_px,
        } = *self.columns;
        let start = (self.index * column_px).saturating_sub(map.lag_px);
        let end = match (self.index + 1) * column_px {
            end if end < width_px => end.saturating_sub(map.lag_px),
            _ => width_px,
        };
        start * map.shape.scale..end * map.shape.scale
    }

    pub(super) fn is_first(self) -> bool {
        self.index == 0
    }

    pub(super) fn is_last(self) -> bool {
        self.index + 1 == self.columns.count()
    }
}

/// The right ends of the strips of a wave's last column, by map: what lies left of the next column's.
#[derive(Default)]
pub(super) struct Margins {
    maps: Vec<Vec<f32>>,
}

impl Margins {
    /// Memory in bytes.
    pub(super) fn bytes(plan: &Plan, columns: &Columns) -> usize {
        let floats = plan
            .maps
            .iter()
            .map(|map| map.margin_px * map.shape.channels * map.shape.scale * STRIP_ROWS);
        match columns.count() {
            1 => 0,
            _ => floats.sum::<usize>() * size_of::<f32>(),
        }
    }

    /// Gives a strip that has just been made its margin, and keeps that of its right neighbour.
    pub(super) fn exchange(
        &mut self,
        column: Column<'_>,
        plan: &Plan,
        map: usize,
        strip: &mut Strip,
    ) {
        let margin_px = plan.maps[map].margin_px;
        if column.all().count() == 1 || margin_px == 0 {
            return;
        }
        self.maps.resize_with(plan.maps.len(), Vec::new);
        let kept = &mut self.maps[map];
        strip.set_left_margin(margin_px, (!column.is_first()).then_some(kept));
        if !column.is_last() {
            strip.copy_right_margin(margin_px, kept);
        }
    }
}
