//! The memory that upscaling an image takes, estimated before the work. An allocation that fails amid
//! the work would end the process.

use std::collections::BTreeMap;

use wdsr_image::{Colour, Depth, Outline, Reader, is_memory_free};
use wdsr_model::Upscaler;

use crate::error::{OutOfMemory, Work};
use crate::wrap::Halo;
use crate::{AlphaMethod, ImageUpscaler, Size};

/// Most memory for an image that streams, unless another limit is given: enough for any usual width.
const DEFAULT_MAX_BYTES: u64 = 2 << 30;

/// What the process takes besides: code, weights, stacks, buffers of files.
const FIXED_BYTES: u64 = 24 << 20;

/// Checks that the process stays within `max_bytes` with a part of the work, and that the part fits the
/// memory that is available.
pub(crate) fn check_memory(
    work: Work,
    needed_bytes: u128,
    max_bytes: Option<u64>,
) -> Result<(), OutOfMemory> {
    let whole = needed_bytes + u128::from(FIXED_BYTES);
    let allowed_bytes = max_bytes.filter(|most| whole > u128::from(*most));
    let needed_bytes = if allowed_bytes.is_some() {
        whole
    } else {
        needed_bytes
    };
    if allowed_bytes.is_none() && is_memory_free(needed_bytes) {
        return Ok(());
    }
    Err(OutOfMemory {
        work,
        needed_bytes,
        allowed_bytes,
    })
}

/// How many rows of an image to read at a time so that the whole process stays within `max_bytes`, of which
/// the caller needs `other_bytes`.
pub(crate) fn rows_at_a_time(
    reader: &Reader,
    network: &Upscaler,
    halo: Halo,
    max_bytes: Option<u64>,
    other_bytes: u64,
) -> Result<usize, OutOfMemory> {
    let Outline {
        width_px,
        height_px,
        depth,
        ..
    } = reader.outline();
    let sample_bytes = depth.bytes();
    let with_halo_px = width_px + 2 * halo.x_px;
    let row_bytes = (with_halo_px * 3 * sample_bytes) as u64;
    // A row of the result as it is encoded, some times over.
    let others = FIXED_BYTES
        + reader.rows_memory_bytes()
        + 8 * row_bytes * network.scale() as u64
        // The first and the last rows.
        + 2 * row_bytes * halo.y_px as u64;
    let others = others.saturating_add(other_bytes);
    let mut max_bytes = max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
    let rows_px = loop {
        let bytes = |rows_px| {
            others.saturating_add(network.memory_bytes(with_halo_px, rows_px, sample_bytes))
        };
        match network.rows_within(with_halo_px, sample_bytes, max_bytes.saturating_sub(others)) {
            // Less may be available than is allowed.
            Ok(rows_px) if !is_memory_free(u128::from(bytes(rows_px))) => max_bytes /= 2,
            found => break found,
        }
    };
    rows_px.map_err(|least: u64| OutOfMemory {
        work: Work::Streaming {
            input: Size {
                width_px,
                height_px,
            },
            is_mostly_decoding: reader.rows_memory_bytes() > least,
        },
        needed_bytes: u128::from(others) + u128::from(least),
        allowed_bytes: Some(max_bytes),
    })
}

impl ImageUpscaler<'_> {
    /// Checks that upscaling an image in memory stays within `max_bytes` and the memory that is
    /// available. `other_bytes` are what the caller needs besides.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_memory(
        &self,
        colour: Colour,
        depth: Depth,
        other_bytes: u128,
        max_bytes: Option<u64>,
    ) -> Result<(), OutOfMemory> {
        let needed_bytes = self.memory_bytes(colour, depth) + self.working_bytes() + other_bytes;
        let work = Work::Upscaling(self.plan().target());
        check_memory(work, needed_bytes, max_bytes)
    }

    /// Bytes that upscaling an image takes at most, with the image, the result and what lies
    /// between them, but without [`working_bytes`](Self::working_bytes).
    pub(crate) fn memory_bytes(&self, colour: Colour, depth: Depth) -> u128 {
        let sample = depth.bytes() as u128;
        let (input, target) = (self.plan.input().pixels(), self.plan.target().pixels());
        let channels = colour.channels() as u128;
        let opaque_channels = colour.without_alpha().channels() as u128;
        let opaque = self.opaque_bytes(opaque_channels, depth);
        if !colour.has_alpha() {
            return opaque;
        }
        let colours = input * opaque_channels * sample;
        let upscaled_alpha = match self.alpha {
            // Level by level: the share of a level and the floats so far, at both sizes.
            AlphaMethod::Network => self.opaque_bytes(1, depth).max((input + target) * 12),
            AlphaMethod::Lanczos => (input + target) * (4 + sample),
        };
        let steps = [
            // Colour and alpha are split, and joined in the end.
            input * channels * sample * 2,
            target * channels * sample * 2,
            // States of pixels, and two rings of places.
            input * (channels * sample + 1 + 2 * size_of::<usize>() as u128),
            colours + input * sample + upscaled_alpha,
            // Input and upscaled alpha stand beside the colours.
            opaque + input * sample + target * sample,
        ];
        steps.into_iter().max().unwrap_or(0)
    }

    /// Bytes of the networks' buffers for the threads of rayon's current pool, most of which the
    /// networks keep for the next image.
    pub(crate) fn working_bytes(&self) -> u128 {
        let mut by_scale = BTreeMap::new();
        for (network, size) in self.passes.iter().zip(self.pass_sizes()) {
            let most: &mut u128 = by_scale.entry(network.scale()).or_default();
            *most = u128::from(network.working_bytes(size.width_px)).max(*most);
        }
        by_scale.values().sum()
    }

    /// Bytes for the passes and the resizing of an image of so many channels without alpha.
    fn opaque_bytes(&self, channels: u128, depth: Depth) -> u128 {
        let plan = &self.plan;
        let sample = match plan.only_pass() {
            Some(_) => depth.bytes() as u128,
            None => 4,
        };
        let sizes = plan.sizes();
        let passes = self.passes.iter().zip(&sizes).zip(self.pass_sizes());
        let passes = passes.map(|((network, size), read)| {
            let (from, to) = (
                read.pixels(),
                read.pixels() * (network.scale() as u128).pow(2),
            );
            // Through the network, and back to grey, with a halo beside the image without.
            let without = if read == *size {
                0
            } else {
                to * channels * sample
            };
            ((from + to) * 3 * sample).max(to * 4 * sample) + without
        });
        let target = plan.target().pixels();
        // One pass makes samples of the image's depth, of its size.
        let after = match plan.only_pass() {
            Some(_) => 0,
            None => {
                let resizing = (plan.upscaled().pixels() + target) * channels * 4;
                let rounding = target * channels * (4 + depth.bytes() as u128);
                resizing.max(rounding)
            }
        };
        let most = passes.max().unwrap_or(0).max(after);
        plan.input().pixels() * channels * depth.bytes() as u128 + most
    }
}
