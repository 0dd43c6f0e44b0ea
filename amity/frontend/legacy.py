"""Names from PyTorch's older days: `LongTensor([1, 2])`, `Variable(x)`."""

from __future__ import annotations

from typing import Any

from amity.core import dtype as dt
from amity.core.dtype import DType
from amity.core.shape import Size

from . import create
from .tensor import Tensor


class TensorType(type):
    """A class that makes tensors of one dtype and of which these are instances."""

    dtype: DType

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype

    def __call__(cls, *args: Any) -> Tensor:
        """From sizes, or from a sequence or a tensor of the same dtype."""
        if len(args) != 1 or isinstance(args[0], (int, Size)):
            return create.empty(*(args or (0,)), dtype=cls.dtype)
        data = args[0]
        if isinstance(data, Tensor):
            if data.dtype is not cls.dtype:
                raise TypeError(
                    f"{cls.__name__}: got a tensor of {data.dtype}; expected {cls.dtype}: use .to()"
                )
            return data.detach()
        return create.tensor(data, dtype=cls.dtype)


def tensor_type(legacy: str, dtype: DType) -> Any:
    return TensorType(f"{legacy}Tensor", (), {"dtype": dtype, "__module__": "amity"})


BoolTensor = tensor_type("Bool", dt.bool_)
ByteTensor = tensor_type("Byte", dt.uint8)
CharTensor = tensor_type("Char", dt.int8)
ShortTensor = tensor_type("Short", dt.int16)
IntTensor = tensor_type("Int", dt.int32)
LongTensor = tensor_type("Long", dt.int64)
HalfTensor = tensor_type("Half", dt.float16)
BFloat16Tensor = tensor_type("BFloat16", dt.bfloat16)
FloatTensor = tensor_type("Float", dt.float32)
DoubleTensor = tensor_type("Double", dt.float64)


class VariableType(type):
    """What tensors with gradients were called once."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)

    def __call__(cls, data: Tensor, requires_grad: bool = False) -> Tensor:
        return data.detach().requires_grad_(requires_grad)


class Variable(metaclass=VariableType):
    """A tensor: `Variable(x, requires_grad=True)` is `x.detach().requires_grad_()`."""


def typename(obj: Any) -> str:
    """The type of a tensor by its older name, of another object its class with the module.

    >>> typename(create.zeros(2))
    'amity.FloatTensor'
    """
    if isinstance(obj, Tensor):
        return obj.type()
    cls = obj if isinstance(obj, type) else type(obj)
    module = "" if cls.__module__ in ("builtins", "__builtin__") else f"{cls.__module__}."
    return module + cls.__qualname__


def new(self: Tensor, *args: Any) -> Tensor:
    """A tensor of this dtype from sizes or a sequence: prefer `new_tensor` and `new_empty`."""
    if len(args) == 1 and not isinstance(args[0], (int, Size, Tensor)):
        return create.tensor(args[0], dtype=self.dtype)
    return (
        args[0].detach()
        if args and isinstance(args[0], Tensor)
        else self.new_empty(*(args or (0,)))
    )


Tensor.new = new
