"""Elements picked and placed along a dimension by tensors of positions, and by masks."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import bool_, fitting, int32, int64
from amity.core.errors import DtypeError, ShapeError, fail
from amity.core.shape import broadcast_shapes, canonical_dim, check_dims
from amity.ir.graph import Spec

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
        gx = g * y / x
        gs = pick(g * y, index) / used
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
    bad = index._first_outside(0, n, -1 << 62)
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
    y = Scatter(d, reduce, include_self)(input, index, src)
    return y.reshape(tuple(input.shape)) if input.ndim == 0 else y


@method(inplace=True)
def scatter(input, dim, index, src=None, *, value=None, reduce=None, out=None):
    """Values placed along a dimension at the positions in `index`.

    errors: as gather; RuntimeError for an unknown `reduce` ("add" or "multiply")
    """
    src = value if src is None else src
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    return deliver(_scattered("scatter", input, dim, index, src, reduce or "assign"), out)


@method(inplace=True)
def scatter_add(input, dim, index, src, *, out=None):
    """Values added along a dimension at the positions in `index`."""
    return deliver(_scattered("scatter_add", input, dim, index, src, "add"), out)


@method(inplace=True)
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """Values joined by sum, prod, mean, amax or amin at the positions in `index`."""
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}."
        )
    if reduce == "mean":
        return _scattered_mean(input, dim, index, src, include_self)
    return _scattered("scatter_reduce", input, dim, index, src, reduce, include_self)


def _scattered_mean(input, dim, index, src, include_self):
    """Sums divided by how many values each is of; untouched elements stay."""
    total = _scattered("scatter_reduce", input, dim, index, src, "sum", include_self)
    ones = input.detach().new_ones(tuple(index.shape))
    start = input.detach().new_full((), int(include_self)).expand(tuple(input.shape))
    count = _scattered("scatter_reduce", start, dim, index, ones, "sum").clamp(min=1)
    return total / count if input.dtype.kind == "f" else total.div(count, rounding_mode="floor")


# -- whole slices


def _vector(name, index, n):
    if index.ndim > 1:
        raise IndexError(
            f"{name}(): Index is supposed to be a vector, but got dim: {index.ndim} with type: "
            f"{index.dtype} and size: {list(index.shape)}"
        )
    if index.dtype not in (int64, int32):
        raise RuntimeError(f"{name}(): Expected dtype int32 or int64 for index")
    bad = index._first_outside(0, n, -1 << 62)
    if bad is not None:
        raise IndexError(f"{name}(): index {bad} is out of bounds for dimension with size {n}")
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
    return deliver(Index((d,))(input, _vector("index_select", index, input.shape[d])), out)


def _placed(input, d, index, source, accumulate):
    """Slices written or added; positions lead, as IndexPut wants them."""
    return IndexPut((d,), accumulate)(input, source, index)


@method(inplace=True)
def index_add(input, dim, index, source, *, alpha=1, out=None):
    """Slices of `source` added at positions along a dimension."""
    d = canonical_dim("index_add", dim, input.ndim)
    index = _vector("index_add", index, input.shape[d])
    if source.shape[d] != index.shape[0]:
        raise RuntimeError(
            f"index_add(): Number of indices ({index.shape[0]}) should be equal to "
            f"source.size(dim): ({source.shape[d]}), for dim: {d}"
        )
    return deliver(_placed(input, d, index, source if alpha == 1 else source * alpha, True), out)


@method(inplace=True)
def index_copy(input, dim, index, source):
    """Slices of `source` written at positions along a dimension."""
    d = canonical_dim("index_copy", dim, input.ndim)
    index = _vector("index_copy", index, input.shape[d])
    if source.shape[d] != index.shape[0]:
        raise IndexError(
            f"index_copy(): Number of indices ({index.shape[0]}) should be equal to "
            f"source.size(dim) ({source.shape[d]})"
        )
    return _placed(input, d, index, source, False)


@method(inplace=True)
def index_fill(input, dim, index, value):
    """One value written at positions along a dimension."""
    d = canonical_dim("index_fill", dim, input.ndim)
    index = _vector("index_fill", index, input.shape[d])
    if not hasattr(value, "layout"):
        value = input.new_full((), value)
    elif value.ndim:
        raise RuntimeError(
            "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{value.ndim} dimension(s)."
        )
    shape = (*input.shape[:d], index.shape[0], *input.shape[d + 1 :])
    return _placed(input, d, index, value.to(input.dtype).expand(shape), False)


# -- flat positions


def _flat(name, index, n):
    """Positions that a flattened tensor has."""
    bad = index._first_outside(-n, n, -1 << 62)
    if bad is not None:
        raise IndexError(f"{name}(): index {bad} is out of bounds for {n} elements")


@method
def take(input, index):
    """Elements of the flattened tensor."""
    if index.dtype is not int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.dtype}")
    _flat("take", index, input.numel())
    return Index((0,))(input.reshape(-1), index)


@method
def take_along_dim(input, indices, dim=None, *, out=None):
    """`gather` whose index broadcasts; without dim from the flattened tensor."""
    if indices.dtype is not int64:
        raise RuntimeError(
            "torch.take_along_dim(): dtype of indices should be Long but got " + indices.dtype.name
        )
    if dim is None:
        return deliver(take(input, indices.reshape(-1)), out)
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
    return deliver(gather(wide, d, at), out)


@method(inplace=True)
def put(input, index, source, accumulate=False):
    """Values written at positions of the flattened tensor."""
    if index.dtype is not int64:
        raise IndexError(f"put_(): Expected a long tensor for index, but got {index.dtype}")
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


# -- masks


@method(inplace=True)
def masked_fill(input, mask, value):
    """A value where the mask is true.

    errors: RuntimeError if the mask is not boolean
    """
    if mask.dtype is not bool_:
        raise RuntimeError(
            f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype}"
        )
    if hasattr(value, "layout"):
        if value.ndim:
            raise RuntimeError(
                "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value.ndim} dimension(s)."
            )
        value = value.to(input.dtype)
    else:
        value = fitting("masked_fill", value, input.dtype)
    return WHERE(mask, value, input)


@method
def masked_select(input, mask, *, out=None):
    """The elements where the mask is true, as a vector."""
    if mask.dtype is not bool_:
        raise RuntimeError(f"masked_select: expected BoolTensor for mask, got {mask.dtype}")
    shape = broadcast_shapes("masked_select", input.shape, mask.shape)
    y = input.expand(shape)[mask.expand(shape)]
    return deliver(y, out)


@method(inplace=True)
def masked_scatter(input, mask, source):
    """Elements of `source`, in order, where the mask is true."""
    if mask.dtype is not bool_:
        raise RuntimeError(
            f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}"
        )
    if input.ndim == 0:
        return masked_scatter(input.reshape(1), mask.reshape(1), source).reshape(())
    at = mask.expand(input.shape).nonzero(as_tuple=True)
    count = at[0].numel()
    if source.numel() < count:
        raise RuntimeError(
            "masked_scatter: expected self to have at least as many elements in source as "
            "there are true values in mask"
        )
    return IndexPut(tuple(range(input.ndim)), False)(input, source.reshape(-1)[:count], *at)


@method
def nonzero(input, *, out=None, as_tuple=False):
    """The positions of elements that are not 0: rows, or one vector for each dimension."""
    found = np.nonzero(np.atleast_1d(input.detach().numpy()))
    if as_tuple:
        return tuple(input.new_tensor(i, dtype=int64) for i in found)
    rows = np.stack(found, 1) if input.ndim else np.zeros((len(found[0]), 0), np.int64)
    return deliver(input.new_tensor(rows.astype(np.int64), dtype=int64), out)


@method
def argwhere(input):
    """The positions of elements that are not 0, as rows."""
    return nonzero(input)
