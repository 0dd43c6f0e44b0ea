"""Segments: eager calls noted instead of run, until a value is looked at; then one Program does all.

While a thread records, every eager call still checks its arguments, finds its plan, allocates its
results and writes the tape; only kernels wait. Of each call a note is made (runtime/cpu/notes.py) of
what it reads and writes where: by native code in the usual cases, else by the recorder, which does the
same. The same notes mean the same work: they are the key of a Program made of the graphs of all calls,
whose inputs are what the segment found in memory and whose outputs are what is still alive at its end.
Python runs each time, so nothing that it does is missed.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from amity.compiler.assemble import inline, seen
from amity.core.layout import Layout, layout
from amity.ir.graph import Graph, Node, Spec
from amity.runtime.cpu.notes import object_at

from . import deferral, device, program

SEGMENTS_KEPT = 1024


@dataclass(slots=True)
class Call:
    """One noted call: what it does, the memory (root, offset in bytes, whether a copy is read) of the
    tensors it takes, None for a number, and the memory that it makes, None for a view of what it takes.
    """

    payload: Any
    takes: list[tuple[int, int, bool] | None]
    makes: list[tuple[int, Layout] | None]

    @property
    def paper(self) -> program.Paper:
        return self.payload.paper


@dataclass(slots=True)
class Segment:
    """A compiled segment: what runs it over the notes, if it does anything its program, and whence."""

    run: Callable[[], None]
    program: Callable | None
    targets: Sequence[int]  # roots made in the segment, to be filled, or read through other layouts
    graph: Graph
    calls: list[Call]  # whose payloads live as long as the key that tells of them
    end: str = ""  # why it ended, when it was first met
    seconds: float = 0.0  # to compile it
    uses: int = 0


class Recorder:
    """Notes the calls of one thread."""

    def __init__(self, segments: dict[bytes, Segment], is_whole: bool = False) -> None:
        """`is_whole` forbids that a segment ends before the function does."""
        self.segments, self.is_whole = segments, is_whole
        self.machine = device.machine()
        self.notes = self.machine.notes
        self.aside = Aside(self)
        self.copies: list[Any] = []  # of memory that others may write

    def start(self) -> None:
        """Note this thread's calls from now on."""
        deferral.start(self)
        self.machine.note(self)

    def stop(self) -> None:
        """Run calls again."""
        deferral.stop()
        device.note(None)

    def knows(self, storage: Any) -> bool:
        """Whether a noted call reads or writes this memory."""
        return storage.root.mark != 0

    def is_pending(self, storage: Any) -> bool:
        """Whether this memory waits for a noted call."""
        root = storage.root
        return root.mark != 0 and self.notes.held(root) is not None

    # -- noting what native code did not
    def __call__(self, payload: Any, result: Any, *args: Any) -> Any:
        paper, notes = payload.paper, self.notes
        if not self._fits(paper, args):
            self.flush("memory is written in part, or seen otherwise than it was written")
            if not self._renews(paper, args):
                with Pause(self):
                    return self.machine.callable(payload)(*args)
        copies = self._copies(paper, args)
        notes.make_room(len(args) + len(paper.makes))
        try:
            self._note(payload, result, args, copies)
        except BaseException:  # a key was pressed: what was noted in part cannot be run
            self.machine.forget()
            raise
        return result

    def _copies(self, paper: program.Paper, args: Sequence[Any]) -> dict[tuple, Any]:
        """Copies of what a call is the first to read in memory that others may write meanwhile."""
        made: dict[tuple, Any] = {}
        for value, lay, is_number in zip(args, paper.inputs, paper.weak, strict=True):
            if is_number or value.storage.root.owner is None:
                continue
            root, address = value.storage.root, value.storage.data
            is_new = (address - root.data, lay) not in self.notes.reads(root)
            if is_new and (id(root), address, lay) not in made:
                made[id(root), address, lay] = device.copy_storage(value.storage, lay)
        self.copies += made.values()
        return made

    def _note(self, payload: Any, result: Any, args: Sequence[Any], copies: dict) -> None:
        paper, notes = payload.paper, self.notes
        notes.add_call(payload)
        for value, lay, kind in zip(args, paper.inputs, paper.weak, strict=True):
            if kind:
                notes.add_number(value, kind == "f")
            else:
                self._take(value.storage, lay, copies)
        for a in paper.given.values():
            notes.hold(notes.number(args[a].storage.root), paper.inputs[a], False)
        if paper.makes:
            made = result if type(result) is tuple else (result,)
            for t, lay in zip(made, paper.makes, strict=True):
                if lay is not None:
                    number = notes.number(t.storage)
                    notes.add_word(number)
                    notes.hold(number, lay, True)

    def _take(self, storage: Any, lay: Layout, copies: dict) -> None:
        """Note an argument."""
        notes, root = self.notes, storage.root
        number, offset, address = notes.number(root), storage.data - root.data, storage.data
        copy = copies.pop((id(root), address, lay), None)
        notes.add_word(number if copy is None else ~number)
        notes.add_word(offset)
        if notes.held(root) is None and (offset, lay) not in notes.reads(root):
            notes.add_read(number, address if copy is None else copy.data, offset, lay)

    def _fits(self, paper: program.Paper, args: Sequence[Any]) -> bool:
        """Whether what a call reads and writes can be told from what the roots hold."""
        for value, lay, is_number in zip(args, paper.inputs, paper.weak, strict=True):
            if is_number:
                continue
            storage = value.storage
            held = self.notes.held(storage.root)
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

    def _is_whole(self, t: Any, lay: Layout) -> bool:
        """Whether a write to a tensor renews all that a root holds."""
        root = t.storage.root
        if t.storage.data != root.data or not lay.is_dense or root.owner is not None:
            return False
        held = self.notes.held(root)
        if held is not None:
            return held.nbytes == lay.nbytes and held.dtype is lay.dtype
        return all(
            (offset, seen.nbytes) == (0, lay.nbytes) for offset, seen in self.notes.reads(root)
        )

    # -- running
    def finish(self) -> None:
        """Run what is left when the function ends."""
        try:
            self._run("the function ends")
        except BaseException:
            self.machine.forget()
            raise

    def flush(self, reason: str = "a value is looked at") -> None:
        """Run what was noted."""
        if self.is_whole and not self.notes.is_empty:
            raise RuntimeError(
                f"compile: got fullgraph=True, but here {reason}; expected one graph"
            )
        self._run(reason)

    def _run(self, reason: str) -> None:
        key = self.machine.seal()
        if key is None:
            return
        segment = self.segments.get(key)
        if segment is None:
            with Pause(self):
                segment = self._compiled(key, reason)
        segment.uses += 1
        watcher = device.watcher()
        if watcher is None or segment.program is None:
            segment.run()
        else:
            watcher.replay(program.paper_of(segment.program), segment.targets)
        if self.copies:
            self.copies = []

    def _compiled(self, key: bytes, reason: str) -> Segment:
        if len(self.segments) >= SEGMENTS_KEPT:
            self.segments.clear()
        start = time.perf_counter()
        segment = self.segments[key] = compile_notes(key, len(self.segments))
        segment.end, segment.seconds = reason, time.perf_counter() - start
        return segment


