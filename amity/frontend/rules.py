"""Derivatives of ops on the tape: a record's rule as one fused Program per layout of its inputs."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from amity.core.layout import Layout, layout
from amity.engine import program
from amity.ir.graph import Graph, Node, Spec
from amity.ops.record import Op, Pointwise, weak_spec

from .grad_mode import no_grad
from .tape import EDGES, FREED, LAYOUTS, OUTPUT, SAVED, VERSIONS, WHERE, Rule, modes, next_seq
from .tensor import Tensor
from .trace import Symbol, input_node, traced

PLANS_KEPT = 20_000
INPUT, RESULT, NUMBER, UNUSED = range(4)
_rules: dict[Op, OpRule] = {}


def rule_of(op: Op) -> OpRule | None:
    """The rule of an op; None if it has no derivative."""
    if op.grad is None:
        return None
    found = _rules.get(op)
    if found is None:
        found = _rules[op] = OpRule(op)
    return found


class OpRule(Rule):
    """A primitive's derivative."""

    def __init__(self, op: Op) -> None:
        self.op, self.name = op, op.name
        self.plans: dict[tuple, Callable] = {}
        self._picks: dict[int, list[tuple[int, int]]] = {}
        self.is_fused = op.fuses_grad

    def uses(
        self, edges: tuple, values: Sequence[Any], outs: Sequence[Tensor]
    ) -> tuple[bool, ...] | None:
        """Which saved values the wanted gradients need: found by tracing the rule once."""
        if not self.is_fused or not self.op.saved:
            return None
        needs = tuple(e is not None for e in edges)
        specs = [spec(v.layout) if isinstance(v, Tensor) else weak_spec(v) for v in values]
        saved: list[Spec] = []
        for how, which in self.op.saved:
            saved += {
                "input": specs[which : which + 1],
                "inputs": specs[which:],
                "result": [spec(outs[0].layout)],
            }.get(how, [])
        nodes = [Node(None, (), x) for x in (spec(outs[0].layout), *saved)]
        marks = [traced(n) for n in nodes]
        lays = tuple(
            layout(s.dtype, s.shape) if not s.is_weak else type(v)
            for s, v in zip(specs, values, strict=True)
        )
        with no_grad():
            out = self.run(marks[:1], marks[1:], lays, needs)
        wanted = [x.layout.node for x, n in zip(out, needs, strict=True) if n and x is not None]
        reached = {id(n) for n in Graph(nodes, wanted).nodes()}
        return tuple(id(n) in reached for n in nodes[1:])

    def picks(
        self, edges: tuple, values: Sequence[Any], outs: Sequence[Tensor]
    ) -> list[tuple[int, int]]:
        """What `record` keeps, as (kind, index), for this pattern of wanted gradients and numbers."""
        out: list[tuple[int, int]] = []
        for how, which in self.op.saved:
            if how in ("input", "inputs"):
                for i in range(which, len(values)) if how == "inputs" else (which,):
                    out.append((INPUT if isinstance(values[i], Tensor) else NUMBER, i))
            elif how == "result":
                out.append((RESULT, which))
        uses = self.uses(edges, values, outs)
        if uses is not None:
            out = [p if used else (UNUSED, 0) for p, used in zip(out, uses, strict=True)]
        return out

    def record(
        self, outs: Sequence[Tensor], values: Sequence[Any], edges: tuple, layouts: tuple
    ) -> None:
        pattern = 1
        for e, v in zip(edges, values, strict=True):
            pattern = pattern * 3 + (2 if e is not None else 1 if isinstance(v, Tensor) else 0)
        picks = self._picks.get(pattern)
        if picks is None:
            picks = self._picks[pattern] = self.picks(edges, values, outs)
        saved: list[Any] = []
        versions: list[int] = []
        for kind, which in picks:
            if kind == INPUT:
                kept = values[which]
            elif kind == RESULT:
                kept = outs[which]
                if type(kept.layout) is not Symbol:  # without its tape, which leads back here
                    kept = Tensor._of(kept.storage, kept.layout)
            else:
                kept = values[which] if kind == NUMBER else None
                saved.append(kept)
                versions.append(0)
                continue
            saved.append(kept)
            versions.append(0 if kept.storage is None else kept.storage.version)
        attach([next_seq(), self, edges, tuple(saved), tuple(versions), layouts, None, None], outs)

    def apply(self, node: list, g: Any) -> Sequence[Any]:
        saved = unpack(node)
        edges = node[EDGES]
        needs = tuple([e is not None for e in edges]) if None in edges else (True,) * len(edges)
        if self.is_fused and not modes.grad and type(g.layout) is not Symbol:
            return self._run_fused(g, saved, node[LAYOUTS], needs)
        gs = g if self.op.results > 1 else (g,)
        if not any(g is not None and type(g.layout) is Symbol for g in gs):
            if modes.grad:
                saved = self._taped(node, saved)
        return self.run(gs, saved, node[LAYOUTS], needs)

    def _taped(self, node: list, saved: Sequence[Any]) -> Sequence[Any]:
        """Saved results tied to their node again, so that a gradient can flow through them."""
        kept: list[tuple[str, int | str]] = []
        for how, which in self.op.saved:
            if how not in ("layout", "layouts", "needs"):
                count = len(node[LAYOUTS]) - which if how == "inputs" else 1
                kept += [(how, which)] * count
        out = []
        for (how, which), s in zip(kept, saved, strict=True):
            if how == "result" and s is not None and s.layout.dtype.kind == "f":
                s = Tensor._of(s.storage, s.layout)
                s.tape = (
                    node if self.op.results == 1 else output_of(node, which, s, self.op.results)
                )
            out.append(s)
        return out

    def run(
        self, gs: Sequence[Any], saved: Sequence[Any], layouts: tuple, needs: tuple
    ) -> Sequence[Any]:
        """The rule, op by op: in a trace, for gradients of gradients, and for what does not fuse."""
        # a value that was not kept is not needed for the wanted gradients: anything stands for it
        it = iter([gs[0] if s is None else s for s in saved] if self.is_fused else saved)
        args: list[Any] = []
        for how, which in self.op.saved:
            if how == "layout":
                args.append(layouts[which] if which < len(layouts) else None)  # an absent input
            elif how == "layouts":
                args += layouts
            elif how == "needs":
                args.append(needs)
            elif how == "inputs":
                args += [next(it) for _ in layouts[which:]]
            else:
                args.append(next(it))
        out = self.op.grad(gs[0] if self.op.results == 1 else tuple(gs), *args)
        out = out if isinstance(out, tuple) else (out,)
        if not isinstance(self.op, Pointwise):
            return out
        return tuple(
            fit(x, lay) if need and x is not None else None
            for x, lay, need in zip(out, layouts, needs, strict=True)
        )

    def _run_fused(
        self, g: Tensor, saved: Sequence[Any], layouts: tuple, needs: tuple
    ) -> Sequence[Any]:
        key = (g.layout, layouts, needs)
        plan = self.plans.get(key)
        if plan is None:
            plan = self._build(key, g, saved, layouts, needs)
        out = plan(g, *[s for s in saved if s is not None])
        if type(out) is not tuple:
            out = (out,)
        if len(out) == len(needs):
            return out
        it = iter(out)
        return tuple(next(it) if n else None for n in needs)

    def _build(
        self, key: tuple, g: Tensor, saved: Sequence[Any], layouts: tuple, needs: tuple
    ) -> Callable:
        arguments = [g, *(s for s in saved if s is not None)]
        nodes = [
            input_node(a.layout.dtype, a.layout.shape)
            if isinstance(a, Tensor)
            else Node(None, (), weak_spec(a))
            for a in arguments
        ]
        marks = [traced(n) for n in nodes]
        rest = iter(marks[1:])
        kept = [next(rest) if s is not None else marks[0] for s in saved]
        out = self.run(marks[:1], kept, layouts, needs)
        wanted = [x.layout.node for x, n in zip(out, needs, strict=True) if n]
        lays = [a.layout if isinstance(a, Tensor) else _weak_layout(a) for a in arguments]
        plan = program.build(Graph(nodes, wanted), lays)
        if len(self.plans) > PLANS_KEPT:
            self.plans.clear()
        self.plans[key] = plan
        return plan


