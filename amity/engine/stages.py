"""The stages of a Program, from its graph to machine code, for people: `AMITY_SHOW`, `amity.show`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from amity.compiler import pipeline
from amity.compiler.plan import Launch, Lowered
from amity.core import flags
from amity.ir import text
from amity.ir.graph import Graph, texts
from amity.runtime.plan import Plan

from . import device

NAMES = ("graph", "schedule", "kernel", "code", "time")


class Stage(NamedTuple):
    """A stage: which of NAMES it belongs to, its title, and what it shows."""

    name: str
    title: str
    body: str


def of_graph(graph: Graph) -> str:
    """A graph as lines, with the user's."""
    lines = texts(graph)
    shown = [f"{s} at {n.where.line}" if n.where.line else s for n, s in lines.items()]
    results = ", ".join(lines[n].partition(" ")[0] for n in graph.outputs)
    return "\n".join([*shown, f"return {results}"])


def of_schedule(lowered: Lowered) -> str:
    """The steps of a lowered graph as lines."""
    lines = []
    for step in lowered.steps:
        if isinstance(step, Launch):
            made = ", ".join(f"{n.op.name if n.op else 'input'} in {p}" for n, p in step.makes)
            lines.append(
                f"{step.label} grid={step.grid} grain={step.grain} buffers={list(step.buffers)}"
                + (f" makes {made}" if made else "")
            )
        else:
            lines.append(f"host {step.op.name} {list(step.inputs)} -> {list(step.outputs)}")
    return "\n".join(lines)


def stages(paper: Any, plan: Plan) -> Iterator[Stage]:
    """What becomes of a Program's graph: after each pass that changed it, launches, and of each kernel
    its instructions and its code.
    """
    graph, before = paper.graph, of_graph(paper.graph)
    yield Stage("graph", "graph", before)
    for step, made in pipeline.stages(paper.graph, paper.again.rounds):
        graph, after = made, of_graph(made)
        if after != before:
            yield Stage("graph", f"graph after {step.name}: {step.does}", after)
        before = after
    lowered = paper.lower(graph)
    launches = [s for s in lowered.steps if isinstance(s, Launch) and s.grid]
    title = f"schedule: {len(launches)} launches, {plan.arena} bytes in between"
    yield Stage("schedule", title, of_schedule(lowered))
    kernels = device.kernels()
    for launch in {launch.key: launch for launch in launches}.values():
        name = kernels.find(launch.key, launch.build, launch.label).name
        kernel = launch.build(name, kernels.target, kernels.math)
        yield Stage("kernel", f"kernel {name}", text.text(kernel))
        code = kernels.codegen.print_kernel(kernel, kernels.target)
        assembly = kernels.codegen.assembly(kernel, kernels.target)
        size = f"{_count(code)} lines of LLVM IR, {_count(assembly)} of assembly"
        yield Stage("code", f"code of {name}: {size}", code)


def _count(code: str) -> int:
    return len(code.splitlines())


_told: set[str] = set()  # kernels that were shown


def tell(paper: Any, plan: Plan) -> None:
    """Print the stages of a new Program that AMITY_SHOW names; each kernel once."""
    made = []
    for stage in stages(paper, plan):
        is_kernel = stage.name in ("kernel", "code")
        if stage.name not in flags.show or (is_kernel and stage.title in _told):
            continue
        _told.add(stage.title)
        head = stage.title if is_kernel else f"{paper.name}: {stage.title}"
        made.append(f"-- {head}\n{stage.body}")
    if "time" in flags.show:
        kernels = device.kernels()
        made.append(
            f"-- {paper.name}: {kernels.compiled} kernels so far, compiled in "
            f"{kernels.seconds * 1e3:.0f} ms"
        )
    print("\n".join(made), file=sys.stderr)
