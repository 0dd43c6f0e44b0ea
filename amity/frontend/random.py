"""Random tensors, generators and seeds."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from amity.core.device import CPU, Device, placed
from amity.core.dtype import DType, as_dtype, bool_, finfo, float32, get_default_dtype, int64, uint8
from amity.engine import deferral
from amity.ops.random import Bits, Normal, Uniform
from amity.ops.sorting import argsort

from . import create
from .batched import running, wrapped
from .create import finish, sizes
from .grad_mode import no_grad
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
        if not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        seed = int(seed)
        if not -SIGNED <= seed < 2 * SIGNED:
            raise ValueError(
                f"manual_seed: got {seed}: Overflow when unpacking long long; expected 64 bits"
            )
        self._seed, self._offset = seed & (1 << 64) - 1, 0
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
        seed, offset = new_state._array().copy().view(np.uint64)
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
        seed, offset = _signed(self._seed), _signed(offset)
        witness = deferral.witness()
        if witness is not None:
            witness.draws_from(self, seed, offset, count)
        return seed, offset

    def place(self) -> tuple[int, int]:
        """Where the stream is."""
        return self._seed, self._offset

    def move(self, place: tuple[int, int]) -> None:
        """Go on from a place."""
        self._seed, self._offset = place

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
    return default_generator.manual_seed(int(seed))


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


@contextmanager
def fork_rng(devices: Any = (), enabled: bool = True) -> Iterator[None]:
    """The default stream goes on after the block as if the block had drawn nothing."""
    state = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            set_rng_state(state)


def draw(op: Any, shape: Sequence[int], generator: Generator | None, *more: int) -> Tensor:
    """Numbers of a shape from an op of counters."""
    g = generator or default_generator
    if running():
        return _drawn_in_maps(op, shape, g, more)
    with no_grad():
        return op(*g.take(op.count), *more).reshape(tuple(shape))


def _drawn_in_maps(op: Any, shape: Sequence[int], g: Generator, more: Sequence[int]) -> Tensor:
    """Numbers inside of `vmap`: different ones for each entry, or the same, as the map was told."""
    if any(level.randomness == "error" for level in running()):
        raise RuntimeError(
            "vmap: called random operation while in randomness error mode. Please either use the 'same' "
            "or 'different' randomness flags on vmap or perform the randomness operation out of vmap"
        )
    maps = [level for level in running() if level.randomness == "different"]
    lead = tuple(level.size for level in maps)
    many = type(op)(**op.attributes() | {"count": op.count * count_of(lead)})
    with no_grad():
        t = many(*g.take(many.count), *more).reshape((*lead, *shape))
    for level in maps:
        t = wrapped(t, level.number)
    return t


def count_of(shape: Sequence[int]) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def floating(name: str, dtype: DType | None) -> DType:
    dtype = as_dtype(name, dtype) or get_default_dtype()
    if dtype.kind != "f":
        raise NotImplementedError(
            f"\"{name}\" not implemented for '{dtype.name}': {name}: got {dtype}; expected a "
            "floating-point dtype"
        )
    return dtype


def uniform(shape: Sequence[int], dtype: DType, generator: Generator | None = None) -> Tensor:
    """Numbers in [0, 1), as many different ones as the dtype's digits tell apart."""
    if dtype.itemsize == 2:
        steps = 1 / finfo(dtype).eps * 2
        return ((uniform(shape, float32, generator) * steps).floor() / steps).to(dtype)
    return draw(Uniform(count_of(shape), dtype), shape, generator)


def normal_numbers(
    shape: Sequence[int], dtype: DType, generator: Generator | None = None
) -> Tensor:
    """Standard normal numbers."""
    if dtype.itemsize == 2:
        return normal_numbers(shape, float32, generator).to(dtype)
    return draw(Normal(count_of(shape), dtype), shape, generator)


def made(t: Tensor, device: Any, out: Tensor | None, requires_grad: bool) -> Tensor:
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
    return made(
        uniform(sizes(size), floating("rand", dtype), generator), device, out, requires_grad
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
    return made(
        normal_numbers(sizes(size), floating("randn", dtype), generator),
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
    return draw(Bits(count_of(shape), int64), shape, generator, low, _signed(high - low)).to(dtype)


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
    names = ("low", "high", "size") if len(args) + len(given) == 3 else ("high", "size")
    given = {**dict(zip(names, args, strict=False)), **given}
    size = given.get("size")
    if set(given) - {"low"} != {"high", "size"} or isinstance(size, int):
        raise TypeError(
            f"randint: got {args} and {sorted(given)}; expected (high, size) or (low, high, size), "
            "with a tuple of ints as size"
        )
    low, high = int(given.get("low", 0)), int(given["high"])
    dtype = as_dtype("randint", dtype) or int64
    check_range("randint", low, high, dtype)
    drawn = integers(low, high, sizes((size,), "randint"), dtype, generator)
    return made(drawn, device, out, requires_grad)


def check_range(op: str, low: int, high: int, dtype: DType) -> None:
    """An error for bounds that a dtype does not hold, or that hold nothing."""
    least, most = (0, 1) if dtype is bool_ else (-largest(dtype) - 1, largest(dtype))
    least = 0 if dtype is uint8 else least
    for name, bound in (("from", low), ("to - 1", high - 1)):
        if not least <= bound <= most and high > low:
            raise RuntimeError(
                f"{op}: got {name}={bound} for [{low}, {high}): {name} is out of bounds for {dtype.name}; expected "
                f"{least} to {most}"
            )


def largest(dtype: DType) -> int:
    """The largest integer up to which a dtype holds all."""
    if dtype.kind == "f":
        return round(1 / finfo(dtype).eps) * 2
    return int(np.iinfo(dtype.numpy).max)


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
    sizes((n,), "randperm")
    if n and n - 1 > largest(dtype or int64):
        raise RuntimeError(
            f"randperm: got n={n}; value cannot be converted to type {dtype.name} without overflow"
        )
    keys = draw(Bits(n, int64), (n,), generator, 0, _signed(SIGNED))
    return made(argsort(keys, stable=True).to(dtype or int64), device, out, requires_grad)


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
