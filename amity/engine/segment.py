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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from amity.core.errors import OutOfMemoryError
from amity.core.layout import Layout
from amity.ir.graph import Graph
from amity.runtime.cpu.notes import object_at
from amity.runtime.kept import KeptSteps

from . import deferral, device, program
from .dynamic import Family, Form, Wish
from .lines import Lines, line
from .noted import Call, Noted, read
from .numbers import Frame
from .witness import Witness

SEGMENTS_KEPT = 1024
CALLS_TOLD = 8  # calls of a function whose lines are noted, at some microseconds for each op


@dataclass(slots=True)
class Segment:
    """A compiled segment: what runs it over the notes, if it does anything its program, and what the
    notes told, whose payloads live as long as the key.
    """

    run: Callable[[], None]
    program: Callable | None
    noted: Noted
    form: Form | None = None  # that gave its launches, for sizes other than these too
    family: Family | None = None  # that does the same at other sizes
    keeps: KeptSteps | None = None  # what its program keeps from call to call, if anything
    end: str = ""  # why it ended, and where, when it was first met
    seconds: float = 0.0  # to compile it
    kernels: int = 0  # that were compiled for it
    kernel_seconds: float = 0.0  # of its time
    uses: int = 0
    has_lines: bool = False  # whether its calls know theirs

    def look(self, notes: Any) -> None:
        """Tell what is kept from call to call where the arguments are that it is made of."""
        reads, places = self.keeps.slots, self.noted.places
        roots = [object_at(notes.storage(places[a][0])) for a in reads]
        self.keeps.see([notes.address(a) for a in reads], roots)

    @property
    def about(self) -> str:
        """Which part of the function it is, and the memory that its kernels share."""
        first, last = (self.calls[i].where.line or "?" for i in (0, -1))
        arena = program.paper_of(self.program).plan().arena if self.program else 0
        return f"in what was noted from {first} to {last}, with {arena} bytes between its kernels"

    @property
    def calls(self) -> list[Call]:
        return self.noted.calls

    @property
    def graph(self) -> Graph:
        return self.noted.graph


