"""Degrades patches on the device of `twin.py`, as `crates/degrade` does in `wdsr train`.

The stages and their values are those of the recipe's `[degradation]`; the random numbers are
PyTorch's. JPEG is computed in floats, with libjpeg's tables, its average of chroma on the way
in and its triangle on the way out; `twin_degrade_check.py` compares it with Pillow. All images are
[count, 3, height, width] in levels of 0..255; a value per patch is a tensor [count].
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Low-resolution pixels around a patch: so far away a neighbour may lie that the patch depends on.
MARGIN_PX = 16

# Annex K of ITU-T T.81.
LUMA_TABLE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99"""
CHROMA_TABLE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""

# Malvar, He and Cutler 2004, times 8: green at red and blue; a colour between two of its own in a
# row (turned: in a column); red at blue and blue at red.
GREEN = [0, 0, -1, 0, 0, 0, 0, 2, 0, 0, -1, 2, 4, 2, -1, 0, 0, 2, 0, 0, 0, 0, -1, 0, 0]
IN_ROW = [0, 0, 0.5, 0, 0, 0, -1, 0, -1, 0, -1, 4, 5, 4, -1, 0, -1, 0, -1, 0, 0, 0, 0.5, 0, 0]
DIAGONAL = [0, 0, -1.5, 0, 0, 0, 2, 0, 2, 0, -1.5, 0, 6, 0, -1.5, 0, 2, 0, 2, 0, 0, 0, -1.5, 0, 0]

# What a strength of 1 stands for: libjpeg's quality 10, and noise (`wdsr_model::strength`).
STRONGEST_TABLE_SCALE, STRONGEST_SIGMA = 5.0, 25.0


def quality_of(strength: Tensor) -> Tensor:
    """libjpeg's quality, 1..=100, of a strength."""
    scale = ((1 + 10 * STRONGEST_TABLE_SCALE) ** strength - 1) / 10
    return torch.where(scale <= 1, 100 - 50 * scale, 50 / scale).round().clamp(1, 100)


def sigma_of(strength: Tensor) -> Tensor:
    """The standard deviation of noise, in levels, of a strength."""
    return 2 * ((1 + STRONGEST_SIGMA / 2) ** strength - 1)


