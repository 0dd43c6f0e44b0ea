"""Windows of an image: what a convolution reads, laid out so that inner loops see plain rows.

A convolution is a matrix product whose second operand has a row for each (channel, tap) and a
column for each output pixel. It is never formed as a whole. For a block of output pixels and a few
channels, `expand` copies the rows of the image that the block sees: zero padded, widened to the
dtype of computation, and split by phase, so that neighbouring outputs read neighbouring elements
whatever the stride is. `tap_offsets` lists where each (channel, tap) starts in that copy, and
`pack` gathers the panels of a matrix product from it. Along an axis, output q and tap t read the
input at `q * step + offset + t * tap_step`; forward, data gradient and transposed convolution
differ in these numbers only.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

from amity.ir.kernel import Builder, Value, itemsize

SCRATCH = 8 << 20
PIXELS = 240  # columns that a block aims at
EVEN = 8  # blocks for each thread from which on it matters little that some get one more


class Words:
    """Names for the 64-bit words of a kernel's meta."""

    def __init__(self, names: str) -> None:
        self.names = names.split()
        self.at = {n: i for i, n in enumerate(self.names)}

    def read(self, b: Builder, meta: Value, names: str) -> list[Value]:
        """The words of these names, loaded here."""
        return [b.load(meta, self.at[n], "i64") for n in names.split()]

    def meta(self, values: dict[str, int]) -> tuple[int, ...]:
        """The words in their order."""
        return tuple(map(int, map(values.__getitem__, self.names)))


def signature(text: str) -> tuple[tuple[str, str], ...]:
    """The parameters of a kernel's function: names, those of pointers with a star."""
    return tuple((n.rstrip("*"), "ptr" if n[-1] == "*" else "i64") for n in text.split())


AXIS = "size lowest grain advance tap origin taps count block"


AXIS_NAMES = {a: tuple(f"{a}.{n}" for n in AXIS.split()) for a in "dhw"}


def axis_words(axes: str) -> str:
    return " ".join(n for a in axes for n in AXIS_NAMES[a])


@dataclass(frozen=True)
class Axis:
    """How output positions of one axis read input positions."""

    size: int
    count: int
    step: int = 1
    taps: int = 1
    offset: int = 0
    tap_step: int = 1

    @functools.cached_property
    def grain(self) -> int:
        """Input positions that no window touches are not copied: the copy holds every grain-th."""
        return self.step if self.taps <= 1 else gcd(self.step, self.tap_step)

    @functools.cached_property
    def advance(self) -> int:
        """Positions of the copy from one output to the next."""
        return self.step // self.grain

    @functools.cached_property
    def tap(self) -> int:
        """Positions of the copy from one tap to the next; negative for a flipped kernel."""
        return self.tap_step // self.grain if self.taps > 1 else 0

    @functools.cached_property
    def origin(self) -> int:
        """Position of tap 0 of the first output."""
        return max(0, -(self.taps - 1) * self.tap)

    @functools.cached_property
    def lowest(self) -> int:
        """Input position at which the copy of the first output's window begins."""
        return self.offset + min(0, (self.taps - 1) * self.tap_step)

    def span(self, block: int) -> int:
        """Positions of the copy that `block` outputs see."""
        return (block - 1) * self.advance + max(0, self.taps - 1) * abs(self.tap) + 1

    @property
    def is_inside(self) -> bool:
        """Whether no window leaves the input."""
        last = self.lowest + (self.span(self.count) - 1) * self.grain
        return self.count == 0 or (self.lowest >= 0 and last < self.size)

    def words(self, name: str, block: int) -> dict[str, int]:
        values = (self.size, self.lowest, self.grain, self.advance, self.tap, self.origin,
                  self.taps, self.count, block)  # fmt: skip
        return dict(zip(AXIS_NAMES[name], values))


axis = functools.lru_cache(4096)(Axis)  # equal ones are one object, that knows its numbers


@dataclass(frozen=True)
class Kind:
    """The dtype in memory, the dtype of computation and a vector's lanes."""

    storage: str
    compute: str
    lanes: int

    @property
    def size(self) -> int:
        return itemsize(self.compute)


COPY = "e.image e.channel e.plane e.row e.phase"  # strides of the expanded copy, in elements
IMAGE = "x.image x.channel x.plane x.row x.column"  # strides of the image itself


