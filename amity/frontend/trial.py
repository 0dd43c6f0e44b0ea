"""Trying a call out: may a Program stand for it?

What the call's code can reach is walked before and after it (reach.py), Python is watched while it runs
(watch.py), and amity's own state tells a witness what it gave (engine/witness.py). If everything is
afterwards as it was, but for what the Program writes and counters that are asked again, then another
call would do the same.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any

from amity.core import tree
from amity.core.layout import Layout
from amity.engine import device, program
from amity.engine.witness import Run, Witness

from .glances import Glances
from .reach import ATOMS, GRAD, Reach, Refused, Sight
from .static import Fresh, Given, Part, Recipe, Result, Static, has_attributes, is_bare
from .tape import ACCUMULATE, EDGES, FREED, OUTPUT, RULE, SAVED
from .tensor import Tensor
from .watch import Watch


class Changed(Refused):
    """Something is not what it was before the call, but may come to rest at a later one."""


def is_free(leaf: Any) -> bool:
    """Whether an argument may be another tensor at each call."""
    return type(leaf) is Tensor and type(leaf.layout) is Layout and is_bare(leaf)


class Trial:
    """One call that is tried out, after another one was watched."""

    def __init__(self, function: Callable, seen: Watch, args: tuple, kwargs: dict) -> None:
        self.seen = seen
        self.leaves, self.nest = tree.flatten((args, kwargs))
        fixed = [(i, x) for i, x in enumerate(self.leaves) if not is_free(x)]
        self.sight = Sight(function, seen, fixed)
        self.before = self.sight.walk()
        self.grads = {id(t.tape): t.tape[GRAD] for t in self.before.tensors if t.tape is not None}
        self.free = [x for x in self.leaves if is_free(x)]
        counters = [t.storage.counter for t in (*self.before.tensors, *self.free)]
        self.versions = {id(c): (c, c.version) for c in counters}

    def outcome(self, result: Any, watch: Watch, witness: Witness) -> Static:
        """What stands for the call from now on, or an error that says why nothing can."""
        reasons = [*self.seen.reasons, *watch.reasons, *witness.reasons]
        if reasons:
            raise Refused("; ".join(dict.fromkeys(reasons)))
        if watch.codes.keys() != self.seen.codes.keys():
            raise Changed("it ran other code than at the call before")
        if any(map(has_attributes, self.free)):
            raise Refused("it sets an attribute of an argument")
        after = self.sight.walk()
        where = self.before.difference(after)
        if where is not None:
            raise Changed(f"{where} is not what it was before the call")
        for code in watch.strangers(after.codes):
            raise Refused(f"{code.co_name} was called through something that cannot be followed")
        if all(run.segment.program is None for run in witness.runs):
            raise Refused("it computes nothing")
        return Static(Assembly(self, after, witness).recipe(result), after, self.sight)


class Assembly:
    """Makes a recipe of what a call was seen to do."""

    def __init__(self, trial: Trial, reach: Reach, witness: Witness) -> None:
        self.trial, self.reach, self.witness = trial, reach, witness
        self.runs: list[Run] = [r for r in witness.runs if r.segment.program is not None]
        self.held = {id(t.storage.root): t.storage.root for t in reach.tensors}
        self.free = {
            i: x
            for i, x in enumerate(trial.leaves)
            if is_free(x) and id(x.storage.root) not in self.held
        }
        self.owner = {id(x.storage.root): i for i, x in self.free.items()}
        if len(self.owner) != len(self.free):
            raise Refused("arguments share memory")
        self.noted = {
            id(s): (run, r) for run in reversed(self.runs) for r, s in enumerate(run.roots)
        }
        self.new: dict[int, int] = {}  # memory that calls make, by the argument that it first is
        self.layouts: list[Any] = []  # of all Programs' arguments; None for numbers
        self.starts: list[int] = []  # where each run's numbers begin among them
        self.given = {i: Given(i, x.layout, []) for i, x in self.free.items()}
        self.fresh: list[Fresh] = []
        self.kept: list[Fresh] = []
        self.links: list[tuple[int, int, Layout, int]] = []
        self.steady: list[tuple[list, Any]] = []
        self.grads: dict[int, tuple[list, Tensor, bool]] = {}  # with whether one was there
        for leaf in [t.tape for t in reach.tensors if t.tape is not None]:
            self._see_gradient(leaf, trial.grads[id(leaf)], leaf[GRAD])

    def recipe(self, result: Any) -> Recipe:
        arguments: list[Any] = []
        parts = []
        for run in self.runs:
            first = len(arguments)
            for root, offset, lay in run.segment.noted.places:
                self.layouts.append(lay)
                arguments.append(self._argument(run, root, offset + run.bases[root], lay))
            self.starts.append(len(arguments))
            arguments += _numbers(run)
            self.layouts += [None] * (len(arguments) - len(self.layouts))
            of = slice(first, len(arguments)) if len(self.runs) > 1 else None
            parts.append(Part(run.segment.program, of))
        leaves, nest = tree.flatten(result)
        glances, leading = Glances(self, leaves, nest).found(parts)
        results = self._results(leaves, glances)
        updates = self.witness.updates
        return Recipe(
            parts, leading, arguments, self.links, self.trial.nest,
            same=[(i, x) for i, x in enumerate(self.trial.leaves) if i not in self.free],
            given=list(self.given.values()), fresh=self.fresh, kept=self.kept, steady=self.steady,
            roots=self.held, written=self._written(),
            checks=[(self._looked_at(t), *how) for t, *how in self.witness.checks],
            optimizers=self.witness.optimizers, rules=[u.function for u in updates],
            scalars=[(self._numbers_of(u.after) + u.first, len(u.numbers)) for u in updates],
            draws=self._draws(), results=results,
            result_nest=tree.LEAF if nest == tree.LEAF else nest,
        )  # fmt: skip

    def _argument(self, run: Run, root: int, offset: int, lay: Layout) -> Any:
        """A Program's argument, if it is the same at each call; else how it is made is noted."""
        storage, k = run.roots[root], len(self.layouts) - 1
        at = id(storage)
        if at in self.new:
            self.links.append((k, self.new[at], lay, offset))
        elif self._is_new(run, root):
            leaf, g, had_one = self.grads.get(at, (None, None, False))
            (self.kept if had_one else self.fresh).append(Fresh(k, lay, leaf))
            if g is not None and g.layout is not lay:
                raise Refused("a gradient is a view of what was made")
            self.new[at] = k
        elif at in self.owner:
            i = self.owner[at]
            self.given[i].places.append((k, lay, self._beyond(self.free[i], offset)))
        elif at in self.held:
            there = device.machine().alias(storage, offset) if offset else storage
            return device.machine().make(there, lay)
        else:
            raise Refused(
                f"it makes {lay.dtype.name}{list(lay.shape)} anew by other means than ops, as "
                "`arange` and `tensor` do, or finds it where nothing leads to it"
            )
        return None

    def _numbers_of(self, after: int) -> int:
        """Where the numbers of the segment that ran after so many begin."""
        run = self.witness.runs[after] if after < len(self.witness.runs) else None
        if run not in self.runs:
            raise Refused("what it computes with numbers is not used")
        return self.starts[self.runs.index(run)]

    def _see_gradient(self, leaf: list, before: Any, g: Any) -> None:
        """What became of the gradient of a leaf of the tape."""
        for t in (before, g):
            if t is not None and id(t.storage.root) in self.noted:
                if t is before or t.storage.root is not t.storage or t.base is not None:
                    raise Refused("gradients are added to those that are there")
        if g is before:
            self.steady.append((leaf, g))
            return
        at = id(g.storage) if g is not None else 0
        if at not in self.noted or at in self.grads or g.tape is not None:
            raise Changed("a gradient is not one that the call computes")
        if not self._is_new(*self.noted[at]):
            raise Changed("a gradient is not one that the call computes")
        self.grads[at] = leaf, g, before is not None

    def _is_new(self, run: Run, root: int) -> bool:
        """Whether memory was made by the call, and not only found by the first segment that knows it."""
        if run.made[root]:
            return True
        at, noted = id(run.roots[root]), run.segment.noted
        is_read = any(r == root for r, _, _ in noted.places[: -len(noted.targets)])
        return not (at in self.held or at in self.owner or is_read) and root in noted.targets

    def _beyond(self, t: Tensor, offset: int) -> int:
        """How far from a tensor's start something begins that is so far from its root's."""
        away = offset - (t.storage.data - t.storage.root.data)
        if away < 0:
            raise Refused("it reads memory in front of an argument")
        return away

    def _written(self) -> list[Any]:
        """The memory that the call wrote, once for each time: storages, or leaves of arguments."""
        free = {id(x.storage.counter): i for i, x in enumerate(self.trial.leaves) if is_free(x)}
        held = {id(t.storage.counter) for t in self.reach.tensors}
        written: list[Any] = []
        for at, (counter, version) in self.trial.versions.items():
            who = counter if at in held else free.get(at, counter)
            written += [who] * (counter.version - version)
        return written

    def _looked_at(self, t: Tensor) -> tuple[Any, Layout, int]:
        """A tensor whose elements are checked, as seen from outside."""
        root = id(t.storage.root)
        if root in self.owner:
            i = self.owner[root]
            return i, t.layout, self._beyond(self.free[i], t.storage.data - t.storage.root.data)
        if root not in self.held:
            raise Refused("it checks indices that it computed")
        return device.machine().make(t.storage, t.layout), t.layout, 0

    def _draws(self) -> list[tuple[int, Any]]:
        """Where in the Programs' arguments each draw went."""
        found, at, after = [], 0, -1
        for draw in self.witness.draws:
            first = self._numbers_of(draw.after)
            at, after = at if draw.after == after else 0, draw.after
            numbers = self.witness.runs[after].numbers
            while numbers[at : at + 2] != [draw.seed, draw.offset]:
                at += 1
                if at >= len(numbers):
                    raise Refused("random numbers are drawn outside of kernels")
            found.append((first + at, draw))
            at += 2
        return found

    def _results(self, leaves: list[Any], glances: dict[int, int]) -> list[Result]:
        taken: dict[int, int] = {}
        results = []
        for i, x in enumerate(leaves):
            is_read = i in glances
            results.append(Result(glance=glances[i]) if is_read else self._result(x, taken))
        for f in self.fresh:
            if f.leaf is None and f.place not in taken and not self._is_gone(f.place):
                raise Refused("it keeps a tensor that it made")
        tensors = [id(x) for x in leaves if isinstance(x, Tensor)]
        if len(set(tensors)) != len(tensors):
            raise Refused("it returns a tensor twice")
        return results

    def _is_gone(self, place: int) -> bool:
        """Whether nobody but the witness holds memory that was made, so that it ended with the call."""
        at = next(at for at, k in self.new.items() if k == place)
        run, root = self.noted[at]
        held = sum(id(s) == at for r in self.witness.runs for s in r.roots)
        held += sum(id(look.root) == at for look in self.witness.looks_at)
        return sys.getrefcount(run.roots[root]) == held + 1

    def _result(self, x: Any, taken: dict[int, int]) -> Result:
        """How a leaf of the results is made."""
        if not isinstance(x, Tensor):
            if not isinstance(x, ATOMS) and not self.reach.has(x):
                raise Refused(f"it returns a {type(x).__name__}")
            return Result(x)
        if self.reach.has(x):
            return Result(x)
        for i, leaf in self.free.items():
            if leaf is x:
                return Result(argument=i)
        root = x.storage.root
        k = self.new.get(id(root))
        if k is None or id(root) in self.grads or type(x) is not Tensor:
            raise Refused(
                "it returns a view of what it was given, a gradient, or a tensor of another class"
            )
        if has_attributes(x):
            raise Refused("it returns a tensor with attributes of its own")
        lay = self.layouts[k]
        is_view = x.base is not None
        if x.tape is not None:
            _check_spent(x.tape)
        if is_view and (x.tape is not None or x.base.tape is not None):
            raise Refused("it returns a view whose gradient is wanted")
        if not is_view and (x.layout is not lay or x.storage is not root):
            raise Refused("it returns a part of what it made")
        is_other = taken.setdefault(k, 0) > 0
        taken[k] += not is_view
        away = x.storage.data - root.data
        return Result(None, -1, k, x.layout, away, x.tape, is_view, is_other)


def _numbers(run: Run) -> list[float]:
    """The numbers that a Program was given."""
    kinds = [kind for kind in program.paper_of(run.segment.program).weak if kind]
    pairs = zip(kinds, run.numbers, strict=True)
    return [struct.unpack("d", struct.pack("q", n))[0] if k == "f" else n for k, n in pairs]


def _check_spent(node: list) -> None:
    """Nothing may be left to differentiate in what made a result."""
    todo, seen = [node], set()
    while todo:
        node = todo.pop()
        if id(node) in seen or node is None or node[RULE] is ACCUMULATE:
            continue
        seen.add(id(node))
        if node[RULE] is not OUTPUT and node[SAVED] and node[SAVED] is not FREED:
            raise Refused("it returns a tensor whose gradients are still wanted")
        todo += node[EDGES]
