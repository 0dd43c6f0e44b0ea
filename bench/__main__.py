"""amity, eager and compiled, against PyTorch, JAX and TensorFlow: `python -m bench`.

Every workload starts from the same weights in every library; results are compared with PyTorch's
eager ones, then all modes are timed in turns, in one process for each workload and number of threads.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import report
from .parts import PARTS, installed, run, weights_file
from .peers import PEERS
from .report import Line, row, spoken
from .workloads import FIRST, GROWTH, WORKLOADS, Workload


def measure(
    works: Sequence[Workload],
    threads: Sequence[int],
    rounds: int,
    libraries: list[str],
    folder: Path,
) -> Iterator[Line]:
    """Time all modes of all workloads, and print each line when it is there."""
    modes = report.mode_names(libraries)
    print("\n".join(report.heading(modes)), flush=True)
    for work in works:
        for count in threads:
            path = weights_file(folder, work)
            got = run("speed", work.name, path, str(count), str(rounds), *libraries, threads=count)
            if "failed" in got:
                got = {"times": {}, "errors": dict.fromkeys(modes, got["failed"])}
            line = Line(work.name, count, work.wanted, got["times"], got["errors"], work.limit)
            print("\n".join([report.table_row(line, modes), *report.failures([line])]), flush=True)
            yield line


def first_steps(works: Sequence[Workload], libraries: list[str], folder: Path) -> list[str]:
    """Time to the first compiled step with an empty cache and a full one, and peak memory."""
    names = ["workload", "mode", "first step, cold", "from the cache", "peak memory"]
    lines = [row(names), row(["---"] * len(names))]
    print("\n".join(lines), flush=True)
    for work in works:
        path = weights_file(folder, work)
        for mode in report.mode_names(libraries):
            cache = tempfile.mkdtemp(dir=folder)
            env = {"AMITY_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
            cells = [work.name, mode]
            for part, figure in (("first", "first"), ("first", "first"), ("memory", "peak")):
                got = run(part, work.name, path, mode, **env)
                if "failed" in got:
                    cells.append(f"failed: {got['failed']}"[:200])
                else:
                    value = got[figure]
                    cells.append(spoken(value) if part == "first" else f"{value:.0f} MB")
            shutil.rmtree(cache)
            lines.append(row(cells))
            print(lines[-1], flush=True)
    return lines


def chosen(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PEERS or name == "amity":
            raise argparse.ArgumentTypeError(f"got {name!r}; expected some of torch,jax,tensorflow")
    return ["amity", *names]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="workloads whose name holds this text")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", type=chosen, default=list(PEERS), help="as in torch,jax")
    parser.add_argument("--growth", action="store_true", help="GPT steps of many sizes instead")
    parser.add_argument("--no-first", action="store_true", help="leave first steps and memory out")
    options = parser.parse_args()
    if options.part:
        name, *arguments = options.part
        print(json.dumps(PARTS[name](*arguments)))
        return
    libraries = installed(options.peers)
    skipped = [name for name in options.peers if name not in libraries]
    about = report.circumstances(options.rounds)
    print("\n".join([*about, *(f"- {n} is not installed: skipped" for n in skipped), ""]))
    pool = GROWTH if options.growth else WORKLOADS
    works = [w for w in pool if options.only in w.name]
    is_whole = works == list(WORKLOADS)  # a part of the table does not replace the whole
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for line in measure(works, options.threads, options.rounds, libraries, folder):
            lines.append(line)
            if is_whole:  # at each line, so that a run that is stopped leaves its figures
                done = f"- stopped after {len(lines)} of {len(works) * len(options.threads)} lines"
                report.write([*about, done], lines, [], libraries, skipped)
        print("\n".join(["", *report.summary(lines), ""]), flush=True)
        early = [w for w in works if w in FIRST and not options.no_first]
        steps = first_steps(early, libraries, folder) if early else []
    if is_whole:
        report.write(about, lines, steps, libraries, skipped)


if __name__ == "__main__":
    main()
