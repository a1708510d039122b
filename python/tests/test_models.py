"""`wdsr.load` and what a model tells of itself."""

import copy
import io
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODEL_FILE
from PIL import Image

import wdsr


def test_a_model_describes_itself() -> None:
    model = wdsr.load("small", scale=2)
    assert model.name == "small x2"
    assert (model.scale, model.block, model.blocks, model.features) == (2, "wdsr-b", 8, 32)
    assert (model.expansion, model.low_rank) == (6, 25)
    # Counted from the layers of the published network.
    assert (model.parameters, model.multiply_adds_per_pixel) == (152_420, 150_372)
    assert model.receptive_radius_px == 10
    assert all(isinstance(note, str) for note in model.notes.values())
    assert model.notes
    assert repr(model) == "<wdsr.Model small x2: wdsr-b 32/8 x2, 152420 parameters>"
    with pytest.raises(AttributeError):
        model.scale = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        wdsr.Model()


def test_a_name_loads_its_models_of_every_scale() -> None:
    base = wdsr.load("base")
    assert (base.name, base.blocks, base.scale) == ("base x2", 16, 2)
    assert base.parameters == 299_564
    assert wdsr.load("base", scale=2).name == "base x2"
    assert wdsr.load("base", scale=3).name == "base x3"
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    expected = wdsr.load("base", scale=4).upscale(image)
    np.testing.assert_array_equal(base.upscale(image, factor=4), expected)


def test_models_are_pickled_with_their_weights(tmp_path: Path) -> None:
    place = tmp_path / "model.safetensors"
    shutil.copy(MODEL_FILE, place)
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for model in (wdsr.load("small"), wdsr.load(place)):
        pickled = pickle.dumps(model)
        place.unlink(missing_ok=True)
        for again in (pickle.loads(pickled), copy.copy(model)):
            assert (repr(again), again.notes) == (repr(model), model.notes)
            for size in ({}, {"factor": 4}):
                made = again.upscale(image, **size)
                np.testing.assert_array_equal(made, model.upscale(image, **size))


def test_files_are_loaded_by_text_and_path(model: wdsr.Model) -> None:
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for place in (MODEL_FILE, str(MODEL_FILE)):
        loaded = wdsr.load(place, scale=2)
        assert loaded.name == str(MODEL_FILE)
        np.testing.assert_array_equal(loaded.upscale(image), model.upscale(image))


def test_names_and_paths_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        wdsr.load("./small")
    shutil.copy(MODEL_FILE, "small")
    assert wdsr.load("small").name == "small x2"
    assert wdsr.load("./small").name == "./small"
    assert wdsr.load(Path("small")).name == "small"


def test_errors_of_missing_files_have_name_and_errno(tmp_path: Path) -> None:
    place = tmp_path / "none.safetensors"
    with pytest.raises(
        FileNotFoundError, match=re.escape(f"No such file or directory: '{place}'")
    ) as info:
        wdsr.load(place)
    assert (info.value.errno, info.value.filename) == (2, str(place))
    with pytest.raises(IsADirectoryError):
        wdsr.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"huge: neither a file nor .* small x2"):
        wdsr.load("huge")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "model.safetensors"
    whole = MODEL_FILE.read_bytes()
    for damaged in (b"", b"not a model", whole[:-100], whole[:3000]):
        place.write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(str(place))):
            wdsr.load(place)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("small", 8), ValueError, 'no model "small" of scale 8; the package has base x2, base x3'),
        ((MODEL_FILE, 4), ValueError, "has scale 2"),
        (("small", -2), ValueError, "of scale -2"),
        (("small", "2"), TypeError, "scale"),
        ((5,), TypeError, "str.*os.PathLike|PathLike"),
    ],
)
def test_other_arguments_are_refused(
    arguments: tuple[Any, ...], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        wdsr.load(*arguments)


def test_strength_is_given_or_read_off_the_image() -> None:
    photo, base = wdsr.load("photo", scale=2), wdsr.load("base", scale=2)
    image = (np.random.default_rng(1).normal(120, 12, (64, 96, 3))).astype(np.uint8)
    clean = photo.upscale(image, strength=0.0)
    assert np.array_equal(clean, base.upscale(image))
    strong = photo.upscale(image, strength=0.9)
    # Noise of 12 levels is found, and removed.
    found = photo.upscale(np.tile(image, (2, 2, 1)))
    assert strong.std() < 0.5 * clean.std()
    assert found.std() < 0.7 * clean.std()
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            photo.upscale(image, strength=wrong)
    with pytest.raises(ValueError, match="has none"):
        base.upscale(image, strength=0.5)


def test_without_a_model_each_image_chooses() -> None:
    folder = Path(__file__).resolve().parents[2] / "samples"
    clean = Image.open(folder / "chelsea.png").convert("RGB")
    clean = clean.resize((clean.width // 2, clean.height // 2), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    clean.save(file, "JPEG", quality=60)
    damaged = Image.open(file)
    model = wdsr.load()
    base, photo = wdsr.load("base"), wdsr.load("photo")
    assert (model.name, model.scale) == ("base or photo", 2)
    assert model.choose(clean) == ("base", 0.0, "clean")
    # Pillow has the tables of the file; an array has the marks in its pixels.
    name, strength, damage = model.choose(damaged)
    assert (name, damage) == ("photo", "JPEG of quality 60")
    assert strength == pytest.approx(0.559, abs=0.001)
    pixels = np.array(damaged)
    assert model.choose(pixels)[::2] == ("photo", "was a JPEG of quality 60")
    for size in ({}, {"factor": 3}, {"width": 300}):
        made = model.upscale(np.array(clean), **size)
        np.testing.assert_array_equal(made, base.upscale(np.array(clean), **size))
        made = model.upscale(pixels, **size)
        np.testing.assert_array_equal(made, photo.upscale(pixels, **size))
    # Nothing is enlarged, so nothing is restored.
    np.testing.assert_array_equal(model.upscale(pixels, factor=1), pixels)
    strong = model.upscale(np.array(clean), strength=0.7)
    np.testing.assert_array_equal(strong, photo.upscale(np.array(clean), strength=0.7))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.upscale(pixels), model.upscale(pixels))
    assert wdsr.load(scale=3).name == "base x3"
    assert wdsr.load(scale=2).choose(pixels)[0] == "photo"
    assert base.choose(pixels)[0] == "base"
