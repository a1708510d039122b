"""The report as Markdown: the machine, a table for each piece of work, the ratios that matter."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from measurement import Result, Work

HERE = Path(__file__).resolve().parent

# Packages that are timed, and instruction sets worth naming.
PEERS = ("ncnn", "onnxruntime", "openvino", "pnnx", "torch")
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def environment(notes: list[str]) -> Iterator[str]:
    """What a reader needs to judge the figures and to repeat them."""
    pairs = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if line)
    cpu = {key.strip(): value.strip() for key, value in pairs}
    model = f"family {cpu['cpu family']}, model {cpu['model']}"
    sets = [name for name in INSTRUCTION_SETS if name in cpu["flags"].split()]
    commit = output_of("git", "-C", str(HERE), "describe", "--always", "--dirty")
    gcc = output_of("g++", "--version")
    yield "# Benchmarks\n"
    yield "Written by `reference/peers.py`; `reference/README.md` says how it measures.\n"
    yield f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; wdsr at commit {commit}"
    yield f"- Processor: {cpu['model name']} ({model}), {os.cpu_count()} cores, {', '.join(sets)}"
    load = os.getloadavg()[0]
    yield f"- System: {platform.system()} {platform.release()}, load {load:.2f} at the start"
    yield f"- Peers: {', '.join(versions())}, Python {platform.python_version()}"
    yield f"- Compilers: {output_of('rustc', '--version')}; for torch.compile {gcc}"
    yield f"- Command: `{shlex.join(['reference/peers.py', *sys.argv[1:]])}`"
    yield from (f"- {note}" for note in notes)
    yield ""


def versions() -> Iterator[str]:
    for name in ("requirements.txt", "requirements-peers.txt"):
        for line in (HERE / name).read_text().splitlines():
            if line.startswith(PEERS):
                yield line.replace("==", " ")
    lock = tomllib.loads((HERE / "rust-engines/Cargo.lock").read_text())
    for package in lock["package"]:
        if package["name"] in ("rten", "tract-onnx"):
            yield f"{package['name']} {package['version']}"


COLUMNS = (
    "engine",
    "numbers",
    "median ms",
    "spread",
    "GFLOP/s",
    "time / wdsr f32",
    "peak MB",
    "difference",
    "rounds",
)


def table(work: Work, results: list[Result]) -> Iterator[str]:
    yield f"## {work.title}\n"
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|" + "---|" * len(COLUMNS)
    own = next((r.reports[0] for r in results if r.engine.name == "wdsr" and r.reports), None)
    gflop = own["gflops"] * own["median_ms"] / 1e3 if own else None
    for result in results:
        engine = result.engine
        if not result.medians_ms:
            yield f"| {engine.name} | {engine.precision} | {result.failure} | | | | | | 0 |"
            continue
        middle = median(result.medians_ms)
        spread = (max(result.medians_ms) - min(result.medians_ms)) / middle
        difference = result.reports[0].get("difference")
        cells = [
            engine.name,
            engine.precision,
            f"{middle:.1f}",
            f"{100 * spread:.0f}%",
            f"{1e3 * gflop / middle:.0f}" if gflop else "",
            f"{median(result.ratios):.2f}" if result.ratios else "",
            f"{result.peak_memory_mb:.0f}",
            "" if difference is None else f"{difference:.0e}",
            str(len(result.medians_ms)),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    if lines := list(ratios(results)):
        yield from [*lines, ""]


def ratios(results: list[Result]) -> Iterator[str]:
    """How wdsr stands against the fastest peer of each precision, the peak, and on memory."""
    by_name = {result.engine.name: result for result in results if result.medians_ms}
    for precision, own_name in (("f32", "wdsr"), ("bf16", "wdsr-bf16"), ("int8", "wdsr-int8")):
        peers = [
            result
            for result in by_name.values()
            if result.engine.precision == precision and not result.engine.is_wdsr
        ]
        if own_name not in by_name or not peers:
            continue
        own, fastest = by_name[own_name], min(peers, key=lambda r: median(r.medians_ms))
        # Both have a ratio to wdsr's f32 for each round.
        ratio = median(a / b for a, b in zip(fastest.ratios, own.ratios, strict=False))
        yield f"- {precision}: wdsr is {ratio:.2f} times as fast as the next, {fastest.engine.name}"
        share = median(report["ratio_to_peak"] for report in own.reports)
        peak = "{peak_gflops:.0f} GFLOP/s by {isa}".format(**own.reports[0])
        yield f"- {precision}: wdsr reaches {share:.2f} of the peak of the same run ({peak})"
    if "wdsr" in by_name and "onnxruntime" in by_name:
        share = by_name["wdsr"].peak_memory_mb / by_name["onnxruntime"].peak_memory_mb
        yield f"- wdsr's peak memory is {share:.2f} of ONNX Runtime's"


def output_of(*command: str) -> str:
    """The first line that a program prints."""
    if shutil.which(command[0]) is None:
        return f"no {command[0]}"
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return lines[0]
