"""Frames and training updates per second of `wdsr` on a GPU, beside PyTorch on the same card.

For a card that is yours for a few minutes.

    python3 reference/gpu_bench.py [--wdsr PROGRAM] [--device gpu] [--seconds 200]

Prints tables and writes temporary files only. It takes less than four minutes: what does not fit
into --seconds is skipped, and the table says so. PyTorch is measured if torch with CUDA is
installed. Guide: docs/guides/gpu.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Name, kind of model, scale, size of the input.
CASES = [
    ("base x2, 1080p to 4K", "base", 2, (1920, 1080)),
    ("small x2, 720p to 1440p", "small", 2, (1280, 720)),
]
# Features, blocks, expansion, low rank: for PyTorch, which needs no trained weights to be measured.
NETWORKS = {"base": (32, 16, 6, 25), "small": (32, 8, 6, 25)}
# f16 without the units for matrices.
VECTORS = "f16 by vectors"
TORCH_SECONDS = 3.0
# The training that is measured: the network of `base` x2, on the sample of the repository.
IMAGE = Path(__file__).resolve().parent.parent / "samples" / "chelsea.png"
PATCHES, PATCH_PX = 32, 64
RECIPE = """[network]
block = "wdsr-b"
features = 32
blocks = 16
[training]
updates = {updates}
precision = "{precision}"
batch = {batch}
patch_px = {patch_px}
[validation]
every_updates = {every}
images = 1
"""
# Patches that the processor makes, and the GPU does not cut.
DAMAGE = """[degradation]
[[degradation.stages]]
kind = "downsample"
methods = ["bicubic"]
[[degradation.stages]]
kind = "noise"
probability = 0.35
sigma_levels = [0.0, 25.0]
[[degradation.stages]]
kind = "jpeg"
probability = 0.6
quality = [10, 99]
subsampling = ["4:2:0", "4:4:4"]
"""
# Precision and damage of trainings. bf16 stands for f16 on GPUs that multiply matrices, and for f32
# on others.
TRAININGS = [("f32", ""), ("bf16", ""), ("bf16", DAMAGE)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wdsr", default="wdsr", help="the program, built with --features gpu")
    parser.add_argument("--device", default="gpu", help="gpu or gpu:N of `wdsr devices`")
    parser.add_argument(
        "--updates", type=int, default=300, help="updates of training, of which twice as many run"
    )
    parser.add_argument("--seconds", type=float, default=200.0, help="time for everything")
    return parser.parse_args()


def wdsr(
    options: argparse.Namespace,
    kind: str,
    scale: int,
    size: tuple[int, int],
    precision: str,
    left: float,
) -> dict:
    """The object of `wdsr bench --json`."""
    command = [
        options.wdsr,
        "bench",
        "-m",
        kind,
        "-s",
        str(scale),
        "--size",
        f"{size[0]}x{size[1]}",
    ]
    environment = dict(os.environ)
    if precision == VECTORS:
        precision = "f16"
        environment["WDSR_MATRICES"] = "off"
    command += ["--device", options.device, "--precision", precision, "--json"]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=max(left, 1)
    )
    if run.returncode != 0:
        raise RuntimeError(
            run.stderr.strip().splitlines()[-1] if run.stderr.strip() else "no output"
        )
    return json.loads(run.stdout)


def updates_per_second(
    options: argparse.Namespace, precision: str, damage: str, left: float
) -> float:
    """Updates of `wdsr train`; the first half, in which kernels are compiled, does not count."""
    updates = options.updates
    recipe = RECIPE.format(
        updates=2 * updates,
        precision=precision,
        every=updates,
        batch=PATCHES,
        patch_px=PATCH_PX,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.toml").write_text(recipe + damage)
        (folder / "data").mkdir()
        # One to train on, one to validate.
        for copy in ("a.png", "b.png"):
            shutil.copy(IMAGE, folder / "data" / copy)
        command = [options.wdsr, "train", folder / "recipe.toml", "--data", folder / "data"]
        command += ["--out", folder / "out", "--device", options.device]
        run = subprocess.run(command, capture_output=True, text=True, timeout=max(left, 1))
        if run.returncode != 0:
            raise RuntimeError(run.stderr.strip().splitlines()[-1] if run.stderr else "no output")
        last = (folder / "out" / "metrics.jsonl").read_text().splitlines()[-1]
        return json.loads(last)["patches_per_second"] / PATCHES


def torch_network(kind: str, scale: int) -> "torch.nn.Module":
    """WDSR-B with random weights."""
    import torch
    from torch import nn

    features, blocks, expansion, low_rank = NETWORKS[kind]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            wide = features * expansion
            self.body = nn.Sequential(
                nn.Conv2d(features, wide, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(wide, low_rank, 1),
                nn.Conv2d(low_rank, features, 3, padding=1),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.body(x)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            colours = 3 * scale * scale
            self.head = nn.Conv2d(3, features, 3, padding=1)
            self.body = nn.Sequential(*[Block() for _ in range(blocks)])
            self.tail = nn.Conv2d(features, colours, 3, padding=1)
            self.skip = nn.Conv2d(3, colours, 5, padding=2)
            self.shuffle = nn.PixelShuffle(scale)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.shuffle(self.tail(self.body(self.head(x))) + self.skip(x))

    return Network().eval().to("cuda", memory_format=torch.channels_last)


def torch_frames(kind: str, scale: int, size: tuple[int, int], precision: str) -> float:
    """Frames per second of torch.compile with CUDA graphs, without transfers."""
    import torch

    number = {"f32": torch.float32, "f16": torch.float16}[precision]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    network = torch.compile(
        torch_network(kind, scale).to(number), mode="max-autotune-no-cudagraphs"
    )
    image = torch.rand(1, 3, size[1], size[0], device="cuda", dtype=number)
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(3):
            network(image)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            network(image)
        frames, started = 0, time.perf_counter()
        while time.perf_counter() - started < TORCH_SECONDS:
            for _ in range(5):
                graph.replay()
            torch.cuda.synchronize()
            frames += 5
        return frames / (time.perf_counter() - started)


def torch_name() -> str | None:
    try:
        import torch

        return f"PyTorch {torch.__version__}" if torch.cuda.is_available() else None
    except ImportError:
        return None


def main() -> None:
    options = arguments()
    end = time.monotonic() + options.seconds
    sys.stdout.reconfigure(line_buffering=True)
    devices = subprocess.run([options.wdsr, "devices"], capture_output=True, text=True)
    print(devices.stdout or devices.stderr)
    print("| network | precision | program | frames/s | GFLOP/s | share of peak |")
    print("|---|---|---|---|---|---|")
    for name, kind, scale, size in CASES:
        for precision in ("f32", "f16", VECTORS):
            row = f"| {name} | {precision} | wdsr"
            try:
                found = wdsr(options, kind, scale, size, precision, end - time.monotonic())
            except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
                print(f"{row} | - | {error} | |")
                continue
            frames = 1000 / found["median_ms"]
            print(f"{row} | {frames:.1f} | {found['gflops']:.0f} | {found['ratio_to_peak']:.2f} |")
    print()
    for precision, damage in TRAININGS:
        patches = f"{PATCHES} {'damaged ' if damage else ''}patches of {PATCH_PX} px"
        print(f"Training of `base` x2, {patches}, precision = {precision}:", end=" ")
        try:
            left = min(60, end - time.monotonic())
            per_second = updates_per_second(options, precision, damage, left)
            print(f"{per_second:.1f} updates/s, {1000 / per_second:.2f} ms each\n")
        except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
            print(f"- ({error})\n")
    torch = torch_name()
    if torch is None:
        print("\nPyTorch with CUDA is not installed; its rows are missing.")
        return
    for name, kind, scale, size in CASES:
        for precision in ("f16", "f32"):
            row = f"| {name} | {precision} | {torch}, without transfers"
            # Compilation takes about half a minute.
            if time.monotonic() > end - 40:
                print(f"{row} | skipped: no time left | | |")
                continue
            try:
                print(f"{row} | {torch_frames(kind, scale, size, precision):.1f} | | |")
            except Exception as error:
                print(f"{row} | - | {type(error).__name__} | |")


main()