class Recorder:
    """Notes the calls of one thread."""

    def __init__(
        self,
        segments: dict[bytes, Segment],
        is_whole: bool = False,
        wish: Wish = Wish(),  # noqa: B008  (it is a tuple)
    ) -> None:
        """`is_whole` forbids that a segment ends before the function does; `wish` says when Programs
        are made for many sizes.
        """
        self.segments, self.is_whole, self.wish = segments, is_whole, wish
        self.families: dict[bytes, Family] = {}
        self.machine = device.machine()
        self.notes = self.machine.notes
        self.aside = Aside(self)
        self.lines: Lines | None = None  # if they are noted, which every call is told of for
        self.calls_told = 0  # of the function
        self.lacks_lines = True  # whether a segment may be told its lines next time
        self.copies: list[Any] = []  # of memory that others may write
        self.witness: Witness | None = None  # of what the call leans on

    def begin(self) -> None:
        """The function begins. Lines are noted where there are segments without, a few times, or where
        a watcher wants them.
        """
        watcher = device.watcher()
        if watcher is not None and watcher.wants_lines:
            self.lines = Lines()
        elif self.lacks_lines and self.calls_told < CALLS_TOLD:
            self.lines, self.lacks_lines = Lines(), False
            self.calls_told += 1
        deferral.start(self)
        self.listen()

    def rest(self) -> None:
        """Run this thread's calls for now; others' still ask about memory that waits."""
        if device.watcher() is None:
            self.machine.record(self, -get_ident())
        else:
            device.note(None)

    def listen(self) -> None:
        """Have calls noted by native code, or, for their lines, all by this recorder."""
        if self.lines is None:
            self.machine.note(self)
        else:
            self.machine.record(self, get_ident())

    def flush_for_another(self) -> None:
        """Run what was noted, in a thread that waits for it; meanwhile calls of this one's wait."""
        if self.witness is not None:
            self.witness.refuse("another thread reads what it computes")
        before = self.machine.listening()
        self.machine.record(self, deferral.thread())
        try:
            self.flush("another thread takes what was noted")
        finally:
            self.machine.listen(before)

    def stop(self) -> None:
        """Run calls again."""
        deferral.stop()
        device.note(None)

    def knows(self, storage: Any) -> bool:
        """Whether a noted call reads or writes this memory."""
        return storage.root.mark != 0

    def wants(self, storage: Any, to_write: bool) -> bool:
        """Whether memory waits for a noted call, or may not be written before one."""
        return self.knows(storage) if to_write else self.is_pending(storage)

    def is_pending(self, storage: Any) -> bool:
        """Whether this memory waits for a noted call."""
        root = storage.root
        return root.mark != 0 and self.notes.held(root) is not None

    # -- noting what native code did not
    def __call__(self, payload: Any, result: Any, *args: Any) -> Any:
        with deferral.busy:
            return self._take_over(payload, result, args)

    def _take_over(self, payload: Any, result: Any, args: Sequence[Any]) -> Any:
        paper, notes = payload.paper, self.notes
        if not self._fits(paper, args):
            if self.witness is not None and not notes.is_empty:
                self.witness.refuse("memory is written in part, or seen otherwise than written")
            self.flush("memory is written in part, or seen otherwise than it was written")
            if not self._renews(paper, args):
                if self.witness is not None:
                    self.witness.refuse("it writes a part of what it was given")
                with Pause(self):
                    return self.machine.callable(payload)(*args)
        copies = self._copies(paper, args)
        notes.make_room(len(args) + len(paper.makes))
        try:
            self._note(payload, result, args, copies)
            if self.lines is not None:
                self.lines.note()
        except BaseException:  # a key was pressed: what was noted in part cannot be run
            self.forget()
            raise
        return result

    def forget(self) -> None:
        """Drop all notes."""
        self.machine.forget()
        if self.lines is not None:
            self.lines.clear()

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
        offset, address = storage.data - root.data, storage.data
        number = notes.number(root, offset)
        copy = copies.pop((id(root), address, lay), None)
        notes.add_word(number if copy is None else ~number)
        notes.add_word(offset - notes.base(number))
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
            with deferral.busy:
                self._run("the function ends")
        except BaseException:
            self.forget()
            raise
        finally:
            if self.lines is not None:
                self.lines.end()
                self.lines = None

    def flush(self, reason: str = "a value is looked at") -> None:
        """Run what was noted."""
        if self.is_whole and not self.notes.is_empty:
            raise RuntimeError(
                f"compile: got fullgraph=True, but at {line()} {reason}; expected one graph"
            )
        with deferral.busy:
            self._run(reason, is_early=True)

    def _run(self, reason: str, is_early: bool = False) -> None:
        key = self.machine.seal()
        if key is None:
            return
        segment = self.segments.get(key)
        if segment is None:
            with Pause(self):
                segment = self._compiled(key)
            segment.end = f"{reason} ({line()})" if is_early else reason
        if self.lines is not None:
            self._tell(segment)
        elif not segment.has_lines:
            self.lacks_lines = True
        segment.uses += 1
        if self.witness is not None:
            self.witness.ran(segment)
        if segment.keeps is not None and not segment.keeps.is_armed:
            segment.look(self.notes)
        watcher = device.watcher()
        try:
            if watcher is None or segment.program is None:
                segment.run()
            else:
                watcher.replay(program.paper_of(segment.program), segment.noted.targets)
        except OutOfMemoryError as error:
            error.add_note(segment.about)
            raise
        if self.copies:
            self.copies = []

    def _tell(self, segment: Segment) -> None:
        """Tell a segment the lines of its calls."""
        if not segment.has_lines:
            for call, asked in zip(segment.calls, self.lines.calls, strict=True):
                call.where.line = asked
            segment.has_lines = True
        self.lines.clear()

    def _compiled(self, key: bytes) -> Segment:
        if len(self.segments) >= SEGMENTS_KEPT:
            self.segments.clear()
            self.families.clear()
        kernels, start = device.kernels(), time.perf_counter()
        count, seconds = kernels.compiled, kernels.seconds
        segment = self.segments[key] = compile_notes(
            key, len(self.segments), self.families, self.wish
        )
        segment.seconds = time.perf_counter() - start
        segment.kernels, segment.kernel_seconds = (
            kernels.compiled - count,
            kernels.seconds - seconds,
        )
        return segment


def compile_notes(key: bytes, number: int, families: dict[bytes, Family], wish: Wish) -> Segment:
    """The segment that sealed words tell of, as one Program; its name has the number. `families` are
    Programs by the frames of their notes.
    """
    noted, machine = Noted(*read(key)), device.machine()
    if not noted.given:  # results that nobody looks at
        return Segment(machine.forget, None, noted)
    frame = Frame(noted)
    family = families.setdefault(frame.digest, Family())
    run, form = family.build(noted, frame, f"segment {number}", wish)
    plan = program.paper_of(run).plan()
    keeps = plan.state if plan.kept else None
    return Segment(machine.replayer(run, noted.targets), run, noted, form, family, keeps)


class Aside:
    """Inside, calls run at once, and what others would see is the same."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __enter__(self) -> None:
        self.recorder.rest()
        if self.recorder.witness is not None:
            self.recorder.witness.is_checking = True

    def __exit__(self, *exc: object) -> None:
        if self.recorder.witness is not None:
            self.recorder.witness.is_checking = False
        self.recorder.listen()


class Pause:
    """Inside, nothing of this thread's is deferred."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.is_mine = recorder, deferral.is_mine()

    def __enter__(self) -> None:
        if self.is_mine:
            deferral.rest(True)
            self.recorder.rest()

    def __exit__(self, *exc: object) -> None:
        if self.is_mine:
            deferral.rest(False)
            self.recorder.listen()
