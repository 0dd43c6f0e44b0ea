"""Composites in eager: forward one Program, backward one Program derived from the primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from amity.core.dtype import when_default_changes
from amity.core.layout import Layout
from amity.engine import device, program
from amity.ir.graph import Graph, Node
from amity.ops.record import COMPOSITES, Composite, told_apart

from . import autograd
from .doors import explained
from .grad_mode import enable_grad, no_grad
from .inlined import INPUT, RESULT, composite_call, derivative_call, note_call
from .rules import are_fresh, attach, is_plain, output_of, unpack
from .tape import LAYOUTS, Rule, modes, next_seq
from .tensor import Tensor
from .trace import graph_of, input_node, traced

PLANS_KEPT = 20_000


class Entry:
    """A composite for one set of layouts and static arguments."""

    def __init__(self, composite: Composite, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.composite = composite
        self.args, self.kwargs = list(args), dict(kwargs)
        self.at = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        self.names = [n for n, a in kwargs.items() if isinstance(a, Tensor)]
        for i in self.at:
            self.args[i] = None
        tensors = tensors_of(args, kwargs)
        self.specs = [(t.layout.dtype, tuple(t.layout.shape)) for t in tensors]
        nodes, self.marks = self._marks()
        with no_grad():
            outs = self.call(self.marks)
        self.is_single = isinstance(outs, Tensor)
        outs = (outs,) if self.is_single else tuple(outs)
        self.graph = graph_of(nodes, outs)
        try:
            mode = program.TENSOR if self.is_single else program.TUPLE
            self.program: Callable | None = program.build(
                self.graph, [t.layout for t in tensors], mode=mode, name=composite.name.strip("_")
            )
        except program.HostInside:
            self.program = None
        self.rules: dict[tuple, CompositeRule] = {}
        self.notes: dict[tuple, Callable] = {}  # writers of nodes, by which tensors want a gradient

    def _marks(self) -> tuple[list[Node], list[Tensor]]:
        nodes = [input_node(d, s) for d, s in self.specs]
        return nodes, [traced(n) for n in nodes]

    def call(self, tensors: Sequence[Any]) -> Any:
        """The composite's function on other tensors."""
        it = iter(tensors)
        args = list(self.args)
        for i in self.at:
            args[i] = next(it)
        kwargs = dict(self.kwargs)
        for n in self.names:
            kwargs[n] = next(it)
        return self.composite.function(*args, **kwargs)

    def record(self, out: Any, tensors: Sequence[Tensor]) -> CompositeRule | None:
        """Write the node of a call, by the rule that is returned."""
        outs = (out,) if self.is_single else out
        if not any(o.layout.dtype.kind == "f" for o in outs):
            return None
        rule = self.rule(tuple([t.tape is not None for t in tensors]))
        rule.record(outs, tensors)
        return rule

    def rule(self, needs: tuple[bool, ...]) -> CompositeRule:
        """The derivative with respect to the tensors that want a gradient."""
        found = self.rules.get(needs)
        if found is None:
            found = self.rules[needs] = CompositeRule(self, needs)
        return found

    def note(self, out: Any, *given: Any) -> None:
        """`record`, given tensors and their tapes; the next time it is plain code."""
        tensors, tapes = given[: len(self.specs)], given[len(self.specs) :]
        rule = self.record(out, tensors)
        if rule is not None and self.is_single:
            names = [f"x{i}" for i in range(len(tensors))]
            picks = [(INPUT, i) for i in rule.kept_inputs] + [(RESULT, 0)] * len(rule.kept_results)
            self.notes[tuple([t is not None for t in tapes])] = note_call(rule, names, picks, "t")

    def arguments(self) -> dict[str, Any]:
        """Static arguments by parameter name, with defaults."""
        bound = self.composite.signature.bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        return bound.arguments


