"""The benchmark's figures as a table, printed and written to `bench/results.md`."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import runpy
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .harness import best_peer
from .peers import COMPILED, LIBRARY, MODES, OURS

VERSION = Path(__file__).parents[1] / "amity" / "core" / "version.py"
RESULTS = Path(__file__).with_name("results.md")
PACKAGES = ("torch", "jax", "jaxlib", "tensorflow", "tensorflow-cpu", "numpy", "llvmlite")


@dataclass
class Line:
    """A workload at a number of threads: times of each mode in each round, and what went wrong."""

    name: str
    threads: int
    wanted: float
    times: dict[str, list[float]]
    errors: dict[str, str] = field(default_factory=dict)
    limit: float = 0.0

    @property
    def best(self) -> str | None:
        return best_peer(self.times, OURS)

    def ratio(self, mode: str = COMPILED) -> float | None:
        """How many times as fast as the best peer a mode is, the median over rounds."""
        if self.best is None or mode not in self.times:
            return None
        pairs = zip(self.times[self.best], self.times[mode], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def is_met(self, mode: str = COMPILED) -> bool:
        """Whether a mode is as fast as wanted."""
        if self.limit:
            return mode in self.times and statistics.median(self.times[mode]) <= self.limit
        ratio = self.ratio(mode)
        return ratio is not None and ratio >= self.wanted


def spoken(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return (
                f"{seconds / size:.3g} {unit}"
                if seconds < 100 * size
                else f"{seconds / size:.0f} {unit}"
            )
    return f"{seconds * 1e6:.3g} us"


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def heading(modes: Sequence[str]) -> list[str]:
    names = ["workload", "threads", *modes, "best peer", "ratio", "wanted"]
    return [row(names), row(["---"] * len(names))]


def step_heading() -> list[str]:
    names = ["workload", "mode", "first step, cold", "from the cache", "peak memory"]
    return [row(names), row(["---"] * len(names))]


def table_row(line: Line, modes: Sequence[str]) -> str:
    cells = [line.name, str(line.threads)]
    for mode in modes:
        if mode in line.times:
            cells.append(spoken(statistics.median(line.times[mode])))
        else:
            cells.append("failed" if mode in line.errors else "-")
    ratio = line.ratio()
    shown = "-" if ratio is None else f"{ratio:.2f}"
    wanted = f"<= {spoken(line.limit)}" if line.limit else f"{line.wanted:g}"
    cells += [line.best or "-", shown if line.is_met() else f"**{shown}**", wanted]
    return row(cells)


def summary(lines: Sequence[Line]) -> list[str]:
    """The geometric mean of ratios, the worst, and how many are as wanted, by threads."""
    out = []
    for threads in sorted({line.threads for line in lines}):
        for mode in OURS:
            here = [ln for ln in lines if ln.threads == threads and not ln.limit]
            some = [(r, ln) for ln in here if (r := ln.ratio(mode)) is not None]
            if not some:
                continue
            mean = math.exp(statistics.fmean(math.log(r) for r, _ in some))
            worst, at = min(some, key=lambda pair: pair[0])
            met = sum(ln.is_met(mode) for _, ln in some)
            out.append(
                f"- {mode}, {threads} thread(s): geometric mean {mean:.2f} over {len(some)} "
                f"workloads; worst {worst:.2f} ({at.name}); {met} as wanted"
            )
    return out


def failures(lines: Sequence[Line]) -> list[str]:
    out = []
    for line in lines:
        for mode, text in line.errors.items():
            said = " ".join(text.split())
            out.append(f"- {line.name}, {line.threads} thread(s), {mode}: {said}")
    return out


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def compiler() -> str:
    """The first line of `g++ --version`, which torch.compile needs."""
    try:
        done = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no g++: torch.compile fails"
    return done.stdout.splitlines()[0]


def versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def circumstances() -> list[str]:
    """Versions and machine; amity's version is read, as parts measure processes without it."""
    version = runpy.run_path(str(VERSION))["__version__"]
    return [
        f"- amity {version}; Python {platform.python_version()}",
        f"- {processor()}, {os.cpu_count()} processors, {platform.system()} {platform.release()}",
        f"- {', '.join(versions())}; {compiler()}",
        "- a time is the median of rounds of the best calls in a round; the ratio is the best peer's "
        "time over amity compiled's, so above 1 amity is faster; bold: less than wanted",
    ]


def mode_names(libraries: Iterable[str]) -> list[str]:
    wanted = set(libraries)
    return [mode for mode in MODES if LIBRARY[mode] in wanted]


def write(
    about: Sequence[str],
    lines: Sequence[Line],
    steps: Sequence[Sequence[str]],
    growth: Sequence[str],
    libraries: Sequence[str],
    skipped: Sequence[str],
) -> None:
    """Write all of it to `bench/results.md`."""
    modes = mode_names(libraries)
    text = ["# Benchmark results", "", "`python -m bench` wrote this file.", "", *about]
    text += [f"- {name} is not installed and was skipped" for name in skipped]
    parts = {
        "Summary": summary(lines),
        "Speed": [*heading(modes), *(table_row(line, modes) for line in lines)] if lines else [],
        "First steps and memory": [*step_heading(), *map(row, steps)] if steps else [],
        "Growth": growth,
        "Failures": failures(lines),
    }
    for title, body in parts.items():
        if body:
            text += ["", f"## {title}", "", *body]
    RESULTS.write_text("\n".join(text) + "\n")
