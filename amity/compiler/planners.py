"""Which module plans an op of kind `kernel`.

A planner is `plan(op, input layouts, result layouts, target, threads) -> (launches, temporaries in
bytes)`; the buffers of its launches count inputs first, then results, then temporaries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from amity.core.dtype import int32
from amity.core.layout import Layout, layout
from amity.ir.kernel import register_type
from amity.ir.target import Target
from amity.ops.elementwise import MUL

from .attention_plan import plan_attention
from .bag import plan_bag
from .conv import can_end, plan_conv
from .ctc import plan_ctc
from .ending import Ending
from .fold import plan_fold
from .gemm import build_gemm
from .gemm_plan import DOT_ROWS, GemmKey, GemmPlan, plan_gemm, tile_of
from .group import copy_launch, nest_launch
from .nest import Access, Instruction, Nest, make_nest
from .pad import plan_embed, plan_pad, plan_pad_back
from .plan import Code, Launch
from .pool import plan_pool
from .recurrence import plan_recurrence
from .resample import plan_resample
from .scan import plan_scan
from .scatter import plan_index_put, plan_scatter
from .sort import plan_sort, plan_top
from .tile import PAIRS

Plan = tuple[list[Launch], list[int]]
KEPT_BYTES = 64 << 10  # of a weight that is worth keeping in panels
FAR_BYTES = 512 << 10  # of a result that is not near when what follows reads it
SEVERAL_FAR_BYTES = 4 << 20  # the same where it is stored, too, beside what follows
LONG_SUMS = 128  # of products that hide a tile's ending


def _build_gemm(key: GemmKey, nest: Nest | None, name: str, target: Target, math: Callable) -> Any:
    return build_gemm(target, key, math, nest, name)


def plan_matmul(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int,
    ending: Ending | None = None,
) -> Plan:  # fmt: skip
    """`a @ b`, or with three inputs `beta * d + alpha * (a @ b)`."""
    (c,) = outs
    *addend, a, b = ins
    m, k = a.shape[-2:]
    n = b.shape[-1]
    batch = tuple(c.shape[:-2])
    strides = [
        broadcast_strides(x, (*batch, *last)) for x, last in ((a, (m, k)), (b, (k, n)), (c, (m, n)))
    ]
    if ending is not None and not is_worth_ending(ending, c, k):
        return _ended_apart(plan_matmul(op, ins, outs, target, threads), ending, c, len(ins))
    if k == 1 and not addend:
        return [_outer(a, b, c, strides)], []
    d = broadcast_strides(addend[0], (*batch, m, n)) if addend else None
    alpha, beta = getattr(op, "alpha", 1), getattr(op, "beta", 1)
    how = {"alpha": alpha, "beta": beta, "is_ended": ending is not None, "threads": threads}
    plan = plan_gemm(target, c.dtype.code, m, n, k, *strides, d, batch, **how)
    first = len(addend)
    places = (first, first + 1, first + 2, 0 if addend else first + 2)
    return [_gemm_launch(plan, [places[i] for i in plan.order], ending, len(ins))], []


def _gemm_launch(
    plan: GemmPlan, buffers: list[int], ending: Ending | None = None, result: int = 0
) -> Launch:
    """A product, whose operands are `buffers`; those of its ending come from `result` on."""
    if ending is None:
        nest, meta = None, plan.meta
    else:
        nest, meta = ending.nest, (*plan.meta, *ending.meta)
        operands = [result + i for i in range(len(ending.places))]
        unused = operands[nest.inputs]  # sums that are ended do not go to C
        buffers = [unused if b == result else b for b in buffers] + operands
    code, family = _gemm_code(plan.key, nest), lambda: [_gemm_code(k, nest) for k in plan.family]
    kin = (plan.family, nest and nest.key)
    return Launch(*code[:2], meta, buffers, plan.grid, plan.grain, True, "gemm", family, kin)


def _gemm_code(key: GemmKey, nest: Nest | None = None) -> Code:
    known = ("gemm", key.name) if nest is None else ("gemm", key.name, nest.key)
    return Code(known, partial(_build_gemm, key, nest), "gemm")


def is_worth_ending(ending: Ending, out: Layout, k: int) -> bool:
    """Whether a product is to end with what follows, rather than that run on its own: where memory is
    slow, or long sums hide what one result costs."""
    is_one = len(ending.nest.stores) == 1
    is_far = out.nbytes >= (FAR_BYTES if is_one else SEVERAL_FAR_BYTES)
    return k > 1 < out.shape[-1] and (is_far or (is_one and k >= LONG_SUMS))


def _ended_apart(plan: Plan, ending: Ending, out: Layout, result: int) -> Plan:
    """A product that stores its result, and its ending on its own, which reads that."""
    launches, temporaries = plan
    count = len(ending.places)
    nest, meta, order, place = ending.apart(out)
    sums = result + (count if place is None else place)
    temporaries = [out.nbytes, *temporaries] if place is None else temporaries
    further = count - 1 + (place is None)
    for launch in launches:
        launch.buffers = [
            sums if b == result else b + further * (b > result) for b in launch.buffers
        ]
    places = [sums if o is None else result + o for o in order]
    return [*launches, nest_launch(nest, meta, places)], temporaries


def _outer(a: Layout, b: Layout, c: Layout, strides: Sequence[Sequence[int]]) -> Launch:
    """The product of a column and a row: each element is one multiplication."""
    rows, columns, out = strides
    walks = ((*rows[:-1], 0), (*columns[:-2], 0, columns[-1]), tuple(out))
    accesses = [Access(x.dtype.code, w) for x, w in zip((a, b, c), walks, strict=True)]
    compute = register_type(c.dtype.code)
    body = [Instruction("load", i, (), compute) for i in (0, 1)]
    body.append(Instruction("pointwise", MUL, (0, 1), compute))
    nest, meta = make_nest(tuple(c.shape), "r" * c.ndim, accesses, 2, body, [(2, 2)])
    return nest_launch(nest, meta, [0, 1, 2])


def plan_linear(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int,
    ending: Ending | None = None,
) -> Plan:  # fmt: skip
    """`x @ weight.T + bias` as the product of x and the weight read the other way."""
    x, w, *bias = ins
    turned = layout(w.dtype, w.shape[::-1], w.strides[::-1])
    launches, temporaries = plan_matmul(op, [*bias, x, turned], outs, target, threads, ending)
    order = (2, 0, 1) if bias else (0, 1)
    for launch in launches:
        launch.buffers = [order[i] if i < len(ins) else i for i in launch.buffers]
    return launches, temporaries


def plan_kept_linear(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int,
    ending: Ending | None = None,
) -> Plan | None:  # fmt: skip
    """A linear layer by a copy of its weight in panels as tiles read them, which is worth keeping; None
    where the weight is small, does not fill panels, or is read faster as it lies.
    """
    (x, w, *bias), (y,) = ins, outs
    tile = tile_of(target, y.dtype.code)
    (n, k), pairs = w.shape, 2 if tile.element == PAIRS else 1
    if tile.element not in (w.dtype.code, PAIRS) or not w.is_contiguous or w.nbytes < KEPT_BYTES:
        return None
    if n % tile.columns or k % pairs or x.numel // k <= DOT_ROWS:
        return None
    if ending is not None and not is_worth_ending(ending, y, k):
        plan = plan_kept_linear(op, ins, outs, target, threads)
        return plan and _ended_apart(plan, ending, y, len(ins))
    element, depth = int32 if pairs == 2 else w.dtype, k // pairs
    shape = (n // tile.columns, depth, tile.columns)
    turned = layout(element, shape, (tile.columns * depth, 1, depth))
    panels = len(ins) + (1 if ending is None else len(ending.places))
    copy = copy_launch(turned, element.code, shape, layout(element, shape).strides, 1, panels)
    copy.keeps = True
    batch, m, b = tuple(y.shape[:-2]), x.shape[-2], (*(0 for _ in y.shape[:-2]), 0, 1)
    a, c = (broadcast_strides(t, (*batch, m, t.shape[-1])) for t in (x, y))
    d = broadcast_strides(bias[0], (*batch, m, n)) if bias else None
    how = {"threads": threads, "is_ready": True, "is_ended": ending is not None}
    plan = plan_gemm(target, y.dtype.code, m, n, k, a, b, c, d, batch, **how)
    places = (0, panels, len(ins), 2)
    buffers = [places[i] for i in plan.order]
    return [copy, _gemm_launch(plan, buffers, ending, len(ins))], [w.nbytes]


def broadcast_strides(x: Layout, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a layout broadcast to a shape."""
    pad = len(shape) - x.ndim
    return (
        *[0] * pad,
        *(
            0 if n == 1 and m != 1 else s
            for n, s, m in zip(x.shape, x.strides, shape[pad:], strict=True)
        ),
    )


