"""Values that Python was given in a call that is tried out: those that it only returns may be read again,
and truths may be asked again as long as nothing that lasts is done before.
"""

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

    def found(self, parts: list[Part]) -> tuple[dict[int, int], int]:
        """Give parts what is read after them; the number of the look that each leaf of the results is,
        and how many parts lead to the last truth that is asked.
        """
        leaves: dict[int, int] = {}
        leading = 0
        for look in self.assembly.witness.looks_at:
            ran = self.assembly.witness.runs[: look.after]
            before = sum(run in self.assembly.runs for run in ran)
            try:
                leaf, convert = self._returned(look)
            except Used as used:
                glance = self._truth(look, used)
                leading = max(leading, before)
            else:
                if leaf is None:
                    continue
                glance = self._glance(look, convert)
                if leaf in leaves:
                    raise Refused("Python reads what a tensor holds, and returns something else")
                leaves[leaf] = len(leaves)
            if not before:
                raise Refused("Python reads what a tensor holds before anything is computed")
            parts[before - 1].glances.append(glance)
        self._check_leading(leading)
        return leaves, leading

    def _returned(self, look: Look) -> tuple[int | None, Any]:
        """The leaf of the results that a value is, and how it is made; Used if it may be more."""
        method, convert, frames = _asked(look)
        if not _is_direct(self.assembly.trial.sight.function):
            raise Used("a callable of a type of its own")
        path = follow(method, frames)
        if path is None:
            return None, convert
        leaf = self._leaf(path)
        value = look.value if convert is None else convert(look.value)
        if not is_equal(self.leaves[leaf], value):
            raise Refused("Python reads what a tensor holds, and returns something else")
        return leaf, convert

    def _truth(self, look: Look, used: Used) -> Glance:
        """A value of which Python is told a truth, which must be the same again."""
        is_asked = any(code is Tensor.__bool__.__code__ for code, _, _ in look.frames[1:2])
        if not is_asked and type(look.value) is not bool:
            raise Refused(
                f"Python reads what a tensor holds, and does more than return it ({used})"
            ) from None
        glance = self._glance(look, bool)
        glance.expected = bool(look.value)
        return glance

    def _check_leading(self, leading: int) -> None:
        """What runs before the last truth is asked may run twice, by Python again if it is another."""
        here = self.assembly
        for run in here.runs[:leading]:
            for argument in run.segment.noted.given.values():
                storage = run.roots[run.segment.noted.places[argument][0]]
                if id(storage) not in here.new:
                    raise Refused("Python asks what is true after memory from before was written")
        last = here.witness.runs.index(here.runs[leading - 1]) if leading else -1
        if any(told.after <= last for told in (*here.witness.draws, *here.witness.updates)):
            raise Refused("Python asks what is true after random numbers were drawn")

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
            raise Used("a conversion")
        return "item", None, frames
    if convert is int and not isinstance(look.value, int):
        raise Used("it is rounded")
    return convert.__name__, convert, frames[1:]


def _is_direct(function: Any) -> bool:
    """Whether what a function's code returns is what a call of it gives."""
    while isinstance(function, (partial, types.MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    call = function if isinstance(function, types.FunctionType) else None
    return isinstance(call or getattr_static(type(function), "__call__"), types.FunctionType)
