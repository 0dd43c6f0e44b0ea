"""The fork: an op runs now through a cached native plan, or writes a Node.

`bind` is what every op call reaches. In eager it finds the plan by the identities of the argument
layouts (Python numbers count by their type, so that a new value needs no new plan).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from amity.core.dtype import BY_NUMPY, when_default_changes
from amity.core.errors import DeviceError
from amity.core.layout import Layout, layout
from amity.engine import device, program
from amity.ir.graph import Graph, Node, Spec
from amity.ops.record import REGISTRY, ErrorSample, Op, Pointwise, Sample, weak_spec

from .batched import Batched
from .batched import run as run_batched
from .inlined import op_call
from .rules import OpRule, rule_of
from .tape import is_leaf, modes
from .tensor import Tensor
from .trace import Symbol, input_node, traced

PLANS_KEPT = 20_000
VIEWS_KEPT = 64
NUMBERS = (bool, int, float)
OPERANDS = (Tensor, *NUMBERS)
# Arguments up to which ops have calls of their own; numbers, which those do not expect, are frequent
# in pointwise ops of two.
INLINED = {"kernel": 4, "reduce": 4, "indexed": 4, "pointwise": 1}


def spec_of(value: Any) -> Spec:
    """What an op's shape rule sees of an argument."""
    if isinstance(value, Tensor):
        lay = value.layout
        if type(lay) is Symbol:
            return lay.node.spec
        return Spec(tuple(lay.shape), lay.dtype)
    return weak_spec(value)


def bind(op: Op, values: Sequence[Any]) -> Any:
    """Run or trace one primitive, and record it on the tape where a gradient is wanted."""
    count = len(values)
    if 0 < count <= INLINED.get(op.kind, 0) and op.results == 1 and op.plans:  # it ran before
        call = op.calls.get(count)
        if call is None:
            call = op.calls[count] = fast_call(op, count)
        return call(*values)
    return bind_slowly(op, values)


def bind_slowly(op: Op, values: Sequence[Any], is_noted: bool = False) -> Any:
    """The general way; `is_noted` for a view that its base knows already."""
    key = [v.layout if isinstance(v, Tensor) else type(v) for v in values]
    plan = op.plans.get(tuple(key))
    if plan is not None:
        out = plan(*values)
    else:
        values = [_accept(op, v) for v in values]
        kinds = [*map(type, key)]
        if Batched in kinds:
            out, values = run_batched(op, values)
        elif Symbol in kinds:
            out = trace_op(op, values)
        else:
            out = make_plan(op, values)(*values)
    if modes.grad:
        for v in values:
            if isinstance(v, Tensor) and v.tape is not None:
                record(op, out, values)
                break
        if op.kind == "view" and not is_noted and out.base is not None:
            note_view(out)
    return out


def note_view(view: Tensor) -> None:
    """Let a base know its view, to tell it when the base is written to; leaves cannot be."""
    base = view.base
    if view.layout.dtype.kind != "f" or (base.tape is not None and is_leaf(base.tape)):
        return
    views = base.__dict__.get("_views")
    if views is None:
        views = base.__dict__["_views"] = []
    if len(views) >= VIEWS_KEPT and len(views) & (len(views) - 1) == 0:  # now and then
        views[:] = [v for v in views if v() is not None]
    views.append(ref(view))


def _accept(op: Op, v: Any) -> Any:
    if isinstance(v, Tensor) or type(v) in NUMBERS:
        return v
    if isinstance(v, NUMBERS):  # subclasses: IntEnum, NumPy's float64
        return bool(v) if isinstance(v, bool) else int(v) if isinstance(v, int) else float(v)
    if hasattr(v, "item") and getattr(v, "dtype", None) in BY_NUMPY and getattr(v, "ndim", 1) == 0:
        return v.item()
    raise TypeError(f"{op.name}: got {type(v).__name__}; expected a Tensor or a number")


