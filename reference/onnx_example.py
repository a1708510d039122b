"""Upscales an image with ONNX Runtime and an ONNX file of `wdsr convert`.

    wdsr convert models/small-x2.safetensors small-x2.onnx
    reference/run onnx_example.py small-x2.onnx samples/chelsea.png chelsea-x2.png

It needs the packages numpy, onnxruntime and pillow.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def upscale(model: Path, image: np.ndarray) -> np.ndarray:
    """Upscales an image, RGB float32 [height, width, 3] in 0..1. The result is not clamped."""
    session = onnxruntime.InferenceSession(model)
    planes = image.transpose(2, 0, 1)[None]
    (output,) = session.run(["output"], {"input": planes})
    return output[0].transpose(1, 2, 0)


def main(model: Path, source: Path, target: Path) -> None:
    image = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255
    large = upscale(model, image).clip(0, 1)
    Image.fromarray((255 * large + 0.5).astype(np.uint8)).save(target)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
