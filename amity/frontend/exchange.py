"""Memory shared with other libraries: buffers and DLPack, in and out."""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import numpy as np

from amity.core.dtype import DType, as_dtype, bfloat16, get_default_dtype, int16
from amity.core.layout import layout
from amity.engine import deferral
from amity.engine import device as engine

from .create import as_tensor, finish, over_array, tensor
from .tensor import Tensor

# NumPy packs and unpacks all dtypes but bfloat16, which goes through it as int16 under another code.
INTEGER, BFLOAT = 0, 4  # DLDataTypeCode
HEADS = {b"dltensor": 0, b"dltensor_versioned": 32}  # bytes before DLTensor in a capsule's struct
CODE = 20  # of DLTensor.dtype: behind data, device and ndim
CPU_DEVICE = (1, 0)  # kDLCPU

_api = ctypes.pythonapi
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-d tensor on the memory of a buffer object.

    errors: ValueError for what is no buffer, or has not as many whole elements
    """
    try:
        length = memoryview(buffer).nbytes
    except TypeError:
        raise ValueError(
            f"frombuffer: got {type(buffer).__name__}; object does not implement Python buffer protocol"
        ) from None
    size, left = dtype.itemsize, length - offset
    if length == 0 or count == 0:
        raise ValueError(
            f"frombuffer: both buffer length ({length}) and count ({count}) must not be 0"
        )
    if not 0 <= offset < length:
        raise ValueError(
            f"frombuffer: offset ({offset} bytes) must be non-negative and no greater than buffer length "
            f"({length} bytes) minus 1"
        )
    if count < 0 and left % size:
        raise ValueError(
            f"frombuffer: buffer length ({length} bytes) after offset ({offset} bytes) must be a "
            f"multiple of element size ({size})"
        )
    if count > 0 and count * size > left:
        raise ValueError(
            f"frombuffer: requested buffer length ({count} * {size} bytes) after offset ({offset} bytes) "
            f"must not be greater than actual buffer length ({length} bytes)"
        )
    array = np.frombuffer(buffer, dtype.numpy, count, offset)
    if not array.flags.writeable:
        warnings.warn(
            "frombuffer: the given buffer is not writable, but tensors are: writing to the tensor "
            "would change it all the same; give a bytearray, e.g. bytearray(buffer)",
            stacklevel=2,
        )
    return finish(over_array(array), requires_grad)


def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor from an array, a buffer, DLPack or a sequence.

    errors: ValueError if `copy` is False and memory cannot be shared
    """
    dtype = as_dtype("asarray", dtype)
    if isinstance(obj, (bytes, bytearray, memoryview)):
        raw = np.frombuffer(obj, (dtype or get_default_dtype()).numpy)
        obj = over_array(raw if raw.flags.writeable else raw.copy())
    elif not isinstance(obj, (Tensor, np.ndarray)):
        if hasattr(obj, "__dlpack__"):
            obj = from_dlpack(obj)
        elif copy is False:
            raise ValueError(
                f"asarray: got {type(obj).__name__} with copy=False: can't alias arbitrary "
                "sequence; expected a tensor, an array, a buffer or DLPack"
            )
    t = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    return finish(t, requires_grad)


def _code(capsule: Any) -> ctypes.c_uint8:
    """The kind of numbers that a capsule says it holds, to be read and changed."""
    name = _api.PyCapsule_GetName(capsule)
    if name not in HEADS:
        raise RuntimeError(
            f"from_dlpack: got a capsule {(name or b'').decode()!r}; expected one of DLPack that "
            "nobody took yet"
        )
    head = _api.PyCapsule_GetPointer(capsule, name) + HEADS[name]
    return ctypes.c_uint8.from_address(head + CODE)


class Source:
    """An object with DLPack as NumPy takes it; `is_bfloat16` once it was asked."""

    is_bfloat16 = False

    def __init__(self, source: Any) -> None:
        self.source = source

    def __dlpack_device__(self) -> tuple[int, int]:
        of = getattr(self.source, "__dlpack_device__", None)
        return CPU_DEVICE if of is None else of()

    def __dlpack__(self, **kwargs: Any) -> Any:
        pack = getattr(self.source, "__dlpack__", None)
        capsule = self.source if pack is None else pack(**kwargs)
        code = _code(capsule)
        if code.value == BFLOAT:
            self.is_bfloat16, code.value = True, INTEGER
        return capsule


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor on the memory of another library's array, or of a DLPack capsule.

    errors: RuntimeError for what has no DLPack; BufferError for what cannot be shared
    """
    if isinstance(ext_tensor, Tensor):
        return ext_tensor.detach()
    if not hasattr(ext_tensor, "__dlpack__") and type(ext_tensor).__name__ != "PyCapsule":
        raise RuntimeError(
            f"from_dlpack: got {type(ext_tensor).__name__}; expected an object with __dlpack__ or "
            "a DLPack capsule"
        )
    source = Source(ext_tensor)
    array = np.from_dlpack(source)
    return over_array(array.view(bfloat16.numpy) if source.is_bfloat16 else array)


def to_dlpack(self: Tensor, *, stream: Any = None, **kwargs: Any) -> Any:
    """A DLPack capsule on this tensor's memory.

    errors: BufferError for tensors that require a gradient
    """
    if self.tape is not None:
        raise BufferError(
            "__dlpack__: Can't export tensors that require gradient, use tensor.detach()"
        )
    lay = self.layout
    if lay.dtype is not bfloat16:
        return self.numpy().__dlpack__(**kwargs)
    bits = layout(int16, lay.shape, lay.strides, lay.device)
    storage = self._memory("__dlpack__")
    deferral.settle(storage, True)
    engine.machine().share(storage)
    capsule = engine.array_of(storage, bits).__dlpack__(**kwargs)
    _code(capsule).value = BFLOAT
    return capsule


Tensor.__dlpack__ = to_dlpack
Tensor.__dlpack_device__ = lambda self: CPU_DEVICE
