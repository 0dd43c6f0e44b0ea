"""How the time of a GPT's training step grows with depth, width, length and threads.

A step's work has two parts: the multiply-adds of products, and the numbers that pass through memory
between them. If time is linear in both, one pair of costs explains every size: the pair is found by
least squares, and sizes that it does not explain are named.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .peers import COMPILED
from .report import Line, row, spoken
from .workloads import Workload

STEP = 3  # a training step's work beside that of a forward pass
NEAR = 0.15  # of the time that the two costs explain, within which it counts as linear


def products(work: Workload) -> float:
    """Multiply-adds of a training step: of weights, and of causal attention."""
    (batch, T), c = work.shapes[0], work.config
    width = c["width"]
    layer = 12 * width * width + T * width  # half of 2 T width: rows see what came before
    return STEP * batch * T * (c["layers"] * layer + width * c["classes"])


def numbers(work: Workload) -> float:
    """Numbers in results of a forward pass between products, roughly: of norms, GELU, residuals."""
    (batch, T), c = work.shapes[0], work.config
    return STEP * batch * T * (c["layers"] * 16 * c["width"] + 2 * c["classes"])


def costs(works: Sequence[Workload], seconds: Sequence[float]) -> np.ndarray:
    """Seconds of a multiply-add and of a number, by least squares of relative errors."""
    table = np.array([[products(w), numbers(w)] for w in works]) / np.array(seconds)[:, None]
    found = np.linalg.lstsq(table, np.ones(len(works)), rcond=None)[0]
    if (found < 0).any():  # one of the two explains all
        alone = [np.linalg.lstsq(table[:, [i]], np.ones(len(works)), rcond=None) for i in (0, 1)]
        best = min((0, 1), key=lambda i: float(alone[i][1][0]))
        found = np.zeros(2)
        found[best] = alone[best][0][0]
    return found


def table(works: Sequence[Workload], lines: dict[tuple[str, int], Line]) -> list[str]:
    """The table of all sizes that were measured, and in words where time is not linear."""
    threads = sorted({count for _, count in lines})
    times = {
        at: min(line.times[COMPILED])  # the least disturbed
        for at, line in lines.items()
        if COMPILED in line.times
    }
    names = ["amity compiled", "multiply-adds"]
    for count in threads:
        names += [f"{count} thread(s)", "time to linear"]
    names += [f"{n} threads faster by" for n in threads[1:]]
    out, said = [row(names), row(["---"] * len(names))], []
    explained: dict[tuple[str, int], float] = {}
    for count in threads:
        known = [w for w in works if (w.name, count) in times]
        if len(known) < 3:
            continue
        pair = costs(known, [times[w.name, count] for w in known])
        said.append(
            f"- {count} thread(s): {pair[0] * 1e12:.3g} ps for a multiply-add and "
            f"{pair[1] * 1e9:.3g} ns for a number between products"
        )
        for w in known:
            linear = pair[0] * products(w) + pair[1] * numbers(w)
            explained[w.name, count] = times[w.name, count] / linear
    for w in (w for w in works if any((w.name, count) in times for count in threads)):
        cells = [w.name, f"{products(w) / 1e9:.3g} G"]
        for count in threads:
            at = w.name, count
            cells += [spoken(times[at]) if at in times else "-"]
            cells += [f"{explained[at]:.2f}" if at in explained else "-"]
        for count in threads[1:]:
            both = [times.get((w.name, n)) for n in (threads[0], count)]
            cells.append(f"{both[0] / both[1]:.2f}" if None not in both else "-")
        out.append(row(cells))
    far = {at: r for at, r in explained.items() if abs(r - 1) > NEAR}
    for (name, count), ratio in far.items():
        said.append(f"- not linear: {name}, {count} thread(s), takes {ratio:.2f} times as long")
    if explained and not far:
        said.append(f"- all sizes are within {NEAR:.0%} of linear")
    return [*out, "", *said]
