"""One expression in PyTorch and in amity: same result, same gradient, same class of error.

An expression is a line of Python in which every function stands for the library's own and every
letter for an input: `match("cumsum(x, 0)", x="float32[3,4]")`.
"""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

import ml_dtypes
import numpy as np
import torch

import amity

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
DTYPES = ("bool", *INTEGERS, *FLOATS)
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-5, "float64": 1e-9}
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.5,
    float("inf"),
    -float("inf"),
    float("nan"),
    1e-30,
    7e4,
]
BUILTINS = {"inf": float("inf"), "nan": float("nan"), "np": np, "object": object()}
BUILTINS |= {f.__name__: f for f in (slice, tuple, list, len, isinstance, bytearray, type)}
BUILTIN = (
    IndexError,
    ValueError,
    TypeError,
    NotImplementedError,
    RuntimeError,
)  # narrow ones first


def cases(text: str) -> list[str]:
    """The expressions of a block of text: one or more a line, with ` ; ` between them."""
    return [c.strip() for line in text.splitlines() for c in line.split(" ; ") if c.strip()]


def array_of(spec: Any, name: str) -> np.ndarray:
    """`float32[3,4]` as an array of fixed random numbers; `p`, `special` and `unit` after `|` pick others."""
    if not isinstance(spec, str):
        return np.asarray(spec)
    dtype, shape, kind = re.fullmatch(r"(\w+)\[([\d,]*)\](?:\|(\w+))?", spec).groups()
    shape = tuple(int(n) for n in shape.split(",") if n)
    rng = np.random.default_rng(crc32(f"{name}{shape}{kind}".encode()))
    kept = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    if kind == "special":
        with np.errstate(over="ignore"):  # float16 holds the largest of them as inf
            return np.resize(np.array(SPECIAL), shape).astype(kept)
    if dtype == "bool":
        return np.asarray(rng.random(shape) > 0.4)
    if dtype in INTEGERS:
        low, high = (1, 9) if kind == "p" else (0, 9) if dtype == "uint8" else (-9, 9)
        return np.asarray(rng.integers(low, high, shape)).astype(kept)
    values = np.asarray(rng.standard_normal(shape) * 1.5)
    if kind == "p":
        values = np.abs(values) + 0.1
    if kind == "unit":
        values = rng.random(shape) * 1.8 - 0.9
    return np.asarray(values).astype(kept)


def of_torch(array: np.ndarray, grad: bool) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        t = torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    else:
        t = torch.from_numpy(np.array(array))
    return t.requires_grad_() if grad and t.is_floating_point() else t


def of_amity(array: np.ndarray, grad: bool) -> amity.Tensor:
    t = amity.from_numpy(np.array(array))
    return t.requires_grad_() if grad and t.is_floating_point() else t


class Names(dict):
    """The names of an expression: inputs and a few of Python's, else the library's own."""

    def __init__(self, lib: Any, inputs: dict[str, Any]) -> None:
        super().__init__(
            BUILTINS, m=lib, F=torch.nn.functional if lib is torch else amity.ops, **inputs
        )
        self.lib = lib

    def __missing__(self, name: str) -> Any:
        if not hasattr(self.lib, name):
            raise NameError(f"{self.lib.__name__} has no {name!r}")
        return getattr(self.lib, name)


def evaluate(lib: Any, text: Any, inputs: dict[str, Any]) -> Any:
    if callable(text):  # a function of the library and the inputs
        return text(lib, **inputs)
    return eval(text, {}, Names(lib, inputs))


def leaves(value: Any) -> list[Any]:
    """The tensors and numbers of a nested result."""
    if isinstance(value, (tuple, list)):
        return [x for v in value for x in leaves(v)]
    return [value]


def is_tensor(x: Any) -> bool:
    return isinstance(x, (torch.Tensor, amity.Tensor))


def to_array(x: Any) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().clone()
        return x.to(torch.float32).numpy() if x.dtype is torch.bfloat16 else x.numpy()
    if isinstance(x, amity.Tensor):
        array = x.detach().numpy()
        return array.astype(np.float32) if x.dtype is amity.bfloat16 else array
    return np.asarray(x)


