"""amity, eager and compiled, against PyTorch, JAX and TensorFlow: `python -m bench`.

Every workload starts from the same weights in every library; results are compared with PyTorch's
eager ones, then all modes are timed in turns, in one process for each workload and number of threads.
A whole run takes over half an hour; `--minutes 8`, then `--resume --minutes 8` do it in pieces.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import growth, report
from .figures import Figures, key_of
from .parts import PARTS, installed, run, weights_file
from .peers import PEERS
from .report import Line, row, spoken
from .workloads import FIRST, GROWTH, WORKLOADS, Workload

OURS = "amity"
THREADS = (1, 2)


def timed(work: Workload, count: int, rounds: int, libraries: list[str], folder: Path) -> Line:
    """A workload in all modes with so many threads."""
    path = weights_file(folder, work)
    got = run("speed", work.name, path, str(count), str(rounds), *libraries, threads=count)
    if "failed" in got:
        got = {"times": {}, "errors": dict.fromkeys(report.mode_names(libraries), got["failed"])}
    return Line(work.name, count, work.wanted, got["times"], got["errors"], work.limit)


def first_step(work: Workload, mode: str, folder: Path) -> list[str]:
    """Time to the first compiled step with an empty cache and a full one, and peak memory."""
    path, cache = weights_file(folder, work), tempfile.mkdtemp(dir=folder)
    env = {"AMITY_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
    cells = [work.name, mode]
    for part, figure in (("first", "first"), ("first", "first"), ("memory", "peak")):
        got = run(part, work.name, path, mode, **env)
        if "failed" in got:
            cells.append(f"failed: {got['failed']}"[:200])
        else:
            cells.append(spoken(got[figure]) if part == "first" else f"{got[figure]:.0f} MB")
    shutil.rmtree(cache)
    return cells


class Bench:
    """One run: what is to be measured, and what was."""

    def __init__(self, options: argparse.Namespace) -> None:
        libraries = installed(options.peers)
        skipped = [name for name in options.peers if name not in libraries]
        is_part = bool(options.only) or options.growth
        self.is_renewed = is_part and not options.resume
        self.figures = Figures.begin(options.rounds, libraries, skipped, is_part or options.resume)
        self.figures.is_kept = options.peers == list(PEERS)  # others are to be looked at only
        self.options, self.libraries = options, libraries
        self.end = time.monotonic() + 60 * options.minutes

    def order(self, works: Sequence[Workload]) -> list[tuple[str, int]]:
        return [(w.name, n) for w in works for n in self.options.threads]

    def chosen(self, works: Sequence[Workload]) -> list[Workload]:
        return [w for w in works if self.options.only in w.name]

    def missing(self, keys: Sequence[tuple], there: dict[str, Any]) -> Iterator[tuple]:
        """What is still to be measured, until time is over."""
        for key in keys:
            if time.monotonic() > self.end:
                print("- time is over; --resume goes on", flush=True)
                return
            if self.is_renewed or key_of(*key) not in there:
                yield key

    def save(self) -> None:
        """Write `bench/results.md`."""
        known = self.figures.known(self.figures.growth, GROWTH)
        shown = growth.table(GROWTH, known) if known else []
        lines = self.figures.known(self.figures.lines, WORKLOADS)
        self.figures.report(list(lines.values()), shown, len(WORKLOADS) * len(THREADS))

    def speed(self) -> None:
        """Time all modes of all workloads, and print each line when it is there."""
        modes, figures = report.mode_names(self.libraries), self.figures
        print("\n".join(report.heading(modes)), flush=True)
        works = {w.name: w for w in self.chosen(WORKLOADS)}
        with tempfile.TemporaryDirectory() as folder:
            for name, count in self.missing(self.order(list(works.values())), figures.lines):
                line = timed(works[name], count, self.options.rounds, self.libraries, Path(folder))
                print("\n".join([report.table_row(line, modes), *report.failures([line])]))
                figures.add_line(figures.lines, line)
                self.save()
        lines = figures.known(figures.lines, WORKLOADS)
        print("\n".join(["", *report.summary(list(lines.values())), ""]), flush=True)

    def first_steps(self) -> None:
        figures, works = self.figures, {w.name: w for w in self.chosen(FIRST)}
        keys = [(name, mode) for name in works for mode in report.mode_names(self.libraries)]
        if not keys:
            return
        print("\n".join(report.step_heading()), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for name, mode in self.missing(keys, figures.steps):
                cells = first_step(works[name], mode, Path(folder))
                print(row(cells), flush=True)
                figures.add(figures.steps, key_of(name, mode), cells)
                self.save()

    def grow(self) -> None:
        """GPT steps of many sizes."""
        figures, works = self.figures, {w.name: w for w in self.chosen(GROWTH)}
        print("\n".join(report.heading(report.mode_names([OURS]))), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for name, count in self.missing(self.order(list(works.values())), figures.growth):
                line = timed(works[name], count, self.options.rounds, [OURS], Path(folder))
                print(report.table_row(line, report.mode_names([OURS])), flush=True)
                figures.add_line(figures.growth, line)
                self.save()
        lines = figures.known(figures.growth, GROWTH)
        if lines:
            print("\n".join(["", *growth.table(GROWTH, lines)]), flush=True)


def chosen(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PEERS or name == "amity":
            raise argparse.ArgumentTypeError(f"got {name!r}; expected some of torch,jax,tensorflow")
    return ["amity", *names]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="measure anew what holds this text in its name")
    parser.add_argument("--resume", action="store_true", help="measure what is not there yet")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many")
    parser.add_argument("--threads", type=int, nargs="*", default=THREADS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", type=chosen, default=list(PEERS), help="as in torch,jax")
    parser.add_argument("--growth", action="store_true", help="only GPT steps of many sizes")
    parser.add_argument("--no-first", action="store_true", help="leave first steps and memory out")
    options = parser.parse_args()
    if options.part:
        name, *arguments = options.part
        print(json.dumps(PARTS[name](*arguments)))
        return
    bench = Bench(options)
    print("\n".join([*bench.figures.about, ""]), flush=True)
    if not options.growth:
        bench.speed()
        if not options.no_first:
            bench.first_steps()
    if options.growth or not options.only:
        bench.grow()


if __name__ == "__main__":
    main()
