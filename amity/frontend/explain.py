"""`amity.explain`: what became of a compiled function, for people."""

from __future__ import annotations

from collections.abc import Iterator

from amity.compiler import pipeline
from amity.compiler.again import NOTHING, Again
from amity.engine.difference import difference
from amity.engine.numbers import Frame
from amity.engine.program import paper_of
from amity.engine.segment import Segment
from amity.ir.graph import Graph

from .compiled import Compiled
from .statics import Statics


def static_lines(statics: Statics) -> list[str]:
    """Which calls skip Python, and why others do not."""
    if statics.is_wanted is False and not statics.found:
        return [f"Python runs at each call, as {statics.reason}"]
    lines = []
    for static in statics.found:
        guards = f"{len(static.facts) // 2} words of memory, and the layouts of {len(static.recipe.given)} arguments"
        lines.append(f"static: Python was skipped {static.uses} times; guarded by {guards}")
        parts = static.recipe.parts
        reads = [glance for part in parts for glance in part.glances]
        truths = sum(glance.expected is not None for glance in reads)
        if len(reads) > truths:
            lines.append(
                f"  {len(reads) - truths} values that Python only returns are read after "
                f"{len(parts)} segments"
            )
        if truths:
            lines.append(f"  {truths} truths must be as they were, or Python runs")
    lines += [f"a static call was given up, as {end}" for end in statics.ends]
    if not statics.found:
        lines.append(f"Python runs at each call, as {statics.reason}")
    return lines


def explain(function: Compiled) -> str:
    """What became of a compiled function so far: its segments, why and where each ended, why it is
    new and what that cost, calls, nodes, kernels and memory; printed, and returned.

    errors: TypeError for what is not compiled
    """
    if not isinstance(function, Compiled):
        raise TypeError(
            f"explain: got {type(function).__name__}; expected what amity.compile returned"
        )
    segments = list(function.segments.values())
    lines = [
        f"{function.name}: {_count(len(segments), 'segment')}",
        *static_lines(function.statics),
    ]
    if function.crowded:
        lines.append(
            f"  {_count(function.crowded, 'call')} ran eagerly, in the time of another thread's call of a "
            "compiled function was noted"
        )
    told = set()  # Programs for many sizes
    for i, segment in enumerate(segments):
        if segment.form is not None and id(segment.form) in told:
            continue
        told.add(id(segment.form))
        lines += _of_segment(i, segment, segments)
        if i:
            lines.append(f"  it is new as {difference(segment.calls, segments[:i])}")
    text = "\n".join(lines)
    print(text)
    return text


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _of_segment(i: int, segment: Segment, segments: list[Segment]) -> Iterator[str]:
    yield f"segment {i}: used {_count(segment.uses, 'time')}; it ended as {segment.end}"
    first, last = (segment.calls[k].where.line for k in (0, -1))
    if first and last:
        yield f"  from {first} to {last}"
    yield from _of_sizes(segment, segments)
    paper = paper_of(segment.program) if segment.program else None
    plan, again = (paper.plan(), paper.again) if paper else (None, NOTHING)
    steps, arena = (plan.steps, plan.arena) if plan else ([], 0)
    yield (
        f"  {_count(len(segment.calls), 'eager call')} became {_count(_size(segment.graph), 'node')}, "
        f"{_size(pipeline.run(segment.graph, again.rounds))} after passes, in {len(steps)} launches of "
        f"{_count(len({s.kernel for s in steps}), 'kernel')}"
    )
    reads = sum(n.op is None and not n.spec.is_weak for n in segment.graph.nodes())
    yield (
        f"  it reads {_count(reads, 'tensor')}, writes {len(segment.graph.outputs)}, and uses {arena} bytes in "
        f"between{_of_again(again)}"
    )
    new = (
        f"{segment.kernel_seconds * 1e3:.0f} of them to compile {_count(segment.kernels, 'kernel')}"
    )
    known = "all its kernels were there"
    yield f"  it cost {segment.seconds * 1e3:.0f} ms; {new if segment.kernels else known}"


def _of_again(again: Again) -> str:
    """What is computed again, and what that saves, if it was chosen at these sizes."""
    saved = f", {again.saved} fewer" if again.saved else ""
    return f"{saved}, as {again.count} values are computed again" if again.count else ""


def _of_sizes(segment: Segment, segments: list[Segment]) -> Iterator[str]:
    """Which sizes its Program is for, or why it is for these alone."""
    if segment.form is not None:
        which = 1 + segment.family.forms.index(segment.form)
        sizes = segment.form.sizes(Frame(segment.noted))
        yield f"  at {sizes} of Program {which} for many sizes: {segment.form.about}"
        like = [s for s in segments if s.form is segment.form and s is not segment]
        if like:
            uses, seconds = sum(s.uses for s in like), sum(s.seconds for s in like)
            yield (
                f"  so {'is' if len(like) == 1 else 'are'} {_count(len(like), 'other segment')} at other sizes, used "
                f"{_count(uses, 'time')} in all, which cost {seconds * 1e3:.0f} ms"
            )
    elif segment.family is not None and segment.family.refusals:
        yield f"  its sizes stay as they are: {segment.family.refusals[-1]}"


def _size(graph: Graph) -> int:
    """How many nodes do something."""
    return sum(n.op is not None for n in graph.nodes())
