"""Arguments that are one int for all spatial dimensions, or one int each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def expand(value: Any, n: int) -> tuple:
    """`value` as a tuple of `n`; an iterable stays as it is.

    >>> expand(3, 2), expand([1, 2], 2)
    ((3, 3), (1, 2))
    """
    return tuple(value) if isinstance(value, Iterable) else (value,) * n