def _weak_layout(number: Any) -> Layout:
    return layout(weak_spec(number).dtype, ())


def forward_trace() -> str:
    """Where the user's code is now, for anomaly mode: amity's own frames left out."""
    frames = [f for f in traceback.extract_stack() if f"{os.sep}amity{os.sep}" not in f.filename]
    return "".join(traceback.format_list(frames))


def version_of(value: Any) -> int:
    return value.storage.version if isinstance(value, Tensor) and value.storage is not None else 0


def attach(node: list, outs: Sequence[Tensor]) -> None:
    """Let results point to their node, each of several through its own Output."""
    if modes.anomaly:
        node[WHERE] = forward_trace()
    if len(outs) == 1:
        outs[0].tape = node
        return
    for i, t in enumerate(outs):
        if t.layout.dtype.kind == "f":
            t.tape = output_of(node, i, t, len(outs))


def output_of(node: list, i: int, t: Tensor, count: int) -> list:
    """The tape of one of several results."""
    return [next_seq(), OUTPUT, (node,), i, None, (count, t.layout), None, None]


def unpack(node: list) -> Sequence[Any]:
    """The saved values, if they are still what they were."""
    saved = node[SAVED]
    if saved is FREED:
        raise RuntimeError(
            "Trying to backward through the graph a second time (or directly access saved "
            "tensors after "
            "they have already been freed). Saved intermediate values of the graph are freed "
            "when you call "
            ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward "
            "through the "
            "graph a second time or if you need to access saved tensors after calling backward."
        )
    for s, version in zip(saved, node[VERSIONS], strict=True):
        if isinstance(s, Tensor) and s.storage is not None and s.storage.version != version:
            raise RuntimeError(
                f"{node[1].name}: one of the variables needed for gradient computation has been "
                "modified by an "
                f"inplace operation: [{s.layout.dtype.name} {list(s.layout.shape)}] is at "
                f"version {version_of(s)}; "
                f"expected version {version} instead"
            )
    return saved


def fit(g: Any, lay: Any) -> Any:
    """A gradient summed over broadcast dimensions and cast to what its input was."""
    if isinstance(lay, type):
        return None
    if g.layout.shape != lay.shape:
        g = g.sum_to_size(lay.shape)
    return g if g.layout.dtype is lay.dtype else g.to(lay.dtype)


def spec(lay: Any) -> Spec:
    return Spec(tuple(lay.shape), lay.dtype)
