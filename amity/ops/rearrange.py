"""Dimensions moved, split, joined, repeated, turned and padded."""

from __future__ import annotations

import itertools
import math
from operator import index

import numpy as np

from amity.core.dtype import int32, int64
from amity.core.shape import (
    broadcast_shapes,
    canonical_dim,
    canonical_dims,
    check_dims,
    infer_size,
)
from amity.ir.graph import Spec

from .joining import cat, stack
from .movement import Embed, Permute, _sizes, reshape, transpose
from .record import METHODS, ErrorSample, Op, Sample, method

F = "f"


@method
def flatten(input, start_dim=0, end_dim=-1):
    """Dimensions from start to end as one."""
    a, b = (
        canonical_dim("flatten", start_dim, input.ndim),
        canonical_dim("flatten", end_dim, input.ndim),
    )
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if input.ndim == 0:
        return reshape(input, (1,))
    return reshape(
        input, (*input.shape[:a], math.prod(input.shape[a : b + 1]), *input.shape[b + 1 :])
    )


@method
def unflatten(input, dim, sizes):
    """One dimension as several."""
    d = canonical_dim("unflatten", dim, input.ndim)
    if input.ndim == 0:
        raise RuntimeError(f"unflatten: Dimension specified as {dim} but tensor has no dimensions")
    if len(sizes) == 0:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        new = infer_size("unflatten", tuple(sizes), input.shape[d])
    except RuntimeError:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} "
            f"({input.shape[d]}) in the input tensor"
        ) from None
    return reshape(input, (*input.shape[:d], *new, *input.shape[d + 1 :]))


@method
def ravel(input):
    """All elements in one dimension."""
    return reshape(input, (-1,))


@method
def movedim(input, source, destination):
    """Dimensions moved to new places, the others kept in order."""
    src = (source,) if isinstance(source, int) else tuple(source)
    dst = (destination,) if isinstance(destination, int) else tuple(destination)
    if len(src) != len(dst):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(src)} dims) should "
            f"contain the same number of dims as destination ({list(dst)} dims)"
        )
    a = [canonical_dim("movedim", d, input.ndim) for d in src]
    b = [canonical_dim("movedim", d, input.ndim) for d in dst]
    if len(set(a)) != len(a) or len(set(b)) != len(b):
        raise RuntimeError(
            f"movedim: repeated dim in source or destination ({list(src)}, {list(dst)})"
        )
    if input.ndim == 0:
        return Permute(())(input)
    order = [-1] * input.ndim
    for s, d in zip(a, b, strict=True):
        order[d] = s
    rest = iter(d for d in range(input.ndim) if d not in a)
    return Permute(tuple(next(rest) if d == -1 else d for d in order))(input)


moveaxis = movedim
METHODS["moveaxis"] = movedim


@method
def swapaxes(input, axis0, axis1):
    """Two dimensions swapped, by NumPy's name."""
    return transpose(input, axis0, axis1)


@method
def swapdims(input, dim0, dim1):
    """Two dimensions swapped."""
    return transpose(input, dim0, dim1)


@method
def adjoint(input):
    """The last two dimensions swapped."""
    if input.ndim == 1:
        raise RuntimeError(
            "adjoint: got a 1-D tensor; tensor.adjoint() is only supported on matrices or batches of "
            "matrices"
        )
    return transpose(input, -2, -1)


# -- turning and repeating


class Flip(Op):
    """Dimensions read backwards."""

    name = "flip"
    kind = "indexed"
    dims: tuple[int, ...]
    samples = (
        Sample(((3, 4), F), dims=(0, 1)),
        Sample(((2, 3, 5), F), dims=(2,)),
        Sample(((), F), dims=()),
    )
    errors = (ErrorSample(((3, 4), F), dims=(2,), error=IndexError, says="dimension 2"),)

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dims, x.ndim)
        return x

    def emit(self, k, x):
        return x.load(
            [
                n - 1 - i if d in self.dims else i
                for d, (i, n) in enumerate(zip(k.index, x.sizes, strict=False))
            ][: len(x.sizes)]
        )

    def reference(self, x):
        return np.flip(x, self.dims).copy()

    def grad(self, g):
        return Flip(self.dims)(g)


