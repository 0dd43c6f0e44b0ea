"""Convolutions and transposed convolutions in 1, 2 and 3 dimensions."""

from __future__ import annotations

import math
from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.nn import init
from amity.nn.lazy import LazyModuleMixin
from amity.nn.module import Module
from amity.nn.parameter import Parameter, UninitializedParameter
from amity.nn.sizes import expand

_PADDINGS = ("same", "valid")
_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolutions share; `_ndim` is the number of spatial dimensions."""

    __constants__ = [
        "stride", "padding", "dilation", "groups", "padding_mode", "output_padding",
        "in_channels", "out_channels", "kernel_size",
    ]  # fmt: skip
    _ndim: int
    _is_transposed = False

    def _setup(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        output_padding: Any,
        dilation: Any,
        groups: int,
        padding_mode: str,
    ) -> None:
        """Check and keep all sizes."""
        n = self._ndim
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if padding_mode not in _MODES:
            raise ValueError(
                f"padding_mode must be one of {_MODES}, but got padding_mode='{padding_mode}'"
            )
        if self._is_transposed and padding_mode != "zeros":
            name = type(self).__name__
            raise ValueError(f'Only "zeros" padding mode is supported for {name}')
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = expand(kernel_size, n), expand(stride, n)
        self.dilation, self.output_padding = expand(dilation, n), expand(output_padding, n)
        if isinstance(padding, str):
            if padding not in _PADDINGS:
                raise ValueError(
                    f"Invalid padding string {padding!r}, should be one of {set(_PADDINGS)}"
                )
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
            self.padding = padding
        else:
            self.padding = expand(padding, n)
        self.groups, self.padding_mode, self.transposed = groups, padding_mode, self._is_transposed
        self._reversed_padding_repeated_twice = self._border()

    def _border(self) -> list[int]:
        """The padding as `ops.pad` takes it: last dimension first, before and after."""
        if self.padding == "valid":
            return [0] * (2 * self._ndim)
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            pairs = [(total // 2, total - total // 2) for total in totals]
        else:
            pairs = [(p, p) for p in self.padding]
        return [p for pair in reversed(pairs) for p in pair]

    def _weight_shape(self) -> tuple[int, ...]:
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second // self.groups, *self.kernel_size)

    def _make_parameters(self, bias: bool, device: Any, dtype: Any) -> None:
        shape = self._weight_shape()
        self.weight = Parameter(create.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(create.empty(self.out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-k, k) with k = 1 / sqrt(fan in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        n = self._ndim
        text = f"{self.in_channels}, {self.out_channels}"
        text += f", kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * n:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * n:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text + (
            "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode}"
        )


class _Conv(_ConvNd):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        self._setup(
            in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups,
            padding_mode,
        )  # fmt: skip
        self._make_parameters(bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = ops.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return self._op(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """Cross-correlation of sequences with a learned kernel.

    shape: x[N, C, L] or x[C, L] -> [(N,) out_channels, (L + 2 padding - dilation (k - 1) - 1)
           // stride + 1]

    >>> Conv1d(16, 33, 3, stride=2)
    Conv1d(16, 33, kernel_size=(3,), stride=(2,))
    """

    _ndim = 1

    def _op(self, *args: Any) -> Tensor:
        return ops.conv1d(*args)


class Conv2d(_Conv):
    """Cross-correlation of images with a learned kernel.

    shape: x[N, C, H, W] or x[C, H, W] -> [(N,) out_channels, H', W'], each size
           (size + 2 padding - dilation (k - 1) - 1) // stride + 1

    >>> Conv2d(16, 33, (3, 5), padding="same", groups=1)
    Conv2d(16, 33, kernel_size=(3, 5), stride=(1, 1), padding=same)
    """

    _ndim = 2

    def forward(self, input: Tensor) -> Tensor:
        if self.padding_mode == "zeros":  # the common case, without a detour
            return ops.conv2d(
                input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
        return self._conv_forward(input, self.weight, self.bias)

    def _op(self, *args: Any) -> Tensor:
        return ops.conv2d(*args)


class Conv3d(_Conv):
    """Cross-correlation of volumes with a learned kernel.

    shape: x[N, C, D, H, W] or x[C, D, H, W] -> [(N,) out_channels, D', H', W']
    """

    _ndim = 3

    def _op(self, *args: Any) -> Tensor:
        return ops.conv3d(*args)


class _ConvTranspose(_ConvNd):
    _is_transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        self._setup(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation,
            groups, padding_mode,
        )  # fmt: skip
        self._make_parameters(bias, device, dtype)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding_for(input, output_size)
        return self._op(
            input, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups,
            self.dilation,
        )  # fmt: skip

    def _output_padding_for(self, input: Tensor, output_size: list[int]) -> tuple[int, ...]:
        """The output padding that gives the output the asked-for size."""
        n, ndim = self._ndim, input.dim()
        has_batch = ndim == n + 2
        sizes = list(output_size)
        if len(sizes) == n + (2 if has_batch else 1):
            sizes = sizes[-n:]
        if len(sizes) != n:
            raise ValueError(
                f"ConvTranspose{n}D: for {ndim}D input, output_size must have {n} or "
                f"{n + 2 if has_batch else n + 1} elements (got {len(sizes)})"
            )
        smallest = [
            (input.shape[i - n] - 1) * self.stride[i]
            - 2 * self.padding[i]
            + self.dilation[i] * (self.kernel_size[i] - 1)
            + 1
            for i in range(n)
        ]
        largest = [low + stride - 1 for low, stride in zip(smallest, self.stride, strict=True)]
        for low, size, high in zip(smallest, sizes, largest, strict=True):
            if not low <= size <= high:
                raise ValueError(
                    f"requested an output size of {sizes}, but valid sizes range from {smallest} "
                    f"to {largest} (for an input of {tuple(input.shape[-n:])})"
                )
        return tuple(size - low for size, low in zip(sizes, smallest, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """The gradient of a 1-d convolution with respect to its input, as a layer.

    shape: x[N, C, L] or x[C, L] -> [(N,) out_channels, (L - 1) stride - 2 padding
           + dilation (k - 1) + output_padding + 1]
    """

    _ndim = 1

    def _op(self, *args: Any) -> Tensor:
        return ops.conv_transpose1d(*args)


class ConvTranspose2d(_ConvTranspose):
    """The gradient of a 2-d convolution with respect to its input, as a layer.

    shape: x[N, C, H, W] or x[C, H, W] -> [(N,) out_channels, H', W']
    """

    _ndim = 2

    def _op(self, *args: Any) -> Tensor:
        return ops.conv_transpose2d(*args)


class ConvTranspose3d(_ConvTranspose):
    """The gradient of a 3-d convolution with respect to its input, as a layer.

    shape: x[N, C, D, H, W] or x[C, D, H, W] -> [(N,) out_channels, D', H', W']
    """

    _ndim = 3

    def _op(self, *args: Any) -> Tensor:
        return ops.conv_transpose3d(*args)


class _LazyConv(LazyModuleMixin):
    """The lazy form of a convolution: `in_channels` comes from the first input."""

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(0, out_channels, kernel_size, *args, **kwargs)
        has_bias = self.bias is not None
        options = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.weight = UninitializedParameter(**options)
        if has_bias:
            self.bias = UninitializedParameter(**options)

    def reset_parameters(self) -> None:
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        n = self._ndim
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(
                f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to "
                f"{type(self).__name__}, but got input of size: {list(input.shape)}"
            )
        if not self.has_uninitialized_params():
            return
        self.in_channels = input.shape[-n - 1]
        if self.in_channels % self.groups:
            raise ValueError("in_channels must be divisible by groups")
        self.weight.materialize(self._weight_shape())
        if self.bias is not None:
            self.bias.materialize((self.out_channels,))
        self.reset_parameters()


class LazyConv1d(_LazyConv, Conv1d):
    """A `Conv1d` that takes `in_channels` from its first input."""

    becomes = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A `Conv2d` that takes `in_channels` from its first input."""

    becomes = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A `Conv3d` that takes `in_channels` from its first input."""

    becomes = Conv3d


class LazyConvTranspose1d(_LazyConv, ConvTranspose1d):
    """A `ConvTranspose1d` that takes `in_channels` from its first input."""

    becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyConv, ConvTranspose2d):
    """A `ConvTranspose2d` that takes `in_channels` from its first input."""

    becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyConv, ConvTranspose3d):
    """A `ConvTranspose3d` that takes `in_channels` from its first input."""

    becomes = ConvTranspose3d
