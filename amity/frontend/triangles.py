"""The positions of triangles of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from amity.core.dtype import DType, int64

from . import create
from .tensor import Tensor


def _positions(
    find: Callable, row: int, col: int, offset: int, dtype: DType, device: Any
) -> Tensor:
    for name, n in (("row", row), ("col", col)):
        if n < 0:
            raise RuntimeError(f"{name} must be non-negative, got{n}")
    if dtype.kind not in "iu" or dtype.itemsize < 4:
        raise NotImplementedError(
            f'"tri_indices" not implemented for {dtype}: expected int32 or int64'
        )
    return create.tensor(np.stack(find(row, offset, col)), dtype=dtype, device=device)


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType = int64, device: Any = None
) -> Tensor:
    """Rows and columns of the lower triangle of a matrix, row by row.

    shape:  [2, elements of the triangle]
    errors: RuntimeError for negative sizes

    >>> import amity
    >>> amity.tril_indices(2, 2).tolist()
    [[0, 1, 1], [0, 0, 1]]
    """
    return _positions(np.tril_indices, row, col, offset, dtype, device)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType = int64, device: Any = None
) -> Tensor:
    """Rows and columns of the upper triangle of a matrix, row by row."""
    return _positions(np.triu_indices, row, col, offset, dtype, device)
