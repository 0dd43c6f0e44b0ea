"""Angles reduced to a half turn around zero, over the whole range of floats.

source: Cody and Waite 1980 for common angles; Payne and Hanek 1983 for great ones.
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .floats import absolute, any_lane, bits_of, format_of, like, sign_bit

# pi in parts, most significant first. With a fused multiply-add the parts are full floats; without
# one they are short, so that their products by a step count are exact. The last number bounds the
# angles for which that holds. All are positive, so that -0 stays -0.
PI = {
    ("f32", True): ((3.141592502593994, 1.5099578831723193e-07, 1.078060505991553e-14), 65536.0),
    ("f32", False): ((3.1414794921875, 0.0001131594181060791, 1.9841763787553646e-09,
                      1.078060505991553e-14), 800.0),
    ("f64", True): ((3.141592653589793, 1.224646799147353e-16, 2.1657133478438278e-32), 2.0**28),
    ("f64", False): ((3.1415926534682512, 1.2154201012607932e-10, 4.044532497422333e-21,
                      1.69568553207378e-31), 1.6e6),
}  # fmt: skip
TWO_OVER_PI = int(  # its first 1280 bits after the point
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e0"
    "06492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f4"
    "9c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d"
    "7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d",
    16,
)
TABLE_BITS = 1280
WORD = 0xFFFFFFFF


def reduce_angle(b: Builder, x: Value, period: str, phase: bool = False) -> tuple[Value, Value]:
    """r and n with x + phase = n step + r, where |r| is at most half a step.

    The step is `period`: "pi" or "pi/2"; the phase is a quarter turn. Of the integer n, only the
    low bit is right.
    """
    parts, limit = PI[x.dtype, "fma" in b.target.has]
    scale = 1.0 if period == "pi" else 0.5
    form = format_of(x)
    n, count = steps(b, x, 1.0 / (math.pi * scale), phase, form)
    r = x
    for part in parts:
        r = b.fma(n, -part * scale, r)
    a = absolute(b, x)
    great = a >= limit
    with b.loop(0, any_lane(b, great), 1, carry=(r, count)) as turn:
        slow_r, slow_count = reduce_great(b, a, period, phase)
        if not phase:  # the angle was made positive
            slow_r = b.bitcast(bits_of(b, slow_r) ^ sign_bit(b, x), x.dtype)
        fast_r, fast_count = turn.carry
        turn.next(b.select(great, slow_r, fast_r), b.select(great, slow_count, fast_count))
    return turn.results[0], turn.results[1]


def steps(b: Builder, x: Value, inverse: float, phase: bool, form) -> tuple[Value, Value]:
    """How many steps to take off as a float, and an integer whose low bit tells their parity."""
    if not phase:
        t = b.fma(x, inverse, form.magic)
        return t - form.magic, bits_of(b, t)
    t = b.fma(x, inverse, -0.5) + form.magic
    return t - form.magic + 0.5, bits_of(b, t) + 1


def reduce_great(b: Builder, a: Value, period: str, phase: bool) -> tuple[Value, Value]:
    """The same for great positive angles, by multiplying with as much of 2/pi as matters."""
    form = format_of(a)
    limbs, words = (1, 3) if a.dtype == "f32" else (2, 6)
    bits = b.convert(b.bitcast(a, form.unsigned), "u64")
    mantissa = (bits & ((1 << form.mantissa) - 1)) | (1 << form.mantissa)
    # a = mantissa 2^e; what precedes bit e - 2 of 2/pi adds whole turns; 64 zeros open the table
    position = (bits >> form.mantissa) + (62 - form.bias - form.mantissa)
    last = form.bias - form.mantissa + 63
    window = table_window(b, position, last // 32, words)
    factor = [(mantissa >> (32 * i)) & WORD for i in range(limbs)]
    fraction = product(factor, window)
    high = (fraction[0] << 32) | fraction[1]
    low = (fraction[2] << 32) | fraction[3] if a.dtype == "f64" else None
    if phase:
        high = high + (1 << 62)
    whole = 1 if period == "pi" else 2  # how many bits stand before the fraction of a step
    count = (high + (1 << (63 - whole))) >> (64 - whole)
    high = high << whole
    if low is not None:
        high, low = high | (low >> (64 - whole)), low << whole
    scale = 2.0**-32 if period == "pi" else 2.0**-33
    y = fraction_to_float(b, high, low) * scale
    parts = PI["f64", True][0]
    r = b.convert(b.fma(y, parts[0], y * parts[1]), a.dtype)
    r = b.select(a.eq(math.inf), like(b, a, math.nan), r)
    return r, b.convert(count, form.bits)


def table_window(b: Builder, position: Value, last: int, words: int) -> list[Value]:
    """Words of 2/pi from a bit position on, the most significant first."""
    index, shift = position >> 5, position & 31
    entries = range(-2, last + words - 1)
    table = [(TWO_OVER_PI >> (TABLE_BITS - 32 * (i + 1))) & WORD if i >= 0 else 0 for i in entries]
    row = [b.const(w, "u64", position.width) for w in table]
    stride = 1 << last.bit_length()
    while stride > 1:
        stride >>= 1
        far = (index & stride).ne(0)
        row = [b.select(far, row[min(i + stride, len(row) - 1)], row[i])
               for i in range(min(len(row), words + stride))]  # fmt: skip
    pairs = [(row[i] << 32) | row[i + 1] for i in range(words)]
    return [(pair >> (32 - shift)) & WORD for pair in pairs]


def product(factor: list[Value], window: list[Value]) -> list[Value]:
    """The words of `factor * window`, as many as the window has, most significant first."""
    n = len(window)
    columns: list[list[Value]] = [[] for _ in range(n + 1)]
    for i, x in enumerate(factor):
        for j, y in enumerate(reversed(window)):
            if i + j < n:
                p = x * y
                columns[i + j].append(p & WORD)
                columns[i + j + 1].append(p >> 32)
    out, carry = [], None
    for column in columns[:n]:
        total = column[0] if carry is None else column[0] + carry
        for part in column[1:]:
            total = total + part
        out.append(total & WORD)
        carry = total >> 32
    return out[::-1]


def fraction_to_float(b: Builder, high: Value, low: Value | None) -> Value:
    """A signed fixed-point number in units of 2^32 of `high`; no bit of a small one is lost."""
    negative = b.bitcast(high, "i64") < 0
    high = b.select(negative, ~high, high)
    piece = lambda word: b.convert(word & 0x7FFFFFFF, "i32").to("f64")  # noqa: E731
    y = piece(high >> 1)
    if low is not None:
        low = b.select(negative, ~low, low)
        y = b.fma(b.fma(piece(low >> 3), 2.0**-31, piece((high << 30) | (low >> 34))), 2.0**-31, y)
    y = b.fma(y, 2.0**-31, piece(high >> 32))
    return b.select(negative, -y, y)
