"""Reading and writing at positions that tensors hold: the primitives behind `x[i, j]` and gather."""

from __future__ import annotations

import numpy as np

from amity.core.errors import DimError, ShapeError, fail
from amity.core.shape import broadcast_shapes, check_dims
from amity.ir.graph import Spec

from .position import Position
from .record import ErrorSample, Op, Sample

F = "f"


def index_shape(
    x: tuple, dims: tuple[int, ...], indices: list[tuple]
) -> tuple[tuple[int, ...], int, int]:
    """The shape of `x[…]` with indices at `dims`, where their dimensions start, and how many they are."""
    try:
        joined = broadcast_shapes("index", *indices)
    except ShapeError:
        got = ", ".join(str(list(i)) for i in indices)
        raise IndexError(
            f"index: shape mismatch: indexing tensors could not be broadcast together with shapes {got}"
        ) from None
    rest = [n for d, n in enumerate(x) if d not in dims]
    is_run = dims == tuple(range(dims[0], dims[0] + len(dims)))
    at = dims[0] if is_run else 0
    return (*rest[:at], *joined, *rest[at:]), at, len(joined)


def _check(op: str, x: Spec, dims: tuple[int, ...], indices: tuple[Spec, ...]) -> None:
    check_dims(op, dims, x.ndim)
    for i in indices:
        if i.dtype.kind not in "iu":
            raise fail(DimError, op, f"an index of {i.dtype}", "integers")


class Index(Op):
    """`x` at integer positions along some dimensions; negative ones count from the end."""

    name = "index"
    kind = "indexed"
    carries = "own"
    dims: tuple[int, ...]
    samples = (
        Sample(((4, 3), F), np.array([0, -1, 2]), dims=(0,)),
        Sample(((4, 3, 2), F), np.array([[0], [1]]), np.array([1, 0, 1]), dims=(0, 2)),
        Sample(((4, 3), F), np.zeros((0,), np.int64), dims=(1,)),
    )
    errors = (
        ErrorSample(((4, 3), F), np.array([0]), dims=(2,), error=IndexError, says="dimension 2"),
        ErrorSample(((4, 3), F), ((2,), F), dims=(0,), error=IndexError, says="integers"),
    )

    def infer(self, x: Spec, *indices: Spec) -> Spec:
        _check(self.name, x, self.dims, indices)
        shape, _, _ = index_shape(tuple(x.shape), self.dims, [tuple(i.shape) for i in indices])
        return Spec(shape, x.dtype)

    def emit(self, k, x, *indices):
        rank = max(len(i.sizes) for i in indices)
        is_run = self.dims == tuple(range(self.dims[0], self.dims[0] + len(self.dims)))
        at = self.dims[0] if is_run else 0
        inner = k.index[at : at + rank]
        rest = iter([*k.index[:at], *k.index[at + rank :]])
        picked = {}
        for d, i in zip(self.dims, indices, strict=True):
            value = k.b.convert(i.load(inner[rank - len(i.sizes) :]), "i64")
            picked[d] = k.b.select(value < 0, value + x.sizes[d], value)
        return x.load([picked[d] if d in picked else next(rest) for d in range(len(x.sizes))])

    def reference(self, x, *indices):
        at: list = [slice(None)] * x.ndim
        for d, i in zip(self.dims, indices, strict=True):
            at[d] = i
        return x[tuple(at)]

    def grad(self, g, like_x, *indices):
        zeros = g.new_zeros(()).expand(like_x.shape)
        return (IndexPut(self.dims, True)(zeros, g, *indices), *[None] * len(indices))

    def batch(self, size, is_mapped, x, *indices):
        shapes = [tuple(i.shape)[m:] for i, m in zip(indices, is_mapped[1:], strict=True)]
        _, at, rank = index_shape(tuple(x.shape)[is_mapped[0] :], self.dims, shapes)
        if not is_mapped[0]:  # one table for all
            return Index(self.dims)(x, *_aligned(indices, is_mapped[1:], rank)).movedim(at, 0)
        dims = tuple(d + 1 for d in self.dims)
        if any(is_mapped[1:]):
            y = Index((0, *dims))(x, *_with_entries(x, indices, is_mapped[1:], rank))
            return y.movedim(tuple(range(1, rank + 1)), tuple(range(at + 1, at + rank + 1)))
        y = Index(dims)(x, *indices)
        return y if index_shape(tuple(x.shape), dims, shapes)[1] else y.movedim(rank, 0)


