"""Order: sort, top-k, unique, searching, counting, and values by rank."""

from __future__ import annotations

import math
from operator import index

import numpy as np

from amity.core.dtype import float32, float64, int64
from amity.core.errors import ShapeError, fail
from amity.core.shape import canonical_dim, check_dims
from amity.ir.graph import Spec

from .arguments import check_tensor
from .gather import Gather, Scatter
from .record import ErrorSample, Op, Sample, deliver, method
from .select import WHERE
from .structs import ReturnTypes

F = "f"
FEW = 64  # elements up to which the first ones are found without sorting all


class Sort(Op):
    """Elements in order along a dimension, and where they were; equal ones keep their order. NaNs are largest."""

    name = "sort"
    kind = "kernel"
    planner = "sort"
    results = 2
    dim: int
    descending: bool
    samples = (
        Sample(((3, 5), F), dim=1, descending=False),
        Sample(((4, 2), F), dim=0, descending=True),
        Sample(((6,), "i"), dim=0, descending=True),
        Sample(((2, 0), F), dim=1, descending=False),
    )
    errors = (
        ErrorSample(((3,), F), dim=1, descending=False, error=IndexError, says="dimension 1"),
    )

    def infer(self, x: Spec) -> tuple[Spec, Spec]:
        check_dims(self.name, self.dim, x.ndim)
        return Spec(x.shape, x.dtype), Spec(x.shape, int64)

    def reference(self, x):
        work = x.astype(np.float32) if x.dtype.name == "bfloat16" else x
        if (
            self.descending
        ):  # a stable order from the back: sort the reversed and turn the result around
            order = np.flip(np.argsort(np.flip(work, self.dim), self.dim, kind="stable"), self.dim)
            order = x.shape[self.dim] - 1 - order
        else:
            order = np.argsort(work, self.dim, kind="stable")
        return np.take_along_axis(x, order, self.dim), order

    def grad(self, gs, like_x, result1):
        g = gs[0]
        if g is None:
            return None
        return Scatter(self.dim, "assign", True)(g.new_zeros(like_x.shape), result1, g)


class TopK(Op):
    """The first k elements of the order along a dimension, and where they were."""

    name = "topk"
    kind = "kernel"
    planner = "topk"
    results = 2
    dim: int
    k: int
    largest: bool
    samples = (
        Sample(((3, 5), F), dim=1, k=2, largest=True),
        Sample(((4, 2), F), dim=0, k=3, largest=False),
        Sample(((2, 3), "i"), dim=1, k=0, largest=True),
    )
    errors = (
        ErrorSample(((3,), F), dim=1, k=1, largest=True, error=IndexError, says="dimension 1"),
        ErrorSample(((3,), F), dim=0, k=4, largest=True, error=ShapeError, says="at most 3"),
    )

    def infer(self, x: Spec) -> tuple[Spec, Spec]:
        check_dims(self.name, self.dim, x.ndim)
        if not 0 <= self.k <= x.shape[self.dim]:
            raise fail(ShapeError, self.name, f"k={self.k}", f"at most {x.shape[self.dim]}")
        shape = (*x.shape[: self.dim], self.k, *x.shape[self.dim + 1 :])
        return Spec(shape, x.dtype), Spec(shape, int64)

    def reference(self, x):
        first = (slice(None),) * self.dim + (slice(0, self.k),)
        values, places = Sort(self.dim, self.largest).reference(x)
        return values[first], places[first]

    def grad(self, gs, like_x, result1):
        g = gs[0]
        if g is None:
            return None
        return Scatter(self.dim, "assign", True)(g.new_zeros(like_x.shape), result1, g)


def _one(name, x, dim):
    """The dimension, and the tensor with at least one."""
    d = canonical_dim(name, dim, x.ndim)
    return d, (x if x.ndim else x.reshape(1))


@method
def sort(input, dim=-1, descending=False, stable=False, *, out=None):
    """Elements in order along a dimension, and where they were."""
    d, x = _one("sort", input, dim)
    values, indices = Sort(d, bool(descending))(x)
    return deliver(
        ReturnTypes(
            "sort",
            values=values.reshape(tuple(input.shape)),
            indices=indices.reshape(tuple(input.shape)),
        ),
        out,
    )


