"""What a call leans on besides its arguments: told by those parts of amity that have state.

While a thread records for the sake of a static program, values that Python reads, ranges that are
checked, random numbers that are drawn and optimizers that step tell the witness. What it was told
decides whether Python may be skipped, and what must be done again then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from amity.runtime.cpu.notes import object_at

from . import deferral


@dataclass(slots=True)
class Check:
    """Elements of a tensor had to lie in [low, high), or be the exception."""

    tensor: Any
    low: int
    high: int
    except_for: int | None


@dataclass(slots=True)
class Update:
    """An optimizer's update: where its numbers begin among those noted, and how many there are."""

    optimizer: Any
    first: int
    count: int


@dataclass(slots=True)
class Draw:
    """A generator gave numbers: what it was asked for, and what it said."""

    generator: Any
    count: int
    place: tuple[int, int]


@dataclass(slots=True)
class Run:
    """A segment that ran: the roots that its notes had, the numbers, and which of them are alive."""

    segment: Any
    roots: list[Any]
    made: list[bool]
    numbers: list[int]


@dataclass(slots=True)
class Witness:
    """Of one call."""

    reasons: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)  # optimizers that stepped
    is_checking: bool = False

    def refuse(self, reason: str) -> None:
        """Say why Python cannot be skipped."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def looks(self) -> None:
        """Somebody reads values, writes them or hands them to others."""
        if not self.is_checking:
            self.refuse("Python reads what a tensor holds")

    def ran(self, segment: Any, notes: Any) -> None:
        """A segment is about to run over its notes."""
        roots, made = notes.met()
        self.runs.append(Run(segment, roots, made, notes.numbers()))


def current() -> Witness | None:
    """The witness of this thread's call, if there is one."""
    found = deferral.recorder()
    return None if found is None else found.witness
