"""What runs while somebody watches: each native call and its kernels, with their times.

A machine tells a recorder of a thread's calls, as it does while functions are compiled; this recorder
runs each call with a clock between its kernels. While nobody watches, nothing is asked of any call.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from amity.core.layout import Layout
from amity.ir.graph import Graph
from amity.runtime import plan

from . import device, lines, program

NOW = time.perf_counter_ns
KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)
RUNS = 5  # to find how long kernels take
SURPLUS = 18  # digits of a kernel's name that tables do without
OP, RUN, RANGE = "cpu_op", "kernel", "user_annotation"  # kinds of events


@dataclass(eq=False, slots=True)
class Event:
    """A call, a kernel in it, or a range of the user's; times in nanoseconds, memory in bytes."""

    name: str
    kind: str
    start: int
    thread: int
    end: int = 0
    input_shapes: list[list[int]] = field(default_factory=list)
    input_types: list[str] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    flops: int = 0
    memory: int = 0  # that results take
    cpu_parent: Event | None = None
    cpu_children: list[Event] = field(default_factory=list)

    count = 1

    @property
    def key(self) -> str:
        """What events are averaged by."""
        return self.name

    @property
    def is_user_annotation(self) -> bool:
        """Whether it is a range of the user's."""
        return self.kind == RANGE

    @property
    def cpu_time_total(self) -> float:
        """Microseconds from start to end."""
        return (self.end - self.start) / 1e3

    cpu_time = cpu_time_total

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds outside of what it called."""
        return self.cpu_time_total - sum(c.cpu_time_total for c in self.cpu_children)

    @property
    def self_cpu_memory_usage(self) -> int:
        """Bytes that its own results take."""
        return self.memory

    @property
    def cpu_memory_usage(self) -> int:
        """Bytes that results take, its own and those of what it called."""
        return self.memory + sum(c.cpu_memory_usage for c in self.cpu_children)

    def __repr__(self) -> str:
        return f"<Event {self.name} cpu_time={self.cpu_time_total:.3f}us thread={self.thread}>"


@dataclass(slots=True)
class Timed:
    """A call's Program with clocks in it, and what is known of it before it runs."""

    run: Callable
    name: str
    kernels: list[str]
    lines: list[str]  # of the user's program, for each kernel; none if stacks are not wanted
    memory: int
    flops: int
    paper: Any  # kept, as it is known by its identity


