"""Nested tuples, lists and dicts: their leaves in order, and the nest around them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

DICTS = (dict, OrderedDict, defaultdict)


class Nest:
    """The shape of a nest: what each level is and holds. Nests are equal where they hold the same.

    >>> leaves, nest = flatten({"a": 1, "b": (2, 3)})
    >>> nest.fill([x * 10 for x in leaves])
    {'a': 10, 'b': (20, 30)}
    """

    def __init__(self, kind: type | None, keys: Any = (), parts: Iterable[Nest] = ()) -> None:
        self.kind, self.keys, self.parts = kind, keys, tuple(parts)
        self.count: int = 1 if kind is None else sum(p.count for p in self.parts)

    def fill(self, leaves: Iterable[Any]) -> Any:
        """The nest with other leaves."""
        return self._filled(iter(leaves))

    def _filled(self, leaves: Any) -> Any:
        if self.kind is None:
            return next(leaves)
        inner = [p._filled(leaves) for p in self.parts]
        make: Any = self.kind
        if make is defaultdict:
            return make(self.keys[0], zip(self.keys[1], inner, strict=True))
        if make in DICTS:
            return make(zip(self.keys, inner, strict=True))
        if isinstance(self.keys, tuple):  # results with names, as `sort` gives them
            return make(self.keys[0], **dict(zip(self.keys[1], inner, strict=True)))
        return make(*inner) if hasattr(make, "_fields") else make(inner)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Nest):
            return NotImplemented
        return (self.kind, self.keys, self.parts) == (other.kind, other.keys, other.parts)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "*" if self.kind is None else repr(self.fill(["*"] * self.count)).replace("'*'", "*")


LEAF = Nest(None)


def children(tree: Any) -> tuple[Any, list[Any]] | None:
    """A level's keys and what it holds; None for a leaf."""
    kind = type(tree)
    if kind is defaultdict:
        return (tree.default_factory, tuple(tree)), list(tree.values())
    if kind in DICTS:
        return tuple(tree), list(tree.values())
    if isinstance(tree, tuple) and hasattr(tree, "_names"):
        named: Any = tree
        return (named._op, named._names), list(named)
    if kind in (tuple, list, deque) or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        return len(tree), list(tree)
    return None


def flatten(tree: Any) -> tuple[list[Any], Nest]:
    """The leaves of a nest in order, and the nest."""
    leaves: list[Any] = []

    def walk(x: Any) -> Nest:
        found = children(x)
        if found is None:
            leaves.append(x)
            return LEAF
        return Nest(type(x), found[0], [walk(v) for v in found[1]])

    nest = walk(tree)
    return leaves, nest


def mapped(function: Callable, tree: Any) -> Any:
    """The nest with each leaf replaced."""
    leaves, nest = flatten(tree)
    return nest.fill([function(x) for x in leaves])


def spread(prefix: Any, nest: Nest) -> list[Any] | None:
    """One value for each leaf of a nest, from a nest that may end earlier: `1` stands for all leaves
    below its place. None if the two do not fit.

    >>> spread((0, None), flatten((1, [2, 3]))[1])
    [0, None, None]
    """
    found = children(prefix)
    if found is None:
        return [prefix] * nest.count
    if nest.kind is not type(prefix) or nest.keys != found[0]:
        return None
    out: list[Any] = []
    for p, n in zip(found[1], nest.parts, strict=True):
        part = spread(p, n)
        if part is None:
            return None
        out += part
    return out
