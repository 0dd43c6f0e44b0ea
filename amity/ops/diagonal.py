"""Diagonals, triangles and windows of a tensor."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import int64
from amity.core.errors import ShapeError, fail
from amity.core.layout import layout
from amity.core.shape import canonical_dim, check_dims, whole
from amity.ir.graph import Spec

from .movement import Embed, reshape
from .rearrange import movedim
from .record import METHODS, ErrorSample, Op, Sample, deliver, method
from .select import WHERE

F = "f"


class Diagonal(Op):
    """Elements whose places along two dimensions differ by `offset`, as a last dimension."""

    name = "diagonal"
    kind = "view"
    offset: int
    dim1: int
    dim2: int
    samples = (
        Sample(((3, 4), F), offset=1, dim1=0, dim2=1),
        Sample(((2, 3, 4), F), offset=-1, dim1=2, dim2=0),
        Sample(((2, 2), F), offset=5, dim1=0, dim2=1),
    )
    errors = (
        ErrorSample(((3, 4), F), offset=0, dim1=0, dim2=2, error=IndexError, says="dimension 2"),
    )

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, (self.dim1, self.dim2), x.ndim)
        shape, _, _ = self._parts(x.shape)
        return Spec(shape, x.dtype)

    def _parts(self, shape):
        n, m = shape[self.dim1], shape[self.dim2]
        length = max(min(n, m - self.offset) if self.offset >= 0 else min(n + self.offset, m), 0)
        rest = [d for d in range(len(shape)) if d not in (self.dim1, self.dim2)]
        return (*(shape[d] for d in rest), length), rest, length

    def view(self, x):
        shape, rest, length = self._parts(x.shape)
        s1, s2 = x.strides[self.dim1], x.strides[self.dim2]
        start = (self.offset * s2 if self.offset >= 0 else -self.offset * s1) if length else 0
        return layout(x.dtype, shape, (*(x.strides[d] for d in rest), s1 + s2), x.device), start

    def reference(self, x):
        return np.diagonal(x, self.offset, self.dim1, self.dim2).copy()

    def grad(self, g, like_x):
        shape = tuple(like_x.shape)
        n, m = shape[self.dim1], shape[self.dim2]
        on = _on_diagonal(g, n, m, self.offset)
        wide = g.unsqueeze(-1)  # [..., length, 1]
        first = max(-self.offset, 0)
        wide = Embed(wide.ndim - 2, first, 1, n)(wide)
        full = WHERE(on, wide.expand((*wide.shape[:-1], m)), 0.0)
        return movedim(full, (-2, -1), (self.dim1, self.dim2))


def _on_diagonal(like, n: int, m: int, offset: int):
    """Where the columns of an n by m matrix lie `offset` beyond the rows."""
    rows = like.new_tensor(range(n), dtype=int64).reshape(-1, 1)
    return (like.new_tensor(range(m), dtype=int64) - rows) == offset


@method
def diagonal(input, offset=0, dim1=0, dim2=1):
    """The view of a diagonal."""
    a, b = canonical_dim("diagonal", dim1, input.ndim), canonical_dim("diagonal", dim2, input.ndim)
    if a == b:
        raise RuntimeError(f"diagonal: diagonal dimensions cannot be identical {dim1}, {dim2}")
    return Diagonal(offset, a, b)(input)


@method
def diag(input, diagonal=0, *, out=None):
    """The diagonal of a matrix, or a matrix with a vector as diagonal."""
    if input.ndim == 1:
        return deliver(diag_embed(input, diagonal), out)
    if input.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return deliver(Diagonal(diagonal, 0, 1)(input).clone(), out)


@method
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Matrices with the last dimension as diagonals."""
    n = input.shape[-1] + abs_int(offset)
    on = _on_diagonal(input, n, n, offset)
    wide = Embed(input.ndim - 1, max(-offset, 0), 1, n)(input).unsqueeze(-1)
    full = WHERE(on, wide.expand((*wide.shape[:-1], n)), 0)
    full = full if full.dtype is input.dtype else full.to(input.dtype)
    return movedim(full, (-2, -1), (dim1, dim2)).contiguous()


