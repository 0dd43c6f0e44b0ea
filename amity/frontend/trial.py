"""Trying a call out: may a Program stand for it?

What the call's code can reach is walked before and after it (reach.py), Python is watched while it runs
(watch.py), and amity's own state tells a witness what it gave (engine/witness.py). If everything is
afterwards as it was, but for what the Program writes and counters that are asked again, then another
call would do the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from amity.core import tree
from amity.core.layout import Layout
from amity.engine import device, program
from amity.engine.witness import Run, Witness

from .reach import ATOMS, GRAD, Reach, Refused, Sight
from .static import Fresh, Given, Recipe, Result, Static
from .tape import ACCUMULATE, EDGES, FREED, OUTPUT, RULE, SAVED
from .tensor import Tensor
from .watch import Watch


class Changed(Refused):
    """Something is not what it was before the call, but may come to rest at a later one."""


def is_free(leaf: Any) -> bool:
    """Whether an argument may be another tensor at each call."""
    return type(leaf) is Tensor and leaf.tape is None and type(leaf.layout) is Layout


class Trial:
    """One call that is tried out, after another one was watched."""

    def __init__(self, function: Callable, seen: Watch, args: tuple, kwargs: dict) -> None:
        self.seen = seen
        self.leaves, self.nest = tree.flatten((args, kwargs))
        fixed = [(i, x) for i, x in enumerate(self.leaves) if not is_free(x)]
        self.sight = Sight(function, seen, fixed)
        self.before = self.sight.walk()
        self.grads = {id(t.tape): t.tape[GRAD] for t in self.before.tensors if t.tape is not None}
        free = [x for x in self.leaves if is_free(x)]
        roots = [t.storage.root for t in (*self.before.tensors, *free)]
        self.versions = {id(root): root.version for root in roots}

    def outcome(self, result: Any, watch: Watch, witness: Witness) -> Static:
        """What stands for the call from now on, or an error that says why nothing can."""
        reasons = [*self.seen.reasons, *watch.reasons, *witness.reasons]
        if reasons:
            raise Refused("; ".join(dict.fromkeys(reasons)))
        if watch.codes.keys() != self.seen.codes.keys():
            raise Changed("it ran other code than at the call before")
        after = self.sight.walk()
        where = self.before.difference(after)
        if where is not None:
            raise Changed(f"{where} is not what it was before the call")
        for code in watch.strangers(after.codes):
            raise Refused(f"{code.co_name} was called through something that cannot be followed")
        if len(witness.runs) != 1 or witness.runs[0].segment.program is None:
            raise Refused(f"it ran {len(witness.runs)} segments; expected one, that does something")
        return Static(Assembly(self, after, witness).recipe(result), after, self.sight)


class Assembly:
    """Makes a recipe of what a call was seen to do."""

    def __init__(self, trial: Trial, reach: Reach, witness: Witness) -> None:
        self.trial, self.reach, self.witness = trial, reach, witness
        self.run: Run = witness.runs[0]
        self.places = self.run.segment.noted.places
        self.held = {id(t.storage.root): t.storage.root for t in reach.tensors}
        self.free = {
            i: x
            for i, x in enumerate(trial.leaves)
            if is_free(x) and id(x.storage.root) not in self.held
        }
        self.owner = {id(x.storage.root): i for i, x in self.free.items()}
        if len(self.owner) != len(self.free):
            raise Refused("arguments share memory")
        self.number = {id(s): r for r, s in enumerate(self.run.roots) if s is not None}
        self.steady: list[tuple[list, Any]] = []
        self.grads: dict[int, tuple[list, Tensor, bool]] = {}  # by root, with whether one was there
        for leaf in [t.tape for t in reach.tensors if t.tape is not None]:
            self._see_gradient(leaf, trial.grads[id(leaf)], leaf[GRAD])

    def recipe(self, result: Any) -> Recipe:
        run = self.run
        given = {i: Given(i, x.layout, []) for i, x in self.free.items()}
        arguments: list[Any] = []
        fresh: list[Fresh] = []
        kept = []
        for k, (root, offset, lay) in enumerate(self.places):
            storage, argument = run.roots[root], None
            offset += run.bases[root]
            if self._is_new(root):
                leaf, g, had_one = self.grads.get(root, (None, None, False))
                if had_one:
                    kept.append(Fresh(k, lay, leaf))
                else:
                    fresh.append(Fresh(k, lay, leaf))
                if g is not None and g.layout is not lay:
                    raise Refused("a gradient is a view of what was made")
            elif id(storage) in self.owner:
                i = self.owner[id(storage)]
                given[i].places.append((k, lay, self._beyond(self.free[i], offset)))
            elif id(storage) in self.held:
                there = device.machine().alias(storage, offset) if offset else storage
                argument = device.machine().make(there, lay)
            else:
                raise Refused(
                    "it uses a tensor that was not made by ops, and is not reached otherwise"
                )
            arguments.append(argument)
        results, nest = self._results(result, {f.place for f in fresh if f.leaf is None})
        updates = self.witness.updates
        return Recipe(
            run.segment.program, arguments + self._numbers(), self.trial.nest,
            same=[(i, x) for i, x in enumerate(self.trial.leaves) if i not in self.free],
            given=list(given.values()), fresh=fresh, kept=kept, steady=self.steady, roots=self.held,
            written=self._written(), checks=[(self._looked_at(t), *how) for t, *how in self.witness.checks],
            optimizers=self.witness.optimizers, rules=[u.function for u in updates],
            scalars=[(len(self.places) + u.first, len(u.numbers)) for u in updates],
            draws=self._draws(), results=results, result_nest=nest,
        )  # fmt: skip

    def _see_gradient(self, leaf: list, before: Any, g: Any) -> None:
        """What became of the gradient of a leaf of the tape."""
        for t in (before, g):
            if t is not None and id(t.storage.root) in self.number:
                if t is before or t.storage.root is not t.storage or t.base is not None:
                    raise Refused("gradients are added to those that are there")
        if g is before:
            self.steady.append((leaf, g))
            return
        root = None if g is None else self.number.get(id(g.storage))
        if root is None or not self._is_new(root) or root in self.grads or g.tape is not None:
            raise Changed("a gradient is not one that the call computes")
        self.grads[root] = leaf, g, before is not None

    def _is_new(self, root: int) -> bool:
        """Whether memory was made by the call, and not only found."""
        if self.run.made[root]:
            return True
        at, noted = id(self.run.roots[root]), self.run.segment.noted
        is_read = any(r == root for r, _, _ in noted.places[: -len(noted.targets)])
        return not (at in self.held or at in self.owner or is_read) and root in noted.targets

    def _beyond(self, t: Tensor, offset: int) -> int:
        """How far from a tensor's start something begins that is so far from its root's."""
        away = offset - (t.storage.data - t.storage.root.data)
        if away < 0:
            raise Refused("it reads memory in front of an argument")
        return away

    def _numbers(self) -> list[float]:
        """The numbers that the Program was given."""
        kinds = [kind for kind in program.paper_of(self.run.segment.program).weak if kind]
        pairs = zip(kinds, self.run.numbers, strict=True)
        return [struct.unpack("d", struct.pack("q", n))[0] if k == "f" else n for k, n in pairs]

    def _written(self) -> list[Any]:
        """The memory that the call wrote, once for each time: storages, or leaves of arguments."""
        written: list[Any] = []
        for at, root in self.held.items():
            written += [root] * (root.version - self.trial.versions[at])
        for at, i in self.owner.items():
            written += [i] * (self.free[i].storage.version - self.trial.versions[at])
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
        """Where in the Program's arguments each draw went."""
        found, numbers, at = [], self.run.numbers, 0
        for draw in self.witness.draws:
            while numbers[at : at + 2] != [draw.seed, draw.offset]:
                at += 1
                if at >= len(numbers):
                    raise Refused("random numbers are drawn outside of kernels")
            found.append((len(self.places) + at, draw))
            at += 2
        return found

    def _results(self, result: Any, fresh: set[int]) -> tuple[list[Result], tree.Nest]:
        leaves, nest = tree.flatten(result)
        taken: dict[int, int] = {}
        results = []
        for i, x in enumerate(leaves):
            same = next((j for j in range(i) if leaves[j] is x), None)
            results.append(results[same] if same is not None else self._result(x, fresh, taken))
        if fresh - set(taken):
            raise Refused("it keeps a tensor that it made")
        if len({id(x) for x in leaves if isinstance(x, Tensor)}) != sum(
            isinstance(x, Tensor) for x in leaves
        ):
            raise Refused("it returns a tensor twice")
        return results, tree.LEAF if nest == tree.LEAF else nest

    def _result(self, x: Any, fresh: set[int], taken: dict[int, int]) -> Result:
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
        k = next((k for k in fresh if self.run.roots[self.places[k][0]] is root), None)
        if k is None or type(x) is not Tensor:
            raise Refused(
                "it returns a view of what it was given, a gradient, or a tensor of another class"
            )
        lay = self.places[k][2]
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