def same(got: Any, expected: Any, text: str, tolerance: float | None = None) -> None:
    """The same dtypes, shapes and, within rounding, values."""
    a, b = leaves(got), leaves(expected)
    assert len(a) == len(b), f"{text}: got {len(a)} results; expected {len(b)}"
    for x, y in zip(a, b, strict=True):
        assert is_tensor(x) == is_tensor(y), f"{text}: got {x!r}; expected {y!r}"
        if not is_tensor(y):
            if isinstance(y, torch.dtype):
                assert str(x).split(".")[-1] == str(y).split(".")[-1], (
                    f"{text}: got {x}; expected {y}"
                )
            elif isinstance(y, float):
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6, err_msg=text)
            else:
                assert x == y, f"{text}: got {x!r}; expected {y!r}"
            continue
        name = str(y.dtype).split(".")[-1]
        assert x.dtype.name == name, f"{text}: got dtype {x.dtype.name}; expected {name}"
        assert tuple(x.shape) == tuple(y.shape), (
            f"{text}: got shape {tuple(x.shape)}; expected {tuple(y.shape)}"
        )
        t = TOLERANCE.get(name, 0) if tolerance is None else tolerance
        np.testing.assert_allclose(
            to_array(x).astype(np.float64),
            to_array(y).astype(np.float64),
            rtol=t,
            atol=t,
            err_msg=text,
        )


def gradients(lib: Any, value: Any, inputs: dict[str, Any], order: int) -> list[Any]:
    """The gradients of a fixed combination of the results, and of those gradients again."""
    outs = [v for v in leaves(value) if is_tensor(v) and v.requires_grad]
    ins = [t for t in inputs.values() if is_tensor(t) and t.requires_grad]
    found: list[Any] = []
    for _ in range(order):
        if not outs:
            found += [None] * len(ins)
            continue
        total = None
        for i, v in enumerate(outs):
            weight = np.random.default_rng(i).standard_normal(tuple(v.shape)) + 1.5
            w = (
                torch.from_numpy(np.asarray(weight))
                if lib is torch
                else amity.tensor(np.asarray(weight))
            )
            term = (v * w.to(v.dtype)).sum()
            total = term if total is None else total + term.to(total.dtype)
        got = (torch.autograd if lib is torch else amity).grad(
            total, ins, create_graph=True, allow_unused=True
        )
        found += [g.detach() if g is not None else None for g in got]
        outs = [g for g in got if g is not None and g.requires_grad]
    return found


def outcome(
    lib: Any, text: str, arrays: dict[str, np.ndarray], order: int
) -> tuple[Any, list, Exception | None]:
    make = of_torch if lib is torch else of_amity
    inputs = {n: make(a, order > 0) for n, a in arrays.items()}
    try:
        value = evaluate(lib, text, inputs)
        return value, gradients(lib, value, inputs, order) if order else [], None
    except BUILTIN as error:
        return None, [], error


def builtin_class(error: Exception) -> type[Exception]:
    return next(c for c in BUILTIN if isinstance(error, c))


def match(text: Any, order: int = 0, tolerance: float | None = None, **specs: Any) -> None:
    """Both libraries agree on an expression and on its gradients up to `order`."""
    arrays = {n: array_of(s, n) for n, s in specs.items()}
    expected, slopes, raised = outcome(torch, text, arrays, order)
    got, found, error = outcome(amity, text, arrays, order)
    if raised is not None:
        assert error is not None, f"{text}: got {got!r}; expected {type(raised).__name__}: {raised}"
        wanted = builtin_class(raised)
        assert isinstance(error, wanted), (
            f"{text}: got {type(error).__name__}: {error}; expected {wanted.__name__}: {raised}"
        )
        return
    if error is not None:
        raise AssertionError(
            f"{text}: got {type(error).__name__}: {error}; expected {expected!r}"
        ) from error
    same(got, expected, text, tolerance)
    assert len(found) == len(slopes), f"{text}: got {len(found)} gradients; expected {len(slopes)}"
    for g, s in zip(found, slopes, strict=True):
        zero = s is None or not to_array(s).any()
        if g is None or s is None:
            other = s if g is None else g
            assert other is None or not to_array(other).any() or zero, (
                f"{text}: got gradient {g!r}; expected {s!r}"
            )
            continue
        same(g, s, f"gradient of {text}", tolerance)


def match_dtype(text: str, **specs: Any) -> None:
    """The same dtype of a result without data, where amity takes the inputs' dtype at all: on such
    tensors PyTorch does not ask."""
    given = {n: array_of(s, n) for n, s in specs.items()}
    try:
        got = evaluate(amity, text, {n: of_amity(a, False).to("meta") for n, a in given.items()})
    except RuntimeError:
        return
    expected = evaluate(torch, text, {n: of_torch(a, False).to("meta") for n, a in given.items()})
    assert got.dtype.name == str(expected.dtype).split(".")[-1], f"{text}: got {got.dtype}"
