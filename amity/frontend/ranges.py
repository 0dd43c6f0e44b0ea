"""Evenly spaced numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amity.core.device import placed
from amity.core.dtype import DType, fitting, get_default_dtype, int64
from amity.core.shape import whole

from .create import finish, from_numpy, number_of, out_dtype, plan_layout
from .tensor import Tensor


def _made(
    op: str, values: np.ndarray, dtype: DType, out: Tensor | None, device: Any, requires_grad: bool
) -> Tensor:
    """The numbers as a tensor of a dtype.

    errors: RuntimeError if an end does not fit into an integer dtype
    """
    if dtype.kind in "iu" and values.dtype.kind == "f" and values.size:
        fitting(op, float(values[0]), dtype)
        fitting(op, float(values[-1]), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        t = from_numpy(values.astype(dtype.numpy))
    if placed(device) is not t.device:
        t = t.to(placed(device))
    return out._receive(t) if out is not None else finish(t, requires_grad)


def arange(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from start (0) to end, without end.

    dtype:  int64 if all three are integers, else the default dtype
    errors: RuntimeError if step is 0 or has the wrong sign

    >>> arange(1, 4).tolist()
    [1, 2, 3]
    """
    if end is None:
        start, end = 0, start
    given = ("start", start), ("end", end), ("step", step)
    start, end, step = (number_of("arange", n, x) for n, x in given)
    dtype = out_dtype("arange", out, dtype)
    if dtype is None:
        whole = all(isinstance(x, int) for x in (start, end, step))
        dtype = int64 if whole else get_default_dtype()
    plan_layout("arange", (0,), dtype, device, layout)
    _check_range("arange", start, end, step, dtype)
    if dtype is int64:
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise ValueError("arange: step must be nonzero")
        count = len(range_of(start, end, step))
    else:
        count = math.ceil((end - start) / step)
    if dtype.kind in "iu":  # what the start and the step are cut to
        start, step = int(start), int(step)
    return _made("arange", start + np.arange(count) * step, dtype, out, device, requires_grad)


range_of = range  # this module has a function of that name


def _check_range(op: str, start: Any, end: Any, step: Any, dtype: DType) -> None:
    if dtype.kind == "b":
        raise NotImplementedError(f"\"{op}_cpu\" not implemented for 'Bool'")
    if step == 0 or step != step:
        raise RuntimeError(f"{op}: got step={step}; step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"{op}: unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError(
            f"{op}: got {start} to {end} by {step}; upper bound and lower bound inconsistent with "
            "step sign"
        )


def range(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from start to end, end included: prefer `arange`."""
    if end is None:
        raise TypeError('range() missing 1 required positional arguments: "end"')
    given = ("start", start), ("end", end), ("step", step)
    start, end, step = (number_of("range", n, x) for n, x in given)
    dtype = out_dtype("range", out, dtype) or get_default_dtype()
    plan_layout("range", (0,), dtype, device, layout)
    _check_range("range", start, end, step, dtype)
    values = start + np.arange(math.floor((end - start) / step) + 1) * step
    return _made("range", values, dtype, out, device, requires_grad)


def _ends(op: str, start: Any, end: Any, steps: Any, dtype: DType) -> tuple[Any, Any, int]:
    for t in (start, end):
        if getattr(t, "ndim", 0):
            raise RuntimeError(
                f"{op} only supports 0-dimensional start and end tensors, but got start or end "
                f"with {t.ndim} dimension(s)."
            )
    steps = whole(op, "steps", steps)
    if steps < 0:
        raise RuntimeError(f"{op}: got steps={steps}; number of steps must be non-negative")
    if dtype.kind == "b":
        raise NotImplementedError(f"\"{op}_cpu\" not implemented for 'Bool'")
    start, end = number_of(op, "start", start), number_of(op, "end", end)
    if dtype.kind != "f":
        start, end = fitting(op, start, dtype), fitting(op, end, dtype)
    return start, end, steps


def _spaced(start: float, end: float, count: int) -> np.ndarray:
    """Counted from both ends, so that each is exact."""
    if count < 2:
        return np.full(count, start)
    step = (end - start) / (count - 1)
    at = np.arange(count)
    return np.where(at < count // 2, start + step * at, end - step * (count - 1 - at))


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers evenly spaced from start to end, both included.

    errors: RuntimeError for a negative count or ends that are no single numbers
    """
    dtype = out_dtype("linspace", out, dtype) or get_default_dtype()
    plan_layout("linspace", (0,), dtype, device, layout)
    a, b, count = _ends("linspace", start, end, steps, dtype)
    values = _spaced(float(a), float(b), count)
    if dtype.kind != "f":
        values = np.trunc(values)
    return _made("linspace", values, dtype, out, device, requires_grad)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """`base` to the power of numbers evenly spaced from start to end."""
    dtype = out_dtype("logspace", out, dtype) or get_default_dtype()
    plan_layout("logspace", (0,), dtype, device, layout)
    a, b, count = _ends("logspace", start, end, steps, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.power(float(base), _spaced(float(a), float(b), count))
    return _made("logspace", values, dtype, out, device, requires_grad)
