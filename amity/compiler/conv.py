"""Plans of convolutions: which kernels run, on which blocks, with which numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

from amity.core.shape import contiguous_strides
from amity.ir.kernel import Kernel
from amity.ir.target import Target

from . import (
    conv_depth,
    conv_grad,
    conv_product,
    conv_row_weights,
    conv_rows,
    conv_strip,
    winograd,
    winograd_rows,
)
from .conv_problem import Array, Conv, Product, Stage, forward_product, grad_input_products
from .ending import Ending
from .nest import Nest
from .plan import Code, Launch

BUILD = {
    "panels": conv_product.build_panels,
    "product": conv_product.build_product,
    "weights": conv_grad.build_weights,
    "strips": conv_strip.build_strips,
    "dots": conv_strip.build_dots,
    "fold": conv_grad.build_fold,
    "spectrum": winograd.build_spectrum,
    "tiles": winograd.build_tiles,
    "row_weights": conv_row_weights.build_row_weights,
    "row_spectrum": winograd_rows.build_row_spectrum,
    "depth_weights": conv_depth.build_depth_weights,
}
LAID_OUT = (
    "panels",
    "spectrum",
    "row_weights",
    "row_spectrum",
    "depth_weights",
)  # weights, for the next kernel
ENDED = {  # those that end with a nest
    "rows": conv_rows.build_rows,
    "row_tiles": winograd_rows.build_row_tiles,
    "depth_rows": conv_depth.build_depth_rows,
}
LANES = 16  # output channels of a group that are worth vectors of them
FEW = 8  # output channels of a group up to which windows are read in place
PIECES = 16  # of a grid for each thread: enough to even out, few enough to cost little
OPERANDS = {"forward": "xwy", "grad_input": "ywx", "grad_weight": "xyw"}  # the result is the last


@dataclass(frozen=True)
class ConvPlan:
    """The launches of one convolution, in order, and the bytes of the temporaries between them.

    The buffers of a launch count inputs first (x, w and bias; y, w and bias; or x and y), then the
    result, then temporaries.
    """

    launches: list[Launch]
    temporaries: list[int]


def plan_conv(
    target: Target, op: str, dtype: str, x_shape: Sequence[int], w_shape: Sequence[int], *,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int = 1,
    has_bias: bool = False, x_strides: Sequence[int] | None = None,
    w_strides: Sequence[int] | None = None, y_strides: Sequence[int] | None = None,
    y_shape: Sequence[int] | None = None, threads: int = 1, ending: Ending | None = None,
) -> ConvPlan:  # fmt: skip
    """How to compute `forward` (y), `grad_input` (x) or `grad_weight` (w) from the other two.

    A transposed convolution is `grad_input`, with a bias if it has one.

    shape: x `[N, C, *spatial]`, w `[O, C / groups, *kernel]`, one to three spatial axes; y follows
    from them where it is not given. The weight gradient is written row-major; other strides (in
    elements) are free. With an ending, which y must suit (`can_end`), its operands take the place of
    the result.
    """
    missing = 3 - (len(x_shape) - 2)
    y_shape = y_shape or (x_shape[0], w_shape[0]) + tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, padding, dilation)
    )
    conv = Conv(
        dtype, _three(x_shape, x_strides), _three(w_shape, w_strides), _three(y_shape, y_strides),
        (1,) * missing + tuple(stride), (0,) * missing + tuple(padding),
        (1,) * missing + tuple(dilation), groups, has_bias, threads,
    )  # fmt: skip
    inputs = OPERANDS[op][:2] + ("b" if has_bias else "")
    at: dict[str | int, int] = {name: i for i, name in enumerate(inputs)}
    if ending is None:
        results, nest = 1, None
        at[OPERANDS[op][2]] = len(inputs)
        products = _products(op, conv)
        may_be_winograd = _may_be_winograd(conv, products)
        stages = _stages(target, op, conv, products)
        family, kin = partial(_family, op, dtype, may_be_winograd), (op, may_be_winograd)
    else:
        results, nest = len(ending.places), ending.nest
        at |= {i: len(inputs) + i for i in range(results)}
        stages = _ended_stages(target, forward_product(conv), ending)
        family, kin = None, ()
    launches, temporaries = [], []
    for stage in stages:
        at["t"] = len(inputs) + results + len(temporaries)
        temporaries += [stage.temporary] if stage.temporary else []
        launches += [
            Launch(
                *_code(what, dtype, nest)[:2],
                meta=meta,
                buffers=[at[n] for n in buffers],
                grid=grid,
                grain=max(1, grid // (PIECES * threads)),
                has_scratch=True,
                label=f"conv_{what}",
                family=family,
                kin=kin,
                keeps=what in LAID_OUT,
            )
            for what, meta, buffers, grid in stage.runs
        ]
    return ConvPlan(launches, temporaries)


def _code(what: str, dtype: str, nest: Nest | None = None) -> Code:
    label = f"conv_{what}"
    if nest is None or what not in ENDED:
        return Code(("conv", what, dtype), partial(BUILD[what], dtype), label)
    return Code(("conv", what, dtype, nest.key), partial(ENDED[what], dtype, nest), label)


def can_end(op: str, w: Sequence[int], groups: int, is_sideways: bool) -> bool:
    """Whether a convolution, if its result has its channels side by side, is to take an ending: one
    that has enough channels to fill vectors, in each group, or one for each of an image that has
    its channels side by side, too."""
    is_depthwise = is_sideways and w[0] == groups > 1 and w[1] == 1
    return op == "forward" and prod(w) > 0 and (is_depthwise or w[0] // groups >= LANES)


def _may_be_winograd(conv: Conv, products: list[Product]) -> bool:
    """Whether the method fits the weights and strides; sizes decide whether it pays."""
    return min(conv.w.shape[3:]) >= 3 and any(winograd.fits(p, p.y[4]) for p in products)


def _products(op: str, conv: Conv) -> list[Product]:
    """The products of weights by windows that give the result; none for gradients of weights."""
    if op == "grad_weight":
        return []
    return [forward_product(conv)] if op == "forward" else list(grad_input_products(conv))


def _family(op: str, dtype: str, may_be_winograd: bool) -> list[Code]:
    """The kernels among which sizes choose; whether Winograd's is one, weights and strides tell."""
    if op == "grad_weight":
        names = ["weights", "dots", "fold"]
    else:
        names = ["panels", "product", "strips"]
        if may_be_winograd:
            names += ["spectrum", "tiles"]
    return [_code(name, dtype) for name in names]


