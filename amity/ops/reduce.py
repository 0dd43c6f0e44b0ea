"""Reductions: many elements of a tensor joined into one."""

from __future__ import annotations

import builtins

import numpy as np

from amity.core.dtype import as_dtype, bool_, int64, uint8
from amity.core.errors import ShapeError, fail
from amity.core.layout import Layout, layout
from amity.core.shape import canonical_dims, check_dims
from amity.ir.graph import Spec

from .arguments import check_flag, check_one_dim, check_same_out, check_tensor
from .joining import Cat
from .record import ErrorSample, Op, Sample, composite, deliver, method

_F = "f"
SAMPLES = (
    Sample(((3, 4), _F), dims=(1,), keepdim=False), Sample(((3, 4), _F), dims=(0,), keepdim=True),
    Sample(((2, 3, 4), _F), dims=(0, 2), keepdim=False), Sample(((), _F), dims=(), keepdim=False),
    Sample(((5, 3), "i"), dims=(0, 1), keepdim=False),
)  # fmt: skip
BEYOND = ErrorSample(((2, 3), _F), dims=(0, 2), keepdim=False, error=IndexError, says="dimension 2")
EMPTY = ErrorSample(((2, 0), _F), dims=(1,), keepdim=False, error=IndexError, says="non-zero size")


class Reduce(Op):
    """Base of all reductions: `dims` are sorted and count from the front."""

    kind = "reduce"
    fuses_grad = True
    dims: tuple[int, ...]
    keepdim: bool
    combine = "sum"
    samples = SAMPLES
    errors = (BEYOND,)

    def result_dtype(self, x: Spec):
        return x.dtype

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dims, x.ndim)
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
    errors = (
        ErrorSample(
            ((3,), _F), dims=(1,), keepdim=False, shape=(2, 4), error=ShapeError, says="(2,)"
        ),
    )

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dims, len(self.shape))
        kept = [(d not in self.dims, n) for d, n in enumerate(self.shape)]
        shape = [n if k else 1 for k, n in kept if k or self.keepdim]
        if list(x.shape) != shape:
            raise fail(ShapeError, self.name, f"a shape {tuple(x.shape)}", f"{tuple(shape)}")
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
    errors = (BEYOND, EMPTY)

    def infer(self, x: Spec) -> Spec:
        y = super().infer(x)
        if builtins.any(x.shape[d] == 0 for d in self.dims):
            raise IndexError(
                f"{self.name}: Expected reduction dim to have non-zero size; got shape "
                f"{list(x.shape)}"
            )
        return y

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
    """Whether all or any elements are true."""

    def result_dtype(self, x: Spec):
        return bool_


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
    errors = (
        BEYOND,
        EMPTY,
        ErrorSample(((2, 3), "b"), dims=(1,), keepdim=False, error=RuntimeError, says="bool"),
    )

    def result_dtype(self, x: Spec):
        return int64

    def infer(self, x: Spec) -> Spec:
        if x.dtype.kind == "b":
            raise RuntimeError(f"{self.name}(): does not support bool input; expected numbers")
        y = super().infer(x)
        if builtins.any(x.shape[d] == 0 for d in self.dims):
            raise IndexError(
                f"{self.name}: Expected reduction dim to have non-zero size; got shape "
                f"{list(x.shape)}"
            )
        return y

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
        Sample(((2, 3, 2), "i"), dims=(1,), keepdim=True),
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


def cast(x, dtype, out=None):
    """The input in the dtype asked for, by name or by where the result goes."""
    dtype = out.dtype if dtype is None and out is not None else as_dtype("cast", dtype)
    return x if dtype is None or x.dtype is dtype else x.to(dtype)


def dims_of(op: str, x, dim, keepdim) -> tuple[int, ...]:
    """The dimensions of a reduction, its other arguments checked."""
    check_tensor(op, x)
    check_flag(op, "keepdim", keepdim)
    return canonical_dims(op, dim, x.ndim)


