"""Random tensors, generators and seeds."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from amity.core.device import CPU, Device, placed
from amity.core.dtype import DType, bool_, finfo, float32, float64, get_default_dtype, int64, uint8
from amity.ops.random import Bits, Normal, Uniform

from . import create, inplace
from .create import finish, sizes
from .grad_mode import no_grad
from .tape import modes
from .tensor import Tensor

DEFAULT_SEED = 67280421310721  # what PyTorch starts from as well: a fresh process repeats itself
SIGNED = 1 << 63


class Generator:
    """A stream of random numbers: a seed and how many were drawn.

    >>> Generator().manual_seed(3).initial_seed()
    3
    """

    def __init__(self, device: Any = "cpu") -> None:
        self.device = Device(device)
        self._lock = threading.Lock()
        self._seed, self._offset = DEFAULT_SEED, 0

    def manual_seed(self, seed: int) -> Generator:
        self._seed, self._offset = int(seed) & (1 << 64) - 1, 0
        return self

    def seed(self) -> int:
        """A seed that nobody knows beforehand."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        return self._seed

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> Tensor:
        words = np.array([self._seed, self._offset], np.uint64)
        return create.tensor(words.view(np.uint8))

    def set_state(self, new_state: Tensor) -> Generator:
        if not isinstance(new_state, Tensor) or new_state.dtype is not uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if new_state.numel() != 16:
            raise RuntimeError(
                f"set_state: RNG state is wrong size: got {new_state.numel()} bytes; expected 16"
            )
        seed, offset = new_state.numpy().copy().view(np.uint64)
        self._seed, self._offset = int(seed), int(offset)
        return self

    def clone_state(self) -> Generator:
        other = Generator()
        other._seed, other._offset = self._seed, self._offset
        return other

    def take(self, count: int) -> tuple[int, int]:
        """Seed and offset for `count` numbers, as signed 64-bit integers; the stream moves on."""
        with self._lock:
            offset = self._offset
            self._offset = (offset + max(count, 1)) & (1 << 64) - 1
        return _signed(self._seed), _signed(offset)

    def __reduce__(self) -> tuple:
        return (_restore, (self._seed, self._offset))


def _restore(seed: int, offset: int) -> Generator:
    g = Generator()
    g._seed, g._offset = seed, offset
    return g


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= SIGNED else x


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Start the default stream anew from a seed."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default stream from a seed that nobody knows beforehand."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default stream."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default stream."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default stream."""
    default_generator.set_state(new_state)


def draw(op: Any, shape: Sequence[int], generator: Generator | None, *more: int) -> Tensor:
    """Numbers of a shape from an op of counters."""
    g = generator or default_generator
    with no_grad():
        return op(*g.take(op.count), *more).reshape(tuple(shape))


def _count(shape: Sequence[int]) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def _floating(name: str, dtype: DType | None) -> DType:
    dtype = dtype or get_default_dtype()
    if dtype.kind != "f":
        raise RuntimeError(f"\"{name}\" not implemented for '{dtype.name}'")
    return dtype


def uniform(shape: Sequence[int], dtype: DType, generator: Generator | None = None) -> Tensor:
    """Numbers in [0, 1)."""
    return draw(Uniform(_count(shape), dtype), shape, generator)


def normal_numbers(
    shape: Sequence[int], dtype: DType, generator: Generator | None = None
) -> Tensor:
    """Standard normal numbers."""
    return draw(Normal(_count(shape), dtype), shape, generator)


def _made(t: Tensor, device: Any, out: Tensor | None, requires_grad: bool) -> Tensor:
    device = placed(device)
    if device is not CPU:
        t = t.to(device)
    return out._receive(t) if out is not None else finish(t, requires_grad)


def rand(
    *size: Any,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Numbers evenly distributed in [0, 1)."""
    return _made(
        uniform(sizes(size), _floating("rand", dtype), generator), device, out, requires_grad
    )


