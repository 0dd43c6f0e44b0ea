"""What a lowered graph is: values in memory and the launches that fill them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from amity.core.layout import Layout
from amity.ir.graph import Graph, Node


@dataclass
class Place:
    """A value in memory: an argument, or a buffer of its own (`base` is then itself), or a view.

    `base` is the index of the place whose memory it is, `offset` in bytes.
    """

    layout: Layout
    base: int
    offset: int = 0
    argument: int = -1


class Code(NamedTuple):
    """A kernel that `build(name, target, math)` makes if its key is new."""

    key: tuple
    build: Callable[..., Any]
    label: str


@dataclass
class Launch:
    """One kernel over a grid. `build(name, target, math)` makes the kernel if its key is new.

    What a launch that `keeps` writes, its last buffer, is worth keeping while what it reads stays as it
    is. `family` gives the kernels that other sizes of the same layout class would choose; key and `kin`
    together decide which they are. Of a loop nest, `nodes` are all that it computes, and `order` tells
    how it adds up what it reduces: sums of one order are equal bit by bit.
    """

    key: tuple
    build: Callable[..., Any]
    meta: Sequence[int]
    buffers: Sequence[int]  # places
    grid: int
    grain: int
    has_scratch: bool = False
    label: str = ""
    family: Callable[[], Iterable[Code]] | None = None
    kin: tuple = ()
    makes: Sequence[tuple[Node, int]] = ()  # nodes whose values it completes, and their places
    keeps: bool = False
    nodes: Sequence[Node] = ()
    order: tuple = ()


@dataclass
class HostCall:
    """A NumPy function over places, for ops that are not hot."""

    op: Any
    inputs: Sequence[int]
    outputs: Sequence[int]


@dataclass
class Lowered:
    """Places and steps of a `graph`, in order; `outputs` are places.

    `alternatives` lowers the graph as other sizes of the same layout classes would be.
    """

    graph: Graph
    places: list[Place] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)  # Launch, HostCall, or Planned
    outputs: list[int] = field(default_factory=list)
    temporaries: dict[int, int] = field(default_factory=dict)  # place -> bytes, without a layout
    alternatives: Callable[[], Iterable[Lowered]] | None = None

    def family(self) -> Iterable[Code]:
        """All kernels that this graph may need at any size of the same layout classes."""
        others = self.alternatives() if self.alternatives else ()
        for lowered in (self, *others):
            for step in lowered.steps:
                if isinstance(step, Launch):
                    yield Code(step.key, step.build, step.label)
                    yield from step.family() if step.family else ()


GRAIN_WORK = 32768  # elements that are worth another thread
