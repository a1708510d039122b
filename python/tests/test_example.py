"""The example for users."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from PIL import Image


def test_the_example_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "python/examples/upscale.py")]
    files = [str(ROOT / "samples/chelsea.png"), str(tmp_path / "large.png")]
    result = subprocess.run(command + files, check=True, capture_output=True, text=True)
    with Image.open(files[1]) as large:
        assert large.size == (902, 600)
    assert "100 %" in result.stdout
    bicubic, ours = (float(line.split()[1]) for line in result.stdout.splitlines() if " dB" in line)
    assert ours > bicubic + 0.5
