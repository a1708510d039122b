"""`wdsr.daft`: the local runner, and that of Ray in another process, as each has one runner."""

import os
import subprocess
import sys
from pathlib import Path

import daft
import numpy as np
import pytest
from PIL import Image

import wdsr.daft

COUNT = 60
ON_RAY = """
import sys, ray, daft, wdsr.daft
ray.init(num_cpus=2, object_store_memory=100 << 20)
daft.set_runner_ray()
rows = wdsr.daft.upscale(sys.argv[1], sys.argv[2], model="small").to_pydict()
print(len(set(rows["source"])), set(rows["status"]))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(1).integers(0, 256, (COUNT, 16, 16, 3), np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def expected(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of the program."""
    out = tmp_path_factory.mktemp("program")
    command = [os.environ["WDSR_PROGRAM"], "upscale", images, "-o", out, "-m", "small"]
    subprocess.run(command, check=True, capture_output=True)
    return files(out)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_results_are_those_of_the_program(
    images: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    for status in ("done", "up_to_date"):
        rows = wdsr.daft.upscale(images, tmp_path, model="small").to_pydict()
        assert sorted(rows["source"]) == sorted(str(path) for path in images.iterdir())
        assert set(rows["status"]) == {status}
        assert set(rows["error"]) == {None}
        assert files(tmp_path) == expected


def test_a_dataframe_keeps_its_other_columns_and_a_bad_image_is_a_row(
    images: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    frame = daft.from_pydict({
        "place": [1, 2],
        "source": [str(images / "0.png"), str(bad)],
        "target": [str(tmp_path / "a.png"), str(tmp_path / "b.png")],
    })  # fmt: skip
    rows = wdsr.daft.upscale(frame, tmp_path, model="small", resume=False).sort("place")
    found = rows.to_pydict()
    assert found["place"] == [1, 2]
    assert found["status"] == ["done", "failed"]
    assert found["error_kind"] == [None, "input"]
    assert not list(tmp_path.glob(".wdsr-manifest*"))


def test_the_runner_of_ray_has_the_same_results(
    images: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    command = [sys.executable, "-c", ON_RAY, images, tmp_path]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == f"{COUNT} {{'done'}}"
    assert files(tmp_path) == expected