class Degradation:
    """The recipe's `[degradation]` at a scale, by the strength of `[strength]` if there is one."""

    def __init__(
        self,
        recipe: dict[str, Any],
        scale: int,
        device: str,
        generator: torch.Generator,
    ) -> None:
        self.stages, self.untouched = recipe["stages"], recipe["untouched"]
        self.scale, self.generator, self.device = scale, generator, device
        known = {"downsample", "noise", "jpeg"}
        for stage in self.stages:
            if stage.get("per", "patch") != "patch":
                raise ValueError(f"twin.py draws {stage['kind']} for each patch only")
            if stage["kind"] not in known:
                raise ValueError(f"a degradation by {stage['kind']} is one twin.py does not know")
            if stage["kind"] == "noise" and any(stage.get("poisson", [0])):
                raise ValueError("poisson noise is a degradation that twin.py does not know")

    def apply(self, high: Tensor, strength: Tensor | None) -> Tensor:
        """High-resolution regions at low resolution, degraded, in whole levels."""
        count = len(high)
        damages = [i for i, s in enumerate(self.stages) if s["kind"] in ("noise", "jpeg")]
        runs, level = self.draw_levels(count, damages, strength)
        x = high
        for index, stage in enumerate(self.stages):
            match stage["kind"]:
                case "downsample":
                    x = self.downsample(x, stage["methods"])
                case "noise":
                    x = self.noise(x, stage, runs[index], level.get(index))
                case "jpeg":
                    x = self.jpeg_stage(x, stage, runs[index], level.get(index))
        x = to_levels(x)
        if self.untouched > 0:
            plain = high if self.scale == 1 else to_levels(reduce(high, self.scale, "bicubic"))
            x = torch.where(by_patch(self.uniform(count) < self.untouched), plain, x)
        return x

    def draw_levels(
        self, count: int, damages: list[int], strength: Tensor | None
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Which stages run, and the strength of each.

        With a strength one stage, drawn by the probabilities, runs at it; the others run by their
        probabilities at any strength up to it.
        """
        probability = [self.stages[i].get("probability", 1.0) for i in damages]
        runs = {i: self.uniform(count) < p for i, p in zip(damages, probability, strict=True)}
        if strength is None or not damages:
            return runs, {}
        weights = torch.tensor(probability, device=self.device)
        full = torch.multinomial(weights, count, True, generator=self.generator)
        level = {}
        for at, index in enumerate(damages):
            is_full = full == at
            runs[index] |= is_full
            level[index] = strength * torch.where(is_full, 1.0, self.uniform(count))
        return runs, level

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, device=self.device, generator=self.generator)

    def within(self, ends: list[float], count: int) -> Tensor:
        return ends[0] + (ends[1] - ends[0]) * self.uniform(count)

    def downsample(self, x: Tensor, methods: list[str]) -> Tensor:
        if self.scale % 2:
            raise ValueError("twin.py degrades at even scales and at scale 1")
        chosen = torch.randint(
            len(methods), (len(x),), device=self.device, generator=self.generator
        )
        made = None
        for method in dict.fromkeys(methods):
            reduced = reduce(x, self.scale, method)
            which = [i for i, m in enumerate(methods) if m == method]
            mask = torch.isin(chosen, torch.tensor(which, device=self.device))
            made = reduced if made is None else torch.where(by_patch(mask), reduced, made)
        assert made is not None
        return made

    def noise(self, x: Tensor, stage: dict[str, Any], runs: Tensor, level: Tensor | None) -> Tensor:
        count = len(x)
        low, high = stage["sigma_levels"]
        if level is None:
            sigma = self.within([low, high], count)
        else:
            sigma = sigma_of(level).clamp(low, high)
        sigma = by_patch(sigma * runs)
        normal = torch.randn(x.shape, device=self.device, generator=self.generator)
        place = by_patch(self.uniform(count))
        grey, bayer = stage.get("grey", 0.0), stage.get("bayer", 0.0)
        phase = torch.randint(2, (2, count), device=self.device, generator=self.generator)
        is_bayer = (place >= grey) & (place < grey + bayer) & by_patch(runs)
        normal = torch.where(place < grey, normal[:, :1], normal)
        noisy = x + sigma * normal
        if bayer > 0:
            noisy = torch.where(is_bayer, demosaiced(noisy, phase), noisy)
        return noisy

    def jpeg_stage(
        self, x: Tensor, stage: dict[str, Any], runs: Tensor, level: Tensor | None
    ) -> Tensor:
        count = len(x)
        low, high = stage["quality"]
        sub = stage["subsampling"]
        if set(sub) - {"4:2:0", "4:4:4"}:
            raise ValueError("twin.py knows the subsamplings 4:2:0 and 4:4:4")
        twice = (self.uniform(count) < stage.get("twice", 0.0)) & runs
        for again in (False, True):
            if again and stage.get("twice", 0.0) == 0:
                break
            if level is None:
                quality = self.within([low, high + 1], count).floor().clamp(max=high)
            else:
                share = self.uniform(count) if again else 1.0
                quality = quality_of(level * share).clamp(low, high)
            choice = torch.randint(len(sub), (count,), device=self.device, generator=self.generator)
            halved = torch.tensor([s == "4:2:0" for s in sub], device=self.device)[choice]
            offset = torch.randint(16, (2, count), device=self.device, generator=self.generator)
            mask = by_patch(twice if again else runs)
            x = torch.where(mask, jpeg(x, quality, halved, offset), x)
        return x


def by_patch(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def to_levels(x: Tensor) -> Tensor:
    return (x + 0.5).floor().clamp(0, 255)


def reduce(x: Tensor, scale: int, method: str) -> Tensor:
    """Reduced by an even scale; the image goes on beyond its edges as it ends there."""
    distance = torch.arange(-2 * scale, 2 * scale, device=x.device) + 0.5
    t = distance.abs() / scale
    match method:
        case "bicubic":
            near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
            weights = torch.where(t <= 1, near, far)
        case "bilinear":
            weights = (1 - t).clamp(min=0)
        case "area":
            weights = (t < 0.5).float()
        case _:
            raise ValueError(f"a reduction by {method} is one twin.py does not know")
    weights /= weights.sum()
    border = 3 * scale // 2
    count, _, height, width = x.shape
    x = x.reshape(3 * count, 1, height, width)
    x = functional.pad(x, (border,) * 4, mode="replicate")
    x = functional.conv2d(x, weights.view(1, 1, -1, 1), stride=(scale, 1))
    x = functional.conv2d(x, weights.view(1, 1, 1, -1), stride=(1, scale))
    return x.view(count, 3, height // scale, width // scale)


def demosaiced(x: Tensor, phase: Tensor) -> Tensor:
    """The image of a sensor with one colour a pixel (R G / G B from `phase` on, [2, count])."""
    height, width = x.shape[2:]
    row = torch.arange(height, device=x.device)[None, :, None] + phase[0, :, None, None]
    column = torch.arange(width, device=x.device)[None, None, :] + phase[1, :, None, None]
    row, column = row % 2, column % 2
    red = ((row == 0) & (column == 0))[:, None]
    blue = ((row == 1) & (column == 1))[:, None]
    red_row = ((row == 0) & (column == 1))[:, None]
    sensor = torch.where(red, x[:, :1], torch.where(blue, x[:, 2:], x[:, 1:2]))
    in_row = torch.tensor(IN_ROW).view(5, 5)
    filters = [torch.tensor(GREEN).view(5, 5), in_row, in_row.T, torch.tensor(DIAGONAL).view(5, 5)]
    kernel = torch.stack([f.float() for f in filters]).to(x.device)[:, None] / 8
    padded = functional.pad(sensor, (2,) * 4, mode="reflect")
    green, across, down, diagonal = functional.conv2d(padded, kernel).split(1, dim=1)
    r = torch.where(red, sensor, torch.where(blue, diagonal, torch.where(red_row, across, down)))
    g = torch.where(red | blue, green, sensor)
    b = torch.where(blue, sensor, torch.where(red, diagonal, torch.where(red_row, down, across)))
    return torch.cat([r, g, b], dim=1)


def tables(quality: Tensor) -> tuple[Tensor, Tensor]:
    """libjpeg's two tables [count, 8, 8] of a quality, 1..=100, per patch."""
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)

    def scaled(text: str) -> Tensor:
        table = torch.tensor([float(v) for v in text.split()], device=quality.device)
        steps = ((table.view(1, 8, 8) * percent[:, None, None] + 50) / 100).floor()
        return steps.clamp(1, 255)

    return scaled(LUMA_TABLE), scaled(CHROMA_TABLE)


