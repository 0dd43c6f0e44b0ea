"""The tensor: a storage, a layout, a place on the tape. Ops are attached as methods by attach.py."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from amity.core import flags
from amity.core.device import Device
from amity.core.dtype import DType, bool_, float32, float64, int32, int64
from amity.core.layout import Layout, is_formatted, layout
from amity.core.shape import Shape, Size
from amity.engine import checks, deferral
from amity.engine import device as engine
from amity.ir.graph import Node

from . import trace
from .tape import ACCUMULATE, RULE, is_leaf, leaf, modes
from .trace import Symbol

# How one element is read where memory is: without making an array.
READ = {
    bool_: ctypes.c_bool.from_address, int32: ctypes.c_int32.from_address, int64: ctypes.c_int64.from_address,
    float32: ctypes.c_float.from_address, float64: ctypes.c_double.from_address,
}  # fmt: skip


class Tensor:
    """A multi-dimensional array of one dtype that may record how it was made.

    >>> import amity
    >>> amity.tensor([[1.0, 2.0], [3.0, 4.0]]).sum()
    tensor(10.)
    """

    __slots__ = ("__dict__", "__weakref__", "base", "layout", "storage", "tape")

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        from .create import legacy_tensor  # lazy: creation builds on this class

        return legacy_tensor(cls, *args, **kwargs)

    # -- making
    @classmethod
    def _of(cls, storage: Any, lay: Layout, tape: list | None = None) -> Tensor:
        """A tensor on a storage; no copy."""
        t = object.__new__(cls)
        t.storage, t.layout, t.tape, t.base = storage, lay, tape, None
        return t

    def _view(self, lay: Layout, offset: int = 0) -> Tensor:
        """The same memory under another layout, `offset` bytes further; off the tape."""
        storage = self.storage
        if offset:
            storage = engine.alias(storage, offset)
        t = engine.make(storage, lay) if storage is not None else Tensor._of(None, lay)
        t.base = self.base if self.base is not None else self
        return t

    # -- what it is
    shape: Size = property(attrgetter("layout.shape"))
    dtype: DType = property(attrgetter("layout.dtype"))
    device: Device = property(attrgetter("layout.device"))
    ndim: int = property(attrgetter("layout.ndim"))

    @property
    def itemsize(self) -> int:
        return self.layout.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.layout.nbytes

    @property
    def is_meta(self) -> bool:
        return self.layout.device.type == "meta"

    @property
    def is_cuda(self) -> bool:
        return False

    is_sparse = is_quantized = is_mkldnn = is_nested = False

    def size(self, dim: int | None = None) -> Size | int:
        return self.layout.shape if dim is None else self.layout.shape[self._dim("size", dim)]

    def stride(self, dim: int | None = None) -> Shape | int:
        return self.layout.strides if dim is None else self.layout.strides[self._dim("stride", dim)]

    def _dim(self, op: str, dim: int) -> int:
        if not -self.ndim <= dim < self.ndim:
            n = max(self.ndim, 1)
            raise IndexError(
                f"{op}: Dimension out of range (expected to be in range of [{-n}, {n - 1}], but "
                f"got {dim})"
            )
        return dim % self.ndim

    def dim(self) -> int:
        return self.layout.ndim

    ndimension = dim

    def numel(self) -> int:
        return self.layout.numel

    nelement = numel

    def element_size(self) -> int:
        return self.layout.dtype.itemsize

    def is_floating_point(self) -> bool:
        return self.layout.dtype.kind == "f"

    def is_complex(self) -> bool:
        return False

    def is_signed(self) -> bool:
        return self.layout.dtype.is_signed

    def is_contiguous(self, memory_format: Any = None) -> bool:
        if memory_format is None:
            return self.layout.is_contiguous
        return is_formatted("is_contiguous", self.layout, memory_format)

    def data_ptr(self) -> int:
        storage = self._memory("data_ptr")
        deferral.settle(storage)
        return storage.data if self.numel() else 0

    def storage_offset(self) -> int:
        if type(self.layout) is not Layout:
            return self.layout.storage_offset()
        s = self._memory("storage_offset")
        return (s.data - s.root.data) // self.itemsize

    def _memory(self, op: str) -> Any:
        """The storage, or an error where there is none."""
        if self.storage is None:
            if type(self.layout) is not Layout:
                raise self.layout.no_data(op)
            raise RuntimeError(
                f"{op}: got a meta tensor, which has no data; expected a tensor with memory"
            )
        return self.storage

    def _array(self, op: str = "numpy") -> np.ndarray:
        """A NumPy array on its memory, for code that lets go of it before anything else runs."""
        return engine.array_of(self._memory(op), self.layout)

    @property
    def _version(self) -> int:
        return self.storage.version if self.storage is not None else 0

    @property
    def _base(self) -> Tensor | None:
        return self.base

    def _is_view(self) -> bool:
        return self.base is not None

    # -- gradients
    @property
    def requires_grad(self) -> bool:
        return self.tape is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if requires_grad:
            if self.tape is None:
                if self.layout.dtype.kind != "f":
                    raise RuntimeError(
                        f"requires_grad_: got dtype {self.layout.dtype}; only Tensors of "
                        "floating point dtype "
                        "can require gradients"
                    )
                self.tape = leaf(self)
        elif not is_leaf(self.tape):
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use "
                "a computed "
                "variable in a subgraph that doesn't require differentiation use var_no_grad = "
                "var.detach()."
            )
        else:
            self.tape = None
        return self

    @property
    def is_leaf(self) -> bool:
        return is_leaf(self.tape)

    @property
    def retains_grad(self) -> bool:
        return self.__dict__.get("_retains_grad", False)

    @property
    def grad(self) -> Tensor | None:
        tape = self.tape
        if tape is not None and tape[RULE] is ACCUMULATE:
            return tape[2]
        return self.__dict__.get("_grad")

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if value is self:
                raise RuntimeError("grad: can't assign Variable as its own grad")
            if not isinstance(value, Tensor):
                raise TypeError(
                    "grad: assigned grad expected to be a Tensor or None but got "
                    f"{type(value).__name__}"
                )
            if value.layout.shape != self.layout.shape:
                raise RuntimeError(
                    f"grad: assigned grad has data of a different size: got {list(value.shape)}; "
                    f"expected {list(self.shape)}"
                )
            if value.layout.dtype is not self.layout.dtype:
                raise RuntimeError(
                    f"grad: assigned grad has data of a different type: got {value.dtype}; "
                    f"expected {self.dtype}"
                )
        if self.tape is not None and self.tape[RULE] is ACCUMULATE:
            self.tape[2] = value
        else:
            self.__dict__["_grad"] = value

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    def detach(self) -> Tensor:
        """The same memory, off the tape."""
        if type(self.layout) is not Layout:
            return Tensor._of(None, self.layout.detached())
        return Tensor._of(self.storage, self.layout)

    def as_subclass(self, cls: type) -> Tensor:
        """The same memory and the same place on the tape, as an instance of a subclass."""
        t = cls._of(self.storage, self.layout, self.tape)
        t.base = self.base
        return t

    def detach_(self) -> Tensor:
        """This tensor as a leaf: what made it is forgotten."""
        if self.base is not None:
            raise RuntimeError("detach_: Can't detach views in-place. Use detach() instead.")
        self.tape = None
        self.__dict__.pop("_retains_grad", None)
        return self

    @property
    def data(self) -> Tensor:
        """The same memory, off the tape and with a version of its own: writes to it are not noticed."""
        if self.storage is None:
            return self.detach()
        machine = engine.machine()
        return machine.make(machine.apart(self.storage), self.layout)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"data: got {type(value).__name__}; expected a Tensor")
        if self.tape is not None and value.layout.dtype.kind != "f":
            raise RuntimeError(
                f"data: got dtype {value.dtype}; data set to a tensor that requires gradients "
                "must be floating point"
            )
        self.storage, self.layout = value.storage, value.layout

    # -- NumPy and Python
    def numpy(self, *, force: bool = False) -> np.ndarray:
        """A NumPy array on the same memory (bfloat16 as ml_dtypes.bfloat16)."""
        if self.tape is not None and not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() "
                "instead."
            )
        storage = self._memory("numpy")
        deferral.settle(storage, True)
        engine.machine().share(storage)
        return engine.array_of(storage, self.layout)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = self.numpy()
        if dtype is not None and out.dtype != dtype:
            if copy is False:
                raise ValueError(
                    f"__array__: got dtype {out.dtype} with copy=False; expected {dtype}"
                )
            return out.astype(dtype)
        return out.copy() if copy else out

    def __array_wrap__(
        self, array: np.ndarray, context: Any = None, return_scalar: bool = False
    ) -> Any:
        from .create import from_numpy  # lazy: creation builds on this class

        return from_numpy(np.asarray(array).copy())

    def item(self) -> bool | int | float:
        """The one element as a Python number."""
        if self.layout.numel != 1:
            raise RuntimeError(
                f"item: a Tensor with {self.layout.numel} elements cannot be converted to Scalar"
            )
        if type(self.layout) is not Layout:
            return self.layout.item()
        read = READ.get(self.layout.dtype)
        if read is not None and self.storage is not None:
            return deferral.read(self, read) if deferral.is_on else read(self.storage.data).value
        value = self._array("item").reshape(())[()]
        kind = self.layout.dtype.kind
        return bool(value) if kind == "b" else float(value) if kind == "f" else int(value)

    def tolist(self) -> Any:
        array = self._array("tolist")
        return (
            array.astype(np.float32).tolist()
            if self.layout.dtype.name == "bfloat16"
            else array.tolist()
        )

    def __bool__(self) -> bool:
        if self.layout.numel != 1:
            what = "no values" if self.layout.numel == 0 else "more than one value"
            raise RuntimeError(f"Boolean value of Tensor with {what} is ambiguous")
        return bool(self.item())

    def _number(self) -> bool | int | float:
        if self.layout.numel != 1:
            raise ValueError(
                f"item: got a Tensor with {self.layout.numel} elements: only one element tensors "
                "can be converted to Python scalars; expected one element"
            )
        return self.item()

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __index__(self) -> int:
        if self.layout.dtype.kind == "f" or self.layout.numel != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        if self.layout.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.layout.shape[0]

    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        if self.layout.ndim == 0 and self.storage is not None:
            return self.item().__format__(spec)
        return object.__format__(self, spec)

    def __contains__(self, element: Any) -> bool:
        if not isinstance(element, (Tensor, bool, int, float)):
            raise RuntimeError(
                "Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
                f"{type(element)}."
            )
        return bool((self == element).any())

    def __reversed__(self) -> Tensor:
        return self.flip(0) if self.ndim else self

    def __iter__(self):
        if self.layout.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self.__dict__})


def make_traced(node: Node) -> Tensor:
    return Tensor._of(None, Symbol(node))


def numbers_dtype(values: Sequence[Any]) -> DType:
    return float64 if any(isinstance(v, float) for v in values) else float32


trace.install(make_traced)
engine.install(Tensor)
if flags.check - {"ir"}:
    checks.Checks(*sorted(flags.check - {"ir"})).start()
__all__ = ["Tensor", "layout", "modes"]
