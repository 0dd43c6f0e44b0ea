"""Writing into tensors: in-place ops, `out=`, and what both mean for the tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from amity.core.dtype import bool_, can_cast, float16, float32, float64, int64
from amity.core.layout import Layout, layout
from amity.engine import device as engine
from amity.engine import program
from amity.ir.graph import Graph, Node, Spec
from amity.ops.cast import Cast
from amity.ops.movement import Expand
from amity.ops.record import Op, Pointwise
from amity.ops.select import WHERE
from amity.ops.strided import AsStrided, StridedSum

from . import batched, create
from .batched import held, is_batched, through
from .bind import argument_layout, bind_slowly, checked, spec_of
from .grad_mode import no_grad
from .rules import version_of
from .tape import (
    ACCUMULATE,
    EDGES,
    LAYOUTS,
    OUTPUT,
    RULE,
    SAVED,
    SEQ,
    VERSIONS,
    Rule,
    is_leaf,
    modes,
    next_seq,
    retie,
)  # fmt: skip
from .tensor import Tensor
from .trace import Symbol

PLANS_KEPT = 20_000
FITTING = {float32: (float, int), float64: (float, int), int64: (int,), bool_: (bool,)}
HALF = 65504  # the largest of float16
LARGEST = 1 << 62  # of what fits for certain; larger and special values go the long way
COPY, FILL = "copy", "fill"
_plans: dict[tuple, Callable] = {}  # by an op, or one of these, and the layouts of the arguments


def check_writable(name: str, t: Tensor, is_one_number: bool = False) -> None:
    """An error for leaves that require a gradient and, but for one number, memory that elements share."""
    if modes.grad and t.tape is not None:
        if is_leaf(t.tape):
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )
        if t.base is not None and is_leaf(t.base.tape):
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place "
                "operation."
            )
    elif modes.grad and t.base is not None and t.base.tape is not None:
        raise RuntimeError(
            f"{name}: A view was created in no_grad mode and is being modified inplace with grad mode "
            "enabled; expected both inside or both outside of no_grad"
        )
    if not is_one_number and _repeats(t.layout):
        raise RuntimeError(
            f"{name}: unsupported operation: more than one element of the written-to tensor "
            "refers to a single "
            "memory location. Please clone() the tensor before performing the operation."
        )


def _repeats(lay: Any) -> bool:
    """Whether several elements are one place in memory."""
    return 0 in lay.strides and any(s == 0 and n > 1 for n, s in zip(lay.shape, lay.strides))


def check_result(name: str, t: Tensor, shape: Sequence[int], dtype: Any) -> None:
    if not can_cast(dtype, t.layout.dtype):
        raise RuntimeError(
            f"{name}: result type {dtype.name} can't be cast to the desired output type "
            f"{t.layout.dtype.name}"
        )
    if tuple(shape) != tuple(t.layout.shape):
        raise RuntimeError(
            f"{name}: output with shape {list(t.layout.shape)} doesn't match the broadcast "
            f"shape {list(shape)}"
        )


def apply_inplace(
    name: str, function: Callable, t: Tensor, args: Sequence[Any], kwargs: dict[str, Any]
) -> Tensor:
    """`t.name_(…)`: the result of `function`, written into `t`."""
    if type(t.layout) is Symbol:
        return _rebind(t, function(t, *args, **kwargs))
    check_writable(name + "_", t)
    op = getattr(function, "op", None)
    if (
        isinstance(op, Pointwise)
        and not kwargs
        and t.storage is not None
        and not _wants_grad(t, args)
        and not _overlaps(t, args)
    ):
        return write_pointwise(name, op, t, args)
    since = next_seq()
    result = function(t, *args, **kwargs)
    check_result(name + "_", t, result.layout.shape, result.layout.dtype)
    return assign(t, result, since)


def _wants_grad(t: Tensor, args: Sequence[Any]) -> bool:
    return modes.grad and (
        t.tape is not None or any(isinstance(a, Tensor) and a.tape is not None for a in args)
    )


def _overlaps(t: Tensor, args: Sequence[Any]) -> bool:
    """Whether an argument shares memory with `t` otherwise than element by element."""
    for a in args:
        if isinstance(a, Tensor) and a is not t:
            if type(a.layout) is Symbol or a.storage is None:
                return True
            same = (
                a.storage.data == t.storage.data
                and a.layout.shape == t.layout.shape
                and a.layout.strides == t.layout.strides
            )
            if not same and _shares_memory(a.storage, t.storage):
                return True
    return False


def _shares_memory(a: Any, b: Any) -> bool:
    """Whether the blocks meet; NumPy's arrays and `.data` have storages of their own on one block."""
    return a.data < b.data + b.nbytes and b.data < a.data + a.nbytes


