#!/usr/bin/env python3
"""Computes golden vectors with new numbers by the equations of `tests/golden/README.md`.

    reference/run --peers golden_vectors.py SEED OUT

OUT gets the networks and the checkpoints of `tests/golden` (or of the folder that `WDSR_GOLDEN`
names). The numbers of networks, imresize and metrics follow from SEED and are computed in float64.
Run the tests on them with `WDSR_GOLDEN=OUT cargo test --workspace`. Nothing here uses wdsr.
"""

import json
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn import functional

from golden_models import GOLDEN

MEAN = (0.4488, 0.4371, 0.4040)
ADAM_STEPS = 10
SCALES = ["1/2", "1/3", "1/4", "2", "3", "4", "1.5", "0.7"]
IMAGE_SIZES = [(48, 60), (37, 53), (24, 24)]
METRICS_SIZE = (64, 56)
SHAVES = {"psnr_rgb": (0, 2, 8), "psnr_y": (2, 4), "ssim_y": (2, 4)}

Case = dict[str, Any]
Array = np.ndarray


class Network:
    """A network of `cases.json`; convolutions and norms are made when first used."""

    def __init__(self, case: Case, random: np.random.Generator) -> None:
        self.case = case
        self.random = random
        self.parameters: dict[str, Tensor] = {}
        self.statistics: dict[str, Tensor] = {}

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(self.random.uniform(low, high, shape))

    def add(self, key: str, value: Tensor) -> None:
        # Stored as float32, so computed from what float32 holds.
        self.parameters[key] = value.float().double().requires_grad_()

    def conv(self, key: str, x: Tensor, outputs: int, kernel: int) -> Tensor:
        normed = self.case["norm"] == "weight"
        if f"{key}.bias" not in self.parameters:
            inputs = x.shape[1]
            bound = (inputs * kernel * kernel) ** -0.5
            weight = self.uniform(-bound, bound, outputs, inputs, kernel, kernel)
            self.add(f"{key}.bias", self.uniform(-bound, bound, outputs))
            if normed:
                self.add(f"{key}.weight_v", weight)
                length = weight.square().sum((1, 2, 3), keepdim=True).sqrt()
                self.add(f"{key}.weight_g", length * self.uniform(0.8, 1.2, outputs, 1, 1, 1))
            else:
                self.add(f"{key}.weight", weight)
        if normed:
            direction = self.parameters[f"{key}.weight_v"]
            length = direction.square().sum((1, 2, 3), keepdim=True).sqrt()
            weight = self.parameters[f"{key}.weight_g"] * direction / length
        else:
            weight = self.parameters[f"{key}.weight"]
        return functional.conv2d(x, weight, self.parameters[f"{key}.bias"], padding=kernel // 2)

    def batch_norm(self, key: str, x: Tensor, training: bool) -> Tensor:
        if f"{key}.bias" not in self.parameters:
            features = x.shape[1]
            self.add(f"{key}.weight", self.uniform(0.5, 1.5, features))
            self.add(f"{key}.bias", self.uniform(-0.1, 0.1, features))
            mean, variance = self.uniform(-0.2, 0.2, features), self.uniform(0.5, 1.5, features)
            self.statistics[f"{key}.running_mean"] = mean.float().double()
            self.statistics[f"{key}.running_var"] = variance.float().double()
        return functional.batch_norm(
            x,
            self.statistics[f"{key}.running_mean"],
            self.statistics[f"{key}.running_var"],
            self.parameters[f"{key}.weight"],
            self.parameters[f"{key}.bias"],
            training,
        )

    def block(self, key: str, x: Tensor, training: bool) -> Tensor:
        n, kind = self.case["features"], self.case["block"]
        wide = n * self.case.get("expansion", 1)
        # Outputs and kernel of each convolution; None is ReLU.
        layers = {
            "wdsr-a": [(wide, 3), None, (n, 3)],
            "wdsr-b": [(wide, 1), None, (self.case.get("low_rank", 0), 1), (n, 3)],
            "edsr": [(n, 3), None, (n, 3)],
        }[kind]
        position, y = 0, x
        for layer in layers:
            if layer is None:
                y = functional.relu(y)
            else:
                y = self.conv(f"{key}.body.{position}", y, *layer)
                if self.case["norm"] == "batch":
                    position += 1
                    y = self.batch_norm(f"{key}.body.{position}", y, training)
            position += 1
        return y * self.case["residual_scale"] + x

    def forward(self, image: Tensor, training: bool) -> Tensor:
        n, scale, blocks = (self.case[key] for key in ("features", "scale", "blocks"))
        mean = torch.tensor(MEAN, dtype=torch.float64)[:, None, None]
        u = image - mean
        head = self.conv("head.0", u, n, 3)
        h = head
        for at in range(blocks):
            h = self.block(f"body.{at}", h, training)
        if self.case["block"] != "edsr":
            tail = self.conv("tail.0", h, 3 * scale * scale, 3)
            skip = self.conv("skip.0", u, 3 * scale * scale, 5)
            shuffle = functional.pixel_shuffle
            return shuffle(tail, scale) + shuffle(skip, scale) + mean
        h = self.conv(f"body.{blocks}", h, n, 3) + head
        for at, step in enumerate([2, 2] if scale == 4 else [scale]):
            h = functional.pixel_shuffle(self.conv(f"tail.0.{2 * at}", h, n * step**2, 3), step)
        return self.conv("tail.1", h, 3, 3) + mean


def float32(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def write_network(case: Case, random: np.random.Generator, path: Path) -> None:
    images, height, width = (1, 7, 5) if case["scale"] == 8 else (2, 11, 13)
    network = Network(case, random)
    scale = case["scale"]
    low = network.uniform(0, 1, images, 3, height, width).float().double()
    high = network.uniform(0, 1, images, 3, scale * height, scale * width).float().double()
    # The first call makes the parameters, and leaves the running statistics alone.
    vectors = {"input": float32(low), "target": float32(high)}
    vectors["output_eval"] = float32(network.forward(low, training=False))
    parameters = network.parameters
    for key, value in (parameters | network.statistics).items():
        vectors[f"param/{key}"] = float32(value.clone())
    assert sum(p.numel() for p in parameters.values()) == case["params"], case["name"]

    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for step in range(ADAM_STEPS):
        optimizer.zero_grad()
        output = network.forward(low, training=True)
        loss = (output - high).abs().mean()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            vectors |= {f"grad/{key}": float32(p.grad) for key, p in parameters.items()}
            if case["norm"] == "batch":
                vectors["output_train"] = float32(output)
        optimizer.step()
    for key, value in (parameters | network.statistics).items():
        vectors[f"adam10_param/{key}"] = float32(value)
    vectors["loss"] = np.array(losses[:1], np.float32)
    vectors["adam10_loss"] = np.array(losses, np.float32)
    config = {key: value for key, value in case.items() if key not in ("name", "params")}
    save_file(vectors, path, {"config": json.dumps(config)})


def pattern(random: np.random.Generator, height: int, width: int) -> Array:
    """Coloured squares, ramps, an oblique edge and noise, 8-bit [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    square = ((y // 5 + x // 7) % 2)[..., None]
    ramps = random.uniform(-4, 4, (2, 3))
    values = random.uniform(0, 255, 3) + y[..., None] * ramps[0] + x[..., None] * ramps[1]
    values = np.where(square, values % 256, 255 - values % 256)
    edge = y * width > height * (1.2 * width - x)
    values[edge] = values[edge] * random.uniform(0, 1, 3)
    values += random.normal(0, 12, values.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def cubic(x: Array) -> Array:
    """Keys' kernel with a = -1/2.

    At scales such as 1.5 the last bit of a weight decides how a tie is rounded, so products are
    taken left to right and the cube by `**`, as NumPy ports of MATLAB's imresize do.
    """
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x * x + 1
    far = -0.5 * x**3 + 2.5 * x * x - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


def resize_axis(values: Array, axis: int, scale: Fraction) -> Array:
    """One pass of MATLAB's imresize: bicubic, antialiased, edges mirrored."""
    size, factor = values.shape[axis], float(scale)
    made = -(-size * scale.numerator // scale.denominator)
    shrink = min(1.0, factor)
    width = 4 / shrink
    # Places of the output's samples among the input's, both counted from 1.
    centres = np.arange(1, made + 1) / factor + 0.5 * (1 - 1 / factor)
    taps = np.floor(centres - width / 2).astype(int)[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = cubic(shrink * (centres[:, None] - taps)) * shrink
    weights /= weights.sum(1, keepdims=True)
    mirrored = (taps - 1) % (2 * size)
    mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    values = np.moveaxis(values, axis, 0)
    result = np.zeros((made, *values.shape[1:]))
    for tap in range(taps.shape[1]):
        result += weights[:, tap, None, None] * values[mirrored[:, tap]]
    return np.moveaxis(result, 0, axis)


def round_to_8_bits(values: Array) -> Array:
    return np.floor(np.clip(values, 0, 255) + 0.5)


def imresize_vectors(random: np.random.Generator) -> dict[str, Array]:
    vectors: dict[str, Array] = {}
    for at, (height, width) in enumerate(IMAGE_SIZES):
        name = f"image{at}"
        vectors[name] = pattern(random, height, width)
        image = vectors[name].astype(np.float64)
        for text in SCALES:
            scale = Fraction(text)
            exact = resize_axis(resize_axis(image / 255, 0, scale), 1, scale)
            vectors[f"{name}/float/{text}"] = np.ascontiguousarray(exact, np.float32)
            rows = round_to_8_bits(resize_axis(image, 0, scale))
            passes = round_to_8_bits(resize_axis(rows, 1, scale))
            vectors[f"{name}/uint8_passes/{text}"] = np.ascontiguousarray(passes, np.uint8)
    return vectors


def luma(image: Array) -> Array:
    return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def psnr(a: Array, b: Array) -> float:
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def ssim(a: Array, b: Array) -> float:
    offset = np.arange(-5, 6)
    gaussian = np.exp(-(offset**2) / (2 * 1.5**2))
    gaussian /= gaussian.sum()

    def blur(values: Array) -> Array:
        for axis in (0, 1):
            windows = np.lib.stride_tricks.sliding_window_view(values, 11, axis)
            values = windows @ gaussian
        return values

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    over = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    under = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(np.mean(over / under))


def write_metrics(random: np.random.Generator, out: Path) -> None:
    a = pattern(random, *METRICS_SIZE)
    b = np.clip(np.rint(a + random.normal(0, 6, a.shape)), 0, 255).astype(np.uint8)
    save_file({"a": a, "b": b}, out / "metrics.safetensors")
    figures = {}
    for kind, shaves in SHAVES.items():
        for shave in shaves:
            inner = (slice(shave, a.shape[0] - shave), slice(shave, a.shape[1] - shave))
            pair = [image[inner].astype(np.float64) for image in (a, b)]
            if kind.endswith("_y"):
                pair = [luma(image) for image in pair]
            score = ssim if kind == "ssim_y" else psnr
            figures[f"{kind}_shave{shave}"] = score(*pair)
    (out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")


def main() -> None:
    seed, out = int(sys.argv[1]), Path(sys.argv[2])
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    for source in [GOLDEN / "cases.json", *(GOLDEN / "checkpoints").iterdir()]:
        shutil.copyfile(source, out / source.relative_to(GOLDEN))
    for at, case in enumerate(json.loads((GOLDEN / "cases.json").read_text())):
        path = out / f"{case['name']}.safetensors"
        write_network(case, np.random.default_rng([seed, at]), path)
    random = np.random.default_rng(seed)
    save_file(imresize_vectors(random), out / "imresize.safetensors")
    write_metrics(random, out)


if __name__ == "__main__":
    main()
