"""Checks of an optimizer's arguments; each raises ValueError."""

from __future__ import annotations

from typing import Any

from amity.core.errors import fail
from amity.frontend.tensor import Tensor


def lr(op: str, value: Any) -> None:
    """errors: ValueError if a learning rate is negative, or a tensor of more than one element."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise fail(ValueError, op, f"lr of {value.numel()} elements", "a float or 1-element tensor")
    not_negative(op, lr=value)


def not_negative(op: str, **options: Any) -> None:
    """errors: ValueError if an option is below zero or NaN."""
    for name, value in options.items():
        if not value >= 0.0:
            raise fail(ValueError, op, f"{name}={value}", f"{name} >= 0")


def betas(op: str, pair: Any) -> None:
    """errors: ValueError if a beta is outside of [0, 1)."""
    for i, beta in enumerate(pair):
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise fail(ValueError, op, f"betas[{i}] of {beta.numel()} elements", "one element")
        if not 0.0 <= beta < 1.0:
            raise fail(ValueError, op, f"betas[{i}]={beta}", "0 <= beta < 1")
