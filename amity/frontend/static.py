"""Calls that skip Python: a Program stands for a call while all that the call could see is the same.

What it takes that a Program may do so is found out by trial.py.
"""

from __future__ import annotations

import operator
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amity.core import tree
from amity.core.dtype import get_default_dtype
from amity.core.layout import Layout
from amity.engine import deferral, device
from amity.engine.witness import Draw
from amity.runtime.cpu import objects

from .batched import running
from .casting import region
from .reach import GRAD, Reach, Refused, Sight, slot_words
from .tape import modes, next_seq
from .tensor import Tensor

DENIALS = 8  # calls in a row whose gradients are not free to be written
MISSED = object()  # what a static call gives where it does not stand for the function's


def state() -> tuple:
    """What ops ask for at each call, besides their arguments; and who wants to see Python run."""
    return (
        modes.grad, modes.inference, modes.anomaly, modes.checks_nan, get_default_dtype(),
        region.is_on, region.dtype, len(running()), device.watcher(), sys.gettrace(), sys.getprofile(),
    )  # fmt: skip


@dataclass(slots=True)
class Given:
    """A tensor argument: which leaf of the arguments, its layout, and the Program's arguments that it is."""

    leaf: int
    layout: Layout
    places: list[tuple[int, Layout, int]]  # with the layout that each reads, so many bytes in


@dataclass(slots=True)
class Fresh:
    """Memory that each call makes: the Program's argument, and the leaf of the tape whose gradient it is."""

    place: int
    layout: Layout
    leaf: list | None = None


@dataclass(slots=True)
class Glance:
    """A number read from memory, so many bytes in: of a tensor, a leaf of the arguments, or the Program's
    argument at `place`; and what Python's number is made of it by, if not as it is. It is a result, or
    must be what is expected.
    """

    reader: Callable
    convert: Callable | None
    offset: int
    tensor: Any = None
    leaf: int = -1
    place: int = -1
    expected: bool | None = None


@dataclass(slots=True)
class Part:
    """A segment of a call: its Program, which of all arguments are the Program's, None for all, and what is
    read after it.
    """

    program: Callable
    of: slice | None
    glances: list[Glance] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """A leaf of what the function returns: `value` itself, a number that was read, a leaf of its arguments,
    or a tensor made of the Program's argument at `place`, under a layout and so many bytes in, with a
    node of the tape.
    """

    value: Any = None
    argument: int = -1
    place: int = -1
    layout: Layout | None = None
    offset: int = 0
    node: list | None = None
    is_view: bool = False
    is_other: bool = False  # the place's own tensor stands elsewhere among the results
    glance: int = -1


@dataclass(slots=True)
class Recipe:
    """What a call does."""

    parts: list[Part]
    leading: int  # parts that write only memory of their own, as values may turn out otherwise
    arguments: list[Any]  # of all Programs, one after the other; None where each call has its own
    links: list[tuple[int, int, Layout, int]]  # arguments that are others' memory, so many bytes in
    nest: tree.Nest  # of the function's arguments
    same: list[tuple[int, Any]]  # leaves of them that are always the same
    given: list[Given]
    fresh: list[Fresh]
    kept: list[Fresh]  # gradients that are there, and written again
    steady: list[tuple[list, Any]]  # and those whose gradients stay
    roots: dict[int, Any]  # memory that arguments must not share
    written: list[Any]  # storages, or leaves of arguments, whose version grows, once for each time
    checks: list[tuple]  # ((tensor or leaf, layout, bytes in), low, high, exception)
    optimizers: list[Any]
    rules: list[Any]  # of their updates
    scalars: list[tuple[int, int]]  # where their numbers go, and how many
    draws: list[tuple[int, Draw]]
    results: list[Result] = field(default_factory=list)
    result_nest: tree.Nest = tree.LEAF


