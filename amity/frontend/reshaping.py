"""Tensors that change their own shape: in-place views, resizing, `set_`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amity.core.layout import layout
from amity.ops.matmul import matmul
from amity.ops.record import METHODS

from . import create, inplace
from .tape import is_leaf, modes
from .tensor import Tensor


def view_inplace(name: str, function: Callable) -> Callable:
    """`x.squeeze_()`: the tensor becomes the view that the function gives of it."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if modes.grad and self.tape is not None and is_leaf(self.tape):
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place "
                "operation."
            )
        shown = function(self, *args, **kwargs)
        self.storage, self.layout, self.tape = shown.storage, shown.layout, shown.tape
        return self

    method.__name__ = name
    method.__doc__ = f"`{name[:-1]}` of this tensor, in place."
    return method


def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Another shape over the same memory, which grows if it is too small; new elements hold anything."""
    if self.tape is not None:
        raise RuntimeError("cannot resize variables that require grad")
    lay = layout(self.dtype, create.sizes(sizes))
    if lay.nbytes > self.storage.nbytes:
        bigger = create.allocate(lay)
        held = layout(self.dtype, (self.storage.nbytes // self.itemsize,))
        if held.numel:
            inplace.write(bigger.view(-1)[: held.numel], Tensor._of(self.storage, held))
        self.storage = bigger.storage
    self.layout = lay
    return self


def set_(self: Tensor, source: Tensor | None = None) -> Tensor:
    """Take over another tensor's memory and shape."""
    source = create.empty(0, dtype=self.dtype) if source is None else source
    if source.dtype is not self.dtype:
        raise RuntimeError(f"set_: got a source of {source.dtype}; expected {self.dtype}")
    self.storage, self.layout = source.storage, source.layout
    return self


def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """The main diagonal filled with a value; with `wrap` it goes on below in tall matrices."""
    if self.ndim < 2:
        raise RuntimeError("fill_diagonal_: dimensions must be larger than 1")
    if self.ndim > 2 and len(set(self.shape)) > 1:
        raise RuntimeError("fill_diagonal_: all dimensions of input must be of equal length")
    if self.ndim > 2:
        self.as_strided((self.shape[0],), (sum(self.stride()),)).fill_(fill_value)
        return self
    step = self.shape[1] + 1
    for start in range(0, self.shape[0], step) if wrap else (0,):
        self[start : start + step - 1].diagonal().fill_(fill_value)
    return self


def dim_order(self: Tensor) -> tuple[int, ...]:
    """The dimensions from the one whose steps in memory are largest to the smallest."""
    steps = zip(self.layout.shape, self.layout.strides, strict=True)
    return tuple(
        sorted(range(self.ndim), key=[-s if n > 1 and s else 0 for n, s in steps].__getitem__)
    )


def matrix_transpose(self: Tensor) -> Tensor:
    """Matrices with rows and columns swapped."""
    if self.ndim == 1:
        raise RuntimeError(
            "tensor.mT is only supported on matrices or batches of matrices. Got 1-D tensor."
        )
    return self.transpose(-2, -1) if self.ndim else self


def transpose_of_matrix(self: Tensor) -> Tensor:
    """A matrix with rows and columns swapped."""
    if self.ndim not in (0, 2):
        raise RuntimeError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor."
        )
    return self.transpose(0, 1) if self.ndim else self


def real(input: Tensor) -> Tensor:
    """The real part: of real numbers, the tensor itself."""
    return input


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors."""
    return matmul(input, other)


def attach() -> None:
    for name in ("as_strided", "squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims"):
        setattr(Tensor, name + "_", view_inplace(name + "_", METHODS[name]))
    for f in (resize_, set_, fill_diagonal_, vdot, dim_order):
        setattr(Tensor, f.__name__, f)
    rest: dict[str, Any] = {
        "mT": property(matrix_transpose),
        "mH": property(matrix_transpose),
        "H": property(transpose_of_matrix),
        "resize_as_": lambda self, other: self.resize_(*other.shape),
        "real": property(lambda self: self),
        "is_cpu": property(lambda self: self.device.type == "cpu"),
        "get_device": lambda self: -1,
        "is_shared": lambda self: False,
        "is_pinned": lambda self, device=None: False,
        "is_set_to": lambda self, other: self.storage is other.storage and self.layout is other.layout,
        "is_same_size": lambda self, other: self.shape == other.shape,
        "new_empty_strided": lambda self, size, stride, dtype=None: create.empty_strided(
            size, stride, dtype=dtype or self.dtype
        ),
        "conj": lambda self: self,
        "conj_physical": lambda self: self,
        "conj_physical_": lambda self: self,
        "is_conj": lambda self: False,
        "is_neg": lambda self: False,
        "is_distributed": lambda self: False,
        "to_dense": lambda self, dtype=None, masked_grad=None: self if dtype is None else self.to(dtype),
        "const_data_ptr": lambda self: self.data_ptr(),
        "name": None,
        "resolve_conj": lambda self: self,
        "resolve_neg": lambda self: self,
    }  # fmt: skip
    for device in ("ipu", "maia", "mps", "mtia", "vulkan", "xla", "xpu"):
        rest[f"is_{device}"] = False
    rest["is_sparse_csr"] = False
    for name, value in rest.items():
        setattr(Tensor, name, value)


def is_tensor(obj: Any) -> bool:
    """Whether an object is a Tensor."""
    return isinstance(obj, Tensor)


attach()