def write_pointwise(name: str, op: Pointwise, t: Tensor, args: Sequence[Any]) -> Tensor:
    """A pointwise op computed straight into its first argument."""
    key = (op, t.layout, *(a.layout if isinstance(a, Tensor) else type(a) for a in args))
    plan = _plans.get(key)
    if plan is None:
        specs = [spec_of(v) for v in (t, *args)]
        nodes = [Node(None, (), s) for s in specs]
        result = op.infer(*specs)
        check_result(name + "_", t, result.shape, result.dtype)
        if t.is_meta:
            return t
        out = Node(op, nodes, result)
        if result.dtype is not t.layout.dtype:
            cast = Cast(t.layout.dtype)
            out = Node(cast, (out,), cast.infer(result))
        layouts = [argument_layout(v) for v in (t, *args)]
        plan = checked(op, specs, _keep(key, Graph(nodes, [out]), layouts))
        _plans[key] = plan
    return plan(t, *args)


def write_again(op: Op | str, t: Tensor, other: Any) -> Tensor | None:
    """A pointwise op, a copy or a number written into a tensor off the tape, if its plan is known."""
    if t.tape is not None or (t.base is not None and t.base.tape is not None):
        return None
    if type(other) is not Tensor:
        plan = _plans.get((op, t.layout, type(other)))
        return None if plan is None else plan(t, other)
    plan = _plans.get((op, t.layout, other.layout))
    if plan is None or other.tape is not None:
        return None
    if t.storage.data == other.storage.data:
        return plan(t, other) if other.layout is t.layout else None
    return None if _shares_memory(t.storage, other.storage) else plan(t, other)


def _keep(key: tuple, graph: Graph, layouts: Sequence[Layout]) -> Callable:
    name = f"{getattr(key[0], 'name', key[0])}_"
    return _remember(key, program.build(graph, layouts, {0: 0}, [0], program.FIRST, name=name))


def _remember(key: tuple, plan: Callable) -> Callable:
    if len(_plans) > PLANS_KEPT:
        _plans.clear()
    _plans[key] = plan
    return plan


def write(t: Tensor, source: Tensor) -> None:
    """Copy values into `t`, broadcast and cast; off the tape."""
    if t.storage is None:
        return
    if source.storage is None:
        raise NotImplementedError(
            "copy_: got a meta tensor: Cannot copy out of meta tensor; no data! expected one with memory"
        )
    if _overlaps(t, (source,)):
        source = source.detach().clone()
    key = (COPY, t.layout, source.layout)
    plan = _plans.get(key)
    if plan is None:
        layouts = [t.layout, source.layout]
        nodes = [Node(None, (), Spec(tuple(m.shape), m.dtype)) for m in layouts]
        cast = Cast(layouts[0].dtype)
        x = Node(cast, nodes[1:], cast.infer(nodes[1].spec))
        plan = _keep(key, Graph(nodes, [x]), layouts)
    plan(t, source)


def duplicate(t: Tensor, lay: Layout) -> Tensor:
    """The same values in memory of their own, laid out otherwise; off the tape."""
    if t.storage is None:
        return create.allocate(lay)
    key = ("duplicate", t.layout, lay)
    plan = _plans.get(key)
    if plan is None:
        x = Node(None, (), Spec(tuple(lay.shape), lay.dtype))
        y = Node(Cast(lay.dtype), (x,), x.spec)
        plan = program.build(Graph([x], [y]), [t.layout], name="clone", makes=[lay])
        _remember(key, plan)
    return plan(t)


def copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Values copied in, broadcast and cast; differentiable with respect to `src`."""
    out = write_again(COPY, self, src)
    if out is not None:
        return out
    if isinstance(src, (bool, int, float)):
        src = create.tensor(src, dtype=self.dtype)
    if not isinstance(src, Tensor):
        raise TypeError(
            f"copy_: argument 'other' (position 1) must be Tensor, not {type(src).__name__}"
        )
    if type(self.layout) is Symbol or type(src.layout) is Symbol:
        return _rebind(self, src.to(self.dtype).expand(self.shape))
    check_writable("copy_", self)
    if self.storage is None or src.storage is None:  # mapped, or without memory
        return assign(self, src.to(self.dtype).expand(self.shape))
    if modes.grad and (self.tape is not None or src.tape is not None):
        value = src.to(self.dtype).expand(self.shape)
        return assign(self, value)
    if src.layout.shape != self.layout.shape:
        src = src.detach().expand(self.layout.shape)
    write(self, src)
    return self


def set_to(t: Tensor, value: Any) -> Tensor:
    """Every element set to a number, which must fit the dtype."""
    dtype = t.layout.dtype
    fits = type(value) in FITTING.get(dtype, ()) and -LARGEST < value < LARGEST
    out = write_again(FILL, t, value) if fits else None
    if out is not None:
        return out
    if dtype is float16 and type(value) is not bool and HALF < abs(value) < inf:
        raise RuntimeError(f"fill_: got {value}; expected a number that float16 holds")
    is_taped = t.tape is not None or (t.base is not None and t.base.tape is not None)
    if is_taped or not fits or t.storage is None:
        return copy_(t, create.tensor(value, dtype=dtype))
    check_writable("fill_", t, True)
    return fill(t, value)


def fill(t: Tensor, value: Any) -> Tensor:
    """A number written into every element; off the tape."""
    lay = t.layout
    if _repeats(lay):
        shape = [n if s else 1 for n, s in zip(lay.shape, lay.strides)]
        fill(t._view(layout(lay.dtype, shape, lay.strides)), value)
        return t
    key = (FILL, t.layout, type(value))
    plan = _plans.get(key)
    if plan is None:
        nodes = [Node(None, (), spec_of(v)) for v in (t, value)]
        cast, expand = Cast(t.layout.dtype), Expand(tuple(t.layout.shape))
        number = Node(cast, nodes[1:], cast.infer(nodes[1].spec))
        out = Node(expand, (number,), expand.infer(number.spec))
        plan = _keep(key, Graph(nodes, [out]), [t.layout, argument_layout(value)])
    return plan(t, value)


def _rebind(t: Tensor, value: Tensor) -> Tensor:
    """In a trace nothing is written: the tensor stands for the new node from now on."""
    if t.base is not None:
        raise RuntimeError(
            "a traced view was written to; expected writes to whole tensors inside a composite"
        )
    value = value if value.dtype is t.dtype else value.to(t.dtype)
    t.layout, t.tape = value.layout, value.tape
    return t


def keep_before(node: list | None, t: Tensor, since: int) -> None:
    """Let the nodes made after `since` keep what `t` holds, which is about to be written over."""
    if node is None or node[RULE] is ACCUMULATE or node[SEQ] >= since:
        return
    if node[RULE] is not OUTPUT and isinstance(node[SAVED], tuple):
        saved, versions = list(node[SAVED]), list(node[VERSIONS])
        for i, s in enumerate(saved):
            if isinstance(s, Tensor) and _is_of(s, t):
                copy = through(lambda x: x.clone(), s) if is_batched(s) else s.detach().clone()
                copy.tape, saved[i] = s.tape, copy
                versions[i] = version_of(copy)
        node[SAVED], node[VERSIONS] = tuple(saved), tuple(versions)
    for edge in node[EDGES]:
        keep_before(edge, t, since)


def _is_of(s: Tensor, t: Tensor) -> bool:
    """Whether two tensors are of the same memory."""
    s, t = held(s).storage, held(t).storage
    return s is not None and s.root is t.root


def assign(t: Tensor, value: Tensor, since: int | None = None) -> Tensor:
    """Write a taped value into `t` and let the tape tell so, through views as well.

    `since` is a number of the tape before the value was made; without one only its last node is new.
    """
    if value.layout.dtype is not t.layout.dtype:
        value = value.to(t.layout.dtype)
    if t.storage is None:
        value = batched.same_level(value, t)
    if modes.grad and value.tape is not None:
        keep_before(value.tape, t, value.tape[SEQ] + 1 if since is None else since)
    if is_batched(value):  # memory and the outer tapes are those of what the tensors hold
        into, source = batched.fitting(t, value)
        check_writable("copy_", into)
        assign(into, source.expand(into.shape), since)
    else:
        with no_grad():
            write(t, value)
    if not modes.grad:
        return t
    if t.base is not None and (t.base.tape is not None or value.tape is not None):
        _rebase(t, value)
    elif t.tape is not None or value.tape is not None:
        tape = value.tape
        if tape is None:
            tape = [next_seq(), FILLED, (t.tape,), (), (), (t.layout,), None, None]
        retie(t, tape)
        refresh_views(t)
    return t


def become(t: Tensor, value: Tensor) -> Tensor:
    """`inplace=True` of an activation: the result takes the input's place."""
    if type(t.layout) is Symbol:
        return _rebind(t, value)
    check_writable("inplace", t)
    return assign(t, value)