def dct_matrix(device: torch.device) -> Tensor:
    """[frequency, sample] of the orthonormal transform of 8 samples."""
    at = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos((2 * at[None, :] + 1) * at[:, None] * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.float().to(device)


def quantised(plane: Tensor, table: Tensor) -> Tensor:
    """[count, height, width] through the transform of 8x8 blocks and a table [count, 8, 8]."""
    count, height, width = plane.shape
    dct = dct_matrix(plane.device)
    blocks = plane.view(count, height // 8, 8, width // 8, 8) - 128
    spectrum = torch.einsum("ui,nyixj,vj->nyxuv", dct, blocks, dct)
    steps = table[:, None, None]
    spectrum = (spectrum / steps).round() * steps
    blocks = torch.einsum("ui,nyxuv,vj->nyixj", dct, spectrum, dct)
    return to_levels(blocks.reshape(count, height, width) + 128)


def jpeg(x: Tensor, quality: Tensor, halved: Tensor, offset: Tensor) -> Tensor:
    """What a decoder returns of the image, its grid of blocks beginning at `offset` [2, count].

    `halved`: chroma has half the columns and rows.
    """
    height, width = x.shape[2:]
    # The image continues at its edges as it ends there: a grid that begins before them.
    rows_px, columns_px = (16 * math.ceil((side + 15) / 16) for side in (height, width))
    x = shifted(to_levels(x), -offset, rows_px, columns_px)
    r, g, b = x.unbind(1)
    y = (0.299 * r + 0.587 * g + 0.114 * b).round()
    cb = (128 - 0.168735892 * r - 0.331264108 * g + 0.5 * b).round()
    cr = (128 + 0.5 * r - 0.418687589 * g - 0.081312411 * b).round()
    luma, chroma = tables(quality)
    y = quantised(y, luma)
    colours = torch.stack([cb, cr], dim=1)
    # libjpeg's rounding of a mean of four: halves down in even columns, up in odd ones.
    bias = torch.tensor([0.25, 0.5], device=x.device).repeat(columns_px // 4)
    small = (functional.avg_pool2d(colours, 2) + bias).floor()
    chroma = chroma.repeat_interleave(2, dim=0)
    full = quantised(colours.flatten(0, 1), chroma)
    small = widened(quantised(small.flatten(0, 1), chroma))
    colours = torch.where(halved.repeat_interleave(2)[:, None, None], small, full)
    cb, cr = (colours.view(len(x), 2, rows_px, columns_px) - 128).unbind(1)
    r, g, b = y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb
    return shifted(to_levels(torch.stack([r, g, b], dim=1)), offset, height, width)


def widened(plane: Tensor) -> Tensor:
    """Twice as wide and high, by libjpeg's triangle: 3/4 of the nearer, 1/4 of the other sample."""
    plane = functional.pad(plane[:, None], (1,) * 4, mode="replicate")[:, 0]
    for axis in (1, 2):
        length = plane.shape[axis]
        centre = plane.narrow(axis, 1, length - 2)
        before, after = plane.narrow(axis, 0, length - 2), plane.narrow(axis, 2, length - 2)
        pair = torch.stack([0.75 * centre + 0.25 * before, 0.75 * centre + 0.25 * after], axis + 1)
        plane = pair.flatten(axis, axis + 1)
    # libjpeg's rounding: halves up in even columns, down in odd ones.
    bias = torch.tensor([8 / 16, 7 / 16], device=plane.device).repeat(plane.shape[2] // 2)
    return (plane + bias).floor()


def shifted(x: Tensor, offset: Tensor, height: int, width: int) -> Tensor:
    """`height` x `width` pixels from `offset` [2, count] on; beyond an edge its pixel repeats."""
    rows = torch.arange(height, device=x.device) + offset[0, :, None]
    columns = torch.arange(width, device=x.device) + offset[1, :, None]
    rows = rows.clamp(0, x.shape[2] - 1)[:, None, :, None]
    columns = columns.clamp(0, x.shape[3] - 1)[:, None, None, :]
    x = x.gather(2, rows.expand(-1, 3, -1, x.shape[3]))
    return x.gather(3, columns.expand(-1, 3, height, -1))
