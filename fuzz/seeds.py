#!/usr/bin/env python3
"""Writes the small inputs that the fuzz targets start from: fuzz/corpus/TARGET/seed-*.

Everything is generated here, with Python's standard library. Inputs named regression-* are finds, and stay.
"""

import io
import json
import pickle
import struct
import sys
import types
import zipfile
import zlib
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"


def write(target: str, name: str, content: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(content)


# Images


def png(width: int, height: int, depth: int, colour: int, extra: bytes = b"", interlaced: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row_bytes = (width * channels * depth + 7) // 8
    rows = b"".join(
        bytes([y % 5]) + bytes((7 * x + 31 * y) & (0x11 if depth < 8 else 0xFF) for x in range(row_bytes))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), extra]
    if colour == 3:
        parts.append(chunk(b"PLTE", bytes(range(48))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bmp(width: int, height: int, bits: int) -> bytes:
    row_bytes = (width * bits // 8 + 3) // 4 * 4
    palette = b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(256)) if bits == 8 else b""
    pixels = bytes((5 * i) % 256 for i in range(row_bytes * height))
    offset = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + info + palette + pixels


def tiff(width: int, height: int, bits: int, channels: int, sample_format: int, order: str = "<") -> bytes:
    pixels = bytes((3 * i) % 256 for i in range(width * height * channels * bits // 8))
    if sample_format == 3:
        count = width * height * channels
        pixels = struct.pack(f"{order}{count}f", *(i / count for i in range(count)))
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1 if channels == 1 else 2),
        (273, 4, 1, 8),
        (274, 3, 1, 6),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(pixels)),
        (339, 3, 1, sample_format),
    ]
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
        directory += struct.pack(order + "HHI", tag, kind, count) + packed
    pixels += b"\0" * (len(pixels) % 2)
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, 8 + len(pixels)) + pixels + directory + b"\0\0\0\0"


def images() -> None:
    for name, depth, colour in [
        ("grey1", 1, 0), ("grey8", 8, 0), ("grey16", 16, 0), ("rgb8", 8, 2), ("rgb16", 16, 2),
        ("palette4", 4, 3), ("grey-alpha8", 8, 4), ("rgba8", 8, 6), ("rgba16", 16, 6),
    ]:
        write("image", f"{name}.png", png(6, 5, depth, colour))
    for bits in (8, 24, 32):
        write("image", f"{bits}.bmp", bmp(5, 4, bits))
    write("image", "binary.ppm", b"P6\n# a comment\n2 2\n255\n" + bytes(range(12)))
    write("image", "plain.pgm", b"P2 2 2 1023 0 1 512 1023\n")
    write("image", "bits.pbm", b"P4\n9 2\n\x80\x80\x01\x00")
    write("image", "grey8.tif", tiff(6, 5, 8, 1, 1))
    write("image", "grey16-big-endian.tif", tiff(6, 5, 16, 1, 1, ">"))
    write("image", "float.tif", tiff(4, 3, 32, 1, 3))
    # A palette that ends within a colour: the decoder panicked.
    short = bytes(17)
    plte = struct.pack(">I", len(short)) + b"PLTE" + short + struct.pack(">I", zlib.crc32(b"PLTE" + short))
    broken = png(4, 4, 8, 0, plte)
    (CORPUS / "image" / "regression-palette-of-17-bytes.png").write_bytes(broken)


# Networks: the tensors of WDSR-B and EDSR of the least size, as the public trainers save them


def tensors(kind: str, prefix: str = "") -> dict[str, list[int]]:
    n, wide, low, scale = 2, 12, 1, 2
    out = 3 * scale * scale
    if kind == "wdsr-b":
        convs = {
            "head.0": [n, 3, 3, 3], "body.0.body.0": [wide, n, 1, 1], "body.0.body.2": [low, wide, 1, 1],
            "body.0.body.3": [n, low, 3, 3], "tail.0": [out, n, 3, 3], "skip.0": [out, 3, 5, 5],
        }
    else:
        convs = {
            "head.0": [n, 3, 3, 3], "body.0.body.0": [8, n, 3, 3], "body.0.body.2": [n, 8, 3, 3],
            "tail.0": [out, n, 3, 3], "skip.0": [out, 3, 5, 5],
        }
    found = {}
    for name, shape in convs.items():
        found[f"{prefix}{name}.weight"] = shape
        found[f"{prefix}{name}.bias"] = shape[:1]
    return found


def size(shape: list[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def values(count: int) -> bytes:
    return struct.pack(f"<{count}f", *(((i * 37) % 64 - 32) / 256 for i in range(count)))


def safetensors(shapes: dict[str, list[int]], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, shape in shapes.items():
        start = len(data)
        data += values(size(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def checkpoint(shapes: dict[str, list[int]], compress: bool = False) -> bytes:
    """A checkpoint as `torch.save` writes it: a zip file of a pickle and of one file for each storage."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage:
        pass

    FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"

    def _rebuild_tensor_v2(*arguments: object) -> None:
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2
    sys.modules.update({"torch": torch, "torch._utils": utils})

    class Storage:
        def __init__(self, key: str, count: int) -> None:
            self.key, self.count = key, count

    class Tensor:
        def __init__(self, storage: Storage, shape: list[int]) -> None:
            self.storage, self.shape = storage, shape

        def __reduce__(self) -> tuple[object, ...]:
            strides = tuple(size(self.shape[i + 1 :]) for i in range(len(self.shape)))
            return utils._rebuild_tensor_v2, (self.storage, 0, tuple(self.shape), strides, False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: object) -> object:
            if isinstance(item, Storage):
                return ("storage", FloatStorage, item.key, "cpu", item.count)
            return None

    file, state = io.BytesIO(), {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for key, (name, shape) in enumerate(shapes.items()):
            state[name] = Tensor(Storage(str(key), size(shape)), shape)
        text = io.BytesIO()
        Pickler(text, protocol=2).dump(state)
        epoch = (1980, 1, 1, 0, 0, 0)
        archive.writestr(zipfile.ZipInfo("archive/data.pkl", epoch), text.getvalue())
        for key, shape in enumerate(shapes.values()):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{key}", epoch), values(size(shape)))
        archive.writestr(zipfile.ZipInfo("archive/version", epoch), b"3\n")
    return file.getvalue()


def networks() -> None:
    for kind in ("wdsr-a", "wdsr-b"):
        shapes = tensors(kind)
        write("import", f"{kind}.safetensors", safetensors(shapes, {}))
        write("import", f"{kind}.pt", checkpoint(shapes))
        config = {
            "block": kind, "features": 2, "blocks": 1, "expansion": 6 if kind == "wdsr-b" else 4,
            "low_rank": 1 if kind == "wdsr-b" else 0, "norm": "weight", "scale": 2, "residual_scale": 1.0,
            "mean": [0.5, 0.5, 0.5],
        }
        metadata = {"format": "wdsr", "version": "1", "config": json.dumps(config), "note": "a seed"}
        write("model", f"{kind}.safetensors", safetensors(shapes, metadata))
    write("import", "parallel.pt", checkpoint(tensors("wdsr-b", "module.")))


# Recipes


def recipes() -> None:
    write("recipe", "least.toml", b"[network]\n[training]\n")
    write(
        "recipe", "all-tables.toml",
        b'[network]\nblock = "wdsr-b"\nfeatures = 8\nblocks = 1\nscale = 3\nnorm = "batch"\nmean = [0.1, 0.2, 0.3]\n'
        b'[start]\nfrom = "a.safetensors"\ninsert_blocks = false\n[teacher]\nmodel = "b.safetensors"\nweight = 0.5\n'
        b'[[data.folders]]\npath = "c"\nweight = 2.0\n[training]\nupdates = 1_000\nbatch = 2\npatch_px = 12\n'
        b'loss = "charbonnier"\ncharbonnier_epsilon = 0.01\ngradient_clip_norm = 0.1\naverage_decay = 0.9\n'
        b'[schedule]\nkind = "cosine"\nlearning_rate = 8e-3\nwarm_up_updates = 10\n[validation]\nevery_updates = 100\n',
    )
    # The milestone of the schedule, a part of the updates, overflowed.
    most = b"[network]\n[training]\nupdates = 9_223_372_036_854_775_807\n"
    (CORPUS / "recipe" / "regression-most-updates.toml").write_bytes(most)


for target in ("image", "import", "model", "recipe"):
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
images()
networks()
recipes()
