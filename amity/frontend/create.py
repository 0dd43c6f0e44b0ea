"""New tensors: from numbers, sequences, NumPy and other libraries; filled, counted, like another."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amity.core import dtype as dt
from amity.core.device import CPU, Device
from amity.core.dtype import BY_NUMPY, DType, fitting, get_default_dtype
from amity.core.layout import Layout, layout
from amity.core.layout import like as layout_like
from amity.engine import device as engine
from amity.engine import program
from amity.ir.graph import Graph, Node, Spec

from .bind import Constant
from .tape import leaf
from .tensor import Tensor
from .trace import Symbol, traced
from .values import as_array, dtype_of_number

_fills: dict[tuple, Callable] = {}


def finish(t: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        t.requires_grad_()
    return t


def sizes(args: Sequence[Any]) -> tuple[int, ...]:
    """`f(2, 3)`, `f((2, 3))` and `f(amity.Size([2, 3]))` alike; negative sizes are errors."""
    if len(args) == 1 and not isinstance(args[0], int) and hasattr(args[0], "__iter__"):
        args = tuple(args[0])
    if not all(hasattr(a, "__index__") for a in args):
        raise TypeError(f"got sizes {list(args)}; expected integers")
    out = tuple(int(a.__index__()) for a in args)
    if any(n < 0 for n in out):
        raise RuntimeError(
            f"Trying to create tensor with negative dimension {min(out)}: {list(out)}"
        )
    return out


def allocate(lay: Layout) -> Tensor:
    """A tensor with memory that holds anything."""
    if lay.device.type == "meta":
        return Tensor._of(None, lay)
    machine = engine.machine()
    return machine.make(machine.allocate(max(lay.extent * lay.dtype.itemsize, 1)), lay)


def filled(lay: Layout, value: Any) -> Tensor:
    """A tensor with one value everywhere; 0 and 1 by a cached plan, others through NumPy."""
    if lay.device.type == "meta":
        return Tensor._of(None, lay)
    if value in (0, 1) and lay.is_dense:
        key = (lay, int(value))
        plan = _fills.get(key)
        if plan is None:
            rows = layout(lay.dtype, (lay.numel,) if lay.ndim else ())
            node = Node(Constant(int(value), False), (), Spec(tuple(rows.shape), lay.dtype))
            plan = program.build(Graph([], [node]), [], mode=program.TENSOR)
            if len(_fills) > 4096:
                _fills.clear()
            _fills[key] = plan
        t = plan()
        t.layout = lay
        return t
    t = allocate(lay)
    engine.array_of(t.storage, lay)[...] = fitting("full", value, lay.dtype)
    return t


def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:  # fmt: skip
    """A tensor with a copy of the data.

    dtype:  of the data; Python floats become the default dtype
    errors: TypeError or ValueError for what is not a rectangle of numbers

    >>> tensor([1, 2]).dtype
    amity.int64
    """
    if isinstance(data, Tensor):
        return finish(
            data.detach().clone().to(device or data.device, dtype or data.dtype), requires_grad
        )
    array, found = as_array(data)
    if dtype is not None and dtype.kind in "iu" and not isinstance(data, (np.ndarray, np.generic)):
        for extreme in (array.min(), array.max()) if array.size else ():
            fitting("tensor", extreme.item(), dtype)
    return finish(_copied(array, dtype or found, device), requires_grad)


def _copied(array: np.ndarray, dtype: DType, device: Any) -> Tensor:
    lay = layout(dtype, array.shape, None, CPU if device is None else Device(device))
    if lay.device.type == "meta":
        return Tensor._of(None, lay)
    with np.errstate(over="ignore", invalid="ignore"):
        return engine.machine().make(engine.storage_of(array.astype(dtype.numpy), lay.nbytes), lay)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor on the memory of a NumPy array.

    errors: TypeError for other objects and dtypes; ValueError for negative strides
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    found = BY_NUMPY.get(array.dtype)
    if found is None or not array.dtype.isnative:
        raise TypeError(
            f"can't convert np.ndarray of type {array.dtype}. The only supported types are: "
            "float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, and bool."
        )
    if any(s < 0 for s in array.strides):
        raise ValueError(
            "from_numpy: got negative strides; expected an array without them: copy it first, "
            "e.g. with array.copy()"
        )
    if any(s % array.itemsize for s in array.strides):
        raise ValueError(
            "from_numpy: got strides that are no multiple of the element size; expected whole "
            "elements"
        )
    lay = layout(found, array.shape, [s // array.itemsize for s in array.strides])
    machine = engine.machine()
    return machine.make(
        machine.external(array.__array_interface__["data"][0], array, array.nbytes), lay
    )


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-d tensor on the memory of a buffer object."""
    return finish(from_numpy(np.frombuffer(buffer, dtype.numpy, count, offset)), requires_grad)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """A tensor on the same memory where that is possible, else a copy."""
    if isinstance(data, Tensor):
        return data.to(device or data.device, dtype or data.dtype)
    if (
        isinstance(data, np.ndarray)
        and data.dtype in BY_NUMPY
        and all(s >= 0 for s in data.strides)
    ):
        return from_numpy(data).to(device or CPU, dtype or BY_NUMPY[data.dtype])
    return tensor(data, dtype=dtype, device=device)


