"""The passes of the compiler, in order: graphs made simpler, then choices of lowering.

`AMITY_PASSES=-fuse,-share` switches passes off; results stay what they were, within rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from amity.core import flags
from amity.ir.graph import Graph

from .again import Round, repeat
from .share import share


@dataclass(frozen=True)
class Pass:
    """A pass over graphs, or, without `run`, a choice that lowering makes where it is on. One that is
    `chosen` takes what was chosen for the graph, and runs if that is anything.
    """

    name: str
    does: str
    run: Callable[..., Graph] | None = None
    is_chosen: bool = False


PASSES = (
    Pass("share", "equal nodes are one", share),
    Pass("recompute", "on request, values that live long are computed again", repeat, True),
    Pass("defer", "updates of arguments come last, together"),
    Pass("outline", "parts that repeat are lowered once"),
    Pass("fuse", "pointwise ops and reductions over one domain become one kernel"),
    Pass("end", "pointwise ops that follow a kernel are done to its sums before they are stored"),
    Pass("order", "results of convolutions have their channels side by side"),
    Pass("split", "a few long rows are reduced in chunks, by more threads"),
    Pass("in_place", "results meant for arguments are written there, and not copied"),
    Pass("keep", "weights laid out for a kernel are kept until they are written"),
    Pass("reuse", "values between kernels whose lives do not meet share memory"),
)
NAMES = tuple(p.name for p in PASSES)
_off: frozenset[str] = frozenset()


def is_on(name: str) -> bool:
    """Whether a pass is to run."""
    return name not in _off


def switched_off() -> frozenset[str]:
    """The names of the passes that do not run."""
    return _off


def parse(words: Collection[str]) -> frozenset[str]:
    """The passes that words such as `-fuse` switch off.

    errors: ValueError for a name that is not in PASSES
    """
    for word in words:
        if word[:1] != "-" or word[1:] not in NAMES:
            known = ", ".join(f"-{n}" for n in NAMES)
            raise ValueError(f"AMITY_PASSES: got {word!r}; expected some of {known}")
    return frozenset(word[1:] for word in words)


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Inside, what is compiled goes without these passes, and no others."""
    global _off
    before, _off = _off, parse([f"-{n}" for n in names])
    try:
        yield
    finally:
        _off = before


def stages(graph: Graph, rounds: Sequence[Round] = ()) -> Iterator[tuple[Pass, Graph]]:
    """The graph after each pass over graphs that is on: the same inputs, the same outputs. `rounds`
    are what is to be computed again.
    """
    for step in PASSES:
        if step.run is None or not is_on(step.name) or (step.is_chosen and not rounds):
            continue
        graph = step.run(graph, rounds) if step.is_chosen else step.run(graph)
        yield step, graph


def run(graph: Graph, rounds: Sequence[Round] = ()) -> Graph:
    """The graph after all passes over graphs that are on."""
    return [graph, *(after for _, after in stages(graph, rounds))][-1]


_off = parse(flags.passes)
