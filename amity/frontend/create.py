"""New tensors: from numbers, sequences, NumPy and other libraries; filled, counted, like another."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import copysign
from typing import Any

import numpy as np

from amity.core.device import Device, placed
from amity.core.dtype import BY_NUMPY, DType, as_dtype, fitting, get_default_dtype
from amity.core.layout import Layout, format_strides, preserve_format, strided
from amity.core.layout import layout as layout_of  # many arguments here are called layout
from amity.core.layout import like as layout_like
from amity.core.shape import Size, contiguous_strides, whole
from amity.engine import device as engine
from amity.engine import program
from amity.ir.graph import Graph, Node, Spec

from .batched import is_batched, through
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


def sizes(args: Sequence[Any], op: str = "size") -> tuple[int, ...]:
    """`f(2, 3)`, `f((2, 3))` and `f(amity.Size([2, 3]))` alike; negative sizes are errors."""
    if len(args) == 1 and not isinstance(args[0], int) and isinstance(args[0], Iterable):
        args = tuple(args[0])
    for a in args:
        if isinstance(a, bool) or not hasattr(a, "__index__"):
            raise TypeError(
                f"{op}(): argument 'size' must be tuple of ints, not {type(a).__name__}: got {list(args)}"
            )
    out = tuple(int(a.__index__()) for a in args)
    if any(n < 0 for n in out):
        raise RuntimeError(
            f"{op}: Trying to create tensor with negative dimension {min(out)}: {list(out)}"
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
    is_bit = value in (0, 1) and (value or type(value) is not float or copysign(1, value) > 0)
    number = value if is_bit else fitting("full", value, lay.dtype)
    if lay.device.type == "meta":
        return Tensor._of(None, lay)
    if is_bit and lay.is_dense:
        key = (lay, int(value))
        plan = _fills.get(key)
        if plan is None:
            rows = layout_of(lay.dtype, (lay.numel,) if lay.ndim else ())
            node = Node(Constant(int(value), False), (), Spec(tuple(rows.shape), lay.dtype))
            name = "ones" if value else "zeros"
            plan = program.build(Graph([], [node]), [], mode=program.TENSOR, name=name)
            if len(_fills) > 4096:
                _fills.clear()
            _fills[key] = plan
        t = plan()
        t.layout = lay
        return t
    t = allocate(lay)
    engine.array_of(t.storage, lay)[...] = number
    return t


def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:  # fmt: skip
    """A tensor with a copy of the data.

    dtype:  of the data; Python floats become the default dtype
    errors: TypeError or ValueError for what is not a rectangle of numbers

    >>> tensor([1, 2]).dtype
    amity.int64
    """
    dtype = as_dtype("tensor", dtype)
    if isinstance(data, Tensor):
        return finish(
            data.detach().clone().to(device or data.device, dtype or data.dtype), requires_grad
        )
    array, found = as_array(data, dtype)
    if dtype is not None and dtype.kind in "iu" and not isinstance(data, (np.ndarray, np.generic)):
        for extreme in (array.min(), array.max()) if array.size else ():
            fitting("tensor", extreme.item(), dtype)
    return finish(_copied(array, dtype or found, device), requires_grad)


def _copied(array: np.ndarray, dtype: DType, device: Any) -> Tensor:
    lay = layout_of(dtype, array.shape, None, placed(device))
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
    if array.dtype.byteorder not in "=|" and not array.dtype.isnative:
        raise ValueError(
            f"from_numpy: got dtype {array.dtype.str!r}: given numpy array has byte order different "
            "from the native byte order; expected native bytes"
        )
    found = BY_NUMPY.get(array.dtype)
    if found is None:
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
    if not array.flags.writeable:
        warnings.warn(
            "from_numpy: the given NumPy array is not writable, but tensors are: writing to the "
            "tensor would change it all the same; copy it first, e.g. with array.copy()",
            stacklevel=2,
        )
    return over_array(array)


def over_array(array: np.ndarray) -> Tensor:
    """A tensor on the memory of an array whose dtype and strides fit."""
    strides = [s // array.itemsize for s in array.strides]
    machine, lay = engine.machine(), layout_of(BY_NUMPY[array.dtype], array.shape, strides)
    address = array.__array_interface__["data"][0]
    return machine.make(machine.external(address, array, array.nbytes), lay)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """A tensor on the same memory where that is possible, else a copy."""
    dtype = as_dtype("as_tensor", dtype)
    if isinstance(data, Tensor):
        return data.to(device or data.device, dtype or data.dtype)
    if (
        isinstance(data, np.ndarray)
        and data.dtype in BY_NUMPY
        and min(data.strides, default=0) >= 0
    ):
        return from_numpy(data).to(placed(device), dtype or BY_NUMPY[data.dtype])
    return tensor(data, dtype=dtype, device=device)


def scalar_tensor(
    s: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A 0-d tensor of the default dtype."""
    return tensor(s, dtype=dtype or get_default_dtype(), device=device, requires_grad=requires_grad)


