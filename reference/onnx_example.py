"""Enlarges a picture with ONNX Runtime and a model that `wdsr convert` wrote.

    wdsr convert models/small-x2.safetensors small-x2.onnx
    reference/run onnx_example.py small-x2.onnx in.tif out.tif

Of these imports only numpy and onnxruntime are needed to run a model.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tifffile


def upscale(model: Path, picture: np.ndarray) -> np.ndarray:
    """RGB float32 [height, width, 3] in 0..1 -> the same, `scale` times as large, not clamped."""
    session = onnxruntime.InferenceSession(model)
    planes = picture.transpose(2, 0, 1)[None]
    (output,) = session.run(["output"], {"input": planes})
    return output[0].transpose(1, 2, 0)


def main() -> None:
    model, source, target = map(Path, sys.argv[1:])
    large = upscale(model, tifffile.imread(source).astype(np.float32) / 255)
    eight_bit = np.floor(255 * large.clip(0, 1) + 0.5).astype(np.uint8)
    tifffile.imwrite(target, eight_bit, photometric="rgb")


if __name__ == "__main__":
    main()
