"""Rows of a table by number."""

from __future__ import annotations

from amity.core.dtype import int32, int64
from amity.core.errors import ShapeError, fail

from .indexing import Index
from .position import Position
from .record import ErrorSample, Op, Sample
from .select import WHERE


class _PaddingGrad(Op):
    """Rows as they are; the gradient of the padding row is 0."""

    name = "embedding_padding"
    kind = "view"
    carries = "apart"
    index: int
    samples = (
        Sample(((3, 2), "f"), index=0, rough="a part of the gradient is left out"),
        Sample(((3, 0), "f"), index=1),
    )
    errors = (ErrorSample(((3,), "f"), index=0, error=ShapeError, says="a table of rows"),)

    def infer(self, x):
        if x.ndim != 2:
            raise fail(ShapeError, "embedding", f"{x.ndim} dimensions", "a table of rows")
        return x

    def view(self, x):
        return x, 0

    def reference(self, x):
        return x

    def grad(self, g):
        rows = g.new_tensor(range(g.shape[0])).unsqueeze(1)
        return WHERE(rows == self.index, 0.0, g)

    def apart(self, x):
        return WHERE(Position(0)(x) == self.index, x.detach(), x)


def embedding(
    input,
    weight,
    padding_idx=None,
    max_norm=None,
    norm_type=2.0,
    scale_grad_by_freq=False,
    sparse=False,
):
    """The rows of `weight` that `input` names.

    shape:  input [*], weight [V, D] -> [*, D]
    errors: IndexError for rows that the table does not have; RuntimeError for other than int32 and int64
    """
    return Index((0,))(
        table_of(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq), input
    )


def table_of(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq):
    """The table that `input`, which is checked, reads as `embedding` does."""
    if input.dtype not in (int32, int64):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar "
            f"types: Long, Int; but got {input.dtype} instead (while checking arguments for "
            "embedding)"
        )
    if weight.ndim != 2:
        raise RuntimeError(f"embedding: 'weight' must be 2-D, but got {weight.ndim}-D")
    rows = weight.shape[0]
    bad = input._first_outside(0, rows)
    if bad is not None:
        raise IndexError(f"index out of range in self: got row {bad}; expected one of {rows} rows")
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise ValueError(
                f"Padding_idx must be within num_embeddings: got {padding_idx} for {rows} rows"
            )
        weight = _PaddingGrad(padding_idx % rows)(weight)
    if max_norm is not None:
        _renormalize(weight, input, max_norm, norm_type)
    if scale_grad_by_freq:
        weight = _scaled_by_count(weight, input)
    return weight


def _renormalize(weight, input, max_norm, norm_type) -> None:
    """Rows that are read are scaled down to `max_norm`, in place, as PyTorch does."""
    used = input.detach().reshape(-1).unique()
    table = weight.detach()
    rows = Index((0,))(table, used)
    norms = rows.norm(norm_type, 1, True)
    table.index_put_((used,), WHERE(norms > max_norm, rows * (max_norm / (norms + 1e-7)), rows))


def _scaled_by_count(weight, input):
    """The same values, whose gradient is divided by how often each row is read."""
    counts = (
        input.detach().reshape(-1).bincount(minlength=weight.shape[0]).clamp(min=1).to(weight.dtype)
    )
    return weight / counts.unsqueeze(1) + (weight - weight / counts.unsqueeze(1)).detach()
