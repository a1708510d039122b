"""Small TIFF files of every kind that is read, and what ImageMagick decodes from them, for
crates/image/tests/image/tiff_kinds.rs.

    python3 reference/tiff_kinds.py

Needs ImageMagick 6 and libtiff's tools (Debian: imagemagick, libtiff-tools); both use libtiff. A
line of expected.txt is: file, width, height, channels, bits (8 or 16; 32 for floats), CRC-32 of the
samples, 16 bits in little-endian order; floats are compared as round(65535 v). For YCbCr and CMYK,
whose conversion has no one right rounding, the mean of all samples stands in place of the CRC.
"""

import struct
import subprocess
import zlib
from pathlib import Path

OUT = Path(__file__).parent.parent / "crates/image/tests/tiff"
# A gradient in each direction with a soft disc of alpha.
COLOUR = (
    "-size 21x13 gradient:red-blue ( -size 13x21 gradient:black-lime -rotate 90 )"
    " -compose plus -composite"
)
ALPHA = "( -size 21x13 radial-gradient:white-gray20 ) -alpha off -compose copy_opacity -composite"
GREY = f"{COLOUR} -colorspace gray"
# Uncompressed floats make it end with an error though it writes them.
FLOAT = "-depth 32 -define quantum:format=floating-point -compress zip"
# name: (ImageMagick's arguments, tiffcp's arguments, channels, bits)
KINDS = {
    "grey1": (f"{GREY} -threshold 45% -type bilevel -depth 1 -compress none", "", 1, 8),
    "grey1-fax4": (f"{GREY} -threshold 45% -type bilevel -compress group4", "", 1, 8),
    "grey2": (f"{GREY} -type grayscale -depth 2 -define quantum:polarity=min-is-black", "", 1, 8),
    "grey4": (f"{GREY} -type grayscale -depth 4", "", 1, 8),
    "grey8": (f"{GREY} -type grayscale -depth 8", "", 1, 8),
    "grey8-white-is-zero": (
        f"{GREY} -type grayscale -depth 8 -define quantum:polarity=min-is-white",
        "",
        1,
        8,
    ),
    "grey16": (f"{GREY} -type grayscale -depth 16", "", 1, 16),
    "grey-float32": (f"{GREY} -type grayscale {FLOAT}", "", 1, 32),
    "grey-alpha8": (f"{GREY} {ALPHA} -type grayscalematte -depth 8", "", 2, 8),
    "grey-alpha16": (f"{GREY} {ALPHA} -type grayscalematte -depth 16", "", 2, 16),
    "palette4": (f"{COLOUR} -type palette -colors 16 +dither -depth 4", "", 3, 8),
    "palette8": (f"{COLOUR} -type palette -colors 200 +dither -depth 8", "", 3, 8),
    "palette8-big-endian": (f"{COLOUR} -type palette -colors 99 +dither -depth 8", "-B", 3, 8),
    "palette8-bigtiff": (f"{COLOUR} -type palette -colors 99 +dither -depth 8", "-8", 3, 8),
    "rgb8-lzw-predictor": (f"{COLOUR} -type truecolor -depth 8", "-c lzw:2", 3, 8),
    "rgb8-packbits": (f"{COLOUR} -type truecolor -depth 8", "-c packbits", 3, 8),
    "rgb8-planar": (f"{COLOUR} -type truecolor -depth 8", "-p separate", 3, 8),
    "rgb8-tiled": (f"{COLOUR} -type truecolor -depth 8", "-t -w 16 -l 16", 3, 8),
    "rgb8-tiled-planar": (f"{COLOUR} -type truecolor -depth 8", "-t -w 16 -l 16 -p separate", 3, 8),
    "rgb8-one-row-strips": (f"{COLOUR} -type truecolor -depth 8", "-r 1", 3, 8),
    "rgb16-big-endian": (f"{COLOUR} -type truecolor -depth 16", "-B", 3, 16),
    "rgb16-deflate-bigtiff": (f"{COLOUR} -type truecolor -depth 16", "-8 -c zip:2", 3, 16),
    "rgb-float32": (f"{COLOUR} -type truecolor {FLOAT}", "", 3, 32),
    "rgb-float32-predictor": (f"{COLOUR} -type truecolor {FLOAT}", "-c zip:3", 3, 32),
    "rgba8": (f"{COLOUR} {ALPHA} -type truecolormatte -depth 8", "", 4, 8),
    "rgba16-associated": (
        f"{COLOUR} {ALPHA} -type truecolormatte -depth 16 -define tiff:alpha=associated",
        "",
        4,
        16,
    ),
    "cmyk8": (f"{COLOUR} -colorspace cmyk -depth 8", "", 3, 8),
    "ycbcr8-jpeg": (f"{COLOUR} -type truecolor -depth 8", "-c jpeg:90", 3, 8),
}


def expected(name: str, channels: int, bits: int) -> str:
    path = OUT / f"{name}.tif"
    depth = 8 if bits == 8 else 16
    command = ["convert", path, "-colorspace", "srgb", "-alpha", "on", "-depth", str(depth)]
    if "cmyk" not in name:
        command[2:4] = []
    rgba = subprocess.run(
        [*command, "-endian", "LSB", "rgba:-"], check=True, capture_output=True
    ).stdout
    size = depth // 8
    pixels = [rgba[at : at + 4 * size] for at in range(0, len(rgba), 4 * size)]
    kept = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    samples = b"".join(p[c * size : (c + 1) * size] for p in pixels for c in kept)
    value = f"{zlib.crc32(samples):08x}"
    if name.startswith(("cmyk", "ycbcr", "rgba16-associated")):
        numbers = struct.unpack(f"<{len(samples) // size}{'BH'[size - 1]}", samples)
        value = f"{sum(numbers) / len(numbers):.2f}"
    return f"{name}.tif 21 13 {channels} {bits} {value}"


OUT.mkdir(exist_ok=True)
lines = []
for name, (arguments, copying, channels, bits) in KINDS.items():
    path = OUT / f"{name}.tif"
    plain = ["convert", *arguments.split(), "-strip", "+set", "date:create", path]
    subprocess.run(plain, check=True)
    if copying:
        copied = path.with_suffix(".copy")
        subprocess.run(["tiffcp", *copying.split(), path, copied], check=True)
        copied.replace(path)
    lines.append(expected(name, channels, bits))
(OUT / "expected.txt").write_text("\n".join(lines) + "\n")
