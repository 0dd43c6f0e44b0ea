"""Random shapes, dtypes, dimensions, indices and chains of views against PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes  # noqa: E402

import amity  # noqa: E402
from tests.ops.compare import DTYPES, builtin_class, of_amity, of_torch, same  # noqa: E402

# the same examples at every run; a first one may compile
RUN = settings(max_examples=80, deadline=None, derandomize=True, database=None)
SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def numbers(shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    """Different numbers, so that no two places are taken for each other."""
    return (np.arange(math.prod(shape)).reshape(shape) * 0.5 - 3).astype(dtype)


def both(run, *arrays: np.ndarray, grad: bool = False):
    """What a function of a library and tensors gives in both: (PyTorch's, amity's) or two errors."""
    out = []
    for lib, make in ((torch, of_torch), (amity, of_amity)):
        try:
            out.append(run(lib, *(make(a, grad) for a in arrays)))
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            out.append(error)
    return out


def agree(run, *arrays: np.ndarray, said: str) -> None:
    expected, got = both(run, *arrays)
    if isinstance(expected, Exception):
        assert isinstance(got, builtin_class(expected)), f"{said}: {got!r}; expected {expected!r}"
        return
    assert not isinstance(got, Exception), f"{said}: got {got!r}; expected {expected!r}"
    same(got, expected, said)


# -- shapes that broadcast


@RUN
@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0))
def test_shapes_that_broadcast(found):
    a, b = (numbers(s) for s in found.input_shapes)

    def run(lib, x, z):
        y = x * z + z
        gx, gz = (torch.autograd if lib is torch else amity).grad(y.sum() * 2, (x, z))
        return y.detach(), gx, gz, lib.broadcast_to(x.detach(), found.result_shape)

    expected, got = both(run, a, b, grad=True)
    assert not isinstance(got, Exception), f"{found.input_shapes}: {got!r}"
    same(got, expected, f"{found.input_shapes}")
    assert tuple(amity.broadcast_shapes(*found.input_shapes)) == found.result_shape


@RUN
@given(st.lists(st.one_of(array_shapes(min_dims=0, max_side=3, min_side=0), st.integers(0, 3))))
def test_broadcast_shapes(shapes):
    agree(lambda lib: tuple(lib.broadcast_shapes(*shapes)), said=str(shapes))


@RUN
@given(st.lists(SHAPES, min_size=2, max_size=3))
def test_any_shapes(shapes):
    agree(
        lambda lib, *xs: lib.stack(lib.broadcast_tensors(*xs)),
        *map(numbers, shapes),
        said=str(shapes),
    )
    agree(lambda lib, x, z, *_: lib.maximum(x, z), *map(numbers, shapes), said=str(shapes))
    agree(lambda lib, x, z, *_: x.expand(z.shape), *map(numbers, shapes), said=str(shapes))


@RUN
@given(SHAPES, SHAPES)
def test_products_of_any_shapes(a, b):
    agree(lambda lib, x, z: lib.matmul(x, z), numbers(a), numbers(b), said=f"matmul of {a} and {b}")


# -- dtypes of several operands

OPERANDS = st.one_of(
    st.tuples(st.sampled_from(DTYPES), st.sampled_from([(), (1,), (3,)])),
    st.sampled_from([True, 2, -1, 0.5]),
)


@RUN
@given(st.lists(OPERANDS, min_size=2, max_size=4))
def test_dtypes_of_sums(operands):
    def run(lib):
        made = [
            lib.ones(o[1], dtype=getattr(lib, o[0])) if isinstance(o, tuple) else o
            for o in operands
        ]
        total = made[0]
        types = []
        for x in made[1:]:
            types.append(str(lib.result_type(total, x)).split(".")[-1])
            total = total + x
            types.append(str(getattr(total, "dtype", type(total))).split(".")[-1])
        return types, total

    agree(run, said=str(operands))


# -- reductions

REDUCTIONS = st.sampled_from(
    "sum mean prod amax amin all any var std logsumexp count_nonzero argmax median cumsum".split()
)


@RUN
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(REDUCTIONS, SHAPES, st.data())
def test_reductions(name, shape, data):
    n = len(shape)
    dims = data.draw(st.lists(st.integers(-n - 1, n), max_size=3), label="dims")
    keepdim = data.draw(st.booleans(), label="keepdim")
    turn = data.draw(st.permutations(range(n)), label="order in memory")
    one = name in ("prod", "argmax", "median", "cumsum")

    def run(lib, x):
        x = x.permute(*turn) if n else x
        if name == "cumsum":
            return lib.cumsum(x, dims[0] if dims else 0)
        if one:
            return getattr(lib, name)(x, dims[0], keepdim) if dims else getattr(lib, name)(x)
        if name == "count_nonzero":
            return lib.count_nonzero(x, tuple(dims) or None)
        if not dims and name == "logsumexp":
            return x
        return getattr(lib, name)(x, dim=tuple(dims), keepdim=keepdim)

    agree(run, numbers(shape) / 4, said=f"{name} of {shape} over {dims}, keepdim={keepdim}")


# -- chains of views


@st.composite
def view_of(draw, shape: tuple[int, ...]):
    """A view that a tensor of a shape has, as a piece of Python."""
    n = len(shape)
    kinds = ["x.unsqueeze({d1})", "x[None]", "x[...]", "x.squeeze()", "x.T if x.ndim == 2 else x"]
    if n:
        kinds += [
            "x.transpose({d}, {e})",
            "x[{i}]",
            "x.narrow({d}, {s}, {l})",
            "x.select({d}, {i})",
        ]
        kinds += [
            "x[{s}:]",
            "x[..., ::2]",
            "x.flatten({d})",
            "x.unbind({d})[0]",
            "x.movedim({d}, {e})",
        ]
        kinds += [
            "x.chunk(2, {d})[-1]",
            "x.unfold({d}, 1, 1)",
            "x.expand(2, *x.shape)",
            "x.reshape(-1)",
        ]
        kinds += [
            "x.diagonal(0, {d}, {e})",
            "x.view(-1)",
            "x.split(1, {d})[0]",
            "x.permute(*range(x.ndim)[::-1])",
        ]
    d = draw(st.integers(0, max(n - 1, 0)))
    size = shape[d] if n else 1
    s = draw(st.integers(0, size))
    values = {"d": d, "e": draw(st.integers(0, max(n - 1, 0))), "d1": draw(st.integers(-n - 1, n)),
              "i": draw(st.integers(0, max(size - 1, 0))), "s": s, "l": draw(st.integers(0, size - s))}  # fmt: skip
    return draw(st.sampled_from(kinds)).format(**values)


def applied(x, chain: list[str]):
    for step in chain:
        x = eval(step, {"range": range}, {"x": x})
    return x


@st.composite
def chains(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    x, chain = torch.arange(math.prod(shape)).reshape(shape), []
    for _ in range(draw(st.integers(1, 4))):
        step = draw(view_of(tuple(x.shape)))
        try:
            x = applied(x, [step])
        except (RuntimeError, IndexError, ValueError):
            return shape, [*chain, step]  # the error is the result
        chain.append(step)
    return shape, chain


@RUN
@given(chains())
def test_chains_of_views(found):
    shape, chain = found
    agree(lambda lib, x: applied(x, chain), numbers(shape), said=str(found))
    expected, got = both(lambda lib, x: applied(x, chain), numbers(shape))
    if not isinstance(got, Exception):
        strides = [s for s, n in zip(got.stride(), got.shape, strict=True) if n > 1]
        assert strides == [s for s, n in zip(expected.stride(), got.shape, strict=True) if n > 1]
        assert got.storage_offset() == expected.storage_offset() or not got.numel()


@RUN
@given(chains())
def test_writes_through_chains_of_views(found):
    shape, chain = found

    def run(lib, x):
        y = applied(x, chain)
        y.mul_(2)
        y.add_(lib.arange(y.numel()).reshape(y.shape))
        return x, y

    agree(run, numbers(shape), said=f"written: {found}")


@RUN
@given(chains(), st.booleans())
def test_slopes_of_chains_of_views(found, written):
    shape, chain = found
    # PyTorch refuses writes into one of several views on the tape
    written = written and not any(w in step for step in chain for w in ("unbind", "chunk", "split"))

    def run(lib, x):
        base = x * 1
        y = applied(base, chain)
        if written:
            y.mul_(3)
        weight = lib.arange(base.numel(), dtype=x.dtype).reshape(base.shape)
        total = (y * y).sum() + (base * weight).sum()
        return (torch.autograd if lib is torch else amity).grad(total, x)[0]

    expected, got = both(run, numbers(shape), grad=True)
    if isinstance(expected, Exception):
        assert isinstance(got, builtin_class(expected)), f"{found}: {got!r}; expected {expected!r}"
    else:
        assert not isinstance(got, Exception), f"{found}: {got!r}"
        same(got, expected, f"slopes of {found}")


# -- indices


@st.composite
def indices(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    parts: list = []
    rows = draw(st.integers(1, 3))
    for n in draw(st.permutations(shape))[: draw(st.integers(0, len(shape)))]:
        parts.append(
            draw(
                st.one_of(
                    st.integers(-n - 1, n),
                    st.builds(slice, st.none() | st.integers(-5, 5), st.none() | st.integers(-5, 5),
                              st.none() | st.integers(1, 3)),
                    st.just(None),
                    st.just(...) if ... not in parts else st.just(0),
                    st.lists(st.integers(-n, n - 1), min_size=rows, max_size=rows),
                    st.lists(st.booleans(), min_size=n, max_size=n),
                    st.booleans(),
                )
            )
        )  # fmt: skip
    return shape, tuple(parts)


def index_of(lib, parts):
    return tuple(lib.tensor(p) if isinstance(p, list) else p for p in parts)


@RUN
@given(indices())
def test_reads_by_index(found):
    shape, parts = found
    agree(lambda lib, x: x[index_of(lib, parts)], numbers(shape), said=str(found))


@RUN
@given(indices())
def test_writes_by_index(found):
    shape, parts = found

    def run(lib, x):
        x[index_of(lib, parts)] = -1.5
        return x

    agree(run, numbers(shape), said=f"written: {found}")
