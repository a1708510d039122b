//! The memory that upscaling an image takes, estimated before the work.

use std::collections::BTreeMap;

use wdsr_image::{Colour, Depth};

use crate::{AlphaMethod, ImageUpscaler};

impl ImageUpscaler<'_> {
    /// Bytes that upscaling an image takes at most, with the image, the result and what lies
    /// between them, but without [`ImageUpscaler::working_bytes`]. An allocation that fails amid the work ends
    /// the program, so compare it with what is free ([`wdsr_image::is_memory_free`]).
    pub fn memory_bytes(&self, colour: Colour, depth: Depth) -> u128 {
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
            AlphaMethod::Network => self.opaque_bytes(1, depth),
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

    /// Bytes of the networks' strips for the threads of rayon's current pool, most of which they keep
    /// for the next image.
    pub fn working_bytes(&self) -> u128 {
        let mut by_scale = BTreeMap::new();
        for (network, size) in self.passes.iter().zip(self.plan.sizes()) {
            let most: &mut u128 = by_scale.entry(network.scale()).or_default();
            *most = u128::from(network.working_bytes(size.width_px)).max(*most);
        }
        by_scale.values().sum()
    }

    /// Bytes for the passes and the resizing of an image of so many channels without alpha.
    fn opaque_bytes(&self, channels: u128, depth: Depth) -> u128 {
        let plan = self.plan;
        let sample = match plan.only_pass() {
            Some(_) => depth.bytes() as u128,
            None => 4,
        };
        let sizes = plan.sizes();
        let passes = sizes.windows(2).map(|sizes| {
            let (from, to) = (sizes[0].pixels(), sizes[1].pixels());
            // Through the network, and back to grey.
            ((from + to) * 3 * sample).max(to * 4 * sample)
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