@method
def flip(input, *order, dims=None):
    """Dimensions in reverse order, as a copy."""
    dims = _sizes("flip", order, dims)
    found = canonical_dims("flip", dims, input.ndim) if dims else ()
    lay = input.layout
    if getattr(lay, "is_contiguous", True) or not lay.is_dense:
        return Flip(found)(input)
    order = sorted(range(input.ndim), key=lambda d: (-lay.strides[d], d))  # as it lies in memory
    y = Flip(tuple(sorted(order.index(d) for d in found)))(Permute(tuple(order))(input))
    return Permute(tuple(order.index(d) for d in range(input.ndim)))(y)


@method
def fliplr(input):
    """Columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


@method
def flipud(input):
    """Rows in reverse order."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


class Roll(Op):
    """One dimension shifted; what falls off the end comes back at the start."""

    name = "roll"
    kind = "indexed"
    dim: int
    shift: int
    runtime = ("shift",)
    samples = (Sample(((3, 4), F), dim=1, shift=1), Sample(((3, 4), F), dim=0, shift=2))
    errors = (ErrorSample(((3, 4), F), dim=2, shift=1, error=IndexError, says="dimension 2"),)

    @property
    def structure(self):
        return ("roll", self.dim)

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        return x

    def emit(self, k, x):
        at, d = k.index[self.dim] - k.parameter(0), self.dim
        before, after = k.index[:d], k.index[d + 1 :]
        wraps = at < 0
        around = x.load([*before, at + x.sizes[d], *after], wraps)
        return k.b.select(wraps, around, x.load([*before, at, *after], at >= 0))

    def reference(self, x):
        return np.roll(x, self.shift, self.dim)

    def grad(self, g, like_x):
        n = max(like_x.shape[self.dim], 1)
        return Roll(self.dim, -self.shift % n)(g)


@method
def roll(input, shifts, dims=None):
    """Elements shifted around; without dims the flattened tensor is."""
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    dims = (dims,) if isinstance(dims, int) else tuple(dims or ())
    if not shifts:
        raise RuntimeError("roll: got no shifts; `shifts` required")
    if not dims and len(shifts) == 1:
        return roll(flatten(input), shifts, 0).reshape(tuple(input.shape))
    if len(shifts) != len(dims):
        raise RuntimeError(
            f"roll: shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}"
        )
    if input.numel() == 0:
        return input.clone()
    for s, d in zip(shifts, [canonical_dim("roll", d, input.ndim) for d in dims], strict=True):
        input = Roll(d, s % input.shape[d])(input)
    return input


@method
def rot90(input, k=1, dims=(0, 1)):
    """Turned by 90 degrees in a plane, k times."""
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (canonical_dim("rot90", d, input.ndim) for d in dims)
    if a == b:
        raise RuntimeError(
            f"rot90: expected rotation dims to be different, but got dim0 = {a} and dim1 = {b}"
        )
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip(input, (a, b))
    return transpose(flip(input, b if k == 1 else a), a, b)


@method
def repeat(input, *sizes, repeats=None):
    """The tensor side by side, `sizes` times along each dimension."""
    sizes = _sizes("repeat", sizes, repeats)
    pad = len(sizes) - input.ndim
    if pad < 0:
        raise RuntimeError(
            "repeat: Number of dimensions of repeat dims can not be smaller than number of dimensions "
            "of tensor"
        )
    if any(s < 0 for s in sizes):
        raise RuntimeError(
            f"Trying to create tensor with negative dimension {min(sizes)}: {list(sizes)}"
        )
    shape = (1,) * pad + tuple(input.shape)
    inner = tuple(n for s in shape for n in (1, s))
    outer = tuple(n for r, s in zip(sizes, shape, strict=True) for n in (r, s))
    x = reshape(input, inner).expand(outer)
    return _copied(reshape(x, tuple(r * s for r, s in zip(sizes, shape, strict=True))), input)


def _copied(x, source):
    """A row-major tensor with memory of its own."""
    x = x.contiguous()
    return x.clone() if x is source or x.base is not None else x


@method
def tile(input, *counts, dims=None):
    """`repeat`, with missing leading counts taken as 1."""
    dims = _sizes("tile", counts, dims)
    return repeat(input, (1,) * (input.ndim - len(dims)) + dims)


