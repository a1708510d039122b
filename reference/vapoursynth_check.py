"""Checks that VapourSynth's vs-mlrt runs files of `wdsr convert`: against `wdsr upscale`.

reference/run --vapoursynth vapoursynth_check.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import vapoursynth as vs

from program import ROOT, upscale, wdsr

# Another order of summation, of a sample in 0..1.
BOUND = 1e-5


def clip_of(image: np.ndarray) -> vs.VideoNode:
    """One frame of planes of float32, as vs-mlrt takes them."""
    height, width, _ = image.shape
    blank = vs.core.std.BlankClip(width=width, height=height, format=vs.RGBS, length=1)

    def filled(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for plane in range(3):
            np.asarray(frame[plane])[:] = image[..., plane]
        return frame

    return vs.core.std.ModifyFrame(blank, blank, filled)


def main() -> None:
    image = np.random.default_rng(0).random((29, 37, 3), np.float32)
    good = True
    for name in ("base-x2", "base-x3", "small-x4"):
        model = ROOT / f"models/{name}.safetensors"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.onnx"
            wdsr("convert", "--quiet", model, file)
            result = vs.core.ort.Model(clip_of(image), network_path=str(file)).get_frame(0)
            theirs = np.stack([np.asarray(result[plane]) for plane in range(3)], -1)
            ours = upscale(model, image, Path(folder))
        difference = np.abs(theirs - ours).max()
        good &= bool(difference <= BOUND)
        print(f"{name}: largest difference {difference:.1e}, allowed {BOUND:.0e}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