class CompositeRule(Rule):
    """The derivative of a composite with respect to some of its tensors, as a graph.

    Graph inputs are the composite's inputs, its results, and the results' gradients; only those the
    graph uses are kept by the tape.
    """

    def __init__(self, entry: Entry, needs: tuple) -> None:
        self.entry, self.needs, self.name = entry, needs, entry.composite.name.strip("_")
        self.plans: dict[tuple, Callable] = {}
        self.is_fresh = None  # no plan yet
        self._derive()

    def _derive(self) -> None:
        entry = self.entry
        specs = [o.spec for o in entry.graph.outputs]
        self.results = len(specs)
        result_nodes = [input_node(s.dtype, s.shape) for s in specs]
        g_nodes = [input_node(s.dtype, s.shape) for s in specs]
        if entry.composite.rule is not None:
            nodes, originals = entry.graph.inputs, []
            with no_grad():
                grads = self._by_rule(entry.marks, result_nodes, g_nodes)
        else:
            nodes, marks = entry._marks()
            for mark, need in zip(marks, self.needs, strict=True):
                mark.requires_grad_(need)
            with enable_grad():
                outs = entry.call(marks)
            outs = (outs,) if isinstance(outs, Tensor) else tuple(outs)
            originals = [o.layout.node for o in outs]
            with no_grad():
                grads = self._by_tape(marks, outs, g_nodes)
        wanted = [g.layout.node for g in grads if g is not None]
        self.given = [g is not None for g in grads]
        self.graph = Graph([*nodes, *result_nodes, *g_nodes], wanted)
        if originals:
            self.graph = _substitute(self.graph, originals, result_nodes)
        used = {id(n) for n in self.graph.nodes()}
        self.used = [i for i, n in enumerate(self.graph.inputs) if id(n) in used]
        kept = [self.graph.inputs[i] for i in self.used]
        self.graph = Graph(kept, self.graph.outputs)
        n = self.inputs = len(nodes)
        m = n + self.results
        self.kept_inputs = [i for i in self.used if i < n]
        self.kept_results = [i - n for i in self.used if n <= i < m]
        self.kept_grads = [i - m for i in self.used if i >= m]
        if self.results == 1:
            count = len(self.kept_inputs) + len(self.kept_results)
            takes = [f"s{i}" for i in range(count)] + ["g"] * len(self.kept_grads)
            self.apply = derivative_call(
                self.plans, [INPUT] * count, takes, self.given, self._apply
            )

    def _by_tape(self, marks, outs, g_nodes) -> list[Any]:
        roots = [
            (o.tape, traced(g)) for o, g in zip(outs, g_nodes, strict=True) if o.tape is not None
        ]
        captures: dict[int, Any] = {id(m.tape): None for m in marks if m.tape is not None}
        wanted = autograd.reach([n for n, _ in roots], set(captures))
        autograd.run([r for r in roots if id(r[0]) in wanted], True, False, captures, wanted)
        return [captures[id(m.tape)] if m.tape is not None else None for m in marks]

    def _by_rule(self, marks, result_nodes, g_nodes) -> list[Any]:
        """The composite's own rule, called with what its parameters name."""
        arguments = self.entry.arguments()
        names = [p for p in self.entry.composite.parameters if p in arguments]
        it = iter(marks)
        values = dict(arguments)
        for i in self.entry.at:
            values[names[i]] = next(it)
        for n in self.entry.names:
            values[n] = next(it)
        gs = [traced(n) for n in g_nodes]
        given = []
        for p in self.entry.composite.saved:
            if p == "y":
                given.append(traced(result_nodes[0]))
            elif p.startswith("y") and p[1:].isdigit():
                given.append(traced(result_nodes[int(p[1:])]))
            elif p.startswith("like_"):
                given.append(values[p[5:]].layout)
            else:
                given.append(values[p])
        out = self.entry.composite.rule(gs[0] if len(gs) == 1 else tuple(gs), *given)
        out = list(out) if isinstance(out, tuple) else [out]
        found = zip(out, marks, self.needs, strict=True)
        return [o.to(m.dtype) if need and o is not None else None for o, m, need in found]

    def record(self, outs: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        keep = [tensors[i] for i in self.kept_inputs]
        keep += [device.make(outs[i].storage, outs[i].layout) for i in self.kept_results]
        node = [
            next_seq(), self, tuple([t.tape for t in tensors]), tuple(keep),
            tuple([k.storage.version for k in keep]), tuple([o.layout for o in outs]), None, None,
        ]  # fmt: skip
        attach(node, outs)

    def apply(self, node: list, g: Any) -> Sequence[Any]:
        return self._apply(node, g)

    def _apply(self, node: list, g: Any) -> Sequence[Any]:
        saved = unpack(node)
        if self.results > 1:
            gs = [_zeros(m) if x is None else x for x, m in zip(g, node[LAYOUTS], strict=True)]
        else:
            gs = [g]
        if modes.grad or not is_plain(gs[0], [x.layout for x in gs]):
            return self._differentiable(node, saved, gs)
        arguments = [*saved, *[gs[i] for i in self.kept_grads]]
        key = (gs[0].layout if self.results == 1 else tuple([x.layout for x in gs]), node[LAYOUTS])
        plan = self.plans.get(key)
        is_new = plan is None
        if is_new:
            if len(self.plans) > PLANS_KEPT:
                self.plans.clear()
            layouts = [a.layout for a in arguments]
            plan = self.plans[key] = program.build(
                self.graph, layouts, mode=program.TUPLE, name=self.label()
            )
        out = plan(*arguments)
        if is_new:
            self.is_fresh = self.is_fresh is not False and are_fresh(out)
        made = iter(out)
        return [next(made) if given else None for given in self.given]

    def _differentiable(self, node: list, saved: Sequence[Any], gs: Sequence[Any]) -> Sequence[Any]:
        """The same graph as taped ops, for gradients of gradients."""
        values: dict[int, Any] = {}
        it = iter(saved)
        n = self.inputs
        outs = None
        for i, x in zip(self.used, self.graph.inputs, strict=True):
            if i < n:
                values[id(x)] = next(it)
            elif i < n + self.results:
                t = next(it)
                t = Tensor._of(t.storage, t.layout)
                several = self.results > 1
                t.tape = output_of(node, i - n, t, self.results) if several else node
                values[id(x)] = t
            else:
                values[id(x)] = gs[i - n - self.results]
        for x in self.graph.nodes():
            if id(x) in values:
                continue
            if x.op.kind == "constant":
                values[id(x)] = _constant(x, next(iter(values.values())))
                continue
            out = x.op(*(values[id(a)] for a in x.inputs))
            values[id(x)] = out[x.index] if isinstance(out, tuple) else out
        outs = iter([values[id(o)] for o in self.graph.outputs])
        return [next(outs) if given else None for given in self.given]


def _constant(node: Node, like: Tensor) -> Any:
    """A number as it is, or in the tensor that it fills."""
    op, spec = node.op, node.spec
    return op.value if op.is_weak else like.new_full(spec.shape, op.value, dtype=spec.dtype)


def _zeros(lay: Layout) -> Tensor:
    return Tensor._of(None, lay)._zeros_like()


def _substitute(graph: Graph, old: Sequence[Node], new: Sequence[Node]) -> Graph:
    """The graph with some nodes replaced by inputs."""
    table: dict[int, Node] = {id(o): n for o, n in zip(old, new, strict=True) if o.op is not None}
    for node in graph.nodes():
        if id(node) in table:
            continue
        inputs = [table.get(id(x), x) for x in node.inputs]
        if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            table[id(node)] = Node(node.op, inputs, node.spec, node.index, node.where)
    return Graph(graph.inputs, [table.get(id(o), o) for o in graph.outputs])


def tensors_of(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    return [a for a in args if isinstance(a, Tensor)] + [
        a for a in kwargs.values() if isinstance(a, Tensor)
    ]


def bind_composite(composite: Composite, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run a composite as one Program and record it as one node; a trace goes through it."""
    if kwargs:
        return _call(composite, args, kwargs)
    kinds = tuple(map(type, args))
    call = composite.calls[kinds] = _quick(composite, kinds)
    return call(args)


@when_default_changes
def _forget_plans() -> None:
    for composite in COMPOSITES.values():
        composite.plans.clear()


def _quick(composite: Composite, kinds: Sequence[type]) -> Callable:
    """The call on arguments of these types: an entry found, run and recorded by plain code."""
    is_tensor = [issubclass(k, Tensor) for k in kinds]
    if not any(is_tensor):
        return lambda args: _call(composite, args, {})
    plans: dict[tuple, Entry] = {}
    when_default_changes(plans.clear)

    def other(args: Sequence[Any]) -> Any:
        out = _call(composite, args, {})
        try:
            entry = composite.plans.get(_key(args, {}))
            if entry is not None and entry.program is not None:
                if len(plans) > PLANS_KEPT:
                    plans.clear()
                pairs = zip(args, is_tensor, strict=True)
                plans[tuple([a.layout if i else told_apart(a) for a, i in pairs])] = entry
        except TypeError:  # a list among the arguments: always found the general way
            return out
        return out

    return composite_call(is_tensor, [k is float for k in kinds], plans, other)


def _call(composite: Composite, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    key = _key(args, kwargs)
    try:
        entry = composite.plans.get(key)
    except TypeError:  # a list among the arguments
        key = _key(*map(_hashable, (args, kwargs)))
        entry = composite.plans.get(key)
    if entry is None:
        tensors = tensors_of(args, kwargs)
        if not tensors:
            got = type(args[0]).__name__ if args else "nothing"
            raise TypeError(f"{composite.name.strip('_')}: got {got}; expected a Tensor")
        if any(t.storage is None for t in tensors):  # traced, batched or meta
            return composite.function(*args, **kwargs)
        if len(composite.plans) > PLANS_KEPT:
            composite.plans.clear()
        try:
            entry = composite.plans[key] = Entry(composite, args, kwargs)
        except AttributeError as error:
            raise explained(error, composite.name, composite.parameters, args, kwargs) from None
    else:
        tensors = [args[i] for i in entry.at]
        if entry.names:
            tensors += [kwargs[n] for n in entry.names]
    if entry.program is None:  # it holds a NumPy call: op by op
        return composite.function(*args, **kwargs)
    out = entry.program(*tensors)
    if modes.grad and any(t.tape is not None for t in tensors):
        entry.record(out, tensors)
    return out


def _key(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple:
    """What an entry is found by: layouts of tensors; of the rest value and type, as 1, 1.0 and True
    are equal and differ.
    """
    key = (*[a.layout if isinstance(a, Tensor) else told_apart(a) for a in args], *map(type, args))
    return (*key, *kwargs, *_key([*kwargs.values()], {})) if kwargs else key


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple([_hashable(v) for v in value])
    return {n: _hashable(v) for n, v in value.items()} if isinstance(value, dict) else value