def plan_layout(
    op: str,
    size: Sequence[Any],
    dtype: Any,
    device: Any,
    kept: Any = None,
    memory_format: Any = None,
) -> Layout:
    """The layout that the arguments of a creating function ask for; `kept` is its `layout`."""
    if kept is memory_format is device is None and (dtype is None or type(dtype) is DType):
        for n in size:
            if type(n) is not int or n < 0:
                break
        else:
            return _usual_layout(size, dtype or get_default_dtype(), placed(None))
    if kept is not None and kept is not strided:
        raise RuntimeError(f"{op}: got layout={kept!r}; expected amity.strided")
    shape = sizes(size, op)
    strides = None if memory_format is None else format_strides(op, shape, memory_format)
    return layout_of(as_dtype(op, dtype) or get_default_dtype(), shape, strides, placed(device))


@lru_cache(4096)
def _usual_layout(shape: tuple[int, ...], dtype: DType, device: Device) -> Layout:
    return layout_of(dtype, shape, None, device)


def out_dtype(op: str, out: Tensor | None, dtype: DType | None) -> DType | None:
    """The dtype of a result that is written into `out`."""
    if out is None:
        return as_dtype(op, dtype)
    if dtype is not None and as_dtype(op, dtype) is not out.dtype:
        raise RuntimeError(
            f"{op}: dtype {dtype} does not match dtype of out parameter ({out.dtype})"
        )
    return out.dtype


def sized(name: str, make: Callable[[Layout], Tensor], doc: str) -> Callable[..., Tensor]:
    """A function of sizes."""

    def function(
        *sizes: Any,
        size: Sequence[int] | None = None,
        out: Tensor | None = None,
        dtype: DType | None = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: bool = False,
        requires_grad: bool = False,
        memory_format: Any = None,
    ) -> Tensor:
        dtype = dtype if out is None else out_dtype(name, out, dtype)
        shape = sizes if size is None else (size,)
        t = make(plan_layout(name, shape, dtype, device, layout, memory_format))
        if out is not None:
            return out._receive(t)
        return t.requires_grad_() if requires_grad else t

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


zeros = sized(
    "zeros",
    lambda lay: filled(lay, 0),
    """Zeros of a shape.

    >>> zeros(2, 3).shape
    amity.Size([2, 3])
    """,
)
ones = sized("ones", lambda lay: filled(lay, 1), "Ones of a shape.")
empty = sized("empty", allocate, "A tensor of a shape with whatever the memory held.")


def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of given sizes and strides with whatever the memory held."""
    rows = plan_layout("empty_strided", (size,), dtype, device, layout)
    if len(rows.shape) != len(stride):
        raise RuntimeError(
            f"empty_strided: dimensionality of sizes ({len(rows.shape)}) must match "
            f"dimensionality of strides ({len(stride)})"
        )
    if any(s < 0 for s in stride):
        raise RuntimeError(f"empty_strided: got strides {list(stride)}; expected none below 0")
    return finish(allocate(layout_of(rows.dtype, rows.shape, stride, rows.device)), requires_grad)


def empty_permuted(
    size: Sequence[int],
    physical_layout: Sequence[int],
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor whose dimensions lie in memory in a given order, outermost first.

    >>> empty_permuted((2, 3, 4), (0, 2, 1)).stride()
    (12, 1, 3)
    """
    rows = plan_layout("empty_permuted", (size,), dtype, device, layout)
    order = list(physical_layout)
    if sorted(order) != list(range(rows.ndim)):
        raise RuntimeError(
            f"empty_permuted: got physical_layout {order} for {rows.ndim} dimensions; expected "
            "each dimension once"
        )
    inner = contiguous_strides([rows.shape[d] for d in order])
    strides = [inner[order.index(d)] for d in range(rows.ndim)]
    return finish(allocate(layout_of(rows.dtype, rows.shape, strides, rows.device)), requires_grad)


def number_of(op: str, argument: str, value: Any) -> bool | int | float:
    """A Python number from a number or a 0-d tensor."""
    if isinstance(value, (bool, int, float)):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    raise TypeError(
        f"{op}(): argument '{argument}' must be Number, not {type(value).__name__}: got {value!r}"
    )


