"""Random numbers from counters: element i of a call is Philox of (seed, offset + i), on every target.

source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox4x32-10)
"""

from __future__ import annotations

import numpy as np

from amity.core.dtype import DType, float32, float64, int64, uint8
from amity.core.errors import ShapeError, fail
from amity.ir.graph import Spec

from .record import ErrorSample, Op, Sample, unlike

ROUNDS = 10
M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
MASK = 0xFFFFFFFF
SAMPLES = (
    Sample(7, 3, count=33, dtype=float64),
    Sample(2**40, 0, count=5, dtype=float32),
    Sample(0, 0, count=0, dtype=float32),
)
ERRORS = (
    ErrorSample(7, 3, count=-1, dtype=float64, error=ShapeError, says="count=-1"),
    ErrorSample(7, 3, count=1, dtype=int64, error=NotImplementedError, says="for 'Long'"),
)


def philox(b, seed, counter):
    """Four u32 for each 64-bit counter, as kernel instructions."""
    half = lambda v, shift: b.convert(v >> shift if shift else v, "u32")  # noqa: E731
    counter = b.bitcast(counter, "u64")
    x = [half(counter, 0), half(counter, 32), None, None]
    zero = b.const(0, "u32", counter.width)
    x[2], x[3] = zero, zero
    seed = b.bitcast(seed, "u64")
    k0, k1 = half(seed, 0), half(seed, 32)
    for _ in range(ROUNDS):
        high0, low0 = b.mulhi(x[0], M0), x[0] * M0
        high1, low1 = b.mulhi(x[2], M1), x[2] * M1
        x = [high1 ^ x[1] ^ k0, low1, high0 ^ x[3] ^ k1, low0]
        k0, k1 = k0 + W0, k1 + W1
    return x


def philox_numpy(seed: int, counter: np.ndarray) -> list[np.ndarray]:
    """The same four words in NumPy: the oracle."""
    u32 = lambda v: (v & np.uint64(MASK)).astype(np.uint64)  # noqa: E731
    counter = counter.astype(np.uint64)
    zero = np.zeros_like(counter)
    x = [u32(counter), counter >> np.uint64(32), zero, zero]
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(ROUNDS):
        p0, p1 = x[0] * np.uint64(M0), x[2] * np.uint64(M1)
        x = [
            (p1 >> np.uint64(32)) ^ x[1] ^ np.uint64(k0),
            u32(p1),
            (p0 >> np.uint64(32)) ^ x[3] ^ np.uint64(k1),
            u32(p0),
        ]
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return x


def _check_count(op: str, count: int) -> None:
    if count < 0:
        raise fail(ShapeError, op, f"count={count}", "how many numbers")


class _Random(Op):
    """Base: `count` numbers of a dtype from a seed and an offset, which are run-time numbers."""

    kind = "indexed"
    count: int
    dtype: DType
    runtime = ("count",)

    @property
    def structure(self):
        return (self.name, self.dtype.code)

    def infer(self, seed: Spec, offset: Spec) -> Spec:
        if self.dtype not in (float32, float64):
            raise unlike(self.name, self.dtype, "f")
        _check_count(self.name, self.count)
        return Spec((self.count,), self.dtype)

    def words(self, k, seed, offset):
        b = k.b
        counter, s = b.widen(k.index[0] + offset.load([]), seed.load([]))
        return philox(b, s, counter)

    def numpy_words(self, seed, offset):
        return philox_numpy(
            int(seed) & (1 << 64) - 1, np.arange(self.count, dtype=np.uint64) + np.uint64(offset)
        )


def unit(b, words, dtype: str):
    """A number in [0, 1): 24 bits for f32, 53 for f64."""
    if dtype == "f64":
        high, low = b.convert(words[0], "u64"), b.convert(words[1], "u64")
        return b.convert(((high << 32) | low) >> 11, "f64") * 2.0**-53
    return b.convert(b.bitcast(words[0] >> 8, "i32"), "f32") * 2.0**-24


def unit_numpy(words, dtype: DType) -> np.ndarray:
    if dtype is float64:
        return (((words[0] << np.uint64(32)) | words[1]) >> np.uint64(11)) * 2.0**-53
    return ((words[0] >> np.uint64(8)) * 2.0**-24).astype(np.float32)


class Uniform(_Random):
    """Numbers in [0, 1)."""

    name = "uniform"
    samples = SAMPLES
    errors = ERRORS

    def emit(self, k, seed, offset):
        return unit(k.b, self.words(k, seed, offset), "f64" if self.dtype is float64 else "f32")

    def reference(self, seed, offset):
        return unit_numpy(self.numpy_words(seed, offset), self.dtype).astype(self.dtype.numpy)


class Normal(_Random):
    """Standard normal numbers, by Box and Muller from two words each."""

    name = "normal"
    is_costly = True
    samples = SAMPLES
    errors = ERRORS

    def emit(self, k, seed, offset):
        b, w = k.b, self.words(k, seed, offset)
        dtype = "f64" if self.dtype is float64 else "f32"
        first = 1 - unit(b, w, dtype)  # in (0, 1], for the logarithm
        second = unit(b, w[2:], dtype)
        radius = b.unary("sqrt", b.math("log", first) * -2.0)
        return radius * b.math("cos", second * 6.283185307179586)

    def reference(self, seed, offset):
        w = self.numpy_words(seed, offset)
        first, second = 1 - unit_numpy(w, self.dtype), unit_numpy(w[2:], self.dtype)
        return (np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)).astype(self.dtype.numpy)


class Bits(_Random):
    """Integers `low + (64 random bits) mod span`."""

    name = "random_bits"
    samples = (
        Sample(7, 3, -5, 11, count=33, dtype=int64),
        Sample(-1, 2**40, 0, 2, count=5, dtype=uint8),
    )
    errors = (ErrorSample(7, 3, 0, 2, count=-1, dtype=int64, error=ShapeError, says="count=-1"),)

    def infer(self, seed: Spec, offset: Spec, low: Spec, span: Spec) -> Spec:
        _check_count(self.name, self.count)
        return Spec((self.count,), self.dtype)

    def emit(self, k, seed, offset, low, span):
        b, w = k.b, self.words(k, seed, offset)
        bits = (b.convert(w[0], "u64") << 32) | b.convert(w[1], "u64")
        bits, n = b.widen(bits, b.bitcast(span.load([]), "u64"))
        return b.convert(b.bitcast(bits % n, "i64") + low.load([]), self.dtype.code)

    def reference(self, seed, offset, low, span):
        w = self.numpy_words(seed, offset)
        bits = (w[0] << np.uint64(32)) | w[1]
        span = np.asarray(span).astype(np.uint64)  # it may stand as a negative int64
        return ((bits % span).astype(np.int64) + low).astype(self.dtype.numpy)
