"""Elements picked and placed along a dimension by tensors of positions, and by masks."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import bool_, int32, int64
from amity.core.errors import DtypeError, ShapeError, fail
from amity.core.shape import broadcast_shapes, canonical_dim, check_dims
from amity.ir.graph import Spec

from .arguments import check_tensor
from .indexing import Index, IndexPut
from .record import ErrorSample, Op, Sample, deliver, method
from .select import WHERE

F = "f"
I = np.array([[0, 2, 1], [1, 0, 2]])  # noqa: E741


def _check_places(op: str, x: Spec, dim: int, index: Spec) -> None:
    check_dims(op, dim, x.ndim)
    if index.dtype.kind not in "iu":
        raise fail(DtypeError, op, f"an index of {index.dtype}", "integers")
    if index.ndim != x.ndim:
        expected = f"as many dimensions as the tensor's {x.ndim}"
        raise fail(ShapeError, op, f"an index with {index.ndim}", expected)


class Gather(Op):
    """`out[i][j] = x[index[i][j]][j]` for dim 0, and so on."""

    name = "gather"
    kind = "indexed"
    dim: int
    samples = (Sample(((3, 4), F), I, dim=0), Sample(((2, 5), F), I, dim=1))
    errors = (
        ErrorSample(((3, 4), F), I, dim=2, error=IndexError, says="dimension 2"),
        ErrorSample(((3,), F), I, dim=0, error=ShapeError, says="as many dimensions"),
        ErrorSample(((2, 3), F), ((2, 3), F), dim=0, error=RuntimeError, says="integers"),
    )

    def infer(self, x: Spec, index: Spec) -> Spec:
        _check_places(self.name, x, self.dim, index)
        return Spec(index.shape, x.dtype)

    def emit(self, k, x, index):
        at = k.b.convert(index.load(k.index[: len(index.sizes)]), "i64")
        return x.load([at if d == self.dim else i for d, i in enumerate(k.index)][: len(x.sizes)])

    def reference(self, x, index):
        cut = tuple(
            slice(0, n) if d != self.dim else slice(None) for d, n in enumerate(index.shape)
        )
        return np.take_along_axis(x[cut], index, self.dim)

    def grad(self, g, like_x, index):
        zeros = g.new_zeros(()).expand(like_x.shape)
        return Scatter(self.dim, "add", True)(zeros, index, g), None


_UFUNC = {
    "add": np.add,
    "sum": np.add,
    "multiply": np.multiply,
    "prod": np.multiply,
    "amax": np.maximum,
    "amin": np.minimum,
}


class Scatter(Op):
    """A copy of `x` with values placed at positions along a dimension, or joined to what is there."""

    name = "scatter"
    kind = "kernel"
    planner = "scatter"
    dim: int
    reduce: str
    include_self: bool
    samples = (
        Sample(((3, 4), F), I, ((2, 3), F), dim=0, reduce="add", include_self=True),
        Sample(
            ((3, 4), F),
            np.array([[0, 2, 1]]),
            ((2, 3), F),
            dim=0,
            reduce="assign",
            include_self=True,
        ),
        Sample(((3, 4), "p"), I, ((2, 3), "p"), dim=0, reduce="prod", include_self=True),
        Sample(((3, 4), F), I, ((2, 3), F), dim=0, reduce="amax", include_self=False),
        Sample(((3, 4), F), I, ((2, 3), F), dim=0, reduce="amin", include_self=True),
    )
    errors = (
        ErrorSample(((3, 4), F), I, ((2, 3), "i"), dim=0, reduce="add", include_self=True,
                    error=RuntimeError, says="dtype"),
        ErrorSample(((3,), F), I, ((2, 3), F), dim=0, reduce="add", include_self=True,
                    error=RuntimeError, says="as many dimensions"),
    )  # fmt: skip

    def infer(self, x: Spec, index: Spec, src: Spec) -> Spec:
        _check_places(self.name, x, self.dim, index)
        if src.dtype is not x.dtype:
            raise RuntimeError(
                f"scatter(): Expected self.dtype to be equal to src.dtype: got {x.dtype} and "
                f"{src.dtype}"
            )
        return x

    def where(self, index):
        at = list(np.indices(index.shape, sparse=True)) if index.ndim else []
        if index.ndim:
            at[self.dim] = index
        return tuple(at)

    def reference(self, x, index, src):
        x, index, src = (np.atleast_1d(v) for v in (x, index, src))
        out = x.copy()
        src = src[tuple(slice(0, n) for n in index.shape)]
        at = self.where(index)
        if self.reduce == "assign":
            out[at] = src
            return out
        if not self.include_self:
            out[at] = {"prod": 1, "amax": _low(x.dtype), "amin": _high(x.dtype)}.get(self.reduce, 0)
        _UFUNC[self.reduce].at(out, at, src)
        return out

    def grad(self, g, x, index, src, y):
        picked = Gather(self.dim)(g, index)
        if self.reduce in ("add", "sum"):
            gx = g if self.include_self else _cleared(g, self.dim, index)
            return gx, None, _widened(picked, src, self)
        if self.reduce == "assign":
            return _cleared(g, self.dim, index), None, _widened(picked, src, self)
        return _joined_grad(self, g, x, index, src, y)


def _cleared(g, dim, index):
    """The gradient with 0 where values were placed."""
    return Scatter(dim, "assign", True)(g, index, g.new_zeros(index.shape))


def _widened(picked, src, op):
    """A gradient of the used part of `src`, in the shape of all of it."""
    if tuple(picked.shape) == tuple(src.shape):
        return picked
    sides = [
        s
        for n, m in zip(reversed(src.shape), reversed(picked.shape), strict=True)
        for s in (0, n - m)
    ]
    return picked._pad_zeros(sides)


def _joined_grad(op, g, x, index, src, y):
    used = (
        src
        if tuple(src.shape) == tuple(index.shape)
        else src[tuple(slice(0, n) for n in index.shape)]
    )
    pick = Gather(op.dim)
    if op.reduce in ("prod", "multiply"):
        whole = WHERE(x == 0, 1.0, x)  # the product of the others is that of all without the zero
        gx = g * op(whole, index, used) / whole
        is_zero = used == 0
        zeros = Scatter(op.dim, "add", True)(x.detach() * 0, index, is_zero.to(x.dtype))
        is_lone = is_zero.logical_and(pick(zeros, index) == 1)
        others = op(x, index, WHERE(is_lone, 1.0, used))
        gs = pick(g * others, index) / WHERE(is_zero, 1.0, used)
        gs = WHERE(is_zero.logical_and(is_lone.logical_not()), 0.0, gs)
    else:
        hit = (used == pick(y, index)).to(g.dtype)
        own = (x == y).to(g.dtype)
        own = own if op.include_self else _cleared(own, op.dim, index)
        count = Scatter(op.dim, "add", True)(own, index, hit)
        share = g / count.clamp(min=1)
        gx, gs = share * own, pick(share, index) * hit
    gx = gx if op.include_self else _cleared(gx, op.dim, index)
    return gx, None, _widened(gs, src, op)


def _low(dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind in "iu" else False


def _high(dtype):
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max if dtype.kind in "iu" else True


def _check(name, x, dim, index, src=None):
    """The dimension and an index that fits; 0-d tensors count as one element."""
    check_tensor(name, index, "index")
    d = canonical_dim(name, dim, x.ndim)
    if index.dtype not in (int64, int32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    if max(index.ndim, 1) != max(x.ndim, 1):
        raise ShapeError(
            "Index tensor must have the same number of dimensions as "
            f"{'self' if src is not None else 'input'} tensor: {name} got {index.ndim} and "
            f"{x.ndim}"
        )
    for i, n in enumerate(index.shape):
        if i != d and x.ndim and n > x.shape[i]:
            raise ShapeError(
                f"Size does not match at dimension {i} expected index {list(index.shape)} to be "
                f"no larger than self {list(x.shape)} apart from dimension {d}"
            )
        if src is not None and src.ndim and n > src.shape[i]:
            raise ShapeError(
                f"Expected index {list(index.shape)} to be no larger than src {list(src.shape)} "
                f"size in every dimension: {name}"
            )
    n = x.shape[d] if x.ndim else 1
    bad = index._first_outside(0, n)
    if bad is not None:
        raise RuntimeError(f"{name}: index {bad} is out of bounds for dimension {d} with size {n}")
    return d


@method
def gather(input, dim, index, *, sparse_grad=False, out=None):
    """Elements picked along a dimension, one for each position in `index`.

    errors: RuntimeError for positions outside, other ranks or dtypes
    """
    d = _check("gather", input, dim, index)
    if input.ndim == 0:
        return deliver(input.reshape(1).expand(index.numel()).reshape(index.shape).clone(), out)
    if index.ndim == 0:
        return deliver(Gather(d)(input, index.reshape(1)).reshape(()), out)
    return deliver(Gather(d)(input, index), out)


def _scattered(name, input, dim, index, src, reduce, include_self=True):
    if not hasattr(src, "layout"):
        src = input.new_full(tuple(index.shape), src)
    d = _check(name, input, dim, index, src)
    y = Scatter(d, reduce, include_self)(_some(input), _some(index), _some(src))
    return y.reshape(tuple(input.shape)) if input.ndim == 0 else y


@method(inplace=True)
def scatter(input, dim, index, src=None, *, value=None, reduce=None, out=None):
    """Values placed along a dimension at the positions in `index`.

    errors: as gather; RuntimeError for an unknown `reduce` ("add" or "multiply")
    """
    src = value if src is None else src
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError(
            f"scatter: got reduce={reduce!r}; reduce argument must be either add or multiply."
        )
    return deliver(_scattered("scatter", input, dim, index, src, reduce or "assign"), out)


@method(inplace=True)
def scatter_add(input, dim, index, src, *, out=None):
    """Values added along a dimension at the positions in `index`."""
    check_tensor("scatter_add", src, "src")
    return deliver(_scattered("scatter_add", input, dim, index, src, "add"), out)


@method(inplace=True)
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True, out=None):
    """Values joined by sum, prod, mean, amax or amin at the positions in `index`."""
    check_tensor("scatter_reduce", src, "src")
    reduce = {"max": "amax", "min": "amin"}.get(reduce, reduce)
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(
            f"scatter_reduce: reduce argument must be either sum, prod, mean, amax or amin, got {reduce}."
        )
    if reduce == "mean":
        return deliver(_scattered_mean(input, dim, index, src, include_self), out)
    y = _scattered("scatter_reduce", input, dim, index, src, reduce, include_self)
    return deliver(y, out)


def _scattered_mean(input, dim, index, src, include_self):
    """Sums divided by how many values each is of; untouched elements stay."""
    total = _scattered("scatter_reduce", input, dim, index, src, "sum", include_self)
    ones = input.detach().new_ones(tuple(index.shape))
    start = input.detach().new_full((), int(include_self)).expand(tuple(input.shape))
    count = _scattered("scatter_reduce", start, dim, index, ones, "sum").clamp(min=1)
    return total / count if input.dtype.kind == "f" else total.div(count, rounding_mode="floor")


# -- whole slices


def _vector(name, index, n, outside=IndexError, low=0):
    """Positions that a dimension of `n` has, as a vector; `outside` is raised for others."""
    check_tensor(name, index, "index")
    if index.ndim > 1:
        raise IndexError(
            f"{name}(): Index is supposed to be a vector, but got dim: {index.ndim} with type: "
            f"{index.dtype} and size: {list(index.shape)}"
        )
    if index.dtype not in (int64, int32):
        raise RuntimeError(
            f"{name}(): Expected dtype int32 or int64 for index, but got {index.dtype}"
        )
    bad = index._first_outside(low, n)
    if bad is not None:
        raise outside(f"{name}(): index {bad} is out of bounds for dimension with size {n}")
    return index.reshape(-1)


@method
def index_select(input, dim, index, *, out=None):
    """Slices picked along a dimension."""
    d = canonical_dim("index_select", dim, input.ndim)
    if input.ndim == 0:
        if index.numel() != 1:
            raise RuntimeError(
                "index_select(): Index to scalar can have only 1 value, got "
                f"{index.numel()} value(s)"
            )
        _vector("index_select", index, 1)
        return deliver(input.clone(), out)
    n = input.shape[d]
    index = _vector("index_select", index, n, IndexError if n else RuntimeError)
    return deliver(Index((d,))(input, index), out)


def _some(x):
    """The tensor with at least one dimension."""
    return x if x.ndim else x.reshape(1)


def _placed(name, input, dim, index, source, accumulate, error, outside):
    """Slices written, or added, at positions along a dimension."""
    check_tensor(name, source, "source")
    d = canonical_dim(name, dim, input.ndim)
    x, slices = _some(input), _some(source)
    index = _vector(name, index, x.shape[d], outside)
    if slices.ndim != x.ndim or slices.shape[d] != index.shape[0]:
        raise error(
            f"{name}(): Number of indices ({index.shape[0]}) should be equal to source.size(dim), and "
            f"source have as many dimensions as self: got {list(source.shape)} for {list(input.shape)}"
        )
    if any(i != d and n != m for i, (n, m) in enumerate(zip(x.shape, slices.shape, strict=True))):
        raise RuntimeError(
            f"{name}(): source tensor shape must match self tensor shape, excluding the specified "
            f"dimension. Got self.shape = {list(input.shape)} source.shape = {list(source.shape)}"
        )
    return IndexPut((d,), accumulate)(x, slices, index).reshape(tuple(input.shape))


@method(inplace=True)
def index_add(input, dim, index, source, *, alpha=1, out=None):
    """Slices of `source` added at positions along a dimension."""
    check_tensor("index_add", source, "source")
    if (source.ndim == 0) != (input.ndim == 0):
        raise RuntimeError(
            "index_add(): source tensor shape must match self tensor shape, excluding the specified "
            f"dimension. Got self.shape = {list(input.shape)} source.shape = {list(source.shape)}"
        )
    source = source if alpha == 1 else source * alpha
    y = _placed("index_add", input, dim, index, source, True, RuntimeError, RuntimeError)
    return deliver(y, out)


@method(inplace=True)
def index_copy(input, dim, index, source, *, out=None):
    """Slices of `source` written at positions along a dimension."""
    if getattr(index, "dtype", int64) is not int64:
        raise RuntimeError(f"index_copy(): Expected a long tensor for index, but got {index.dtype}")
    y = _placed("index_copy", input, dim, index, source, False, IndexError, IndexError)
    return deliver(y, out)


@method(inplace=True)
def index_fill(input, dim, index, value):
    """One value written at positions along a dimension; negative ones count from the end."""
    check_tensor("index_fill", index, "index")
    if index.dtype is not int64:
        raise IndexError(f"index_fill(): Expected dtype int64 for index, but got {index.dtype}")
    if index.ndim > 1:
        raise RuntimeError(f"index_fill(): Index has to be a vector/scalar, but got {index.ndim}D")
    if not hasattr(value, "layout"):
        value = input.new_full((), value)
    elif value.ndim:
        raise RuntimeError(
            "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{value.ndim} dimension(s)."
        )
    d = canonical_dim("index_fill", dim, input.ndim)
    x = _some(input)
    n = x.shape[d]
    at = _vector("index_fill", index, n, low=-n)
    is_in = IndexPut((0,), False)(
        input.new_zeros(n, dtype=bool_), input.new_ones((), dtype=bool_), at
    )
    is_in = is_in.reshape(tuple(n if i == d else 1 for i in range(x.ndim)))
    return WHERE(is_in, value.to(input.dtype), x).reshape(tuple(input.shape))


# -- flat positions


def _flat(name, index, n):
    """Positions that a flattened tensor has."""
    bad = index._first_outside(-n, n)
    if bad is not None:
        raise IndexError(f"{name}(): index {bad} is out of bounds for {n} elements")


@method
def take(input, index, *, out=None):
    """Elements of the flattened tensor."""
    check_tensor("take", index, "index")
    if index.dtype is not int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.dtype}")
    _flat("take", index, input.numel())
    return deliver(Index((0,))(input.reshape(-1), index), out)


@method
def take_along_dim(input, indices, dim=None, *, out=None):
    """`gather` whose index broadcasts and may count from the end; without dim from the flattened
    tensor.

    errors: RuntimeError for positions outside, where PyTorch 2.13 takes the remainder
    """
    if indices.dtype is not int64:
        raise RuntimeError(
            "torch.take_along_dim(): dtype of indices should be Long but got " + indices.dtype.name
        )
    if dim is None:
        input, indices, dim = input.reshape(-1), indices.reshape(-1), 0
    if indices.ndim != input.ndim:
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of "
            f"dimensions, but got {input.ndim} dimensions for input, and {indices.ndim} "
            "dimensions for indices"
        )
    d = canonical_dim("take_along_dim", dim, input.ndim)
    shape = broadcast_shapes(
        "take_along_dim", *([n for i, n in enumerate(t.shape) if i != d] for t in (input, indices))
    )
    wide = input.expand((*shape[:d], input.shape[d], *shape[d:]))
    at = indices.expand((*shape[:d], indices.shape[d], *shape[d:]))
    n = wide.shape[d] if wide.ndim else 1
    return deliver(gather(wide, d, WHERE(at < 0, at + n, at)), out)


@method(inplace=True)
def put(input, index, source, accumulate=False):
    """Values written at positions of the flattened tensor."""
    if index.dtype is not int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {index.dtype}")
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"put_(): self and source expected to have the same dtype, but got {input.dtype} and "
            f"{source.dtype}"
        )
    if index.numel() != source.numel():
        raise IndexError(
            "put_(): Expected source and index to have the same number of elements, but got "
            f"{source.numel()} and {index.numel()}"
        )
    _flat("put_", index, input.numel())
    flat = IndexPut((0,), accumulate)(input.reshape(-1), source.reshape(-1), index.reshape(-1))
    return flat.reshape(tuple(input.shape))
