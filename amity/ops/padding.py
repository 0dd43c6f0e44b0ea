"""Padding: values put around a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from amity.core.errors import ShapeError, fail
from amity.ir.graph import Spec

from .movement import Embed, Slice, narrow
from .record import METHODS, ErrorSample, Op, Sample

F = "f"


class Pad(Op):
    """Values put around a tensor; `pad` holds (before, after) of every dimension."""

    name = "pad"
    kind = "kernel"
    planner = "pad"
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

    def infer(self, x: Spec) -> Spec:
        shape = tuple(n + a + b for n, (a, b) in zip(x.shape, self.pad, strict=True))
        for n, (a, b) in zip(x.shape, self.pad, strict=True):
            if self.mode == "reflect" and (a >= n or b >= n) and (a or b):
                raise ShapeError(
                    "pad: Argument #4: Padding size should be less than the corresponding "
                    f"input dimension, but got: padding ({a}, {b}) at a dimension of size {n}"
                )
            if self.mode != "constant" and n + min(a, 0) + min(b, 0) <= 0 < max(a, b):
                raise ShapeError(
                    f"pad: got padding ({a}, {b}) at a dimension of size {n}; expected elements "
                    "to pad with"
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
        for n, (a, b) in zip(x.shape, self.pad, strict=True):
            if n + min(a, 0) + min(b, 0) < 0:
                raise ShapeError(
                    f"pad: got padding ({a}, {b}) at a dimension of size {n}; expected to cut off no "
                    "more than there is (narrow(): length must be non-negative)"
                )
        return Spec(shape, x.dtype)

    def fill(self, dtype: str) -> float | int | bool:
        """The value around, as a constant of a kernel's dtype."""
        return (
            self.value
            if dtype[0] == "f"
            else bool(self.value)
            if dtype == "bool"
            else int(self.value)
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
        if self.mode != "constant":
            return PadBack(self.pad, self.mode, tuple(like_x.shape))(g)
        for d, (n, (a, b)) in enumerate(zip(like_x.shape, self.pad, strict=True)):
            size = n + min(a, 0) + min(b, 0)  # what is left of a crop
            g = Slice(d, max(a, 0), size, 1)(g) if a or b else g
            g = Embed(d, max(-a, 0), 1, n)(g) if size < n else g
        return g


class PadBack(Op):
    """The gradient of padding: what was copied out is added up again."""

    name = "pad_back"
    kind = "kernel"
    planner = "pad_back"
    pad: tuple[tuple[int, int], ...]
    mode: str
    shape: tuple[int, ...]
    samples = (
        Sample(((5, 9), F), pad=((0, 1), (3, 2)), mode="reflect", shape=(4, 4)),
        Sample(((6,), F), pad=((2, 1),), mode="circular", shape=(3,)),
        Sample(((2, 5), F), pad=((0, 0), (1, 2)), mode="replicate", shape=(2, 2)),
    )
    errors = (
        ErrorSample(
            ((5,), F), pad=((2, 2),), mode="reflect", shape=(3,), error=ShapeError, says="(7,)"
        ),
    )

    def infer(self, g: Spec) -> Spec:
        padded = Pad(self.pad, self.mode, 0.0).infer(Spec(self.shape, g.dtype)).shape
        if tuple(g.shape) != tuple(padded):
            raise fail(
                ShapeError, self.name, f"a gradient of shape {tuple(g.shape)}", f"{tuple(padded)}"
            )
        return Spec(self.shape, g.dtype)

    def reference(self, g):
        for d, (n, sides) in enumerate(zip(self.shape, self.pad, strict=True)):
            source = Pad((sides,), self.mode, 0.0).reference(np.arange(n))
            out = np.zeros((*g.shape[:d], n, *g.shape[d + 1 :]), g.dtype)
            np.add.at(np.moveaxis(out, d, 0), source, np.moveaxis(g, d, 0))
            g = out
        return g

    def grad(self, g):
        return Pad(self.pad, self.mode, 0.0)(g)


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
            raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
        if not pairs or input.ndim not in (pairs + 1, pairs + 2):
            raise NotImplementedError(
                "Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now: "
                f"got {len(pad)} values for {input.ndim} dimensions"
            )
    sides = [(0, 0)] * (input.ndim - pairs) + [
        (pad[2 * i], pad[2 * i + 1]) for i in reversed(range(pairs))
    ]
    is_crop = mode == "constant" and all(a <= 0 and b <= 0 for a, b in sides)
    if is_crop and all(n + a + b >= 0 for n, (a, b) in zip(input.shape, sides, strict=True)):
        return _cropped(input, sides).clone()
    if mode == "constant" or mode == "circular":
        return Pad(tuple(sides), mode, 0.0 if value is None else float(value))(input)
    for n, (a, b) in zip(input.shape, sides, strict=True):
        if n + a + b <= 0 and (a or b):
            raise ShapeError(
                f"pad: got padding ({a}, {b}) at a dimension of size {n}; expected some elements left: "
                "the input is too small"
            )
    around = tuple((max(a, 0), max(b, 0)) for a, b in sides)  # what is cut off is copied from too
    y = Pad(around, mode, 0.0)(input)
    return _cropped(y, [(min(a, 0), min(b, 0)) for a, b in sides])


def _cropped(x, sides):
    """A view without as many elements on either side as a negative number says."""
    for d, (a, b) in enumerate(sides):
        x = narrow(x, d, -a, x.shape[d] + a + b) if a or b else x
    return x


METHODS["_pad_zeros"] = pad
