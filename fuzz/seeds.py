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


def write(target: str, name: str, content: bytes, kind: str = "seed") -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}-{name}").write_bytes(content)


# Images


def png(
    width: int, height: int, depth: int, colour: int, extra: bytes = b"", interlaced: int = 0
) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row_bytes = (width * channels * depth + 7) // 8
    rows = b"".join(
        bytes([y % 5])
        + bytes((7 * x + 31 * y) & (0x11 if depth < 8 else 0xFF) for x in range(row_bytes))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), extra]
    if colour == 3:
        parts.append(chunk(b"PLTE", bytes(range(48))))
    return (
        b"\x89PNG\r\n\x1a\n"
        + b"".join(parts)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def bmp(width: int, height: int, bits: int) -> bytes:
    row_bytes = (width * bits // 8 + 3) // 4 * 4
    palette = b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(256)) if bits == 8 else b""
    pixels = bytes((5 * i) % 256 for i in range(row_bytes * height))
    offset = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 2835, 2835, 0, 0)
    return (
        b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + info + palette + pixels
    )


def tiff(
    width: int, height: int, bits: int, channels: int, sample_format: int, order: str = "<"
) -> bytes:
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
        packed = struct.pack(
            order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,))
        )
        directory += struct.pack(order + "HHI", tag, kind, count) + packed
    pixels += b"\0" * (len(pixels) % 2)
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, 8 + len(pixels)) + pixels + directory + b"\0\0\0\0"


def two_pages(page: bytes) -> bytes:
    """A TIFF file whose only directory is followed by a copy of itself."""
    directory = page[struct.unpack("<I", page[4:8])[0] :]
    return page[:-4] + struct.pack("<I", len(page)) + directory


def gif() -> bytes:
    header = (
        b"GIF89a" + struct.pack("<HHBBB", 4, 3, 0x80, 0, 0) + bytes([10, 20, 30, 200, 210, 220])
    )
    loop = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"

    def frame(disposal: int, x: int, colour: int) -> bytes:
        codes = 0b100 | colour << 3 | 0b101 << 6
        control = b"\x21\xf9\x04" + struct.pack("<BHB", disposal << 2, 5, 0) + b"\0"
        place = b"\x2c" + struct.pack("<HHHHB", x, 0, 1, 1, 0)
        return control + place + b"\x02\x02" + struct.pack("<H", codes) + b"\0"

    return header + loop + frame(1, 0, 0) + frame(2, 1, 1) + frame(3, 2, 1) + b"\x3b"


def animated_png(still: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    def control(number: int, dispose: int, blend: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 6, 5, 0, 0, 1, 10, dispose, blend))

    header, rest = still[:33], still[33:]
    length = struct.unpack(">I", rest[:4])[0]
    pixels, end = rest[8 : 8 + length], rest[12 + length :]
    later = control(1, 0, 1) + chunk(b"fdAT", struct.pack(">I", 2) + pixels)
    return (
        header
        + chunk(b"acTL", struct.pack(">II", 2, 0))
        + control(0, 1, 0)
        + rest[: 12 + length]
        + later
        + end
    )


