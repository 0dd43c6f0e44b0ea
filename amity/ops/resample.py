"""Dimensions resampled: each result is a weighted sum of few places, the same for all rows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from amity.core.errors import ShapeError
from amity.ir.graph import Spec

from .record import ErrorSample, Op, Sample

F = "f"
Table = tuple[np.ndarray, np.ndarray]


def _sources(n: int, out: int, scale: float | None, is_aligned: bool, real: type) -> np.ndarray:
    """Where the centres of the results lie in the source."""
    at: np.ndarray = np.arange(out).astype(real)
    if is_aligned:
        return at * (real(n - 1) / real(out - 1) if out > 1 else real(0))
    return _step(n, out, scale, real) * (at + real(0.5)) - real(0.5)


def _step(n: int, out: int, scale: float | None, real: type):
    return real(1 / scale) if scale else real(n) / real(out)


def _nearest(n: int, out: int, scale: float | None, is_exact: bool) -> Table:
    at = np.arange(out)
    shift = 0.5 if is_exact else 0.0
    step = _step(n, out, scale, np.float32)
    found = np.floor(((at + shift) * step).astype(np.float32)).astype(np.int64)
    return np.minimum(found, n - 1)[:, None], np.ones((out, 1))


def _area(n: int, out: int) -> Table:
    """Windows that together cover the source, of nearly equal length."""
    low = np.arange(out) * n // out
    high = -(-np.arange(1, out + 1) * n // out)
    places = low[:, None] + np.arange(max(int((high - low).max(initial=1)), 1))
    valid = places < high[:, None]
    return np.where(valid, places, -1), np.where(valid, 1 / np.maximum(high - low, 1)[:, None], 0)


def _linear(n: int, out: int, scale: float | None, is_aligned: bool, real: type) -> Table:
    if n == out:
        return np.arange(n)[:, None], np.ones((n, 1))
    at = np.maximum(_sources(n, out, scale, is_aligned, real), real(0))
    low = np.minimum(np.floor(at).astype(np.int64), n - 1)
    part = np.clip(at - low.astype(real), 0, 1).astype(real)
    return np.stack([low, np.minimum(low + 1, n - 1)], 1), np.stack([1 - part, part], 1)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _bicubic(n: int, out: int, scale: float | None, is_aligned: bool, real: type) -> Table:
    at = _sources(n, out, scale, is_aligned, real)
    low = np.minimum(np.floor(at).astype(np.int64), n - 1)
    part = np.clip(at - low.astype(real), 0, 1).astype(np.float64)
    taps = np.arange(-1, 3)
    return np.clip(low[:, None] + taps, 0, n - 1), _cubic(part[:, None] - taps, -0.75)


def _antialiased(
    n: int, out: int, scale: float | None, is_aligned: bool, is_cubic: bool, real: type
) -> Table:
    """A filter as wide as the step: every source element counts when an image shrinks."""
    step = (
        (real(n - 1) / real(out - 1) if out > 1 else real(0))
        if is_aligned
        else _step(n, out, scale, real)
    )
    wide = max(step, real(1))
    support = (2 if is_cubic else 1) * wide
    centre = step * (np.arange(out).astype(real) + real(0.5))
    low = np.maximum((centre - support + real(0.5)).astype(np.int64), 0)
    high = np.minimum((centre + support + real(0.5)).astype(np.int64), n)
    places = low[:, None] + np.arange(max(int((high - low).max(initial=1)), 1))
    x = (places - centre[:, None].astype(np.float64) + 0.5) / float(wide)
    weight = _cubic(x, -0.5) if is_cubic else np.maximum(1 - np.abs(x), 0)
    valid = places < high[:, None]
    weight = np.where(valid, weight, 0)
    total = weight.sum(1, keepdims=True)
    return np.where(valid, places, -1), weight / np.where(total == 0, 1, total)


@lru_cache(1024)
def table(
    mode: str,
    n: int,
    out: int,
    scale: float | None,
    is_aligned: bool,
    is_smooth: bool,
    is_single: bool,
) -> Table:
    """For every result the places it is made of, -1 where there is none, and their weights."""
    real = np.float32 if is_single else np.float64
    if is_smooth:
        return _antialiased(n, out, scale, is_aligned, mode == "cubic", real)
    if mode == "cubic":
        return _bicubic(n, out, scale, is_aligned, real)
    if mode == "linear":
        return _linear(n, out, scale, is_aligned, real)
    return _area(n, out) if mode == "area" else _nearest(n, out, scale, mode == "nearest-exact")


@lru_cache(1024)
def transposed(*key) -> Table:
    """For every source place the results it went into, with their weights."""
    index, weight = table(*key)
    rows, columns = np.nonzero(index >= 0)
    to, w = index[rows, columns], weight[rows, columns]
    order = np.argsort(to, kind="stable")
    to, rows, w = to[order], rows[order], w[order]
    counts = np.bincount(to, minlength=key[1])
    slot = np.arange(len(to)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = np.full((key[1], max(int(counts.max(initial=0)), 1)), -1)
    weights = np.zeros(places.shape)
    places[to, slot], weights[to, slot] = rows, w
    return places, weights


_SIZES: dict[str, Any] = {
    "source": (4, 5),
    "size": (7, 3),
    "scales": (None, None),
    "is_aligned": False,
    "is_back": False,
}


class Resample(Op):
    """The last dimensions brought from sizes `source` to `size`, or the gradient of that."""

    name = "resample"
    carries = "keep"
    kind = "kernel"
    planner = "resample"
    mode: str  # nearest, nearest-exact, linear, cubic, area
    source: tuple[int, ...]
    size: tuple[int, ...]
    scales: tuple[float | None, ...]
    is_aligned: bool
    is_smooth: bool
    is_back: bool
    samples = (
        Sample(((1, 2, 4, 5), F), mode="linear", is_smooth=False, **_SIZES),
        Sample(((1, 2, 4, 5), F), mode="cubic", is_smooth=True, **_SIZES),
        Sample(((4, 5), F), mode="nearest", is_smooth=False, **_SIZES),
        Sample(((2, 7, 3), F), mode="area", is_smooth=False, **_SIZES | {"is_back": True}),
    )  # fmt: skip
    errors = (
        ErrorSample(
            ((1, 2, 4, 4), F),
            mode="area",
            is_smooth=False,
            **_SIZES,
            error=ShapeError,
            says="[4, 5]",
        ),
    )

    def infer(self, x: Spec) -> Spec:
        expected, result = (self.size, self.source) if self.is_back else (self.source, self.size)
        lead = x.ndim - len(self.size)
        if tuple(x.shape[lead:]) != expected:
            raise ShapeError(
                f"{self.name}: got sizes {list(x.shape[lead:])}; expected {list(expected)}"
            )
        return Spec((*x.shape[:lead], *result), x.dtype)

    def is_kept(self, axis: int) -> bool:
        """Whether a dimension stays as it is."""
        index, weight = self.table(axis, True)
        if index.shape != (self.source[axis], 1) or (weight != 1).any():
            return False
        return bool((index[:, 0] == np.arange(len(index))).all())

    def table(self, axis: int, is_single: bool) -> Table:
        sizes = (self.source[axis], self.size[axis], self.scales[axis])
        key = (self.mode, *sizes, self.is_aligned, self.is_smooth, is_single)
        return transposed(*key) if self.is_back else table(*key)

    def reference(self, x):
        dtype, lead = x.dtype, x.ndim - len(self.size)
        real = np.float64 if dtype == np.float64 else np.float32
        y, is_byte = x.astype(real), dtype == np.uint8
        axes = range(len(self.size))
        for axis in reversed(axes) if is_byte else axes:  # bytes are rounded after each
            index, weight = self.table(axis, real is not np.float64)
            weight = weight.astype(real)
            taken = np.take(y, np.maximum(index, 0), axis=lead + axis)
            shape = (*index.shape, *(1,) * (y.ndim - lead - axis - 1))
            y = np.where((index >= 0).reshape(shape), taken * weight.reshape(shape), 0).sum(
                lead + axis + 1
            )
            y = np.clip(np.floor(y + real(0.5)), 0, 255) if is_byte else y
        return y.astype(dtype)

    def grad(self, g):
        return Resample(**self.attributes() | {"is_back": not self.is_back})(g)