class Watch:
    """Runs and times the calls of the thread that starts it."""

    wants_lines = False

    def __init__(self, shapes: bool, memory: bool, stacks: bool, flops: bool) -> None:
        self.shapes, self.memory, self.stacks, self.flops = shapes, memory, stacks, flops
        self.events: list[Event] = []
        self.open: dict[int, list[Event]] = {}  # by thread
        self.began = self.ended = 0
        self._timed: dict[int, Timed] = {}
        self._ticks: list[int] = []
        self._clock = KERNEL(lambda *_: self._ticks.append(NOW()))
        self._tick = plan.Step(
            ctypes.cast(self._clock, ctypes.c_void_p).value or 0, array("q", [0]), 1, 1, ()
        )
        self._cost = self._measured()

    def _measured(self) -> int:
        """Nanoseconds between two ticks with nothing in between."""
        ticks = plan.Plan([], [], [], plan.GIVES_NONE, steps=[self._tick] * 50, flags=plan.UNTOLD)
        device.machine().program(ticks)()
        times, self._ticks = self._ticks, []
        return min((b - a for a, b in zip(times, times[1:], strict=False)), default=0)

    def start(self) -> None:
        """Watch this thread from now on."""
        self.began = NOW()
        self._before = device.watch(self, threading.get_ident())

    def stop(self) -> None:
        """Watch no more."""
        device.watch(*self._before)
        self.ended = NOW()
        for events in self.open.values():
            for event in events:
                event.end = self.ended
        self.open.clear()

    def enter(self, name: str, kind: str) -> Event:
        """The beginning of something, in whatever this thread is in."""
        thread = threading.get_ident()
        around = self.open.setdefault(thread, [])
        event = Event(name, kind, NOW(), thread)
        if around:
            event.cpu_parent = around[-1]
            around[-1].cpu_children.append(event)
        around.append(event)
        self.events.append(event)
        return event

    def leave(self, event: Event) -> None:
        """Its end."""
        around = self.open.get(event.thread, [])
        if event in around:  # else the watch ended meanwhile
            event.end = NOW()
            del around[around.index(event) :]

    def __call__(self, payload: Any, result: Any, *args: Any) -> Any:
        """A call that the machine tells of: its memory is there, its writes are counted."""
        del result
        out = []
        self._time(payload.paper, lambda run: out.append(run(*args)), args)
        return out[0]

    def host(self, call: program.HostProgram, args: Sequence[Any]) -> Any:
        """A call of NumPy."""
        event = self.enter(call.op.name, OP)
        try:
            out = call.run(*args)
        finally:
            self.leave(event)
        self._describe(event, args, sum(m.nbytes for m in call.outputs))
        return out

    def replay(self, paper: program.Paper, targets: Sequence[int]) -> None:
        """Run a segment's Program over what was noted; results go to the roots `targets`."""
        tensors = [None if w else m for m, w in zip(paper.inputs, paper.weak, strict=True)]
        event = self._time(paper, lambda run: device.machine().replayer(run, targets)(), tensors)
        if self.memory:  # that was allocated while calls were noted
            end = len(tensors) - sum(map(bool, paper.weak))
            event.memory = sum(m.nbytes for m in paper.inputs[end - len(targets) : end])

    def _time(self, paper: program.Paper, call: Callable, args: Sequence[Any]) -> Event:
        timed = self._timed.get(id(paper))
        if timed is None:
            timed = self._timed[id(paper)] = self._prepare(paper)
        event = self.enter(timed.name, OP)
        try:
            call(timed.run)
        finally:
            self.leave(event)
            ticks, self._ticks = self._ticks, []
        event.flops = timed.flops
        self._describe(event, args, timed.memory)
        skipped = max(len(timed.kernels) + 1 - len(ticks), 0)  # as what they make was kept
        for name, (a, b) in zip(timed.kernels[skipped:], pairwise(ticks), strict=False):
            took = max(b - a - self._cost, 0)
            kernel = Event(name, RUN, a + self._cost // 2, event.thread, a + self._cost // 2 + took)
            kernel.cpu_parent = event
            event.cpu_children.append(kernel)
            self.events.append(kernel)
        for kernel, line in zip(event.cpu_children, timed.lines[skipped:], strict=False):
            kernel.stack = [line] if line else []
        return event

    def kernel_times(
        self, paper: program.Paper, arguments: Callable[[], Sequence[Any]]
    ) -> list[tuple[str, int]]:
        """Each launch of a Program with the nanoseconds that it takes: the least of a few runs, each on
        arguments made anew.
        """
        timed, best = self._prepare(paper), [1 << 62] * len(paper.plan().steps)
        for _ in range(RUNS):
            values = arguments()
            self._ticks = []
            timed.run(*values)
            took = [b - a - self._cost for a, b in pairwise(self._ticks)]
            skipped = len(best) - len(took)  # as what they make was kept
            best[skipped:] = [min(pair) for pair in zip(best[skipped:], took, strict=True)]
        self._ticks = []
        return [(name, max(ns, 0)) for name, ns in zip(timed.kernels, best, strict=True)]

    def _prepare(self, paper: program.Paper) -> Timed:
        whole = paper.plan()
        steps = []
        for step in whole.steps:
            steps += [self._tick, step]
        steps.append(self._tick)
        bits, skips = whole.flags | plan.UNTOLD, 2 * whole.skips
        ticking = replace(whole, steps=steps, bumps=(), flags=bits, skips=skips)
        return Timed(
            device.machine().program(ticking),
            paper.name,
            [s.name[:-SURPLUS] for s in whole.steps],
            _lines_of(paper) if self.stacks else [],
            sum(o.layout.nbytes for o in whole.outputs if o.source < 0),
            flops_of(paper.graph) if self.flops else 0,
            paper,
        )

    def _describe(self, event: Event, args: Sequence[Any], memory: int) -> None:
        if self.memory:
            event.memory = memory
        if self.shapes:
            layouts = [a if isinstance(a, Layout) else getattr(a, "layout", None) for a in args]
            event.input_shapes = [list(m.shape) if m else [] for m in layouts]
            event.input_types = [m.dtype.name if m else "Scalar" for m in layouts]
        if self.stacks:
            event.stack = lines.stack()


def _lines_of(paper: program.Paper) -> list[str]:
    """For each launch of a Program the line of the user's that asked for what it makes."""
    lowered = paper.lower(paper.passed)
    first, _ = program.worth_keeping(lowered, paper.plan().kinds, paper.given, paper.roots)
    found = [[n.where.line for n, _ in s.makes] for s in program.in_order(lowered, first)]
    return [next(filter(None, lines), "") for lines in found]


def flops_of(graph: Graph) -> int:
    """Multiplications and additions of the products and convolutions of a graph."""
    total = 0
    for node in graph.nodes():
        if node.op is None or node.index:
            continue
        shapes = [n.spec.shape for n in node.inputs]
        size = math.prod(node.spec.shape)
        if node.op.name in ("matmul", "linear", "panel_linear"):
            total += 2 * size * shapes[0][-1]
        elif node.op.name == "addmm":
            total += 2 * size * shapes[1][-1]
        elif node.op.name == "convolution":
            total += 2 * size * math.prod(shapes[1][1:])
        elif node.op.name == "conv_grad_input":
            total += 2 * math.prod(shapes[0]) * math.prod(shapes[1][1:])
        elif node.op.name == "conv_grad_weight":
            total += 2 * math.prod(shapes[1]) * math.prod(node.spec.shape[1:])
    return total
