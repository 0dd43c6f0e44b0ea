"""What functions say of arguments that they do not take, and NumPy's names for those that they do."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from amity.core.dtype import fitting

NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def numpy_names(function: Callable) -> Callable:
    """Let a function take NumPy's names of its arguments too."""

    @wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            return function(*args)
        for name in NUMPY_NAMES.keys() & kwargs.keys():
            kwargs[NUMPY_NAMES[name]] = kwargs.pop(name)
        return function(*args, **kwargs)

    return renamed


def check_tensor(op: str, value: Any, name: str = "input") -> None:
    """errors: TypeError for what is no tensor."""
    if not hasattr(value, "layout"):
        raise TypeError(f"{op}(): argument '{name}' must be Tensor, not {type(value).__name__}")


def check_same_out(op: str, dtype: Any, out: Any) -> None:
    """errors: RuntimeError for a result that would have to be cast."""
    if out is not None and out.dtype is not dtype:
        raise RuntimeError(
            f"{op}: got out of {out.dtype}; Expected out tensor to have dtype {dtype}"
        )


def check_flag(op: str, name: str, value: Any) -> None:
    """errors: TypeError for what is neither True nor False, as a second dimension is."""
    if value is not True and value is not False:
        raise TypeError(
            f"{op}(): argument '{name}' must be bool, not {type(value).__name__}: got {value!r}"
        )


def check_one_dim(op: str, dim: Any) -> None:
    """errors: TypeError for several dimensions where one is taken."""
    if dim is not None and not hasattr(dim, "__index__"):
        raise TypeError(
            f"{op}(): argument 'dim' (position 2) must be int, not {type(dim).__name__}: got {dim!r}"
        )


def fit_number(op: str, number: Any, like: Any) -> Any:
    """A number that is to become an element of an integer tensor.

    errors: RuntimeError if the tensor's dtype cannot hold it
    """
    if type(number) is int and hasattr(like, "layout") and like.dtype.kind in "iu":
        fitting(op, number, like.dtype)
    return number


def deliver(result: Any, out: Any) -> Any:
    """A result, or several, written into what is given for them."""
    if out is None:
        return result
    if not isinstance(result, tuple):
        if not hasattr(out, "_receive"):
            raise TypeError(f"out=: got {type(out).__name__}; expected a Tensor")
        return out._receive(result)
    if len(out) != len(result):
        raise TypeError(f"out=: got {len(out)} tensors; expected {len(result)}")
    for o, r in zip(out, result, strict=True):
        if r.dtype.kind == "i" and o.dtype is not r.dtype:
            raise RuntimeError(
                f"out=: got {o.dtype} for indices; Expected out tensor to have dtype {r.dtype}"
            )
    received = [o._receive(r) for o, r in zip(out, result, strict=True)]
    return result.of(received) if hasattr(result, "of") else tuple(received)
