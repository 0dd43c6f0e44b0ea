"""Sizes that are said to differ between calls of a compiled function: `amity.Dim`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amity.core.errors import fail

from .tensor import Tensor

UNBOUNDED = 1 << 62


class Dim:
    """The name of a size that differs between calls, from `min` to `max`, as in `torch.export`.

    errors: ValueError for a name that is no identifier, or a range without sizes; TypeError for ends
    that are no integers

    >>> Dim("batch", max=64)
    Dim('batch', min=0, max=64)
    """

    __slots__ = ("max", "min", "name")

    def __init__(self, name: str, *, min: int | None = None, max: int | None = None) -> None:
        if not (isinstance(name, str) and name.isidentifier()):
            raise fail(ValueError, "Dim", f"the name {name!r}", "an identifier")
        for end in (min, max):
            if type(end) not in (int, type(None)):
                raise fail(TypeError, "Dim", f"{name} from {min!r} to {max!r}", "integers or None")
        self.name = name
        self.min, self.max = min or 0, UNBOUNDED if max is None else max
        if not 0 <= self.min <= self.max:
            raise fail(ValueError, "Dim", f"{name} from {min} to {max}", "min <= max")

    def __repr__(self) -> str:
        most = "" if self.max == UNBOUNDED else f", max={self.max}"
        return f"Dim({self.name!r}, min={self.min}{most})"


class Dims:
    """Which dimensions of a function's tensors have names."""

    def __init__(self, function: Callable, shapes: Any) -> None:
        self._signature = inspect.signature(getattr(function, "forward", function))
        self._name = getattr(function, "__name__", type(function).__name__)
        names = list(self._signature.parameters)
        if not isinstance(shapes, (Mapping, tuple, list)):
            got = f"dynamic_shapes of type {type(shapes).__name__}"
            raise fail(
                TypeError, "compile", got, "a mapping from parameters, or a sequence by them"
            )
        if not isinstance(shapes, Mapping) and len(shapes) > len(names):
            got = f"dynamic_shapes of {len(shapes)} parameters"
            raise fail(ValueError, "compile", got, f"at most {len(names)}")
        given = shapes if isinstance(shapes, Mapping) else dict(zip(names, shapes, strict=False))
        self.places: list[tuple[str, int, Dim]] = []  # parameter, dimension, name
        for parameter, dims in given.items():
            if parameter not in names:
                got = f"dynamic_shapes with {parameter!r}"
                raise fail(ValueError, "compile", got, f"parameters: {', '.join(names)}")
            for at, dim in _pairs(parameter, dims):
                self.places.append((parameter, at, dim))
        self.names = list(dict.fromkeys(dim.name for _, _, dim in self.places))

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
        """The sizes of a call, by name.

        errors: ValueError for a size outside of its range, or two sizes of one name
        """
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self._name}() got other arguments: {error}") from None
        found: dict[str, int] = {}
        for parameter, at, dim in self.places:
            value = bound.get(parameter)
            if not isinstance(value, Tensor) or not -value.ndim <= at < value.ndim:
                raise fail(
                    ValueError, "compile", f"{parameter} without dimension {at}", "a tensor with it"
                )
            size = value.shape[at]
            where = f"size {size} of dimension {at} of {parameter} ({dim.name})"
            if not dim.min <= size <= dim.max:
                raise fail(ValueError, "compile", where, f"{dim.min} to {dim.max}")
            if found.setdefault(dim.name, size) != size:
                raise fail(ValueError, "compile", where, f"{found[dim.name]}, as elsewhere")
        return tuple(found.values())


def _pairs(parameter: str, dims: Any) -> list[tuple[int, Dim]]:
    """Dimensions and their names, from a mapping or a sequence; None says nothing."""
    if dims is None:
        return []
    if not isinstance(dims, (Mapping, tuple, list)):
        got = f"{type(dims).__name__} for {parameter}"
        raise fail(TypeError, "compile", got, "a mapping from dimensions, or a sequence by them")
    pairs = dims.items() if isinstance(dims, Mapping) else enumerate(dims)
    found = []
    for at, dim in pairs:
        if type(at) is not int:
            raise fail(TypeError, "compile", f"dimension {at!r} of {parameter}", "an integer")
        if not isinstance(dim, Dim | None):
            got = f"{type(dim).__name__} for dimension {at} of {parameter}"
            raise fail(TypeError, "compile", got, "a Dim or None")
        if dim is not None:
            found.append((at, dim))
    return found
