//! A picture in columns, so that the rows alive at a time fit the cache.
//!
//! Columns are computed from the left to the right. A convolution reads pixels beyond the right
//! end of what has been made, so each map lags: in every column it is made up to some pixels short
//! of where the maps that it is made from end, and begins as many pixels earlier. What it reads
//! left of its column is the margin, kept from the column before. So no pixel is computed twice.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;

use wdsr_kernels::{Room, STRIP_ROWS, Strip};

use super::lock;
use super::plan::{Map, Plan};

/// The columns of a picture.
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
    /// Cuts a picture into columns of `column_px`, the last of which may be narrower.
    pub(crate) fn new(width_px: usize, column_px: usize) -> Self {
        let column_px = column_px.min(width_px);
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

    /// The room of the strips of each map. Those of a scale are as wide as the widest of them, with the
    /// margin of those read furthest to the left.
    pub(super) fn rooms(&self, plan: &Plan) -> Vec<Room> {
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
        let room = |map: &Map| {
            let (width_px, margin_px) = widest[&map.shape.scale];
            Room {
                width_px,
                margin_px,
                rows: STRIP_ROWS * map.shape.scale,
                rows_above: map.margin_px,
            }
        };
        plan.maps.iter().map(room).collect()
    }
}

impl<'a> Column<'a> {
    /// The columns that it is one of.
    pub(super) fn all(self) -> &'a Columns {
        self.columns
    }

    /// The columns of a map that are made now.
    pub(super) fn of(self, map: &Map) -> Range<usize> {
        let range = self.lagging(map.lag_px);
        range.start * map.shape.scale..range.end * map.shape.scale
    }

    /// The same in the picture, for a map that lags by `lag_px` pixels of it.
    pub(super) fn lagging(self, lag_px: usize) -> Range<usize> {
        let Columns {
            width_px,
            column_px,
        } = *self.columns;
        let start = (self.index * column_px).saturating_sub(lag_px);
        let end = match (self.index + 1) * column_px {
            end if end < width_px => end.saturating_sub(lag_px),
            _ => width_px,
        };
        start..end
    }

    pub(super) fn is_first(self) -> bool {
        self.index == 0
    }

    pub(super) fn is_last(self) -> bool {
        self.index + 1 == self.columns.count()
    }
}

/// The margins of all strips of a picture's maps, kept from column to column.
pub(crate) struct Margins {
    /// By map and wave; of a picture of one column there are none.
    maps: Vec<Vec<Mutex<Vec<f32>>>>,
}

impl Margins {
    pub(super) fn new(plan: &Plan, columns: &Columns, height_px: usize) -> Self {
        let maps = plan.maps.iter().map(|map| {
            let count = match columns.count() {
                1 => 0,
                _ if map.margin_px == 0 => 0,
                _ => plan.waves(height_px),
            };
            (0..count).map(|_| Mutex::default()).collect()
        });
        Self {
            maps: maps.collect(),
        }
    }

    /// Memory in bytes for a picture of so many rows.
    pub(super) fn bytes(plan: &Plan, columns: &Columns, height_px: usize) -> u64 {
        let floats = plan
            .maps
            .iter()
            .map(|map| map.margin_px * map.shape.channels * map.shape.scale * STRIP_ROWS);
        match columns.count() {
            1 => 0,
            _ => (floats.sum::<usize>() * plan.waves(height_px) * size_of::<f32>()) as u64,
        }
    }

    /// Gives a strip that has just been made its margin, and keeps that of its right neighbour.
    pub(super) fn exchange(
        &self,
        column: Column<'_>,
        plan: &Plan,
        map: usize,
        wave: usize,
        strip: &mut Strip,
    ) {
        let margin_px = plan.maps[map].margin_px;
        let Some(kept) = self.maps[map].get(wave) else {
            return;
        };
        let mut kept = lock(kept);
        let left = (!column.is_first()).then_some(&**kept);
        strip.set_left(margin_px, left);
        if !column.is_last() {
            strip.right_end(margin_px, &mut kept);
        }
    }
}
