"""Views: the same elements under other dimensions. None of these copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index

import numpy as np

from amity.core.dtype import DType, float32, float64, int16
from amity.core.errors import DimError, ShapeError, fail
from amity.core.layout import Layout, layout
from amity.core.shape import broadcast_shapes, canonical_dim, check_dims, infer_size
from amity.ir.graph import Spec

from .record import ErrorSample, Op, Sample, deliver, method

F = "f"


class Permute(Op):
    """Dimensions in another order."""

    name = "permute"
    kind = "view"
    carries = "own"
    fuses_grad = True
    dims: tuple[int, ...]
    samples = (Sample(((2, 3, 4), F), dims=(2, 0, 1)), Sample(((), F), dims=()))
    errors = (ErrorSample(((2, 3), F), dims=(0, 0), error=ShapeError, says="every dimension once"),)

    def infer(self, x: Spec) -> Spec:
        if sorted(self.dims) != list(range(x.ndim)):
            expected = f"every dimension once of the {x.ndim}"
            raise fail(ShapeError, self.name, f"dims {self.dims}", expected)
        return Spec(tuple(x.shape[d] for d in self.dims), x.dtype)

    def view(self, x: Layout) -> tuple[Layout, int]:
        shape, strides = (tuple(t[d] for d in self.dims) for t in (x.shape, x.strides))
        return layout(x.dtype, shape, strides, x.device), 0

    def reference(self, x):
        return np.transpose(x, self.dims)

    def grad(self, g):
        back = [0] * len(self.dims)
        for i, d in enumerate(self.dims):
            back[d] = i
        return Permute(tuple(back))(g)

    def batch(self, size, is_mapped, x):
        return Permute((0, *(d + 1 for d in self.dims)))(x)


class Reshape(Op):
    """The same elements in row-major order under another shape."""

    name = "reshape"
    kind = "view"
    fuses_grad = True
    shape: tuple[int, ...]
    samples = (
        Sample(((2, 6), F), shape=(3, 4)),
        Sample(((4,), F), shape=(2, 1, 2)),
        Sample(((0, 3), F), shape=(5, 0)),
    )
    errors = (ErrorSample(((2, 3), F), shape=(4, 2), error=ShapeError, says="of 6 elements"),)

    def infer(self, x: Spec) -> Spec:
        if math.prod(self.shape) != x.numel:
            raise fail(ShapeError, self.name, f"shape {self.shape}", f"one of {x.numel} elements")
        return Spec(self.shape, x.dtype)

    def view(self, x: Layout) -> tuple[Layout, int] | None:
        strides = view_strides(x, self.shape)
        return None if strides is None else (layout(x.dtype, self.shape, strides, x.device), 0)

    def reference(self, x):
        return np.reshape(x, self.shape)

    def grad(self, g, like_x):
        return reshape(g, like_x.shape)


class Expand(Op):
    """Dimensions of size 1 repeated without copying."""

    name = "expand"
    kind = "view"
    carries = "own"
    fuses_grad = True
    shape: tuple[int, ...]
    samples = (Sample(((3, 1), F), shape=(2, 3, 4)), Sample(((), F), shape=(2,)))
    errors = (ErrorSample(((2, 3), F), shape=(4, 3), error=ShapeError, says="broadcasts to"),)

    def infer(self, x: Spec) -> Spec:
        ends = zip(reversed(x.shape), reversed(self.shape), strict=False)
        if x.ndim > len(self.shape) or any(n not in (1, m) for n, m in ends):
            expected = f"one that broadcasts to {self.shape}"
            raise fail(ShapeError, self.name, f"a shape {tuple(x.shape)}", expected)
        return Spec(self.shape, x.dtype)

    def view(self, x: Layout) -> tuple[Layout, int]:
        strides: list[int] = []
        for d in range(-1, -len(self.shape) - 1, -1):
            if -d <= x.ndim:
                n, step = x.shape[d], x.strides[d]
            else:  # new, of size 1: it steps over those behind it, unless repeated
                n, step = 1, self.shape[d + 1] * strides[0] if x.ndim else 0
            strides.insert(0, 0 if n == 1 != self.shape[d] else step)
        return layout(x.dtype, self.shape, strides, x.device), 0

    def reference(self, x):
        return np.broadcast_to(x, self.shape)

    def grad(self, g, like_x):
        return sum_to_size(g, like_x.shape)

    def batch(self, size, is_mapped, x):
        ones = (1,) * (len(self.shape) - x.ndim + 1)
        return Expand((size, *self.shape))(Reshape((size, *ones, *x.shape[1:]))(x))


class Slice(Op):
    """Elements `start, start + step, …` of one dimension."""

    name = "slice"
    kind = "view"
    fuses_grad = True
    dim: int
    start: int
    length: int
    step: int
    samples = (
        Sample(((5, 3), F), dim=0, start=1, length=2, step=2),
        Sample(((2, 3), F), dim=1, start=3, length=0, step=1),
    )
    errors = (
        ErrorSample(((5, 3), F), dim=0, start=2, length=4, step=1, error=ShapeError, says="inside"),
        ErrorSample(((5, 3), F), dim=2, start=0, length=1, step=1, error=DimError, says="one of"),
    )

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        last = self.start + (self.length - 1) * self.step
        if self.length < 0 or (
            self.length
            and not 0 <= min(self.start, last) <= max(self.start, last) < x.shape[self.dim]
        ):
            got = f"{self.length} places from {self.start} on"
            raise fail(ShapeError, self.name, got, f"places inside of {x.shape[self.dim]}")
        return Spec((*x.shape[: self.dim], self.length, *x.shape[self.dim + 1 :]), x.dtype)

    def view(self, x: Layout) -> tuple[Layout, int]:
        d, stride = self.dim, x.strides[self.dim]
        shape = (*x.shape[:d], self.length, *x.shape[d + 1 :])
        strides = (*x.strides[:d], stride * self.step, *x.strides[d + 1 :])
        return layout(x.dtype, shape, strides, x.device), self.start * stride if self.length else 0

    def reference(self, x):
        at = [slice(None)] * x.ndim
        at[self.dim] = slice(self.start, self.start + self.length * self.step, self.step)
        return x[tuple(at)][(slice(None),) * self.dim + (slice(0, self.length),)]

    def grad(self, g, like_x):
        return Embed(self.dim, self.start, self.step, like_x.shape[self.dim])(g)


class Embed(Op):
    """Zeros of a larger size with the input at `start, start + step, …` of one dimension."""

    name = "embed"
    kind = "kernel"
    planner = "embed"
    fuses_grad = True
    dim: int
    start: int
    step: int
    size: int
    samples = (
        Sample(((2, 3), F), dim=0, start=1, step=2, size=5),
        Sample(((2, 3), F), dim=1, start=0, step=1, size=4),
    )
    errors = (
        ErrorSample(((3,), F), dim=0, start=2, step=1, size=4, error=ShapeError, says="room for 3"),
    )

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        n = x.shape[self.dim]
        if n and self.start + (n - 1) * self.step >= self.size:
            got = f"size {self.size} with start {self.start} and step {self.step}"
            raise fail(ShapeError, self.name, got, f"room for {n} elements")
        return Spec((*x.shape[: self.dim], self.size, *x.shape[self.dim + 1 :]), x.dtype)

    def reference(self, x):
        out = np.zeros(self.infer(Spec(x.shape, float32)).shape, x.dtype)
        at = [slice(None)] * x.ndim
        at[self.dim] = slice(self.start, self.start + self.step * x.shape[self.dim], self.step)
        out[tuple(at)] = x
        return out

    def grad(self, g, like_x):
        return Slice(self.dim, self.start, like_x.shape[self.dim], self.step)(g)


def view_strides(x: Layout, shape: Sequence[int]) -> tuple[int, ...] | None:
    """Strides that show a layout under another shape, or None if its memory does not allow it."""
    if x.is_contiguous:
        return layout(x.dtype, shape).strides
    if x.numel == 0:
        return layout(x.dtype, shape).strides
    # runs of dimensions that lie in memory like one
    runs: list[list[int]] = []  # [size, stride of the last]
    for n, s in zip(x.shape, x.strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1][0] *= n
            runs[-1][1] = s
        else:
            runs.append([n, s])
    out = [0] * len(shape)
    at = len(runs) - 1
    left, step = (runs[at][0], runs[at][1]) if runs else (1, 1)
    for d in reversed(range(len(shape))):
        if shape[d] == 1:
            out[d] = step
            continue
        if left == 1:
            at -= 1
            if at < 0:
                return None
            left, step = runs[at]
        if left % shape[d]:
            return None
        out[d] = step
        step *= shape[d]
        left //= shape[d]
    return tuple(out) if at <= 0 and left == 1 else None


def _sizes(name: str, args: Sequence, named: Sequence[int] | None = None) -> tuple[int, ...]:
    """`f(2, 3)`, `f((2, 3))` and `f(size=(2, 3))` alike."""
    if bool(args) is (named is not None):
        raise TypeError(f"{name}: got {'two lists of' if args else 'no'} ints; expected one tuple")
    if named is not None:
        args = named
    elif len(args) == 1 and type(args[0]) is not int and hasattr(args[0], "__iter__"):
        args = args[0]
    try:
        return tuple([index(a) for a in args])
    except TypeError:
        got = ", ".join(type(a).__name__ for a in args)
        raise TypeError(f"{name}: got ({got}); expected a tuple of ints") from None


def reshape(input, *sizes, shape=None):
    """The same elements under another shape; a view where memory allows, else a copy.

    errors: RuntimeError if the sizes do not agree
    """
    shape = _sizes("reshape", sizes, shape)
    new = infer_size("reshape", shape, input.numel())
    return input if new == tuple(input.shape) and input.tape is None else Reshape(new)(input)


method(reshape)


@method
def view(input, *shape, size=None, dtype=None):
    """The same memory under another shape (or dtype).

    errors: RuntimeError if memory does not allow it: use reshape
    """
    if len(shape) == 1 and hasattr(shape[0], "itemsize") and not hasattr(shape[0], "layout"):
        (dtype,) = shape
    if dtype is not None:
        return Reinterpret(dtype)(input)
    new = infer_size("view", _sizes("view", shape, size), input.numel())
    op = Reshape(new)
    if op.view(input.layout) is None if hasattr(input.layout, "extent") else False:
        raise RuntimeError(
            f"view: got shape {list(input.shape)} with strides {input.stride()} and new shape "
            f"{list(new)}; view "
            "size is not compatible with input tensor's size and stride (at least one "
            "dimension spans across "
            "two contiguous subspaces). Use .reshape(...) instead."
        )
    return op(input)


class Reinterpret(Op):
    """The same bytes as elements of another dtype; the last dimension grows or shrinks."""

    name = "reinterpret"
    kind = "view"
    carries = "keep"
    dtype: DType
    no_gradient = "bits are no numbers"
    is_of_memory = True
    samples = (Sample(((3, 4), F), dtype=int16), Sample(((3, 4), "i"), dtype=float64))
    errors = (ErrorSample(((2, 3), F), dtype=float64, error=RuntimeError, says="divisible"),)

    def infer(self, x: Spec) -> Spec:
        return Spec(self._shape(tuple(x.shape), x.dtype), self.dtype)

    def _shape(self, shape, dtype):
        a, b = dtype.itemsize, self.dtype.itemsize
        if a == b:
            return shape
        if not shape or shape[-1] * a % b:
            raise RuntimeError(
                f"view: got shape {list(shape)} of {dtype} viewed as {self.dtype}; expected a last "
                f"dimension of whole elements of {b} bytes (self.size(-1) must be divisible by it)"
            )
        return (*shape[:-1], shape[-1] * a // b)

    def view(self, x: Layout) -> tuple[Layout, int]:
        a, b = x.dtype.itemsize, self.dtype.itemsize
        strides = x.strides
        if a != b:
            if strides[-1] != 1 or any(s * a % b for s in strides[:-1]):
                raise RuntimeError(
                    f"view: got strides {strides} of {x.dtype} viewed as {self.dtype}; expected "
                    "self.stride(-1) must be 1 and the others whole elements"
                )
            strides = (*(s * a // b for s in strides[:-1]), 1)
        return layout(self.dtype, self._shape(tuple(x.shape), x.dtype), strides, x.device), 0

    def reference(self, x):
        return np.ascontiguousarray(x).view(self.dtype.numpy)


@method
def permute(input, *order, dims=None):
    """Dimensions in another order."""
    dims = _sizes("permute", order, dims)
    if len(dims) != input.ndim:
        raise RuntimeError(
            f"permute: got {len(dims)} dims for a tensor with {input.ndim}; expected as many as "
            "the tensor has"
        )
    order = tuple(canonical_dim("permute", d, input.ndim) for d in dims)
    if len(set(order)) != len(order):
        raise RuntimeError("permute: duplicate dims are not allowed")
    return Permute(order)(input)


@method
def transpose(input, dim0, dim1):
    """Two dimensions swapped."""
    a, b = (
        canonical_dim("transpose", dim0, input.ndim),
        canonical_dim("transpose", dim1, input.ndim),
    )
    order = list(range(input.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return Permute(tuple(order))(input)


@method
def t(input):
    """The transpose of a matrix; a vector is its own."""
    if input.ndim > 2:
        raise RuntimeError(f"t: expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else Permute(tuple(range(input.ndim)))(input)


@method
def expand(input, *sizes, size=None, implicit=False):
    """Dimensions of size 1 repeated without copying; -1 keeps a size."""
    sizes = _sizes("expand", sizes, size)
    pad = len(sizes) - input.ndim
    if pad < 0:
        raise RuntimeError(
            f"expand: the number of sizes provided ({len(sizes)}) must be greater or equal to "
            f"the number of dimensions in the tensor ({input.ndim})"
        )
    new = []
    for i, n in enumerate(sizes):
        have = input.shape[i - pad] if i >= pad else None
        if n == -1 and have is None:
            raise RuntimeError(f"expand: got -1 at new dimension {i}; expected a size")
        if have is not None and n != -1 and have not in (1, n):
            raise RuntimeError(
                f"expand: the expanded size of the tensor ({n}) must match the existing size "
                f"({have}) at non-singleton dimension {i}. "
                f"Target sizes: {list(sizes)}. Tensor sizes: {list(input.shape)}"
            )
        new.append(have if n == -1 else n)
    return Expand(tuple(new))(input)


@method
def squeeze(input, dim=None):
    """Dimensions of size 1 left out: all, or those given."""
    if dim is None:
        drop = {d for d, n in enumerate(input.shape) if n == 1}
    else:
        dims = (dim,) if isinstance(dim, int) else dim
        found = [canonical_dim("squeeze", d, input.ndim) for d in dims]
        drop = set(found)
        if len(drop) < len(found):
            raise RuntimeError(
                f"squeeze: got {dims}; a dim appears multiple times in the list of dims"
            )
        drop = {d for d in drop if input.ndim and input.shape[d] == 1}
    return Reshape(tuple(n for d, n in enumerate(input.shape) if d not in drop))(input)


@method
def unsqueeze(input, dim):
    """A dimension of size 1 put in."""
    d = canonical_dim("unsqueeze", dim, input.ndim + 1)
    return Reshape((*input.shape[:d], 1, *input.shape[d:]))(input)


@method
def narrow(input, dim, start, length):
    """`length` elements of a dimension from `start` on, as a view."""
    d = canonical_dim("narrow", dim, input.ndim)
    if input.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if hasattr(start, "layout") and (start.ndim or start.dtype.kind not in "iu"):
        raise RuntimeError(
            f"narrow: got a start of shape {list(start.shape)} and {start.dtype}; start must be an "
            "0-dim integral Tensor"
        )
    n, start = input.shape[d], index(start)
    if not -n <= start <= n:
        raise IndexError(
            f"narrow: start out of range (expected to be in range of [{-n}, {n}], but got {start})"
        )
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise RuntimeError(
            f"narrow: start ({start}) + length ({length}) exceeds dimension size ({n})"
        )
    return Slice(d, start, length, 1)(input)


@method
def narrow_copy(input, dim, start, length, *, out=None):
    """`length` elements of a dimension from `start` on, as a copy."""
    return deliver(narrow(input, dim, start, length).clone(), out)


@method
def sum_to_size(input, *sizes, size=None):
    """Summed over the dimensions in which `size` is smaller, the inverse of broadcasting."""
    size = _sizes("sum_to_size", sizes, size)
    if size == tuple(input.shape):
        return input
    if broadcast_shapes("sum_to_size", size, input.shape) != tuple(input.shape):
        raise RuntimeError(
            f"sum_to_size: size {list(size)} is not expandable to size {list(input.shape)}"
        )
    pad = input.ndim - len(size)
    kept = [pad + d for d, n in enumerate(size) if n == 1 and input.shape[pad + d] != 1]
    out = input.sum(kept, keepdim=True) if kept else input
    return out.sum(tuple(range(pad))) if pad else out