def read_notes(key: bytes) -> tuple[list[Call], Sequence[int]]:
    """The calls that sealed words tell of, and the roots that live on."""
    words = iter(array("q", key))
    calls = []
    while address := next(words):
        payload = object_at(address)
        takes: list[tuple[int, int, bool] | None] = []
        for is_number in payload.paper.weak:
            if is_number:
                takes.append(None)
                continue
            root, offset = next(words), next(words)
            takes.append((~root, offset, True) if root < 0 else (root, offset, False))
        makes = [None if lay is None else (next(words), lay) for lay in payload.paper.makes]
        calls.append(Call(payload, takes, makes))
    return calls, list(words)


def compile_notes(key: bytes, number: int = 0) -> Segment:
    """The segment that sealed words tell of, as one Program; its name has the number."""
    calls, alive = read_notes(key)
    inputs: dict[tuple, Node] = {}  # by root, offset and layout of memory as it was
    copied: set[tuple] = set()  # those of which a copy is read
    numbers: list[Node] = []
    holds: dict[int, tuple[Node, Layout]] = {}
    made: set[int] = set()
    for call in calls:
        paper, values = call.paper, []
        for take, lay in zip(call.takes, paper.inputs, strict=True):
            if take is None:
                values.append(Node(None, (), Spec((), lay.dtype, True)))
                numbers.append(values[-1])
                continue
            root, offset, is_copy = take
            if root in holds:
                values.append(seen(*holds[root], lay, offset))
                continue
            at = (root, offset, lay)
            if at not in inputs:
                inputs[at] = Node(None, (), Spec(tuple(lay.shape), lay.dtype))
            if is_copy:
                copied.add(at)
            values.append(inputs[at])
        results = inline(paper.graph, values)
        fresh = iter(call.makes)
        for o, value in enumerate(results):
            if o in paper.given:
                a = paper.given[o]
                holds[call.takes[a][0]] = value, paper.inputs[a]
            elif (new := next(fresh)) is not None:
                holds[new[0]] = value, new[1]
                made.add(new[0])
    wanted = [*alive, *[r for r in holds if r not in made]]
    name = f"segment {number}"
    return Segment(*_program(inputs, copied, numbers, holds, wanted, name), calls)


def _program(
    inputs: dict[tuple, Node],
    copied: set[tuple],
    numbers: list[Node],
    holds: dict[int, tuple[Node, Layout]],
    wanted: Sequence[int],
    name: str,
) -> tuple[Callable[[], None], Callable | None, Sequence[int], Graph]:
    """What gives the wanted roots what they hold in the end."""
    places, nodes = list(inputs), list(inputs.values())
    targets: list[int] = []
    outputs: list[Node] = []
    given: dict[int, int] = {}
    for root in wanted:
        value, lay = holds[root]
        at = (root, 0, lay)
        if at not in inputs or at in copied:
            given[len(outputs)] = len(places)
            places.append(at)
            nodes.append(Node(None, (), Spec(tuple(lay.shape), lay.dtype)))
            targets.append(root)
        else:
            given[len(outputs)] = places.index(at)
        outputs.append(value)
    graph = Graph([*nodes, *numbers], outputs)
    if not outputs:  # results that nobody looks at
        return device.machine().forget, None, (), graph
    roots = [-1 - i if at in copied and i < len(inputs) else at[0] for i, at in enumerate(places)]
    most = max(roots) + 1
    roots += range(most, most + len(numbers))
    layouts = [lay for _, _, lay in places] + [layout(n.spec.dtype, ()) for n in numbers]
    run = program.build(graph, layouts, given, (), program.NONE, roots, name)
    return device.machine().replayer(run, targets), run, targets, graph


class Aside:
    """Inside, calls run at once, and what others would see is the same."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.note = recorder, recorder.machine.note

    def __enter__(self) -> None:
        device.note(None)

    def __exit__(self, *exc: object) -> None:
        self.note(self.recorder)


class Pause:
    """Inside, nothing is deferred."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __enter__(self) -> None:
        self.recorder.stop()

    def __exit__(self, *exc: object) -> None:
        self.recorder.start()
