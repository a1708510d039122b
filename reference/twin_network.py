"""The networks of `crates/model/src/network.rs` in PyTorch, on the tensors of a checkpoint.

A network is a function of its tensors, which stand under their checkpoint's keys: `KEY.bias` and
`KEY.weight`, or `KEY.weight_v` and `KEY.weight_g` under weight normalisation.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# PyTorch's defaults for BatchNorm2d, and `crates/train/src/parameters/layout.rs`.
BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM = 1e-5, 0.1
# Where a convolution of a block stands once the norms are folded in, by where it stood.
POSITION_WITHOUT_NORM = {0: 0, 3: 2, 5: 3}

Tensors = dict[str, Tensor]


class TwinNetwork:
    """The network of a recipe's `[network]` table."""

    def __init__(
        self, config: dict[str, Any], body_type: torch.dtype, kernels: bool = False
    ) -> None:
        """`body_type`: what the convolutions of the blocks compute in. All else is float32.

        `kernels`: the blocks are those of twin_kernels.py.
        """
        self.config = config
        self.kernels = kernels
        # Of a network with a strength: its convolutions at strength 0, and the strength, 0..1.
        self.clean: Tensors | None = None
        self.strength: Tensor | None = None
        self.mean: Tensor | None = None
        self.body_type = body_type
        n, wide = config["features"], config["features"] * config["expansion"]
        # Channels written and whether a ReLU follows, for each convolution of a block.
        match config["block"]:
            case "wdsr-a" | "edsr":
                self.block = [(wide, True), (n, False)]
            case "wdsr-b":
                self.block = [(wide, True), (config["low_rank"], False), (n, False)]
            case other:
                raise ValueError(f"network.block is {other}, which twin.py does not know")
        if config["norm"] not in ("weight", "batch", "none"):
            raise ValueError(f"network.norm is {config['norm']}, which twin.py does not know")

    def __call__(self, tensors: Tensors, running: Tensors, low: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> [batch, 3, scale height, scale width].

        Batch normalisation goes by the batch and moves its running statistics.
        """
        scale = self.config["scale"]
        if self.mean is None:
            # Made once: a CUDA graph takes no values from the processor.
            self.mean = low.new_tensor(self.config["mean"]).view(1, 3, 1, 1)
        mean = self.mean
        u = low - mean
        head = self.conv(tensors, "head.0", u)
        x = head
        if self.kernels:
            x = self.fused_blocks(tensors, x)
        else:
            x = self.plain_blocks(tensors, running, x)
        if self.config["block"] == "edsr":
            x = self.conv(tensors, f"body.{self.config['blocks']}", x) + head
            stages = {1: [], 4: [2, 2], 8: [2, 2, 2]}.get(scale, [scale])
            for stage, factor in enumerate(stages):
                x = functional.pixel_shuffle(self.conv(tensors, f"tail.0.{2 * stage}", x), factor)
            return self.conv(tensors, "tail.1", x) + mean
        colours = self.conv(tensors, "tail.0", x) + self.conv(tensors, "skip.0", u)
        return functional.pixel_shuffle(colours, scale) + mean

    def plain_blocks(self, tensors: Tensors, running: Tensors, x: Tensor) -> Tensor:
        for block in range(self.config["blocks"]):
            # A cache of weights in bf16 would outlive the graph's capture.
            enabled = self.body_type != torch.float32
            with torch.autocast(x.device.type, self.body_type, enabled, cache_enabled=False):
                branch = self.branch(tensors, running, block, x)
            x = branch.float() * self.config["residual_scale"] + x
        return x

    def fused_blocks(self, tensors: Tensors, x: Tensor) -> Tensor:
        # Not at the top: triton comes with PyTorch for GPUs alone.
        from twin_kernels import Blocks, padded

        def stacked(position: int) -> tuple[Tensor, Tensor]:
            """[blocks, out, in, k, k] and [blocks, out] of a convolution of all blocks."""
            keys = [f"body.{b}.body.{position}" for b in range(self.config["blocks"])]

            def all_of(name: str, tensors: Tensors = tensors) -> Tensor:
                return torch.stack([tensors[f"{key}.{name}"] for key in keys])

            if f"{keys[0]}.weight" in tensors:
                weight = all_of("weight")
            else:
                weight = normalised(all_of("weight_v"), all_of("weight_g"))
            if self.clean is None or self.strength is None:
                return weight, all_of("bias")
            clean_weight, clean_bias = (all_of(name, self.clean) for name in ("weight", "bias"))
            weight = torch.lerp(clean_weight, weight, self.strength)
            return weight, torch.lerp(clean_bias, all_of("bias"), self.strength)

        (expand, expand_bias), (reduce, reduce_bias), (spread, spread_bias) = map(
            stacked, (0, 2, 3)
        )
        zeros = padded(reduce.shape[1]) - reduce.shape[1]
        made = Blocks.apply(
            x.permute(0, 2, 3, 1),
            expand.flatten(2),
            expand_bias,
            functional.pad(reduce.flatten(2), (0, 0, 0, zeros)),
            functional.pad(reduce_bias, (0, zeros)),
            functional.pad(spread.permute(0, 3, 4, 2, 1), (0, 0, 0, zeros)),
            spread_bias,
        )
        return made.permute(0, 3, 1, 2)

    def branch(self, tensors: Tensors, running: Tensors, block: int, x: Tensor) -> Tensor:
        # Position in the published `nn.Sequential`, where norm and ReLU count too.
        position = 0
        for _, relu in self.block:
            x = self.conv(tensors, f"body.{block}.body.{position}", x)
            if self.config["norm"] == "batch":
                position += 1
                key = f"body.{block}.body.{position}"
                statistics = running[f"running_mean/{key}"], running[f"running_var/{key}"]
                factor, offset = tensors[f"{key}.weight"], tensors[f"{key}.bias"]
                moving = (True, BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON)
                x = functional.batch_norm(x, *statistics, factor, offset, *moving)
            if relu:
                x = functional.relu(x)
            position += 2 if relu else 1
        return x

    def conv(self, tensors: Tensors, key: str, x: Tensor) -> Tensor:
        weight, bias = conv_weight(tensors, key), tensors[f"{key}.bias"]
        if self.clean is not None and self.strength is not None:
            weight = torch.lerp(self.clean[f"{key}.weight"], weight, self.strength)
            bias = torch.lerp(self.clean[f"{key}.bias"], bias, self.strength)
        return functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def folded(self, tensors: Tensors, running: Tensors) -> Tensors:
        """The convolutions for use, `KEY.weight` and `KEY.bias`, normalisations folded in."""
        keys = [key.removesuffix(".bias") for key in tensors if key.endswith(".bias")]
        norms = {key.removeprefix("running_mean/") for key in running if "mean/" in key}
        folded = {}
        for key in keys:
            if key in norms:
                continue
            weight, bias = conv_weight(tensors, key), tensors[f"{key}.bias"]
            path, _, position = key.rpartition(".")
            norm = f"{path}.{int(position) + 1}"
            if norm in norms:
                mean, variance = running[f"running_mean/{norm}"], running[f"running_var/{norm}"]
                gain = tensors[f"{norm}.weight"] / (variance + BATCH_NORM_EPSILON).sqrt()
                weight = weight * gain.view(-1, 1, 1, 1)
                bias = (bias - mean) * gain + tensors[f"{norm}.bias"]
                key = f"{path}.{POSITION_WITHOUT_NORM[int(position)]}"
            folded |= {f"{key}.weight": weight, f"{key}.bias": bias}
        return folded


def conv_weight(tensors: Tensors, key: str) -> Tensor:
    """[out, in, k, k]."""
    if f"{key}.weight" in tensors:
        return tensors[f"{key}.weight"]
    return normalised(tensors[f"{key}.weight_v"], tensors[f"{key}.weight_g"])


def normalised(direction: Tensor, gain: Tensor) -> Tensor:
    """g v / |v| for each output channel; [..., out, in, k, k] and [..., out, 1, 1, 1]."""
    return direction * (gain / torch.linalg.vector_norm(direction, dim=(-3, -2, -1), keepdim=True))
