"""What views show as tensors with memory of their own: `permute_copy`, `select_copy`, …"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .arguments import deliver
from .diagonal import diagonal, unfold_dim
from .joining import select, split, split_with_sizes, unbind
from .movement import expand, permute, squeeze, t, transpose, unsqueeze, view
from .strided import as_strided

VIEWS = {
    f.__name__: f
    for f in (as_strided, diagonal, expand, permute, select, split, split_with_sizes, squeeze, t,
              transpose, unbind, unsqueeze, view)
}  # fmt: skip
VIEWS["unfold"] = unfold_dim


def _copied(x):
    """A row-major copy."""
    y = x.contiguous()
    return y.clone() if y is x else y


def _copying(name: str, shown: Callable) -> Callable:
    """The function that copies what another shows."""

    def copy(input, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        made = shown(input, *args, **kwargs)
        if isinstance(made, tuple):
            return deliver(tuple(_copied(part) for part in made), out)
        return deliver(_copied(made), out)

    copy.__name__ = copy.__qualname__ = f"{name}_copy"
    copy.__doc__ = f"What `{name}` shows, with memory of its own."
    return copy


def slice_copy(input, dim=0, start=None, end=None, step=1, *, out=None):
    """Every `step`th position of a dimension from start to end, with memory of its own."""
    moved = transpose(input, 0, dim)[slice(start, end, step)]
    return deliver(_copied(transpose(moved, 0, dim)), out)


def alias_copy(input, *, out=None):
    """The tensor with memory of its own."""
    return deliver(_copied(input), out)


def detach_copy(input, *, out=None):
    """The tensor with memory of its own, off the tape."""
    return deliver(_copied(input.detach()), out)


globals().update({f"{name}_copy": _copying(name, shown) for name, shown in VIEWS.items()})