@method
def sum(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The sum over dimensions, all by default.

    dtype:  integers and bools are summed as int64
    errors: IndexError for a dimension out of range
    """
    dims = dims_of("sum", input, dim, keepdim)
    y = Sum(dims, keepdim)(cast(input, dtype, out))
    return deliver(cast(y, dtype, out), out)


@method
def prod(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The product over a dimension, over all by default."""
    dims = dims_of("prod", input, dim, keepdim)
    y = Prod(dims, keepdim)(cast(input, dtype, out))
    return deliver(cast(y, dtype, out), out)


def _some(op: str, x, dim, out) -> None:
    """Nothing has no extreme; and an extreme is not cast."""
    check_same_out(op, x.dtype, out)
    if x.numel() == 0 and (dim is None or dim == () or dim == []):
        raise RuntimeError(
            f"{op}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
            f"reduction dim with the 'dim' argument: got shape {list(x.shape)}"
        )


@method
def amax(input, dim=(), keepdim=False, *, out=None):
    """The largest element over dimensions; gradients are shared among equals."""
    dims = dims_of("amax", input, dim, keepdim)
    _some("amax", input, dim, out)
    return deliver(Amax(dims, keepdim)(input), out)


@method
def amin(input, dim=(), keepdim=False, *, out=None):
    """The smallest element over dimensions; gradients are shared among equals."""
    dims = dims_of("amin", input, dim, keepdim)
    _some("amin", input, dim, out)
    return deliver(Amin(dims, keepdim)(input), out)


def _whether(kind, op, input, dim, keepdim, out):
    dims = dims_of(op, input, dim, keepdim)
    if dim is not None and not isinstance(dim, int) and len(dim) == 0:
        dims = ()  # unlike sums, over none
    if out is not None and out.dtype not in (bool_, uint8):
        raise RuntimeError(f"{op} only supports bool tensor for result, got: {out.dtype}")
    y = kind(dims, keepdim)(input if input.dtype is bool_ else input != 0)
    return deliver(y.to(uint8) if input.dtype is uint8 else y, out)


@method
def all(input, dim=None, keepdim=False, *, out=None):
    """Whether all elements are true."""
    return _whether(All, "all", input, dim, keepdim, out)


@method
def any(input, dim=None, keepdim=False, *, out=None):
    """Whether any element is true."""
    return _whether(Any, "any", input, dim, keepdim, out)


@method
def argmax(input, dim=None, keepdim=False, *, out=None):
    """The position of the largest element: in the flattened tensor, or along `dim`."""
    check_one_dim("argmax", dim)
    return deliver(Argmax(dims_of("argmax", input, dim, keepdim), keepdim)(input), out)


@method
def argmin(input, dim=None, keepdim=False, *, out=None):
    """The position of the smallest element: in the flattened tensor, or along `dim`."""
    check_one_dim("argmin", dim)
    return deliver(Argmin(dims_of("argmin", input, dim, keepdim), keepdim)(input), out)


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


@composite(
    grad=lambda g, like_input, dim, keepdim: _mean_grad(g, like_input, dim, keepdim),
    samples=(
        Sample(((3, 4), _F), dim=(1,), keepdim=False),
        Sample(((2, 3, 2), _F), dim=(0, 2), keepdim=True),
        Sample(((2, 0), _F), dim=(1,), keepdim=False),
    ),
    errors=(
        ErrorSample(((2, 3), _F), dim=(2,), keepdim=False, error=IndexError, says="dimension"),
    ),
)
def _mean(input, dim, keepdim):
    total = Sum(dim, keepdim)(input)  # checks the dimensions
    return total / count_of(input.shape, dim)


def _mean_grad(g, like, dim, keepdim):
    n = builtins.max(count_of(like.shape, dim), 1)
    return Sum(dim, keepdim).spread(g / n, like.shape)


@method
def mean(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The mean over dimensions, all by default.

    errors: RuntimeError for an integer dtype
    """
    dims = dims_of("mean", input, dim, keepdim)
    dtype = as_dtype("mean", dtype)
    _floating("mean", input, dtype)
    return deliver(_mean(cast(input, dtype, out), dims, keepdim), out)