def make_plan(op: Op, values: Sequence[Any]) -> Callable:
    """Plan, build and keep one op for arguments of these layouts."""
    key = tuple(v.layout if isinstance(v, Tensor) else type(v) for v in values)
    devices = {k.device for k in key if isinstance(k, Layout)}
    if len(devices) > 1:
        names = " and ".join(sorted(str(d) for d in devices))
        raise DeviceError(
            f"{op.name}: got tensors on {names}; expected all tensors on the same device"
        )
    specs = [spec_of(v) for v in values]
    results = op.infer(*specs)
    if op.kind == "view":
        plan = view_plan(op, values[0])
    elif devices and next(iter(devices)).type == "meta":
        plan = meta_plan(results, next(iter(devices)))
    else:
        inputs = [Node(None, (), s) for s in specs]
        results = results if isinstance(results, tuple) else (results,)
        outputs = [Node(op, inputs, s, i) for i, s in enumerate(results)]
        mode = program.TENSOR if op.results == 1 else program.TUPLE
        plan = program.build(
            Graph(inputs, outputs), [argument_layout(v) for v in values], mode=mode
        )
        plan = checked(op, specs, plan)
    if len(op.plans) > PLANS_KEPT:
        op.plans.clear()
    op.plans[key] = plan
    return plan


@when_default_changes
def forget_plans() -> None:
    """Forget all plans of ops: what they make of integers and numbers depends on the default dtype."""
    for kind in REGISTRY.values():
        for op in list(kind._instances.values()):
            op.plans.clear()


def checked(op: Op, specs: Sequence[Spec], plan: Callable) -> Callable:
    """The plan after a test of the values, where the op has one."""
    check = op.check_of(*specs)
    if check is None:
        return plan

    def run(*values: Any) -> Any:
        check(*values)
        return plan(*values)

    return run


def meta_plan(results: Any, device: Any) -> Callable:
    """A plan that gives tensors without memory."""
    many = isinstance(results, tuple)
    layouts = [layout(s.dtype, s.shape, None, device) for s in (results if many else (results,))]

    def plan(*_: Any) -> Any:
        out = tuple(Tensor._of(None, m) for m in layouts)
        return out if many else out[0]

    return plan


def argument_layout(value: Any) -> Layout:
    if isinstance(value, Tensor):
        return value.layout
    return layout(weak_spec(value).dtype, ())


def trace_op(op: Op, values: Sequence[Any]) -> Any:
    """Write a node; Python numbers become constants of the graph."""
    nodes = [lift(op, v) for v in values]
    results = op.infer(*[n.spec for n in nodes])
    if isinstance(results, tuple):
        return tuple(traced(Node(op, nodes, s, i)) for i, s in enumerate(results))
    return traced(Node(op, nodes, results))


class Constant(Op):
    """A Python number in a graph."""

    name = "constant"
    kind = "constant"
    value: object
    is_weak: bool
    samples = (Sample(value=2.5, is_weak=True), Sample(value=-3, is_weak=True))
    errors = (ErrorSample(value="x", is_weak=True, error=TypeError, says="got str"),)

    def infer(self) -> Spec:
        if not isinstance(self.value, NUMBERS):
            raise TypeError(f"constant: got {type(self.value).__name__}; expected a number")
        return weak_spec(self.value)

    def reference(self):
        return np.asarray(self.value)


def lift(op: Op, value: Any) -> Node:
    """The node of an argument."""
    if not isinstance(value, Tensor):
        return Node(Constant(value, True), (), weak_spec(value))
    if type(value.layout) is Symbol:
        return value.layout.node
    raise RuntimeError(
        f"{op.name}: got an ordinary tensor inside a traced function; expected every tensor as "
        "an argument"
    )


def view_plan(op: Op, x: Tensor) -> Callable:
    """The same memory under another layout; where memory does not allow it, of a row-major copy."""
    found = op.view(x.layout)
    if found is None:
        return lambda x: op(x.detach().contiguous()).detach()
    shown, offset = found
    bytes_ = offset * x.layout.dtype.itemsize
    if bytes_ or x.storage is None:
        return lambda x: x._view(shown, bytes_)
    make = device.machine().make

    def plan(x: Tensor) -> Tensor:
        t = make(x.storage, shown)
        t.base = x if x.base is None else x.base
        return t

    return plan


