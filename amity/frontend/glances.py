"""Values that Python was given in a call that is tried out: those that it only returns may be read again."""

from __future__ import annotations

import types
from functools import partial
from inspect import getattr_static
from typing import Any

from amity.core import tree
from amity.engine.witness import Look

from .reach import Refused
from .returned import Path, Used, follow
from .static import Glance, Part, is_equal
from .tensor import Tensor

CONVERT = {
    Tensor.__float__.__code__: float,
    Tensor.__int__.__code__: int,
    Tensor.__bool__.__code__: bool,
}
NESTS = (tuple, list, dict)


class Glances:
    """How the values of a call's looks are read again; which leaves of the results they are."""

    def __init__(self, assembly: Any, leaves: list[Any], nest: tree.Nest) -> None:
        self.assembly, self.leaves, self.nest = assembly, leaves, nest

    def found(self, parts: list[Part]) -> dict[int, int]:
        """Give parts what is read after them; the number of the look that each leaf of the results is."""
        leaves: dict[int, int] = {}
        for look in self.assembly.witness.looks_at:
            method, convert, frames = _asked(look)
            if not _is_direct(self.assembly.trial.sight.function):
                raise Refused("Python reads what a tensor holds")
            try:
                path = follow(method, frames)
            except Used as used:
                raise Refused(
                    f"Python reads what a tensor holds, and does more than return it ({used})"
                ) from None
            if path is None:
                continue
            leaf = self._leaf(path)
            value = look.value if convert is None else convert(look.value)
            if leaf in leaves or not is_equal(self.leaves[leaf], value):
                raise Refused("Python reads what a tensor holds, and returns something else")
            leaves[leaf] = len(leaves)
            ran = self.assembly.witness.runs[: look.after]
            before = sum(run in self.assembly.runs for run in ran)
            if not before:
                raise Refused("Python reads what a tensor holds before anything is computed")
            parts[before - 1].glances.append(self._glance(look, convert))
        return leaves

    def _leaf(self, path: Path) -> int:
        """Which leaf of the results lies there."""
        nest, at = self.nest, 0
        for i, count in path:
            if nest.kind not in NESTS or len(nest.parts) != count:
                raise Refused("Python reads what a tensor holds, and returns something else")
            at += sum(p.count for p in nest.parts[:i])
            nest = nest.parts[i]
        return at

    def _glance(self, look: Look, convert: Any) -> Glance:
        """How the value is read."""
        here, at = self.assembly, id(look.root)
        glance = Glance(look.reader, convert, look.offset)
        if at in here.new:
            glance.place = here.new[at]
        elif at in here.owner:
            glance.leaf = here.owner[at]
            t = here.free[glance.leaf]
            glance.offset -= t.storage.data - look.root.data
        elif at in here.held:
            t = next(t for t in here.reach.tensors if t.storage.root is look.root)
            glance.tensor = t
            glance.offset -= t.storage.data - look.root.data
        else:
            raise Refused("Python reads what a tensor holds that is not reached otherwise")
        return glance


def _asked(look: Look) -> tuple[str, Any, list[tuple]]:
    """What was called of the tensor, what makes Python's number of its value, and who called it."""
    frames = look.frames[1:]  # item's own
    if frames and frames[0][0] is Tensor._number.__code__:
        frames = frames[1:]
    convert = CONVERT.get(frames[0][0]) if frames else None
    if convert is None:
        if len(frames) != len(look.frames) - 1:
            raise Refused("Python reads what a tensor holds")
        return "item", None, frames
    if convert is int and not isinstance(look.value, int):
        raise Refused("Python reads what a tensor holds, and rounds it")
    return convert.__name__, convert, frames[1:]


def _is_direct(function: Any) -> bool:
    """Whether what a function's code returns is what a call of it gives."""
    while isinstance(function, (partial, types.MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    call = function if isinstance(function, types.FunctionType) else None
    return isinstance(call or getattr_static(type(function), "__call__"), types.FunctionType)
