"""Upscales an image with ncnn and the files of `wdsr convert`.

    wdsr convert models/small-x2.safetensors small-x2.param
    reference/run ncnn_example.py small-x2.param samples/chelsea.png chelsea-x2.png

It needs the packages ncnn, numpy and pillow.
"""

import sys
from pathlib import Path

import ncnn
import numpy as np
from PIL import Image


def upscale(param: Path, image: np.ndarray) -> np.ndarray:
    """Upscales an image, RGB float32 [height, width, 3] in 0..1. The result is not clamped."""
    net = ncnn.Net()
    # By default ncnn computes in float16 on processors that support it.
    net.opt.use_fp16_arithmetic = net.opt.use_fp16_storage = net.opt.use_fp16_packed = False
    # ncnn returns -1 if it cannot read a file.
    if net.load_param(str(param)) != 0 or net.load_model(str(param.with_suffix(".bin"))) != 0:
        raise ValueError(f"{param}: cannot read this file and the .bin file beside it")
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    extractor = net.create_extractor()
    # The Mat refers to the array's memory, which must exist until the output is computed.
    extractor.input("data", ncnn.Mat(planes))
    _, output = extractor.extract("output")
    return np.array(output).transpose(1, 2, 0)


def main(param: Path, source: Path, target: Path) -> None:
    image = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255
    large = upscale(param, image).clip(0, 1)
    Image.fromarray((255 * large + 0.5).astype(np.uint8)).save(target)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