def record(op: Op, out: Any, values: Sequence[Any]) -> OpRule | None:
    """Write the node of an op that ran, by the rule that is returned. Only floating tensors are ever
    on the tape.
    """
    rule = rule_of(
        op, tuple([v.tape is not None if isinstance(v, Tensor) else None for v in values])
    )
    outs = out if isinstance(out, tuple) else (out,)
    if rule is None or not any(t.layout.dtype.kind == "f" for t in outs):
        return None
    rule.record(outs, values)
    return rule


# -- the hot ops as plain code


def fast_call(op: Op, arity: int) -> Callable:
    """`op(…)` for tensors whose plan is known; anything else goes the long way."""
    return _inlined(op, "abcd"[:arity], op.plans, lambda *values: bind_slowly(op, values))


def _inlined(op: Op, names: str, plans: dict, other: Callable, **how: Any) -> Callable:
    def written(t: Any, values: Sequence[Any]) -> OpRule | None:
        rule = record(op, t, values)
        return rule if op.results == 1 else None

    rule = rule_of(op, (True,) * len(names)) if op.results == 1 else None
    return op_call(names, plans, other, written, rule, **how)


def fast_binary(op: Pointwise, slow: Callable) -> Callable:
    """A method `f(a, b)` for a binary pointwise op; the plan is found without making a tuple."""
    plans: dict = {}
    when_default_changes(plans.clear)

    def other(a: Any, b: Any) -> Any:
        if type(a) is Tensor and type(a.layout) is Symbol and type(b) in OPERANDS:
            if not modes.grad and (type(b) is not Tensor or type(b.layout) is Symbol):
                return trace_op(op, (a, b))
            return bind_slowly(op, (a, b))
        if type(b) in NUMBERS and isinstance(a, Tensor):
            known = plans.get(a.layout)
            plan = known and known.get(type(b))
            if plan is not None:
                t = plan(a, b)
                if a.tape is not None and modes.grad:
                    record(op, t, (a, b))
                return t
        return miss(a, b)

    def miss(a: Any, b: Any) -> Any:
        out = slow(a, b)
        if isinstance(a, Tensor) and type(a.layout) is not Symbol:
            second = b.layout if isinstance(b, Tensor) else type(b)
            plan = op.plans.get((a.layout, second))
            if plan is not None:
                if len(plans) > PLANS_KEPT:
                    plans.clear()
                plans.setdefault(a.layout, {})[second] = plan
        return out

    return _inlined(op, "ab", plans, other, key="[a.layout][b.layout]")


def fast_unary(op: Op, slow: Callable) -> Callable:
    """A method `f(a)` for an op of one tensor; with more arguments it is the public function `slow`."""
    plans: dict = {}
    when_default_changes(plans.clear)

    def other(a: Any) -> Any:
        out = slow(a)
        if isinstance(a, Tensor) and type(a.layout) is not Symbol:
            plan = op.plans.get((a.layout,))
            if plan is not None:
                if len(plans) > PLANS_KEPT:
                    plans.clear()
                plans[a.layout] = plan
        return out

    return _inlined(op, "a", plans, other, key="[a.layout]", slow=slow)


def fast_reduction(op_of: Callable[..., Op], slow: Callable) -> Callable:
    """A method `f(a)` or `f(a, dim)` that stands for another op by the tensor's rank and `dim`."""
    calls: dict[Any, Callable] = {}

    def method(a: Any, *dims: Any, **kwargs: Any) -> Any:
        key = a.layout.ndim
        if dims or kwargs:
            if kwargs or len(dims) > 1 or type(dims[0]) is not int:
                return slow(a, *dims, **kwargs)
            key = key, dims[0]
        call = calls.get(key)
        if call is None:
            call = calls[key] = fast_unary(op_of(a, *dims), lambda a: slow(a, *dims))
        return call(a)

    return method


def fresh_inputs(tensors: Sequence[Tensor]) -> tuple[list[Node], list[Any]]:
    """Input nodes for tensors, and traced tensors on them."""
    nodes = [input_node(t.layout.dtype, t.layout.shape) for t in tensors]
    return nodes, [traced(n) for n in nodes]
