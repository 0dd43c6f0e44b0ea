"""How the time of a GPT's training step grows with depth, width, length and threads.

A step's work has three parts: the multiply-adds of weights, those of causal attention, and the
numbers that pass through memory between them. If time is linear in all, one cost for each explains
every size: the costs are found by least squares, and sizes that they do not explain are named, as
are those where attention, which grows with the square of the length, takes much of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .peers import COMPILED
from .report import Line, row, spoken
from .workloads import Workload

STEP = 3  # a training step's work beside that of a forward pass
NEAR = 0.15  # of the time that the costs explain, within which it counts as linear
MUCH = 0.25  # of the time, from which on attention is said to make growth steeper


def weights(work: Workload) -> float:
    """Multiply-adds of a training step by weights."""
    (batch, T), c = work.shapes[0], work.config
    width = c["width"]
    return STEP * batch * T * (c["layers"] * 12 * width * width + width * c["classes"])


def attention(work: Workload) -> float:
    """Multiply-adds of causal attention: half of 2 T width, as rows see what came before."""
    (batch, T), c = work.shapes[0], work.config
    return STEP * batch * T * c["layers"] * T * c["width"]


def numbers(work: Workload) -> float:
    """Numbers in results of a forward pass between products, roughly: of norms, GELU, residuals."""
    (batch, T), c = work.shapes[0], work.config
    return STEP * batch * T * (c["layers"] * 16 * c["width"] + 2 * c["classes"])


PARTS = {
    "a multiply-add of weights": weights,
    "one of attention": attention,
    "a number between them": numbers,
}


def costs(works: Sequence[Workload], seconds: Sequence[float]) -> np.ndarray:
    """Seconds of one of each part, by least squares of relative errors; none is negative."""
    table = np.array([[part(w) for part in PARTS.values()] for w in works])
    table = table / np.array(seconds)[:, None]
    found, known = np.zeros(len(PARTS)), list(range(len(PARTS)))
    while known:
        some = np.linalg.lstsq(table[:, known], np.ones(len(works)), rcond=None)[0]
        if (some >= 0).all():
            found[known] = some
            break
        del known[int(some.argmin())]
    return found


def gains(by_count: dict[int, np.ndarray]) -> list[str]:
    """In words, how much faster each part is with more threads."""
    (first, base), *others = by_count.items() if by_count else [(0, None)]
    said = []
    for count, found in others:
        each = [
            f"{part} {a / b:.2f}" for part, a, b in zip(PARTS, base, found, strict=True) if a and b
        ]
        said.append(f"- {count} threads against {first}, times as fast: {', '.join(each)}")
    return said


def table(works: Sequence[Workload], lines: dict[tuple[str, int], Line]) -> list[str]:
    """The table of all sizes that were measured, and in words where time is not linear."""
    threads = sorted({count for _, count in lines})
    times = {
        at: min(line.times[COMPILED])  # the least disturbed
        for at, line in lines.items()
        if COMPILED in line.times
    }
    names = ["amity compiled", "multiply-adds", "of attention"]
    for count in threads:
        names += [f"{count} thread(s)", "time to linear", "attention's time"]
    names += [f"{n} threads faster by" for n in threads[1:]]
    out, said = [row(names), row(["---"] * len(names))], []
    by_count: dict[int, np.ndarray] = {}
    explained: dict[tuple[str, int], float] = {}
    shares: dict[tuple[str, int], float] = {}  # of attention in the time
    for count in threads:
        known = [w for w in works if (w.name, count) in times]
        if len(known) <= len(PARTS):
            continue
        found = by_count[count] = costs(known, [times[w.name, count] for w in known])
        said.append(
            f"- {count} thread(s): "
            + ", ".join(f"{c * 1e12:.3g} ps for {part}" for part, c in zip(PARTS, found))
        )
        for w in known:
            each = [c * part(w) for c, part in zip(found, PARTS.values())]
            explained[w.name, count] = times[w.name, count] / sum(each)
            shares[w.name, count] = each[1] / sum(each)
    for w in (w for w in works if any((w.name, count) in times for count in threads)):
        all_ = weights(w) + attention(w)
        cells = [w.name, f"{all_ / 1e9:.3g} G", f"{attention(w) / all_:.0%}"]
        for count in threads:
            at = w.name, count
            cells += [spoken(times[at]) if at in times else "-"]
            cells += [f"{explained[at]:.2f}" if at in explained else "-"]
            cells += [f"{shares[at]:.0%}" if at in shares else "-"]
        for count in threads[1:]:
            both = [times.get((w.name, n)) for n in (threads[0], count)]
            cells.append(f"{both[0] / both[1]:.2f}" if None not in both else "-")
        out.append(row(cells))
    said += gains(by_count)
    far = {at: r for at, r in explained.items() if abs(r - 1) > NEAR}
    for (name, count), ratio in far.items():
        said.append(f"- not linear: {name}, {count} thread(s), takes {ratio:.2f} times as long")
    for (name, count), share in shares.items():
        if share > MUCH:
            said.append(
                f"- steeper than its length: {name}, {count} thread(s), as {share:.0%} of its time is "
                "attention's, which grows with the square of the length"
            )
    if explained and not far:
        said.append(f"- all sizes are within {NEAR:.0%} of linear")
    return [*out, "", *said]
