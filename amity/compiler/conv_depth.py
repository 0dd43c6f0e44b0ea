"""Depthwise convolutions where channels lie side by side: vectors run along the channels of a few
neighbouring pixels, whose windows share the weights that are loaded for each tap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_problem import Product, Stage
from .conv_product import kind_of, split_index
from .ending import Ending, EndingBody
from .nest import Nest
from .pool_rows import Reach, reach, span
from .window import IMAGE, Kind, Words, first_lanes, round_up, scaled_iota

AXIS = "size kernel stride pad dilation count"
WORDS = Words(
    f"{' '.join(f'{a}.{n}' for a in 'dhw' for n in AXIS.split())} {IMAGE} channels bias pitch "
    "w.start w.group w.plane w.row w.column inside_from inside_to"
)
PIXELS = 8  # of a tile
FIRST_OPERAND = 2  # buffers of an ending come after the image and the weights


def serves(p: Product) -> bool:
    """Whether each channel of the result sees one of the image's, which lie side by side."""
    return p.channels == p.outs == 1 and p.x[1] == 1 and p.groups > 1


def build_depth_weights(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(w, bias, out)`: a row of biases, then one of weights for each tap. One unit is a vector."""
    kind = kind_of(target, dtype)
    b = Builder(name, target, math)
    lanes, storage = kind.lanes, itemsize(dtype)
    with b.entry():
        w, bias, out = (b.pointer(i) for i in range(3))
        channels, has_bias, pitch, start, wc, wd, wh, ww = WORDS.read(
            b, b.meta, "channels bias pitch w.start w.group w.plane w.row w.column"
        )
        d, h, columns = WORDS.read(b, b.meta, "d.kernel h.kernel w.kernel")
        spread = scaled_iota(b, wc, lanes)
        with b.loop(b.lo, b.hi) as unit:
            c = unit.index * lanes
            mask = first_lanes(b, channels - c, lanes)
            known = first_lanes(b, b.select(has_bias.ne(0), channels - c, 0), lanes)
            to = b.offset(out, c * kind.size)
            b.store(to, 0, b.load(bias, c, dtype, lanes, known).to(kind.compute), kind.compute)
            source = b.offset(w, (start + c * wc) * storage)
            with b.loop(0, d) as i, b.loop(0, h) as j, b.loop(0, columns) as k:
                at = (i.index * wd + j.index * wh + k.index * ww) * storage
                x = b.load(b.offset(source, at), spread, dtype, lanes, mask).to(kind.compute)
                tap = (i.index * h + j.index) * columns + k.index
                b.store(b.offset(to, (tap + 1) * pitch), 0, x, kind.compute)
    return b.kernel


def build_depth_rows(dtype: str, nest: Nest, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, weights, operands of the ending)`: one unit is a line of results."""
    kind = kind_of(target, dtype)
    b = Builder(name, target, math)
    with b.entry():
        read = lambda names: WORDS.read(b, b.meta, names)  # noqa: E731
        xn, lo, hi, d, h, w = read("x.image inside_from inside_to d.count h.count w.count")
        end = EndingBody(nest, b, len(WORDS.names), FIRST_OPERAND)
        with b.loop(b.lo, b.hi) as unit:
            n, i, j = split_index(unit.index, d, h)
            image = b.offset(b.pointer(0), n * xn * itemsize(kind.storage))
            outer = [reach(b, WORDS, "d", i), reach(b, WORDS, "h", j)]
            row = unit.index * w

            def tiles(first: Value | int, last: Value, pixels: int, inside: bool) -> None:
                with b.loop(first, last, pixels) as k:
                    across = reach(b, WORDS, "w", k.index)
                    if inside:
                        taps = across.taps
                        across = Reach(across.start, b.const(0, "i64"), taps, taps, taps)
                    _tile(b, kind, end, image, [*outer, across], row + k.index, pixels)

            whole = lo + (hi - lo) // PIXELS * PIXELS
            tiles(0, lo, 1, False)
            tiles(lo, whole, PIXELS, True)
            tiles(whole, hi, 1, True)
            tiles(hi, w, 1, False)
    return b.kernel


def _tile(
    b: Builder, kind: Kind, end: EndingBody, image: Value, reaches: Sequence[Reach], row: Value,
    pixels: int,
) -> None:  # fmt: skip
    """All channels of neighbouring pixels."""
    channels, pitch, xw, stride = WORDS.read(b, b.meta, "channels pitch x.column w.stride")
    lanes, storage = kind.lanes, itemsize(kind.storage)
    weights, step = b.pointer(1), stride * xw * storage

    def some(c: Value, mask: Value | None) -> None:
        start = b.load(weights, c, kind.compute, lanes)

        def nest(depth: int, at: Value, tap: Value, acc: list[Value]) -> list[Value]:
            if depth == len(reaches):
                w = b.load(b.offset(weights, (tap + 1) * pitch), c, kind.compute, lanes)
                place = b.offset(image, at * storage)
                places = [b.offset(place, step * i) for i in range(pixels)]
                taken = [b.load(p, c, kind.storage, lanes, mask) for p in places]
                return [
                    b.fma(x.to(kind.compute), w, s) if s.dtype[0] == "f" else s + x * w
                    for x, s in zip(taken, acc, strict=True)
                ]
            here, axis = reaches[depth], "dhw"[depth]
            dilation, x = WORDS.read(b, b.meta, f"{axis}.dilation {IMAGE.split()[2 + depth]}")
            with b.loop(here.first, here.last, 1, acc) as t:
                place = at + (here.start + t.index * dilation) * x
                t.next(*nest(depth + 1, place, tap * here.taps + t.index, t.carry))
            return t.results

        zero = b.const(0, "i64")
        for i, s in enumerate(nest(0, zero, zero, [start] * pixels)):
            end.store(s, row + i, c, mask)

    whole = channels & -lanes
    with b.loop(0, whole, lanes) as c:
        some(c.index, None)
    with b.branch(whole < channels):
        some(whole, first_lanes(b, channels - whole, lanes))


def plan(target: Target, p: Product, ending: Ending) -> list[Stage]:
    """Lay out the weights, then convolve."""
    if prod(p.counts) == 0:
        return []
    kind = kind_of(target, p.dtype)
    pitch = round_up(p.groups * kind.size)
    words = {
        **{f"{a}.{n}": v for a, x in zip("dhw", p.axes) for n, v in
           zip(AXIS.split(), (x.size, x.taps, x.step, -x.offset, x.tap_step, x.count))},
        **dict(zip(IMAGE.split(), p.x)),
        **dict(zip(("w.group", "w.plane", "w.row", "w.column"), (p.w[0], *p.w[3:]))),
        "w.start": p.w_start, "channels": p.groups, "bias": p.has_bias, "pitch": pitch,
    }  # fmt: skip
    words["inside_from"], words["inside_to"] = span(p.axes[2])
    meta = WORDS.meta(words)
    operands = tuple(range(len(ending.places)))
    vectors = -(-p.groups // kind.lanes)
    weights = ("depth_weights", meta, "wbt" if p.has_bias else "wwt", vectors)
    rows = ("depth_rows", meta + ending.meta, (p.source, "t", *operands), prod(p.counts[:3]))
    return [Stage((weights, rows), pitch * (p.taps + 1) + 64)]
