"""Reductions: many elements of a tensor joined into one."""

from __future__ import annotations

import builtins

import numpy as np

from amity.core.dtype import bool_, int64, uint8
from amity.core.layout import Layout, layout
from amity.core.shape import canonical_dims
from amity.ir.graph import Spec

from .joining import Cat
from .record import Op, Sample, composite, deliver, method

_F = "f"
SAMPLES = (
    Sample(((3, 4), _F), dims=(1,), keepdim=False), Sample(((3, 4), _F), dims=(0,), keepdim=True),
    Sample(((2, 3, 4), _F), dims=(0, 2), keepdim=False), Sample(((), _F), dims=(), keepdim=False),
    Sample(((5, 3), "i"), dims=(0, 1), keepdim=False),
)  # fmt: skip


class Reduce(Op):
    """Base of all reductions: `dims` are sorted and count from the front."""

    kind = "reduce"
    fuses_grad = True
    dims: tuple[int, ...]
    keepdim: bool
    combine = "sum"
    samples = SAMPLES

    def result_dtype(self, x: Spec):
        return x.dtype

    def infer(self, x: Spec) -> Spec:
        if self.keepdim:
            shape = tuple(1 if d in self.dims else n for d, n in enumerate(x.shape))
        else:
            shape = tuple(n for d, n in enumerate(x.shape) if d not in self.dims)
        return Spec(shape, self.result_dtype(x))

    def spread(self, g, shape):
        """A result's gradient in the shape of the input, without copying."""
        return Spread(self.dims, self.keepdim, tuple(shape))(g)


class Spread(Op):
    """The inverse of a reduction's shape: its dimensions repeated again, without copying."""

    name = "spread"
    kind = "view"
    fuses_grad = True
    dims: tuple[int, ...]
    keepdim: bool
    shape: tuple[int, ...]
    samples = (
        Sample(((3,), _F), dims=(1,), keepdim=False, shape=(3, 4)),
        Sample(((1, 4), _F), dims=(0,), keepdim=True, shape=(3, 4)),
    )

    def infer(self, x: Spec) -> Spec:
        return Spec(self.shape, x.dtype)

    def view(self, x: Layout) -> tuple[Layout, int]:
        rest = iter(x.strides)
        strides = []
        for d in range(len(self.shape)):
            stride = 0 if d in self.dims and not self.keepdim else next(rest)
            strides.append(0 if d in self.dims else stride)
        return layout(x.dtype, self.shape, strides, x.device), 0

    def reference(self, x):
        if not self.keepdim:
            x = np.expand_dims(x, self.dims)
        return np.broadcast_to(x, self.shape)

    def grad(self, g):
        return Sum(self.dims, self.keepdim)(g)


class Sum(Reduce):
    name = "sum"

    def result_dtype(self, x: Spec):
        return x.dtype if x.dtype.kind == "f" else int64

    def reference(self, x):
        return np.sum(x, axis=self.dims, keepdims=self.keepdim, dtype=None)

    def grad(self, g, like_x):
        return self.spread(g, like_x.shape)


class Prod(Reduce):
    name = "prod"
    combine = "prod"
    result_dtype = Sum.result_dtype

    def reference(self, x):
        return np.prod(x, axis=self.dims, keepdims=self.keepdim)

    def grad(self, g, x):
        """Each element's factor is the product of the others: products from both ends, no division."""
        last = tuple(range(-len(self.dims), 0))
        moved = x.movedim(self.dims, last) if self.dims else x
        kept = tuple(moved.shape[: x.ndim - len(self.dims)])
        rows = moved.reshape((*kept, count_of(x.shape, self.dims)))
        n = rows.shape[-1]
        if n < 2 or x.numel() == 0:
            others = rows * 0 + 1
        else:
            one = rows.narrow(-1, 0, 1) * 0 + 1
            before = _cat([one, rows.narrow(-1, 0, n - 1)]).cumprod(-1)
            after = _cat([one, rows.flip(-1).narrow(-1, 0, n - 1)]).cumprod(-1).flip(-1)
            others = before * after
        others = others.reshape(tuple(moved.shape))
        others = others.movedim(last, self.dims) if self.dims else others
        return self.spread(g, x.shape) * others


def _cat(parts):
    return Cat(parts[0].ndim - 1)(*parts)


class _Extreme(Reduce):
    def infer(self, x: Spec) -> Spec:
        if builtins.any(x.shape[d] == 0 for d in self.dims):
            raise IndexError(
                f"{self.name}: Expected reduction dim to have non-zero size; got shape "
                f"{list(x.shape)}"
            )
        return super().infer(x)

    def grad(self: Reduce, g, x, y):
        """To the elements equal to the extreme, shared evenly among them."""
        top = x == self.spread(y, x.shape)
        count = SUM(top, self.dims, True).to(g.dtype)
        return self.spread(g, x.shape) * top / count.expand(x.shape)


class Amax(_Extreme):
    name = "amax"
    combine = "max"

    def reference(self, x):
        return np.max(x, axis=self.dims, keepdims=self.keepdim)


class Peak(Reduce):
    """The largest element, perhaps not NaN: what exponentials are taken relative to."""

    name = "peak"
    combine = "peak"

    def reference(self, x):
        return np.max(x, axis=self.dims, keepdims=self.keepdim)

    def grad(self, g, x, y):
        return Amax.grad(self, g, x, y)


class Amin(_Extreme):
    name = "amin"
    combine = "min"

    def reference(self, x):
        return np.min(x, axis=self.dims, keepdims=self.keepdim)


