"""What the functions share: the layout of floats, signs, polynomials and the table of functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amity.ir.kernel import Builder, Value

FUNCTIONS: dict[str, Callable[..., Value]] = {}


def function(f: Callable[..., Value]) -> Callable[..., Value]:
    """Make `f` reachable as `b.math(name, …)`."""
    FUNCTIONS[f.__name__.rstrip("_")] = f
    return f


@dataclass(frozen=True)
class Format:
    """The layout of a binary float."""

    bits: str  # the signed integer of the same size
    unsigned: str
    mantissa: int
    bias: int

    @property
    def precision(self) -> int:
        return self.mantissa + 1

    @property
    def magic(self) -> float:
        """A float whose last bit counts ones: a sum with it is rounded to an integer."""
        return 1.5 * 2.0**self.mantissa

    @property
    def top(self) -> int:
        """The place of the sign bit."""
        return self.mantissa + self.bias.bit_length() + 1

    @property
    def sign(self) -> int:
        return -(1 << self.top)

    @property
    def infinity(self) -> int:
        """The bits of +inf."""
        return (2 * self.bias + 1) << self.mantissa

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


FORMATS = {"f32": Format("i32", "u32", 23, 127), "f64": Format("i64", "u64", 52, 1023)}


def format_of(x: Value) -> Format:
    return FORMATS[x.dtype]


def bits_of(b: Builder, x: Value) -> Value:
    return b.bitcast(x, format_of(x).bits)


def like(b: Builder, x: Value, number: float) -> Value:
    """A constant of `x`'s dtype and width."""
    return b.const(float(number), x.dtype, x.width)


def absolute(b: Builder, x: Value) -> Value:
    return b.unary("abs", x)


def sign_bit(b: Builder, x: Value) -> Value:
    """The sign of `x`, alone in its place."""
    return bits_of(b, x) & format_of(x).sign


def flip(b: Builder, x: Value, sign: Value) -> Value:
    """`x`, negated where the sign bit is set."""
    return b.bitcast(bits_of(b, x) ^ sign, x.dtype)


def with_sign(b: Builder, x: Value, y: Value) -> Value:
    """`x`, which is not negative, with the sign of `y`."""
    return b.bitcast(bits_of(b, x) | sign_bit(b, y), x.dtype)


def horner(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """c0 + c1 x + c2 x^2 + …"""
    y = like(b, x, coefficients[-1])
    for c in coefficients[-2::-1]:
        y = b.fma(y, x, c)
    return y


def polynomial(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """The same; a long one as two halves in x^2, which waits less and rounds a little more."""
    if len(coefficients) < 9:
        return horner(b, x, coefficients)
    z = x * x
    return b.fma(horner(b, z, coefficients[1::2]), x, horner(b, z, coefficients[::2]))


def power_of_two(b: Builder, shifted: Value) -> Value:
    """2^n, where `shifted` = n + the bias + the magic number of the format."""
    f = format_of(shifted)
    return b.bitcast(bits_of(b, shifted) << f.mantissa, shifted.dtype)


def clamp(b: Builder, x: Value, lo: float, hi: float) -> Value:
    """`x` within bounds; NaN stays."""
    return b.max(lo, b.min(hi, x))


def choose(b: Builder, x: Value, *cases: tuple[Value, float | Value]) -> Value:
    """`x`, or the value of the last case that holds."""
    for condition, y in cases:
        x = b.select(condition, y, x)
    return x


def any_lane(b: Builder, condition: Value) -> Value:
    """1 if any lane holds, else 0, as i64: the number of turns of a loop around a rare case."""
    if condition.width in (8, 16, 32, 64):
        word = b.bitcast(condition, f"i{condition.width}")
        return word.ne(0).to("i64")
    return b.reduce("or", condition).to("i64")