class Filled(Rule):
    """A tensor written over with constants: what it was before has no influence any more."""

    name = "fill"

    def apply(self, node: list, g: Any) -> Sequence[Any]:
        return (g._zeros_like(),)


FILLED = Filled()


class CopySlices(Rule):
    """A base after part of it was written: its gradient goes to the value there, elsewhere on."""

    name = "copy_slices"

    def label(self) -> str:
        return "CopySlices"

    def __init__(self, shown: Layout, offset: int) -> None:
        self.part = AsStrided(tuple(shown.shape), tuple(shown.strides), offset)

    def apply(self, node: list, g: Any) -> Sequence[Any]:
        base = node[LAYOUTS][0]
        memory = in_memory(g, base)
        old, new = node[EDGES]
        part = None if new is None else self.part(memory).clone()
        if old is None:
            return None, part
        with no_grad():
            is_new = create.zeros(memory.layout.numel, dtype=bool_)
            self.part(is_new).fill_(True)
        rest = AsStrided(tuple(base.shape), tuple(base.strides), 0)(WHERE(is_new, 0.0, memory))
        return rest.clone(), part


def in_memory(g: Tensor, lay: Layout) -> Tensor:
    """A gradient as a vector in the order of the memory that `lay` shows."""
    if not lay.is_dense:
        return StridedSum((lay.extent,), tuple(lay.strides), 0)(g)
    if not lay.is_contiguous:
        g = g.permute(sorted(range(lay.ndim), key=lambda d: (-lay.strides[d], d)))
    return g.reshape(lay.numel).contiguous()  # a gradient may be one number, repeated


def _offset(view: Tensor, base: Tensor) -> int:
    return (held(view).storage.data - held(base).storage.data) // base.itemsize


def _rebase(view: Tensor, value: Tensor) -> None:
    base = view.base
    rule = CopySlices(view.layout, _offset(view, base))
    edges, layouts = (base.tape, value.tape), (base.layout, view.layout)
    retie(base, [next_seq(), rule, edges, (), (), layouts, None, None])
    retie(view, view_of(view, base).tape)
    refresh_views(base)


def view_of(view: Tensor, base: Tensor) -> Tensor:
    """A view made anew from its base, with the base's tape."""
    shape, strides = tuple(view.layout.shape), tuple(view.layout.strides)
    return bind_slowly(AsStrided(shape, strides, _offset(view, base)), (base,), is_noted=True)


def refresh_views(base: Tensor) -> None:
    """Tie the views that are still in use to what their base is now."""
    for reference in base.__dict__.get("_views", ()):
        view = reference()
        if view is not None and view.base is base:
            retie(view, view_of(view, base).tape)


def receive(out: Tensor, result: Tensor) -> Tensor:
    """`out=`: a result written into a tensor that is given, resized if it does not fit."""
    if modes.grad and (out.tape is not None or result.tape is not None):
        raise RuntimeError(
            "out=: functions with out=... arguments don't support automatic differentiation, "
            "but one of the arguments requires grad."
        )
    if not can_cast(result.layout.dtype, out.layout.dtype):
        raise RuntimeError(
            f"out=: result type {result.dtype.name} can't be cast to the desired output type "
            f"{out.dtype.name}"
        )
    if out.layout.shape != result.layout.shape:
        lay = layout(out.layout.dtype, result.layout.shape)
        if lay.nbytes > out.storage.nbytes or out.storage.root is not out.storage:
            out.storage = engine.machine().allocate(max(lay.nbytes, 1))
        out.layout = lay
    write(out, result)
    return out


__all__ = ["Op", "apply_inplace", "assign", "copy_", "receive"]