def build_conv(name: str, key: tuple, target: Target, math: Callable) -> Kernel:
    """The kernel of a launch's key."""
    _, what, dtype = key
    return BUILD[what](dtype, name, target, math)


def _stages(target: Target, op: str, conv: Conv, products: list[Product]) -> list[Stage]:
    if op == "grad_weight":
        few = conv.w.shape[0] // conv.groups <= FEW
        return conv_grad.plan(target, conv, "dots" if few else "weights")
    stages = []
    for p in products:
        if winograd.is_worthwhile(p):
            stages += winograd.plan(target, p)
        else:
            stages += conv_product.plan(target, p, "strips" if p.outs <= FEW else "product")
    return stages


def _ended_stages(target: Target, p: Product, ending: Ending) -> list[Stage]:
    if conv_depth.serves(p):
        return conv_depth.plan(target, p, ending)
    method = winograd_rows if winograd_rows.is_worthwhile(target, p) else conv_rows
    return method.plan(target, p, ending)


def _three(shape: Sequence[int], strides: Sequence[int] | None) -> Array:
    """With three spatial axes, the missing ones of size 1 in front."""
    strides = contiguous_strides(tuple(shape)) if strides is None else strides
    missing = 5 - len(shape)
    return Array((*shape[:2], *(1,) * missing, *shape[2:]),
                 (*strides[:2], *(0,) * missing, *strides[2:]))  # fmt: skip
