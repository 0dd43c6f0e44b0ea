"""Programs: a lowered graph, its kernels loaded, its memory planned, ready to call."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amity.compiler import pipeline, recompute
from amity.compiler.again import NOTHING, Again
from amity.compiler.memory import Memory
from amity.compiler.plan import GRAIN_WORK, HostCall, Launch, Lowered, Place
from amity.core import flags
from amity.core.layout import Layout
from amity.ir.graph import Graph
from amity.runtime import plan
from amity.runtime.cpu.blocks import check_size

from . import deferral, device, stages
from .kernels import Found

NONE, TENSOR = plan.GIVES_NONE, plan.GIVES_TENSOR
TUPLE, FIRST = plan.GIVES_TUPLE, plan.GIVES_FIRST
KINDS = {False: plan.TENSOR, "f": plan.FLOAT}  # of an argument, by the kind of number that it is
LONG_WORK = 1 << 19  # elements from which on other Python threads may run meanwhile


class HostProgram:
    """A Program of one NumPy call."""

    def __init__(self, lowered: Lowered, call: HostCall, mode: int) -> None:
        self.op, self.mode = call.op, mode
        self.inputs = [lowered.places[p] for p in call.inputs]
        self.outputs = [lowered.places[p].layout for p in lowered.outputs]

    def __call__(self, *args: Any) -> Any:
        watcher = device.watcher()
        return self.run(*args) if watcher is None else watcher.host(self, args)

    def arrays(self, args: Sequence[Any]) -> list[Any]:
        """What NumPy is given of a call's arguments."""
        return [device.host_array(args[p.argument], p.layout) for p in self.inputs]

    def run(self, *args: Any) -> Any:
        """The results of the call."""
        if flags.device == "null":
            tensors = tuple(device.blank(m) for m in self.outputs)
        else:
            with np.errstate(all="ignore"):  # a NaN is a result like any other
                out = self.op.reference(*self.arrays(args))
            out = out if isinstance(out, tuple) else (out,)
            pairs = zip(out, self.outputs, strict=True)
            tensors = tuple(device.from_host(a, m) for a, m in pairs)
        return tensors[0] if self.mode == TENSOR else tensors


@dataclass(slots=True, eq=False)
class Paper:
    """What a Program does, for those who do not run it yet: a graph over layouts.

    `given` maps outputs to arguments that receive them; `weak` tells which arguments are numbers;
    `makes` are the layouts of the other outputs, None for a view of an argument; `name` is what
    profiles call it; `again` tells which nodes are computed more than once.
    """

    source: Graph | Callable[[], Graph]
    inputs: Sequence[Layout]
    given: dict[int, int]
    weak: Sequence[Any]
    makes: Sequence[Layout | None]
    plan: Callable[[], plan.Plan]  # with all its steps
    name: str
    roots: Sequence[int] | None = None  # equal numbers for inputs that share memory
    laid: Sequence[Layout | None] = ()  # layouts that outputs shall have
    frame: tuple[bytes, Any, Any] | None = None  # what numbers.py tells of it
    again: Again = NOTHING

    @property
    def graph(self) -> Graph:
        """What it computes."""
        if not isinstance(self.source, Graph):
            self.source = self.source()
        return self.source

    @property
    def passed(self) -> Graph:
        """The graph after passes."""
        return pipeline.run(self.graph, self.again.rounds)

    def lower(self, graph: Graph) -> Lowered:
        """Launches for its graph after passes."""
        return lower_here(graph, self.inputs, self.given, self.roots, self.laid)


def lower_here(
    graph: Graph,
    inputs: Sequence[Layout],
    given: dict[int, int],
    roots: Sequence[int] | None,
    laid: Sequence[Layout | None] = (),
    is_late: bool = False,
) -> Lowered:
    """Launches for a graph on this machine."""
    from amity.compiler.lower import lower  # lazy: forty modules, for those who run an op

    threads = device.machine().workers.threads
    return lower(graph, inputs, device.kernels().target, threads, given, roots, laid, is_late)


def build(
    graph: Graph,
    inputs: Sequence[Layout],
    given: dict[int, int] | None = None,
    bumps: Sequence[int] = (),
    mode: int | None = None,
    roots: Sequence[int] | None = None,
    name: str = "",
    makes: Sequence[Layout | None] = (),
    recomputes: bool = False,
) -> Callable:
    """A native callable for a graph over inputs of these layouts.

    `given` maps outputs to arguments that receive them; `bumps` are arguments whose version grows;
    `roots` tells which arguments share memory, by equal numbers. While calls are recorded, kernels
    are left to the first call that runs. `name`: see `Paper`. `makes`: layouts that outputs shall
    have. `recomputes`: whether values may be computed again, to be kept no longer.
    """
    machine, given = device.machine(), dict(given or {})

    def lowering() -> Lowered:
        return lower_here(pipeline.run(graph), inputs, given, roots, makes)

    fresh = len(graph.outputs) - len(given)
    if mode is None:
        mode = TENSOR if fresh == 1 else TUPLE if fresh else NONE
    weak = [n.spec.is_weak and n.spec.dtype.kind for n in graph.inputs]
    lowered, outputs = None, []
    waits = deferral.recorder() is not None
    if fresh or not waits or _hosts(graph):
        lowered = lowering()
        hosts = [s for s in lowered.steps if isinstance(s, HostCall)]
        if hosts:
            if len(lowered.steps) != 1 or given:
                raise HostInside(hosts[0].op.name)
            return HostProgram(lowered, hosts[0], mode)
        fresh_places = [p for o, p in enumerate(lowered.outputs) if o not in given]
        outputs = [_output(lowered.places[p], len(weak)) for p in fresh_places]
    kinds = kinds_of(inputs, weak, given)
    outline = plan.Plan(inputs, kinds, outputs, mode, list(bumps), flags=plan.UNBUILT)
    made = [o.layout if o.source < 0 else None for o in outputs]

    def whole() -> plan.Plan:
        whole = with_steps(lowered or lowering(), outline, given, roots is None, roots=roots)
        if flags.show:
            stages.tell(paper, whole)
        return whole

    name = name or next((n.op.name for n in graph.outputs if n.op is not None), "nothing")
    paper = Paper(graph, inputs, given, weak, made, whole, name, roots, makes)
    if recomputes:
        lowered, paper.again = chosen(paper, lowered or lowering(), outline.kinds)
    if waits:
        return machine.program(outline, paper)
    built = whole()
    paper.plan = lambda: built
    return machine.program(built, paper)


