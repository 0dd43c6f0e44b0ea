"""Where values lie: in arguments and results, in an arena that those with lives apart share, or kept."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Sequence
from itertools import accumulate

from . import pipeline
from .plan import Launch, Lowered, Place

ALIGN = 64


class Memory:
    """Slot of every base place, offset of temporaries in the arena and of what launches to `keep` make
    in what is kept, and the bytes of both.
    """

    def __init__(
        self, lowered: Lowered, given: Collection[int], keep: Sequence[Launch] = ()
    ) -> None:
        places = lowered.places
        n = sum(p.argument >= 0 for p in places)
        fresh = [p for o, p in enumerate(lowered.outputs) if o not in given]
        self.slots = {i: i for i in range(n)}
        for o, p in enumerate(fresh):
            self.slots.setdefault(places[p].base, n + o)
        arena, held, self.kept = n + len(fresh), {}, 0
        for step in keep:
            base = places[step.buffers[-1]].base
            self.slots[base], held[base] = arena + 1, self.kept
            self.kept += _aligned(places[base].layout.nbytes)
        self._lives = _lives(lowered, self.slots)
        self._sizes = {base: places[base].layout.nbytes for base in self._lives}
        self.offsets, self.arena = self._arranged()
        for base in self.offsets:
            self.slots[base] = arena
        self.offsets |= held

    def at(self, place: Place) -> tuple[int, int]:
        """Slot and offset of a place."""
        return self.slots[place.base], place.offset + self.offsets.get(place.base, 0)

    def fullest(self) -> int:
        """The step during which most of the arena is in use."""
        change = [0] * (2 + max([last for _, last in self._lives.values()], default=0))
        for base, (first, last) in self._lives.items():
            change[first] += self._sizes[base]
            change[last + 1] -= self._sizes[base]
        used = list(accumulate(change))
        return used.index(max(used))

    def _arranged(self) -> tuple[dict[int, int], int]:
        """Offsets of the bases that have no slot, and the bytes of the arena that holds them: those
        whose lives do not meet share memory, first fit over their intervals.
        """
        offsets: dict[int, int] = {}
        placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
        total, reuses = 0, pipeline.is_on("reuse")
        for base in sorted(self._lives, key=lambda base: -self._sizes[base]):
            (first, last), need, at = self._lives[base], _aligned(self._sizes[base]), 0
            for offset, end, a, z in placed:
                if offset >= at + need:
                    break  # all others lie beyond
                if at < end and (not reuses or a <= last and first <= z):
                    at = end
            insort(placed, (at, at + need, first, last))
            offsets[base] = at
            total = max(total, at + need)
        return offsets, total


def _aligned(nbytes: int) -> int:
    return max(nbytes, 1) + ALIGN - 1 & -ALIGN


def _lives(lowered: Lowered, slots: Collection[int]) -> dict[int, list[int]]:
    """The first and the last step that use each base without a slot."""
    lives: dict[int, list[int]] = {}
    for t, step in enumerate(lowered.steps):
        for p in step.buffers:
            base = lowered.places[p].base
            if base not in slots:
                lives.setdefault(base, [t, t])[1] = t
    return lives
