"""What several tests need."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import wdsr

ROOT = Path(__file__).parents[2]
MODEL_FILE = ROOT / "models/base-x2.safetensors"


@pytest.fixture(scope="session")
def model() -> wdsr.Model:
    return wdsr.load("base", scale=2)


@pytest.fixture(scope="session")
def models() -> wdsr.Model:
    """Of all scales, as the program's default."""
    return wdsr.load("base")


@pytest.fixture(scope="session")
def photograph() -> npt.NDArray[np.uint8]:
    """R G B, 60 x 96 x 3."""
    with Image.open(ROOT / "samples/chelsea.png") as image:
        return np.asarray(image.convert("RGB"))[100:160, 150:246].copy()


Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs `wdsr upscale` on a file; gives the file that it wrote."""

    def run(file: Path, *options: str) -> Path:
        out = tmp_path / f"upscaled{file.suffix}"
        command = [os.environ["WDSR_PROGRAM"], "upscale", str(file), "-o", str(out), *options]
        subprocess.run(command, check=True, capture_output=True)
        return out

    return run


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden vectors, described in its README.md."""
    folder = Path(os.environ.get("WDSR_GOLDEN", ROOT / "tests/golden"))
    assert (folder / "cases.json").is_file(), f"{folder}: no golden vectors; check WDSR_GOLDEN"
    return folder
