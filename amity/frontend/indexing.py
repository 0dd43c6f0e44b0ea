"""`x[…]` and `x[…] = y`: slices and numbers are views, tensors and lists are gathers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import numpy as np

from amity.core.dtype import BY_NUMPY, bool_, int32, int64, uint8
from amity.core.shape import broadcast_shapes
from amity.engine import deferral
from amity.engine import device as engine
from amity.ops.indexing import Index, IndexPut
from amity.ops.joining import select
from amity.ops.movement import Slice, unsqueeze
from amity.ops.record import NO_TENSOR, Sample, composite

from . import create, inplace
from .batched import held
from .fused import Entry
from .tape import next_seq
from .tensor import Tensor
from .trace import Symbol
from .view_memo import ViewMemo


def getitem(x: Tensor, key: Any) -> Tensor:
    """`x[key]`."""
    plain = _plain(key)
    view = None if plain is None else _views.find(x, plain)
    if view is not None:
        return view
    whole = x
    x, advanced = parse(x, key)
    if not advanced:
        if plain is not None:
            _views.keep(whole, plain, x)
        return x
    if len(advanced) > 1:
        check_together(advanced)
    dims, indices = zip(*sorted(advanced.items()), strict=True)
    return Index(dims)(x, *indices)


_views = ViewMemo()


def _plain(key: Any) -> Any:
    """A key of integers and slices of them in a form that a dict takes; None for any other."""
    kind = type(key)
    if kind is int:
        return key
    if kind is slice:
        ends = (key.start, key.stop, key.step)
        for e in ends:
            if e is not None and type(e) is not int:
                return None
        return ends
    if kind is not tuple:
        return None
    parts: list[Any] = []
    for k in key:
        if k is not None and k is not Ellipsis and type(k) is not int:
            k = _plain(k) if type(k) is slice else None
            if k is None:
                return None
        parts.append(k)
    return (len(parts), tuple(parts))  # of two, as no slice is


def setitem(x: Tensor, key: Any, value: Any) -> None:
    """`x[key] = value`: written in place, also through the views that slices are."""
    if x.tape is None and type(value) in (int, float, bool):
        plain = _plain(key)
        if plain is not None and (x.base is None or x.base.tape is None):
            view = _views.find(x, plain, False)
            inplace.set_to(getitem(x, key) if view is None else view, value)
            return
    if type(key) is Tensor and key.dtype is bool_ and _fill_where(x, key, value):
        return
    shown, advanced = parse(x, key)
    if not isinstance(value, Tensor):
        value = (
            create.tensor(value, dtype=x.dtype)
            if not isinstance(value, np.ndarray)
            else create.tensor(value).to(x.dtype)
        )
    value = value if value.dtype is x.dtype else value.to(x.dtype)
    if not advanced:
        value = _without_ones(value, shown.ndim)
        if shown is x and x.base is None:
            x.copy_(value)
        else:
            shown.copy_(value)
        return
    if len(advanced) > 1:
        check_together(advanced)
    dims, indices = zip(*sorted(advanced.items()), strict=True)
    rank = max(i.ndim for i in indices)
    value = _without_ones(value, shown.ndim - len(dims) + rank)
    inplace.check_writable("index_put_", shown)
    since = next_seq()
    inplace.assign(shown, IndexPut(dims, False)(shown, value, *indices), since)


def _fill_where(x: Tensor, mask: Tensor, value: Any) -> bool:
    """One number for all places of a mask needs no positions; whether that is what is asked."""
    lay, rank = x.layout, mask.ndim
    if not rank or tuple(mask.shape) != tuple(lay.shape[:rank]):
        return False
    if isinstance(value, Tensor):
        if value.ndim:
            return False
        value = value if value.dtype is lay.dtype else value.to(lay.dtype)
    elif type(value) not in ((int, float) if lay.dtype.kind == "f" else (int,)):
        return False
    more = x.ndim - rank
    x.masked_fill_(mask.reshape(*mask.shape, *(1,) * more) if more else mask, value)
    return True


def _without_ones(value: Tensor, ndim: int) -> Tensor:
    """A value without leading dimensions of size 1 that are more than `ndim`."""
    while value.ndim > ndim and value.shape[0] == 1:
        value = value.squeeze(0)
    return value


def parse(x: Tensor, key: Any) -> tuple[Tensor, dict[int, Tensor]]:
    """The view that the plain parts of a key give, and the index tensors by its dimensions."""
    keys = list(key) if isinstance(key, tuple) else [key]
    keys = [_as_index(k) for k in keys]
    used = sum(_takes(k) for k in keys)
    if any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        if sum(k is Ellipsis for k in keys) > 1:
            raise IndexError("index: an index can only have a single ellipsis ('...')")
    else:
        at = len(keys)
        keys.append(Ellipsis)
    if used > x.ndim:
        raise IndexError(
            f"index: got {used} indices; too many indices for tensor of dimension {x.ndim}"
        )
    keys[at : at + 1] = [slice(None)] * (x.ndim - used)
    advanced: dict[int, Tensor] = {}
    has_tensors = any(isinstance(k, Tensor) for k in keys)  # then a whole slice needs no view
    d = 0
    for k in keys:
        if k is None:
            x = unsqueeze(x, d)
            d += 1
        elif isinstance(k, slice):
            x = x if has_tensors and k == slice(None) else _slice(x, d, k)
            d += 1
        elif isinstance(k, int) and not isinstance(k, bool):
            x = select(x, d, k)
        elif isinstance(k, bool):
            x = unsqueeze(x, d)
            advanced[d] = create.tensor([0] if k else [], dtype=int64)
            d += 1
        else:
            d = _tensor_index(x, d, k, advanced)
    return x, advanced


INDEX_DTYPES = (int64, int32, bool_, uint8)
WRONG_DTYPE = "index: tensors used as indices must be long, int, byte or bool tensors: got "


def _as_index(k: Any) -> Any:
    if k is None or k is Ellipsis or isinstance(k, (slice, bool, int)):
        return k
    if isinstance(k, Tensor):
        if k.dtype not in INDEX_DTYPES:
            raise IndexError(WRONG_DTYPE + str(k.dtype))
        if k.ndim == 0 and k.dtype in (bool_, uint8):
            return bool(k)
        return k if k.ndim or type(k.layout) is Symbol or k.storage is None else int(k)
    if isinstance(k, np.ndarray):
        if k.dtype not in BY_NUMPY or k.dtype.kind == "f":
            raise IndexError(WRONG_DTYPE + str(k.dtype))
        k = create.tensor(k)
        return _as_index(k if k.dtype in INDEX_DTYPES else k.to(int64))
    if isinstance(k, (list, tuple, range)):
        t = create.tensor(list(k))
        return _as_index(t if t.numel() else t.to(int64))
    if hasattr(k, "__index__"):
        return k.__index__()
    kind = TypeError if isinstance(k, (str, bytes)) else IndexError
    raise kind(
        "index: only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are "
        f"valid indices (got {type(k).__name__})"
    )


def _takes(k: Any) -> int:
    """How many dimensions an index uses up."""
    if k is None or k is Ellipsis or isinstance(k, bool):
        return 0
    return k.ndim if isinstance(k, Tensor) and k.dtype in (bool_, uint8) else 1


def _slice(x: Tensor, d: int, k: slice) -> Tensor:
    parts = [None if v is None else index(v) for v in (k.start, k.stop, k.step)]
    if parts[2] is not None and parts[2] <= 0:
        raise ValueError(f"slice: got step {parts[2]}; step must be greater than zero")
    n = x.shape[d]
    start, stop, step = slice(*parts).indices(n)
    length = max(0, -(-(stop - start) // step))
    if start == 0 and length == n and step == 1:
        return Slice(d, 0, n, 1)(x)
    return Slice(d, start, length, step)(x)


def _tensor_index(x: Tensor, d: int, k: Tensor, advanced: dict[int, Tensor]) -> int:
    if k.dtype in (bool_, uint8):
        for i, n in enumerate(k.shape):
            if n != x.shape[d + i]:
                raise IndexError(
                    f"index: The shape of the mask {list(k.shape)} at index {i} does not match the "
                    f"shape of the indexed tensor {list(x.shape)} at index {d + i}"
                )
        for i, where in enumerate(np.nonzero(k._array("index"))):
            advanced[d + i] = create.tensor(where, dtype=int64)
        return d + k.ndim
    check_range("index", k, x.shape[d], d)
    advanced[d] = k
    return d + 1


def check_together(advanced: dict[int, Tensor]) -> None:
    """An error for index tensors of which no positions can be made."""
    shapes = [tuple(k.shape) for k in advanced.values()]
    try:
        broadcast_shapes("index", *shapes)
    except RuntimeError:
        text = ", ".join(str(list(s)) for s in shapes)
        raise IndexError(
            f"index: shape mismatch: indexing tensors could not be broadcast together with shapes {text}"
        ) from None


def check_range(name: str, k: Tensor, n: int, d: int) -> None:
    """An error for positions that a dimension does not have; a kernel would read past the end."""
    bad = first_outside(k, -n, n)
    if bad is not None:
        raise IndexError(f"{name}: index {bad} is out of bounds for dimension {d} with size {n}")


@composite(
    samples=(
        Sample(((3, 4), "i"), low=-9, high=9),
        Sample(((3, 4), "i"), low=0, high=4),
        Sample(np.array([7, 7]), low=0, high=4),
    ),
    errors=NO_TENSOR,
)
def _has_outside(index, low, high):
    """Whether an element is outside [low, high), as one small kernel."""
    return (index < low).logical_or(index >= high).any()


@composite(
    samples=(
        Sample(((3, 4), "i"), low=0, high=4, except_for=-1),
        Sample(np.array([7, 7]), low=0, high=4, except_for=7),
    ),
    errors=NO_TENSOR,
)
def _has_outside_but(index, low, high, except_for):
    """Whether an element is outside [low, high) and not the exception."""
    return ((index < low).logical_or(index >= high)).logical_and(index != except_for).any()


_tests: dict[tuple, Callable] = {}  # programs of these two, by layout and numbers
TESTS_KEPT = 10_000


def _test_of(index: Tensor, low: int, high: int, except_for: int | None) -> Callable:
    if len(_tests) > TESTS_KEPT:
        _tests.clear()
    if except_for is None:
        entry = Entry(_has_outside, (index, low, high), {})
    else:
        entry = Entry(_has_outside_but, (index, low, high, except_for), {})
    return _tests.setdefault((index.layout, low, high, except_for), entry.program)


def first_outside(self: Tensor, low: int, high: int, except_for: int | None = None) -> int | None:
    """An element outside [low, high) that is not the exception, if there is one."""
    test = _tests.get((self.layout, low, high, except_for))
    if test is None:
        self = held(self)
        if self.storage is None or self.layout.numel == 0:
            return None
        test = _test_of(self, low, high, except_for)
    if deferral.is_on:
        with deferral.checking(self, low, high, except_for):
            is_there = test(self).item()
    else:
        is_there = test(self).item()
    if not is_there:
        return None
    array = engine.array_of(self.storage, self.layout)
    bad = (array < low) | (array >= high)
    return int(array[bad if except_for is None else bad & (array != except_for)].flat[0])


def index_list(indices: Sequence[Any]) -> tuple[Any, ...]:
    """The key of a list of indices: whole dimensions for None, vectors for 0-d tensors."""
    alone = [isinstance(i, Tensor) and i.ndim == 0 and i.dtype in (int32, int64) for i in indices]
    return tuple(
        slice(None) if i is None else i.reshape(1) if is_alone else i
        for i, is_alone in zip(indices, alone, strict=True)
    )


def index_put(
    input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False
) -> Tensor:
    """A copy of `input` with values written, or added, at positions."""
    if isinstance(indices, Tensor) or not isinstance(values, Tensor):
        raise TypeError(
            f"index_put: got indices of {type(indices).__name__} and values of "
            f"{type(values).__name__}; expected a tuple of Tensors and a Tensor"
        )
    x, advanced = parse(input, index_list(indices))
    if not advanced:
        raise RuntimeError("index_put: got no index tensors; expected at least one")
    dims, at = zip(*sorted(advanced.items()), strict=True)
    return IndexPut(dims, accumulate)(x, values, *at)


def index_put_(
    self: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False
) -> Tensor:
    """Values written, or added, at positions."""
    inplace.check_writable("index_put_", self)
    since = next_seq()
    return inplace.assign(self, index_put(self, indices, values, accumulate), since)


Tensor.__getitem__ = getitem
Tensor.__setitem__ = setitem
Tensor.index_put = index_put
Tensor._first_outside = first_outside
Tensor.index_put_ = index_put_
