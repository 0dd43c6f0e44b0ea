"""Parts of a graph that repeat are lowered once: for the others only the places change.

A part is what is lowered from one point at which no group is open to the next. Its code is all that
lowering asks of it: ops, dtypes and shapes, how its nodes use each other, in which layouts lies what
it reads from outside, who waits for its results and for the arguments that they go to, and the node
that comes after it. Equal codes are lowered equally, so twelve equal layers cost little more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from amity.core.layout import Layout
from amity.ir.graph import Node

from .plan import Launch, Lowered, Place
from .writes import Writes

KEPT = 4  # parts that begin with the same op and shape
INLINED = ("constant", "position")  # kinds of ops that groups compute where they are used
END, FREE, OUTSIDE, EARLIER = -1, -2, -3, -4


@dataclass(slots=True)
class State:
    """What lowering knows so far: see `_Lowering`."""

    nodes: Sequence[Node]
    out: Lowered
    place: dict[int, int]
    done: set[int]
    writes: Writes
    wanted: set[int]
    sideways: set[int]
    sideways_first: frozenset[int] = field(
        init=False
    )  # before lowering nodes changes what is there

    def __post_init__(self) -> None:
        self.sideways_first = frozenset(self.sideways)


Named = tuple[int, int, int]  # a node, which of its op's results is meant, and a place


@dataclass(slots=True)
class Part:
    """What a part became. A place is told by its number among the new ones, or by the complement of
    its number among what is read from outside; so is a node."""

    code: list[Any]
    length: int
    places: list[tuple[Layout, int | None, int]]  # base (None: itself) and offset
    steps: list[tuple[Launch, list[int], list[Named], list[tuple[int, int]]]]  # with their buffers,
    # what they make, and their nodes
    placed: list[Named]
    done: list[int]


class Unlike(Exception):
    """A part depends on what its code does not tell."""


class Outline:
    """The parts of one graph."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.known: dict[tuple, list[Part]] = {}
        self.start = 0, len(state.out.places), 0, bool(state.sideways)

    def skip(self, at: int) -> int:
        """Where no group is open before a node: keep the part that ends here, do again what is known,
        and give the node to go on from."""
        s = self.state
        self._keep(at)
        while at < len(s.nodes):
            if id(s.nodes[at]) in s.place:
                at += 1
                continue
            found = self._find(at)
            if found is None:
                break
            self._repeat(at, *found)
            at += found[0].length
        self.start = at, len(s.out.places), len(s.out.steps), bool(s.sideways)
        return at

    def _find(self, at: int) -> tuple[Part, Code] | None:
        for part in self.known.get(_head(self.state.nodes[at]), ()):
            if at + part.length <= len(self.state.nodes):
                try:
                    code = Code(self.state, at, part.length, len(self.state.out.places))
                except Unlike:
                    continue
                if code.words == part.code:
                    return part, code
        return None

    def _repeat(self, at: int, part: Part, code: Code) -> None:
        s, places = self.state, self.state.out.places
        first = len(places)
        for lay, base, offset in part.places:
            if base is None:
                places.append(Place(lay, len(places)))
            elif base >= 0:
                places.append(Place(lay, first + base, offset))
            else:
                known = places[code.outside[~base]]
                places.append(Place(lay, known.base, known.offset + offset))

        def place(p: int) -> int:
            return first + p if p >= 0 else code.outside[~p]

        def node(n: int, index: int) -> Node:
            if n < 0:
                return code.sources[~n]
            found = s.nodes[at + n]
            return found if found.index == index else s.writes.siblings(found)[index]

        for step, buffers, makes, nodes in part.steps:
            made = [(node(n, i), place(p)) for n, i, p in makes]
            inside, at_places = [node(*n) for n in nodes], list(map(place, buffers))
            s.out.steps.append(replace(step, buffers=at_places, makes=made, nodes=inside))
        for n, i, p in part.placed:
            s.place[id(node(n, i))] = place(p)
        s.done.update([id(s.nodes[at + n]) for n in part.done])

    def _keep(self, at: int) -> None:
        """Remember what the nodes before this one became."""
        s, (start, first, step, has_sideways) = self.state, self.start
        if at == start or has_sideways is not bool(s.sideways):
            return
        try:
            code = Code(s, start, at - start, first, is_done=True)
            part = self._part(code, start, at, first, step)
        except Unlike:
            return
        same = self.known.setdefault(_head(s.nodes[start]), [])
        same.insert(0, part)
        del same[KEPT:]

    def _part(self, code: Code, start: int, at: int, first: int, step: int) -> Part:
        s, places = self.state, self.state.out.places
        numbers: dict[int, int] = {}
        bases: dict[int, int] = {}
        for e, p in enumerate(code.outside):
            if p != FREE:
                numbers.setdefault(p, ~e)
                bases.setdefault(places[p].base, e)

        def number(p: int) -> int:
            found = p - first if p >= first else numbers.get(p)
            if found is None:
                raise Unlike
            return found

        made: list[tuple[Layout, int | None, int]] = []
        for p in range(first, len(places)):
            x = places[p]
            if x.base == p:
                made.append((x.layout, None, 0))
            elif x.base >= first:
                made.append((x.layout, x.base - first, x.offset))
            elif x.base in bases:
                e = bases[x.base]
                made.append((x.layout, ~e, x.offset - places[code.outside[e]].offset))
            else:
                raise Unlike
        names = {id(x): (~e, 0) for e, x in enumerate(code.sources)}
        results = [
            (n, x)
            for n, node in enumerate(s.nodes[start:at])
            if id(node) in code.inside
            for x in s.writes.siblings(node)
            if x is not None
        ]
        names |= {id(x): (n, x.index) for n, x in results}
        steps = []
        for launch in s.out.steps[step:]:
            if not isinstance(launch, Launch) or any(id(x) not in names for x, _ in launch.makes):
                raise Unlike
            makes = [(*names[id(x)], number(p)) for x, p in launch.makes]
            nodes = [names[id(x)] for x in launch.nodes]
            steps.append((launch, [number(b) for b in launch.buffers], makes, nodes))
        placed = [(n, x.index, number(s.place[id(x)])) for n, x in results if id(x) in s.place]
        done = [code.inside[i] for i in code.inside if i in s.done]
        return Part(code.words, at - start, made, steps, placed, done)