def full(
    size: Sequence[int],
    fill_value: Any,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """One value in a shape; the dtype is the value's unless given."""
    if isinstance(size, int):
        raise TypeError(f"full(): argument 'size' must be tuple of ints, not int: got {size}")
    value = number_of("full", "fill_value", fill_value)
    dtype = out_dtype("full", out, dtype) or dtype_of_number(value)
    t = filled(plan_layout("full", (size,), dtype, device, layout), value)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def _like(op: str, t: Any, dtype: Any, device: Any, memory_format: Any) -> Layout:
    if not isinstance(t, Tensor):
        raise TypeError(
            f"{op}(): argument 'input' (position 1) must be Tensor, not {type(t).__name__}"
        )
    dtype = as_dtype(op, dtype)
    lay = t.layout
    if type(lay) is Symbol:
        return layout_of(dtype or lay.dtype, lay.shape)
    if memory_format is None or memory_format is preserve_format:
        made = layout_like(lay, dtype)
    else:
        strides = format_strides(op, lay.shape, memory_format)
        made = layout_of(dtype or lay.dtype, lay.shape, strides, lay.device)
    if device is None:
        return made
    return layout_of(made.dtype, made.shape, made.strides, Device(device))


def _filled_like(
    op: str, t: Tensor, value: Any, dtype: Any, device: Any, memory_format: Any
) -> Tensor:
    lay = _like(op, t, dtype, device, memory_format)
    if type(t.layout) is Symbol:
        return traced(Node(Constant(value, False), (), Spec(tuple(lay.shape), lay.dtype)))
    return filled(lay, value)


def alike(name: str, value: Any, doc: str) -> Callable[..., Tensor]:
    """A function of another tensor; `value` None leaves the memory as it is."""

    def function(
        input: Tensor,
        *,
        dtype: DType | None = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: bool = False,
        requires_grad: bool = False,
        memory_format: Any = None,
    ) -> Tensor:
        if is_batched(input):
            more = {"dtype": dtype, "device": device, "memory_format": memory_format}
            t = through(lambda x: function(x, **more), input)
        elif value is None and type(getattr(input, "layout", None)) is not Symbol:
            t = allocate(_like(name, input, dtype, device, memory_format))
        else:
            t = _filled_like(name, input, value or 0, dtype, device, memory_format)
        return finish(t, requires_grad)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


zeros_like = alike(
    "zeros_like", 0, "Zeros with another tensor's shape, dtype and order of dimensions."
)
ones_like = alike(
    "ones_like", 1, "Ones with another tensor's shape, dtype and order of dimensions."
)
empty_like = alike(
    "empty_like",
    None,
    "Memory with another tensor's shape, dtype and order of dimensions, holding anything.",
)


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """One value with another tensor's shape, dtype and order of dimensions."""
    value = number_of("full_like", "fill_value", fill_value)
    if is_batched(input):
        more = {"dtype": dtype, "device": device, "memory_format": memory_format}
        return finish(through(lambda x: full_like(x, value, **more), input), requires_grad)
    t = _filled_like("full_like", input, value, dtype, device, memory_format)
    return finish(t, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the diagonal of a matrix of zeros.

    errors: RuntimeError for a negative size; TypeError for what is no integer
    """
    for name, count in (("n", n), ("m", m)):
        if count is not None and whole("eye", name, count) < 0:
            raise RuntimeError(f"eye: got {name}={count}; {name} must be greater or equal to 0")
    size = (n, n if m is None else m)
    lay = plan_layout("eye", size, out_dtype("eye", out, dtype), device, layout)
    t = filled(lay, 0)
    if t.storage is not None:
        np.fill_diagonal(engine.array_of(t.storage, lay), 1)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def legacy_tensor(cls: type, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor(2, 3)` and `Tensor([1, 2])`, as in PyTorch: of the default dtype whatever the data."""
    if len(args) != 1 or isinstance(args[0], (int, Size)):
        return empty(*args) if args else empty(0)
    if isinstance(args[0], Tensor):
        return args[0].detach()
    if isinstance(args[0], (float, str)):
        raise TypeError(f"new(): data must be a sequence (got {type(args[0]).__name__})")
    return tensor(args[0], dtype=get_default_dtype())


def address_of(storage: Any) -> int:
    return ctypes.c_void_p(storage.data).value or 0


__all__ = [
    "as_tensor",
    "empty",
    "eye",
    "from_numpy",
    "full",
    "leaf",
    "ones",
    "tensor",
    "zeros",
]
