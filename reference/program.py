"""Runs `wdsr` from this checkout."""

import subprocess
from pathlib import Path

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parent.parent
# One of each kind that files of other engines are checked for.
NETWORKS = (
    "wdsr-a-32x16",
    "wdsr-b-32x16",
    "edsr-64x16",
    "compact-64x16",
    "msrresnet-64x16",
    "rrdb-64x2",
)


def cargo_run(*arguments: str | Path) -> None:
    subprocess.run(["cargo", "run", "--quiet", "--locked", *arguments], check=True, cwd=ROOT)


def wdsr(*arguments: str | Path) -> None:
    cargo_run("--package", "wdsr-cli", "--", *arguments)


def write_random_model(network: str, scale: int, path: Path) -> None:
    """Writes a model with random weights of a published network, such as wdsr-b-32x16."""
    example = ("--package", "wdsr-model", "--example", "random_model", "--")
    cargo_run(*example, network, str(scale), path)


def upscale(model: Path, image: np.ndarray, folder: Path) -> np.ndarray:
    """Upscales an image, RGB float32 [height, width, 3] in 0..1. The result is not clamped."""
    small, large = folder / "small.tif", folder / "large.tif"
    tifffile.imwrite(small, image, photometric="rgb")
    wdsr("upscale", "--quiet", "-m", model, "-o", large, small)
    return tifffile.imread(large)
