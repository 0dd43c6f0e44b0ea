"""`amity.explain`: what became of a compiled function, for people."""

from __future__ import annotations

from amity.engine.difference import difference
from amity.engine.program import paper_of

from .compiled import Compiled


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
