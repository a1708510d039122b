"""Checks twin_kernels.py, in Triton's interpreter on a processor, against PyTorch's operations.

    reference/run --peers twin_kernels_check.py     # seconds

Two blocks forwards and backwards in float32, of patches that fill no whole number of tiles.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

import torch

import twin_kernels
from twin_network import Tensors, TwinNetwork

CONFIG = {"block": "wdsr-b", "features": 16, "blocks": 2, "expansion": 8, "low_rank": 13}
CONFIG |= {"scale": 2, "residual_scale": 1, "mean": [0.4488, 0.4371, 0.404]}
BOUND = 2e-6


def random_tensors(norm: str) -> Tensors:
    convolutions = {"head.0": (16, 3, 3), "tail.0": (12, 16, 3), "skip.0": (12, 3, 5)}
    for block in range(CONFIG["blocks"]):
        for position, shape in ((0, (128, 16, 1)), (2, (13, 128, 1)), (3, (16, 13, 3))):
            convolutions[f"body.{block}.body.{position}"] = shape
    tensors = {}
    for key, (out, channels, side) in convolutions.items():
        weight = torch.randn(out, channels, side, side) * 0.1
        if norm == "weight":
            tensors |= {f"{key}.weight_v": weight, f"{key}.weight_g": torch.rand(out, 1, 1, 1)}
        else:
            tensors[f"{key}.weight"] = weight
        tensors[f"{key}.bias"] = torch.randn(out) * 0.1
    for tensor in tensors.values():
        tensor.requires_grad_()
    return tensors


def check(norm: str) -> None:
    config = CONFIG | {"norm": norm}
    assert twin_kernels.fits(config), config
    tensors = random_tensors(norm)
    low, of_made = torch.rand(2, 3, 10, 13), torch.randn(2, 3, 20, 26)
    results = []
    for kernels in (False, True):
        made = TwinNetwork(config, torch.float32, kernels)(tensors, {}, low)
        results.append([made, *torch.autograd.grad(made, list(tensors.values()), of_made)])
    largest = 0.0
    for key, plain, fused in zip(["made", *tensors], *results, strict=True):
        difference = ((fused - plain).norm() / plain.norm()).item()
        assert difference <= BOUND, f"norm {norm}: {key} differs by {difference:.1e}"
        largest = max(largest, difference)
    print(f"norm {norm}: results and gradients differ by {largest:.1e} at most")


def main() -> None:
    torch.manual_seed(1)
    twin_kernels.PRODUCT_TYPE = torch.float32
    # Several tiles and an unfinished one, also within a part.
    twin_kernels.TILE_PX, twin_kernels.SUM_TILE_PX, twin_kernels.PARTS = 32, 16, 3
    for norm in ("weight", "none"):
        check(norm)


if __name__ == "__main__":
    main()
