"""Tensors under `vmap`: each stands for one entry of a tensor with one more dimension in front.

A mapped tensor's layout is a `Batched`, which holds that tensor. An op on it is the op over one more
dimension (`ops/batching.py`) on what it holds, so nested maps, gradients and compiled code see
ordinary ops. It has a tape of its own, for gradients taken inside the map; what it holds has
another, for gradients taken outside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from amity.core.shape import Shape, Size, contiguous_strides, numel
from amity.ops.batching import batched, way_of
from amity.ops.movement import Expand
from amity.ops.record import Op

from .tensor import Tensor


class Batched:
    """The layout of one entry of `value`, or of `value` itself where entries do not differ."""

    __slots__ = ("dtype", "is_mapped", "level", "ndim", "shape", "value")

    def __init__(self, value: Tensor, level: int, is_mapped: bool) -> None:
        self.value, self.level, self.is_mapped = value, level, is_mapped
        self.dtype, self.shape = value.dtype, Size(tuple(value.shape)[is_mapped:])
        self.ndim = len(self.shape)

    @property
    def device(self) -> Any:
        return self.value.device

    @property
    def numel(self) -> int:
        return numel(self.shape)

    @property
    def strides(self) -> Shape:
        return tuple(self.value.layout.strides)[self.is_mapped :]

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        if self.numel == 0:
            return True
        expected = contiguous_strides(self.shape)
        pairs = zip(self.shape, self.strides, expected, strict=True)
        return all(n == 1 or s == e for n, s, e in pairs)

    is_dense = is_contiguous

    @property
    def extent(self) -> int:
        """Elements of memory from the first to one past the last of an entry."""
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return last + 1 if self.numel else 0

    def storage_offset(self) -> int:
        return self.value.storage_offset()

    def detached(self) -> Batched:
        """The same entries, off all tapes."""
        return Batched(self.value.detach(), self.level, self.is_mapped)

    def item(self) -> Any:
        """The one element, where it is the same for all entries."""
        if self.is_mapped:
            raise self.no_data("item")
        return self.value.item()

    def no_data(self, op: str) -> Exception:
        return RuntimeError(
            f"vmap: It looks like you're calling .{op}() on a Tensor, or using one in some data-dependent "
            f"control flow. We don't support vmap over calling .{op}() on a Tensor, please try to rewrite "
            "what you're doing with other operations, as amity.where"
        )

    def __repr__(self) -> str:
        return f"Batched(level={self.level}, is_mapped={self.is_mapped}, value={self.value!r})"


class Level:
    """A map that is running: how many entries it has, and what random numbers do."""

    def __init__(self, number: int, size: int, randomness: str) -> None:
        self.number, self.size, self.randomness = number, size, randomness


class _Levels(threading.local):
    def __init__(self) -> None:
        self.running: list[Level] = []


_levels = _Levels()


def running() -> Sequence[Level]:
    """The maps around this line, from the outermost."""
    return _levels.running


@contextmanager
def entered(size: int, randomness: str) -> Iterator[Level]:
    """Run a block as the body of a map."""
    level = Level(len(_levels.running) + 1, size, randomness)
    _levels.running.append(level)
    try:
        yield level
    finally:
        _levels.running.pop()


def wrapped(value: Tensor, level: int, is_mapped: bool = True) -> Tensor:
    return Tensor._of(None, Batched(value, level, is_mapped))


def is_batched(value: Any) -> bool:
    return type(getattr(value, "layout", None)) is Batched


def at_level(t: Any, level: int) -> Any:
    """A tensor as one of a level; numbers stay."""
    if not isinstance(t, Tensor) or (is_batched(t) and t.layout.level == level):
        return t
    return wrapped(t, level, False)


def lifted(t: Tensor) -> Tensor:
    """A tensor as one of the innermost map, so that its tape there is its own."""
    return at_level(t, _levels.running[-1].number) if _levels.running else t


def same_level(t: Any, like: Tensor) -> Any:
    """A tensor at least at the level of another."""
    if is_batched(like) and not (is_batched(t) and t.layout.level >= like.layout.level):
        return at_level(t, like.layout.level)
    return t


def outer(t: Tensor) -> Iterator[Tensor]:
    """A tensor, what it holds, what that holds, and so on."""
    yield t
    while is_batched(t):
        t = t.layout.value
        yield t


def held(t: Tensor) -> Tensor:
    """The ordinary tensor at the bottom: all entries of all maps."""
    while is_batched(t):
        t = t.layout.value
    return t


def run(op: Op, values: Sequence[Any]) -> tuple[Any, list[Any]]:
    """An op on values of which some are batched: its results, and the values at the level of these."""
    level = max(v.layout.level for v in values if is_batched(v))
    values = [at_level(v, level) for v in values]
    is_mapped = [is_batched(v) and v.layout.is_mapped for v in values]
    plain = [v.layout.value if is_batched(v) else v for v in values]
    if not any(is_mapped):
        out = op(*plain)
    elif way_of(op) == "apart":
        free = [Tensor._of(None, v.layout) if is_batched(v) else v for v in values]
        out = op.apart(*free)
        return tuple(map(untaped, out)) if isinstance(out, tuple) else untaped(out), values
    else:
        size = next(p.shape[0] for p, m in zip(plain, is_mapped, strict=True) if m)
        out = batched(op, size, is_mapped, plain)
    if isinstance(out, tuple):
        return tuple(wrapped(o, level, any(is_mapped)) for o in out), values
    t = wrapped(out, level, any(is_mapped))
    if op.kind == "view":
        t.base = values[0] if values[0].base is None else values[0].base
    return t, values


def untaped(t: Tensor) -> Tensor:
    return Tensor._of(None, t.layout)


def through(function: Callable, t: Tensor) -> Tensor:
    """A function of each entry alone, as `function` of what the tensor holds."""
    lay = t.layout
    return wrapped(function(lay.value), lay.level, lay.is_mapped)


def all_entries(lay: Batched, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that holds entries of a shape for what a layout holds."""
    return (lay.value.shape[0], *shape) if lay.is_mapped else tuple(shape)


def entries(t: Any, level: Level) -> Tensor | None:
    """What a result of a map's body holds, entries in front; None where they do not differ."""
    if not is_batched(t) or t.layout.level != level.number:
        return None
    return t.layout.value if t.layout.is_mapped else None


def repeated(t: Tensor, level: Level) -> Tensor:
    """The same for all entries, as that many."""
    if is_batched(t) and t.layout.level == level.number:
        t = t.layout.value
    return Expand((level.size, *t.shape))(t)


def fitting(t: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """What two tensors hold, for the second, a batched one, to be written into the first.

    errors: RuntimeError if entries, or gradients taken inside the map, differ in `value` alone
    """
    source = value.layout
    is_inner = not is_batched(t) or t.layout.level < source.level
    into = at_level(t, source.level).layout
    if (source.is_mapped and not into.is_mapped) or (is_inner and value.tape is not None):
        raise RuntimeError(
            "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor "
            "`other` in extra_args that has more elements than `self`. This happened due to `other` "
            "being vmapped over but `self` not being vmapped over in a vmap. Please try to use "
            "out-of-place operators instead of inplace arithmetic."
        )
    return into.value, source.value
