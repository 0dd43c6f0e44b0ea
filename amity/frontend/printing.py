"""Tensors as text, in PyTorch's form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amity.core.dtype import bool_, float32, get_default_dtype, int64
from amity.engine import device as engine

from .batched import Batched
from .grad_fn import GradFn
from .tape import is_leaf
from .tensor import Tensor
from .trace import Symbol


class Options:
    """How tensors print; set by `set_printoptions`."""

    precision = 4
    threshold = 1000
    edgeitems = 3
    linewidth = 80
    sci_mode: bool | None = None


def set_printoptions(
    precision: int | None = None, threshold: int | None = None, edgeitems: int | None = None,
    linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None,
) -> None:  # fmt: skip
    """Set how tensors print: digits, size from which they are shortened, line width, notation."""
    profiles = {
        "default": (4, 1000, 3, 80),
        "short": (2, 1000, 2, 80),
        "full": (4, math.inf, 3, 80),
    }
    if profile is not None:
        if profile not in profiles:
            raise ValueError(
                f"set_printoptions: got profile {profile!r}; expected one of {', '.join(profiles)}"
            )
        Options.precision, Options.threshold, Options.edgeitems, Options.linewidth = profiles[
            profile
        ]
    for name, value in (
        ("precision", precision),
        ("threshold", threshold),
        ("edgeitems", edgeitems),
        ("linewidth", linewidth),
    ):
        if value is not None:
            setattr(Options, name, value)
    Options.sci_mode = sci_mode


class Format:
    """One width and notation for all elements of a tensor."""

    def __init__(self, values: np.ndarray) -> None:
        self.is_float = values.dtype.kind == "f"
        self.width, self.is_sci, self.is_int = 1, False, True
        if not self.is_float:
            self.width = max((len(str(v)) for v in values.tolist()), default=1)
            return
        finite = np.abs(values[np.isfinite(values) & (values != 0)]).astype(np.float64)
        if finite.size:
            high, low = float(finite.max()), float(finite.min())
            self.is_int = bool(np.all(finite == np.ceil(finite)))
            self.is_sci = high / low > 1000.0 or high > 1.0e8 or (not self.is_int and low < 1.0e-4)
        if Options.sci_mode is not None:
            self.is_sci = Options.sci_mode
        counted = values[np.isfinite(values) & (values != 0)]
        self.width = max((len(self.text(v)) for v in counted.tolist()), default=1)

    def text(self, v: Any) -> str:
        if not self.is_float:
            return str(v)
        if self.is_sci:
            return f"{v:.{Options.precision}e}"
        if self.is_int:
            return f"{v:.0f}." if math.isfinite(v) else f"{v:.0f}"
        return f"{v:.{Options.precision}f}"

    def padded(self, v: Any) -> str:
        return self.text(v).rjust(self.width)


def _shown(a: np.ndarray, limit: bool) -> np.ndarray:
    """The elements that will be printed, for the common format."""
    if not limit:
        return a.reshape(-1)
    n = Options.edgeitems
    for d in range(a.ndim):
        if a.shape[d] > 2 * n:
            a = np.concatenate([a.take(range(n), d), a.take(range(-n, 0), d)], d)
    return a.reshape(-1)


def _vector(a: np.ndarray, indent: int, form: Format, limit: bool) -> str:
    per_line = max(1, (Options.linewidth - indent) // (form.width + 2))
    n = Options.edgeitems
    if limit and len(a) > 2 * n:
        words = [
            *(form.padded(v) for v in a[:n].tolist()),
            " ...",
            *(form.padded(v) for v in a[-n:].tolist()),
        ]
    else:
        words = [form.padded(v) for v in a.tolist()]
    lines = [", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(a: np.ndarray, indent: int, form: Format, limit: bool) -> str:
    if a.ndim == 0:
        return form.padded(a.item())
    if a.ndim == 1:
        return _vector(a, indent, form, limit)
    n = Options.edgeitems
    if limit and len(a) > 2 * n:
        parts = [_nested(x, indent + 1, form, limit) for x in a[:n]] + ["..."]
        parts += [_nested(x, indent + 1, form, limit) for x in a[-n:]]
    else:
        parts = [_nested(x, indent + 1, form, limit) for x in a]
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def text_of(t: Tensor) -> str:
    """A tensor's `repr`."""
    prefix = "tensor("
    tail = []
    if type(t.layout) is Batched:
        lay = t.layout
        place = "0" if lay.is_mapped else "None"
        return f"BatchedTensor(lvl={lay.level}, bdim={place}, value={lay.value!r})"
    if type(t.layout) is Symbol:
        return f"tensor(..., traced, size={tuple(t.shape)}, dtype={t.dtype})"
    if t.storage is None:
        body, tail = "...", [f"device='{t.device}'", f"size={tuple(t.shape)}"]
    elif t.numel() == 0:
        body = "[]"
        if t.ndim != 1:
            tail.append(f"size={tuple(t.shape)}")
    else:
        array = engine.array_of(t.storage, t.layout)
        array = array.astype(np.float32) if t.dtype.kind == "f" and t.dtype.itemsize == 2 else array
        limit = t.numel() > Options.threshold
        body = _nested(array, len(prefix), Format(_shown(array, limit)), limit)
    plain = (get_default_dtype(), int64, bool_)
    if t.dtype not in plain or (
        t.storage is not None and t.numel() == 0 and t.dtype is not (get_default_dtype() or float32)
    ):
        tail.append(f"dtype={t.dtype}")
    if t.tape is not None:
        tail.append("requires_grad=True" if is_leaf(t.tape) else f"grad_fn={GradFn(t.tape)!r}")
    return _joined(prefix + body, tail, len(prefix)) + ")"


def _joined(out: str, tail: list[str], indent: int) -> str:
    """The suffixes after the data, on a line of their own where the last line is full."""
    last = len(out) - out.rfind("\n") + 1
    for word in tail:
        if last + len(word) + 2 > Options.linewidth:
            out += ",\n" + " " * indent + word
            last = indent + len(word)
        else:
            out += ", " + word
            last += len(word) + 2
    return out


Tensor.__repr__ = text_of
