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

from .batched import Batched, held
from .grad_mode import no_grad
from .inlined import INPUT, NUMBER, RESULT, UNUSED, derivative_call
from .tape import FREED, LAYOUTS, OUTPUT, SAVED, VERSIONS, WHERE, Rule, modes, next_seq
from .tensor import Tensor
from .trace import Symbol, input_node, traced

PLANS_KEPT = 20_000
Needs = tuple[bool | None, ...]
_rules: dict[tuple[Op, Needs], OpRule | None] = {}


def rule_of(op: Op, needs: Needs) -> OpRule | None:
    """The rule of an op for arguments of which each wants a gradient, wants none, or (None) is a
    number; None if the op has no derivative.
    """
    try:
        return _rules[op, needs]
    except KeyError:
        rule = _rules[op, needs] = OpRule(op, needs) if op.grad is not None else None
        return rule


class OpRule(Rule):
    """A primitive's derivative with respect to some of its arguments."""

    def __init__(self, op: Op, needs: Needs) -> None:
        self.op, self.name = op, op.name
        self.pattern = needs
        self.needs = tuple(bool(n) for n in needs)
        self.plans: dict[tuple, Callable] = {}
        self.is_fused = op.fuses_grad
        self.is_fresh = None  # no plan yet
        self.picks: list[tuple[int, int]] | None = None
        if all(self.needs):
            self._pick(self._named())

    def _named(self) -> list[tuple[int, int]]:
        """All that the rule names, as (kind, index)."""
        out: list[tuple[int, int]] = []
        for how, which in self.op.saved:
            if how in ("input", "inputs"):
                last = len(self.pattern) if how == "inputs" else which + 1
                out += [
                    (NUMBER if self.pattern[i] is None else INPUT, i) for i in range(which, last)
                ]
            elif how == "result":
                out.append((RESULT, which))
        return out

    def _pick(self, picks: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Settle what `record` keeps, and with it how `apply` reads it."""
        self.picks = picks
        if self.is_fused and self.op.results == 1:
            kinds = [kind for kind, _ in picks]
            takes = ["g", *(f"s{i}" for i, kind in enumerate(kinds) if kind != UNUSED)]
            self.apply = derivative_call(self.plans, kinds, takes, self.needs, self._apply)
        return picks

    def _used(
        self, values: Sequence[Any], outs: Sequence[Tensor], named: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Of what the rule names, what the wanted gradients need: found by tracing the rule once."""
        if not self.is_fused or not named:
            return named
        specs = [spec(v.layout) if isinstance(v, Tensor) else weak_spec(v) for v in values]
        saved = [spec(outs[0].layout) if kind == RESULT else specs[i] for kind, i in named]
        nodes = [Node(None, (), x) for x in (spec(outs[0].layout), *saved)]
        marks = [traced(n) for n in nodes]
        lays = tuple(
            layout(s.dtype, s.shape) if not s.is_weak else type(v)
            for s, v in zip(specs, values, strict=True)
        )
        with no_grad():
            out = self.run(marks[:1], marks[1:], lays)
        wanted = [
            x.layout.node for x, n in zip(out, self.needs, strict=True) if n and x is not None
        ]
        reached = {id(n) for n in Graph(nodes, wanted).nodes()}
        return [
            p if id(n) in reached else (UNUSED, 0) for p, n in zip(named, nodes[1:], strict=True)
        ]

    def record(self, outs: Sequence[Tensor], values: Sequence[Any]) -> None:
        """Write the node of a call on the tape."""
        picks = self.picks
        if picks is None:
            picks = self._pick(self._used(values, outs, self._named()))
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
                saved.append(values[which] if kind == NUMBER else None)
                versions.append(0)
                continue
            saved.append(kept)
            versions.append(version_of(kept))
        edges = tuple([v.tape if isinstance(v, Tensor) else None for v in values])
        layouts = tuple([v.layout if isinstance(v, Tensor) else type(v) for v in values])
        attach([next_seq(), self, edges, tuple(saved), tuple(versions), layouts, None, None], outs)
        for i in self.op.byproducts:
            outs[i].tape = None

    def apply(self, node: list, g: Any) -> Sequence[Any]:
        return self._apply(node, g)

    def _apply(self, node: list, g: Any) -> Sequence[Any]:
        saved = unpack(node)
        if self.is_fused and not modes.grad and is_plain(g, node[LAYOUTS]):
            return self._run_fused(g, saved, node[LAYOUTS])
        gs = g if self.op.results > 1 else (g,)
        if not any(g is not None and type(g.layout) is Symbol for g in gs):
            if modes.grad:
                saved = self._taped(node, saved)
        return self.run(gs, saved, node[LAYOUTS])

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

    def run(self, gs: Sequence[Any], saved: Sequence[Any], layouts: tuple) -> Sequence[Any]:
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
                args.append(self.needs)
            elif how == "inputs":
                args += [next(it) for _ in layouts[which:]]
            else:
                args.append(next(it))
        out = self.op.grad(gs[0] if self.op.results == 1 else tuple(gs), *args)
        out = out if isinstance(out, tuple) else (out,)
        if not isinstance(self.op, Pointwise):
            return tuple([x for x, _ in zip(out, layouts, strict=True)])
        return tuple(
            fit(x, lay) if need and x is not None else None
            for x, lay, need in zip(out, layouts, self.needs, strict=True)
        )

    def _run_fused(self, g: Tensor, saved: Sequence[Any], layouts: tuple) -> Sequence[Any]:
        plan = self.plans.get((g.layout, layouts))
        is_new = plan is None
        if is_new:
            plan = self._build(g, saved, layouts)
        out = plan(g, *[s for s in saved if s is not None])
        if is_new:
            self.is_fresh = self.is_fresh is not False and are_fresh(out)
        made = iter(out)
        return tuple(next(made) if n else None for n in self.needs)

    def _build(self, g: Tensor, saved: Sequence[Any], layouts: tuple) -> Callable:
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
        out = self.run(marks[:1], kept, layouts)
        wanted = [x.layout.node for x, n in zip(out, self.needs, strict=True) if n]
        lays = [a.layout if isinstance(a, Tensor) else _weak_layout(a) for a in arguments]
        plan = program.build(Graph(nodes, wanted), lays, mode=program.TUPLE, name=self.label())
        if len(self.plans) > PLANS_KEPT:
            self.plans.clear()
        self.plans[g.layout, layouts] = plan
        return plan


def are_fresh(tensors: Sequence[Tensor]) -> bool:
    """Whether each result of a plan has memory of its own."""
    return all(t.storage.root is t.storage for t in tensors)


def _weak_layout(number: Any) -> Layout:
    return layout(weak_spec(number).dtype, ())


def forward_trace() -> str:
    """Where the user's code is now, for anomaly mode: amity's own frames left out."""
    own = f"{os.sep}amity{os.sep}", "<call of "
    frames = [f for f in traceback.extract_stack() if not any(o in f.filename for o in own)]
    return "".join(traceback.format_list(frames))


def version_of(value: Any) -> int:
    if not isinstance(value, Tensor):
        return 0
    memory = value.storage
    if memory is None:
        memory = held(value).storage
    return 0 if memory is None else memory.version


def is_plain(g: Any, layouts: Sequence[Any]) -> bool:
    """Whether a gradient and what its node is of are ordinary tensors, which plans are for."""
    return type(g.layout) is Layout and Batched not in map(type, layouts)


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
    versions = node[VERSIONS]
    while not isinstance(saved, tuple):  # given up by a checkpoint, which may be in another
        saved, versions = saved.recalled()
    for s, version in zip(saved, versions, strict=True):
        if version_of(s) != version:
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
