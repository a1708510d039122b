"""Measurements: the work that is timed, and the results of the engines' processes."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

SCALE = 2
# An engine that is this many times slower than the fastest in the first round is not run again.
TOO_SLOW = 2.5


class PeerError(Exception):
    """An engine, or the program itself, cannot be run. The message is for the user."""


@dataclass
class Engine:
    """A program that runs networks, and its precision."""

    name: str
    precision: str = "f32"

    @property
    def is_wdsr(self) -> bool:
        return self.name.startswith("wdsr")


@dataclass
class Work:
    """The work that is timed in a table."""

    network: str
    threads: int
    # Pixels of the input; none for a training step.
    size: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.size is None:
            return f"Training step, {self.network} x{SCALE}, 16 patches of 48x48, {threads}"
        return f"{self.network} x{SCALE}, {self.size[0]}x{self.size[1]}, {threads}"


@dataclass
class Result:
    """The results of an engine in a table."""

    engine: Engine
    medians_ms: list[float] = field(default_factory=list)
    # The engine's time over wdsr's f32 time in the same round.
    ratios: list[float] = field(default_factory=list)
    reports: list[dict] = field(default_factory=list)
    failure: str = ""

    def run(self, command: list[str | Path]) -> None:
        """Runs a round."""
        try:
            report = run_json(self.engine.name, command)
        except PeerError as error:
            self.failure = str(error)
            return
        self.reports.append(report)
        self.medians_ms.append(median(report.get("times_ms") or [report["median_ms"]]))

    @property
    def peak_memory_mb(self) -> float:
        return max(report["peak_memory_mb"] for report in self.reports)

    @property
    def last(self) -> str:
        return self.failure or f"{self.engine.name} {self.medians_ms[-1]:.1f} ms"


def is_slow(result: Result, results: list[Result]) -> bool:
    """Whether an engine is much slower than the fastest one of its precision."""
    peers = [r for r in results if r.medians_ms and not r.engine.is_wdsr]
    first = [r.medians_ms[0] for r in peers if r.engine.precision == result.engine.precision]
    return result in peers and result.medians_ms[0] > TOO_SLOW * min(first)


def run_json(name: str, command: list[str | Path]) -> dict:
    """Runs a program, and returns the JSON object at the end of its output."""
    environment = os.environ | {"RUST_BACKTRACE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise PeerError(f"{name}: exit code {done.returncode}: {lines[-1]}")
    start = done.stdout.find("{")
    try:
        return json.loads(done.stdout[start:])
    except json.JSONDecodeError as error:
        raise PeerError(f"{name}: expected JSON, found {done.stdout[-200:]!r}") from error