def randn(
    *size: Any,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Standard normal numbers."""
    return _made(
        normal_numbers(sizes(size), _floating("randn", dtype), generator),
        device,
        out,
        requires_grad,
    )


def integers(
    low: int, high: int, shape: Sequence[int], dtype: DType, generator: Generator | None
) -> Tensor:
    if high <= low:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )
    return draw(Bits(_count(shape), int64), shape, generator, low, _signed(high - low)).to(dtype)


def randint(
    *args: Any,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **given: Any,
) -> Tensor:
    """Integers in [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    *bounds, size = (*args, given["size"]) if "size" in given else args
    low = given.get("low", bounds[0] if len(bounds) == 2 else 0)
    high = given.get("high", bounds[-1] if bounds else None)
    return _made(
        integers(int(low), int(high), sizes((size,)), dtype or int64, generator),
        device,
        out,
        requires_grad,
    )


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """The numbers 0 … n-1 in random order."""
    create.sizes((n,))
    keys = draw(Bits(n, int64), (n,), generator, 0, _signed(SIGNED)).numpy()
    return _made(
        create.tensor(np.argsort(keys, kind="stable"), dtype=dtype or int64),
        device,
        out,
        requires_grad,
    )


def rand_like(
    input: Tensor, *, dtype: DType | None = None, generator: Generator | None = None, **kw: Any
) -> Tensor:
    """`rand` in the shape and dtype of another tensor."""
    return rand(tuple(input.shape), dtype=dtype or input.dtype, generator=generator, **kw)


def randn_like(
    input: Tensor, *, dtype: DType | None = None, generator: Generator | None = None, **kw: Any
) -> Tensor:
    """`randn` in the shape and dtype of another tensor."""
    return randn(tuple(input.shape), dtype=dtype or input.dtype, generator=generator, **kw)


def randint_like(input: Tensor, *bounds: Any, dtype: DType | None = None, **kw: Any) -> Tensor:
    """`randint` in the shape and dtype of another tensor."""
    return randint(*bounds, tuple(input.shape), dtype=dtype or input.dtype, **kw)


def bernoulli(
    input: Tensor, *, generator: Generator | None = None, out: Tensor | None = None
) -> Tensor:
    """1 with the probability that an element says, else 0."""
    p = input.detach()
    if p.numel() and bool(((p < 0) | (p > 1) | (p != p)).any()):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
    drawn = uniform(tuple(p.shape), float64 if p.dtype is float64 else float32, generator)
    return _made((drawn < p).to(p.dtype), None, out, False)


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
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    if size is None:
        like = (mean + std * 0) if isinstance(mean, Tensor) else std
        shape, dtype = tuple(like.shape), dtype or like.dtype
    else:
        shape = sizes((size,))
    drawn = normal_numbers(shape, dtype or get_default_dtype(), generator)
    return _made(drawn * std + mean, None, out, False)


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
            f"multinomial only supports floating-point dtypes for input, got: {input.dtype}"
        )
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    p = np.atleast_2d(input.detach().double().numpy())
    if not replacement and num_samples > p.shape[1]:
        raise RuntimeError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
        )
    if not np.isfinite(p).all() or (p < 0).any():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (p.sum(1) <= 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if replacement:
        u = uniform((p.shape[0], num_samples), float64, generator).numpy()
        c = np.cumsum(p, 1)
        picked = np.stack(
            [np.searchsorted(row, x * row[-1], side="right") for row, x in zip(c, u, strict=True)]
        )
    else:  # the largest of weights to the power 1/u win (Efraimidis & Spirakis 2006)
        u = uniform(p.shape, float64, generator).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            keys = np.where(p > 0, -np.log1p(-u) / p, np.inf)
        picked = np.argsort(keys, axis=1, kind="stable")[:, :num_samples]
    result = create.tensor(picked if input.ndim == 2 else picked[0], dtype=int64)
    return _made(result, None, out, False)


# -- in-place forms


def _fill(self: Tensor, drawn: Tensor) -> Tensor:
    if modes.grad:
        inplace.check_writable("random", self)
    inplace.write(self, drawn)
    return self


def _work_dtype(t: Tensor) -> DType:
    return float64 if t.dtype is float64 else float32


def uniform_(
    self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers evenly distributed in [a, b)."""
    if a > b:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}"
        )
    u = uniform(tuple(self.shape), _work_dtype(self), generator)
    return _fill(self, u * (b - a) + a)


def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Normal numbers of a mean and a standard deviation."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    return _fill(self, normal_numbers(tuple(self.shape), _work_dtype(self), generator) * std + mean)


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """1 with probability p, else 0."""
    u = uniform(tuple(self.shape), _work_dtype(self), generator)
    return _fill(self, (u < p).to(self.dtype))


def random_(
    self: Tensor, a: int | None = None, b: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Integers in [a, b); by default all that the dtype holds exactly from 0 on."""
    if b is None:
        high = 2 if self.dtype is bool_ else _largest(self.dtype) + 1
        low, high = (0, high) if a is None else (0, a)
    else:
        low, high = a, b
    return _fill(self, integers(low, high, tuple(self.shape), int64, generator))


def _largest(dtype: DType) -> int:
    if dtype.kind == "f":
        return round(1 / finfo(dtype).eps) * 2
    return min(np.iinfo(dtype.numpy).max, (1 << 63) - 2)


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Exponentially distributed numbers of rate `lambd`."""
    if lambd <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    u = uniform(tuple(self.shape), _work_dtype(self), generator)
    return _fill(self, -(-u).log1p() / lambd)


def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers of the Cauchy distribution."""
    u = uniform(tuple(self.shape), _work_dtype(self), generator)
    angle = (u - 0.5) * 3.141592653589793
    return _fill(self, angle.sin() / angle.cos() * sigma + median)


def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers whose logarithm is normal."""
    return _fill(
        self, (normal_numbers(tuple(self.shape), _work_dtype(self), generator) * std + mean).exp()
    )


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """The number of trials up to the first success of probability p."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    u = uniform(tuple(self.shape), float64, generator)
    return _fill(self, ((-u).log1p() / np.log1p(-p)).to(int64) + 1)


def like_uniform(self: Tensor) -> Tensor:
    """Numbers in [0, 1) in this tensor's shape and dtype."""
    return uniform(tuple(self.shape), _work_dtype(self)).to(self.dtype)


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
