"""Makes docs/gallery.png: bicubic, Lanczos, the built-in model and the original side by side.

    reference/run gallery.py

Five crops of free photographs, which no model here was trained on: `wdsr data fetch` leaves them
out (`gallery/` in crates/data/src/lists/kept_out.txt). They come from scikit-image's wheel
(PyPI) and from Debian's lomiri-wallpapers-16.04 (apt-get, dpkg), and are checked by SHA-256. Each
whole image is halved (Pillow's bicubic, the kernel of MATLAB's imresize), upscaled again, then
cut.
"""

import hashlib
import io
import math
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from program import ROOT, wdsr

WHEEL = "scikit-image==0.26.0"
PACKAGE = "lomiri-wallpapers-16.04"
# Name: place in its package, SHA-256, divided by (soft or marked by JPEG at its own size).
IMAGES = {
    "astronaut": (
        "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        1,
    ),
    "chelsea": (
        "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        1,
    ),
    "brick": (
        "skimage/data/brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        2,
    ),
    "life": (
        "usr/share/backgrounds/life_by_Aitzol_Berasategi.jpg",
        "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05",
        2,
    ),
}
SIDE_PX = 72
UPSCALED = 3
GAP_PX = 6
TITLE_PX = 28
TEXT_PX = 18


@dataclass
class Crop:
    """`SIDE_PX` on each side of an image, from `x`, `y`."""

    what: str
    image: str
    x: int
    y: int


CROPS = (
    Crop("letters", "astronaut", 136, 348),
    Crop("face", "astronaut", 190, 78),
    Crop("hair", "chelsea", 150, 60),
    Crop("bricks", "brick", 92, 20),
    Crop("leaves", "life", 1010, 62),
)


def sources(folder: Path) -> dict[str, Image.Image]:
    """The images, downloaded; sides are cut to even numbers."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
    subprocess.run(pip, check=True, cwd=folder)
    subprocess.run(["apt-get", "download", PACKAGE], check=True, cwd=folder)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", package, folder], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [p[0] for p in IMAGES.values() if p[0].startswith("skimage")])
    images = {}
    for name, (place, sha256, divisor) in IMAGES.items():
        content = (folder / place).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        assert found == sha256, f"{place}: SHA-256 {found}, expected {sha256}"
        image = Image.open(io.BytesIO(content)).convert("RGB")
        width, height = (side // divisor // 2 * 2 for side in image.size)
        image = image.crop((0, 0, width * divisor, height * divisor))
        images[name] = image.resize((width, height), Image.Resampling.BICUBIC)
    return images


def upscaled(image: Image.Image, folder: Path) -> dict[str, Image.Image]:
    """The columns: ways to upscale what is left of a halved image, and the image."""
    low = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    small, large = folder / "small.png", folder / "large.png"
    low.save(small)
    wdsr("upscale", "--quiet", small, "-o", large)
    return {
        "bicubic": low.resize(image.size, Image.Resampling.BICUBIC),
        "Lanczos": low.resize(image.size, Image.Resampling.LANCZOS),
        "wdsr base x2": Image.open(large).convert("RGB"),
        "original": image,
    }


def psnr_db(a: Image.Image, b: Image.Image) -> float:
    mse = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return 10 * math.log10(255**2 / mse)


def sheet(rows: list[tuple[str, dict[str, Image.Image]]]) -> Image.Image:
    """A page: for each row what it shows, and its images by the title of their column."""
    titles = list(rows[0][1])
    cell = SIDE_PX * UPSCALED
    across, down = cell + GAP_PX, cell + TEXT_PX + GAP_PX
    size = (len(titles) * across + GAP_PX, len(rows) * down + TITLE_PX)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        middle = GAP_PX + column * across + cell // 2
        draw.text((middle, TITLE_PX // 2), title, "black", ImageFont.load_default(16), "mm")
    for row, (what, parts) in enumerate(rows):
        for column, title in enumerate(titles):
            part = parts[title]
            corner = (GAP_PX + column * across, TITLE_PX + row * down)
            page.paste(part.resize((cell, cell), Image.Resampling.NEAREST), corner)
            text = what if title == "original" else f"{psnr_db(part, parts['original']):.1f} dB"
            below = (corner[0] + cell // 2, corner[1] + cell + TEXT_PX // 2)
            draw.text(below, text, "black", ImageFont.load_default(13), "mm")
    return page


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        images = sources(Path(folder))
        columns = {name: upscaled(image, Path(folder)) for name, image in images.items()}
    rows = []
    for crop in CROPS:
        area = (crop.x, crop.y, crop.x + SIDE_PX, crop.y + SIDE_PX)
        parts = {title: whole.crop(area) for title, whole in columns[crop.image].items()}
        rows.append((crop.what, parts))
    page = sheet(rows)
    page.save(ROOT / "docs/gallery.png", optimize=True)
    print(f"docs/gallery.png: {page.width} x {page.height}")


if __name__ == "__main__":
    main()
