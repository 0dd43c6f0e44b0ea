"""What a lowered graph is: values in memory and the launches that fill them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amity.core.layout import Layout


@dataclass
class Place:
    """A value in memory: an argument, or a buffer of its own (`base` is then itself), or a view.

    `base` is the index of the place whose memory it is, `offset` in bytes.
    """

    layout: Layout
    base: int
    offset: int = 0
    argument: int = -1


@dataclass
class Launch:
    """One kernel over a grid. `build(name, target, math)` makes the kernel if its key is new."""

    key: tuple
    build: Callable[..., Any]
    meta: Sequence[int]
    buffers: Sequence[int]  # places
    grid: int
    grain: int
    has_scratch: bool = False
    label: str = ""


@dataclass
class HostCall:
    """A NumPy function over places, for ops that are not hot."""

    op: Any
    inputs: Sequence[int]
    outputs: Sequence[int]


@dataclass
class Lowered:
    """Places and steps of a graph, in order; `outputs` are places."""

    places: list[Place] = field(default_factory=list)
    steps: list[Launch | HostCall] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    temporaries: dict[int, int] = field(default_factory=dict)  # place -> bytes, without a layout


GRAIN_WORK = 32768  # elements that are worth another thread
