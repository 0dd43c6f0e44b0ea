"""Arguments of a Program as they were before it ran, to run it again elsewhere."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import device, program


class Snapshot:
    """Copies of the memory that arguments show; what shares memory shares its copy too."""

    def __init__(self, paper: program.Paper, arrays: Sequence[np.ndarray]) -> None:
        self._layouts, self._numbers = paper.inputs, list(map(bool, paper.weak))
        self._values = [a.item() if w else None for a, w in zip(arrays, self._numbers, strict=True)]
        starts = [a.ctypes.data for a in arrays]
        extents = [m.extent * m.dtype.itemsize for m in paper.inputs]
        self._at: list[tuple[int, int]] = [(0, 0)] * len(arrays)  # block, offset
        self._blocks: list[bytes] = []
        tensors = [i for i, is_number in enumerate(self._numbers) if not is_number]
        parts: list[list[int]] = []  # start and end of each block
        for i in sorted(tensors, key=lambda i: starts[i]):
            start, end = starts[i], starts[i] + extents[i]
            if parts and start < parts[-1][1]:
                parts[-1][1] = max(parts[-1][1], end)
            else:
                parts.append([start, end])
            self._at[i] = len(parts) - 1, start - parts[-1][0]
        self._blocks = [ctypes.string_at(start, end - start) for start, end in parts]

    def arguments(self) -> list[Any]:
        """Tensors and numbers like those that were there, on memory of their own."""
        machine = device.machine()
        storages = []
        for block in self._blocks:
            storages.append(machine.allocate(max(len(block), 1)))
            ctypes.memmove(storages[-1].data, block, len(block))
        out = []
        for value, lay, (block, offset) in zip(self._values, self._layouts, self._at, strict=True):
            if value is None:
                storage = storages[block]
                out.append(device.make(machine.alias(storage, offset) if offset else storage, lay))
            else:
                out.append(value)
        return out
