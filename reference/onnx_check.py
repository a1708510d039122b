"""Checks `wdsr convert` to ONNX: ONNX's checker, and ONNX Runtime against `wdsr upscale`.

    reference/run onnx_check.py

Published networks with random weights at scales 2, 3 and 4, and the built-in model. A difference
above the bounds below is an error. Input and output are 32-bit float in both programs.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

import onnx_example
from program import NETWORKS, ROOT, upscale, wdsr, write_random_model

SCALES = (2, 3, 4)
# Largest difference allowed of a sample in 0..1. float32: another order of summation. float16
# keeps 11 bits, and the roundings of 16 blocks add up.
BOUNDS = {"f32": 1e-5, "f16": 2e-3}


def check_file(path: Path, scale: int) -> None:
    """Checks that the file is valid, of opset 17, and has the documented input and output."""
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    assert [(o.domain, o.version) for o in file.opset_import] == [("", 17)], file.opset_import
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(metadata["config"])["scale"] == scale, metadata
    session = onnxruntime.InferenceSession(path)
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("input", "tensor(float)"), given
    assert (output.name, output.type) == ("output", "tensor(float)"), output
    assert given.shape == ["batch", 3, "height", "width"], given.shape


def check_batch(path: Path, image: np.ndarray) -> None:
    """Checks that a batch of two images gives the same results as two single ones."""
    session = onnxruntime.InferenceSession(path)
    parts = np.stack([image, image[::-1]]).transpose(0, 3, 1, 2)[:, :, :9, :14]
    both = session.run(None, {"input": parts})[0]
    for part, result in zip(parts, both, strict=True):
        alone = session.run(None, {"input": part[None]})[0][0]
        assert np.abs(alone - result).max() <= BOUNDS["f32"], path


def check(model: Path, label: str, scale: int, folder: Path) -> bool:
    image = np.random.default_rng(0).random((29, 37, 3), np.float32)
    ours = upscale(model, image, folder)
    good = True
    for precision, bound in BOUNDS.items():
        path = folder / f"{precision}.onnx"
        wdsr("convert", "--quiet", model, path, *(["--f16"] if precision == "f16" else []))
        check_file(path, scale)
        theirs = onnx_example.upscale(path, image)
        assert theirs.shape == ours.shape == (29 * scale, 37 * scale, 3), theirs.shape
        difference = float(np.abs(ours - theirs).max())
        within = difference <= bound
        good &= within
        verdict = "within" if within else "ABOVE"
        print(f"{label} x{scale} {precision}: {difference:.1e}, {verdict} {bound:.0e}", flush=True)
    check_batch(folder / "f32.onnx", image)
    return good


def check_example(model: Path, folder: Path) -> bool:
    """Checks that the example's 8-bit image equals that of `wdsr upscale`, except for rounding."""
    photograph = ROOT / "samples/chelsea.png"
    ours, theirs, onnx_file = folder / "ours.png", folder / "theirs.png", folder / "model.onnx"
    wdsr("upscale", "--quiet", "-m", model, "-o", ours, photograph)
    wdsr("convert", "--quiet", model, onnx_file)
    onnx_example.main(onnx_file, photograph, theirs)
    images = [np.asarray(Image.open(path), np.int16) for path in (ours, theirs)]
    levels = int(np.abs(images[0] - images[1]).max())
    print(f"example on {photograph.name}: {levels} levels of 255, at most 1 allowed")
    return levels <= 1


def main() -> None:
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = folder / "random.safetensors"
        for network in NETWORKS:
            # RRDB doubles the size.
            for scale in (2, 4) if network.startswith("rrdb") else SCALES:
                write_random_model(network, scale, random)
                results.append(check(random, network, scale, folder))
        built_in = ROOT / "models/small-x2.safetensors"
        results.append(check(built_in, "small", 2, folder))
        results.append(check_example(built_in, folder))
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    sys.exit(passed != len(results))


if __name__ == "__main__":
    main()
