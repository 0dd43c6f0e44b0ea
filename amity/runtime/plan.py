"""The plan of a Program: what one call of it takes, makes and runs, and its form as words.

Native calls read a plan as an array of 64-bit words:

    head     arguments, outputs, steps, arena, flags, result, bumps, most, facts, noted, kept, skips,
             state
    then     a kind for each argument
             pool, layout, source, offset for each output
             the bumped arguments
             kernel, meta, grid, grain, buffers for each step, and after them slot and offset of
             each of its buffers
             the facts of each argument and output: layout, dtype, itemsize, extent, nbytes

Slots count the arguments, then the outputs, then the arena. Arena and pool are pools of blocks of
one size, layout and meta addresses; `source` is 0 for an output with memory of its own, else one
more than the argument that it is a view of. `most` is the largest number of buffers of a step.

What the first steps make of some arguments may be *kept*, while nobody wrote these: it lies in a slot
after the arena's, in a block of the pool `kept`. Where it is there already, `skips` steps are skipped.
`state` is the address of the words that tell (kept.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .kept import KeptSteps

ARGUMENTS, OUTPUTS, STEPS, ARENA, FLAGS, RESULT, BUMPS, MOST, FACTS, NOTED = range(10)
KEPT, SKIPS, STATE, HEAD = range(10, 14)
POOL, LAYOUT, SOURCE, OFFSET, OUTPUT_WORDS = range(5)
KERNEL, META, GRID, GRAIN, BUFFERS, STEP_WORDS = range(6)
LAYOUT_FACT, DTYPE, ITEMSIZE, EXTENT, NBYTES, FACT_WORDS = range(6)  # the last three in bytes
# Kinds of arguments; those filled receive results, and their elements have no gaps between them or do
TENSOR, FLOAT, INT, FILLED, FILLED_IN_PART = range(5)
NUMBERS = (FLOAT, INT)
GIVES_NONE, GIVES_TENSOR, GIVES_TUPLE, GIVES_FIRST = range(4)  # results
# Flags; an unbuilt plan has its steps to come, of an untold one no recorder is told.
RELEASE_GIL, SCRATCH, UNBUILT, UNTOLD = 1, 2, 4, 8


@dataclass(slots=True)
class Output:
    """A fresh tensor, or (from `source` on) a view of an argument, `offset` bytes further."""

    layout: Any
    nbytes: int = 0
    source: int = -1
    offset: int = 0


@dataclass(slots=True)
class Step:
    """One launch: the kernel's address, parameters and grid; (slot, byte offset) of each buffer."""

    kernel: int
    meta: array
    grid: int
    grain: int
    buffers: Sequence[tuple[int, int]]
    name: str = ""  # of the kernel


@dataclass(slots=True)
class Plan:
    """All that a machine must know to make a Program callable. `arena` and `kept` count bytes, `guards`
    are the arguments that what is kept was made of.
    """

    inputs: Sequence[Any]  # layouts
    kinds: Sequence[int]
    outputs: Sequence[Output]
    result: int
    bumps: Sequence[int] = ()
    steps: list[Step] = field(default_factory=list)
    arena: int = 0
    flags: int = 0
    kept: int = 0
    skips: int = 0
    guards: Sequence[int] = ()
    state: KeptSteps = field(init=False)

    def __post_init__(self) -> None:
        self.state = KeptSteps(self.guards)

    def words(self, pool: Callable[[int], int]) -> array:
        """The plan as words; `pool` gives the address of the pool of blocks of a size."""
        most = max((len(s.buffers) for s in self.steps), default=0)
        arena = pool(self.arena) if self.arena else 0
        head = [len(self.kinds), len(self.outputs), len(self.steps), arena]
        out = [*head, self.flags, self.result, len(self.bumps), max(most, 1), 0, self.noted]
        kept = (
            (pool(self.kept), self.skips, self.state.words.buffer_info()[0])
            if self.kept
            else (0, 0, 0)
        )
        out += kept
        out += self.kinds
        for o in self.outputs:
            out += [pool(o.nbytes), id(o.layout), o.source + 1, o.offset]
        out += self.bumps
        for s in self.steps:
            out += [s.kernel, s.meta.buffer_info()[0], s.grid, s.grain, len(s.buffers)]
            for slot, offset in s.buffers:
                out += [slot, offset]
        out[FACTS] = len(out)
        for lay in (*self.inputs, *[o.layout for o in self.outputs]):
            out += facts(lay)
        return array("q", out)

    @property
    def noted(self) -> int:
        """Words of a note: the payload, root and offset of each tensor, the root of each result."""
        tensors = sum(k not in NUMBERS for k in self.kinds)
        return 1 + 2 * tensors + sum(o.source < 0 for o in self.outputs)


def facts(lay: Any) -> list[int]:
    """What tells whether one layout may be seen in memory that another one filled."""
    size = lay.dtype.itemsize
    return [id(lay), id(lay.dtype), size, lay.extent * size, lay.nbytes]
