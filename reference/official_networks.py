"""The published networks in PyTorch, module for module, so that their state dicts have its keys.

WDSR after JiahuiYu/wdsr_ntire2018 (wdsr_a.py, wdsr_b.py), EDSR after EDSR-PyTorch (model/edsr.py),
both on images in 0..255. `build` takes the options of EDSR-PyTorch as `wdsr convert` prints them.
"""

import argparse
import warnings
from argparse import Namespace
from collections.abc import Callable

import torch
from torch import Tensor, nn

# `--n_colors`, which nobody changes.
COLOURS = 3


def build(options: str) -> nn.Module:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["wdsr_a", "wdsr_b", "edsr"])
    for name in ("scale", "n_resblocks", "n_feats", "block_feats"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("res_scale", "r_mean", "g_mean", "b_mean"):
        parser.add_argument(f"--{name}", type=float)
    args = parser.parse_args(options.split())
    return Edsr(args) if args.model == "edsr" else Wdsr(args)


class Block(nn.Module):
    def __init__(self, *layers: nn.Module, res_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.res_scale + x


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def normalised(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    with warnings.catch_warnings():
        # Deprecated, and what the published code calls.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.nn.utils.weight_norm(conv(inputs, outputs, kernel))


class Wdsr(nn.Module):
    def __init__(self, args: Namespace) -> None:
        super().__init__()
        n, colours = args.n_feats, COLOURS * args.scale**2
        blocks: dict[str, Callable[[], list[nn.Module]]] = {
            "wdsr_a": lambda: [
                normalised(n, args.block_feats, 3),
                nn.ReLU(),
                normalised(args.block_feats, n, 3),
            ],
            "wdsr_b": lambda: [
                normalised(n, 6 * n, 1),
                nn.ReLU(),
                normalised(6 * n, int(0.8 * n), 1),
                normalised(int(0.8 * n), n, 3),
            ],
        }
        block = blocks[args.model]
        self.head = nn.Sequential(normalised(COLOURS, n, 3))
        self.body = nn.Sequential(
            *(Block(*block(), res_scale=args.res_scale) for _ in range(args.n_resblocks))
        )
        self.tail = nn.Sequential(normalised(n, colours, 3), nn.PixelShuffle(args.scale))
        self.skip = nn.Sequential(normalised(COLOURS, colours, 5), nn.PixelShuffle(args.scale))
        self.mean = torch.tensor([args.r_mean, args.g_mean, args.b_mean]).view(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean * 255) / 127.5
        return (self.tail(self.body(self.head(x))) + self.skip(x)) * 127.5 + self.mean * 255


class Edsr(nn.Module):
    def __init__(self, args: Namespace) -> None:
        super().__init__()
        n = args.n_feats
        factors = {1: [], 4: [2, 2], 8: [2, 2, 2]}.get(args.scale, [args.scale])
        upsampler = [m for s in factors for m in (conv(n, n * s**2, 3), nn.PixelShuffle(s))]
        blocks = (
            Block(conv(n, n, 3), nn.ReLU(), conv(n, n, 3), res_scale=args.res_scale)
            for _ in range(args.n_resblocks)
        )
        self.sub_mean = conv(COLOURS, COLOURS, 1)
        self.add_mean = conv(COLOURS, COLOURS, 1)
        self.head = nn.Sequential(conv(COLOURS, n, 3))
        self.body = nn.Sequential(*blocks, conv(n, n, 3))
        self.tail = nn.Sequential(nn.Sequential(*upsampler), conv(n, COLOURS, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(x + self.body(x)))
