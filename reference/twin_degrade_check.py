"""Compares the JPEG of `twin_degrade.py` with Pillow's, on a free photograph.

reference/run --peers twin_degrade_check.py
"""

import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from twin_data import imresize_8bit
from twin_degrade import demosaiced, jpeg, quality_of, reduce

SAMPLE = Path(__file__).parent.parent / "samples" / "chelsea.png"


def main() -> None:
    # 320 x 192 pixels: whole units of blocks, since the edges are continued differently.
    photograph = np.array(Image.open(SAMPLE).convert("RGB"))[:192, :320]
    x = torch.from_numpy(photograph).permute(2, 0, 1)[None].float()
    failed = False
    for quality in (10, 30, 50, 75, 90, 98):
        for subsampling, name in ((0, "4:4:4"), (2, "4:2:0")):
            file = io.BytesIO()
            Image.fromarray(photograph).save(file, "JPEG", quality=quality, subsampling=subsampling)
            expected = np.array(Image.open(file)).astype(np.float32)
            halved = torch.tensor([subsampling == 2])
            made = jpeg(x, torch.tensor([float(quality)]), halved, torch.zeros(2, 1).long())
            error = np.abs(made[0].permute(1, 2, 0).numpy() - expected)
            damage = np.abs(expected - photograph).mean()
            bad = error.mean() > 0.35
            failed |= bad
            print(
                f"quality {quality} {name}: differs from Pillow by {error.mean():.3f} levels"
                f" (at most {error.max():.0f}); the damage is {damage:.3f}"
                f"{' FAILED' if bad else ''}"
            )
    reduced = reduce(x, 2, "bicubic")[0].permute(1, 2, 0)
    expected = imresize_8bit(torch.from_numpy(photograph), 2).float()
    # Edges repeat here and are mirrored there.
    error = (reduced - expected).abs()[4:-4, 4:-4].max()
    print(f"bicubic: differs from imresize by at most {error:.2f} levels")
    failed |= bool(error > 1)
    flat = torch.full((4, 3, 16, 16), 90.0)
    flat[:, 1] = 150
    phase = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    error = (demosaiced(flat, phase) - flat).abs().max()
    print(f"demosaicing a flat colour: {error:.4f} levels")
    failed |= bool(error > 1e-3)
    assert quality_of(torch.tensor(1.0)) == 10
    if failed:
        sys.exit("error: not as expected")


if __name__ == "__main__":
    main()
