"""`amity.compile`: a function whose eager calls are gathered into Programs, and what became of it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from amity.engine.program import paper_of
from amity.engine.segment import Recorder, Segment

SEGMENTS_EXPECTED = 64  # more than that, and something changes at every call

_turn = threading.Lock()  # one thread defers at a time; others run eagerly


class Compiled:
    """A function that runs as Python each time, while its tensors' work runs as few Programs."""

    def __init__(self, function: Callable, fullgraph: bool = False) -> None:
        self.function, self.fullgraph = function, fullgraph
        self.segments: dict[tuple, Segment] = {}
        self.has_warned = False
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _turn.acquire(blocking=False):  # inside another, or while another thread's runs
            return self.function(*args, **kwargs)
        recorder = Recorder(self.segments, self.fullgraph)
        try:
            recorder.start()
            try:
                return self.function(*args, **kwargs)
            finally:
                recorder.finish()
        finally:
            recorder.stop()
            _turn.release()
            if len(self.segments) > SEGMENTS_EXPECTED and not self.has_warned:
                self._warn()

    def _warn(self) -> None:
        self.has_warned = True
        keys = list(self.segments)
        warnings.warn(
            f"compile: got {len(keys)} different segments of {self.name}; expected that calls are "
            f"alike. The last one is new because {difference(keys[-1], keys[:-1])}",
            stacklevel=3,
        )

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __getattr__(self, name: str) -> Any:
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: one set of Programs for all instances."""
        if instance is None:
            return self
        return lambda *args, **kwargs: self(instance, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<compiled {self.function!r}>"


def compile(
    model: Callable | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str | Callable = "inductor",
    mode: str | None = None,
    options: dict | None = None,
    disable: bool = False,
) -> Any:
    """Make a function or module run its tensors' work as whole Programs.

    Python runs at each call, so whatever it does happens each time; kernels wait until a value is
    looked at or the function ends, and then run as one Program, compiled when first met. Sizes are
    arguments of kernels: `dynamic`, like `backend`, `mode` and `options`, chooses nothing here.

    errors: RuntimeError at the line that ends a graph, with `fullgraph`

    >>> import amity
    >>> @amity.compile
    ... def f(x):
    ...     return (x * 2).relu().sum()
    >>> f(amity.tensor([1.0, -1.0]))
    tensor(2.)
    """
    if model is None:
        return lambda function: compile(function, fullgraph=fullgraph, disable=disable)
    if not callable(model):
        raise TypeError(f"compile: got {type(model).__name__}; expected a function or a Module")
    return model if disable else Compiled(model, fullgraph)


def difference(key: tuple, others: list[tuple]) -> str:
    """Where a segment departs from the most similar one before it."""
    best, at = max(((_common(key, k), k) for k in others), key=lambda p: p[0])
    if best >= len(key) or best >= len(at):
        return "other results are still in use at its end, or it ends earlier or later"
    new, old = _call_at(key, best), _call_at(at, best)
    if new.graph is old.graph or _text(new) != _text(old):
        return f"it has {_text(new)} where another had {_text(old)}"
    return f"{_text(new)} works on other memory than before (another sharing between tensors)"


def _common(a: tuple, b: tuple) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x is not y and x != y:
            break
        n += 1
    return n


def _call_at(key: tuple, at: int) -> Any:
    return next(word for word in reversed(key[: at + 1]) if hasattr(word, "graph"))


def _text(paper: Any) -> str:
    ops = [n.op.name for n in paper.graph.nodes() if n.op is not None]
    shapes = ", ".join(
        f"{lay.dtype.name}{list(lay.shape)}"
        for lay, weak in zip(paper.inputs, paper.weak, strict=True)
        if not weak
    )
    return f"{ops[-1] if ops else 'nothing'}({shapes})"


def explain(function: Compiled) -> str:
    """What became of a compiled function so far: its segments, why each ended and is new, calls,
    nodes, kernels, memory and seconds; printed, and returned.

    errors: TypeError for what is not compiled
    """
    if not isinstance(function, Compiled):
        raise TypeError(
            f"explain: got {type(function).__name__}; expected what amity.compile returned"
        )
    keys = list(function.segments)
    lines = [f"{function.name}: {len(keys)} segments"]
    for i, (key, segment) in enumerate(function.segments.items()):
        plan = paper_of(segment.run).plan() if segment.graph.outputs else None
        steps = plan.steps if plan else []
        reads = sum(n.op is None and not n.spec.is_weak for n in segment.graph.nodes())
        nodes = sum(n.op is not None for n in segment.graph.nodes())
        lines += [
            f"segment {i}: used {segment.uses} times, compiled in {segment.seconds * 1e3:.0f} ms; "
            f"it ended as {segment.end}",
            f"  {len(segment.calls)} eager calls became {nodes} nodes in {len(steps)} launches of "
            f"{len({s.kernel for s in steps})} kernels",
            f"  reads {reads} tensors, writes {len(segment.graph.outputs)}, and uses "
            f"{plan.arena if plan else 0} bytes in between",
        ]
        if i:
            lines.append(f"  it is new as {difference(key, keys[:i])}")
    text = "\n".join(lines)
    print(text)
    return text