def plan_convolution(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int,
    ending: Ending | None = None,
) -> Plan:  # fmt: skip
    """A convolution or one of its gradients, as `op.role` says."""
    (out,) = outs
    x, w, y = op.operands(ins, out)
    plan = plan_conv(
        target, op.role, out.dtype.code, x.shape, w.shape, stride=op.stride, padding=op.padding,
        dilation=op.dilation, groups=op.groups, has_bias=len(ins) == 3, x_strides=x.strides,
        w_strides=w.strides, y_strides=y.strides, y_shape=y.shape, threads=threads, ending=ending,
    )  # fmt: skip
    return list(plan.launches), list(plan.temporaries)


def can_end_convolution(op: Any, ins: Sequence[Layout], out: Layout) -> bool:
    """Whether a convolution can end with what uses its result: see `can_end`."""
    return can_end(op.role, ins[1].shape, op.groups, ins[0].strides[1] == 1)


def plan_cat(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> Plan:
    """A copy of every input into its part of the result."""
    (out,) = outs
    launches, at = [], 0
    for i, x in enumerate(ins):
        if x.numel:
            start = at * out.strides[op.dim] * out.dtype.itemsize
            launches.append(
                copy_launch(x, out.dtype.code, x.shape, out.strides, i, (len(ins), start))
            )
        at += x.shape[op.dim]
    return launches, []


def plan_running(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> Plan:
    """A scan; an input that is not row-major is copied first."""
    (x,), (y,) = ins, outs
    if x.is_contiguous:
        return [plan_scan(op, x, y)], []
    flat = layout(x.dtype, x.shape)
    copy = copy_launch(x, x.dtype.code, x.shape, flat.strides, 0, 2)
    scan = plan_scan(op, flat, y)
    scan.buffers = [2, 1]
    return [copy, scan], [flat.nbytes]


class Ender(NamedTuple):
    """A planner that takes an `Ending`, whose operands then take the place of the result.

    `column` is the dimension of the result that vectors run along; `can_end(op, inputs, result)`
    tells which layouts it can serve; `always` says whether it ends with a store where nothing else
    follows.
    """

    column: int
    can_end: Callable[[Any, Sequence[Layout], Layout], bool]
    always: bool


def can_end_product(op: Any, ins: Sequence[Layout], out: Layout) -> bool:
    """Whether a product can end with what uses its result: any can."""
    return True


ENDERS = {
    "conv": Ender(1, can_end_convolution, always=True),
    "linear": Ender(-1, can_end_product, always=False),
    "matmul": Ender(-1, can_end_product, always=False),
}
PLANNERS: dict[str, Callable[..., Plan]] = {
    "attention": plan_attention,
    "matmul": plan_matmul,
    "linear": plan_linear,
    "conv": plan_convolution,
    "cat": plan_cat,
    "scan": plan_running,
    "ctc": plan_ctc,
    "fold": plan_fold,
    "bag": plan_bag,
    "embed": plan_embed,
    "pad": plan_pad,
    "pad_back": plan_pad_back,
    "pool": plan_pool,
    "recurrence": plan_recurrence,
    "scatter": plan_scatter,
    "index_put": plan_index_put,
    "resample": plan_resample,
    "sort": plan_sort,
    "topk": plan_top,
}

WEIGHT = 1  # the input of a linear layer
# Planners for where the weight stays from call to call; they may decline.
KEEPERS: dict[str, Callable[..., Plan | None]] = {"linear": plan_kept_linear}
