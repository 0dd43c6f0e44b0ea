"""Tensors that a module owns: parameters, buffers, and those whose shape is not known yet."""

from __future__ import annotations

from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor


def _rebuild(cls: type, data: Tensor, requires_grad: bool) -> Tensor:
    return cls(data, requires_grad)


class Parameter(Tensor):
    """A tensor that a module registers as its parameter when it is assigned to an attribute.

    >>> Parameter(create.zeros(2)).requires_grad
    True
    """

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = create.empty(0)
        if not isinstance(data, Tensor):
            raise fail(TypeError, "Parameter", type(data).__name__, "a Tensor or None")
        return data.detach().as_subclass(cls).requires_grad_(requires_grad)

    def __deepcopy__(self, memo: dict) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: int) -> tuple:
        return _rebuild, (type(self), self.detach().as_subclass(Tensor), self.requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


def _rebuild_buffer(cls: type, data: Tensor, persistent: bool) -> Tensor:
    return cls(data, persistent=persistent)


class Buffer(Tensor):
    """A tensor that a module registers as its buffer when it is assigned to an attribute.

    >>> Buffer(create.zeros(2), persistent=False).persistent
    False
    """

    __slots__ = ("persistent",)

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        if data is None:
            data = create.empty(0)
        if not isinstance(data, Tensor):
            raise fail(TypeError, "Buffer", type(data).__name__, "a Tensor or None")
        self = data.detach().as_subclass(cls).requires_grad_(data.requires_grad)
        self.persistent = persistent
        return self

    def __deepcopy__(self, memo: dict) -> Buffer:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), persistent=self.persistent)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: int) -> tuple:
        plain = self.detach().as_subclass(Tensor)
        return _rebuild_buffer, (type(self), plain, self.persistent)


def _rebuild_uninitialized(cls: type, options: dict) -> Tensor:
    return cls(**options)


class _Uninitialized:
    """What a tensor without a shape can do: tell its dtype and device, and become a real one."""

    __slots__ = ()

    @property
    def shape(self):
        raise fail(
            RuntimeError, type(self).__name__, "a request for the shape", "a first forward pass"
        )

    def size(self, dim: int | None = None):
        return self.shape

    def materialize(self, shape, device=None, dtype=None) -> None:
        """Take a shape; the tensor becomes an ordinary one with undefined values."""
        device = self.device if device is None else device
        dtype = self.dtype if dtype is None else dtype
        self.data = create.empty(shape, device=device, dtype=dtype)
        self.__class__ = self.becomes

    def __reduce_ex__(self, protocol: int) -> tuple:
        return _rebuild_uninitialized, (type(self), self._options())

    def __deepcopy__(self, memo: dict):
        if id(self) not in memo:
            memo[id(self)] = type(self)(**self._options())
        return memo[id(self)]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __format__(self, spec: str) -> str:
        return repr(self)


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter whose shape the first input of its module decides."""

    __slots__ = ()
    becomes = Parameter

    def __new__(cls, requires_grad: bool = True, device=None, dtype=None):
        data = create.empty(0, device=device, dtype=dtype)
        return data.as_subclass(cls).requires_grad_(requires_grad)

    def _options(self) -> dict:
        return {"requires_grad": self.requires_grad, "device": self.device, "dtype": self.dtype}


class UninitializedBuffer(_Uninitialized, Tensor):
    """A buffer whose shape the first input of its module decides."""

    __slots__ = ()
    becomes = Tensor

    def __new__(cls, requires_grad: bool = False, device=None, dtype=None):
        data = create.empty(0, device=device, dtype=dtype)
        return data.as_subclass(cls).requires_grad_(requires_grad)

    def _options(self) -> dict:
        return {"requires_grad": self.requires_grad, "device": self.device, "dtype": self.dtype}


def is_lazy(value: object) -> bool:
    """Whether `value` is a parameter or buffer without a shape."""
    return isinstance(value, _Uninitialized)
