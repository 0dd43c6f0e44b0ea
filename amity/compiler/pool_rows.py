"""Pooling where channels lie side by side: vectors run along the channels of one window at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from amity.core.layout import Layout
from amity.core.shape import numel
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target

from .conv_product import split_index
from .plan import GRAIN_WORK, Launch
from .window import Axis, Words, first_lanes

AXIS = "size out kernel stride pad dilation x y"
WORDS = Words(
    f"{' '.join(f'{a}.{n}' for a in 'dhw' for n in AXIS.split())} channels x.image y.image divisor"
)
VECTORS = 4  # of channels that are pooled at once, where there are as many
ROLES = ("max", "mean")


def build_pool_rows(
    role: str, dtype: str, has_padding: bool, name: str, target: Target, math: Callable
) -> Kernel:
    """`(x, y)`: one unit is a line of results."""
    kind, storage = register_type(dtype), itemsize(dtype)
    b = Builder(name, target, math)
    lanes = target.lanes(itemsize(kind))
    with b.entry():
        read = lambda names: WORDS.read(b, b.meta, names)  # noqa: E731
        channels, xn, yn, divisor = read("channels x.image y.image divisor")
        d_out, h_out, w_out, yd, yh, yw = read("d.out h.out w.out d.y h.y w.y")
        with b.loop(b.lo, b.hi) as unit:
            n, i, j = split_index(unit.index, d_out, h_out)
            source = b.offset(b.pointer(0), n * xn * storage)
            line = b.offset(b.pointer(1), (n * yn + i * yd + j * yh) * storage)
            outer = [reach(b, WORDS, a, q, has_padding) for a, q in (("d", i), ("h", j))]
            with b.loop(0, w_out) as k:
                reaches = [*outer, reach(b, WORDS, "w", k.index, has_padding)]
                to = b.offset(line, k.index * yw * storage)
                counts = [r.count for r in reaches]
                total = b.select(divisor.eq(0), counts[0] * counts[1] * counts[2], divisor)

                def some(c: Value, vectors: int, mask: Value | None) -> None:
                    results = _pooled(b, role, dtype, source, c, reaches, (lanes, vectors, mask))
                    for v, x in enumerate(results):
                        if role == "mean":
                            x = x / b.splat(total.to(kind), lanes)
                        b.store(to, c + v * lanes, x, dtype, mask)

                wide, whole = channels & -(lanes * VECTORS), channels & -lanes
                with b.loop(0, wide, lanes * VECTORS) as c:
                    some(c.index, VECTORS, None)
                with b.loop(wide, whole, lanes) as c:
                    some(c.index, 1, None)
                with b.branch(whole < channels):
                    some(whole, 1, first_lanes(b, channels - whole, lanes))
    return b.kernel


class Reach(NamedTuple):
    """A window along an axis: where its first tap is, and which taps are inside of the image; `count`
    of them are inside, or inside of the padded image, and there are `taps`.
    """

    start: Value
    first: Value
    last: Value
    count: Value
    taps: Value


def reach(b: Builder, words: Words, axis: str, at: Value, has_padding: bool = False) -> Reach:
    """The window at a position along an axis, whose words tell size, kernel, stride, pad, dilation."""
    size, taps, stride, pad, step = words.read(
        b, b.meta, " ".join(f"{axis}.{n}" for n in ("size", "kernel", "stride", "pad", "dilation"))
    )
    start = at * stride - pad
    first = b.min((b.max(-start, 0) + step - 1) // step, taps)
    last = b.max(b.min((b.max(size - start, 0) + step - 1) // step, taps), first)
    end = b.min(start + taps, size + pad)
    return Reach(start, first, last, end - start if has_padding else last - first, taps)


def span(a: Axis) -> tuple[int, int]:
    """The first position along an axis whose window is wholly inside, and the one after the last."""
    first = min(a.count, max(0, -(a.offset // a.step)))
    beyond = (a.size - 1 - (a.taps - 1) * a.tap_step - a.offset) // a.step + 1
    return first, max(first, min(a.count, beyond))


def _pooled(
    b: Builder, role: str, dtype: str, source: Value, c: Value, reaches: Sequence, how: tuple
) -> list[Value]:
    """The largest elements or the sums of a window, for some vectors of channels from `c` on."""
    lanes, vectors, mask = how
    kind = register_type(dtype)
    start = b.splat(b.const(lowest(kind) if role == "max" else 0, kind), lanes)

    def nest(depth: int, at: Value, carry: list[Value]) -> list[Value]:
        if depth == len(reaches):
            place = b.offset(source, at * itemsize(dtype))
            taken = [b.load(place, c + v * lanes, dtype, lanes, mask) for v in range(vectors)]
            return [_joined(b, role, x, y) for x, y in zip(taken, carry, strict=True)]
        here = reaches[depth]
        step, stride = WORDS.read(b, b.meta, f"{'dhw'[depth]}.dilation {'dhw'[depth]}.x")
        with b.loop(here.first, here.last, 1, carry) as tap:
            place = at + (here.start + tap.index * step) * stride
            tap.next(*nest(depth + 1, place, tap.carry))
        return tap.results

    return nest(0, b.const(0, "i64"), [start] * vectors)


def _joined(b: Builder, role: str, x: Value, so_far: Value) -> Value:
    if role == "mean":
        return so_far + x
    better = x > so_far
    return b.select(better | x.ne(x) if x.dtype[0] == "f" else better, x, so_far)


def lowest(dtype: str) -> float | int:
    """What every element of a dtype is at least."""
    if dtype[0] == "f":
        return float("-inf")
    return 0 if dtype[0] in "ub" else -(1 << (8 * itemsize(dtype) - 1))


def serves(op: Any, x: Layout, y: Layout) -> bool:
    """Whether a pooling is one of channels that lie side by side."""
    return op.role in ROLES and x.strides[1] == y.strides[1] == 1 and x.shape[1] > 1


def plan_pool_rows(op: Any, x: Layout, y: Layout) -> list[Launch]:
    """The launch that pools `x` to `y`."""
    rank = len(op.kernel)
    sizes = zip(x.shape[2:], y.shape[2:], op.kernel, op.stride, op.padding, op.dilation)
    axes = [(1, 1, 1, 1, 0, 1, 0, 0)] * (3 - rank)
    axes += [(*row, x.strides[i], y.strides[i]) for i, row in enumerate(sizes, 2)]
    words = {f"{a}.{n}": v for a, row in zip("dhw", axes) for n, v in zip(AXIS.split(), row)}
    words |= {"channels": x.shape[1], "x.image": x.strides[0], "y.image": y.strides[0]}
    words["divisor"] = getattr(op, "divisor", 0)
    grid = y.shape[0] * numel([out for _, out, *_ in axes[:2]])
    grain = max(1, GRAIN_WORK * grid // (numel(y.shape) * numel(op.kernel)))
    how = (op.role, x.dtype.code, getattr(op, "has_padding", False))
    build = partial(build_pool_rows, *how)
    meta = WORDS.meta(words)
    return [Launch(("pool_rows", *how), build, meta, [0, 1], grid, grain, False, "pool_rows")]
