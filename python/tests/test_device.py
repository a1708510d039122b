"""`wdsr.load(..., device=...)`. Tests of GPUs need a driver, such as Mesa's (`.ci/run gpu`)."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import wdsr


@pytest.fixture(scope="module")
def on_gpu() -> wdsr.Model:
    try:
        return wdsr.load("small", device="gpu:0")
    except RuntimeError as error:
        pytest.skip(f"no GPU to test on: {error}")


def test_the_processor_is_the_default_device() -> None:
    assert wdsr.load("small").device == "cpu"
    assert wdsr.load("small", device="cpu").device == "cpu"


@pytest.mark.parametrize("device", ["", "cuda", "gpu:", "gpu:-1", "gpu0"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(ValueError, match=f"device is '{device}', expected auto, cpu, gpu"):
        wdsr.load("small", device=device)


def has_gpus() -> bool:
    """Whether the package was built with GPUs, as wheels are."""
    try:
        wdsr.load("small", device="gpu:1000")
    except RuntimeError as error:
        return "without GPUs" not in str(error)
    return True


def test_a_package_without_gpus_says_so() -> None:
    if has_gpus():
        pytest.skip("this one has GPUs")
    with pytest.raises(RuntimeError, match="was built without GPUs; install a wheel"):
        wdsr.load("small", device="gpu")


def test_without_a_gpu_auto_warns_and_gpu_is_an_error() -> None:
    """In a process in which Vulkan has no driver."""
    if not has_gpus():
        pytest.skip("built without GPUs: see python/test --wheel")
    script = """
import warnings
import wdsr
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(wdsr.load("small", device="auto").device)
print(*(warning.message for warning in caught))
for device in ("gpu", "gpu:0"):
    try:
        wdsr.load("small", device=device)
    except RuntimeError as error:
        print(error)
"""
    environment = {**os.environ, "VK_ICD_FILENAMES": "/none", "VK_DRIVER_FILES": "/none"}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    name, warning, *errors = run.stdout.splitlines()
    if sys.platform != "linux":
        pytest.skip("only Vulkan's drivers can be hidden")
    assert name == "cpu"
    assert warning.startswith("device auto: no GPU found")
    assert warning.endswith("; computing on the processor")
    assert [error.startswith("no GPU found") for error in errors] == [True, True], errors


def test_a_gpu_computes_what_the_processor_does(
    on_gpu: wdsr.Model, photograph: npt.NDArray[np.uint8]
) -> None:
    assert on_gpu.device != "cpu"
    on_processor = wdsr.load("small")
    for options in ({}, {"factor": 2.7}, {"self_ensemble": True}):
        by_gpu = on_gpu.upscale(photograph, **options)  # type: ignore[arg-type]
        expected = on_processor.upscale(photograph, **options)  # type: ignore[arg-type]
        difference = np.abs(by_gpu.astype(int) - expected)
        assert difference.max() <= 1, options
        assert np.count_nonzero(difference) * 100 < difference.size, options
    by_auto = on_gpu.upscale(photograph, precision="auto")
    np.testing.assert_array_equal(by_auto, on_gpu.upscale(photograph))


def test_precisions_of_the_processor_are_refused_on_a_gpu(on_gpu: wdsr.Model) -> None:
    image = np.zeros((8, 8), np.uint8)
    for precision in ("bf16", "int8"):
        with pytest.raises(ValueError, match=f"precision {precision}: .* computes in f32 or f16"):
            on_gpu.upscale(image, precision=precision)  # type: ignore[arg-type]


def test_f16_is_near_f32(on_gpu: wdsr.Model, photograph: npt.NDArray[np.uint8]) -> None:
    samples = photograph.astype(np.float32) / 255
    f32 = on_gpu.upscale(samples)
    try:
        f16 = on_gpu.upscale(samples, precision="f16")
    except ValueError as error:
        assert str(error).endswith("has no f16 arithmetic; choose f32")
        pytest.skip(str(error))
    difference = np.abs(f16 - f32).max()
    assert 0 < difference < 2e-3
    np.testing.assert_array_equal(on_gpu.upscale(samples), f32)


def test_a_pickled_model_opens_its_device_again(on_gpu: wdsr.Model) -> None:
    assert pickle.loads(pickle.dumps(on_gpu)).device == on_gpu.device


def test_a_batch_on_another_device_is_upscaled_again(on_gpu: wdsr.Model, tmp_path: Path) -> None:
    low, out = tmp_path / "low", tmp_path / "out"
    low.mkdir()
    out.mkdir()
    image = np.arange(20 * 16 * 3, dtype=np.uint8).reshape(16, 20, 3)
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(image).save(low / "a.png")
    for model, status in (("small", "done"), (on_gpu, "done"), (on_gpu, "up_to_date")):
        row = wdsr.upscale_file(
            low / "a.png", out / "a.png", model=model, manifest=wdsr.Manifest(out)
        )
        assert row["status"] == status, row