class Static:
    """A recipe, and what must hold for it to stand for a call."""

    def __init__(self, recipe: Recipe, reach: Reach, sight: Sight) -> None:
        self.recipe, self.reach, self.sight = recipe, reach, sight
        self.state = state()
        self.is_plain = recipe.nest == tree.flatten(((None,) * recipe.nest.parts[0].count, {}))[1]
        machine = device.machine()
        self.bump, self.make = machine.bump, machine.make
        self.fresh = [(f, machine.allocator(max(f.layout.nbytes, 1))) for f in recipe.fresh]
        self.has_numbers = bool(recipe.optimizers or recipe.draws)
        self.counts = any(o.counters() for o in recipe.optimizers)
        self.options: list[Any] | None = None  # of optimizers, for which arguments hold the numbers
        self.differs: Callable[[], int | None] | None = None
        self.facts = array("q")  # words that tell of what is reached
        self.uses = self.denials = 0
        self.end: str | None = None  # why it stands for no call any more

    def __call__(self, args: tuple, kwargs: dict) -> Any:
        """What the function would give, having done what it would do; or MISSED."""
        recipe = self.recipe
        if self.is_plain and not kwargs:
            if len(args) != recipe.nest.count:
                return MISSED
            leaves: Sequence[Any] = args
        else:
            leaves, nest = tree.flatten((args, kwargs))
            if nest != recipe.nest:
                return MISSED
        if self.state != state() or not self._fits(leaves):
            return MISSED
        differs = self.differs
        if (differs is None or differs() is not None) and not self._still_holds():
            return MISSED
        for (x, lay, offset), low, high, except_for in recipe.checks:
            t = x if type(x) is not int else leaves[x]._view(lay, offset)
            if t._first_outside(low, high, except_for) is not None:
                return MISSED  # Python finds it again, and says where
        values = recipe.arguments.copy()  # after guards, which count references
        for g in recipe.given:
            t = leaves[g.leaf]
            for k, lay, offset in g.places:
                values[k] = t if lay is g.layout and not offset else t._view(lay, offset)
        for f, allocate in self.fresh:
            values[f.place] = self.make(allocate(), f.layout)
        for k, source, lay, offset in recipe.links:
            values[k] = values[source]._view(lay, offset)
        found: list[Any] = []
        leading = recipe.leading
        if leading and not self._run(recipe.parts[:leading], leaves, values, found):
            return MISSED  # nothing that lasts was done yet
        for f in recipe.fresh:
            if f.leaf is not None:
                f.leaf[GRAD] = values[f.place]
        if self.has_numbers and not self._move(values):
            for f in recipe.fresh:
                if f.leaf is not None:
                    f.leaf[GRAD] = None
            return MISSED
        self._run(recipe.parts[leading:] if leading else recipe.parts, leaves, values, found)
        for s in recipe.written:
            self.bump(leaves[s].storage if type(s) is int else s)
        self.uses += 1
        nest = recipe.result_nest
        if nest is tree.LEAF:
            return self._result(recipe.results[0], leaves, values, found)
        return nest.fill([self._result(r, leaves, values, found) for r in recipe.results])

    def _fits(self, leaves: Sequence[Any]) -> bool:
        """Whether the arguments are of those that the recipe is for."""
        recipe = self.recipe
        roots = recipe.roots
        seen = set()
        for g in recipe.given:
            t = leaves[g.leaf]
            if type(t) is not Tensor or t.layout is not g.layout or not is_bare(t):
                return False
            root = id(t.storage.root)
            if root in roots:
                return False
            seen.add(root)
        if len(seen) != len(recipe.given):
            return False
        for i, x in recipe.same:
            if leaves[i] is not x and not is_equal(leaves[i], x):
                return False
        return True

    def _still_holds(self) -> bool:
        """Look at all facts again, as memory may have moved; if they hold, guard where they are now."""
        if self.facts and device.machine().guard(self.facts)() is None:
            return self._adopts() or self._is_denied()
        try:
            now = self.sight.walk()
            where = self.reach.difference(now)
            if where is not None:
                raise Refused(f"{where} changed")
            self.facts = self.sight.words(now)
        except Refused as refused:
            self.end = str(refused)
            return False
        return self._adopts() or self._is_denied()

    def _is_denied(self) -> bool:
        """Give up where gradients are held again and again."""
        self.denials += 1
        if self.denials > DENIALS:
            self.end = "gradients were replaced, or held by somebody else, at every call"
        return False

    def _adopts(self) -> bool:
        """Take the gradients that are there as those to be written again, if nobody else holds them."""
        recipe = self.recipe
        there = [(f.leaf, None) for f in recipe.fresh if f.leaf is not None] + recipe.steady
        self.release()
        for k in recipe.kept:
            if not is_alone(k.leaf[GRAD], k.layout):
                return False
            recipe.arguments[k.place] = k.leaf[GRAD]
        self.differs = device.machine().guard(self.facts + array("q", self._gradient_words(there)))
        moved = any(leaf[GRAD] is not g for leaf, g in there)
        moved |= any(k.leaf[GRAD] is not recipe.arguments[k.place] for k in recipe.kept)
        if moved or self.differs() is not None:
            return False
        self.denials = 0
        return True

    def _gradient_words(self, there: list[tuple[list, Any]]) -> list[int]:
        """That gradients are what they are, and nobody else's."""
        pairs = [objects.of_item(leaf, GRAD) for leaf, _ in there]
        for k in self.recipe.kept:
            g = k.leaf[GRAD]
            pairs += [objects.of_item(k.leaf, GRAD), objects.references(g, 2), *slot_words(g)]
            pairs += [objects.references(g.storage, 1)]
        return [word for pair in pairs for word in pair]

    def release(self) -> None:
        """Hold no gradients until the next call."""
        if self.recipe.kept:
            self.differs = None
        for k in self.recipe.kept:
            self.recipe.arguments[k.place] = None

    def _move(self, values: list[Any]) -> bool:
        """Numbers that are others at each call."""
        if not self._is_steady() and not self._advance(values):
            return False
        for first, draw in self.recipe.draws:
            values[first : first + 2] = draw.generator.take(draw.count)
        return True

    def _is_steady(self) -> bool:
        """Whether the numbers of optimizers are those of the call before."""
        if self.counts:
            return False
        options = [x for o in self.recipe.optimizers for x in o.scheduled()]
        if self.options is not None and all(map(operator.is_, options, self.options)):
            return True
        self.options = options if all(type(x) in (int, float) for x in options) else None
        return False

    def _advance(self, values: list[Any]) -> bool:
        """Count a step of each optimizer, and have its numbers."""
        recipe = self.recipe
        counters = [c for o in recipe.optimizers for c in o.counters()]
        moved = [m for o in recipe.optimizers for m in o.advance_all()]
        if [rule for rule, _ in moved] != recipe.rules:
            for found, before in counters:
                found.update(before)
            self.end = "an optimizer's rule changed, by its options or the number of its steps"
            return False
        for (first, count), (_, scalars) in zip(recipe.scalars, moved, strict=True):
            numbers = list(scalars.values())
            values[first : first + count] = recipe.arguments[first : first + count] = numbers
        return True

    def _run(
        self, parts: Sequence[Part], leaves: Sequence[Any], values: list[Any], found: list[Any]
    ) -> bool:
        """Run some parts, and add what is read after them; whether all is as expected."""
        for part in parts:
            part.program(*(values if part.of is None else values[part.of]))
            for glance in part.glances:
                value = self._read(glance, leaves, values)
                if glance.expected is None:
                    found.append(value)
                elif value is not glance.expected:
                    return False
        return True

    def _read(self, g: Glance, leaves: Sequence[Any], values: list[Any]) -> Any:
        t = g.tensor
        if t is None:
            t = leaves[g.leaf] if g.place < 0 else values[g.place]
        if deferral.is_on:  # in another thread, whose notes may be to write there
            deferral.settle(t.storage)
        value = g.reader(t.storage.data + g.offset).value
        return value if g.convert is None else g.convert(value)

    def _result(self, r: Result, leaves: Sequence[Any], values: list[Any], found: list) -> Any:
        if r.place < 0:
            if r.glance >= 0:
                return found[r.glance]
            return r.value if r.argument < 0 else leaves[r.argument]
        t = whole = values[r.place]
        if r.is_view:
            t = whole._view(r.layout, r.offset)
        elif r.is_other:
            t = self.make(whole.storage, r.layout)
        if r.node is not None:
            t.tape = [next_seq(), *r.node[1:]]
        return t


def is_bare(t: Tensor) -> bool:
    """Whether a tensor is nothing but its memory and layout: off the tape, as what it is a view of, and
    without attributes.
    """
    is_off = t.tape is None and (t.base is None or t.base.tape is None)
    return is_off and not (t.__dict__ and has_attributes(t))


def has_attributes(t: Tensor) -> bool:
    """Whether a tensor has attributes, besides the list of its views."""
    return not t.__dict__.keys() <= {"_views"}


def is_alone(g: Any, lay: Layout) -> bool:
    """Whether a gradient is a leaf's alone: held by it, the caller's argument and this one's."""
    if type(g) is not Tensor or g.layout is not lay or g.tape is not None or g.base is not None:
        return False
    storage = g.storage
    is_own = storage.root is storage and storage.owner is None
    return is_own and sys.getrefcount(g) == 3 and sys.getrefcount(storage) == 3


def is_equal(a: Any, b: Any) -> bool:
    """Whether one argument does for another: numbers, by their bits, and strings."""
    return type(a) is type(b) and isinstance(a, (int, float, str)) and repr(a) == repr(b)
