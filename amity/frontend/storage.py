"""A tensor's whole block of memory, as bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

from amity.core.device import CPU, Device

from .tensor import Tensor


class UntypedStorage:
    """The bytes that a tensor and its views share; blocks may be a little longer than was asked for.

    >>> import amity
    >>> x = amity.zeros(2, 3)
    >>> x[1].untyped_storage() == x.untyped_storage()
    True
    """

    def __init__(self, root: Any) -> None:
        self._root = root

    @property
    def device(self) -> Device:
        return CPU

    def data_ptr(self) -> int:
        return self._root.data

    def nbytes(self) -> int:
        return self._root.nbytes

    size = __len__ = nbytes

    def element_size(self) -> int:
        return 1

    def __getitem__(self, i: int) -> int:
        return self._bytes()[i]

    def __iter__(self) -> Iterator[int]:
        return iter(self._bytes())

    def tolist(self) -> list[int]:
        return list(self._bytes())

    def _bytes(self) -> bytes:
        return ctypes.string_at(self._root.data, self._root.nbytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other._root is self._root

    def __hash__(self) -> int:
        return id(self._root)


def untyped_storage(self: Tensor) -> UntypedStorage:
    """The block of memory that this tensor shows all or a part of."""
    return UntypedStorage(self._memory("untyped_storage").root)


Tensor.untyped_storage = untyped_storage
