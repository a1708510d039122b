"""What `wdsr train` exports for twin.py (`crates/train/src/export.rs`): batches, or images."""

import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from twin_degrade import MARGIN_PX, Degradation

# Patches are gathered for this many updates at once.
UPDATES_AT_ONCE = 32


def open_file(path: Path, format_name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file of ours."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        found = (metadata.get("format"), metadata.get("version"))
        if found != (format_name, "1"):
            raise ValueError(f"{path}: expected {format_name} version 1, found {found}")
        return {key: file.get_tensor(key) for key in file.keys()}, metadata


class Batches:
    """The very batches of `wdsr train`; the updates of `first` up to below `end` have one."""

    def __init__(self, path: Path, training: dict[str, Any], scale: int, device: str) -> None:
        tensors, metadata = open_file(path, "wdsr-batches")
        self.low, self.high = tensors["low"], tensors["high"]
        self.first = int(metadata["first_update"])
        self.end = self.first + len(self.low)
        self.device = device
        side_px = training["patch_px"]
        for tensor, side in ((self.low, side_px), (self.high, side_px * scale)):
            expected = (training["batch"], 3, side, side)
            if tensor.shape[1:] != expected:
                raise ValueError(f"{path}: batches of {tensor.shape[1:]}, expected {expected}")

    def batch(self, update: int) -> tuple[Tensor, Tensor, None]:
        """[batch, 3, side, side] in 0..1, low and high, of an update (counted from 0)."""
        at = update - self.first
        low, high = self.low[at].to(self.device), self.high[at].to(self.device)
        return low.float() / 255, high.float() / 255, None


class Images:
    """Random patches, as `wdsr train` draws them but by PyTorch's generator.

    All images lie on the device, 8-bit, one after the other. A batch follows from (seed, update).
    Under a `[degradation]` the low-resolution patches are made from the originals; under a
    `[strength]` each update has one.
    """

    def __init__(self, paths: list[Path], recipe: dict[str, Any], device: str) -> None:
        self.training, self.scale = recipe["training"], recipe["network"]["scale"]
        self.device = device
        self.strength_range = recipe["strength"]["range"] if "strength" in recipe else None
        files: dict[str, Tensor] = {}
        probabilities: dict[str, float] = {}
        for path in paths:
            tensors, metadata = open_file(path, "wdsr-images")
            files |= tensors
            probabilities |= json.loads(metadata["probabilities"])
        names = sorted(probabilities, key=int)
        total = math.fsum(probabilities.values())
        if abs(total - 1) > 1e-6 or [int(name) for name in names] != list(range(len(names))):
            raise ValueError(f"{paths[0].parent}: images-N.safetensors are not all there")
        self.probabilities = torch.tensor([probabilities[n] for n in names], device=device)
        self.generator = torch.Generator(device)
        self.degradation: Degradation | None = None
        if "degradation" in recipe:
            stages = recipe["degradation"], self.scale, device, self.generator
            self.degradation = Degradation(*stages)
        self.first, self.end = 0, math.inf
        self.drawn: tuple[int, list[tuple[Tensor, Tensor, Tensor | None]]] = (-1, [])

        with ThreadPoolExecutor() as pool:
            highs = pool.map(lambda name: decode(files[f"{name}.high"]), names)
            pairs = [
                self.pair(high, files.get(f"{name}.low"))
                for name, high in zip(names, highs, strict=True)
            ]
        # In low-resolution pixels, as all places below.
        size_px = torch.tensor([high.shape[:2] for _, high in pairs]) // self.scale
        self.size_px, count_px = size_px.to(device), size_px.prod(1)
        self.start = (count_px.cumsum(0) - count_px).to(device)
        if self.degradation is None:
            self.low = torch.cat([low.reshape(-1, 3) for low, _ in pairs]).to(device)
        self.high = torch.cat([high.reshape(-1, 3) for _, high in pairs]).to(device)

    def pair(self, high: Tensor, low_file: Tensor | None) -> tuple[Tensor, Tensor]:
        height, width = (side // self.scale * self.scale for side in high.shape[:2])
        high = high[:height, :width]
        if self.degradation:
            return high, high
        if low_file is not None:
            return decode(low_file), high
        return imresize_8bit(high.to(self.device), self.scale).cpu(), high

    def batch(self, update: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """[batch, 3, side, side] in 0..1, low and high, and the strength of an update (from 0)."""
        group, at = divmod(update, UPDATES_AT_ONCE)
        if self.drawn[0] != group:
            self.drawn = (group, self.draw(group))
        return self.drawn[1][at]

    def draw(self, group: int) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        # A hash, so that neighbouring seeds and groups share no patches.
        self.generator.manual_seed(hash((self.training["seed"], group)))
        batch, side_px = self.training["batch"], self.training["patch_px"]
        count = batch * UPDATES_AT_ONCE
        random = {"generator": self.generator, "device": self.device}
        image = torch.multinomial(self.probabilities, count, True, generator=self.generator)
        height, width = self.size_px[image].unbind(1)
        # float64: a place is as likely as any other to far below one in a million.
        place = torch.rand(2, count, dtype=torch.float64, **random)
        y = (place[0] * (height - side_px + 1)).long()
        x = (place[1] * (width - side_px + 1)).long()
        turn = torch.randint(2, (3, count), **random).bool()

        def gather(pixels: Tensor, factor: int, margin_px: int = 0) -> Tensor:
            """The patches and `margin_px` low-resolution pixels around them, in levels."""
            side = (side_px + 2 * margin_px) * factor
            along = torch.arange(side, device=self.device).expand(count, side)
            rows = torch.where(turn[0, :, None], side - 1 - along, along)[:, :, None]
            columns = torch.where(turn[1, :, None], side - 1 - along, along)[:, None, :]
            transpose = turn[2, :, None, None]
            rows, columns = (
                torch.where(transpose, rows.transpose(1, 2), rows),
                torch.where(transpose, columns.transpose(1, 2), columns),
            )

            def inside(at: Tensor, first: Tensor, length: Tensor) -> Tensor:
                # Beyond an edge its pixel repeats.
                first, length = (v[:, None, None] * factor for v in (first - margin_px, length))
                return torch.minimum((first + at).clamp(min=0), length - 1)

            rows, columns = inside(rows, y, height), inside(columns, x, width)
            index = (self.start[image] * factor**2)[:, None, None]
            index = index + rows * (width * factor)[:, None, None] + columns
            return pixels[index].permute(0, 3, 1, 2).float()

        strengths: list[Tensor | None] = [None] * UPDATES_AT_ONCE
        if self.degradation is None:
            low, high = gather(self.low, 1), gather(self.high, self.scale)
        else:
            of_patches = None
            if self.strength_range:
                first, last = self.strength_range
                drawn = first + (last - first) * torch.rand(UPDATES_AT_ONCE, **random)
                strengths, of_patches = list(drawn), drawn.repeat_interleave(batch)
            high = gather(self.high, self.scale, MARGIN_PX)
            low = self.degradation.apply(high, of_patches)
            low = low[:, :, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
            border = MARGIN_PX * self.scale
            high = high[:, :, border:-border, border:-border]
        return list(
            zip((low / 255).split(batch), (high / 255).split(batch), strengths, strict=True)
        )


def decode(file: Tensor) -> Tensor:
    """[height, width, 3] R G B of the bytes of an image's file."""
    image = Image.open(io.BytesIO(file.numpy().tobytes())).convert("RGB")
    return torch.from_numpy(np.array(image))


def imresize_8bit(high: Tensor, scale: int) -> Tensor:
    """MATLAB's `imresize` of [height, width, 3] 8-bit samples by 1/scale, rounded after each pass.

    As `crates/image/src/imresize.rs`: heights first, halves up.
    """
    for dimension in (0, 1):
        weights = imresize_weights(high.shape[dimension], scale).to(high.device)
        sums = torch.tensordot(weights, high.double(), dims=([1], [dimension]))
        high = (sums + 0.5).floor().clamp(0, 255).to(torch.uint8).movedim(0, dimension)
    return high


def imresize_weights(length: int, scale: int) -> Tensor:
    """[length / scale, length]: antialiased bicubic with a = -1/2, edges mirrored."""

    def cubic(x: np.ndarray) -> np.ndarray:
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))

    places = np.arange(length // scale)
    centre = (places + 0.5) * scale - 0.5
    taps = np.floor(centre - 2 * scale)[:, None] + np.arange(4 * scale + 2)
    weights = cubic(np.abs(centre[:, None] - taps) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    matrix = np.zeros((length // scale, length))
    source = mirrored[taps.astype(np.int64) % (2 * length)]
    np.add.at(matrix, (np.broadcast_to(places[:, None], source.shape), source), weights)
    return torch.from_numpy(matrix)
