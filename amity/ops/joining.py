"""Tensors joined and taken apart: cat, stack, split and their relatives."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from amity.core.dtype import int64
from amity.core.errors import DimError, ShapeError, fail
from amity.core.layout import layout
from amity.core.shape import canonical_dim, check_dims
from amity.ir.graph import Spec

from .arguments import numpy_names
from .movement import Embed, narrow
from .record import METHODS, ErrorSample, Op, Sample, deliver, method, result_dtype

F = "f"


class Cat(Op):
    """Tensors one after another along a dimension."""

    name = "cat"
    kind = "kernel"
    fuses_grad = True
    planner = "cat"
    dim: int
    samples = (
        Sample(((2, 3), F), ((2, 1), F), ((2, 0), F), dim=1),
        Sample(((2,), F), ((3,), "i"), dim=0),
    )
    errors = (
        ErrorSample(
            ((2, 3), F), ((3, 3), F), dim=1, error=RuntimeError, says="Sizes of tensors must match"
        ),
    )

    def infer(self, *xs: Spec) -> Spec:
        first = xs[0].shape
        for i, x in enumerate(xs):
            if len(x.shape) != len(first):
                raise ShapeError(
                    f"cat: Tensors must have same number of dimensions: got {len(first)} and "
                    f"{len(x.shape)}"
                )
            for d, (n, m) in enumerate(zip(first, x.shape, strict=True)):
                if d != self.dim and n != m:
                    raise ShapeError(
                        f"cat: Sizes of tensors must match except in dimension {self.dim}. "
                        f"Expected size {n} but got size {m} "
                        f"for tensor number {i} in the list."
                    )
        total = sum(x.shape[self.dim] for x in xs)
        return Spec((*first[: self.dim], total, *first[self.dim + 1 :]), result_dtype(xs))

    def reference(self, *xs):
        return np.concatenate(xs, axis=self.dim, dtype=np.result_type(*xs))

    def grad(self, g, *layouts):
        out, at = [], 0
        for lay in layouts:
            n = lay.shape[self.dim]
            part = narrow(g, self.dim, at, n)
            out.append(part if lay.dtype is g.dtype else part.to(lay.dtype))
            at += n
        return tuple(out)


def _listed(name, tensors, error=RuntimeError):
    """The tensors of a list, of which there must be some."""
    if hasattr(tensors, "layout"):
        raise TypeError(f"{name}: argument 'tensors' must be tuple of Tensors, not Tensor")
    tensors = tuple(tensors)
    if not tensors:
        raise error(f"{name}: got no tensors; expected a non-empty TensorList")
    for t in tensors:
        if not hasattr(t, "layout"):
            raise TypeError(f"{name}: got {type(t).__name__} in the list; expected Tensors")
    return tensors


@numpy_names
def cat(tensors, dim=0, *, out=None):
    """Tensors one after another along a dimension; 1-d tensors of size 0 are left out.

    errors: RuntimeError if the other sizes differ
    """
    tensors = _listed("cat", tensors, ValueError)
    ranks = {t.layout.ndim for t in tensors}
    if 0 in ranks:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    if 1 in ranks and len(ranks) > 1:
        tensors = tuple(t for t in tensors if t.ndim > 1 or t.shape[0])
    y = _cat_along(dim, tensors[0].layout.ndim)(*tensors)
    return y if out is None else deliver(y, out)


@lru_cache(typed=True)
def _cat_along(dim, ndim: int) -> Cat:
    return Cat(canonical_dim("cat", dim, ndim))


concat = concatenate = cat


@numpy_names
def stack(tensors, dim=0, *, out=None):
    """Tensors of one shape along a new dimension."""
    tensors = _listed("stack", tensors)
    first = tensors[0].shape
    for i, t in enumerate(tensors):
        if t.shape != first:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 "
                f"and {list(t.shape)} at entry {i}"
            )
    d = canonical_dim("stack", dim, len(first) + 1)
    return deliver(Cat(d)(*(t.unsqueeze(d) for t in tensors)), out)


def _at_least(tensors, n: int):
    made = [
        t.reshape(1, 1) if t.ndim == 0 and n == 2 else t.reshape(1) if t.ndim == 0 else t
        for t in tensors
    ]
    return [t.unsqueeze(0) if n == 2 and t.ndim == 1 else t for t in made]


def hstack(tensors, *, out=None):
    """Tensors side by side: along the second dimension, vectors along the first."""
    ts = _at_least(_listed("hstack", tensors), 1)
    return cat(ts, 0 if ts[0].ndim == 1 else 1, out=out)


def vstack(tensors, *, out=None):
    """Tensors one below the other: along the first dimension, vectors as rows."""
    return cat(_at_least(_listed("vstack", tensors), 2), 0, out=out)


row_stack = vstack


def dstack(tensors, *, out=None):
    """Tensors behind one another, along the third dimension."""
    ts = _at_least(_listed("dstack", tensors), 2)
    return cat([t.unsqueeze(2) if t.ndim == 2 else t for t in ts], 2, out=out)


def column_stack(tensors, *, out=None):
    """Vectors as the columns of a matrix, matrices side by side."""
    ts = _listed("column_stack", tensors)
    return hstack([t.reshape(-1, 1) if t.ndim < 2 else t for t in ts], out=out)


# -- taking apart: views


def _some_dim(op: str, dim: int, x) -> int:
    """A dimension of a tensor that has some."""
    if x.ndim == 0:
        raise RuntimeError(f"{op} expects at least a 1-dimensional tensor, got one of 0 dimensions")
    return canonical_dim(op, dim, x.ndim)


@method
def split(tensor, split_size_or_sections, dim=0):
    """Views of consecutive parts: of one size (the last may be smaller), or of the given sizes."""
    d = _some_dim("split", dim, tensor)
    n = tensor.shape[d]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and n):
            raise RuntimeError(
                f"split expects split_size be non-negative, but got split_size={size}"
            )
        starts = range(0, n, size) if n else [0]
        return tuple(narrow(tensor, d, s, min(size, n - s)) for s in starts)
    sizes = list(split_size_or_sections)
    if sum(sizes) != n:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size "
            f"at dimension {d}), but got split_sizes={sizes}"
        )
    out, at = [], 0
    for size in sizes:
        out.append(narrow(tensor, d, at, size))
        at += size
    return tuple(out)


@method
def split_with_sizes(input, split_sizes, dim=0):
    """Views of consecutive parts of the given sizes."""
    return split(input, split_sizes, dim)


@method
def unsafe_split(input, split_size, dim=0):
    """Views of consecutive parts of one size, as `split` gives them."""
    return split(input, split_size, dim)


unsafe_split_with_sizes = split_with_sizes
METHODS["unsafe_split_with_sizes"] = split_with_sizes


@method
def chunk(input, chunks, dim=0):
    """At most `chunks` views of equal size, the last perhaps smaller."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    d = _some_dim("chunk", dim, input)
    n = input.shape[d]
    return (
        split(input, max(1, math.ceil(n / chunks)), d) if n else tuple(input for _ in range(chunks))
    )


