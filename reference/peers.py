#!/usr/bin/env python3
"""Times wdsr and other inference engines, and writes a report.

    reference/peers.py --output docs/benchmarks/zen5.md
    reference/run peers.py --quick

All engines run the ONNX file that `wdsr bench --save-onnx` writes. In each round every engine runs
once, in a process of its own, on the same processors. Ratios are computed within a round; the
report has the medians over the rounds. It is written after every table, so that an interrupted run
leaves the tables that are complete. No other work must run on the machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measurement import SCALE, Engine, PeerError, Result, Work, is_slow, run_json
from report import environment, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUST_ENGINES = HERE / "rust-engines"
RUST_ENGINE_NAMES = {"rten", "tract"}
# Runs a script of this folder in the environment that has the engines.
PYTHON = (HERE / "run", "--peers")
# Rounds that are run even if they take longer than --limit-minutes.
LEAST_ROUNDS = 3
QUICK_ENGINES = ["wdsr", "wdsr-bf16", "wdsr-int8", "openvino", "openvino-bf16", "openvino-int8"]
QUICK_ENGINES += ["onnxruntime", "onnxruntime-int8"]
QUICK_TRAINING_ENGINES = ["wdsr", "wdsr-bf16", "torch", "torch-bf16"]
TRAINED_NETWORK = "wdsr-b-32x8"


def inference_engines(has_bf16: bool) -> list[Engine]:
    f32 = "wdsr onnxruntime openvino ncnn torch torch-compile rten tract".split()
    bf16 = "wdsr-bf16 openvino-bf16 torch-bf16 torch-compile-bf16".split()
    int8 = "wdsr-int8 openvino-int8 onnxruntime-int8".split()
    engines = [Engine(name) for name in f32] + [Engine(n, "bf16") for n in bf16 if has_bf16]
    return engines + [Engine(name, "int8") for name in int8]


def training_engines(has_bf16: bool) -> list[Engine]:
    engines = [e for e in inference_engines(has_bf16) if e.precision != "int8"]
    return [e for e in engines if e.name.startswith(("wdsr", "torch"))]


class Bench:
    """Runs the engines."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.processors = sorted(os.sched_getaffinity(0))

    def wdsr(self, work: Work, *more: str | Path, precision: str = "f32") -> list[str | Path]:
        command = [self.arguments.wdsr, "bench", "--network", work.network, "--scale", str(SCALE)]
        command += ["-j", str(work.threads), "--precision", precision, "--json", *more]
        if work.size is None:
            return [*command, "--train"]
        return [*command, "--size", f"{work.size[0]}x{work.size[1]}"]

    def onnx(self, network: str) -> Path:
        """The network as a file, written by wdsr on the first call."""
        if self.arguments.onnx_folder:
            path = self.arguments.onnx_folder / f"{network}.onnx"
            if not path.exists():
                raise PeerError(f"{path}: expected an ONNX file of the network, found none")
            return path
        path = self.folder / f"{network}.onnx"
        if not path.exists():
            command = self.wdsr(Work(network, 1, (32, 32)), "--save-onnx", path)
            run_json("wdsr", command)
        return path

    def expected(self, work: Work) -> Path:
        """The output of ONNX Runtime, to which others are compared. Computed once."""
        width, height = map(str, work.size)
        path = self.folder / f"{work.network}-{width}x{height}.f32"
        if not path.exists():
            settings = [width, height, str(len(self.processors)), "0", path]
            command = [*PYTHON, "engine.py", "onnxruntime", self.onnx(work.network), *settings]
            run_json("onnxruntime", command)
        return path

    def command(self, engine: Engine, work: Work) -> list[str | Path]:
        if engine.is_wdsr:
            return self.wdsr(work, precision=engine.precision)
        model = self.onnx(work.network)
        settings = [str(work.threads), str(self.arguments.seconds)]
        if work.size is None:
            return [*PYTHON, "training_step.py", engine.name, model, *settings]
        size = map(str, work.size)
        tail = [engine.name, model, *size, *settings, self.expected(work)]
        if engine.name in RUST_ENGINE_NAMES:
            return [RUST_ENGINES / "target/release/rust-engines", *tail]
        return [*PYTHON, "engine.py", *tail]

    def measure(self, work: Work, engines: list[Engine]) -> list[Result]:
        """Runs all rounds of a table."""
        # Files that are prepared on the first call are not part of a round.
        os.sched_setaffinity(0, self.processors)
        commands = [self.command(engine, work) for engine in engines]
        os.sched_setaffinity(0, self.processors[: work.threads])
        results = [Result(engine) for engine in engines]
        started = time.monotonic()
        for round_index in range(self.arguments.rounds):
            late = time.monotonic() - started > 60 * self.arguments.limit_minutes
            if late and round_index >= LEAST_ROUNDS:
                break
            # Every second round runs in reverse, so that no engine always follows the same one.
            order = list(zip(results, commands, strict=True))[:: -1 if round_index % 2 else 1]
            ran = []
            for result, command in order:
                if result.failure or (round_index and is_slow(result, results)):
                    continue
                result.run(command)
                note(f"  round {round_index + 1}: {result.last}")
                if not result.failure:
                    ran.append(result)
            own_ms = [result.medians_ms[-1] for result in ran if result.engine.name == "wdsr"]
            for result in ran if own_ms else []:
                result.ratios.append(result.medians_ms[-1] / own_ms[0])
        return results


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    def size(text: str) -> tuple[int, int]:
        width, height = text.split("x")
        return int(width), int(height)

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--output", type=Path, help="report to write, Markdown")
    add(
        "--quick",
        action="store_true",
        help="inference of 256x256 by wdsr, OpenVINO and ONNX Runtime only, in under 3 minutes; with AMX "
        "also training on one thread by wdsr and PyTorch, a minute more; the report is "
        "target/peers-quick.md by default",
    )
    add("--networks", nargs="*", default=["wdsr-b-32x16", "wdsr-a-32x16"], metavar="NETWORK")
    add("--sizes", nargs="*", type=size, default=[(256, 256), (1280, 720)], metavar="WxH")
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--engines", nargs="*", default=[], help="engines to time; by default all")
    add("--skip-training", action="store_true", help="inference only")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=3.0, help="time for each engine and round")
    add("--limit-minutes", type=float, default=6.0, help="no new round of a table after this time")
    add("--wdsr", type=Path, default=ROOT / "target/release/wdsr", help="the program")
    add(
        "--onnx-folder",
        type=Path,
        help="time the other engines only, on the files NETWORK.onnx of this folder",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.output = arguments.output or ROOT / "target/peers-quick.md"
        arguments.sizes = [(256, 256)]
        arguments.rounds, arguments.seconds = LEAST_ROUNDS, 0.5
        arguments.engines = arguments.engines or QUICK_ENGINES
    elif not arguments.output:
        parser.error("--output: expected the report to write, found none; --quick has a default")
    return arguments


def build(arguments: argparse.Namespace) -> None:
    """Builds all programs that are timed, and the Python environment."""
    note("Building")
    clean = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    cargo = ["cargo", "build", "--release", "--locked", "--quiet"]
    if not arguments.engines or RUST_ENGINE_NAMES.intersection(arguments.engines):
        subprocess.run(cargo, check=True, cwd=RUST_ENGINES, env=clean)
    subprocess.run(PYTHON, check=True)
    if arguments.onnx_folder:
        return
    subprocess.run([*cargo, "--package", "wdsr-cli"], check=True, cwd=ROOT, env=clean)
    help_text = subprocess.run(
        [arguments.wdsr, "bench", "--help"], capture_output=True, text=True, check=False
    )
    if help_text.returncode != 0 or "--save-onnx" not in help_text.stdout:
        raise PeerError(
            f"{arguments.wdsr}: expected the subcommand `bench` with --save-onnx, found none; "
            "update the checkout, or time the other engines only by --onnx-folder"
        )


def main() -> None:
    arguments = parse_arguments()
    flags = Path("/proc/cpuinfo").read_text().split()
    has_bf16 = "avx512_bf16" in flags or "amx_bf16" in flags
    works = [
        Work(network, threads, size)
        for network in arguments.networks
        for size in arguments.sizes
        for threads in arguments.threads
    ]
    trained_threads = arguments.threads
    if arguments.quick:
        trained_threads = arguments.threads[:1] if "amx_bf16" in flags else []
    if not arguments.skip_training:
        works += [Work(TRAINED_NETWORK, threads) for threads in trained_threads]
    build(arguments)
    notes = [f"Up to {arguments.rounds} rounds of {arguments.seconds:g} s for each engine"]
    if not has_bf16:
        notes.append("This processor has no bf16 arithmetic: bf16 is not timed")
    report = list(environment(notes))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, Path(folder))
        for work in works:
            is_training = work.size is None
            engines = (training_engines if is_training else inference_engines)(has_bf16)
            is_quick_training = arguments.quick and is_training
            wanted = QUICK_TRAINING_ENGINES if is_quick_training else arguments.engines
            engines = [
                engine
                for engine in engines
                if (not wanted or engine.name in wanted)
                and not (engine.is_wdsr and arguments.onnx_folder)
            ]
            note(work.title)
            report += table(work, bench.measure(work, engines))
            arguments.output.write_text("\n".join(report) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (PeerError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