def chosen(paper: Paper, lowered: Lowered, kinds: Sequence[int]) -> tuple[Lowered, Again]:
    """What of a lowered graph is worth to be computed again, and the graph lowered so."""

    def lay_out(lowered: Lowered) -> Memory:
        keep, _ = worth_keeping(lowered, kinds, paper.given, paper.roots)
        return Memory(lowered, paper.given, keep)

    return recompute.choose(lowered, paper.lower, lay_out)


def paper_of(run: Callable) -> Paper:
    """What a Program that `build` gave does."""
    return getattr(run, "__self__", run).paper


class HostInside(Exception):
    """A graph of several steps holds a NumPy call: it must run op by op."""


def _hosts(graph: Graph) -> bool:
    """Whether a graph holds a NumPy call."""
    return any(n.op is not None and n.op.kind == "host" for n in graph.nodes())


def kinds_of(inputs: Sequence[Layout], weak: Sequence[Any], given: dict[int, int]) -> list[int]:
    """The kinds of arguments of these layouts, of which some are numbers and some receive outputs."""
    kinds = [KINDS.get(w, plan.INT) for w in weak]
    for a in given.values():
        kinds[a] = plan.FILLED if inputs[a].is_dense else plan.FILLED_IN_PART
    return kinds


def with_steps(
    lowered: Lowered,
    outline: plan.Plan,
    given: dict[int, int],
    is_lone: bool = False,
    find: Callable[..., Found] | None = None,
    roots: Sequence[int] | None = None,
) -> plan.Plan:
    """The plan with kernels, loaded, and memory for what lies between them; of a lone op also what
    other sizes choose among. `find` gives kernels by key; `roots`, of a segment, tell which arguments
    share memory.
    """
    places, find = lowered.places, find or device.kernels().find
    first, guards = worth_keeping(lowered, outline.kinds, given, roots)
    memory = Memory(lowered, given, first)
    steps, bits, work = [], 0, 0
    for step in in_order(lowered, first):
        address, name = find(step.key, step.build, step.label)
        used = [places[p] for p in step.buffers]
        buffers = [memory.at(x) for x in used]
        steps.append(
            plan.Step(address, array("q", step.meta), step.grid, step.grain, buffers, name)
        )
        bits |= plan.SCRATCH if step.has_scratch else 0
        units = step.grid * (GRAIN_WORK // max(step.grain, 1) if step.grain < GRAIN_WORK else 1)
        work += max(units, sum(x.layout.numel for x in used))  # products have few units, long ones
    used = [(s.key, s.kin) for s in lowered.steps if s.grid]
    if used and is_lone:
        device.kernels().complete(used, lowered.family)
    bits |= plan.RELEASE_GIL if work > LONG_WORK else 0
    o, keeping = outline, (memory.kept, len(first), guards)
    how = (steps, memory.arena, bits, *keeping)
    return plan.Plan(o.inputs, o.kinds, o.outputs, o.result, o.bumps, *how)


def in_order(lowered: Lowered, first: Sequence[Launch]) -> list[Launch]:
    """The launches of a Program, some of them first; not those that have nothing to compute."""
    early = {id(s) for s in first}
    return [s for s in [*first, *[s for s in lowered.steps if id(s) not in early]] if s.grid]


def worth_keeping(
    lowered: Lowered, kinds: Sequence[int], given: dict[int, int], roots: Sequence[int] | None
) -> tuple[list[Launch], list[int]]:
    """The launches whose results a segment keeps from call to call, and the arguments that they read,
    each other's results apart: memory that calls find as it is, and that this Program does not write.
    """
    if roots is None or not pipeline.is_on("keep"):
        return [], []
    written = {roots[a] for a in given.values()}
    found: list[Launch] = []
    guards: set[int] = set()
    kept: set[int] = set()  # what they make
    for step in lowered.steps:
        if isinstance(step, Launch) and step.keeps and step.grid:
            reads = {lowered.places[p].base for p in step.buffers[:-1]} - kept
            if all(
                a < len(kinds) and kinds[a] == plan.TENSOR and 0 <= roots[a] not in written
                for a in reads
            ):
                found.append(step)
                guards |= reads
                kept.add(lowered.places[step.buffers[-1]].base)
    return found, sorted(guards)


def _output(place: Place, arguments: int) -> plan.Output:
    """A view of an argument, or memory of its own."""
    if place.base < arguments:
        return plan.Output(place.layout, source=place.base, offset=place.offset)
    nbytes = max(place.layout.extent * place.layout.dtype.itemsize, 1)
    return plan.Output(place.layout, check_size(nbytes))