@method
def argsort(input, dim=-1, descending=False, stable=False):
    """Where the elements of each rank are."""
    return sort(input, dim, descending).indices


@method
def msort(input, *, out=None):
    """Rows in order along the first dimension."""
    return deliver(sort(input, 0).values, out)


@method
def topk(input, k, dim=-1, largest=True, sorted=True, *, out=None):
    """The k largest (or smallest) elements along a dimension, in order, and where they are."""
    d, x = _one("topk", input, dim)
    if x.dtype.kind == "b":
        raise NotImplementedError("topk does not support bool dtypes: got amity.bool")
    k = index(k)
    if not 0 <= k <= x.shape[d]:
        raise RuntimeError(
            f"topk: got k={k}; selected index k out of range, expected 0..{x.shape[d]}"
        )
    k = k if input.ndim else 1  # of one number there is one, even if none is wanted
    if k <= FEW:
        values, indices = TopK(d, k, bool(largest))(x)
    else:
        values, indices = Sort(d, bool(largest))(x)
        values, indices = (v.narrow(d, 0, k).contiguous() for v in (values, indices))
    if input.ndim == 0:
        values, indices = values.reshape(()), indices.reshape(())
    return deliver(ReturnTypes("topk", values=values, indices=indices), out)


def _ranked(name, input, dim, keepdim, rank_of):
    """The element of a rank along a dimension, and where it is."""
    d, x = _one(name, input, dim)
    _, order = Sort(d, False)(x.detach())
    at = order.narrow(d, rank_of(x, d), 1)
    values = Gather(d)(x, at)
    if not keepdim or input.ndim == 0:
        values, at = values.squeeze(d), at.squeeze(d)
    return ReturnTypes(name, values=values, indices=at)


@method
def kthvalue(input, k, dim=-1, keepdim=False, *, out=None):
    """The k-th smallest element along a dimension, and where it is."""
    _no_bools("kthvalue", input)
    d = canonical_dim("kthvalue", dim, input.ndim)
    n = input.shape[d] if input.ndim else 1
    if n == 0:
        raise IndexError(f"kthvalue(): Expected reduction dim {d} to have non-zero size.")
    if not 1 <= k <= n:
        raise RuntimeError(
            f"kthvalue(): selected number k out of range for dimension {dim}: got {k}; expected "
            f"1..{n}"
        )
    return deliver(_ranked("kthvalue", input, dim, keepdim, lambda x, d: k - 1), out)


def _no_bools(name, x):
    check_tensor(name, x)
    if x.dtype.kind == "b":
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool': got {x.dtype}")


def _nan_rows(x, d):
    """Whether a row holds a NaN; a median of such a row is NaN, and NaNs sort last."""
    return (x != x).any(d, True)


@method
def median(input, dim=None, keepdim=False, *, out=None):
    """The middle element, the lower one of two; along a dimension also where it is."""
    _no_bools("median", input)
    if dim is None:
        flat = input.reshape(-1)
        if flat.numel() == 0:
            return deliver(input.new_full((), math.nan), out)
        return deliver(_median(flat, 0, False).values, out)
    return deliver(_median(input, dim, keepdim), out)