@method
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Every element repeated in place, by one count or one for each; a lone vector of counts gives
    the places.

    errors: RuntimeError for negative counts or another number of them
    """
    if repeats is None:
        if input.ndim != 1:
            raise RuntimeError(
                f"repeat_interleave: got {input.ndim} dims; it only accepts a 1D vector as repeat"
            )
        return input.new_tensor(_places(input, output_size), dtype=input.dtype)
    x = flatten(input) if dim is None else input
    d = 0 if dim is None else canonical_dim("repeat_interleave", dim, x.ndim)
    if x.ndim == 0:
        raise IndexError(f"repeat_interleave: got dim {d}; the tensor has no dimensions")
    if not isinstance(repeats, int) and repeats.ndim > 1:
        raise RuntimeError("repeat_interleave: repeats must be 0-dim or 1-dim tensor")
    if isinstance(repeats, int) or repeats.numel() == 1:
        return _repeated(x, index(repeats), d, output_size)
    if repeats.numel() != x.shape[d]:
        raise RuntimeError(
            "repeat_interleave: repeats must have the same size as input along dim, but got "
            f"repeats.size(0) = {repeats.numel()} and input.size({d}) = {x.shape[d]}"
        )
    return x.index_select(d, repeats.new_tensor(_places(repeats, output_size), dtype=int64))


def _places(repeats, output_size):
    """0, 1, 2, … each as often as its count says."""
    if repeats.dtype not in (int32, int64):
        raise NotImplementedError(
            f'"repeat_interleave" not implemented for {repeats.dtype}; expected int32 or int64 counts'
        )
    counts = repeats._array()
    if (counts < 0).any():
        raise RuntimeError("repeat_interleave: repeats can not be negative")
    _check_output_size(counts.sum(), output_size)
    return np.repeat(np.arange(counts.size), counts)


def _check_output_size(size, wanted):
    if wanted is not None and wanted != size:
        raise RuntimeError(f"repeat_interleave: got output_size {wanted}; expected {size}")


def _repeated(x, count, d, output_size):
    if count < 0:
        raise RuntimeError(f"repeat_interleave: Repeats must be non-negative, got {count}")
    shape = tuple(x.shape)
    _check_output_size(shape[d] * count, output_size)
    wide = x.unsqueeze(d + 1).expand((*shape[: d + 1], count, *shape[d + 1 :]))
    return _copied(reshape(wide, (*shape[:d], shape[d] * count, *shape[d + 1 :])), x)


def meshgrid(*tensors, indexing="ij"):
    """Coordinate grids of vectors."""
    ts = tensors[0] if len(tensors) == 1 and not hasattr(tensors[0], "layout") else tensors
    if indexing not in ("ij", "xy"):
        raise RuntimeError(
            f'meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}'
        )
    if len({t.dtype for t in ts}) > 1:
        raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    if not ts:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for t in ts:
        if t.ndim > 1:
            raise RuntimeError(
                f"meshgrid: Expected 0D or 1D tensor in the tensor list but got: {t.ndim}D"
            )
    ts = [reshape(t, (-1,)) for t in ts]
    swap = indexing == "xy" and len(ts) > 1
    if swap:
        ts[0], ts[1] = ts[1], ts[0]
    shape = tuple(t.shape[0] for t in ts)
    grids = [
        reshape(t, tuple(-1 if i == d else 1 for i in range(len(ts)))).expand(shape)
        for d, t in enumerate(ts)
    ]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


def cartesian_prod(*tensors):
    """All combinations of the elements of vectors, as rows."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([flatten(g) for g in meshgrid(*tensors)], 1)


def combinations(input, r=2, with_replacement=False):
    """All combinations of r elements of a vector, as rows."""
    if input.ndim != 1:
        raise RuntimeError(f"combinations: Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"combinations: Expect a non-negative number, but got {r}")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    if r == 0:
        return input.new_empty(0)
    at = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return stack([input[at[:, i].tolist()] for i in range(r)], 1)


def broadcast_tensors(*tensors):
    """All tensors expanded to their common shape."""
    shape = broadcast_shapes("broadcast_tensors", *(t.shape for t in tensors))
    return tuple(t.expand(shape) for t in tensors)


@method
def broadcast_to(input, *sizes, size=None):
    """The tensor expanded to a shape."""
    return input.expand(*sizes if size is None else size)


def block_diag(*tensors):
    """Matrices along the diagonal of one."""
    rows, at = [], 0
    for i, t in enumerate(tensors):
        if t.ndim > 2:
            raise RuntimeError(
                "block_diag: Input tensors must have 2 or fewer dimensions. Input "
                f"{i} has {t.ndim} dimensions"
            )
    mats = [t if t.ndim == 2 else reshape(t, (1, -1)) for t in tensors]
    width = sum(m.shape[1] for m in mats)
    for m in mats:
        rows.append(Embed(1, at, 1, width)(m))
        at += m.shape[1]
    return cat(rows, 0)


@method
def view_as_real(input):
    raise RuntimeError("view_as_real is only supported for complex tensors")
