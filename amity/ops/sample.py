"""Samples of ops: what their tests call them with, and what must fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Sample:
    """Inputs for one test of an op, values or pairs of a shape and a kind, and attributes.

    Kinds: `f` any numbers, `p` positive ones, `g` beyond 1, `s` in (-1, 1), `u` in (0, 1),
    `i` integers, `b` bools. `through` makes of them what the op is given (a symmetric matrix of
    any); `rough` says why finite differences cannot tell this sample's derivative.
    """

    def __init__(
        self, *inputs: Any, through: Callable | None = None, rough: str = "", **attributes: Any
    ) -> None:
        self.inputs, self.attributes = inputs, attributes
        self.through, self.rough = through, rough


class ErrorSample(Sample):
    """Inputs that must raise `error` with `says` in its message."""

    def __init__(self, *inputs: Any, error: type[Exception], says: str, **attributes: Any) -> None:
        super().__init__(*inputs, **attributes)
        self.error, self.says = error, says


NO_TENSOR = (ErrorSample("x", error=TypeError, says="got str; expected a Tensor"),)