def _median(input, dim, keepdim):
    d, x = _one("median", input, dim)
    n = x.shape[d]
    if n == 0:
        raise IndexError(f"median(): Expected reduction dim {d} to have non-zero size.")
    if x.dtype.kind != "f" or not bool((x != x)._held().any()):
        return _ranked("median", input, dim, keepdim, lambda x, d: (n - 1) // 2)
    _, order = Sort(d, False)(x.detach())
    first_nan = (x != x).to(int64).argmax(d, True)
    at = order.narrow(d, (n - 1) // 2, 1)
    at = _pick(_nan_rows(x, d), first_nan, at)
    values = Gather(d)(x, at)
    if not keepdim or input.ndim == 0:
        values, at = values.squeeze(d), at.squeeze(d)
    return ReturnTypes("median", values=values, indices=at)


def _pick(condition, a, b):
    return WHERE(condition, a, b)


@method
def nanmedian(input, dim=None, keepdim=False, *, out=None):
    """The median of what is no NaN."""
    _no_bools("nanmedian", input)
    if dim is None:
        return deliver(
            nanmedian(input.reshape(-1), 0).values
            if input.numel()
            else input.new_full((), math.nan),
            out,
        )
    d, x = _one("nanmedian", input, dim)
    if x.shape[d] == 0:
        raise IndexError(f"nanmedian(): Expected reduction dim {d} to have non-zero size.")
    _, order = Sort(d, False)(x.detach())
    count = (x == x).sum(d, True)
    at = Gather(d)(order, ((count - 1).clamp(min=0)) // 2)
    values = Gather(d)(x, at)
    if not keepdim or input.ndim == 0:
        values, at = values.squeeze(d), at.squeeze(d)
    return deliver(ReturnTypes("nanmedian", values=values, indices=at), out)


@method
def mode(input, dim=-1, keepdim=False, *, out=None):
    """The most frequent element along a dimension (the smallest of several), and where it last is."""
    d, x = _one("mode", input, dim)
    if x.shape[d] == 0:
        raise IndexError(f"mode(): Expected reduction dim {d} to have non-zero size.")
    rows = np.moveaxis(x._array(), d, -1)
    flat = rows.reshape(-1, rows.shape[-1])
    at = np.empty(len(flat), np.int64)
    for i, row in enumerate(flat):
        values, counts = np.unique(row, return_counts=True)
        at[i] = np.flatnonzero(row == values[np.argmax(counts)])[-1]
    index = x.new_tensor(np.expand_dims(at.reshape(rows.shape[:-1]), d), dtype=int64)
    values = Gather(d)(x, index)
    if not keepdim or input.ndim == 0:
        values, index = values.squeeze(d), index.squeeze(d)
    return deliver(ReturnTypes("mode", values=values, indices=index), out)


@method
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear", out=None):
    """The value below which a share q of the elements lies, interpolated between ranks."""
    return deliver(_quantile("quantile", input, q, dim, keepdim, interpolation, False), out)


@method
def nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear", out=None):
    """The quantile of what is no NaN."""
    return deliver(_quantile("nanquantile", input, q, dim, keepdim, interpolation, True), out)


def _shares(name, input, q):
    """The argument q as a tensor."""
    if not hasattr(q, "layout"):
        if not isinstance(q, (int, float)):
            raise TypeError(
                f"{name}(): argument 'q' must be float or Tensor, not {type(q).__name__}"
            )
        return input.new_tensor(q)
    if q.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor: got shape {list(q.shape)}")
    if q.dtype is not input.dtype:
        raise RuntimeError(
            f"{name}() q tensor must be same dtype as the input tensor: got {q.dtype} and {input.dtype}"
        )
    return q


def _quantile(name, input, q, dim, keepdim, interpolation, skip_nan):
    if input.dtype not in (float32, float64):
        raise RuntimeError(
            f"{name}() input tensor must be either float or double dtype: got {input.dtype}"
        )
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, "
            f"but got {interpolation}"
        )
    q = _shares(name, input, q)
    if q.numel() and not bool((q >= 0).logical_and(q <= 1)._held().all()):
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    if input.numel() == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    x = input.reshape(-1) if dim is None else input
    d, x = _one(name, x, -1 if dim is None else dim)
    x = x.movedim(d, -1)
    values, _ = Sort(x.ndim - 1, False)(x)
    ranks = q.reshape(-1).to(x.dtype)
    if skip_nan:
        last = ((x == x).sum(-1, True) - 1).clamp(min=0).to(x.dtype)
    else:
        last = x.new_full((*x.shape[:-1], 1), x.shape[-1] - 1)
    position = ranks * last
    low, high = position.floor(), position.ceil()
    if interpolation == "nearest":
        low = high = position.round()
    elif interpolation == "lower":
        high = low
    elif interpolation == "higher":
        low = high
    a, b = (Gather(x.ndim - 1)(values, p.to(int64)) for p in (low, high))
    weight = 0.5 if interpolation == "midpoint" else position - low
    y = a + (b - a) * weight
    if not skip_nan:
        y = _pick((x != x).any(-1, True), math.nan, y)
    y = y.movedim(-1, 0)
    if keepdim:
        y = (
            y.reshape((-1,) + (1,) * input.ndim)
            if dim is None or not input.ndim
            else y.unsqueeze(d + 1)
        )
    return y.squeeze(0) if q.ndim == 0 else y
