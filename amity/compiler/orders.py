"""In which order the dimensions of results lie in memory, where a graph is free to choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amity.core.layout import Layout
from amity.ir.graph import Node

PLANNED = ("conv",)  # planners of kernels that serve results with channels side by side


def channels_side_by_side(nodes: Sequence[Node], wanted: set[int]) -> set[int]:
    """Which results (by id) are to have their channels side by side: those of convolutions that only
    other nodes use, where no gradient reads them.

    What elementwise ops make of them lies as they do; other kernels read any strides.
    """
    convolutions = [
        n for n in nodes if n.op is not None and getattr(n.op, "planner", "") in PLANNED
    ]
    if any(n.op.role != "forward" for n in convolutions):
        return set()
    return {id(n) for n in convolutions if id(n) not in wanted}


def keeps_channels(op: Any, x: Layout) -> bool:
    """Whether a kernel's result is to have its channels side by side as what it reads has."""
    return op.planner == "pool" and x.strides[1] == 1 and not x.is_contiguous


def channels_last(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of `[N, C, *spatial]` in the order N, spatial, C."""
    strides, step = [0] * len(shape), 1
    for d in (1, *range(len(shape) - 1, 1, -1), 0):
        strides[d] = step
        step *= max(shape[d], 1)
    return tuple(strides)
