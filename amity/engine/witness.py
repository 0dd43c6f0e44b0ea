"""What a call leans on besides its arguments: told by those parts of amity that have state.

While a thread records for the sake of a static program, values that Python reads, ranges that are
checked, random numbers that are drawn and optimizers that step tell the witness. What it was told
decides whether Python may be skipped, and what must be done again then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
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
class Draw:
    """Numbers taken from a generator, at a place of its stream."""

    generator: Any
    seed: int
    offset: int
    count: int


@dataclass(slots=True)
class Update:
    """An update by an optimizer: how many numbers were noted before it, and its own."""

    first: int
    function: Any
    numbers: list[float]


@dataclass(slots=True)
class Witness:
    """Of one call, of which `notes` are made."""

    notes: Any
    reasons: list[str] = field(default_factory=list)  # why Python cannot be skipped
    checks: list[tuple] = field(default_factory=list)  # tensors with low, high, and an exception
    draws: list[Draw] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
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
        self.updates.append(Update(len(self.notes.numbers()), function, numbers))