@method
def diagflat(input, offset=0):
    """A matrix with all elements of a tensor on a diagonal."""
    return diag_embed(reshape(input, (-1,)), offset)


def abs_int(n: int) -> int:
    return -n if n < 0 else n


class Unfold(Op):
    """Windows of one dimension, as a last dimension of a view."""

    name = "unfold_dim"
    kind = "view"
    dim: int
    size: int
    step: int
    samples = (
        Sample(((7, 2), F), dim=0, size=3, step=2),
        Sample(((2, 4), F), dim=1, size=2, step=1),
    )
    errors = (ErrorSample(((2, 4), F), dim=1, size=5, step=1, error=ShapeError, says="at most 4"),)

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        if self.size > x.shape[self.dim]:
            raise fail(ShapeError, "unfold", f"size {self.size}", f"at most {x.shape[self.dim]}")
        n = (x.shape[self.dim] - self.size) // self.step + 1
        return Spec((*x.shape[: self.dim], n, *x.shape[self.dim + 1 :], self.size), x.dtype)

    def view(self, x):
        spec = self.infer(Spec(tuple(x.shape), x.dtype))
        s = x.strides[self.dim]
        strides = (*x.strides[: self.dim], s * self.step, *x.strides[self.dim + 1 :], s)
        return layout(x.dtype, spec.shape, strides, x.device), 0

    def reference(self, x):
        w = np.lib.stride_tricks.sliding_window_view(x, self.size, self.dim)
        return w[(slice(None),) * self.dim + (slice(None, None, self.step),)].copy()

    def grad(self, g, like_x):
        total = None
        n = like_x.shape[self.dim]
        for i in range(self.size):
            part = g.select(-1, i)
            back = Embed(self.dim, i, self.step, n)(part)
            total = back if total is None else total + back
        return total


METHODS["unfold"] = lambda self, dimension, size, step: unfold_dim(self, dimension, size, step)


def unfold_dim(input, dimension, size, step):
    """Windows of `size` every `step` along a dimension, as a view."""
    d = canonical_dim("unfold", dimension, input.ndim)
    n = input.shape[d] if input.ndim else 1
    if size > n:
        raise RuntimeError(
            f"unfold: maximum size for tensor at dimension {d} is {n} but size is {size}"
        )
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if input.ndim == 0:
        return reshape(input, (1,))[:size]
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return Unfold(d, size, step)(input)


class Triangle(Op):
    """Elements on one side of a diagonal, the others 0."""

    name = "triangle"
    carries = "keep"
    kind = "indexed"
    diagonal: int
    is_lower: bool
    runtime = ("diagonal",)
    samples = (
        Sample(((3, 4), F), diagonal=0, is_lower=True),
        Sample(((2, 3, 3), F), diagonal=1, is_lower=False),
        Sample(((3, 4), "i"), diagonal=-1, is_lower=True),
    )
    errors = (
        ErrorSample(((3,), F), diagonal=0, is_lower=True, error=ShapeError, says="two or more"),
    )

    @property
    def structure(self):
        return ("triangle", self.is_lower)

    def infer(self, x: Spec) -> Spec:
        if x.ndim < 2:
            raise fail(ShapeError, self.name, f"{x.ndim} dimensions", "two or more")
        return x

    def emit(self, k, x):
        row, column = k.index[-2], k.index[-1]
        limit = row + k.parameter(0)
        return x.load(k.index, column <= limit if self.is_lower else column >= limit)

    def reference(self, x):
        return np.tril(x, self.diagonal) if self.is_lower else np.triu(x, self.diagonal)

    def grad(self, g):
        return type(self)(self.diagonal, self.is_lower)(g)


def _triangle(name, input, diagonal, is_lower):
    if input.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    return Triangle(whole(name, "diagonal", diagonal), is_lower)(input)


@method(inplace=True)
def tril(input, diagonal=0, *, out=None):
    """The lower triangle of matrices."""
    y = _triangle("tril", input, diagonal, True)
    return y if out is None else out._receive(y)


@method(inplace=True)
def triu(input, diagonal=0, *, out=None):
    """The upper triangle of matrices."""
    y = _triangle("triu", input, diagonal, False)
    return y if out is None else out._receive(y)