def animated_webp() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    # A lossless image of one pixel: five codes of one symbol each.
    image = chunk(b"VP8L", b"\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\x08\0\0\0")
    frame = chunk(b"ANMF", b"\0" * 12 + b"\x28\0\0\x02" + image)
    body = (
        b"WEBP" + chunk(b"VP8X", b"\x12\0\0\0" + b"\0" * 6) + chunk(b"ANIM", b"\0" * 6) + 2 * frame
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def dds() -> bytes:
    header = [0] * 31
    header[0:4] = [124, 0x1007, 4, 8]
    header[18:21] = [32, 4, struct.unpack("<I", b"DXT1")[0]]
    header[26] = 0x1000
    return b"DDS " + struct.pack("<31I", *header) + bytes(range(16))


def images() -> None:
    for name, depth, colour in [
        ("grey1", 1, 0),
        ("grey8", 8, 0),
        ("grey16", 16, 0),
        ("rgb8", 8, 2),
        ("rgb16", 16, 2),
        ("palette4", 4, 3),
        ("grey-alpha8", 8, 4),
        ("rgba8", 8, 6),
        ("rgba16", 16, 6),
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
    write("image", "pages.tif", two_pages(tiff(6, 5, 8, 1, 1)))
    write("image", "animated.gif", gif())
    write("image", "animated.png", animated_png(png(6, 5, 8, 2)))
    write("image", "animated.webp", animated_webp())
    write("image", "dxt1.dds", dds())
    qoi = struct.pack(">4sIIBB", b"qoif", 3, 2, 3, 0) + b"\xfe\x10\x20\x30\xc4"
    write("image", "run.qoi", qoi + b"\0" * 7 + b"\1")
    tga = struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 4, 2, 24, 0x20)
    write("image", "run.tga", tga + b"\x83\1\2\3\x03" + bytes(range(12)))
    # A palette that ends within a colour: the decoder panicked.
    short = bytes(17)
    plte = (
        struct.pack(">I", len(short))
        + b"PLTE"
        + short
        + struct.pack(">I", zlib.crc32(b"PLTE" + short))
    )
    write("image", "palette-of-17-bytes.png", png(4, 4, 8, 0, plte), "regression")


# Networks: the tensors of WDSR-B and EDSR of the least size, as the public trainers save them


def tensors(kind: str, prefix: str = "") -> dict[str, list[int]]:
    n, wide, low, scale = 2, 12, 1, 2
    out = 3 * scale * scale
    if kind == "wdsr-b":
        convs = {
            "head.0": [n, 3, 3, 3],
            "body.0.body.0": [wide, n, 1, 1],
            "body.0.body.2": [low, wide, 1, 1],
            "body.0.body.3": [n, low, 3, 3],
            "tail.0": [out, n, 3, 3],
            "skip.0": [out, 3, 5, 5],
        }
    else:
        convs = {
            "head.0": [n, 3, 3, 3],
            "body.0.body.0": [8, n, 3, 3],
            "body.0.body.2": [n, 8, 3, 3],
            "tail.0": [out, n, 3, 3],
            "skip.0": [out, 3, 5, 5],
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

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        "torch._utils",
        "_rebuild_tensor_v2",
    )
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
            return utils._rebuild_tensor_v2, (
                self.storage,
                0,
                tuple(self.shape),
                strides,
                False,
                {},
            )

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: object) -> object:
            if isinstance(item, Storage):
                return ("storage", FloatStorage, item.key, "cpu", item.count)
            return None

    file, state = io.BytesIO(), {}
    with zipfile.ZipFile(
        file, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    ) as archive:
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
            "block": kind,
            "features": 2,
            "blocks": 1,
            "expansion": 6 if kind == "wdsr-b" else 4,
            "low_rank": 1 if kind == "wdsr-b" else 0,
            "norm": "weight",
            "scale": 2,
            "residual_scale": 1.0,
            "mean": [0.5, 0.5, 0.5],
        }
        metadata = {
            "format": "wdsr",
            "version": "1",
            "config": json.dumps(config),
            "note": "a seed",
        }
        write("model", f"{kind}.safetensors", safetensors(shapes, metadata))
    write("import", "parallel.pt", checkpoint(tensors("wdsr-b", "module.")))


# Recipes


def recipes() -> None:
    write("recipe", "least.toml", b"[network]\n[training]\n")
    write(
        "recipe",
        "all-tables.toml",
        b'[network]\nblock = "wdsr-b"\nfeatures = 8\nblocks = 1\nscale = 3\nnorm = "batch"\nmean = [0.1, 0.2, 0.3]\n'
        b'[start]\nfrom = "a.safetensors"\ninsert_blocks = false\n[teacher]\nmodel = "b.safetensors"\nweight = 0.5\n'
        b'[[data.folders]]\npath = "c"\nweight = 2.0\n[training]\nupdates = 1_000\nbatch = 2\npatch_px = 12\n'
        b'loss = "charbonnier"\ncharbonnier_epsilon = 0.01\ngradient_clip_norm = 0.1\naverage_decay = 0.9\n'
        b'[schedule]\nkind = "cosine"\nlearning_rate = 8e-3\nwarm_up_updates = 10\n[validation]\nevery_updates = 100\n',
    )
    # The milestone of the schedule, a part of the updates, overflowed.
    most = b"[network]\n[training]\nupdates = 9_223_372_036_854_775_807\n"
    write("recipe", "most-updates.toml", most, "regression")


