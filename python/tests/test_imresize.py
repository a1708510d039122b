"""`wdsr.imresize`."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file

import wdsr

Photograph = npt.NDArray[np.uint8]


def test_golden_images(golden: Path) -> None:
    tensors = load_file(golden / "imresize.safetensors")
    seen = 0
    for name, expected in tensors.items():
        image, _, rest = name.partition("/")
        kind, _, scale = rest.partition("/")
        if kind != "uint8_passes":
            continue
        factor = float(Fraction(scale))
        made = wdsr.imresize(tensors[image], factor)
        np.testing.assert_array_equal(made, expected, err_msg=name)
        alone = wdsr.imresize(tensors[image][..., 1], factor, threads=1)
        np.testing.assert_array_equal(alone, expected[..., 1], err_msg=name)
        seen += 1
    assert seen >= 8


def test_rounding_once_differs_from_rounding_twice(photograph: Photograph) -> None:
    once = wdsr.imresize(photograph, 0.5, rounding="float")
    unrounded = wdsr.imresize(photograph.astype(np.float32), 0.5)
    np.testing.assert_array_equal(once, np.clip(np.floor(unrounded + 0.5), 0, 255))
    assert not np.array_equal(once, wdsr.imresize(photograph, 0.5))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_axes_and_dtype_stay(dtype: type, channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    made = wdsr.imresize(np.ones(shape, dtype), 1.5)
    assert made.dtype == dtype
    assert made.shape == (8, 11, *shape[2:])
    np.testing.assert_allclose(made, 1, atol=1e-6)


def test_images_give_images(photograph: Photograph) -> None:
    image = Image.fromarray(photograph)
    made = wdsr.imresize(image, 1 / 3)
    assert (made.mode, made.size) == ("RGB", (32, 20))
    np.testing.assert_array_equal(np.asarray(made), wdsr.imresize(photograph, 1 / 3))


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        ((0,), {}, ValueError, "scale is 0, expected 1/1024 to 1024"),
        ((-1,), {}, ValueError, "scale is -1"),
        ((1025,), {}, ValueError, "scale is 1025"),
        ((float("nan"),), {}, ValueError, "scale is NaN"),
        ((float("inf"),), {}, ValueError, "scale is inf"),
        (("2",), {}, TypeError, "scale"),
        ((2,), {"rounding": "half"}, ValueError, "'half', expected '8bit' or 'float'"),
        ((2,), {"threads": -1}, ValueError, "threads is -1"),
    ],
)
def test_arguments_out_of_range_are_refused(
    photograph: Photograph,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    with pytest.raises(kind, match=words):
        wdsr.imresize(photograph, *arguments, **options)


def test_a_result_larger_than_the_memory_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="the resized image needs about"):
        wdsr.imresize(np.zeros((8192, 8192), np.uint8), 1024)
