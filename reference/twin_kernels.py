"""The blocks of WDSR-B with weight normalisation as Triton kernels, for `twin.py` on a GPU.

A block's two pointwise convolutions are one kernel, so its wide activations never reach memory: the
gradient computes them again. Products are of bf16 values, sums and the stream between blocks f32.
The sums over pixels are of parts, each made by one program and then added, so that a run repeats.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# What products are of. Triton's interpreter, which the check runs on, multiplies float32 only.
PRODUCT_TYPE = torch.bfloat16
# Pixels and wide channels that a program holds at a time, and its warps: the fastest of a few on an
# H200 (docs/experiments/gpu-training.md).
TILE_PX, TILE_WIDE, WARPS = 128, 64, 4
# The same for a sum over pixels, and how many programs share these.
SUM_TILE_PX, SUM_WARPS, PARTS = 64, 4, 264
# Fewest channels of a matrix instruction. A tile's channels are a power of two.
LEAST_CHANNELS = 16


def fits(config: dict[str, Any]) -> bool:
    """Whether the kernels compute the blocks of a `[network]` table."""
    features = config["features"]
    return (
        config["block"] == "wdsr-b"
        and config["norm"] in ("weight", "none")
        and config["residual_scale"] == 1
        and features == padded(features)
        and features * config["expansion"] % TILE_WIDE == 0
    )


def padded(channels: int) -> int:
    return max(LEAST_CHANNELS, triton.next_power_of_2(channels))


class Blocks(torch.autograd.Function):
    """All blocks: [batch, height, width, features] f32 -> the same.

    Weights are stacked over the blocks, low-rank channels padded with zeros: `expand`
    [blocks, wide, features], `reduce` [blocks, low_rank, wide], `spread`
    [blocks, 3, 3, low_rank, features]; biases [blocks, channels]. All f32.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        expand: Tensor,
        expand_bias: Tensor,
        reduce: Tensor,
        reduce_bias: Tensor,
        spread: Tensor,
        spread_bias: Tensor,
    ) -> Tensor:
        weights = [weight.to(PRODUCT_TYPE).contiguous() for weight in (expand, reduce, spread)]
        count, wide, features = expand.shape
        low_rank = reduce.shape[1]
        pixels = x.numel() // features
        grid = (triton.cdiv(pixels, TILE_PX),)
        streams, ranks = [x.contiguous()], []
        for block in range(count):
            rank = x.new_empty(*x.shape[:3], low_rank, dtype=PRODUCT_TYPE)
            sizes = {"features": features, "wide": wide, "low_rank": low_rank}
            tiles = {"tile_px": TILE_PX, "tile_wide": TILE_WIDE, "num_warps": WARPS}
            pair_forward[grid](
                streams[-1],
                weights[0][block],
                expand_bias[block],
                weights[1][block],
                reduce_bias[block],
                rank,
                pixels,
                **sizes,
                **tiles,
            )
            ranks.append(rank)
            made = torch.empty_like(streams[-1])
            spatial(rank, weights[2][block], made, streams[-1], spread_bias[block])
            streams.append(made)
        ctx.save_for_backward(*weights, expand_bias, *streams[:-1], *ranks)
        ctx.count = count
        return streams[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        expand, reduce, spread, expand_bias, *kept = ctx.saved_tensors
        streams, ranks = kept[: ctx.count], kept[ctx.count :]
        count, wide, features = expand.shape
        low_rank = reduce.shape[1]
        gradient = gradient.contiguous()
        height, width = gradient.shape[1:3]
        pixels = gradient.numel() // features

        def sums(*shape: int) -> Tensor:
            return gradient.new_empty(count, PARTS, *shape)

        of_expand, of_expand_bias = sums(wide, features), sums(wide)
        of_reduce, of_reduce_bias = sums(wide, low_rank), sums(low_rank)
        of_spread, of_spread_bias = sums(3, 3, low_rank, features), sums(features)
        # The spatial convolution backwards: turned by 180 degrees, channels exchanged.
        turned = spread.flip(1, 2).transpose(3, 4).contiguous()
        sizes = {"features": features, "wide": wide, "low_rank": low_rank}
        tiles = {"tile_px": TILE_PX, "tile_wide": TILE_WIDE, "num_warps": WARPS}
        sum_tiles = {"tile_px": SUM_TILE_PX, "num_warps": SUM_WARPS}
        for block in reversed(range(count)):
            spatial_sums[(PARTS, 3)](
                ranks[block],
                gradient,
                of_spread[block],
                of_spread_bias[block],
                pixels,
                height,
                width,
                features=features,
                low_rank=low_rank,
                **sum_tiles,
            )
            rank = torch.empty_like(ranks[block])
            spatial(gradient, turned[block], rank)
            pair_sums[(PARTS, wide // TILE_WIDE)](
                streams[block],
                rank,
                expand[block],
                expand_bias[block],
                reduce[block],
                of_expand[block],
                of_expand_bias[block],
                of_reduce[block],
                of_reduce_bias[block],
                pixels,
                **sizes,
                **sum_tiles,
                tile_wide=TILE_WIDE,
            )
            before = torch.empty_like(gradient)
            pair_backward[(triton.cdiv(pixels, TILE_PX),)](
                streams[block],
                rank,
                gradient,
                expand[block],
                expand_bias[block],
                reduce[block],
                before,
                pixels,
                **sizes,
                **tiles,
            )
            gradient = before
        return (
            gradient,
            of_expand.sum(1),
            of_expand_bias.sum(1),
            of_reduce.sum(1).transpose(1, 2),
            of_reduce_bias.sum(1),
            of_spread.sum(1),
            of_spread_bias.sum(1),
        )


def spatial(
    x: Tensor,
    weight: Tensor,
    made: Tensor,
    stream: Tensor | None = None,
    bias: Tensor | None = None,
) -> None:
    """`made` = the 3x3 convolution of x, plus bias and stream; weight [3, 3, in, out]."""
    pixels = x.numel() // x.shape[3]
    spatial_forward[(triton.cdiv(pixels, TILE_PX),)](
        x,
        weight,
        x if bias is None else bias,
        x if stream is None else stream,
        made,
        pixels,
        x.shape[1],
        x.shape[2],
        channels_in=x.shape[3],
        channels_out=made.shape[3],
        onto_stream=stream is not None,
        tile_px=TILE_PX,
        num_warps=WARPS,
    )


@triton.jit
def pair_forward(  # noqa: ANN201
    stream,  # noqa: ANN001
    expand,  # noqa: ANN001
    expand_bias,  # noqa: ANN001
    reduce,  # noqa: ANN001
    reduce_bias,  # noqa: ANN001
    made,  # noqa: ANN001
    pixels,  # noqa: ANN001
    features: tl.constexpr,
    wide: tl.constexpr,
    low_rank: tl.constexpr,
    tile_px: tl.constexpr,
    tile_wide: tl.constexpr,
):
    """reduce(relu(expand(stream))) of a tile of pixels."""
    pixel = tl.program_id(0) * tile_px + tl.arange(0, tile_px)
    inside = (pixel < pixels)[:, None]
    feature, rank = tl.arange(0, features), tl.arange(0, low_rank)
    x = tl.load(stream + pixel[:, None] * features + feature, mask=inside, other=0.0)
    x = x.to(expand.dtype.element_ty)
    total = tl.zeros((tile_px, low_rank), tl.float32) + tl.load(reduce_bias + rank)
    for first in tl.static_range(0, wide, tile_wide):
        channel = first + tl.arange(0, tile_wide)
        weight = tl.load(expand + channel * features + feature[:, None])
        h = tl.dot(x, weight) + tl.load(expand_bias + channel)
        weight = tl.load(reduce + rank * wide + channel[:, None])
        total += tl.dot(tl.maximum(h, 0.0).to(reduce.dtype.element_ty), weight)
    tl.store(made + pixel[:, None] * low_rank + rank, total.to(made.dtype.element_ty), mask=inside)


@triton.jit
def pair_backward(  # noqa: ANN201
    stream,  # noqa: ANN001
    of_made,  # noqa: ANN001
    of_stream,  # noqa: ANN001
    expand,  # noqa: ANN001
    expand_bias,  # noqa: ANN001
    reduce,  # noqa: ANN001
    made,  # noqa: ANN001
    pixels,  # noqa: ANN001
    features: tl.constexpr,
    wide: tl.constexpr,
    low_rank: tl.constexpr,
    tile_px: tl.constexpr,
    tile_wide: tl.constexpr,
):
    """The gradient of the stream before a block, from those of the one after it and of `made`."""
    pixel = tl.program_id(0) * tile_px + tl.arange(0, tile_px)
    inside = (pixel < pixels)[:, None]
    feature, rank = tl.arange(0, features), tl.arange(0, low_rank)
    at = pixel[:, None] * features + feature
    x = tl.load(stream + at, mask=inside, other=0.0).to(expand.dtype.element_ty)
    gradient = tl.load(of_made + pixel[:, None] * low_rank + rank, mask=inside, other=0.0)
    total = tl.load(of_stream + at, mask=inside, other=0.0)
    for first in tl.static_range(0, wide, tile_wide):
        channel = first + tl.arange(0, tile_wide)
        weight = tl.load(expand + channel * features + feature[:, None])
        h = tl.dot(x, weight) + tl.load(expand_bias + channel)
        weight = tl.load(reduce + rank[:, None] * wide + channel)
        of_h = tl.where(h > 0, tl.dot(gradient, weight), 0.0).to(expand.dtype.element_ty)
        weight = tl.load(expand + channel[:, None] * features + feature)
        total += tl.dot(of_h, weight)
    tl.store(made + at, total, mask=inside)


@triton.jit
def pair_sums(  # noqa: ANN201
    stream,  # noqa: ANN001
    of_made,  # noqa: ANN001
    expand,  # noqa: ANN001
    expand_bias,  # noqa: ANN001
    reduce,  # noqa: ANN001
    of_expand,  # noqa: ANN001
    of_expand_bias,  # noqa: ANN001
    of_reduce,  # noqa: ANN001
    of_reduce_bias,  # noqa: ANN001
    pixels,  # noqa: ANN001
    features: tl.constexpr,
    wide: tl.constexpr,
    low_rank: tl.constexpr,
    tile_px: tl.constexpr,
    tile_wide: tl.constexpr,
):
    """The weights' gradients of a part of the pixels and `tile_wide` of the wide channels."""
    part, parts = tl.program_id(0), tl.num_programs(0)
    feature, rank = tl.arange(0, features), tl.arange(0, low_rank)
    channel = tl.program_id(1) * tile_wide + tl.arange(0, tile_wide)
    into = tl.load(expand + channel * features + feature[:, None])
    bias = tl.load(expand_bias + channel)
    out = tl.load(reduce + rank[:, None] * wide + channel)
    expand_sum = tl.zeros((tile_wide, features), tl.float32)
    expand_bias_sum = tl.zeros((tile_wide,), tl.float32)
    reduce_sum = tl.zeros((tile_wide, low_rank), tl.float32)
    reduce_bias_sum = tl.zeros((low_rank,), tl.float32)
    for first in range(part * tile_px, pixels, parts * tile_px):
        pixel = first + tl.arange(0, tile_px)
        inside = (pixel < pixels)[:, None]
        x = tl.load(stream + pixel[:, None] * features + feature, mask=inside, other=0.0)
        x = x.to(expand.dtype.element_ty)
        gradient = tl.load(of_made + pixel[:, None] * low_rank + rank, mask=inside, other=0.0)
        h = tl.dot(x, into) + bias
        of_h = tl.where(h > 0, tl.dot(gradient, out), 0.0)
        expand_bias_sum += tl.sum(of_h, 0)
        expand_sum += tl.dot(tl.trans(of_h.to(x.dtype)), x)
        reduce_sum += tl.dot(tl.trans(tl.maximum(h, 0.0).to(gradient.dtype)), gradient)
        reduce_bias_sum += tl.sum(gradient.to(tl.float32), 0)
    row = part * wide + channel
    tl.store(of_expand + row[:, None] * features + feature, expand_sum)
    tl.store(of_expand_bias + row, expand_bias_sum)
    tl.store(of_reduce + row[:, None] * low_rank + rank, reduce_sum)
    # Every program of the part has the same.
    tl.store(of_reduce_bias + part * low_rank + rank, reduce_bias_sum)


@triton.jit
def spatial_forward(  # noqa: ANN201
    source,  # noqa: ANN001
    weights,  # noqa: ANN001
    bias,  # noqa: ANN001
    stream,  # noqa: ANN001
    made,  # noqa: ANN001
    pixels,  # noqa: ANN001
    height,  # noqa: ANN001
    width,  # noqa: ANN001
    channels_in: tl.constexpr,
    channels_out: tl.constexpr,
    onto_stream: tl.constexpr,
    tile_px: tl.constexpr,
):
    """A 3x3 convolution of a tile of pixels, with bias and stream added or alone."""
    pixel = tl.program_id(0) * tile_px + tl.arange(0, tile_px)
    channel_in, channel_out = tl.arange(0, channels_in), tl.arange(0, channels_out)
    x, y = pixel % width, (pixel // width) % height
    total = tl.zeros((tile_px, channels_out), tl.float32)
    for tap in tl.static_range(9):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        inside = (pixel < pixels) & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0)
        inside = (inside & (x + dx < width))[:, None]
        at = (pixel + dy * width + dx)[:, None] * channels_in + channel_in
        values = tl.load(source + at, mask=inside, other=0.0).to(weights.dtype.element_ty)
        at = (tap * channels_in + channel_in[:, None]) * channels_out + channel_out
        total += tl.dot(values, tl.load(weights + at))
    inside = (pixel < pixels)[:, None]
    at = pixel[:, None] * channels_out + channel_out
    if onto_stream:
        total += tl.load(bias + channel_out) + tl.load(stream + at, mask=inside, other=0.0)
    tl.store(made + at, total.to(made.dtype.element_ty), mask=inside)


@triton.jit
def spatial_sums(  # noqa: ANN201
    source,  # noqa: ANN001
    gradient,  # noqa: ANN001
    of_weights,  # noqa: ANN001
    of_bias,  # noqa: ANN001
    pixels,  # noqa: ANN001
    height,  # noqa: ANN001
    width,  # noqa: ANN001
    features: tl.constexpr,
    low_rank: tl.constexpr,
    tile_px: tl.constexpr,
):
    """The gradients of a 3x3 convolution's row of taps and bias, of a part of the pixels."""
    part, parts = tl.program_id(0), tl.num_programs(0)
    row = tl.program_id(1)
    dy = row - 1
    feature, rank = tl.arange(0, features), tl.arange(0, low_rank)
    left = tl.zeros((low_rank, features), tl.float32)
    centre = tl.zeros((low_rank, features), tl.float32)
    right = tl.zeros((low_rank, features), tl.float32)
    bias_sum = tl.zeros((features,), tl.float32)
    for first in range(part * tile_px, pixels, parts * tile_px):
        pixel = first + tl.arange(0, tile_px)
        within = pixel < pixels
        x, y = pixel % width, (pixel // width) % height
        within_rows = within & (y + dy >= 0) & (y + dy < height)
        at = pixel[:, None] * features + feature
        values = tl.load(gradient + at, mask=within[:, None], other=0.0)
        bias_sum += tl.sum(values, 0)
        values = values.to(source.dtype.element_ty)
        at = (pixel + dy * width)[:, None] * low_rank + rank
        mask = (within_rows & (x > 0))[:, None]
        left += tl.dot(tl.trans(tl.load(source + at - low_rank, mask=mask, other=0.0)), values)
        mask = within_rows[:, None]
        centre += tl.dot(tl.trans(tl.load(source + at, mask=mask, other=0.0)), values)
        mask = (within_rows & (x + 1 < width))[:, None]
        right += tl.dot(tl.trans(tl.load(source + at + low_rank, mask=mask, other=0.0)), values)
    at = ((part * 3 + row) * 3 * low_rank + rank[:, None]) * features + feature
    tl.store(of_weights + at, left)
    tl.store(of_weights + at + low_rank * features, centre)
    tl.store(of_weights + at + 2 * low_rank * features, right)
    # Every program of the part has the same.
    tl.store(of_bias + part * features + feature, bias_sum)