def _aligned(indices, is_mapped, rank):
    """Indices of which some have entries in front, as ones that broadcast to `rank` behind those."""
    return [
        i.reshape((i.shape[0], *(1,) * (rank - i.ndim + 1), *i.shape[1:])) if m else i
        for i, m in zip(indices, is_mapped, strict=True)
    ]


def _with_entries(x, indices, is_mapped, rank):
    """Indices after one that picks of each entry of `x` what it wants."""
    entries = Position(0)(x).reshape((x.shape[0], *(1,) * rank))
    return (entries, *_aligned(indices, is_mapped, rank))


class IndexPut(Op):
    """A copy of `x` with values written, or added, at integer positions."""

    name = "index_put"
    kind = "kernel"
    carries = "own"
    planner = "index_put"
    dims: tuple[int, ...]
    accumulate: bool
    samples = (
        Sample(((4, 3), F), ((3, 3), F), np.array([0, 3, 2]), dims=(0,), accumulate=False),
        Sample(((4, 3), F), ((2, 3), F), np.array([1, 1]), dims=(0,), accumulate=True),
        Sample(((4, 3), F), ((), F), np.array([2, -2]), dims=(1,), accumulate=False),
    )
    errors = (
        ErrorSample(
            ((4, 3), F), ((3,), "i"), np.array([0]), dims=(0,), accumulate=False,
            error=RuntimeError, says="dtypes match",
        ),
        ErrorSample(
            ((4, 3), F), ((2, 2), F), np.array([0, 1]), dims=(0,), accumulate=True,
            error=RuntimeError, says="broadcast",
        ),
    )  # fmt: skip

    def infer(self, x: Spec, values: Spec, *indices: Spec) -> Spec:
        _check(self.name, x, self.dims, indices)
        if x.dtype is not values.dtype:
            raise RuntimeError(
                "index_put: Index put requires the source and destination dtypes match, got "
                f"{x.dtype} for the destination and {values.dtype} for the source."
            )
        shape, _, _ = index_shape(tuple(x.shape), self.dims, [tuple(i.shape) for i in indices])
        if broadcast_shapes("index_put", shape, values.shape) != tuple(shape):
            raise RuntimeError(
                f"index_put: shape mismatch: value tensor of shape {list(values.shape)} cannot "
                f"be broadcast to indexing result of shape {list(shape)}"
            )
        return Spec(x.shape, x.dtype)

    def parts(self, x: tuple, indices: list[tuple]) -> tuple[tuple[int, ...], int, list[int]]:
        """The joined shape of the indices, where its dimensions start, and the sizes of the others."""
        shape, at, rank = index_shape(x, self.dims, indices)
        return shape[at : at + rank], at, [*shape[:at], *shape[at + rank :]]

    def reference(self, x, values, *indices):
        out = x.copy()
        at: list = [slice(None)] * x.ndim
        for d, i in zip(self.dims, indices, strict=True):
            at[d] = i
        if self.accumulate:
            np.add.at(out, tuple(at), values)
        else:
            out[tuple(at)] = values
        return out

    def grad(self, g, like_x, like_values, *indices):
        gv = Index(self.dims)(g, *indices).sum_to_size(like_values.shape)
        if self.accumulate:
            gx = g
        else:
            zeros = g.new_zeros(()).expand(like_values.shape)
            gx = IndexPut(self.dims, False)(g, zeros, *indices)
        return (gx, gv, *[None] * len(indices))

    def batch(self, size, is_mapped, x, values, *indices):
        shapes = [tuple(i.shape)[m:] for i, m in zip(indices, is_mapped[2:], strict=True)]
        shape, at, rank = index_shape(tuple(x.shape)[is_mapped[0] :], self.dims, shapes)
        if not is_mapped[0]:
            x = x.expand((size, *x.shape))
        lead = tuple(values.shape[:1]) if is_mapped[1] else (1,)
        rest = tuple(values.shape)[is_mapped[1] :]
        values = values.reshape((*lead, *(1,) * (len(shape) - len(rest)), *rest))
        values = values.movedim(tuple(range(at + 1, at + rank + 1)), tuple(range(1, rank + 1)))
        dims = (0, *(d + 1 for d in self.dims))
        entries = _with_entries(x, indices, is_mapped[2:], rank)
        return IndexPut(dims, self.accumulate)(x, values, *entries)