def copy_strides(
    d: Axis, h: Axis, w: Axis, block: Sequence[int], channels: int, lanes: int
) -> dict[str, int]:
    """Strides of the copy for `channels` channels of a block (images, planes, rows, columns)."""
    reach = (w.origin + max(0, w.taps - 1) * max(0, w.tap)) // w.advance
    phase = -(-(block[3] + reach) // lanes) * lanes
    row = phase * w.advance
    plane = row * h.span(block[2])
    channel = plane * d.span(block[1])
    image = channel * channels
    return {"e.image": image, "e.channel": channel, "e.plane": plane, "e.row": row,
            "e.phase": phase, "e.size": image * block[0] + 4 * lanes}  # fmt: skip


@functools.lru_cache(1024)
def choose_block(
    counts: tuple[int, int, int, int], lanes: int, pixels: int = PIXELS
) -> tuple[int, int, int, int]:
    """Images, planes, rows and columns of a block: about `pixels`, in one run of the output."""
    n, d, h, w = counts
    if w >= pixels:
        return 1, 1, 1, _best(w, 1, lanes, lanes, pixels)
    if w * h >= pixels:
        return 1, 1, _best(h, w, lanes, 1, pixels), w
    if w * h * d >= pixels:
        return 1, _best(d, w * h, lanes, 1, pixels), h, w
    if n > 1 and w * h * d < 0.75 * pixels:
        return _best(n, w * h * d, lanes, 1, pixels), d, h, w
    return 1, d, h, w


def shared(
    block: tuple[int, int, int, int], counts: tuple[int, int, int, int], lanes: int, threads: int,
    groups: int = 1,
) -> tuple[int, int, int, int]:  # fmt: skip
    """The block, or a smaller one of which so many threads get equally many."""
    at = next((i for i in range(4) if block[i] > 1), 3)
    outer, inner = prod(counts[:at]) * groups, prod(block[at + 1 :])
    count, size, step = counts[at], block[at], lanes if at == 3 else 1
    parts = -(-count // size)
    while outer * parts % threads and outer * parts < EVEN * threads:
        size = min(-(-count // ((parts + 1) * step)) * step, size - step)
        if size * inner < 2 * lanes:
            return block
        parts = -(-count // size)
    return (*block[:at], size, *block[at + 1 :])


def _best(count: int, unit: int, lanes: int, step: int, pixels: int) -> int:
    """How many of `count` positions of `unit` pixels a block takes: those that leave few lanes
    idle.
    """
    if count * unit <= pixels:
        return count
    low = max(step, pixels // 2 // unit // step * step)
    high = max(low, min(count, pixels * 3 // 2 // unit // step * step))
    best, least, spare = low, 0, pixels // 10
    for size in range(low, high + 1, step):
        full, rest = divmod(count, size)
        cost = full * (-(-size * unit // lanes) * lanes + spare)
        if rest:
            cost += -(-rest * unit // lanes) * lanes + spare
        if cost < least or not least:
            best, least = size, cost
    return best


def round_up(n: int) -> int:
    """To whole cache lines."""
    return (n + 63) // 64 * 64


def direct_strides(x: Sequence[int], d: Axis, h: Axis) -> dict[str, int]:
    """The strides of the image in place of those of a copy."""
    return {"e.image": x[0], "e.channel": x[1], "e.plane": x[2] * d.grain, "e.row": x[3] * h.grain,
            "e.phase": 0}  # fmt: skip


def lane_mask(b: Builder, first: Value, step: Value | int, limit: Value, lanes: int) -> Value:
    """Which of the positions first, first + step, … lie in [0, limit)."""
    at = b.splat(first.to("i32"), lanes) + scaled_iota(b, step, lanes)
    return b.bitcast(at, "u32") < b.bitcast(b.splat(limit.to("i32"), lanes), "u32")


def scaled_iota(b: Builder, step: Value | int, lanes: int) -> Value:
    iota = b.iota(lanes, "i32")
    if isinstance(step, Value):
        return iota * b.splat(step.to("i32"), lanes)
    return iota if step == 1 else iota * step


def first_lanes(b: Builder, count: Value, lanes: int) -> Value:
    """The mask of the first `count` lanes."""
    return b.iota(lanes, "i32") < b.splat(count.to("i32"), lanes)


EXPAND = signature("meta* x* e* images channels qd qh qw")


def expand(b: Builder, words: Words, kind: Kind, strides: Sequence[int] = (1, 2)) -> None:
    """The function `expand`: copy the rows that the block starting at (qd, qh, qw) sees to `e`.

    `strides` are the distances between neighbouring elements of a phase that have code of their
    own; others gather.
    """
    for s in (*strides, 0):
        _expand_plane(b, words, kind, s)
    with b.function("expand", EXPAND) as (meta, x, e, images, channels, qd, qh, qw):
        xn, xc, xd, _, xw = words.read(b, meta, IMAGE)
        en, ec, ed, _, _ = words.read(b, meta, COPY)
        size, lowest, grain, advance = words.read(b, meta, "d.size d.lowest d.grain d.advance")
        width, w_grain, phases = words.read(b, meta, "w.size w.grain w.advance")
        apart = b.select(xw.eq(1), w_grain * phases, 0)
        for s in strides:  # strides without code of their own are 0 from here on
            apart = b.select(apart.eq(s), -s, apart)
        apart = b.max(-apart, 0)
        with (
            b.loop(0, images) as n,
            b.loop(0, channels) as c,
            b.loop(0, _span(b, words, meta, "d")) as i,
        ):
            z = lowest + (qd * advance + i.index) * grain
            inside = (z >= 0) & (z < size)
            at = n.index * xn + c.index * xc + b.select(inside, z, 0) * xd
            plane = b.offset(x, at * itemsize(kind.storage))
            target = b.offset(e, (n.index * en + c.index * ec + i.index * ed) * kind.size)
            limit = b.select(inside, width, 0)
            for s in (*strides, 0):
                with b.branch(apart.eq(s)):
                    b.call(f"expand{s}", meta, plane, target, limit, qh, qw)


def _span(b: Builder, words: Words, meta: Value, axis: str) -> Value:
    """Positions of the copy along an axis."""
    block, advance, taps, tap = words.read(
        b, meta, " ".join(f"{axis}.{n}" for n in ("block", "advance", "taps", "tap"))
    )
    return (block - 1) * advance + b.max(taps - 1, 0) * b.max(tap, -tap) + 1


def _expand_plane(b: Builder, words: Words, kind: Kind, stride: int) -> None:
    """The rows of one plane; `limit` elements of an image's row exist.

    With a stride of 1, 2 or 4 elements between the elements of a phase, whole vectors are loaded
    and taken apart; stride 0 stands for any other.
    """
    lanes, storage = kind.lanes, itemsize(kind.storage)
    params = (
        ("meta", "ptr"),
        ("plane", "ptr"),
        ("e", "ptr"),
        ("limit", "i64"),
        ("qh", "i64"),
        ("qw", "i64"),
    )
    with b.function(f"expand{stride}", params) as (meta, plane, e, limit, qh, qw):
        size, h_lowest, h_grain, h_advance = words.read(
            b, meta, "h.size h.lowest h.grain h.advance"
        )
        lowest, grain, phases = words.read(b, meta, "w.lowest w.grain w.advance")
        xh, xw, eh, length = words.read(b, meta, "x.row x.column e.row e.phase")
        top, rows = h_lowest + qh * h_advance * h_grain, _span(b, words, meta, "h")
        step = phases * grain
        # rows [above, below) of the copy are rows of the image
        above = b.min(b.max(h_grain - 1 - top, 0) // h_grain, rows)
        below = b.min(b.max(size + h_grain - 1 - top, 0) // h_grain, rows)
        below = b.select(limit.eq(0), above, b.max(above, below))
        source = b.offset(plane, (top + above * h_grain) * xh * storage)
        source_step, target_step = h_grain * xh * storage, eh * kind.size
        zero = b.splat(b.const(0, kind.compute), lanes)
        with b.loop(0, length, lanes) as j:
            first = lowest + (qw * phases * grain) + j.index * step
            to = b.offset(e, j.index * kind.size)
            for lo, hi in ((b.const(0, "i64"), above), (below, rows)):
                with b.loop(lo, hi) as i, b.loop(0, phases) as f:
                    at = b.offset(to, i.index * target_step + f.index * length * kind.size)
                    b.store(at, 0, zero, kind.compute)
            start = [source, b.offset(to, above * target_step)]
            if stride:
                places = [first + k * lanes for k in range(stride)]
                masks = [lane_mask(b, at, 1, limit, lanes) for at in places]
                with b.loop(above, below, 1, start) as i:
                    row, target = i.carry
                    parts = _load_all(b, kind, row, places, masks)
                    _store_phases(b, kind, take_apart(b, parts), target, grain, length)
                    i.next(b.offset(row, source_step), b.offset(target, target_step))
            else:
                with b.loop(0, phases) as f:
                    at = first + f.index * grain
                    mask = lane_mask(b, at, step, limit, lanes)
                    index = b.splat((at * xw).to("i32"), lanes) + scaled_iota(b, step * xw, lanes)
                    with b.loop(above, below, 1, start) as i:
                        row, target = i.carry
                        (x,) = _load_all(b, kind, row, [index], [mask])
                        b.store(b.offset(target, f.index * length * kind.size), 0, x, kind.compute)
                        i.next(b.offset(row, source_step), b.offset(target, target_step))


def _load_all(b: Builder, kind: Kind, row: Value, places, masks) -> list[Value]:
    """Vectors of an image's row, in the dtype of computation."""
    return [
        b.load(row, at, kind.storage, kind.lanes, mask).to(kind.compute)
        for at, mask in zip(places, masks)
    ]


def _store_phases(
    b: Builder, kind: Kind, parts: list[Value], to, grain: Value, length: Value
) -> None:
    """Residue r of the stride is phase r / grain, if grain (1, 2 or 4) divides it."""
    for r, part in enumerate(parts):
        phase = b.const(r, "i64") >> (grain >> 1)
        if r == 0:
            b.store(to, 0, part, kind.compute)
        else:
            with b.branch((phase * grain).eq(r)):
                b.store(b.offset(to, phase * length * kind.size), 0, part, kind.compute)


def take_apart(b: Builder, parts: list[Value]) -> list[Value]:
    """Consecutive vectors to as many vectors of every n-th element."""
    if len(parts) == 1:
        return parts
    w = parts[0].width
    even = [b.shuffle(p, q, range(0, 2 * w, 2)) for p, q in zip(parts[::2], parts[1::2])]
    odd = [b.shuffle(p, q, range(1, 2 * w, 2)) for p, q in zip(parts[::2], parts[1::2])]
    even, odd = take_apart(b, even), take_apart(b, odd)
    return [v for pair in zip(even, odd) for v in pair]


def tap_offsets(b: Builder, words: Words, kind: Kind) -> None:
    """The function `tap_offsets(meta, table, channels)`: where each (channel, tap) starts, in
    bytes.
    """
    with b.function("tap_offsets", (("meta", "ptr"), ("table", "ptr"), ("channels", "i64"))) as (
        meta,
        table,
        channels,
    ):
        _, ec, ed, eh, ep = words.read(b, meta, COPY)
        od, td, nd, oh, th, nh, ow, tw, nw, phases = words.read(
            b, meta, "d.origin d.tap d.taps h.origin h.tap h.taps w.origin w.tap w.taps w.advance"
        )
        with b.loop(0, channels) as c, b.loop(0, nd) as i, b.loop(0, nh) as j:
            start = c.index * ec + (od + i.index * td) * ed + (oh + j.index * th) * eh
            entry = ((c.index * nd + i.index) * nh + j.index) * nw
            with b.loop(0, nw) as k:
                at = ow + k.index * tw
                shift = at // phases
                offset = start + (at - shift * phases) * ep + shift
                b.store(table, entry + k.index, offset * kind.size, "i64")


PACK = signature("meta* table* e* out* depth images planes rows columns panel")


def pack(b: Builder, words: Words, kind: Kind, vectors: int) -> None:
    """The function `pack`: panels `[depth][vectors * lanes]` of a block's pixels from the copy `e`.

    `panel` is the bytes from one panel to the next. A row of pixels is cut at the vectors of the
    panels; a cut piece is loaded and stored under a mask.
    """
    lanes, size = kind.lanes, kind.size
    unit, width = lanes * size, lanes * vectors * size
    with b.function("pack", PACK) as (
        meta,
        table,
        e,
        out,
        depth,
        images,
        planes,
        rows,
        columns,
        panel,
    ):
        en, _, ed, eh, _ = words.read(b, meta, COPY)
        ad, ah = words.read(b, meta, "d.advance h.advance")
        with b.loop(0, images) as n, b.loop(0, planes) as i, b.loop(0, rows) as j:
            source = b.offset(e, (n.index * en + i.index * ad * ed + j.index * ah * eh) * size)
            first = ((n.index * planes + i.index) * rows + j.index) * columns
            last = first + columns
            with b.loop(first // lanes, (last + (lanes - 1)) // lanes) as piece:
                start = b.max(first, piece.index * lanes)
                count = b.min(last, (piece.index + 1) * lanes) - start
                p = piece.index // vectors
                to = (
                    p * panel
                    + (piece.index - p * vectors) * unit
                    + (start - piece.index * lanes) * size
                )
                src, dst = b.offset(source, (start - first) * size), b.offset(out, to)
                with b.branch(count.eq(lanes)):
                    _copy_rows(b, kind, table, src, dst, depth, width, None)
                with b.branch(count < lanes):
                    _copy_rows(b, kind, table, src, dst, depth, width, first_lanes(b, count, lanes))


def _copy_rows(b, kind, table, source, target, depth, width, mask) -> None:
    whole = depth & -4

    def turn(loop, steps: int) -> None:
        to = loop.carry[0]
        for k in range(steps):
            from_ = b.offset(source, b.load(table, loop.index + k, "i64"))
            v = b.load(from_, 0, kind.compute, kind.lanes, mask)
            # channels may be pages apart: what the piece after the next reads is asked for now
            b.prefetch(b.offset(from_, 2 * kind.lanes * kind.size))
            b.store(b.offset(to, k * width), 0, v, kind.compute, mask)
        loop.next(b.offset(to, steps * width))

    with b.loop(0, whole, 4, [target]) as loop:
        turn(loop, 4)
    with b.loop(whole, depth, 1, loop.results) as rest:
        turn(rest, 1)