# Metadata: the first byte is the place of the block in `fuzz_targets/metadata.rs`

EXIF_IN_JPEG, XMP_IN_JPEG, PHOTOSHOP, EXIF_IN_PNG, XMP_IN_PNG, TEXT_AND_PROFILE = range(6)
XMP_IN_TIFF, IPTC_IN_TIFF, GEO_KEYS, AFTER_END, MULTI_PICTURE, EXTENDED_XMP, BOXES = range(6, 13)

BYTE, ASCII, SHORT, LONG, RATIONAL = 1, 2, 3, 4, 5


def directories(order: str, *ifds: list[tuple[int, int, int, bytes]]) -> bytes:
    """A TIFF header and directories. Values are in `order`; a value `b"@1"` is the offset of directory 1."""
    body, offsets, patches = b"", [], []
    for entries in ifds:
        offsets.append(8 + len(body))
        table = struct.pack(order + "H", len(entries))
        values_at = 8 + len(body) + 2 + 12 * len(entries) + 4
        values_of_table = b""
        for tag, kind, count, value in sorted(entries):
            if value.startswith(b"@"):
                patches.append((8 + len(body) + len(table) + 8, int(value[1:])))
                value = bytes(4)
            if len(value) > 4:
                at = values_at + len(values_of_table)
                values_of_table += value + b"\0" * (len(value) % 2)
                value = struct.pack(order + "I", at)
            table += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
        body += table + bytes(4) + values_of_table
    file = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + body)
    for at, index in patches:
        file[at : at + 4] = struct.pack(order + "I", offsets[index])
    return bytes(file)


def exif(order: str) -> bytes:
    """Camera, orientation, sizes, a subject area, GPS, a SubIFD with GPS and a maker's note."""

    def short(*numbers: int) -> bytes:
        return struct.pack(f"{order}{len(numbers)}H", *numbers)

    degrees = struct.pack(order + "6I", 48, 1, 51, 1, 24, 1)
    gps = [
        (1, ASCII, 2, b"N\0"),
        (2, RATIONAL, 3, degrees),
        (3, ASCII, 2, b"E\0"),
        (4, RATIONAL, 3, degrees),
    ]
    return directories(
        order,
        [
            (0x010F, ASCII, 7, b"Camera\0"),
            (0x0112, SHORT, 1, short(6)),
            (0x011A, RATIONAL, 1, degrees[:8]),
            (0x0128, SHORT, 1, short(2)),
            (0x014A, LONG, 1, b"@3"),
            (0x8769, LONG, 1, b"@1"),
            (0x8825, LONG, 1, b"@2"),
        ],
        [
            (0x9214, SHORT, 4, short(2, 1, 2, 2)),
            (0x927C, 7, 12, b"maker's note"),
            (0xA002, SHORT, 1, short(4)),
            (0xA003, SHORT, 1, short(3)),
            (0xA214, SHORT, 2, short(1, 2)),
        ],
        gps,
        [(0x8825, LONG, 1, b"@2")],
    )


PACKET = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" GCamera:MicroVideo="1"
 tiff:ImageWidth="4" tiff:Orientation="6" exif:GPSLatitude="48,51.4N" GPano:FullPanoWidthPixels="4">
<exif:GPSLongitude>2,21.0E</exif:GPSLongitude><GPano:CroppedAreaTopPixels>1</GPano:CroppedAreaTopPixels>
<mwg-rs:Regions xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" rdf:parseType="Resource">
<mwg-rs:AppliedToDimensions stDim:w="4" stDim:h="3" stDim:unit="pixel" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"/>
<mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="a"><mwg-rs:Area stArea:x="0.5" stArea:y="0.25" stArea:w="0.1"
 stArea:h="0.2" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#"/></rdf:Description></rdf:li></rdf:Bag></mwg-rs:RegionList>
