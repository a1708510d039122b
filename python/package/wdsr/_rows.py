"""What the workers of Ray and Daft share: pairs of files in, a table of rows out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

import wdsr

SCHEMA = pa.schema([
    ("source", pa.string()),
    ("target", pa.string()),
    ("status", pa.string()),
    ("error", pa.string()),
    ("error_kind", pa.string()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("frames", pa.int64()),
    ("pages", pa.int64()),
    ("model", pa.string()),
    ("strength", pa.float64()),
    ("warnings", pa.list_(pa.string())),
    ("bytes", pa.int64()),
    ("xxh3", pa.string()),
    ("milliseconds", pa.float64()),
])  # fmt: skip


class Worker:
    """Upscales files in one process, with one model and one manifest."""

    def __init__(self, out: str | None, options: dict[str, Any]) -> None:
        """`out` is the folder that the manifest is in; None for none."""
        manifest = None if out is None else wdsr.Manifest(out)
        self.options = {**options, "manifest": manifest}

    def upscale(self, pairs: Iterable[tuple[str, str]]) -> pa.Table:
        """The rows of the pairs (source, target), in order."""
        rows = [
            {**row, "source": str(row["source"]), "target": str(row["target"])}
            for row in wdsr.upscale_files(pairs, **self.options)
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)


def found(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recursive: bool,
    options: dict[str, Any],
) -> dict[str, list[str]]:
    """Columns `source` and `target` of the images."""
    listed = images if isinstance(images, (str, os.PathLike)) else list(images)
    pairs = wdsr.find_images(listed, out, recursive=recursive, format=options.get("format"))
    return {
        "source": [str(source) for source, _ in pairs],
        "target": [str(target) for _, target in pairs],
    }
