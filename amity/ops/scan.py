"""Running results along a dimension."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import DType, as_dtype, finfo, float64, int64
from amity.core.shape import canonical_dim, check_dims
from amity.ir.graph import Spec

from .arguments import check_one_dim, check_tensor
from .gather import Scatter
from .joining import cat
from .record import ErrorSample, Op, Sample, deliver, method
from .select import WHERE
from .structs import ReturnTypes

F = "f"


BEYOND = ErrorSample(((3,), F), dim=1, dtype=float64, error=IndexError, says="dimension 1")


class Scan(Op):
    """Base: the joined elements up to each place; `input` row-major."""

    kind = "kernel"
    planner = "scan"
    combine = "sum"
    dim: int
    dtype: DType
    samples = (
        Sample(((3, 5), F), dim=1, dtype=float64),
        Sample(((2, 3, 2), F), dim=1, dtype=float64),
        Sample(((4,), "i"), dim=0, dtype=int64),
        Sample(((0, 3), F), dim=0, dtype=float64),
    )
    errors = (BEYOND,)

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        return Spec(x.shape, self.dtype)


class Cumsum(Scan):
    name = "cumsum"

    def reference(self, x):
        return np.cumsum(x, self.dim, dtype=self.dtype.numpy)

    def grad(self, g, like_x):
        back = cumsum(g.flip(self.dim), self.dim).flip(self.dim)
        return back if back.dtype is like_x.dtype else back.to(like_x.dtype)


class Cumprod(Scan):
    name = "cumprod"
    combine = "prod"

    def reference(self, x):
        return np.cumprod(x, self.dim, dtype=self.dtype.numpy)

    def grad(self, g, x, y):
        """Without zeros the reverse sum of g*y divided by x; with zeros the products are made anew."""
        if not bool((x == 0)._held().any()):
            return _reverse_sum(g * y, self.dim) / x
        d, n = self.dim, x.shape[self.dim]
        total = []
        for i in range(
            n
        ):  # the derivative by x_i: products that leave x_i out, summed over what comes after
            head = x.narrow(d, 0, i)
            rest = x.narrow(d, i + 1, n - i - 1)
            left = head.prod(d, keepdim=True)
            after = _with_one(rest, d).cumprod(d) * left
            total.append((after * g.narrow(d, i, n - i)).sum(d, keepdim=True))
        return cat(total, d)


def _with_one(x, d):
    shape = list(x.shape)
    shape[d] = 1
    return cat([x.new_ones(tuple(shape)), x], d)


def _reverse_sum(x, d):
    return cumsum(x.flip(d), d).flip(d)


def _scan(op, name, input, dim, dtype, out):
    check_tensor(name, input)
    check_one_dim(name, dim)
    d = canonical_dim(name, dim, input.ndim)
    dtype = as_dtype(name, dtype) or (out.dtype if out is not None else None)
    dtype = dtype or (input.dtype if input.dtype.kind == "f" else int64)
    if dtype.kind == "b":
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool': expected numbers")
    x = input if input.dtype is dtype else input.to(dtype)
    if x.ndim == 0:
        return deliver(x.clone(), out)
    return deliver(op(d, dtype)(x.contiguous()), out)


@method(inplace=True)
def cumsum(input, dim, *, dtype=None, out=None):
    """The running sum along a dimension.

    dtype:  integers and bools are summed as int64
    """
    return _scan(Cumsum, "cumsum", input, dim, dtype, out)


@method(inplace=True)
def cumprod(input, dim, *, dtype=None, out=None):
    """The running product along a dimension."""
    return _scan(Cumprod, "cumprod", input, dim, dtype, out)


class CumExtreme(Op):
    """The running maximum (or minimum) and where it was found last; a NaN stays."""

    name = "cum_extreme"
    kind = "host"
    results = 2
    dim: int
    is_max: bool
    samples = (Sample(((3, 5), F), dim=1, is_max=True), Sample(((3, 5), F), dim=0, is_max=False))
    errors = (ErrorSample(((3,), F), dim=1, is_max=True, error=IndexError, says="dimension 1"),)

    def infer(self, x: Spec) -> tuple[Spec, Spec]:
        check_dims(self.name, self.dim, x.ndim)
        return x, Spec(x.shape, int64)

    def reference(self, x):
        f = np.maximum if self.is_max else np.minimum
        values = f.accumulate(x, self.dim)
        here = (x == values) | (x != x) if x.dtype.kind in "fV" else x == values
        place = np.arange(x.shape[self.dim]).reshape(
            [-1 if d == self.dim else 1 for d in range(x.ndim)]
        )
        return values, np.maximum.accumulate(np.where(here, place, 0), self.dim)

    def grad(self, gs, like_x, result1):
        return Scatter(self.dim, "add", True)(gs[0].new_zeros(like_x.shape), result1, gs[0])


def _cum(name, input, dim, is_max):
    d = canonical_dim(name, dim, input.ndim)
    x = input if input.ndim else input.reshape(1)
    values, indices = CumExtreme(d, is_max)(x)
    return ReturnTypes(
        name, values=values.reshape(tuple(input.shape)), indices=indices.reshape(tuple(input.shape))
    )


@method
def cummax(input, dim, *, out=None):
    """The running maximum along a dimension, and where it was found."""
    return deliver(_cum("cummax", input, dim, True), out)


@method
def cummin(input, dim, *, out=None):
    """The running minimum along a dimension, and where it was found."""
    return deliver(_cum("cummin", input, dim, False), out)


class LogCumSumExp(Op):
    """The logarithm of the running sum of exponentials, each relative to the largest so far."""

    name = "logcumsumexp"
    kind = "host"
    dim: int
    samples = (Sample(((3, 5), F), dim=1), Sample(((3, 5), F), dim=0))
    errors = (
        ErrorSample(((3,), F), dim=1, error=IndexError, says="dimension 1"),
        ErrorSample(((3,), "i"), dim=0, error=NotImplementedError, says="floating"),
    )

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        if x.dtype.kind != "f":
            raise NotImplementedError(f"logcumsumexp: got {x.dtype}; expected a floating dtype")
        return x

    def reference(self, x):
        wide = x.astype(np.float64) if x.dtype.itemsize == 2 else x
        with np.errstate(invalid="ignore"):  # infinities
            return np.logaddexp.accumulate(wide, self.dim).astype(x.dtype)

    def grad(self, g, x, y):
        """Sums of g e^(x - y) over what comes after, in logarithms, for either sign of g."""
        out, lowest = None, finfo(g.dtype).min
        for sign in (1, -1):
            share = g * sign
            log = WHERE(share > 0, WHERE(share > 0, share, 1.0).log(), lowest)
            part = log - y
            total = LogCumSumExp(self.dim)(part.flip(self.dim)).flip(self.dim)
            share = (total + x).exp() * sign
            out = share if out is None else out + share
        return out


@method
def logcumsumexp(input, dim, *, out=None):
    """The logarithm of the running sum of exponentials."""
    d = canonical_dim("logcumsumexp", dim, input.ndim)
    if input.ndim == 0:
        return deliver(input.clone(), out)
    return deliver(LogCumSumExp(d)(input), out)


@method
def diff(input, n=1, dim=-1, prepend=None, append=None, *, out=None):
    """Differences of neighbours along a dimension, n times."""
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    d = canonical_dim("diff", dim, input.ndim)
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    parts = [t for t in (prepend, input, append) if t is not None]
    x = cat(parts, d) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[d])):
        m = x.shape[d]
        a, b = x.narrow(d, 1, m - 1), x.narrow(d, 0, m - 1)
        x = a.ne(b) if x.dtype.kind == "b" else a - b
    return deliver(x, out)
