"""Kernel ops on their way to launches: planned at once, or when their sizes are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from amity.core.dtype import BY_CODE
from amity.core.layout import Layout, layout
from amity.ir.target import Target

from .ending import Ending
from .plan import Launch, Lowered, Place
from .planners import KEEPERS, PLANNERS, WEIGHT


@dataclass
class Planned:
    """An op over places; `outs` are the layouts of its results. With an ending, its operands take the
    place of the results. Inputs that stay from call to call may be laid out anew, to be kept.
    """

    op: Any
    inputs: Sequence[int]
    outs: Sequence[Layout]
    results: Sequence[int]
    ending: Ending | None = None
    stays: frozenset[int] = frozenset()

    def launches(self, out: Lowered, target: Target, threads: int) -> list[Launch]:
        """What runs it, among the places of a lowered graph, which get those of its temporaries."""
        plan: Callable = PLANNERS[self.op.planner]
        ins = [out.places[p].layout for p in self.inputs]
        how = {} if self.ending is None else {"ending": self.ending}
        keeper = KEEPERS.get(self.op.planner) if WEIGHT in self.stays else None
        kept = None if keeper is None else keeper(self.op, ins, self.outs, target, threads, **how)
        launches, temporaries = kept or plan(self.op, ins, self.outs, target, threads, **how)
        known = [*self.inputs, *self.results]
        for nbytes in temporaries:
            known.append(len(out.places))
            out.places.append(Place(layout(BY_CODE["u8"], (nbytes,)), known[-1]))
        for launch in launches:
            launch.buffers = [
                known[i] if isinstance(i, int) else _part(out, known[i[0]], i[1])
                for i in launch.buffers
            ]
        return launches


def _part(out: Lowered, place: int, offset: int) -> int:
    """A place further on in another's memory."""
    origin = out.places[place]
    out.places.append(Place(origin.layout, origin.base, origin.offset + offset))
    return len(out.places) - 1
