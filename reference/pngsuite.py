"""What ImageMagick decodes from PngSuite, as a list for crates/image/tests/image/pngsuite.rs.

    python3 reference/pngsuite.py > crates/image/tests/pngsuite/expected.txt

Needs ImageMagick 6 (Debian: imagemagick), which decodes with libpng. A line is: file, width,
height, channels (1 grey, 2 with alpha, 3 RGB, 4 with alpha), bits (8 or 16), CRC-32 of the samples,
interleaved, 16 bits in little-endian order. Files that begin with x are broken and not listed.
"""

import struct
import subprocess
import zlib
from pathlib import Path

SUITE = Path(__file__).parent.parent / "crates/image/tests/pngsuite"
CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


# ImageMagick would turn samples into other ones by these; the list is of the stored samples.
COLOUR_CHUNKS = {b"gAMA", b"cHRM", b"sRGB", b"iCCP"}


def chunks(png: bytes) -> dict[bytes, bytes]:
    """Chunks by name, those of one name joined, each with length and checksum."""
    found, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        name = png[at + 4 : at + 8]
        found[name] = found.get(name, b"") + png[at : at + length + 12]
        at += length + 12
    return found


def line(path: Path) -> str:
    png = path.read_bytes()
    width, height, bits, colour = struct.unpack(">IIBB", png[16:26])
    parts = chunks(png)
    channels = CHANNELS[colour] + (b"tRNS" in parts)
    bits = 16 if bits == 16 else 8
    plain = png[:8] + b"".join(parts[name] for name in parts if name not in COLOUR_CHUNKS)
    command = ["convert", "png:-", "-alpha", "on", "-depth", str(bits), "-endian", "LSB", "rgba:-"]
    rgba = subprocess.run(command, check=True, capture_output=True, input=plain).stdout
    size = bits // 8
    pixels = [rgba[at : at + 4 * size] for at in range(0, len(rgba), 4 * size)]
    assert len(pixels) == width * height, path
    kept = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    samples = b"".join(p[c * size : (c + 1) * size] for p in pixels for c in kept)
    return f"{path.name} {width} {height} {channels} {bits} {zlib.crc32(samples):08x}"


for path in sorted(SUITE.glob("*.png")):
    if not path.name.startswith("x"):
        print(line(path))
