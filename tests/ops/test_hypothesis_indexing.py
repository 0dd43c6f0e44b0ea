"""Random index expressions read and written as PyTorch does, gradients included."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import amity  # noqa: E402

EXAMPLES = settings(derandomize=True, deadline=None, max_examples=150, database=None)
SHAPES = [(), (3,), (0,), (2, 3), (3, 1), (2, 0, 3), (2, 3, 4), (1, 4, 2, 3)]
JOINED = [(2,), (1,), (2, 2), (1, 2), (), (0,)]  # shapes of index tensors


@st.composite
def slices(draw, n):
    ends = st.none() | st.integers(-n - 2, n + 2)
    return slice(draw(ends), draw(ends), draw(st.none() | st.integers(1, 3)))


@st.composite
def places(draw, n):
    """Positions that a dimension of n has."""
    shape = draw(st.sampled_from(JOINED if n else [(0,)]))
    count = int(np.prod(shape))
    values = draw(
        st.lists(st.integers(-n, n - 1) if n else st.just(0), min_size=count, max_size=count)
    )
    return np.array(values, draw(st.sampled_from([np.int64, np.int32]))).reshape(shape)


@st.composite
def masks(draw, shape):
    count = int(np.prod(shape))
    return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(
        shape
    )


@st.composite
def keys(draw, shape):
    """An index expression of a tensor: a list of numbers, slices, None, Ellipsis, arrays and lists."""
    out, d, has_dots = [], 0, False
    while d < len(shape) and draw(st.integers(0, 7)):
        kind = draw(
            st.sampled_from(
                ["int", "slice", "slice", "none", "dots", "places", "places", "mask", "list"]
            )
        )
        n = shape[d]
        if kind == "int" and n:
            out.append(draw(st.integers(-n, n - 1)))
            d += 1
        elif kind == "none":
            out.append(None)
        elif kind == "dots" and not has_dots:
            has_dots = True
            out.append(Ellipsis)
            d += draw(st.integers(0, len(shape) - d))
        elif kind == "places":
            out.append(draw(places(n)))
            d += 1
        elif kind == "list" and n:
            out.append(draw(st.lists(st.integers(-n, n - 1), min_size=2, max_size=2)))
            d += 1
        elif kind == "mask":
            rank = draw(st.integers(1, len(shape) - d))
            out.append(draw(masks(shape[d : d + rank])))
            d += rank
        else:
            out.append(draw(slices(n)))
            d += 1
    if has_dots:  # what comes after the dots counts from the end
        return [k for k in out if k is not Ellipsis] if d < len(shape) else out
    return out


@st.composite
def tensors_and_keys(draw):
    shape = draw(st.sampled_from(SHAPES))
    return shape, draw(keys(shape))


def key_of(lib, key):
    """The key with its arrays as tensors of the library."""
    return tuple(lib.tensor(k) if isinstance(k, np.ndarray) else k for k in key)


def outcome(lib, function, *arrays):
    """The result and the gradients of a function of tensors, or its error."""
    inputs = [lib.tensor(a).requires_grad_() for a in arrays]
    try:
        y = function(lib, *inputs)
    except (IndexError, ValueError, TypeError, RuntimeError) as error:
        return error
    weight = lib.tensor(np.arange(y.numel(), dtype=np.float64).reshape(tuple(y.shape)) + 1.5)
    (y * weight).sum().backward()
    grads = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in inputs]
    return [y.detach().numpy(), *grads]


def agree(function, *arrays):
    expected, got = outcome(torch, function, *arrays), outcome(amity, function, *arrays)
    if isinstance(expected, Exception):
        assert isinstance(got, Exception), f"got {got}; expected {expected!r}"
        return
    if isinstance(got, IndexError) and expected[0].size == 0:
        return  # PyTorch does not look at positions when there is nothing to read
    if isinstance(got, Exception):
        raise AssertionError(f"got {got!r}; expected {expected}") from got
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape, f"got shape {a.shape}; expected {b.shape}"
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def numbers(shape, start=1.0):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape) + start


@EXAMPLES
@given(tensors_and_keys())
def test_reading(case):
    shape, key = case
    agree(lambda lib, x: x[key_of(lib, key)], numbers(shape))


def result_shape(shape, key):
    """The shape of x[key], None where it is an error."""
    try:
        return tuple(torch.zeros(shape)[key_of(torch, key)].shape)
    except (IndexError, RuntimeError):
        return None


def distinct(shape, key):
    """Whether every place is written once: which value stays is else left open."""
    marks = torch.arange(int(np.prod(shape))).reshape(shape)[key_of(torch, key)].flatten()
    return len(marks.unique()) == len(marks)


@EXAMPLES
@given(tensors_and_keys(), st.data())
def test_writing(case, data):
    """Values of the whole shape, of the last dimensions, with leading ones, and of one element."""
    shape, key = case
    whole = result_shape(shape, key)
    forms = (
        [()] if whole is None else [(), whole, (1, 1, *whole), whole[1:], tuple(1 for _ in whole)]
    )
    form = data.draw(st.sampled_from(forms))
    if whole is not None and form != () and not distinct(shape, key):
        return

    def write(lib, x, v):
        y = x * 1
        y[key_of(lib, key)] = v
        return y

    agree(write, numbers(shape), numbers(form, 100.0))


@EXAMPLES
@given(tensors_and_keys(), st.booleans())
def test_adding(case, accumulate):
    shape, key = case
    whole = result_shape(shape, key)
    if whole is None:
        return

    def add(lib, x, v):
        y = x * 1
        if accumulate and len(key) and all(isinstance(k, np.ndarray) for k in key):
            return y.index_put_(key_of(lib, key), v, accumulate=True)
        if distinct(shape, key):
            y[key_of(lib, key)] += v
        return y

    agree(add, numbers(shape), numbers(whole, 100.0))


@EXAMPLES
@given(tensors_and_keys(), tensors_and_keys())
def test_reading_of_views(first, second):
    """A key of one tensor on another often does not fit: then both say so."""
    (shape, key), (_, other) = first, second
    agree(lambda lib, x: x.transpose(0, -1)[key_of(lib, other)] if shape else x, numbers(shape))
    agree(lambda lib, x: x[key_of(lib, key)][key_of(lib, other)], numbers(shape))
