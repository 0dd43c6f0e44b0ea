"""Padding: values put around a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from amity.core.errors import ShapeError
from amity.ir.graph import Spec

from .movement import Embed, Slice, narrow
from .rearrange import Flip
from .record import METHODS, ErrorSample, Op, Sample

F = "f"


class Pad(Op):
    """Values put around a tensor; `pad` holds (before, after) of every dimension."""

    name = "pad"
    kind = "indexed"
    pad: tuple[tuple[int, int], ...]
    mode: str
    value: float
    samples = (
        Sample(((3, 4), F), pad=((1, 0), (2, 1)), mode="constant", value=0.5),
        Sample(((1, 4, 5), F), pad=((0, 0), (1, 2), (3, 1)), mode="reflect", value=0.0),
        Sample(((4, 5), F), pad=((1, 2), (3, 1)), mode="replicate", value=0.0),
        Sample(((4, 5), F), pad=((1, 2), (3, 1)), mode="circular", value=0.0),
    )  # fmt: skip
    errors = (
        ErrorSample(
            ((1, 3), F),
            pad=((0, 0), (3, 0)),
            mode="reflect",
            value=0.0,
            error=RuntimeError,
            says="less than",
        ),
    )

    @property
    def structure(self):
        return ("pad", self.mode, self.value)

    def parameters(self, x: Spec) -> list[int]:
        return [before for before, _ in self.pad]

    def infer(self, x: Spec) -> Spec:
        shape = tuple(n + a + b for n, (a, b) in zip(x.shape, self.pad, strict=True))
        for n, (a, b) in zip(x.shape, self.pad, strict=True):
            if self.mode == "reflect" and (a >= n or b >= n) and (a or b):
                raise ShapeError(
                    "pad: Argument #4: Padding size should be less than the corresponding "
                    f"input dimension, but got: padding ({a}, {b}) at a dimension of size {n}"
                )
            if self.mode == "circular" and (a > n or b > n):
                raise ShapeError(
                    f"pad: Padding value causes wrapping around more than once: got ({a}, {b}) "
                    f"at a dimension of size {n}"
                )
        if any(s < 0 for s in shape):
            raise ShapeError(
                f"pad: the input size {list(x.shape)}, plus negative padding, resulted in a "
                f"negative output size {list(shape)}"
            )
        return Spec(shape, x.dtype)

    def emit(self, k, x):
        b, position, valid = k.b, [], None
        for d, n in enumerate(x.sizes):
            i = k.index[d] - k.parameter(d)
            if self.mode == "constant":
                inside = (i >= 0) & (i < n)
                valid = inside if valid is None else valid & inside
            elif self.mode == "reflect":
                i = b.select(i < 0, -i, i)
                i = b.select(i >= n, (n - 1) * 2 - i, i)
            elif self.mode == "replicate":
                i = b.max(b.min(i, n - 1), b.const(0, "i64"))
            else:
                i = b.select(i < 0, i + n, b.select(i >= n, i - n, i))
            position.append(i)
        v = x.load(position, valid)
        return (
            v
            if valid is None or self.value == 0
            else b.select(valid, v, _fill(self.value, v.dtype))
        )

    def reference(self, x):
        cut = tuple(
            slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, self.pad, strict=True)
        )
        x, pad = x[cut], [(max(a, 0), max(b, 0)) for a, b in self.pad]
        if self.mode == "constant":
            return np.pad(x, pad, constant_values=np.asarray(self.value).astype(x.dtype))
        modes: Any = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        return np.pad(x, pad, modes[self.mode])

    def grad(self, g, like_x):
        for d, (n, (a, b)) in enumerate(zip(like_x.shape, self.pad, strict=True)):
            g = _padded_back(g, d, n, a, b, self.mode) if a or b else g
        return g


def _fill(value: float, dtype: str):
    return value if dtype[0] == "f" else bool(value) if dtype == "bool" else int(value)


def _padded_back(g, d: int, n: int, before: int, after: int, mode: str):
    """The gradient of padding one dimension of size n: what was copied out is added up again."""
    low, high = max(before, 0), max(after, 0)
    first, size = max(-before, 0), n + min(before, 0) + min(after, 0)  # what is left of a crop
    middle = Slice(d, low, size, 1)(g)
    if mode != "constant":
        left, right = Slice(d, 0, low, 1)(g), Slice(d, low + size, high, 1)(g)
        for part, is_left in ((left, True), (right, False)):
            if part.shape[d]:
                part, at = _source(part, d, size, mode, is_left)
                middle = middle + Embed(d, at, 1, size)(part)
    return middle if size == n else Embed(d, first, 1, n)(middle)


def _source(part, d: int, size: int, mode: str, is_left: bool):
    """The gradient of one border as it meets the elements it was copied from, and the first."""
    count = part.shape[d]
    if mode == "replicate":
        return part.sum(d, True), 0 if is_left else size - 1
    if mode == "reflect":
        return Flip((d,))(part), 1 if is_left else size - 1 - count
    return part, size - count if is_left else 0


def pad(input, pad, mode="constant", value=None):
    """Padding around the last dimensions: (before, after) of the last, then of the one before it, …

    errors: RuntimeError for padding that the mode cannot give
    """
    pad = tuple(int(p) for p in pad)
    if len(pad) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2: got {len(pad)} values")
    pairs = len(pad) // 2
    if pairs > input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but "
            f"got padding length {len(pad)} and input of dimension {input.ndim}"
        )
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if mode != "constant":
        if value not in (None, 0):
            raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
        if input.ndim not in (pairs + 1, pairs + 2):
            raise NotImplementedError(
                "Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now: "
                f"got {len(pad)} values for {input.ndim} dimensions"
            )
    sides = [(0, 0)] * (input.ndim - pairs) + [
        (pad[2 * i], pad[2 * i + 1]) for i in reversed(range(pairs))
    ]
    if mode == "constant" and not value and all(a <= 0 and b <= 0 for a, b in sides):
        for d, (a, b) in enumerate(sides):
            input = narrow(input, d, -a, input.shape[d] + a + b) if a or b else input
        return input.clone()
    return Pad(tuple(sides), mode, float(value or 0))(input)


METHODS["_pad_zeros"] = pad
