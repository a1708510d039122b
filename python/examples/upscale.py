"""Upscales an image and tells how far it is; scores the model on it too.

    python examples/upscale.py samples/chelsea.png chelsea-x2.png

It needs the packages wdsr and pillow.
"""

import sys
from pathlib import Path

from PIL import Image

import wdsr


def main(source: Path, target: Path) -> None:
    model = wdsr.load("small", scale=2)
    print(model)

    def progress(done: int, total: int) -> None:
        print(f"\r{100 * done // total} %", end="", flush=True)

    with Image.open(source) as image:
        large = model.upscale(image, progress=progress)
        print()
        large.save(target, icc_profile=large.info.get("icc_profile"))

        # How well does the model restore this image from half its size?
        width, height = (side // 2 * 2 for side in image.size)
        original = image.convert("RGB").crop((0, 0, width, height))
    low = wdsr.imresize(original, 1 / 2)
    for name, made in [
        ("bicubic", wdsr.imresize(low, 2, rounding="float")),
        ("wdsr", model.upscale(low)),
    ]:
        psnr_db, ssim = wdsr.psnr(made, original, scale=2), wdsr.ssim(made, original, scale=2)
        print(f"{name}: {psnr_db:.2f} dB, SSIM {ssim:.4f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
