"""Runs `wdsr` from this checkout."""

import subprocess
from pathlib import Path

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parent.parent


def cargo_run(*arguments: str | Path) -> None:
    subprocess.run(["cargo", "run", "--quiet", "--locked", *arguments], check=True, cwd=ROOT)


def wdsr(*arguments: str | Path) -> None:
    cargo_run("--package", "wdsr-cli", "--", *arguments)


def write_random_model(network: str, scale: int, path: Path) -> None:
    """A model of a published network, as wdsr-b-32x16."""
    example = ("--package", "wdsr-model", "--example", "random_model", "--")
    cargo_run(*example, network, str(scale), path)


def upscale(model: Path, image: np.ndarray, folder: Path) -> np.ndarray:
    """RGB float32 [height, width, 3] in 0..1 -> the same, `scale` times as large, not clamped."""
    small, large = folder / "small.tif", folder / "large.tif"
    tifffile.imwrite(small, image, photometric="rgb")
    wdsr("upscale", "--quiet", "-m", model, "-o", large, small)
    return tifffile.imread(large)
