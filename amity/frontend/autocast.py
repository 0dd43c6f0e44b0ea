"""Mixed precision: regions in which products run in a 16-bit float and losses in float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial, wraps
from typing import Any

import numpy as np

from amity.core.device import KINDS
from amity.core.dtype import DType, as_dtype, bfloat16, float16, float64

from .casting import region, switch
from .tensor import Tensor

LOW = (bfloat16, float16)
AVAILABLE = ("cpu", "cuda")  # the latter is known by name only: regions for it do nothing
_elsewhere: dict[str, DType] = {"cuda": float16}


def _check_type(op: str, device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"{op}: Expected `device_type` of type `str`, got: `{type(device_type)}`")


def _check_available(op: str, device_type: str) -> None:
    if not is_autocast_available(device_type):
        raise RuntimeError(
            f"{op}: User specified an unsupported autocast device_type '{device_type}': expected "
            "'cpu'"
        )


def is_autocast_available(device_type: str) -> bool:
    """Whether regions can be asked for a kind of device.

    errors: RuntimeError for what is no kind of device
    """
    _check_type("is_autocast_available", device_type)
    if device_type not in (*KINDS, *AVAILABLE):
        raise RuntimeError(
            f"is_autocast_available: got {device_type!r}; Expected one of {', '.join(KINDS)} "
            "device type at start of device string"
        )
    return device_type in AVAILABLE


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether this thread is in a region for a kind of device (PyTorch's default is no processor)."""
    _check_available("is_autocast_enabled", device_type)
    return device_type == "cpu" and region.is_on


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Turn a region on or off for good; `with autocast(...)` is the usual way."""
    if enabled is None:
        device_type, enabled = "cuda", device_type
    _check_available("set_autocast_enabled", device_type)
    if device_type == "cpu":
        switch(bool(enabled))


def get_autocast_dtype(device_type: str) -> DType:
    """The dtype to which regions for a kind of device cast."""
    _check_available("get_autocast_dtype", device_type)
    return region.dtype if device_type == "cpu" else _elsewhere[device_type]


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Let regions for a kind of device cast to another dtype."""
    _check_available("set_autocast_dtype", device_type)
    if device_type == "cpu":
        region.dtype = as_dtype("set_autocast_dtype", dtype)
    else:
        _elsewhere[device_type] = as_dtype("set_autocast_dtype", dtype)


def is_autocast_cache_enabled() -> bool:
    """Whether regions keep the casts of parameters."""
    return region.keeps


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Keep the casts of parameters while in a region, or make each anew."""
    region.keeps = bool(enabled)


def clear_autocast_cache() -> None:
    """Drop the casts that are kept."""
    region.kept.clear()


def autocast_increment_nesting() -> int:
    """Enter a region: the number of those around."""
    region.depth += 1
    return region.depth


def autocast_decrement_nesting() -> int:
    """Leave a region: the number of those still around."""
    region.depth -= 1
    return region.depth


class autocast:
    """A region, as a context manager or a decorator, in which ops choose their dtype: products and
    convolutions cast to `dtype` (bfloat16 or float16), losses and what else is delicate to float32.

    Parameters are cast once in a region while `cache_enabled`; their gradients keep their dtype.

    errors: RuntimeError for a device without autocast

    >>> import amity
    >>> with amity.autocast("cpu", dtype=amity.bfloat16):
    ...     y = amity.ones(2, 3) @ amity.ones(3, 2)
    >>> y.dtype
    amity.bfloat16
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        _check_type("autocast", device_type)
        _check_available("autocast", device_type)
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = region.keeps if cache_enabled is None else cache_enabled
        self._enabled = bool(enabled)
        self._before: list[tuple] = []
        if enabled and device_type == "cuda":
            warnings.warn("autocast: CUDA is not available. Disabling autocast.", stacklevel=2)
            self._enabled = False
        elif enabled and self.fast_dtype not in LOW:
            warnings.warn(
                f"autocast: got {self.fast_dtype}: In CPU autocast, but the target dtype is not "
                "supported. Disabling autocast.\nCPU Autocast only supports dtypes of "
                f"{LOW[0]}, {LOW[1]} currently.",
                stacklevel=2,
            )
            self._enabled = False

    def __enter__(self) -> autocast:
        device = self.device
        self._before.append((is_autocast_enabled(device), get_autocast_dtype(device), region.keeps))
        set_autocast_enabled(self.device, self._enabled)
        set_autocast_dtype(self.device, self.fast_dtype)
        region.keeps = self._cache_enabled
        autocast_increment_nesting()
        return self

    def __exit__(self, *exc: object) -> bool:
        if autocast_decrement_nesting() == 0:
            clear_autocast_cache()
        is_on, dtype, region.keeps = self._before.pop()
        set_autocast_enabled(self.device, is_on)
        set_autocast_dtype(self.device, dtype)
        return False

    def __copy__(self) -> autocast:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, _before=[])
        return made

    def __call__(self, func: Callable) -> Callable:
        if not callable(func):
            raise TypeError(
                f"autocast: got {type(func).__name__}: autocast()(func) requires a callable; "
                "expected a function, or `with autocast(...):`"
            )

        @wraps(func)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with copy(self):  # threads may call it at once
                return func(*args, **kwargs)

        return inside


# -- for functions with a derivative of their own


def _cast_all(value: Any, device_type: str, dtype: DType) -> Any:
    """Floating tensors in another dtype, in whatever holds them."""
    if isinstance(value, Tensor):
        is_meant = value.is_floating_point() and value.dtype is not float64
        return value.to(dtype) if is_meant and value.device.type == device_type else value
    if isinstance(value, (str, bytes, np.ndarray)):
        return value
    if isinstance(value, Mapping):
        parts = ((_cast_all(p, device_type, dtype) for p in pair) for pair in value.items())
        return dict(parts)
    if isinstance(value, Iterable):
        cast = (_cast_all(v, device_type, dtype) for v in value)
        return type(value)(cast) if isinstance(value, (list, tuple)) else cast
    return value


def custom_fwd(
    fwd: Callable | None = None, *, device_type: str, cast_inputs: DType | None = None
) -> Callable:
    """Decorates `forward` of a Function: in a region its floating inputs are cast to `cast_inputs` and
    it runs as outside of one; without `cast_inputs` it runs in the region.
    """
    _check_type("custom_fwd", device_type)
    if fwd is None:
        return partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @wraps(fwd)
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._dtype = get_autocast_dtype(device_type)
        is_on = is_autocast_enabled(device_type)
        ctx._fwd_used_autocast = is_on and cast_inputs is None
        if not is_on or cast_inputs is None:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            args = _cast_all(args, device_type, cast_inputs)
            return fwd(ctx, *args, **_cast_all(kwargs, device_type, cast_inputs))

    return forward


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Callable:
    """Decorates `backward` of a Function, so that it runs in a region if `forward` did."""
    _check_type("custom_bwd", device_type)
    if bwd is None:
        return partial(custom_bwd, device_type=device_type)

    @wraps(bwd)
    def backward(ctx: Any, *grads: Any) -> Any:
        with autocast(device_type, enabled=ctx._fwd_used_autocast, dtype=ctx._dtype):
            return bwd(ctx, *grads)

    return backward
