"""Images in and out of `Model.upscale`."""

import io
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from conftest import Program
from PIL import Image

import wdsr

Photograph = npt.NDArray[np.uint8]


def of_mode(photograph: Photograph, mode: str) -> Image.Image:
    """The photograph as an image, cut out by a disc with a soft edge where the mode has alpha."""
    if mode == "I;16":
        return Image.fromarray(photograph[..., 0].astype(np.uint16) * 251 + 7)
    image = Image.fromarray(photograph).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray((disc(photograph) * 255).astype(np.uint8)))
    return image


def disc(photograph: Photograph) -> npt.NDArray[np.float64]:
    """Alpha in 0..1: opaque, transparent and a few pixels between."""
    y, x = np.mgrid[: photograph.shape[0], : photograph.shape[1]]
    return np.clip((25.3 - np.hypot(x - 45, y - 31)) / 4, 0, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_images_are_upscaled_as_by_the_program(
    model: wdsr.Model, photograph: Photograph, program: Program, tmp_path: Path, mode: str
) -> None:
    image = of_mode(photograph, mode)
    image.save(tmp_path / "image.png")
    with Image.open(program(tmp_path / "image.png")) as expected:
        assert expected.mode == mode
        made = model.upscale(image)
        assert isinstance(made, Image.Image)
        assert (made.mode, made.size) == (mode, (2 * image.width, 2 * image.height))
        assert made.tobytes() == expected.tobytes()
        as_array = model.upscale(np.asarray(image))
        np.testing.assert_array_equal(as_array, np.asarray(expected))


def test_floats_are_upscaled_as_by_the_program(
    model: wdsr.Model, photograph: Photograph, program: Program, tmp_path: Path
) -> None:
    # Beyond 0..1 too, as in an image of high dynamic range.
    image = photograph.astype(np.float32) / 200 - np.float32(0.1)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb")
    expected = tifffile.imread(program(tmp_path / "image.tif"))
    assert expected.dtype == np.float32
    assert expected.max() > 1
    assert expected.min() < 0
    np.testing.assert_array_equal(model.upscale(image), expected)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("alpha", ["network", "lanczos"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [{}, {"factor": 2.7}, {"longest": 60}], ids=str)
def test_alpha_is_upscaled_as_by_the_program(
    models: wdsr.Model,
    photograph: Photograph,
    program: Program,
    tmp_path: Path,
    channels: int,
    alpha: Literal["network", "lanczos"],
    dtype: type,
    size: dict[str, Any],
) -> None:
    small = photograph[20:50, 30:70]
    image = np.dstack([small[..., : channels - 1] / 255, disc(photograph)[20:50, 30:70]])
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (image * white).astype(dtype)
    assert 0 < np.count_nonzero(image[..., -1]) < image[..., -1].size
    tifffile.imwrite(
        tmp_path / "image.tif",
        image,
        photometric="rgb" if channels == 4 else "minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    options = [word for name, value in size.items() for word in (f"--{name}", str(value))]
    expected = tifffile.imread(program(tmp_path / "image.tif", "--alpha", alpha, *options))
    made = models.upscale(image, alpha=alpha, **size)
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, expected)


def test_the_ways_to_upscale_alpha_differ(model: wdsr.Model, photograph: Photograph) -> None:
    image = of_mode(photograph, "RGBA")
    made, soft = (np.asarray(model.upscale(image, alpha=way)) for way in ("network", "lanczos"))
    assert not np.array_equal(made[..., 3], soft[..., 3])
    np.testing.assert_array_equal(made[..., :3], soft[..., :3])


def test_constant_alpha_is_exact(model: wdsr.Model, photograph: Photograph) -> None:
    with_alpha = np.dstack([photograph, np.full(photograph.shape[:2], 77, np.uint8)])
    made = model.upscale(with_alpha, width=131)
    assert (made[..., 3] == 77).all()
    np.testing.assert_array_equal(made[..., :3], model.upscale(photograph, width=131))


@pytest.mark.parametrize(
    ("options", "arguments", "size"),
    [
        (["-s", "2"], {"factor": 2}, (192, 120)),
        (["-s", "4"], {"factor": 4}, (384, 240)),
        (["--factor", "2.7"], {"factor": 2.7}, (259, 162)),
        (["--factor", "0.3"], {"factor": 0.3}, (29, 18)),
        (["--width", "131"], {"width": 131}, (131, 82)),
        (["--height", "131"], {"height": 131}, (210, 131)),
        (["--longest", "96"], {"longest": 96}, (96, 60)),
        (["--size", "100x63"], {"size": (100, 63)}, (100, 63)),
    ],
)
def test_sizes_are_those_of_the_program(
    model: wdsr.Model,
    photograph: Photograph,
    program: Program,
    tmp_path: Path,
    options: list[str],
    arguments: dict[str, Any],
    size: tuple[int, int],
) -> None:
    image = Image.fromarray(photograph)
    image.save(tmp_path / "image.png")
    with Image.open(program(tmp_path / "image.png", *options)) as expected:
        made = wdsr.load("base").upscale(image, **arguments)
        assert made.size == expected.size == size
        np.testing.assert_array_equal(made, expected)
        as_array = model.upscale(photograph, **arguments)
        assert as_array.shape == (*size[::-1], 3)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["-x"], {"self_ensemble": True}),
        (["-t", "40", "-j", "1"], {"tile": 0, "threads": 3}),
        (["--precision", "bf16"], {"precision": "bf16"}),
        (["--precision", "int8"], {"precision": "int8"}),
        (["--precision", "auto"], {"precision": "auto"}),
        (["--wrap", "xy"], {"wrap": "xy"}),
    ],
)
@pytest.mark.filterwarnings("ignore:precision (bf16|int8)..not faster:RuntimeWarning")
def test_options_are_those_of_the_program(
    model: wdsr.Model,
    photograph: Photograph,
    program: Program,
    tmp_path: Path,
    options: list[str],
    arguments: dict[str, Any],
) -> None:
    Image.fromarray(photograph).save(tmp_path / "image.png")
    with Image.open(program(tmp_path / "image.png", *options)) as expected:
        made = model.upscale(photograph, **arguments)
        np.testing.assert_array_equal(made, np.asarray(expected))


