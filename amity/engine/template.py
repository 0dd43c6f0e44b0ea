"""Programs on disk: found by what a segment's notes mean, told by the names of their kernels.

An entry holds launches and sizes of memory alone; arguments follow from the notes. One that does not
read as such, or names a kernel that is not there, is as good as absent.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from amity.compiler import pipeline
from amity.compiler.again import NOTHING, Again, Round
from amity.core.dtype import get_default_dtype
from amity.core.layout import Layout
from amity.runtime.plan import GIVES_NONE, RELEASE_GIL, SCRATCH, Plan, Step

from . import device, program
from .cache import PROGRAM, cache
from .noted import Noted
from .numbers import Frame

Unreadable = (ValueError, TypeError, LookupError, OverflowError, RecursionError)


def build(noted: Noted, frame: Frame, name: str, recomputes: bool = False) -> Callable:
    """A native callable that does what was noted: read from disk, or planned now and kept there.
    `recomputes`: see `program.build`.
    """
    kernels, layouts = device.kernels(), noted.layouts
    key = f"{kernels.stamp}|{meaning(frame, recomputes)}"
    raw = cache.get(key, PROGRAM) if kernels.are_kept else None
    found = None if raw is None else read(raw, layouts)
    if found is None:
        what = noted.graph, layouts, noted.given, (), GIVES_NONE, noted.roots, name
        run = program.build(*what, recomputes=recomputes)
        paper = program.paper_of(run)
        cache.put(key, written(paper.plan(), paper.again), PROGRAM)
        return run
    steps, arena, bits, kept, again = found
    plan = Plan(layouts, noted.kinds, [], GIVES_NONE, (), steps, arena, bits, *kept)
    return noted.program(plan, name, again)


def meaning(frame: Frame, recomputes: bool = False) -> str:
    """A digest of all that a Program of notes depends on, but for the machine."""
    threads = device.machine().workers.threads
    off = sorted(pipeline.switched_off())
    settings = threads, get_default_dtype().name, off, recomputes
    digest = hashlib.sha256(str(settings).encode())
    digest.update(frame.digest)
    digest.update(frame.numbers.tobytes())
    return digest.hexdigest()


# -- what an entry says


def written(plan: Plan, again: Again = NOTHING) -> bytes:
    """The launches of a plan, and what they compute again, for other processes.

    >>> written(Plan([], [], [], 0, steps=[Step(0, array("q", [7]), 2, 1, [(0, 8)], "f")]))
    b'{"kernels": ["f"], "arena": 0, "flags": 0, "kept": [0, 0, []], "steps": [[0, 2, 1, [[0, 8]], [7]]]}'
    """
    names = list(dict.fromkeys(s.name for s in plan.steps))
    at = {n: i for i, n in enumerate(names)}
    steps = [
        [at[s.name], s.grid, s.grain, [list(b) for b in s.buffers], s.meta.tolist()]
        for s in plan.steps
    ]
    entry = {"kernels": names, "arena": plan.arena, "flags": plan.flags}
    entry |= {"kept": [plan.kept, plan.skips, list(plan.guards)], "steps": steps}
    if again.rounds:
        entry["again"] = again.saved, [[r.boundary, sorted(r.again)] for r in again.rounds]
    return json.dumps(entry).encode()


def read(
    raw: bytes, layouts: Sequence[Layout]
) -> tuple[list[Step], int, int, tuple[int, int, list[int]], Again] | None:
    """Steps, bytes of the arena, flags, bytes, steps and arguments of what is kept, and what is computed
    again, of an entry over arguments of these layouts; None if it is no such entry or a kernel is
    missing.
    """
    try:
        entry = json.loads(raw)
        names, arena, bits = entry["kernels"], entry["arena"], entry["flags"]
        kept, skips, guards = entry["kept"]
        again = _again(*entry.get("again", (0, ())))
        ends = [max(lay.extent * lay.dtype.itemsize, 1) for lay in layouts] + [arena, kept]
        steps = [_step(names, ends, *row) for row in entry["steps"]]
        if not 0 <= arena < 1 << 62 or bits & ~(RELEASE_GIL | SCRATCH):
            return None
        if not (0 <= kept < 1 << 62 and 0 <= skips <= len(steps)):
            return None
        if any(type(a) is not int or not 0 <= a < len(layouts) for a in guards):
            return None
    except Unreadable:
        return None
    if None in steps:
        return None
    return [s for s in steps if s is not None], arena, bits, (kept, skips, guards), again


def _again(saved: int, rounds: Sequence[Any]) -> Again:
    found = [Round(boundary, frozenset(places)) for boundary, places in rounds]
    if any(type(n) is not int or n < 0 for r in found for n in (saved, r.boundary, *r.again)):
        raise ValueError("what is computed again are places of nodes")
    return Again(tuple(found), saved)


def _step(
    names: Sequence[str], ends: Sequence[int], kernel: int, grid: int, grain: int, *rest: Any
) -> Step | None:
    buffers, meta = rest
    words = array("q", [grid, grain, *(word for buffer in buffers for word in buffer)])
    for slot, offset in buffers:
        if not (0 <= slot < len(ends) and 0 <= offset < ends[slot]):
            raise ValueError("a buffer lies outside of its memory")
    if min(words) < 0 or not (grid and grain):
        raise ValueError("a launch has no work")
    address = device.kernels().load_named(names[kernel])
    if address is None:
        return None
    places = [(slot, offset) for slot, offset in buffers]
    return Step(address, array("q", meta), grid, grain, places, names[kernel])
