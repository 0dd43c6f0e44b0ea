"""`amity.compile`: a function whose eager calls are gathered into Programs, and what became of it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from amity.engine.program import paper_of
from amity.engine.segment import Call, Recorder, Segment

SEGMENTS_EXPECTED = 64  # more than that, and something changes at every call

_turn = threading.Lock()  # one thread defers at a time; others run eagerly


class Compiled:
    """A function that runs as Python each time, while its tensors' work runs as few Programs."""

    def __init__(self, function: Callable, fullgraph: bool = False) -> None:
        self.function, self.fullgraph = function, fullgraph
        self.segments: dict[bytes, Segment] = {}
        self.recorder: Recorder | None = None
        self.has_warned = False
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _turn.acquire(False):  # inside another, or while another thread's runs
            return self.function(*args, **kwargs)
        try:
            recorder = self.recorder
            if recorder is None:
                recorder = self.recorder = Recorder(self.segments, self.fullgraph)
            recorder.start()
            try:
                return self.function(*args, **kwargs)
            finally:
                try:
                    recorder.finish()
                finally:
                    recorder.stop()
        finally:
            _turn.release()
            if len(self.segments) > SEGMENTS_EXPECTED and not self.has_warned:
                self._warn()

    def _warn(self) -> None:
        self.has_warned = True
        *others, last = self.segments.values()
        warnings.warn(
            f"compile: got {len(self.segments)} different segments of {self.name}; expected that "
            f"calls are alike. The last one is new because {difference(last.calls, others)}",
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

    def __reduce__(self) -> Any:
        return type(self), (self.function, self.fullgraph)  # a copy has its own Programs to come

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


def difference(calls: list[Call], others: list[Segment]) -> str:
    """Where a segment's calls depart from the most similar one before it."""
    best, at = max(((_common(calls, s.calls), s.calls) for s in others), key=lambda p: p[0])
    if best >= len(calls) or best >= len(at):
        return "other results are still in use at its end, or it ends earlier or later"
    new, old = calls[best].paper, at[best].paper
    if new.graph is old.graph or _text(new) != _text(old):
        return f"it has {_text(new)} where another had {_text(old)}"
    return f"{_text(new)} works on other memory than before (another sharing between tensors)"


def _common(a: list[Call], b: list[Call]) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x.payload is not y.payload or x.takes != y.takes:
            break
        n += 1
    return n


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
    segments = list(function.segments.values())
    lines = [f"{function.name}: {len(segments)} segments"]
    for i, segment in enumerate(segments):
        plan = paper_of(segment.program).plan() if segment.program else None
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
            lines.append(f"  it is new as {difference(segment.calls, segments[:i])}")
    text = "\n".join(lines)
    print(text)
    return text
