"""Windows: weights that fall off towards both ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from amity.core.dtype import DType, get_default_dtype

from . import create
from .tensor import Tensor


def _made(
    name: str, shape: Any, length: int, periodic: bool, dtype: DType | None, requires_grad: bool
) -> Tensor:
    """A window as `shape(position, last)`; a periodic one is a longer one without its last element."""
    dtype = dtype or get_default_dtype()
    if dtype.kind != "f":
        raise RuntimeError(f"{name}: got {dtype}; window functions expect floating point dtypes")
    if length < 0:
        raise RuntimeError(f"{name}: got {length}; requires non-negative window_length")
    if length < 2:
        return create.ones(length, dtype=dtype, requires_grad=requires_grad)
    last = length if periodic else length - 1
    return create.tensor(shape(np.arange(length), last), dtype=dtype, requires_grad=requires_grad)


def _cosine(n: np.ndarray, last: int) -> np.ndarray:
    return np.cos(2 * np.pi * n / last)


def hann_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None,
                requires_grad: bool = False, **_: Any) -> Tensor:  # fmt: skip
    """A raised cosine that ends at 0."""
    return _made(
        "hann_window",
        lambda n, m: 0.5 - 0.5 * _cosine(n, m),
        window_length,
        periodic,
        dtype,
        requires_grad,
    )


def hamming_window(window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *,
                   dtype: DType | None = None, requires_grad: bool = False, **_: Any) -> Tensor:  # fmt: skip
    """A raised cosine that ends at alpha - beta."""
    return _made(
        "hamming_window",
        lambda n, m: alpha - beta * _cosine(n, m),
        window_length,
        periodic,
        dtype,
        requires_grad,
    )


def blackman_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None,
                    requires_grad: bool = False, **_: Any) -> Tensor:  # fmt: skip
    """Two cosines that end at 0, flatter than Hann's."""
    return _made("blackman_window", lambda n, m: 0.42 - 0.5 * _cosine(n, m) + 0.08 * _cosine(2 * n, m),
                 window_length, periodic, dtype, requires_grad)  # fmt: skip


def bartlett_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None,
                    requires_grad: bool = False, **_: Any) -> Tensor:  # fmt: skip
    """A triangle that ends at 0."""
    return _made(
        "bartlett_window",
        lambda n, m: 1 - np.abs(2 * n / m - 1),
        window_length,
        periodic,
        dtype,
        requires_grad,
    )


def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: DType | None = None,
                  requires_grad: bool = False, **_: Any) -> Tensor:  # fmt: skip
    """Kaiser's window: most energy in the main lobe, the more so the larger beta."""
    return _made("kaiser_window", lambda n, m: np.i0(beta * np.sqrt(1 - (2 * n / m - 1) ** 2)) / np.i0(beta),
                 window_length, periodic, dtype, requires_grad)  # fmt: skip
