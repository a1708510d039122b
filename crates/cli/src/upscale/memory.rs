//! The memory that enlarging a picture takes, asked for before the work: an allocation that fails
//! later would end the program without a message.

use std::collections::BTreeMap;

use wdsr_model::{Model, Operation};
use wdsr_picture::{Depth, Picture};

use super::alpha::AlphaMethod;
use super::picture::{Method, of_scale};

/// Whether that much memory can be had now.
///
/// # Errors
/// With the bytes, when not.
pub(super) fn check(bytes: u128) -> Result<(), u128> {
    let mut probe: Vec<u8> = Vec::new();
    let size = usize::try_from(bytes).map_err(|_| bytes)?;
    probe.try_reserve_exact(size).map_err(|_| bytes)?;
    // Else the compiler may leave out an allocation that nothing uses.
    std::hint::black_box(&probe);
    Ok(())
}

/// Bytes that a network holds for each column of a tile: strips of its feature maps.
///
/// Of each map about four strips of four rows are alive, and one of zeros stands beside them
/// (measured: `docs/log.md`). The wide half of a pair of 1x1 convolutions is never a map.
pub(super) fn bytes_per_column(model: &Model, self_ensemble: bool) -> u128 {
    const STRIPS: usize = 6;
    const ROWS: usize = 4;
    let network = model.network();
    let expands = |conv: usize, relu: bool| relu && network.convs[conv].kernel == 1;
    let channels: usize = network
        .operations
        .iter()
        .map(|operation| match *operation {
            Operation::Conv {
                conv, relu, output, ..
            } if !expands(conv, relu) => {
                let shape = network.shape(output);
                shape.channels * shape.scale
            }
            _ => 0,
        })
        .sum();
    let networks = if self_ensemble { 8 } else { 1 };
    (channels * STRIPS * ROWS * size_of::<f32>() * networks) as u128
}

/// Bytes that enlarging a picture takes at most, from the decoded picture to the encoded file.
pub(super) fn needed_bytes(picture: &Picture, method: &Method<'_>) -> u128 {
    let (colour, depth) = (picture.colour, picture.depth());
    let sample = bytes_of(depth);
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
        let network = of_scale(method.networks, scale);
        let columns = network
            .max_columns
            .map_or(width_px, |most| most.min(width_px));
        let most: &mut u128 = by_scale.entry(scale).or_default();
        *most = (network.bytes_per_column * columns as u128).max(*most);
    }
    by_scale.values().sum()
}

/// Bytes for the passes and the resizing of a picture of so many channels without alpha.
fn opaque_bytes(channels: u128, depth: Depth, method: &Method<'_>) -> u128 {
    let plan = method.plan;
    let sample = match plan.only_pass() {
        Some(_) => bytes_of(depth),
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
    let rounding = target * channels * (4 + bytes_of(depth));
    let most = passes.chain([resizing, rounding]).max().unwrap_or(0);
    plan.input.pixels() * channels * bytes_of(depth) + most
}

fn bytes_of(depth: Depth) -> u128 {
    match depth {
        Depth::U8 => 1,
        Depth::U16 => 2,
        Depth::F32 => 4,
    }
}
