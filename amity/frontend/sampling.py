"""Samples of distributions: as new tensors, and written into tensors that are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from amity.core.dtype import DType, bool_, float32, float64, get_default_dtype, int64

from . import create, inplace
from .create import sizes
from .random import (
    Generator,
    check_range,
    default_generator,
    integers,
    largest,
    made,
    normal_numbers,
    uniform,
)
from .tape import modes
from .tensor import Tensor


def bernoulli(
    input: Tensor, *, generator: Generator | None = None, out: Tensor | None = None
) -> Tensor:
    """1 with the probability that an element says, else 0."""
    p = input.detach()
    if p.numel() and bool(((p < 0) | (p > 1) | (p != p))._held().any()):
        raise RuntimeError(
            "bernoulli: Expected p_in >= 0 && p_in <= 1 to be true, but got false: expected "
            "probabilities in [0, 1]"
        )
    drawn = uniform(tuple(p.shape), float64 if p.dtype is float64 else float32, generator)
    return made((drawn < p).to(p.dtype), None, out, False)


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: DType | None = None,
    **_: Any,
) -> Tensor:
    """Normal numbers of a mean and a standard deviation, given as numbers or tensors."""
    if not isinstance(std, Tensor) and std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std={std}")
    if size is None:
        like = (mean + std * 0) if isinstance(mean, Tensor) else std
        shape, dtype = tuple(like.shape), dtype or like.dtype
    else:
        shape = sizes((size,))
    drawn = normal_numbers(shape, dtype or get_default_dtype(), generator)
    return made(drawn * std + mean, None, out, False)


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Positions drawn with the probabilities that each row of weights gives.

    errors: RuntimeError for negative weights, rows that sum to 0, or too many samples
    """
    if input.dtype.kind != "f":
        raise RuntimeError(
            f"multinomial: only supports floating-point dtypes for input, got: {input.dtype}"
        )
    if input.ndim not in (1, 2):
        raise RuntimeError("multinomial: prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise RuntimeError(f"multinomial: got {num_samples}: cannot sample n_sample <= 0 samples")
    p = np.atleast_2d(input.detach().double()._array())
    if not replacement and num_samples > p.shape[1]:
        raise RuntimeError(
            f"multinomial: got {num_samples} samples of {p.shape[1]}: cannot sample n_sample > "
            "prob_dist.size(-1) samples without replacement"
        )
    if not np.isfinite(p).all() or (p < 0).any():
        raise RuntimeError(
            "multinomial: probability tensor contains either `inf`, `nan` or element < 0"
        )
    if (p.sum(1) <= 0).any():
        raise RuntimeError(
            "multinomial: invalid multinomial distribution (sum of probabilities <= 0)"
        )
    if replacement:
        u = uniform((p.shape[0], num_samples), float64, generator)._array()
        c = np.cumsum(p, 1)
        picked = np.stack(
            [np.searchsorted(row, x * row[-1], side="right") for row, x in zip(c, u, strict=True)]
        )
    else:  # the largest of weights to the power 1/u win (Efraimidis & Spirakis 2006)
        u = uniform(p.shape, float64, generator)._array()
        with np.errstate(divide="ignore", invalid="ignore"):
            keys = np.where(p > 0, -np.log1p(-u) / p, np.inf)
        picked = np.argsort(keys, axis=1, kind="stable")[:, :num_samples]
    result = create.tensor(picked if input.ndim == 2 else picked[0], dtype=int64)
    return made(result, None, out, False)


# -- in-place forms


def _fill(self: Tensor, drawn: Tensor) -> Tensor:
    if modes.grad:
        inplace.check_writable("random", self)
    inplace.write(self, drawn)
    return self


def _check(op: str, is_good: bool, name: str, value: Any, expected: str) -> None:
    if not is_good:
        raise RuntimeError(f"{op} expects {expected}, but found {name}={value}")


def _floats(op: str, t: Tensor, kind: type[Exception] = NotImplementedError) -> DType:
    """The dtype to draw in, for a tensor that can hold fractions."""
    if t.dtype.kind != "f":
        raise kind(
            f"\"{op}\" not implemented for '{t.dtype.name}': {op}: got {t.dtype}; dtype must be "
            "a floating point"
        )
    return _work_dtype(t)


def _work_dtype(t: Tensor) -> DType:
    return float64 if t.dtype is float64 else float32


def uniform_(
    self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers evenly distributed in [a, b)."""
    dtype = _floats("uniform_", self)
    if a > b:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}"
        )
    return _fill(self, uniform(tuple(self.shape), dtype, generator) * (b - a) + a)


def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Normal numbers of a mean and a standard deviation."""
    dtype = _floats("normal_", self)
    _check("normal_", std >= 0, "std", std, "std >= 0.0")
    return _fill(self, normal_numbers(tuple(self.shape), dtype, generator) * std + mean)


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """1 with probability p, else 0."""
    if not isinstance(p, Tensor):
        _check("bernoulli_", 0 <= p <= 1, "p", p, "p to be in [0, 1]")
    u = uniform(tuple(self.shape), _work_dtype(self), generator)
    return _fill(self, (u < p).to(self.dtype))


def random_(
    self: Tensor, a: int | None = None, b: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Integers in [a, b); by default all that the dtype holds exactly from 0 on."""
    if b is None:
        top = 1 if self.dtype is bool_ else min(largest(self.dtype), (1 << 63) - 2)
        low, high = 0, top + 1 if a is None else a
    else:
        low, high = a, b
        check_range("random_", low, high, self.dtype)
    return _fill(self, integers(low, high, tuple(self.shape), int64, generator))


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Exponentially distributed numbers of rate `lambd`."""
    dtype = _floats("exponential_", self, RuntimeError)
    _check("exponential_", lambd > 0, "lambda", lambd, "lambda > 0.0")
    return _fill(self, -(-uniform(tuple(self.shape), dtype, generator)).log1p() / lambd)


def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers of the Cauchy distribution."""
    dtype = _floats("cauchy_", self, RuntimeError)
    _check("cauchy_", sigma > 0, "sigma", sigma, "sigma > 0.0")
    angle = (uniform(tuple(self.shape), dtype, generator) - 0.5) * math.pi
    return _fill(self, angle.sin() / angle.cos() * sigma + median)


def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers whose logarithm is normal."""
    dtype = _floats("log_normal_", self)
    _check("log_normal_", std > 0, "std", std, "std > 0.0")
    return _fill(self, (normal_numbers(tuple(self.shape), dtype, generator) * std + mean).exp())


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """The number of trials up to the first success of probability p."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    u = uniform(tuple(self.shape), float64, generator)
    return _fill(self, ((-u).log1p() / math.log1p(-p)).to(int64) + 1)


# -- counts of events: by NumPy, from a counter-based stream of its own


def _stream(count: int, generator: Generator | None) -> np.random.Generator:
    seed, offset = (generator or default_generator).take(count)
    words = [seed & (1 << 64) - 1, offset & (1 << 64) - 1]
    return np.random.Generator(np.random.Philox(key=np.array(words, np.uint64)))


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """How many events happen where so many are expected.

    errors: RuntimeError for negative rates
    """
    _floats("poisson", input)
    rates = input.detach().double()._array()
    if not (rates >= 0).all():
        raise RuntimeError("poisson: got a rate below 0 or NaN; expected rates of 0 or more")
    counts = _stream(rates.size, generator).poisson(rates)
    return create.tensor(np.asarray(counts, np.float64), dtype=input.dtype)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` trials succeed with probability `prob`, broadcast."""
    _floats("binomial", count)
    n, p = np.broadcast_arrays(*(t.detach().double()._array() for t in (count, prob)))
    if not ((n >= 0) & (p >= 0) & (p <= 1)).all():
        raise RuntimeError(
            "binomial: got counts or probabilities out of range; expected n >= 0 and p in [0, 1]"
        )
    counts = _stream(n.size, generator).binomial(n.astype(np.int64), p)
    return create.tensor(np.asarray(counts, np.float64), dtype=count.dtype)


def like_uniform(self: Tensor) -> Tensor:
    """Numbers in [0, 1) in this tensor's shape and dtype."""
    return uniform(tuple(self.shape), self.dtype)


def noise(self: Tensor, shape: Sequence[int]) -> Tensor:
    """Numbers in [0, 1) of a shape, for dropout."""
    return uniform(tuple(shape), float32)


Tensor._like_uniform = like_uniform
Tensor._noise = noise
for _f in (
    uniform_,
    normal_,
    bernoulli_,
    random_,
    exponential_,
    cauchy_,
    log_normal_,
    geometric_,
    bernoulli,
    multinomial,
):
    setattr(Tensor, _f.__name__, _f)
