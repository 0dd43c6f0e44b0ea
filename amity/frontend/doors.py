"""Public functions refuse what is no tensor by a TypeError that names the argument."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from .tensor import Tensor

# What PyTorch calls the tensor that a function is of.
FIRST = {(n,) for n in ("input", "input1", "A", "x1", "y", "tensor", "condition", "anchor", "query",
                        "logits", "log_probs", "sorted_sequence")}  # fmt: skip

NUMBERS_TOO = {"bucketize"}  # may be of a number instead


def wrong_type(name: str, argument: str, position: int, given: Any) -> TypeError:
    return TypeError(
        f"{name}(): argument '{argument}' (position {position}) must be Tensor, not "
        f"{type(given).__name__}"
    )


def explained(
    error: AttributeError, name: str, names: Sequence[str], args: Sequence[Any], kwargs: dict
) -> Exception:
    """The error of a function that asked an argument for what only tensors have."""
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    for i, (n, a) in enumerate(given.items(), 1):
        if a is error.obj and not isinstance(a, Tensor):
            return wrong_type(name, n, i, a)
    return error


def is_mixed(args: Sequence[Any]) -> bool:
    """A number with a tensor, as in `pow(2, x)`: what takes no number says so by itself."""
    return isinstance(args[0], (bool, int, float)) and any(isinstance(a, Tensor) for a in args[1:])


def parameters(function: FunctionType) -> tuple[str, ...]:
    code = inspect.unwrap(function).__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def door(function: FunctionType, module: str) -> Callable:
    """A function whose `input` must be a tensor, and any argument that it uses like one."""
    name, names = function.__name__, parameters(function)

    @functools.wraps(function)
    def entered(*args: Any, **kwargs: Any) -> Any:
        if args and not isinstance(args[0], Tensor) and not is_mixed(args):
            raise wrong_type(name, names[0], 1, args[0])
        try:
            return function(*args, **kwargs) if kwargs else function(*args)
        except AttributeError as error:
            raise explained(error, name, names, args, kwargs) from None

    entered.__module__, entered.__qualname__ = module, name
    return entered


def guard(names: dict[str, Any], module: str) -> None:
    """Put a door before each plain function of a tensor in a namespace; primitives and composites
    check by themselves."""
    for name, f in list(names.items()):
        is_plain = type(f) is FunctionType and f.__module__.startswith("amity.")
        is_plain = is_plain and name not in NUMBERS_TOO
        if is_plain and "op" not in f.__dict__ and parameters(f)[:1] in FIRST:
            names[name] = door(f, module)
