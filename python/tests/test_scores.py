"""`wdsr.psnr` and `wdsr.ssim`."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file

import wdsr

Photograph = npt.NDArray[np.uint8]


def test_golden_figures(golden: Path) -> None:
    images = load_file(golden / "metrics.safetensors")
    figures = json.loads((golden / "metrics.json").read_text())
    a, b = images["a"], images["b"]
    cases: list[tuple[str, Callable[..., float], int, str]] = [
        ("psnr_rgb_shave2", wdsr.psnr, 2, "ntire"),
        ("psnr_rgb_shave8", wdsr.psnr, 2, "div2k"),
        ("psnr_y_shave2", wdsr.psnr, 2, "benchmark"),
        ("psnr_y_shave4", wdsr.psnr, 4, "benchmark"),
        ("ssim_y_shave2", wdsr.ssim, 2, "benchmark"),
        ("ssim_y_shave4", wdsr.ssim, 4, "benchmark"),
    ]
    for name, score, scale, protocol in cases:
        assert score(a, b, scale, protocol) == pytest.approx(figures[name], abs=1e-9), name
    assert wdsr.psnr(a, b, 2) == wdsr.psnr(a, b, scale=2, protocol="benchmark")
    assert wdsr.ssim(a, b, 2, threads=1) == wdsr.ssim(a, b, 2, threads=3)


def test_equal_images(photograph: Photograph) -> None:
    assert wdsr.psnr(photograph, photograph, 2) == math.inf
    assert wdsr.ssim(photograph, photograph, 2) == pytest.approx(1, abs=1e-12)


def test_grey_images_are_compared_as_they_are(photograph: Photograph) -> None:
    a, b = photograph[..., 0], photograph[..., 1]
    inner = (slice(2, -2), slice(2, -2))
    error = np.mean((a[inner].astype(float) - b[inner]) ** 2)
    expected = 10 * math.log10(255**2 / error)
    assert wdsr.psnr(a, b, 2) == pytest.approx(expected, abs=1e-9)
    assert wdsr.psnr(a[..., None], b[..., None], 2) == pytest.approx(expected, abs=1e-9)
    as_images = wdsr.psnr(Image.fromarray(a), Image.fromarray(b), 2)
    assert as_images == pytest.approx(expected, abs=1e-9)


IMAGE = np.zeros((32, 24, 3), np.uint8)


@pytest.mark.parametrize("score", [wdsr.psnr, wdsr.ssim])
@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ((IMAGE, IMAGE[:30], 2), ValueError, "a is 32 x 24 x 3, b is 30 x 24 x 3"),
        ((IMAGE, IMAGE[..., 0], 2), ValueError, "b is 32 x 24 x 1"),
        ((IMAGE, IMAGE.astype(np.float32), 2), TypeError, "b has samples of 4 bytes"),
        ((IMAGE, IMAGE, 0), ValueError, "scale is 0"),
        ((IMAGE, IMAGE, -1), ValueError, "scale is -1"),
        ((IMAGE, IMAGE, 2, "set5"), ValueError, "expected div2k, ntire or benchmark"),
        ((IMAGE, IMAGE, 12), ValueError, "cuts 12 off each side"),
        ((np.zeros((32, 32, 4), np.uint8),) * 2 + (2,), ValueError, r"a\[\.\.\., :3\]"),
        ((IMAGE, IMAGE), TypeError, "scale"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(
    score: Callable[..., float], arguments: tuple[Any, ...], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        score(*arguments)


def test_the_window_of_ssim_must_fit() -> None:
    wdsr.ssim(IMAGE[:15, :15], IMAGE[:15, :15], 2)
    with pytest.raises(ValueError, match="at least 15 pixels"):
        wdsr.ssim(IMAGE[:14, :15], IMAGE[:14, :15], 2)
    wdsr.psnr(IMAGE[:5, :5], IMAGE[:5, :5], 2)
    with pytest.raises(ValueError, match="at least 5 pixels"):
        wdsr.psnr(IMAGE[:5, :4], IMAGE[:5, :4], 2)
