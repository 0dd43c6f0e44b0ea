"""A tour of one function, from what the user writes to machine code: `python docs/tour.py`.

Read it beside the files it names; after frontend/bind.py it is the best place to begin.
"""

from __future__ import annotations

import time

import numpy as np

import amity
from amity.compiler.lower import lower
from amity.compiler.plan import Launch
from amity.engine import device, stages
from amity.engine.program import paper_of
from amity.frontend.fused import Entry
from amity.ir.graph import text
from amity.ops.activation import _softmax


def show(title: str, body: str, lines: int = 40) -> None:
    """A stage: its name, then at most so many lines of it."""
    rows = body.splitlines()
    print(f"\n== {title}")
    print(
        "\n".join(rows[:lines])
        + (f"\n… {len(rows) - lines} lines more" if len(rows) > lines else "")
    )


def main() -> None:
    x = amity.randn(4, 1000, requires_grad=True)

    # 1. What the user writes. ops/activation.py defines softmax as a plain function over ops.
    start = time.perf_counter()
    y = amity.ops.softmax(x, dim=-1)
    first = time.perf_counter() - start
    show("1. eager: the op runs when it is called", repr(y))

    # 2. frontend/fused.py ran that function once on traced tensors: its graph (ir/graph.py).
    entry = Entry(_softmax, (x.detach(), 1), {})
    show("2. the graph of softmax", text(entry.graph))

    # 3. compiler/lower.py: one loop nest for all of it, of two reductions and a result.
    kernels = device.kernels()
    lowered = lower(entry.graph, [x.layout], kernels.target, 1)
    show("3. lowered: launches over places in memory", stages.of_schedule(lowered))
    launch = next(s for s in lowered.steps if isinstance(s, Launch))
    show("   the nest's structure: no size is part of it", "\n".join(map(str, launch.key[5])))
    show("   the numbers of this call", str(list(launch.meta)))

    # 4. compiler/schedule.py writes structured kernel instructions, codegen prints them for LLVM.
    kernel = launch.build("softmax_row", kernels.target, kernels.math)
    code = kernels.codegen.print_kernel(kernel, kernels.target)
    show("4. the kernel as LLVM IR", code, 30)
    show("   and as machine code", kernels.codegen.assembly(kernel, kernels.target), 20)

    # 5. engine/program.py joined the launches into one native call; the next call only makes it.
    start = time.perf_counter()
    for _ in range(1000):
        amity.ops.softmax(x, dim=-1)
    again = (time.perf_counter() - start) / 1000
    show("5. time", f"first call {first * 1e3:.2f} ms, then {again * 1e6:.2f} us a call")

    # 6. The tape kept the result alone; its rule is one fused Program too (frontend/fused.py).
    y.sum().backward()
    show(
        "6. backward: the gradient of a softmax's sum is 0",
        f"largest |grad| {np.abs(x.grad.numpy()).max():.2e}",
    )
    show("   the derivative's graph", text(entry.rule((True,)).graph))

    # 7. The oracle: NumPy's meaning of every op in the same graph.
    z = x.detach().numpy().astype(np.float64)
    e = np.exp(z - z.max(1, keepdims=True))
    error = np.abs(y.detach().numpy() - e / e.sum(1, keepdims=True)).max()
    show("7. against NumPy in double precision", f"largest difference {error:.2e}")
    compiled()


def compiled() -> None:
    """The same for a compiled training step: eager calls are noted, and one Program does them all."""
    w = amity.randn(8, 4, requires_grad=True)

    @amity.compile
    def step(x: amity.Tensor) -> amity.Tensor:
        w.grad = None
        loss = (x @ w).softmax(-1).square().sum()
        loss.backward()
        with amity.no_grad():
            w.sub_(0.1 * w.grad)
        return loss

    # 8. frontend/compiled.py ran it as Python; runtime/cpu/note_code.py noted calls instead of
    # kernels, and engine/noted.py made one graph of the notes. Each node knows the user's line.
    x = amity.randn(16, 8)
    step(x), step(x)
    segment = [*step.segments.values()][-1]
    show("8. a compiled step: what was noted, as one graph", stages.of_graph(segment.graph), 60)

    # 9. compiler/pipeline.py names the passes; then it is lowered like any other graph.
    assert segment.program is not None
    paper = paper_of(segment.program)
    for stage in stages.stages(paper, paper.plan()):
        if stage.name == "graph" and "after" in stage.title or stage.name == "schedule":
            show(f"9. {stage.title}", stage.body)

    # 10. What became of it; `amity.show(step, x)` prints all stages and the time of each kernel.
    print("\n== 10. amity.explain")
    amity.explain(step)

    # 11. Every launch looked at: `AMITY_CHECK=bounds,nan,reference` does the same for a whole program.
    with amity.checking("bounds", "nan", "reference"):
        loss = step(x)
    show("11. checked launch by launch against NumPy", f"loss {loss.item():.4f}: nothing found")


if __name__ == "__main__":
    main()
