"""Timing in turns: what is compared runs one after the other, again and again, in one process."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

TURN = 0.004  # seconds that the calls of one measurement take together
PATIENCE = 0.5  # a turn of slow calls is not measured again after so many seconds
LONG, FEW = 12.0, 3  # seconds after which so many rounds are enough


@dataclass
class Row:
    """One comparison of two: the same work in both, and the ratio that is wanted."""

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    wanted: float = 1.0
    threads: int = 1


def once(f: Callable[[], object], calls: int) -> float:
    """Seconds of a call, of so many calls."""
    start = time.perf_counter()
    for _ in range(calls):
        f()
    return (time.perf_counter() - start) / calls


def turn(f: Callable[[], object], calls: int) -> float:
    """The best of three measurements, or of fewer when calls are slow."""
    start, best = time.perf_counter(), float("inf")
    for _ in range(3):
        best = min(best, once(f, calls))
        if time.perf_counter() - start > PATIENCE:
            break
    return best


def interleave(modes: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of a call of each mode in each round."""
    calls = {}
    for name, f in modes.items():
        f(), f()
        calls[name] = max(1, int(TURN / max(once(f, 2), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in modes}
    start = time.perf_counter()
    for done in range(rounds):
        if done >= FEW and time.perf_counter() - start > LONG:
            break
        for name, f in modes.items():
            times[name].append(turn(f, calls[name]))
    return times


def compare(row: Row, rounds: int) -> tuple[float, float, float]:
    """Seconds of ours and theirs, and the median ratio of rounds."""
    times = interleave({"ours": row.ours, "theirs": row.theirs}, rounds)
    ours, theirs = times["ours"], times["theirs"]
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return statistics.median(ours), statistics.median(theirs), ratio


def best_peer(times: dict[str, list[float]], ours: Iterable[str]) -> str | None:
    """The fastest mode that is not ours, if there is one."""
    peers = {name: statistics.median(t) for name, t in times.items() if name not in ours}
    return min(peers, key=peers.__getitem__, default=None)


def confine(threads: int) -> None:
    """Keep all threads of this process on so many processors, where the system can."""
    tasks = Path("/proc/self/task")
    if not hasattr(os, "sched_setaffinity") or not tasks.is_dir():
        return
    some = sorted(os.sched_getaffinity(0))[:threads]
    for task in tasks.iterdir():
        os.sched_setaffinity(int(task.name), some)