def test_edges_wrap(model: wdsr.Model, photograph: Photograph) -> None:
    photograph = photograph[: len(photograph) // 4 * 4]
    scale = model.scale
    large = model.upscale(photograph, wrap="xy")
    moved = model.upscale(np.roll(photograph, (8, 5), (0, 1)), wrap="xy")
    np.testing.assert_array_equal(moved, np.roll(large, (8 * scale, 5 * scale), (0, 1)))
    panorama = model.upscale(photograph, wrap="x")
    moved = model.upscale(np.roll(photograph, 5, 1), wrap="x")
    np.testing.assert_array_equal(moved, np.roll(panorama, 5 * scale, 1))
    assert (panorama != model.upscale(photograph)).any()
    with pytest.raises(ValueError, match="wrap is 'y', expected 'none', 'x' or 'xy'"):
        model.upscale(photograph, wrap="y")  # type: ignore[call-overload]


def test_the_self_ensemble_changes_the_result(model: wdsr.Model, photograph: Photograph) -> None:
    alone = model.upscale(photograph)
    assert not np.array_equal(model.upscale(photograph, self_ensemble=True), alone)
    # The options of the last call do not stay.
    np.testing.assert_array_equal(model.upscale(photograph), alone)


def test_bf16_is_computed_or_a_warning_given(model: wdsr.Model, photograph: Photograph) -> None:
    cpuinfo = Path("/proc/cpuinfo")
    may_be_faster = not cpuinfo.exists() or "bf16" in cpuinfo.read_text()
    f32 = model.upscale(photograph.astype(np.float32) / 255)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        bf16 = model.upscale(photograph.astype(np.float32) / 255, precision="bf16")
    if given:
        assert "not faster than f32" in str(given[0].message)
        np.testing.assert_array_equal(bf16, f32)
    else:
        assert may_be_faster
        assert not np.array_equal(bf16, f32)


@pytest.mark.filterwarnings("ignore:precision int8..not faster:RuntimeWarning")
def test_int8_is_for_models_with_scales(model: wdsr.Model, photograph: Photograph) -> None:
    int8 = model.upscale(photograph, precision="int8").astype(int)
    error = np.abs(int8 - model.upscale(photograph))
    assert 0 < error.max() < 10
    assert error.mean() < 0.5
    words = "precision int8: photo.* has no scales for int8; add them by `wdsr quantize`, or use"
    with pytest.raises(ValueError, match=words):
        wdsr.load("photo").upscale(photograph, precision="int8")
    with pytest.raises(ValueError, match=words):
        wdsr.load().upscale(photograph, precision="int8", strength=0.5)


@pytest.mark.filterwarnings("ignore:precision int8..not faster:RuntimeWarning")
def test_int8_upscales_images_with_damage_in_f32(photograph: Photograph) -> None:
    chooses = wdsr.load(scale=2)
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "JPEG", quality=30)
    with Image.open(file) as damaged:
        assert chooses.choose(damaged)[0] == "photo"
        with pytest.warns(RuntimeWarning, match="photo, for images with damage, has no int8"):
            made = chooses.upscale(damaged, precision="int8")
        np.testing.assert_array_equal(made, chooses.upscale(damaged))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_axes_and_dtype_stay(model: wdsr.Model, dtype: type, channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    made = model.upscale(np.ones(shape, dtype))
    assert made.dtype == dtype
    assert made.shape == (10, 14, *shape[2:])
    assert made.flags.c_contiguous
    assert made.flags.writeable


def test_grey_with_and_without_a_channel_axis_is_the_same(
    model: wdsr.Model, photograph: Photograph
) -> None:
    grey = photograph[..., 1]
    np.testing.assert_array_equal(model.upscale(grey), model.upscale(grey[..., None])[..., 0])


@pytest.mark.parametrize(
    "view",
    [
        lambda p: p[::-1],
        lambda p: p[:, ::2],
        lambda p: p[..., ::-1],
        lambda p: p.transpose(1, 0, 2),
        np.asfortranarray,
    ],
    ids=["upside down", "every second column", "B G R", "turned", "Fortran order"],
)
def test_views_give_the_result_of_their_copy(
    model: wdsr.Model, photograph: Photograph, view: Callable[[Photograph], Photograph]
) -> None:
    shown = view(photograph)
    copy = np.array(shown, order="C")
    np.testing.assert_array_equal(model.upscale(shown), model.upscale(copy))


def test_unaligned_arrays_are_read(model: wdsr.Model, photograph: Photograph) -> None:
    wide = photograph.astype(np.uint16) * 200
    buffer = bytearray(1) + bytearray(wide.tobytes())
    unaligned = np.frombuffer(buffer, np.uint16, offset=1).reshape(wide.shape)
    assert not unaligned.flags.aligned
    np.testing.assert_array_equal(model.upscale(unaligned), model.upscale(wide))


def test_a_contiguous_array_is_not_copied(
    model: wdsr.Model, photograph: Photograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package reads what this gives it.
    require, given = np.require, []

    def watched(*arguments: object) -> npt.NDArray[Any]:
        given.append(require(*arguments))
        return given[-1]

    monkeypatch.setattr(np, "require", watched)
    model.upscale(photograph)
    model.upscale(photograph[::-1])
    assert given[0] is photograph
    assert not np.shares_memory(given[1], photograph)


def test_the_input_is_not_written_to(model: wdsr.Model, photograph: Photograph) -> None:
    locked = photograph.copy()
    locked.flags.writeable = False
    model.upscale(locked)
    np.testing.assert_array_equal(locked, photograph)


def test_info_of_an_image_stays(model: wdsr.Model, photograph: Photograph, tmp_path: Path) -> None:
    image = Image.fromarray(photograph)
    image.info = {"icc_profile": b"a profile", "dpi": (300, 300)}
    made = model.upscale(image)
    assert made.info == image.info
    assert made.info is not image.info


IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (np.zeros((8, 8, 3)), TypeError, "dtype float64, expected uint8"),
        (np.zeros((8, 8, 3), np.int64), TypeError, "dtype int64"),
        (np.zeros((8, 8, 3), ">u2"), TypeError, "byte order"),
        (np.zeros((8, 8), bool), TypeError, "dtype bool"),
        ([[1, 2], [3, 4]], TypeError, r"image is list, expected a numpy\.ndarray"),
        (None, TypeError, "image is NoneType"),
        (IMAGE[0, 0], ValueError, r"shape \[3\]"),
        (IMAGE[:0], ValueError, "at least one pixel"),
        (np.zeros((8, 8, 0), np.uint8), ValueError, "1 to 4 channels"),
        (np.zeros((8, 8, 5), np.uint8), ValueError, "1 to 4 channels"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"transpose\(1, 2, 0\)"),
        (IMAGE[None], ValueError, r"array\[0\]"),
        (np.full((8, 8), np.nan, np.float32), ValueError, r"NaN at pixel \(0, 0\)"),
        (np.full((8, 8, 2), np.inf, np.float32), ValueError, r"inf at pixel \(0, 0\)"),
        (Image.new("RGBa", (8, 8)), ValueError, r'mode RGBa, .*convert\("RGBA"\)'),
        (Image.new("P", (8, 8)), ValueError, r'mode P, .*convert\("RGB"\)'),
        (Image.new("1", (8, 8)), ValueError, r'convert\("L"\)'),
        (Image.new("CMYK", (8, 8)), ValueError, r'convert\("RGB"\)'),
        (Image.new("F", (8, 8)), ValueError, r"scaled to 0\.\.1"),
        (Image.new("I", (8, 8)), ValueError, "uint16"),
    ],
)
def test_other_objects_are_refused(
    model: wdsr.Model, image: object, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        model.upscale(image)


def test_a_transparent_colour_is_refused(model: wdsr.Model) -> None:
    image = Image.new("RGB", (8, 8))
    image.info["transparency"] = (0, 0, 0)
    with pytest.raises(ValueError, match=r'transparent colour.*convert\("RGBA"\)'):
        model.upscale(image)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"tile": -1}, ValueError, "tile is -1, expected 0 or more"),
        ({"threads": -2}, ValueError, "threads is -2"),
        ({"precision": "f8"}, ValueError, "'f8', expected 'f32', 'bf16', 'f16', 'int8' or 'auto'"),
        ({"precision": "f16"}, ValueError, "precision f16: only GPUs compute in f16"),
        ({"tile": "wide"}, TypeError, "tile"),
        ({"alpha": "bicubic"}, ValueError, "'bicubic', expected 'network' or 'lanczos'"),
        ({"factor": 0}, ValueError, "factor is 0, expected a number above 0"),
        ({"factor": float("nan")}, ValueError, "factor is NaN"),
        ({"factor": 1e30}, ValueError, "image: a side of the result would have more than"),
        ({"width": 0}, ValueError, "width is 0, expected 1 to 4294967295 pixels"),
        ({"height": -1}, ValueError, "height is -1"),
        ({"longest": 1 << 40}, ValueError, "longest is 1099511627776"),
        ({"size": (16, 0)}, ValueError, "height of size is 0"),
        ({"size": 16}, TypeError, "size"),
        ({"size": (24, 16)}, ValueError, "24 x 16 would stretch its 8 x 8; a width of 24 gives"),
        ({"factor": 2, "size": (16, 16)}, ValueError, "factor and size are given, expected one"),
        ({"progress": 1}, TypeError, "not callable"),
        ({"tiles": 1}, TypeError, "tiles"),
    ],
)
def test_arguments_out_of_range_are_refused(
    model: wdsr.Model, arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        model.upscale(IMAGE, **arguments)


LARGER_THAN_THE_MEMORY = """
import resource, numpy, wdsr
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    wdsr.load("small").upscale(numpy.zeros((20_000, 20_000, 3), numpy.uint8))
except MemoryError as error:
    print(error)
"""


def test_a_result_larger_than_the_memory_is_a_memory_error() -> None:
    command = [sys.executable, "-c", LARGER_THAN_THE_MEMORY]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(
        r"to 40000 x 40000 pixels needs about (\d+) MiB of memory, more than is available",
        result.stdout,
    )
    assert found, result.stdout
    # Image and result take 5722 MiB; the rest are the buffers of the threads.
    assert 5722 < int(found[1]) < 8192
