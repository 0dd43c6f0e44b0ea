"""Results with names, as `sort` and `max(dim)` give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class ReturnTypes(tuple):
    """A tuple whose parts have names too."""

    _op: str
    _names: tuple[str, ...]

    def __new__(cls, op: str, **parts: Any) -> ReturnTypes:
        self = super().__new__(cls, parts.values())
        self.__dict__.update(parts)
        self._op, self._names = op, tuple(parts)
        return self

    def of(self, parts: Iterable[Any]) -> ReturnTypes:
        """Other parts under the same names."""
        return ReturnTypes(self._op, **dict(zip(self._names, parts, strict=True)))

    def __repr__(self) -> str:
        inner = ",\n".join(f"{n}={v!r}" for n, v in zip(self._names, self, strict=True))
        return f"amity.return_types.{self._op}(\n{inner})"

    def __reduce__(self) -> tuple:
        return (_rebuild, (self._op, dict(zip(self._names, self, strict=True))))


def _rebuild(op: str, parts: dict[str, Any]) -> ReturnTypes:
    return ReturnTypes(op, **parts)
