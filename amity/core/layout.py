"""How elements lie in memory: interned, so that identity is the key all plans are found by."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from .device import CPU, Device
from .dtype import DType
from .errors import ShapeError, fail
from .shape import Shape, Size, contiguous_strides, numel


class Layout:
    """dtype, shape, strides (in elements) and device; made by `layout`, one object each."""

    __slots__ = (
        "__weakref__", "device", "dtype", "extent", "is_contiguous", "is_dense", "nbytes", "ndim",
        "numel", "shape", "strides",
    )  # fmt: skip

    def __init__(self, dtype: DType, shape: Shape, strides: Shape, device: Device) -> None:
        if any(n < 0 for n in shape):
            raise fail(ShapeError, "layout", f"shape {list(shape)}", "sizes of 0 or more")
        self.dtype, self.shape, self.strides, self.device = dtype, Size(shape), strides, device
        self.ndim = len(shape)
        self.numel = numel(shape)
        self.nbytes = self.numel * dtype.itemsize
        self.is_contiguous = self.numel == 0 or all(
            n == 1 or s == t
            for n, s, t in zip(shape, strides, contiguous_strides(shape), strict=True)
        )
        self.is_dense = self.is_contiguous or _is_dense(shape, strides)
        self.extent = self.numel  # elements from the first to one past the last that it touches
        if not self.is_dense:
            self.extent = 1 + sum([(n - 1) * s for n, s in zip(shape, strides, strict=True)])

    def __repr__(self) -> str:
        return f"Layout({self.dtype.name}, {tuple(self.shape)}, {self.strides})"


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the elements fill their memory without gaps or overlaps, in some order."""
    step = 1
    for stride, size in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n != 1):
        if stride != step:
            return False
        step *= size
    return True


class MemoryFormat:
    """An order of dimensions in memory, or how tensors lie in it at all; by identity."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"amity.{self.name}"

    def __reduce__(self) -> str:
        return self.name


strided = MemoryFormat("strided")
contiguous_format = MemoryFormat("contiguous_format")
preserve_format = MemoryFormat("preserve_format")
channels_last = MemoryFormat("channels_last")
channels_last_3d = MemoryFormat("channels_last_3d")
RANKS = {channels_last: 4, channels_last_3d: 5}


def format_strides(op: str, shape: Sequence[int], wanted: MemoryFormat) -> Shape:
    """The strides of a shape in a memory format.

    errors: RuntimeError for a format that the shape cannot have; TypeError for what is none

    >>> format_strides("empty", (2, 3, 4, 5), channels_last)
    (60, 1, 15, 3)
    """
    if wanted is contiguous_format:
        return contiguous_strides(shape)
    if wanted not in RANKS:
        if isinstance(wanted, MemoryFormat):
            raise RuntimeError(
                f"{op}: got memory format {wanted!r}; unsupported memory format, expected contiguous_format "
                "or channels_last"
            )
        raise TypeError(
            f"{op}(): argument 'memory_format' must be amity.memory_format, not "
            f"{type(wanted).__name__}"
        )
    if len(shape) != RANKS[wanted]:
        raise RuntimeError(
            f"{op}: got {len(shape)} dimensions; required rank {RANKS[wanted]} tensor to use "
            f"{wanted.name} format"
        )
    last = contiguous_strides((shape[0], *shape[2:], shape[1]))
    return (last[0], last[-1], *last[1:-1])


_made: WeakValueDictionary[tuple, Layout] = WeakValueDictionary()


def layout(
    dtype: DType, shape: Sequence[int], strides: Sequence[int] | None = None, device: Device = CPU
) -> Layout:
    """The one Layout of these properties; row-major by default."""
    shape = tuple(shape)
    strides = contiguous_strides(shape) if strides is None else tuple(strides)
    key = (dtype, shape, strides, device)
    found = _made.get(key)
    if found is None:
        found = _made.setdefault(key, Layout(dtype, shape, strides, device))
    return found


def like(source: Layout, dtype: DType | None = None, shape: Shape | None = None) -> Layout:
    """The layout of a fresh result: the source's order of dimensions if it is dense, else row-major."""
    dtype = dtype or source.dtype
    if shape is not None and shape != source.shape:
        return layout(dtype, shape, None, source.device)
    if source.is_dense:
        return layout(dtype, source.shape, source.strides, source.device)
    return layout(dtype, source.shape, sorted_strides(source.shape, source.strides), source.device)


def ordered(source: Layout, dtype: DType, shape: Sequence[int]) -> Layout:
    """The layout of a fresh result of any shape in the order of a source of as many dimensions."""
    return layout(dtype, shape, sorted_strides(shape, source.strides), source.device)


def formatted(op: str, source: Layout, wanted: MemoryFormat | None) -> Layout:
    """The source's shape in a memory format; None and `preserve_format` keep its order."""
    if wanted is None or wanted is preserve_format:
        return like(source)
    strides = format_strides(op, source.shape, wanted)
    return layout(source.dtype, source.shape, strides, source.device)


def is_formatted(op: str, source: Layout, wanted: MemoryFormat) -> bool:
    """Whether a layout has a memory format already; strides of single elements do not count."""
    if wanted in RANKS and len(source.shape) != RANKS[wanted]:
        return False
    strides = format_strides(op, source.shape, wanted)
    pairs = zip(source.shape, source.strides, strides, strict=True)
    return source.numel == 0 or all(n == 1 or s == t for n, s, t in pairs)


def sorted_strides(shape: Sequence[int], strides: Sequence[int]) -> Shape:
    """Dense strides that keep the order in which the given strides walk the dimensions."""
    if any(s == 0 and n > 1 for n, s in zip(shape, strides, strict=True)):
        return contiguous_strides(shape)
    out, step = [0] * len(shape), 1
    for i in sorted(range(len(shape)), key=lambda i: (strides[i], -i)):
        out[i] = step
        step *= max(shape[i], 1)
    return tuple(out)
