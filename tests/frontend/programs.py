"""Programs as a user writes them: each is a function of a library, run in PyTorch and in amity."""

from __future__ import annotations

from typing import Any

import pytest


def programs(*classes: type) -> list[Any]:
    """The functions of some classes, as parameters of a test."""
    found = [(n, f) for c in classes for n, f in vars(c).items() if not n.startswith("_")]
    return [pytest.param(f, id=n) for n, f in found]


def raised(call, *args, **kwargs):
    """The class of what a call raises, by name; None if it does not."""
    try:
        call(*args, **kwargs)
    except (RuntimeError, ValueError, TypeError, AttributeError, BufferError) as error:
        kinds = (
            NotImplementedError,
            RuntimeError,
            ValueError,
            TypeError,
            AttributeError,
            BufferError,
        )
        return next(k.__name__ for k in kinds if isinstance(error, k))
    return None


def leaf(m, *values, dtype=None):
    return m.tensor(list(values), dtype=dtype or m.float64, requires_grad=True)


def twins(m):
    """A function with two results, made with either library."""

    class Twins(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, g, h):
            return g * 2 + h * 3

    return Twins
