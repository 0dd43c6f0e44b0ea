"""What a call leans on besides its arguments: told by those parts of amity that have state.

While a thread records for the sake of a static program, values that Python reads, ranges that are
checked, random numbers that are drawn and optimizers that step tell the witness. What it was told
decides whether Python may be skipped, and what must be done again then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Run:
    """A segment that ran: the storages of the roots that its notes had, None for one that is gone,
    which of them calls made, how far from their starts offsets count, and the bits of the numbers.
    """

    segment: Any
    roots: list[Any]
    made: list[bool]
    bases: list[int]
    numbers: list[int]


@dataclass(slots=True)
class Look:
    """A value that Python was given: the root storage that it is in, how many bytes from its start, how
    it is read, after how many segments, and the frame that asked with those above it: code,
    instruction and globals.
    """

    root: Any
    offset: int
    reader: Any
    value: Any
    after: int
    frames: list[tuple]


@dataclass(slots=True)
class Draw:
    """Numbers taken from a generator, at a place of its stream, and after how many segments."""

    generator: Any
    seed: int
    offset: int
    count: int
    after: int = 0


@dataclass(slots=True)
class Update:
    """An update by an optimizer: after how many segments, how many numbers were noted before it, and
    its own.
    """

    after: int
    first: int
    function: Any
    numbers: list[float]


@dataclass(slots=True)
class Witness:
    """Of one call, of which `notes` are made; a frame that is around it."""

    notes: Any
    frame: Any = None
    reasons: list[str] = field(default_factory=list)  # why Python cannot be skipped
    checks: list[tuple] = field(default_factory=list)  # tensors with low, high, and an exception
    draws: list[Draw] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    looks_at: list[Look] = field(default_factory=list)
    optimizers: list[Any] = field(default_factory=list)  # that stepped, in order
    runs: list[Run] = field(default_factory=list)
    is_checking: bool = False

    def refuse(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def looks(self) -> None:
        """Somebody reads values, writes them or hands them to others."""
        if not self.is_checking:
            self.refuse("Python reads what a tensor holds")

    def gives(self, tensor: Any, reader: Any, value: Any, frame: Any) -> None:
        """Somebody is given the value of a tensor's one element."""
        if self.is_checking:
            return
        frames = []
        while frame is not None and frame is not self.frame:
            frames.append((frame.f_code, frame.f_lasti, frame.f_globals))
            frame = frame.f_back
        storage = tensor.storage
        root, offset = storage.root, storage.data - storage.root.data
        self.looks_at.append(Look(root, offset, reader, value, len(self.runs), frames))

    def checks_range(self, tensor: Any, *how: Any) -> None:
        """A tensor's elements are compared with a range."""
        if self.runs:
            self.refuse("it checks indices after it looked at values")
        self.checks.append((tensor, *how))

    def draws_from(self, generator: Any, seed: int, offset: int, count: int) -> None:
        """Random numbers are taken."""
        self.draws.append(Draw(generator, seed, offset, count, len(self.runs)))

    def ran(self, segment: Any) -> None:
        """A segment is about to run over the notes."""
        self.runs.append(Run(segment, *self.notes.met(), self.notes.numbers()))

    def steps(self, optimizer: Any, has_closure: bool) -> None:
        """An optimizer steps."""
        self.optimizers.append(optimizer)
        if has_closure:
            self.refuse("an optimizer's step calls a closure")

    def updates_by(self, function: Any, numbers: list[float]) -> None:
        """An optimizer's update is about to be noted."""
        self.updates.append(Update(len(self.runs), len(self.notes.numbers()), function, numbers))
