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
from amity.core.dtype import get_default_dtype
from amity.core.layout import Layout
from amity.ir.graph import Graph
from amity.runtime.plan import GIVES_NONE, RELEASE_GIL, SCRATCH, Plan, Step

from . import device, program
from .cache import PROGRAM, cache
from .noted import Noted

Unreadable = (ValueError, TypeError, LookupError, OverflowError, RecursionError)


def build(noted: Noted, name: str) -> Callable:
    """A native callable that does what was noted: read from disk, or planned now and kept there."""
    kernels = device.kernels()
    key = f"{kernels.stamp}|{meaning(noted)}"
    layouts, weak = noted.layouts, noted.weak
    raw = cache.get(key, PROGRAM) if kernels.are_kept else None
    launches = None if raw is None else read(raw, layouts)
    if launches is None:
        run = program.build(noted.graph, layouts, noted.given, (), GIVES_NONE, noted.roots, name)
        cache.put(key, written(program.paper_of(run).plan()), PROGRAM)
        return run
    steps, arena, bits, kept = launches
    kinds = program.kinds_of(layouts, weak, noted.given)
    plan = Plan(layouts, kinds, [], GIVES_NONE, (), steps, arena, bits, *kept)
    how = noted.given, weak, [], lambda: plan, name, noted.roots
    paper = program.Paper(lambda: noted.graph, layouts, *how)
    return device.machine().program(plan, paper)


# -- what an entry says


def written(plan: Plan) -> bytes:
    """The launches of a plan, for other processes.

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
    return json.dumps(entry).encode()


def read(
    raw: bytes, layouts: Sequence[Layout]
) -> tuple[list[Step], int, int, tuple[int, int, list[int]]] | None:
    """Steps, bytes of the arena, flags, and bytes, steps and arguments of what is kept, of an entry over
    arguments of these layouts; None if it is no such entry or a kernel is missing.
    """
    try:
        entry = json.loads(raw)
        names, arena, bits = entry["kernels"], entry["arena"], entry["flags"]
        kept, skips, guards = entry["kept"]
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
    return [s for s in steps if s is not None], arena, bits, (kept, skips, guards)


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


# -- what notes mean


def meaning(noted: Noted) -> str:
    """A digest of all that a Program of these notes depends on, but for the machine."""
    known: dict[int, int] = {}
    words: list[int] = [device.machine().workers.threads]
    settings = get_default_dtype().name, sorted(pipeline.switched_off())
    digest = hashlib.sha256(str(settings).encode())
    for call in noted.calls:
        at = known.get(id(call.payload))
        if at is None:
            at = known[id(call.payload)] = len(known)
            digest.update(_paper_meaning(call.paper))
        words.append(at)
        for take in call.takes:
            if take is not None:
                root, offset, is_copy = take
                words += [~root if is_copy else root, offset]
        words += [root for root, _ in filter(None, call.makes)]
    words += [-1, *noted.alive]
    digest.update(array("q", words).tobytes())
    return digest.hexdigest()


def _paper_meaning(paper: program.Paper) -> bytes:
    if not paper.meaning:
        parts = [
            _shown(paper.graph),
            str([lay and (lay.dtype.name, lay.shape, lay.strides) for lay in paper.inputs]),
            str([lay and (lay.dtype.name, lay.shape, lay.strides) for lay in paper.makes]),
            str((sorted(paper.given.items()), list(paper.weak))),
        ]
        paper.meaning = hashlib.sha256("\n".join(parts).encode()).digest()
    return paper.meaning


def _shown(graph: Graph) -> str:
    """What a graph computes, in few words: all but inputs follows from ops."""
    numbers = {id(n): i for i, n in enumerate(graph.inputs)}
    ops: dict[int, str] = {}
    lines = [str(n.spec) for n in graph.inputs]
    for node in graph.nodes():
        if id(node) not in numbers:
            numbers[id(node)] = len(numbers)
            if id(node.op) not in ops:
                ops[id(node.op)] = repr(node.op)
            lines.append(f"{ops[id(node.op)]} {node.index} {[numbers[id(x)] for x in node.inputs]}")
    lines.append(str([numbers[id(n)] for n in graph.outputs]))
    return "\n".join(lines)
