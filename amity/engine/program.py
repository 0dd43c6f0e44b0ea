"""Programs: a lowered graph, its kernels loaded, its memory planned, ready to call."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from amity.compiler.lower import lower
from amity.compiler.plan import HostCall, Launch, Lowered
from amity.core.layout import Layout
from amity.ir.graph import Graph

from . import device

NONE, TENSOR, TUPLE, FIRST = range(4)
RELEASE_GIL, SCRATCH = 1, 2
LONG_WORK = 1 << 19  # elements from which on other Python threads may run meanwhile
ALIGN = 64


class HostProgram:
    """A Program of one NumPy call."""

    def __init__(self, lowered: Lowered, call: HostCall) -> None:
        self.op, self.call = call.op, call
        self.places = lowered.places
        self.outputs = [lowered.places[p].layout for p in lowered.outputs]

    def __call__(self, *args: Any) -> Any:
        arrays = [
            device.host_array(args[self.places[p].argument], self.places[p].layout)
            for p in self.call.inputs
        ]
        out = self.op.reference(*arrays)
        out = out if isinstance(out, tuple) else (out,)
        tensors = tuple(device.from_host(a, m) for a, m in zip(out, self.outputs, strict=True))
        return tensors[0] if self.op.results == 1 else tensors


def build(
    graph: Graph,
    inputs: Sequence[Layout],
    given: dict[int, int] | None = None,
    bumps: Sequence[int] = (),
    mode: int | None = None,
) -> Callable:
    """A native callable for a graph over inputs of these layouts.

    `given` maps outputs to arguments that receive them; `bumps` are arguments whose version grows.
    """
    threads = device.machine().workers.threads
    lowered = lower(graph, inputs, device.kernels().target, threads, given)
    hosts = [s for s in lowered.steps if isinstance(s, HostCall)]
    if hosts:
        if len(lowered.steps) != 1 or given:
            raise HostInside(hosts[0].op.name)
        return HostProgram(lowered, hosts[0])
    if mode is None:
        fresh = len(graph.outputs) - len(given or {})
        mode = TENSOR if fresh == 1 else TUPLE if fresh else NONE
    return assemble(
        lowered,
        [n.spec.is_weak and n.spec.dtype.kind for n in graph.inputs],
        set(given or {}),
        bumps,
        mode,
    )


class HostInside(Exception):
    """A graph of several steps holds a NumPy call: it must run op by op."""


def assemble(
    lowered: Lowered, weak: Sequence[Any], given: set[int], bumps: Sequence[int], mode: int
) -> Callable:
    """The plan's words (their form: runtime/cpu/native.py) as a callable."""
    machine = device.machine()
    places, n = lowered.places, len(weak)
    fresh = [p for o, p in enumerate(lowered.outputs) if o not in given]
    slots, sizes, arena = _memory(lowered, n, fresh)
    kinds = [0 if not w else 1 if w == "f" else 2 for w in weak]
    words: list[int] = []
    keep: list[Any] = [places]
    for p in fresh:
        words += _output_words(machine, places, p, n)
    words += bumps
    most, flags_, work = 1, 0, 0
    for step in lowered.steps:
        meta = array("q", step.meta)
        keep.append(meta)
        address = device.kernels().address(step.key, step.build, step.label)
        words += [address, meta.buffer_info()[0], step.grid, step.grain, len(step.buffers)]
        for p in step.buffers:
            words += [slots[places[p].base], places[p].offset + sizes.get(places[p].base, 0)]
        most = max(most, len(step.buffers))
        flags_ |= SCRATCH if step.has_scratch else 0
        work += step.grid * (16384 // max(step.grain, 1) if step.grain < 16384 else 1)
    flags_ |= RELEASE_GIL if work > LONG_WORK else 0
    head = [
        n,
        len(fresh),
        len(lowered.steps),
        machine.pool(arena) if arena else 0,
        flags_,
        mode,
        len(bumps),
        most,
    ]
    plan = array("q", [*head, *kinds, *words])
    return machine.program(plan, keep)


def _output_words(machine: Any, places: Sequence[Any], p: int, n: int) -> list[int]:
    """Pool, layout and aliasing of one output."""
    place = places[p]
    if place.base < n:  # a view of an argument
        return [machine.pool(0), id(place.layout), place.base + 1, place.offset]
    return [
        machine.pool(max(place.layout.extent * place.layout.dtype.itemsize, 1)),
        id(place.layout),
        0,
        0,
    ]


def _memory(
    lowered: Lowered, n: int, fresh: Sequence[int]
) -> tuple[dict[int, int], dict[int, int], int]:
    """Slot of every base place, offset of temporaries in the arena, and the arena's bytes.

    Temporaries whose lives do not meet share memory: first fit over their intervals.
    """
    places = lowered.places
    slots = {i: i for i in range(n)}
    for o, p in enumerate(fresh):
        slots.setdefault(places[p].base, n + o)
    life: dict[int, list[int]] = {}
    for t, step in enumerate(lowered.steps):
        for p in step.buffers:
            base = places[p].base
            if base not in slots:
                life.setdefault(base, [t, t])[1] = t
    offsets: dict[int, int] = {}
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    total = 0
    for base, (first, last) in sorted(life.items(), key=lambda kv: -places[kv[0]].layout.nbytes):
        need = max(places[base].layout.nbytes, 1) + ALIGN - 1 & -ALIGN
        at = 0
        for offset, end, a, z in sorted(placed):
            if a <= last and first <= z and offset < at + need and at < end:
                at = end
        placed.append((at, at + need, first, last))
        offsets[base] = at
        total = max(total, at + need)
    for base in life:
        slots[base] = n + len(fresh)
    return slots, offsets, total


def describe(lowered: Lowered) -> str:
    """The steps of a lowered graph as lines, for people."""
    lines = []
    for step in lowered.steps:
        if isinstance(step, Launch):
            lines.append(
                f"{step.label} grid={step.grid} grain={step.grain} buffers={list(step.buffers)}"
            )
        else:
            lines.append(f"host {step.op.name} {list(step.inputs)} -> {list(step.outputs)}")
    return "\n".join(lines)