</mwg-rs:Regions><!-- GPS 48.85 --></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""  # noqa: E501


def metadata() -> None:
    def add(place: int, name: str, content: bytes) -> None:
        write("metadata", name, bytes([place]) + content)

    def jxl_box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    for place, name in ((EXIF_IN_JPEG, "jpeg"), (EXIF_IN_PNG, "png")):
        add(place, f"exif-{name}-little-endian", exif("<"))
        add(place, f"exif-{name}-big-endian", exif(">"))
    for place, name in ((XMP_IN_JPEG, "jpeg"), (XMP_IN_PNG, "png"), (XMP_IN_TIFF, "tiff")):
        add(place, f"xmp-{name}", PACKET)
    records = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text
        for number, text in [
            (0, b"\0\2"),
            (5, b"Title"),
            (25, b"cat"),
            (25, b"dog"),
            (120, b"A caption"),
        ]
    )
    resources = b"".join(
        b"8BIM"
        + struct.pack(">HHI", number, 0, len(content))
        + content
        + b"\0" * (len(content) % 2)
        for number, content in [
            (0x03ED, bytes(16)),
            (0x0404, records),
            (0x0411, b"link"),
            (0x0BB7, b""),
        ]
    )
    add(PHOTOSHOP, "photoshop", resources)
    add(IPTC_IN_TIFF, "iptc", records + bytes(-len(records) % 4))
    add(TEXT_AND_PROFILE, "comment", b"Comment\0\0" + zlib.compress(b"GPS 48.85, a text"))
    raw = b"\nexif\n%8d\n" % len(exif("<")) + exif("<").hex().encode()
    add(TEXT_AND_PROFILE, "raw-exif", b"Raw profile type exif\0\0" + zlib.compress(raw))
    profile = struct.pack(">I4sI4s4s4s", 132, b"none", 0x04000000, b"mntr", b"GRAY", b"XYZ ").ljust(
        132, b"\0"
    )
    add(TEXT_AND_PROFILE, "profile", b"icc\0\0" + zlib.compress(profile))
    add(GEO_KEYS, "geo-keys", struct.pack("<12H", 1, 1, 0, 2, 1024, 0, 1, 2, 1025, 0, 1, 2))
    jpeg_start = (
        b"\xff\xd8\xff\xe1\0\x2a" + b"http://ns.adobe.com/hdr-gain-map/1.0/\0" + b"\xff\xd9"
    )
    video = struct.pack(">I4s4sI4s", 20, b"ftyp", b"mp42", 0, b"isom") + struct.pack(
        ">I4s", 8, b"mdat"
    )
    add(AFTER_END, "gain-map-and-video", jpeg_start + video)
    add(AFTER_END, "image", b"\0\0" + png(2, 2, 8, 0))
    entries = b"".join(
        struct.pack(">IIIHH", kind, 100, 100 * at, 0, 0)
        for at, kind in enumerate((0x30000, 0x20002))
    )
    index = directories(
        ">",
        [
            (0xB000, 7, 4, b"0100"),
            (0xB001, LONG, 1, struct.pack(">I", 2)),
            (0xB002, 7, 32, entries),
        ],
    )
    add(MULTI_PICTURE, "index", index)
    part = b"0" * 32 + struct.pack(">II", len(PACKET), 0) + PACKET
    add(EXTENDED_XMP, "second-part", part)
    boxes = (
        jxl_box(b"Exif", bytes(4) + exif(">")) + jxl_box(b"xml ", PACKET) + jxl_box(b"jhgm", b"\0")
    )
    add(BOXES, "boxes", boxes + jxl_box(b"jumb", b"\0") + jxl_box(b"free", b""))
    # A brotli stream of one uncompressed block: window of 16 bits, length less one in 16 bits, then
    # the last, empty block.
    stored = bytes(4) + exif("<")
    bits = 0 | 0 << 1 | 0 << 2 | (len(stored) - 1) << 4 | 1 << 20
    add(BOXES, "packed", jxl_box(b"brob", b"Exif" + struct.pack("<I", bits)[:3] + stored + b"\x03"))


images()
networks()
recipes()
metadata()
