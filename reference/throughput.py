#!/usr/bin/env python3
"""Images per second of one machine by runs and threads: a table for docs/guides/archives.md.

    reference/run throughput.py [--rounds 3] [--program target/release/wdsr]

Images are cut from samples/chelsea.png, repeated: small ones of 128 px and large ones of 1,024 px,
as PNG. Each setting upscales all of them by `base` x2; its runs share the work by --shard. Settings
take turns, and the median of the rounds counts. The share of files is what decoding and encoding
the results alone take, with one thread.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from program import ROOT

# Side in pixels and number of images.
KINDS = {"small": (128, 96), "large": (1024, 4)}


def write_images(folder: Path, side_px: int, count: int) -> None:
    folder.mkdir()
    with Image.open(ROOT / "samples/chelsea.png") as image:
        wide = np.tile(np.asarray(image.convert("RGB")), (5, 4, 1))
    for number in range(count):
        y = 97 * number % (wide.shape[0] - side_px)
        x = 61 * number % (wide.shape[1] - side_px)
        cut = np.ascontiguousarray(wide[y : y + side_px, x : x + side_px])
        Image.fromarray(cut).save(folder / f"{number}.png")


def run(program: Path, source: Path, target: Path, workers: int, *options: str) -> float:
    """The seconds that some runs take together."""
    command = [program, "upscale", "-q", "-m", "base", source, "-o", f"{target}/", *options]
    shards = [f"{number}/{workers}" for number in range(workers)]
    started = time.perf_counter()
    runs = [subprocess.Popen([*command, "--shard", shard]) for shard in shards]
    for process in runs:
        if process.wait() != 0:
            raise SystemExit(f"{process.args}: exit code {process.returncode}")
    return time.perf_counter() - started


def main() -> None:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/wdsr")
    arguments = parser.parse_args()
    processors = os.cpu_count() or 1
    settings = {(1, 1), (1, processors), (2, processors), (processors, 1), (2 * processors, 1)}
    print("| images | runs x threads | images/s | megapixels/s of results | share of files |")
    print("|---|---|---|---|---|")
    for kind, (side_px, count) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            source, results = Path(folder, "images"), Path(folder, "results")
            write_images(source, side_px, count)
            run(arguments.program, source, results, 1)
            files_s = []
            times_s: dict[tuple[int, int], list[float]] = {key: [] for key in sorted(settings)}
            for number in range(arguments.rounds):
                copies = Path(folder, f"copies-{number}")
                options = ["--factor", "1", "-j", "1"]
                files_s.append(run(arguments.program, results, copies, 1, *options))
                for (workers, threads), seconds in times_s.items():
                    target = Path(folder, f"{number}-{workers}-{threads}")
                    options = ["-j", str(threads)]
                    seconds.append(run(arguments.program, source, target, workers, *options))
        for (workers, threads), seconds in times_s.items():
            images = count / median(seconds)
            megapixels = images * (2 * side_px) ** 2 / 1e6
            share = f"{median(files_s) / median(seconds):.0%}" if workers == threads == 1 else ""
            row = [f"{kind}, {side_px} px", f"{workers} x {threads}", f"{images:.1f}"]
            print("|", " | ".join([*row, f"{megapixels:.2f}", share]), "|", flush=True)


if __name__ == "__main__":
    main()
