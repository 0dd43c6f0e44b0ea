"""Why a segment is new: where its calls depart from those of segments before it."""

from __future__ import annotations

from typing import Any

from .segment import Call, Segment


def difference(calls: list[Call], others: list[Segment]) -> str:
    """Where a segment's calls depart from the most similar one before it."""
    best, at = max(((_common(calls, s.calls), s.calls) for s in others), key=lambda p: p[0])
    if best >= len(calls) or best >= len(at):
        return "other results are still in use at its end, or it ends earlier or later"
    new, old = calls[best].paper, at[best].paper
    if new.graph is old.graph or _text(new) != _text(old):
        where = f" ({calls[best].where})" if calls[best].where.line else ""
        return f"it has {_text(new)} where another had {_text(old)}{where}"
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
