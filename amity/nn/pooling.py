"""Pooling: one value for each window of the last dimensions."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.frontend.tensor import Tensor
from amity.nn.module import Module
from amity.nn.sizes import expand


class _MaxPool(Module):
    __constants__ = ["kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def _options(self) -> dict[str, Any]:
        return {"ceil_mode": self.ceil_mode, "return_indices": self.return_indices}

    def _sizes(self) -> tuple:
        return self.kernel_size, self.stride, self.padding, self.dilation

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest value of each window of a sequence.

    shape: x[N, C, L] or x[C, L] -> [(N,) C, L']
    """

    def forward(self, input: Tensor) -> Any:
        return ops.max_pool1d(input, *self._sizes(), **self._options())


class MaxPool2d(_MaxPool):
    """The largest value of each window of an image.

    shape: x[N, C, H, W] or x[C, H, W] -> [(N,) C, H', W'], each size
           (size + 2 padding - dilation (k - 1) - 1) // stride + 1

    >>> MaxPool2d(3, stride=2)
    MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)
    """

    def forward(self, input: Tensor) -> Any:
        return ops.max_pool2d(input, *self._sizes(), **self._options())


class MaxPool3d(_MaxPool):
    """The largest value of each window of a volume.

    shape: x[N, C, D, H, W] or x[C, D, H, W] -> [(N,) C, D', H', W']
    """

    def forward(self, input: Tensor) -> Any:
        return ops.max_pool3d(input, *self._sizes(), **self._options())


class _MaxUnpool(Module):
    _ndim: int

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        n = self._ndim
        self.kernel_size = expand(kernel_size, n)
        self.stride = expand(kernel_size if stride is None else stride, n)
        self.padding = expand(padding, n)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Put the values of a max pooling back to their places, zeros elsewhere."""

    _ndim = 1

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        sizes = self.kernel_size, self.stride, self.padding
        return ops.max_unpool1d(input, indices, *sizes, output_size)


class MaxUnpool2d(_MaxUnpool):
    """Put the values of a max pooling back to their places, zeros elsewhere."""

    _ndim = 2

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        sizes = self.kernel_size, self.stride, self.padding
        return ops.max_unpool2d(input, indices, *sizes, output_size)


class MaxUnpool3d(_MaxUnpool):
    """Put the values of a max pooling back to their places, zeros elsewhere."""

    _ndim = 3

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        sizes = self.kernel_size, self.stride, self.padding
        return ops.max_unpool3d(input, indices, *sizes, output_size)


class _AvgPool(Module):
    __constants__ = ["kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"]

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of a sequence.

    shape: x[N, C, L] or x[C, L] -> [(N,) C, L']
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = expand(kernel_size, 1)
        self.stride = expand(kernel_size if stride is None else stride, 1)
        self.padding = expand(padding, 1)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return ops.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip


class _AvgPoolNd(_AvgPool):
    __constants__ = [*_AvgPool.__constants__, "divisor_override"]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def _options(self) -> tuple:
        return (
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip


class AvgPool2d(_AvgPoolNd):
    """The mean of each window of an image.

    shape: x[N, C, H, W] or x[C, H, W] -> [(N,) C, H', W']
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.avg_pool2d(input, *self._options())


class AvgPool3d(_AvgPoolNd):
    """The mean of each window of a volume.

    shape: x[N, C, D, H, W] or x[C, D, H, W] -> [(N,) C, D', H', W']
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.avg_pool3d(input, *self._options())


class _FractionalMaxPool(Module):
    __constants__ = ["kernel_size", "return_indices", "output_size", "output_ratio"]
    _ndim: int

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        n, name = self._ndim, type(self).__name__
        if (isinstance(kernel_size, int) and kernel_size <= 0) or (
            isinstance(kernel_size, (tuple, list)) and not all(k > 0 for k in kernel_size)
        ):
            raise ValueError(
                f"kernel_size must greater than zero for all dims, but got {kernel_size}"
            )
        self.kernel_size, self.return_indices = expand(kernel_size, n), return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else expand(output_size, n)
        self.output_ratio = None if output_ratio is None else expand(output_ratio, n)
        if output_size is None and output_ratio is None:
            raise ValueError(
                f"{name} requires specifying either an output size, or a pooling ratio"
            )
        if output_size is not None and output_ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def _options(self) -> tuple:
        return (
            self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
            self._random_samples,
        )  # fmt: skip


class FractionalMaxPool2d(_FractionalMaxPool):
    """Max pooling with windows at random steps, for any output size.

    source: Graham 2014, arXiv:1412.6071
    """

    _ndim = 2

    def forward(self, input: Tensor) -> Any:
        return ops.fractional_max_pool2d(input, *self._options())


class FractionalMaxPool3d(_FractionalMaxPool):
    """Max pooling of volumes with windows at random steps, for any output size.

    source: Graham 2014, arXiv:1412.6071
    """

    _ndim = 3

    def forward(self, input: Tensor) -> Any:
        return ops.fractional_max_pool3d(input, *self._options())


class _LPPool(Module):
    __constants__ = ["norm_type", "kernel_size", "stride", "ceil_mode"]

    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode

    def _options(self) -> tuple:
        return float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """The sum of the p-th powers of each window of a sequence, to the power 1 / p."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.lp_pool1d(input, *self._options())


class LPPool2d(_LPPool):
    """The sum of the p-th powers of each window of an image, to the power 1 / p."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.lp_pool2d(input, *self._options())


class LPPool3d(_LPPool):
    """The sum of the p-th powers of each window of a volume, to the power 1 / p."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.lp_pool3d(input, *self._options())


class _AdaptiveMaxPool(Module):
    __constants__ = ["output_size", "return_indices"]

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Max pooling of sequences to a given size."""

    def forward(self, input: Tensor) -> Any:
        return ops.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Max pooling of images to a given size; None keeps a size."""

    def forward(self, input: Tensor) -> Any:
        return ops.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Max pooling of volumes to a given size; None keeps a size."""

    def forward(self, input: Tensor) -> Any:
        return ops.adaptive_max_pool3d(input, self.output_size, self.return_indices)


class _AdaptiveAvgPool(Module):
    __constants__ = ["output_size"]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Average pooling of sequences to a given size."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Average pooling of images to a given size; None keeps a size."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Average pooling of volumes to a given size; None keeps a size."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.adaptive_avg_pool3d(input, self.output_size)
