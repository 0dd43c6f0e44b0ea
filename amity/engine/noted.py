"""What sealed notes tell: calls, the memory that they find and fill, and the graph that they amount to."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from amity.compiler.again import Again
from amity.compiler.assemble import inline, seen
from amity.core.layout import Layout, layout
from amity.ir.graph import Graph, Node, Spec, Where
from amity.runtime.cpu.notes import object_at
from amity.runtime.plan import Plan

from . import device, program

Memory = tuple[int, int, Layout]  # root, bytes from where it was first met, and how it is seen


@dataclass(slots=True)
class Call:
    """One noted call: what it does, the memory (root, offset in bytes, whether a copy is read) of the
    tensors it takes, None for a number, and the memory that it makes, None for a view of what it takes.
    """

    payload: Any
    paper: program.Paper  # the payload's, or one with other numbers
    takes: list[tuple[int, int, bool] | None]
    makes: list[tuple[int, Layout] | None]
    where: Where = field(default_factory=Where)


class Noted:
    """Calls, and the arguments of a Program that does them all: memory read as it was found, then
    roots that receive results (`targets`), both told by `places`, then numbers.
    Output `o` goes to argument `given[o]`.
    """

    def __init__(self, calls: list[Call], alive: Sequence[int]) -> None:
        self.calls, self.alive = calls, alive
        self._found: dict[Memory, int] = {}  # arguments that are read
        self._copied: set[Memory] = set()  # those of which a copy is read
        self._holds: dict[int, Memory] = {}
        self._made: set[int] = set()
        self._numbers: list[Layout] = []
        for call in self.calls:
            self._follow(call)
        self._wanted = [*self.alive, *[r for r in self._holds if r not in self._made]]
        self.places = list(self._found)
        self.targets: list[int] = []
        self.given: dict[int, int] = {}
        for root in self._wanted:
            self._give(root, self._holds[root])

    def _follow(self, call: Call) -> None:
        paper = call.paper
        for take, lay in zip(call.takes, paper.inputs, strict=True):
            if take is None:
                self._numbers.append(layout(lay.dtype, ()))
                continue
            root, offset, is_copy = take
            if root not in self._holds:
                self._found.setdefault((root, offset, lay), len(self._found))
                if is_copy:
                    self._copied.add((root, offset, lay))
        for write in _writes(call):
            if write is not None:
                at, is_made = write
                self._holds[at[0]] = at
                if is_made:
                    self._made.add(at[0])

    def _give(self, root: int, at: Memory) -> None:
        """Choose the argument that receives what a root holds in the end."""
        argument = self._found.get(at)
        if argument is None or at in self._copied:
            argument = len(self.places)
            self.places.append(at)
            self.targets.append(root)
        self.given[len(self.given)] = argument

    @property
    def layouts(self) -> list[Layout]:
        """Of the arguments."""
        return [lay for _, _, lay in self.places] + self._numbers

    @property
    def weak(self) -> list[Any]:
        """Which arguments are numbers, and of what kind."""
        return [False] * len(self.places) + [lay.dtype.kind for lay in self._numbers]

    @property
    def roots(self) -> list[int]:
        """Numbers that are equal where arguments share memory."""
        read = len(self._found)
        is_copy = [i < read and at in self._copied for i, at in enumerate(self.places)]
        roots = [
            -1 - i if c else at[0]
            for i, (at, c) in enumerate(zip(self.places, is_copy, strict=True))
        ]
        most = max(roots, default=-1) + 1
        return [*roots, *range(most, most + len(self._numbers))]

    @cached_property
    def graph(self) -> Graph:
        """All calls as one graph: a root holds a value, a write renews it."""
        inputs = [Node(None, (), Spec(tuple(m[2].shape), m[2].dtype)) for m in self.places]
        numbers: list[Node] = []
        holds: dict[int, tuple[Node, Memory]] = {}
        for call in self.calls:
            values = []
            for take, lay in zip(call.takes, call.paper.inputs, strict=True):
                if take is None:
                    numbers.append(Node(None, (), Spec((), lay.dtype, True)))
                    values.append(numbers[-1])
                elif take[0] in holds:
                    value, (_, start, held) = holds[take[0]]
                    values.append(seen(value, held, lay, take[1] - start))
                else:
                    values.append(inputs[self._found[take[0], take[1], lay]])
            results = inline(call.paper.graph, values, call.where)
            for value, write in zip(results, _writes(call), strict=True):
                if write is not None:
                    holds[write[0][0]] = value, write[0]
        return Graph([*inputs, *numbers], [holds[r][0] for r in self._wanted])

    @property
    def kinds(self) -> list[int]:
        """Of the arguments, for plans."""
        return program.kinds_of(self.layouts, self.weak, self.given)

    def program(self, plan: Plan, name: str, again: Again) -> Callable:
        """A native callable for a plan that does what was noted."""
        how = self.given, self.weak, [], lambda: plan, name, self.roots
        paper = program.Paper(lambda: self.graph, self.layouts, *how, again=again)
        return device.machine().program(plan, paper)


def _writes(call: Call) -> list[tuple[Memory, bool] | None]:
    """For each output of a call the memory that it fills, which is all of a root, and whether the call
    made it; None for a view.
    """
    paper, made = call.paper, iter(call.makes)
    found: list[tuple[Memory, bool] | None] = []
    for o in range(len(paper.given) + len(paper.makes)):
        if o in paper.given:
            take = call.takes[paper.given[o]]
            assert take is not None  # numbers receive nothing
            found.append(((*take[:2], paper.inputs[paper.given[o]]), False))
        else:
            new = next(made)
            found.append(None if new is None else ((new[0], 0, new[1]), True))
    return found


def read(key: bytes) -> tuple[list[Call], Sequence[int]]:
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
        calls.append(Call(payload, payload.paper, takes, makes))
    return calls, list(words)
