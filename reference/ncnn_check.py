"""Checks `wdsr convert` to ncnn: ncnn's output against `wdsr upscale` and the golden vectors.

    reference/run ncnn_check.py

Every network of the golden vectors (all kinds, scales and normalisations, a residual scale),
published networks with random weights, and the built-in model, at odd sizes. A difference above the
bounds below is an error. Input and output are 32-bit float in both programs.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import golden_models
import ncnn_example
from program import NETWORKS, ROOT, upscale, wdsr, write_random_model

# Height and width.
SIZES = ((29, 37), (5, 3), (1, 1))
# Largest difference allowed of a sample in 0..1. float32: ncnn computes 3x3 convolutions by
# Winograd's F(6x6, 3x3). float16 weights keep 11 bits, and the roundings of 16 blocks add up.
BOUNDS = {"f32": 1e-5, "f16": 2e-3}


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max())


def convert(model: Path, folder: Path, precision: str) -> Path:
    path = folder / f"{precision}.param"
    wdsr("convert", "--quiet", model, path, *(["--f16"] if precision == "f16" else []))
    return path


def check(model: Path, label: str, folder: Path) -> bool:
    good = True
    random = np.random.default_rng(0)
    images = [random.random((*size, 3), np.float32) for size in SIZES]
    ours = [upscale(model, image, folder) for image in images]
    for precision, bound in BOUNDS.items():
        path = convert(model, folder, precision)
        theirs = [ncnn_example.upscale(path, image) for image in images]
        difference = max(map(largest, ours, theirs))
        good &= difference <= bound
        verdict = "within" if difference <= bound else "ABOVE"
        print(f"{label} {precision}: {difference:.1e}, {verdict} {bound:.0e}", flush=True)
    return good


def check_golden(case: dict, folder: Path) -> bool:
    model = folder / "golden.safetensors"
    tensors, images, expected = golden_models.read(case)
    golden_models.write(case, tensors, model)
    good = check(model, case["name"], folder)
    difference = 0.0
    for image, output in zip(images, expected, strict=True):
        theirs = ncnn_example.upscale(folder / "f32.param", image.transpose(1, 2, 0))
        difference = max(difference, largest(output.transpose(1, 2, 0), theirs))
    print(f"{case['name']} golden output: {difference:.1e}", flush=True)
    return good and difference <= BOUNDS["f32"]


def check_example(model: Path, folder: Path) -> bool:
    """Checks that the example's 8-bit image equals that of `wdsr upscale`, except for rounding."""
    photograph = ROOT / "samples/chelsea.png"
    ours, theirs = folder / "ours.png", folder / "theirs.png"
    wdsr("upscale", "--quiet", "-m", model, "-o", ours, photograph)
    ncnn_example.main(convert(model, folder, "f32"), photograph, theirs)
    images = [np.asarray(Image.open(path), np.int16) for path in (ours, theirs)]
    levels = int(np.abs(images[0] - images[1]).max())
    print(f"example on {photograph.name}: {levels} levels of 255, at most 1 allowed")
    return levels <= 1


def main() -> None:
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results += [check_golden(case, folder) for case in golden_models.cases()]
        random = folder / "random.safetensors"
        for network in NETWORKS:
            write_random_model(network, 2, random)
            results.append(check(random, f"{network} x2", folder))
        built_in = ROOT / "models/small-x2.safetensors"
        results.append(check(built_in, "small x2", folder))
        results.append(check_example(built_in, folder))
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    sys.exit(passed != len(results))


if __name__ == "__main__":
    main()
