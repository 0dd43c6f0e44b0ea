"""Segments: eager calls noted instead of run, until a value is looked at; then one Program does all.

While a thread records, every eager call still checks its arguments, finds its plan, allocates its
results and writes the tape; only kernels wait. The recorder is told of each call, so it knows what is
read and written where. The same notes mean the same work: they are the key of a Program made of the
graphs of all calls, whose inputs are what the segment found in memory and whose outputs are what is
still alive at its end. Python runs each time, so nothing that it does is missed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amity.compiler.simplify import Builder
from amity.core.layout import Layout, layout
from amity.ir.graph import Graph, Node, Spec

from . import deferral, device, program

SEGMENTS_KEPT = 1024


@dataclass(slots=True)
class Segment:
    """A compiled segment: the Program, and whence its arguments come."""

    run: Callable
    targets: list[tuple[int, Layout]]  # memory made in the segment, to be filled: (root, layout)
    graph: Graph
    calls: list[Call]
    end: str = ""  # why it ended, when it was first met
    seconds: float = 0.0  # to compile it
    uses: int = 0


@dataclass(slots=True)
class Call:
    """One noted call: what it does, the memory (root, offset in bytes) of the tensors it takes, None
    for a number, and the memory that it makes, None for a view of what it takes.
    """

    paper: program.Paper
    takes: list[tuple[int, int] | None] = field(default_factory=list)
    makes: list[tuple[int, Layout] | None] = field(default_factory=list)


class Recorder:
    """Notes the calls of one thread. A *root* is memory, by the order in which the segment met it."""

    def __init__(self, segments: dict[tuple, Segment], is_whole: bool = False) -> None:
        """`is_whole` forbids that a segment ends before the function does."""
        self.segments, self.is_whole = segments, is_whole
        self._begin()

    def _begin(self) -> None:
        self.calls: list[Call] = []
        self.key: list[Any] = []
        self.numbers: list[Any] = []
        self.roots: list[Any] = []  # storages
        self.order: dict[int, int] = {}  # id(storage) -> root
        self.holds: dict[int, Layout] = {}  # what a root holds all over, where the segment wrote it
        self.made: set[int] = set()  # roots that the segment made
        self.reads: dict[tuple, Any] = {}  # (root, offset, layout) of memory as it was -> a storage
        self.copied: set[tuple] = set()  # those of which a copy is read

    def start(self) -> None:
        """Note this thread's calls from now on."""
        deferral.start(self)
        device.record(self)

    def stop(self) -> None:
        """Run calls again."""
        deferral.stop()
        device.record(None)

    def knows(self, storage: Any) -> bool:
        """Whether a noted call reads or writes this memory."""
        return id(storage.root) in self.order

    def is_pending(self, storage: Any) -> bool:
        """Whether this memory waits for a noted call."""
        return self.order.get(id(storage.root)) in self.holds

    def paused(self) -> Pause:
        """Calls inside run at once."""
        return Pause(self)

    # -- noting
    def __call__(self, payload: Any, result: Any, *args: Any) -> Any:
        paper = payload.paper
        if not self._fits(paper, args):
            self.flush("memory is written in part, or seen otherwise than it was written")
            if not self._renews(paper, args):
                with Pause(self):
                    return device.machine().callable(payload)(*args)
        call = Call(paper)
        self.key.append(paper)
        for value, lay, is_number in zip(args, paper.inputs, paper.weak, strict=True):
            if is_number:
                self.numbers.append(value)
                call.takes.append(None)
                continue
            at = self._at(value.storage)
            self.key += at
            if at[0] not in self.holds and (*at, lay) not in self.reads:
                self.reads[*at, lay] = self._as_now(value.storage, (*at, lay))
            call.takes.append(at)
        for a in paper.given.values():
            self.holds[call.takes[a][0]] = paper.inputs[a]
        if len(paper.given) < len(paper.graph.outputs):
            for t in result if type(result) is tuple else (result,):
                is_new = id(t.storage.root) not in self.order
                root, _ = self._at(t.storage)
                if is_new:
                    self.holds[root] = t.layout
                    self.made.add(root)
                call.makes.append((root, t.layout) if is_new else None)
        self.calls.append(call)
        return result

    def _at(self, storage: Any) -> tuple[int, int]:
        root = storage.root
        number = self.order.get(id(root))
        if number is None:
            number = self.order[id(root)] = len(self.roots)
            self.roots.append(root)
        return number, storage.data - root.data

    def _as_now(self, storage: Any, key: tuple) -> Any:
        """Memory as it is; a copy, if others may write to it before it is read."""
        if storage.root.owner is None:
            return storage
        self.copied.add(key)
        self.key.append("copied")
        return device.copy_storage(storage, key[2])

    def _is_whole(self, t: Any, lay: Layout) -> bool:
        """Whether a write to a tensor renews all that a root holds."""
        root = t.storage.root
        number = self.order.get(id(root))
        if t.storage.data != root.data or not lay.is_dense or root.owner is not None:
            return False
        if number is None:
            return True
        held = self.holds.get(number)
        if held is not None:
            return held.nbytes == lay.nbytes and held.dtype is lay.dtype
        return all(
            (offset, seen.nbytes) == (0, lay.nbytes)
            for (r, offset, seen) in self.reads
            if r == number
        )

    def _fits(self, paper: program.Paper, args: Sequence[Any]) -> bool:
        """Whether what a call reads and writes can be told from what the roots hold."""
        for value, lay, is_number in zip(args, paper.inputs, paper.weak, strict=True):
            if is_number:
                continue
            storage = value.storage
            held = self.holds.get(self.order.get(id(storage.root), -1))
            offset = storage.data - storage.root.data
            if held is None or (held is lay and not offset):
                continue
            if held.dtype is not lay.dtype or offset % lay.dtype.itemsize:
                return False
            if offset + lay.extent * lay.dtype.itemsize > held.nbytes:
                return False
        return self._renews(paper, args)

    def _renews(self, paper: program.Paper, args: Sequence[Any]) -> bool:
        return all(self._is_whole(args[a], paper.inputs[a]) for a in paper.given.values())

    # -- running
    def finish(self) -> None:
        """Run what is left when the function ends."""
        self.is_whole = False
        self.flush("the function ends")

    def flush(self, reason: str = "a value is looked at") -> None:
        """Run what was noted."""
        if not self.calls:
            return
        if self.is_whole:
            raise RuntimeError(
                f"compile: got fullgraph=True, but here {reason}; expected one graph"
            )
        with Pause(self):
            # held by the list, the loop, getrefcount's argument, and by whoever will look at it
            alive = [r for r in range(len(self.roots)) if r in self.made and self._is_alive(r)]
            written = [r for r in self.holds if r not in self.made]
            key = (*self.key, *alive)
            segment = self.segments.get(key)
            if segment is None:
                if len(self.segments) >= SEGMENTS_KEPT:
                    self.segments.clear()
                start = time.perf_counter()
                segment = self.segments[key] = self._compile(alive, written)
                segment.end, segment.seconds = reason, time.perf_counter() - start
            segment.uses += 1
            make = device.machine().make
            targets = [make(self.roots[r], lay) for r, lay in segment.targets]
            reads = [make(storage, lay) for (_, _, lay), storage in self.reads.items()]
            numbers = self.numbers
            self._begin()
            segment.run(*reads, *targets, *numbers)

    def _is_alive(self, r: int) -> bool:
        return sys.getrefcount(self.roots[r]) > 2

    def _compile(self, alive: Sequence[int], written: Sequence[int]) -> Segment:
        builder = Builder()
        inputs = {
            key: Node(None, (), Spec(tuple(key[2].shape), key[2].dtype)) for key in self.reads
        }
        numbers: list[Node] = []
        holds: dict[int, tuple[Node, Layout]] = {}
        for call in self.calls:
            values = []
            for at, lay in zip(call.takes, call.paper.inputs, strict=True):
                if at is None:
                    spec = Spec((), lay.dtype, True)
                    numbers.append(Node(None, (), spec))
                    values.append(numbers[-1])
                elif at[0] in holds:
                    values.append(builder.seen(*holds[at[0]], lay, at[1]))
                else:
                    values.append(inputs[*at, lay])
            results = builder.inline(call.paper.graph, values)
            made = iter(call.makes)
            for o, value in enumerate(results):
                if o in call.paper.given:
                    a = call.paper.given[o]
                    holds[call.takes[a][0]] = value, call.paper.inputs[a]
                elif (new := next(made)) is not None:
                    holds[new[0]] = value, new[1]
        return self._program(inputs, numbers, holds, [*alive, *written])

    def _program(
        self,
        inputs: dict[tuple, Node],
        numbers: list[Node],
        holds: dict[int, tuple[Node, Layout]],
        wanted: Sequence[int],
    ) -> Segment:
        places = list(inputs)
        nodes = list(inputs.values())
        targets: list[tuple[int, Layout]] = []
        outputs: list[Node] = []
        given: dict[int, int] = {}
        for root in wanted:
            value, lay = holds[root]
            at = (root, 0, lay)
            if at not in inputs or at in self.copied:
                given[len(outputs)] = len(places)
                places.append(at)
                nodes.append(Node(None, (), value.spec))
                targets.append((root, lay))
            else:
                given[len(outputs)] = places.index(at)
            outputs.append(value)
        roots = [
            -1 - i if at in self.copied and i < len(inputs) else at[0]
            for i, at in enumerate(places)
        ]
        roots += range(len(self.roots), len(self.roots) + len(numbers))
        layouts = [lay for _, _, lay in places] + [layout(n.spec.dtype, ()) for n in numbers]
        graph = Graph([*nodes, *numbers], outputs)
        run = nothing
        if outputs:
            name = f"segment {len(self.segments)}"
            run = program.build(graph, layouts, given, (), program.NONE, roots, name)
        return Segment(run, targets, graph, self.calls)


def nothing(*_: Any) -> None:
    """A segment whose results nobody looks at."""


class Pause:
    """Runs calls instead of noting them, inside."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __enter__(self) -> None:
        self.recorder.stop()

    def __exit__(self, *exc: object) -> None:
        self.recorder.start()
