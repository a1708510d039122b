"""`upscale_file` and `upscale_files`: the program's results and one row for each file."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Program
from PIL import Image

import wdsr

Photograph = npt.NDArray[np.uint8]


@pytest.fixture
def png(tmp_path: Path, photograph: Photograph) -> Path:
    path = tmp_path / "photograph.png"
    Image.fromarray(photograph).save(path, dpi=(300, 300))
    return path


@pytest.fixture
def jpeg(tmp_path: Path, photograph: Photograph) -> Path:
    path = tmp_path / "photograph.jpg"
    Image.fromarray(photograph).save(path, quality=60)
    return path


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, []),
        ({"model": "small"}, ["-m", "small"]),
        (
            {"model": "small", "width": 250, "metadata": "strip"},
            ["-m", "small", "--width", "250", "--metadata", "strip"],
        ),
        ({"strength": 0.5}, ["--strength", "0.5"]),
        ({"model": "small", "precision": "int8"}, ["-m", "small", "--precision", "int8"]),
    ],
    ids=str,
)
def test_the_result_is_that_of_the_program_byte_for_byte(
    png: Path,
    jpeg: Path,
    tmp_path: Path,
    program: Program,
    options: dict[str, Any],
    arguments: list[str],
) -> None:
    for source in [png, jpeg]:
        target = tmp_path / "folder" / source.name
        row = wdsr.upscale_file(source, target, **options)
        assert row["status"] == "done", row
        expected = program(source, *arguments).read_bytes()
        assert target.read_bytes() == expected
        assert row["bytes"] == len(expected)
        assert row["xxh3"] is not None
        assert len(row["xxh3"]) == 32
        with Image.open(target) as image:
            assert image.size == (row["width"], row["height"])
        chosen = "photo" if source == jpeg or "strength" in options else "base"
        assert row["model"] == options.get("model", chosen)
        assert row["milliseconds"] > 0
        assert row["warnings"] == []


def test_a_loaded_model_and_a_path_are_taken(
    png: Path, tmp_path: Path, models: wdsr.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = wdsr.upscale_file(png, tmp_path / "a.png", model=models)
    second = wdsr.upscale_file(str(png), str(tmp_path / "b.png"), model="base")
    assert first["xxh3"] == second["xxh3"]
    # The file is read once for the process.
    file = tmp_path / "model.safetensors"
    file.write_bytes((Path(__file__).parents[2] / "models/small-x2.safetensors").read_bytes())
    third = wdsr.upscale_file(png, tmp_path / "c.png", model=file)
    file.unlink()
    fourth = wdsr.upscale_file(png, tmp_path / "d.png", model=file)
    assert third["xxh3"] == fourth["xxh3"] != first["xxh3"]
    assert third["model"] == str(file)


def test_what_is_wrong_with_a_file_is_told_by_its_row(png: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(png.read_bytes()[:2000])
    text = tmp_path / "text.png"
    text.write_text("no image")
    sources = [png, broken, tmp_path / "missing.png", text, png]
    targets = [tmp_path / "out" / f"{number}.png" for number in range(4)] + [png]
    rows = list(wdsr.upscale_files(zip(sources, targets, strict=True), model="small"))
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "failed", "failed"]
    assert len({tuple(row) for row in rows}) == 1, "the same columns"
    for row, source, expected in zip(
        rows[1:],
        sources[1:],
        ["truncated", "No such file", "not an image", "would replace the input"],
        strict=True,
    ):
        assert row["error"] is not None
        assert expected in row["error"]
        assert str(source) in row["error"]
        assert row["error_kind"] == ("output" if source == png else "input")
        assert row["width"] is None
    assert os.listdir(tmp_path / "out") == ["0.png"]


def test_limits_are_kept(png: Path, tmp_path: Path) -> None:
    def run(**options: Any) -> Any:  # noqa: ANN401
        return wdsr.upscale_file(png, tmp_path / "out.png", model="small", **options)

    for options, kind, message in [
        ({"max_pixels": 10}, "input", "too large"),
        ({"max_output_pixels": 10}, "input", "too large"),
        ({"max_memory": 1 << 20}, "memory", "memory"),
        ({"timeout": 0.0}, "time", "not done within 0 s"),
    ]:
        row = run(**options)
        assert row["status"] == "failed", options
        assert row["error_kind"] == kind
        assert row["error"] is not None
        assert message in row["error"]
    assert not (tmp_path / "out.png").exists()


def test_an_existing_target_is_replaced_kept_or_refused(png: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_text("mine")
    assert wdsr.upscale_file(png, target, model="small", if_exists="skip")["status"] == "skipped"
    row = wdsr.upscale_file(png, target, model="small", if_exists="error")
    assert (row["status"], row["error_kind"]) == ("failed", "output")
    assert target.read_text() == "mine"
    assert wdsr.upscale_file(png, target, model="small")["status"] == "done"


@pytest.mark.parametrize(
    "options",
    [
        {"format": "psd"}, {"format": "jxl"}, {"quality": 0}, {"compression": "much"},
        {"metadata": "some"}, {"if_exists": "perhaps"}, {"timeout": -1.0}, {"max_pixels": -1},
        {"strength": 2.0}, {"alpha": "x"}, {"model": "small", "strength": 0.5},
        {"width": 10, "height": 10},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_arguments_are_raised(png: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options)) if len(options) == 1 else None):
        wdsr.upscale_file(png, tmp_path / "out.png", **options)
    with pytest.raises(TypeError, match="unknown"):
        wdsr.upscale_file(png, tmp_path / "out.png", unknown=1)  # type: ignore[call-arg]


def test_frames_and_pages_are_counted(tmp_path: Path, photograph: Photograph) -> None:
    images = [Image.fromarray(np.roll(photograph, shift, axis=1)[:20, :24]) for shift in (0, 3)]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], duration=40)
    images[0].save(tmp_path / "b.tif", save_all=True, append_images=images[1:])
    for name, frames, pages in [("a.png", 2, 1), ("b.tif", 1, 2)]:
        row = wdsr.upscale_file(tmp_path / name, tmp_path / "out" / name, model="small")
        assert (row["frames"], row["pages"]) == (frames, pages), row
        with Image.open(tmp_path / "out" / name) as image:
            assert image.n_frames == 2
    row = wdsr.upscale_file(tmp_path / "b.tif", tmp_path / "c.png", model="small")
    assert row["warnings"] == ["1 further page: only the first is upscaled; a tiff result has all"]


def test_an_interrupt_stops_the_work_and_leaves_no_file(tmp_path: Path) -> None:
    source, target = tmp_path / "large.png", tmp_path / "out.png"
    Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(source)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        wdsr.upscale_file(source, target, model="small")
    assert [path.name for path in tmp_path.iterdir()] == ["large.png"]
