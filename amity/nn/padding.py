"""Padding the last dimensions."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.frontend.tensor import Tensor
from amity.nn.module import Module
from amity.nn.sizes import expand


class _Pad(Module):
    """Padding of `_ndim` dimensions; `padding` is one int, or before and after, last dim first."""

    __constants__ = ["padding"]
    _ndim: int
    _mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = expand(padding, 2 * self._ndim)

    def forward(self, input: Tensor) -> Tensor:
        return ops.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    __constants__ = ["padding", "value"]

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return ops.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Put `value` around sequences."""

    _ndim = 1


class ConstantPad2d(_ConstantPad):
    """Put `value` around images."""

    _ndim = 2


class ConstantPad3d(_ConstantPad):
    """Put `value` around volumes."""

    _ndim = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad):
    """Put zeros around sequences."""

    _ndim = 1


class ZeroPad2d(_ZeroPad):
    """Put zeros around images."""

    _ndim = 2


class ZeroPad3d(_ZeroPad):
    """Put zeros around volumes."""

    _ndim = 3


class ReflectionPad1d(_Pad):
    """Continue sequences with their mirror image."""

    _ndim, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Continue images with their mirror image."""

    _ndim, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Continue volumes with their mirror image."""

    _ndim, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Continue sequences with their last value."""

    _ndim, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Continue images with their last value."""

    _ndim, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Continue volumes with their last value."""

    _ndim, _mode = 3, "replicate"


class _CircularPad(_Pad):
    _mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        n = self._ndim
        if input.dim() not in (n + 1, n + 2):
            raise ValueError(f"expected {n + 1}D or {n + 2}D input (got {input.dim()}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPad):
    """Continue sequences from their other end."""

    _ndim = 1


class CircularPad2d(_CircularPad):
    """Continue images from their other side."""

    _ndim = 2


class CircularPad3d(_CircularPad):
    """Continue volumes from their other side."""

    _ndim = 3