def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor from an array, a buffer, DLPack or a sequence."""
    t = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    return finish(t, requires_grad)


def scalar_tensor(
    s: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A 0-d tensor of the default dtype."""
    return tensor(s, dtype=dtype or get_default_dtype(), device=device, requires_grad=requires_grad)


def _lay(size: Sequence[Any], dtype: DType | None, device: Any) -> Layout:
    return layout(
        dtype or get_default_dtype(), sizes(size), None, CPU if device is None else Device(device)
    )


def zeros(
    *size: Any,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Zeros of a shape.

    >>> zeros(2, 3).shape
    amity.Size([2, 3])
    """
    t = filled(_lay(size, dtype if out is None else out.dtype, device), 0)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def ones(
    *size: Any,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Ones of a shape."""
    t = filled(_lay(size, dtype if out is None else out.dtype, device), 1)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def empty(
    *size: Any,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """A tensor of a shape with whatever the memory held."""
    t = allocate(_lay(size, dtype, device))
    return out._receive(t) if out is not None else finish(t, requires_grad)


def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of given sizes and strides with whatever the memory held."""
    lay = layout(
        dtype or get_default_dtype(), size, stride, CPU if device is None else Device(device)
    )
    return finish(allocate(lay), requires_grad)


def full(
    size: Sequence[int],
    fill_value: Any,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """One value in a shape; the dtype is the value's unless given."""
    if isinstance(size, int):
        raise TypeError(f"full(): argument 'size' must be tuple of ints, not int: got {size}")
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    t = filled(_lay((size,), dtype or dtype_of_number(value), device), value)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def _like(t: Tensor, dtype: DType | None, device: Any) -> Layout:
    lay = t.layout
    if type(lay) is Symbol:
        return layout(dtype or lay.dtype, lay.shape)
    made = layout_like(lay, dtype)
    return made if device is None else layout(made.dtype, made.shape, made.strides, Device(device))


def _filled_like(
    t: Tensor, value: Any, dtype: DType | None, device: Any, requires_grad: bool
) -> Tensor:
    if type(t.layout) is Symbol:
        node = Node(
            Constant(value, False), (), Spec(tuple(t.layout.shape), dtype or t.layout.dtype)
        )
        return traced(node)
    return finish(filled(_like(t, dtype, device), value), requires_grad)


def zeros_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Zeros with another tensor's shape, dtype and order of dimensions."""
    return _filled_like(input, 0, dtype, device, requires_grad)


def ones_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Ones with another tensor's shape, dtype and order of dimensions."""
    return _filled_like(input, 1, dtype, device, requires_grad)


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """One value with another tensor's shape, dtype and order of dimensions."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    return _filled_like(input, value, dtype, device, requires_grad)


def empty_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Memory with another tensor's shape, dtype and order of dimensions, holding anything."""
    if type(input.layout) is Symbol:
        return zeros_like(input, dtype=dtype)
    return finish(allocate(_like(input, dtype, device)), requires_grad)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from start (0) to end, without end.

    errors: RuntimeError if step is 0 or has the wrong sign
    """
    if end is None:
        start, end = 0, start
    start, end, step = (x.item() if isinstance(x, Tensor) else x for x in (start, end, step))
    if step == 0:
        raise RuntimeError("arange: step must be nonzero")
    if not all(math.isfinite(x) for x in (start, end)):
        raise RuntimeError(f"arange: unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("arange: upper bound and lower bound inconsistent with step sign")
    if dtype is None:
        dtype = (
            dt.int64 if all(isinstance(x, int) for x in (start, end, step)) else get_default_dtype()
        )
    n = max(0, math.ceil((end - start) / step))
    array = start + np.arange(n) * step
    t = _copied(array, dtype, device)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers evenly spaced from start to end, both included."""
    if steps < 0:
        raise RuntimeError("linspace: number of steps must be non-negative")
    a, b = (float(x) for x in (start, end))
    t = _copied(np.linspace(a, b, steps), dtype or get_default_dtype(), device)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`base` to the power of numbers evenly spaced from start to end."""
    t = _copied(
        np.power(base, np.linspace(float(start), float(end), steps)),
        dtype or get_default_dtype(),
        device,
    )
    return finish(t, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the diagonal of a matrix of zeros."""
    if n < 0 or (m is not None and m < 0):
        raise RuntimeError(f"eye: n and m must be greater or equal to 0, got {n if n < 0 else m}")
    t = _copied(np.eye(n, m), dtype or get_default_dtype(), device)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def from_dlpack(source: Any) -> Tensor:
    """A tensor on the memory of another library's array."""
    return from_numpy(np.from_dlpack(source)) if not isinstance(source, Tensor) else source.detach()


def legacy_tensor(cls: type, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor(2, 3)` and `Tensor([1, 2])`, as in PyTorch: float32 whatever the data."""
    if len(args) == 1 and not isinstance(args[0], int):
        if isinstance(args[0], Tensor):
            return args[0].detach()
        return tensor(args[0], dtype=get_default_dtype())
    return empty(*args) if args else empty(0)


def address_of(storage: Any) -> int:
    return ctypes.c_void_p(storage.data).value or 0


__all__ = [
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "eye",
    "from_numpy",
    "full",
    "leaf",
    "linspace",
    "ones",
    "tensor",
    "zeros",
]