class _Logical(Reduce):
    """Whether all or any elements are true; of uint8 the result is uint8, as PyTorch's."""

    def result_dtype(self, x: Spec):
        return uint8 if x.dtype is uint8 else bool_


class All(_Logical):
    name = "all"
    combine = "all"

    def reference(self, x):
        return np.all(x, axis=self.dims, keepdims=self.keepdim)


class Any(_Logical):
    name = "any"
    combine = "any"

    def reference(self, x):
        return np.any(x, axis=self.dims, keepdims=self.keepdim)


class _Arg(Reduce):
    def result_dtype(self, x: Spec):
        return int64

    def infer(self, x: Spec) -> Spec:
        if x.dtype.kind == "b":
            raise RuntimeError(f"{self.name}(): does not support bool input; expected numbers")
        if builtins.any(x.shape[d] == 0 for d in self.dims):
            raise IndexError(
                f"{self.name}: Expected reduction dim to have non-zero size; got shape "
                f"{list(x.shape)}"
            )
        return super().infer(x)

    def _reference(self, f, x):
        if len(self.dims) == x.ndim:
            return np.reshape(f(x), (1,) * x.ndim if self.keepdim else ())
        return f(x, axis=self.dims[0], keepdims=self.keepdim)


class Argmax(_Arg):
    name = "argmax"
    combine = "argmax"
    samples = (
        Sample(((3, 4), _F), dims=(1,), keepdim=False),
        Sample(((3, 4), _F), dims=(0, 1), keepdim=False),
    )

    def reference(self, x):
        return self._reference(np.argmax, x)


class Argmin(_Arg):
    name = "argmin"
    combine = "argmin"
    samples = Argmax.samples

    def reference(self, x):
        return self._reference(np.argmin, x)


def PEAK(x, dims):
    return Peak(dims, True)(x)


def SUM(x, dims, keepdim):
    return Sum(dims, keepdim)(x)


def _cast(x, dtype):
    return x if dtype is None or x.dtype is dtype else x.to(dtype)


@method
def sum(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The sum over dimensions, all by default.

    dtype:  integers and bools are summed as int64
    errors: IndexError for a dimension out of range
    """
    x = _cast(input, dtype)
    return deliver(Sum(canonical_dims("sum", dim, x.ndim), keepdim)(x), out)


@method
def prod(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The product over a dimension, over all by default."""
    x = _cast(input, dtype)
    return deliver(Prod(canonical_dims("prod", dim, x.ndim), keepdim)(x), out)


def _some(op: str, x, dim) -> None:
    """Nothing has no extreme."""
    if x.numel() == 0 and (dim is None or dim == () or dim == []):
        raise RuntimeError(
            f"{op}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
            f"reduction dim with the 'dim' argument: got shape {list(x.shape)}"
        )


@method
def amax(input, dim=(), keepdim=False, *, out=None):
    """The largest element over dimensions; gradients are shared among equals."""
    _some("amax", input, dim)
    return deliver(Amax(canonical_dims("amax", dim, input.ndim), keepdim)(input), out)


@method
def amin(input, dim=(), keepdim=False, *, out=None):
    """The smallest element over dimensions; gradients are shared among equals."""
    _some("amin", input, dim)
    return deliver(Amin(canonical_dims("amin", dim, input.ndim), keepdim)(input), out)


@method
def all(input, dim=None, keepdim=False, *, out=None):
    """Whether all elements are true."""
    x = input if input.dtype in (bool_,) else input != 0
    y = All(canonical_dims("all", dim, x.ndim), keepdim)(x)
    return deliver(y.to(uint8) if input.dtype is uint8 else y, out)


@method
def any(input, dim=None, keepdim=False, *, out=None):
    """Whether any element is true."""
    x = input if input.dtype in (bool_,) else input != 0
    y = Any(canonical_dims("any", dim, x.ndim), keepdim)(x)
    return deliver(y.to(uint8) if input.dtype is uint8 else y, out)


@method
def argmax(input, dim=None, keepdim=False, *, out=None):
    """The position of the largest element: in the flattened tensor, or along `dim`."""
    return deliver(Argmax(canonical_dims("argmax", dim, input.ndim), keepdim)(input), out)


@method
def argmin(input, dim=None, keepdim=False, *, out=None):
    """The position of the smallest element: in the flattened tensor, or along `dim`."""
    return deliver(Argmin(canonical_dims("argmin", dim, input.ndim), keepdim)(input), out)


def count_of(shape, dims) -> int:
    """How many elements are joined into one."""
    n = 1
    for d in dims:
        n *= shape[d]
    return n


def _floating(op: str, x, dtype):
    if (dtype or x.dtype).kind != "f":
        raise RuntimeError(
            f"{op}: could not infer output dtype. Input dtype must be either a floating point "
            f"or complex dtype. Got: {x.dtype}"
        )


@composite(grad=lambda g, like_input, dim, keepdim: _mean_grad(g, like_input, dim, keepdim))
def _mean(input, dim, keepdim):
    n = count_of(input.shape, dim)
    return Sum(dim, keepdim)(input) / n if n else Sum(dim, keepdim)(input) * float("nan")


def _mean_grad(g, like, dim, keepdim):
    n = builtins.max(count_of(like.shape, dim), 1)
    return Sum(dim, keepdim).spread(g / n, like.shape)


@method
def mean(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The mean over dimensions, all by default.

    errors: RuntimeError for an integer dtype
    """
    _floating("mean", input, dtype)
    x = _cast(input, dtype)
    return deliver(_mean(x, canonical_dims("mean", dim, x.ndim), keepdim), out)
