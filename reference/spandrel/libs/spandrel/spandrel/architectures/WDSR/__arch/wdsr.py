"""WDSR: wide activation for efficient and accurate image super-resolution (Yu et al. 2018).

Names of the modules are those of https://github.com/JiahuiYu/wdsr_ntire2018.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn as nn
from torch import Tensor

from spandrel.util import store_hyperparameters

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class Block(nn.Module):
    """A residual block with a wide activation."""

    def __init__(self, n_feats: int, wide: int, low_rank: int, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        if low_rank == 0:
            self.body = nn.Sequential(
                conv(n_feats, wide, 3),
                nn.ReLU(inplace=True),
                conv(wide, n_feats, 3),
            )
        else:
            self.body = nn.Sequential(
                conv(n_feats, wide, 1),
                nn.ReLU(inplace=True),
                conv(wide, low_rank, 1),
                conv(low_rank, n_feats, 3),
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.res_scale + x


@store_hyperparameters()
class WDSR(nn.Module):
    """Images are R G B in 0..1. The network computes on `input_factor` * (image - mean)."""

    hyperparameters = {}

    def __init__(
        self,
        *,
        scale: int = 4,
        n_feats: int = 32,
        n_blocks: int = 16,
        block: Literal["a", "b"] = "b",
        expansion: int = 6,
        low_rank: int = 25,
        res_scale: float = 1,
        rgb_mean: tuple[float, float, float] = DIV2K_MEAN,
        input_factor: float = 1,
    ):
        super().__init__()
        self.input_factor = input_factor
        mean = torch.tensor(rgb_mean).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        low_rank = low_rank if block == "b" else 0
        colours = 3 * scale * scale
        self.head = nn.Sequential(conv(3, n_feats, 3))
        self.body = nn.Sequential(
            *(
                Block(n_feats, n_feats * expansion, low_rank, res_scale)
                for _ in range(n_blocks)
            )
        )
        self.tail = nn.Sequential(conv(n_feats, colours, 3), nn.PixelShuffle(scale))
        self.skip = nn.Sequential(conv(3, colours, 5), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        u = (x - self.mean) * self.input_factor
        y = self.tail(self.body(self.head(u))) + self.skip(u)
        return y / self.input_factor + self.mean
