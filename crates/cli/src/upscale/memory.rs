//! The memory that enlarging a picture takes, estimated before the work.

use std::collections::BTreeMap;

use wdsr_picture::{Colour, Depth};

use super::alpha::AlphaMethod;
use super::picture::{Method, of_scale};

/// Bytes that enlarging a picture takes at most, from the decoded picture to the encoded file.
pub(super) fn needed_bytes(colour: Colour, depth: Depth, method: &Method<'_>) -> u128 {
    let sample = depth.bytes() as u128;
    let (input, target) = (method.plan.input.pixels(), method.plan.target.pixels());
    let channels = colour.channels() as u128;
    let opaque_channels = colour.without_alpha().channels() as u128;
    let opaque = |channels| opaque_bytes(channels, depth, method);
    // Input and enlarged alpha stand beside the colours.
    let beside = if colour.has_alpha() {
        input * sample + target * sample
    } else {
        0
    };
    let mut steps = vec![
        input * channels * sample * 2,
        opaque(opaque_channels) + beside,
        // The picture, its encoder's copy, and the file of noise, whose buffer doubles as it grows.
        target * channels * sample * 4,
    ];
    if colour.has_alpha() {
        let colours = input * opaque_channels * sample;
        // States of pixels, and two rings of places.
        steps.push(input * (channels * sample + 1 + 2 * size_of::<usize>() as u128));
        steps.push(
            colours
                + input * sample
                + match method.alpha {
                    AlphaMethod::Network => opaque(1),
                    AlphaMethod::Lanczos => (input + target) * (4 + sample),
                },
        );
    }
    steps.into_iter().max().unwrap_or(0) + networks_bytes(method)
}

/// Bytes of the networks' strips, which they keep for the next picture.
fn networks_bytes(method: &Method<'_>) -> u128 {
    let widths = method.plan.sizes().into_iter().map(|size| size.width_px);
    let mut by_scale = BTreeMap::new();
    for (&scale, width_px) in method.plan.passes.iter().zip(widths) {
        let upscaler = &of_scale(method.networks, scale).upscaler;
        let most: &mut u128 = by_scale.entry(scale).or_default();
        *most = u128::from(upscaler.working_bytes(width_px)).max(*most);
    }
    by_scale.values().sum()
}

/// Bytes for the passes and the resizing of a picture of so many channels without alpha.
fn opaque_bytes(channels: u128, depth: Depth, method: &Method<'_>) -> u128 {
    let plan = method.plan;
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
    let target = plan.target.pixels();
    let resizing = (plan.enlarged().pixels() + target) * channels * 4;
    let rounding = target * channels * (4 + depth.bytes() as u128);
    let most = passes.chain([resizing, rounding]).max().unwrap_or(0);
    plan.input.pixels() * channels * depth.bytes() as u128 + most
}