unsafe_chunk = chunk
METHODS["unsafe_chunk"] = chunk


def _cuts(given):
    """A number of parts or a list of places to cut at, from a tensor of either too."""
    if not hasattr(given, "layout"):
        return given
    if given.dtype is not int64 or given.ndim > 1:
        raise RuntimeError(
            "tensor_split expected tensor_indices_or_sections to be 0- or 1-dimensional and to have "
            f"dtype of long, but got {given.ndim} dimensions and {given.dtype}"
        )
    return given.tolist()


@method
def tensor_split(input, indices_or_sections=None, dim=0, *, indices=None, sections=None):
    """Views cut at indices, or into a number of parts whose sizes differ by at most one."""
    d = _some_dim("tensor_split", dim, input)
    n = input.shape[d]
    given = [g for g in (indices_or_sections, indices, sections) if g is not None]
    if len(given) != 1:
        raise TypeError(
            f"tensor_split: got {len(given)} ways to split; expected indices or sections"
        )
    where = _cuts(given[0])
    if isinstance(where, int):
        k = where
        if k <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {k}")
        sizes = [n // k + (i < n % k) for i in range(k)]
        return split(input, sizes, d)
    points = [min(max(p + n if p < 0 else p, 0), n) for p in where]
    cuts = [0, *points, n]
    return tuple(narrow(input, d, a, max(b - a, 0)) for a, b in zip(cuts, cuts[1:], strict=False))


def _parted(name: str, input, indices_or_sections, dim: int, least: int):
    if input.ndim < least:
        raise RuntimeError(
            f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor "
            f"with {input.ndim} dimensions!"
        )
    n = input.shape[dim]
    if isinstance(indices_or_sections, int) and (
        indices_or_sections <= 0 or n % indices_or_sections
    ):
        raise RuntimeError(
            f"torch.{name} attempted to split along dimension {dim}, but the size of the "
            f"dimension {n} is not divisible by the split_size {indices_or_sections}!"
        )
    return tensor_split(input, indices_or_sections, dim)


@method
def hsplit(input, indices_or_sections):
    """Parts side by side: along the second dimension, of a vector along the first."""
    return _parted("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1, 1)


@method
def vsplit(input, indices_or_sections):
    """Parts one below the other, along the first dimension."""
    return _parted("vsplit", input, indices_or_sections, 0, 2)


@method
def dsplit(input, indices_or_sections):
    """Parts behind one another, along the third dimension."""
    return _parted("dsplit", input, indices_or_sections, 2, 3)


def _raised(tensors, shape_of):
    """One tensor or several, given more dimensions of size 1."""
    if len(tensors) == 1:
        if hasattr(tensors[0], "layout"):
            return tensors[0].reshape(shape_of(tuple(tensors[0].shape)))
        tensors = tensors[0]
    return tuple(t.reshape(shape_of(tuple(t.shape))) for t in tensors)


def atleast_1d(*tensors):
    """Numbers as vectors; others as they are."""
    return _raised(tensors, lambda s: s or (1,))


def atleast_2d(*tensors):
    """Numbers and vectors as rows of a matrix; others as they are."""
    return _raised(tensors, lambda s: (1,) * (2 - len(s)) + s)


def atleast_3d(*tensors):
    """Numbers, vectors and matrices with a last dimension of size 1 and a first one if need be."""
    return _raised(
        tensors, lambda s: s if len(s) > 2 else (*(s if len(s) == 2 else (1, *(s or (1,)))), 1)
    )


@method
def unbind(input, dim=0):
    """Views of all positions along a dimension, without it."""
    if input.ndim == 0:
        raise IndexError("unbind: Dimension specified as 0 but tensor has no dimensions")
    d = canonical_dim("unbind", dim, input.ndim)
    return tuple(select(input, d, i) for i in range(input.shape[d]))


@method
def select(input, dim, index):
    """The view of one position along a dimension, without it."""
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = canonical_dim("select", dim, input.ndim)
    n, i = input.shape[d], int(index)
    if not -n <= i < n:
        raise IndexError(
            f"select(): index {i} out of range for tensor of size {list(input.shape)} at "
            f"dimension {d}"
        )
    return Select(d, i % n)(input)


class Select(Op):
    """One position of a dimension."""

    name = "select"
    kind = "view"
    dim: int
    index: int
    samples = (Sample(((3, 4), F), dim=0, index=1), Sample(((4,), "i"), dim=0, index=3))
    errors = (
        ErrorSample(((3, 4), F), dim=2, index=0, error=IndexError, says="dimension 2"),
        ErrorSample(((3, 4), F), dim=0, index=3, error=IndexError, says="below 3"),
    )

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        if not 0 <= self.index < x.shape[self.dim]:
            expected = f"one from 0 and below {x.shape[self.dim]}"
            raise fail(DimError, self.name, f"index {self.index}", expected)
        return Spec((*x.shape[: self.dim], *x.shape[self.dim + 1 :]), x.dtype)

    def view(self, x):
        shape, strides = ((*t[: self.dim], *t[self.dim + 1 :]) for t in (tuple(x.shape), x.strides))
        return layout(x.dtype, shape, strides, x.device), self.index * x.strides[self.dim]

    def reference(self, x):
        return np.take(x, self.index, axis=self.dim)

    def grad(self, g, like_x):
        return Embed(self.dim, self.index, 1, like_x.shape[self.dim])(g.unsqueeze(self.dim))
