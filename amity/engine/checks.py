"""What kernels do, looked at while they do it: `AMITY_CHECK=bounds,nan,reference`.

A machine tells of calls, as it does to profiles; each runs as a Program that stops after every launch
(`probe.py`), eager ones and segments of compiled functions alike. The first thing found is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from amity.core.errors import CheckError, message
from amity.ir.graph import Node

from . import bounds, device, lines, program, reference, suspects
from .probe import Inspector, Probe

NAMES = ("bounds", "nan", "reference")


class Checks(Inspector):
    """Looks at every launch, of all threads: that it stays in its memory (`bounds`), that what it
    writes has no NaN or infinity where what it reads has none (`nan`), that its results are NumPy's
    (`reference`).

    It is slow. While a thread's calls are noted, those of other threads are not looked at.

    errors: ValueError for other names

    >>> import amity
    >>> with Checks("nan"):
    ...     amity.zeros(2).log()
    Traceback (most recent call last):
        ...
    amity.core.errors.CheckError: log: got -inf at [0] of float32[2], made of finite numbers by ...
    """

    def __init__(self, *names: str) -> None:
        unknown = [n for n in names if n not in NAMES]
        if unknown or not names:
            got = ", ".join(map(repr, unknown)) or "nothing"
            raise ValueError(message("checking", got, f"some of {', '.join(NAMES)}"))
        super().__init__()
        self.names = frozenset(names)
        self._known: dict[Node, Any] = {}  # values in the Program that runs

    def start(self) -> None:
        """Look from now on."""
        if "bounds" in self.names:
            self.guard = bounds.guard()
        super().start()

    def host(self, call: program.HostProgram, args: Sequence[Any]) -> Any:
        """A call of NumPy, which is its own reference."""
        out = call.run(*args)
        if "nan" in self.names:
            made = out if isinstance(out, tuple) else (out,)
            inputs = call.arrays(args)
            for t in made:
                value = device.array_of(t.storage, t.layout)
                if _is_new(value, inputs):
                    raise _not_finite(call.op.name, value, "NumPy", lines.line())
        return out

    # -- what is looked at
    def begins(self, probe: Probe, arrays: list[np.ndarray]) -> None:
        """A Program starts."""
        if self.names == {"bounds"}:
            return
        self._known = known_inputs(probe, arrays)
        if "reference" in self.names and not probe.has_run:
            found = suspects.wrong_pass(probe.paper, self._known)
            if found is not None:
                raise _differs(found.node, found.text, f"pass {found.step.name}")

    def launched(self, probe: Probe, k: int, arrays: list[np.ndarray]) -> None:
        """A launch is done."""
        if self.guard is not None:
            self._check_bounds(probe, k)
        if self.names == {"bounds"}:
            return
        made = [node for node, _ in probe.launches[k].makes]
        if "nan" in self.names and not all(map(_is_finite, arrays)):
            self._check_finite(probe, k, made, arrays)
        if "reference" in self.names:
            self._check_values(made, arrays, f"kernel {probe.steps[k].name}")
        self._known.update(zip(made, [a.copy() for a in arrays], strict=True))

    def ends(self, probe: Probe, arrays: list[np.ndarray]) -> None:
        """A Program is done."""
        if "reference" in self.names:
            self._check_values(probe.graph.outputs, arrays, "the Program")
        self._known = {}

    def _check_values(self, made: Sequence[Node], arrays: Sequence[np.ndarray], who: str) -> None:
        """Raise for the first node that is not what NumPy makes of the same inputs."""
        values = dict(self._known)
        for _ in reference.follow(made, values):
            pass
        for node, array in zip(made, arrays, strict=True):
            if reference.departure(array, values[node]):
                wide = dict(self._known)
                for _ in reference.follow([node], wide, is_wide=True):
                    pass
                found = reference.departure(array, values[node], wide[node])
                if found:
                    raise _differs(node, found, who)

    def _check_bounds(self, probe: Probe, k: int) -> None:
        astray = self.guard.astray() if self.guard else None
        if astray is None:
            return
        launch, name = probe.launches[k], probe.steps[k].name
        kernel = launch.build(name, device.kernels().target, device.kernels().math)
        node = probe.node_of(k)
        got = (
            f"`{bounds.instruction(kernel, astray.number)}` of kernel {name} {self.guard.nearest(astray)}"
            f" at {_asked(node)}"
        )
        raise CheckError(message(node.op.name if node else name, got, "accesses inside of buffers"))

    def _check_finite(
        self, probe: Probe, k: int, made: Sequence[Node], arrays: Sequence[np.ndarray]
    ) -> None:
        """Raise for the first node of a launch that makes a NaN or infinity of what has none."""
        values, kernel = dict(self._known), f"kernel {probe.steps[k].name}"
        leaves: list[Any] = []
        for node in reference.follow(made, values):
            inputs = [values[x] for x in node.inputs]
            leaves += [values[x] for x in node.inputs if x in self._known]
            value = values[node]
            if node.op.kind == "constant":
                leaves.append(value)
            elif _is_new(value, inputs):
                raise _not_finite(node.op.name, value, kernel, _asked(node))
        for node, array in zip(made, arrays, strict=True):
            if node.op is not None and _is_new(array, leaves):
                raise _not_finite(node.op.name, array, kernel, _asked(node))


def known_inputs(probe: Probe, arrays: Sequence[np.ndarray]) -> dict[Node, Any]:
    """The values of a graph's inputs, as they are before a Program writes to any."""
    used = set(probe.graph.nodes())
    return {
        node: a.item() if node.spec.is_weak else a.copy()
        for node, a in zip(probe.graph.inputs, arrays, strict=True)
        if node in used
    }


def _asked(node: Node | None) -> str:
    """The line of the user's program that a node stands for."""
    return (node.where.line if node else "") or lines.line() or "an unknown line"


def _is_float(value: Any) -> bool:
    return np.asarray(value).dtype.kind not in "biu"


def _is_finite(value: Any) -> bool:
    return bool(np.isfinite(reference.plain(value)).all())


def _is_new(value: Any, inputs: Sequence[Any]) -> bool:
    """Whether a value has NaNs where no input has any, or infinities where all inputs are finite."""
    if not _is_float(value) or _is_finite(value):
        return False
    floats = [reference.plain(x) for x in inputs if _is_float(x)]
    if np.isnan(reference.plain(value)).any() and not any(np.isnan(x).any() for x in floats):
        return True
    return all(np.isfinite(x).all() for x in floats)


def _not_finite(name: str, value: Any, who: str, where: str) -> CheckError:
    array = reference.plain(value)
    flat = int(np.flatnonzero(~np.isfinite(array))[0])
    got = (
        f"{array.flat[flat]} at {reference.place(array.shape, flat)} of {reference.shown(value)}, made of finite "
        f"numbers by {who} at {where}"
    )
    return CheckError(message(name, got, "finite results", "AMITY_CHECK=nan"))


def _differs(node: Node, found: str, who: str) -> CheckError:
    got, expected = found.split("; expected ")
    name = node.op.name if node.op is not None else "copy"
    got = f"{got} from {who} at {_asked(node)}"
    error = CheckError(message(name, got, expected, "AMITY_CHECK=reference"))
    error.node = node
    return error