def _head(node: Node) -> tuple:
    return node.op, node.index, tuple(node.spec.shape), node.spec.dtype


class Code:
    """All that the lowering of some nodes depends on, as `words`, and what they read (`sources`) from
    `outside`, where its places are. Places from `first` on are the part's own, if it `is_done`.

    errors: Unlike where it depends on more
    """

    def __init__(
        self, state: State, start: int, length: int, first: int, is_done: bool = False
    ) -> None:
        self.state, self.first = state, first
        self.words: list[Any] = [bool(state.sideways)]
        self.outside: list[int] = []
        self.sources: list[Node] = []
        self._numbers: dict[int, int] = {}  # id(node) -> which of the outside
        self._bases: dict[int, tuple[int, int]] = {}  # place -> number, offset
        self._roots: dict[int, int] = {}
        self.inside: dict[int, int] = {}  # id(node) -> which of the part
        nodes = state.nodes[start : start + length]
        uses = [0] * length
        for n, node in enumerate(nodes):
            if self._is_earlier(node, is_done):
                self.words += (EARLIER, self._number(node))
                continue
            for x in node.inputs:
                if (at := self.inside.get(id(x))) is not None:
                    uses[at] += 1
            self._say(node)
            self.inside[id(node)] = n
        for n, node in enumerate(nodes):
            if id(node) in self.inside:
                self._say_users(node, uses[n])
        if start + length == len(state.nodes):
            self.words.append(END)
        elif id(state.nodes[start + length]) in state.place:
            raise Unlike
        else:
            self._say(state.nodes[start + length])

    def _is_earlier(self, node: Node, is_done: bool) -> bool:
        """Whether a node had its place before, as a further result of an op."""
        p = self.state.place.get(id(node))
        if p is None or p >= self.first:
            return False
        return not is_done or p != self.state.writes.target(node)

    def _say(self, node: Node) -> None:
        spec = node.spec
        self.words += (node.op, node.index, spec.shape, spec.dtype, spec.is_weak)
        for x in node.inputs:
            at = self.inside.get(id(x))
            self.words.append(~self._number(x) if at is None else at)

    def _number(self, x: Node) -> int:
        """Which of the outside a node is; one not met before is told."""
        found = self._numbers.get(id(x))
        if found is not None:
            return found
        found = self._numbers[id(x)] = len(self.outside)
        self.sources.append(x)
        p, spec = self.state.place.get(id(x)), x.spec
        inlined = x.op if x.op is not None and x.op.kind in INLINED else None
        self.words += (spec.shape, spec.dtype, spec.is_weak, inlined)
        if p is None:
            if inlined is None:
                raise Unlike
            self.words.append(FREE)
            self.outside.append(FREE)
            return found
        if p >= self.first:  # it got its place here: elsewhere it may have one already
            raise Unlike
        place, roots = self.state.out.places[p], self.state.writes.roots
        base, offset = self._bases.setdefault(place.base, (len(self._bases), place.offset))
        root = FREE
        if place.base < len(roots):
            root = self._roots.setdefault(roots[place.base], len(self._roots))
        is_input = x.op is None
        self.words += (place.layout, base, place.offset - offset, root, is_input)
        self.outside.append(p)
        return found

    def _say_users(self, node: Node, uses: int) -> None:
        """Who waits for a node, and for what it is to be written to."""
        s, key = self.state, id(node)
        self.words += (len(s.writes.users.get(key, ())) > uses, key in s.wanted)
        self.words.append(key in s.sideways_first)
        if node.op.results > 1:
            same = s.writes.siblings(node)
            self.words += [None if x is None else self._sibling(x) for x in same]
        target = s.writes.target(node)
        if target is None:
            self.words.append(FREE)
            return
        self.words.append(self._number(s.writes.graph.inputs[target]))
        waiting = [r for r in s.writes.readers[s.writes.roots[target]] if self._waits(r)]
        self.words.append({self.inside.get(r, OUTSIDE) for r in waiting})

    def _sibling(self, x: Node) -> int:
        """Which of the part another result of an op is; one that comes later gets its place here."""
        found = self.inside.get(id(x), OUTSIDE)
        if found == OUTSIDE and self.state.writes.target(x) is not None:
            raise Unlike
        return found

    def _waits(self, reader: int) -> bool:
        return reader in self.inside or reader not in self.state.done
