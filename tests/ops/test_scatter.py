"""Values placed and joined at positions, against PyTorch: rows, columns, many index tensors."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import ops  # noqa: E402

rng = np.random.default_rng(0)
SHAPES = [
    ((4, 5), (3, 5), 0), ((4, 5), (2, 4), 0), ((4, 5), (4, 9), 1), ((3, 4, 6), (2, 8, 5), 1), ((6,), (9,), 0),
    ((70, 300), (70, 900), 1), ((30, 600), (90, 600), 0), ((4, 5), (0, 5), 0), ((2, 0), (3, 0), 0),
]  # fmt: skip


def pair(array, dtype=None, grad=False):
    a, b = amity.tensor(array), torch.tensor(array)
    if dtype:
        a, b = a.to(getattr(amity, dtype)), b.to(getattr(torch, dtype))
    return (a.requires_grad_(), b.requires_grad_()) if grad else (a, b)


def same(a, b, tolerance=1e-5):
    assert a.dtype.name == str(b.dtype).split(".")[-1] and tuple(a.shape) == tuple(b.shape)
    a, b = (t.detach().to(lib.float64).numpy() for t, lib in ((a, amity), (b, torch)))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape, index_shape, dim", SHAPES)
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_scatter_reduce_matches(shape, index_shape, dim, reduce):
    index = rng.integers(0, max(shape[dim], 1), index_shape)
    wide = [n + 1 for n in index_shape]
    for dtype, include_self in itertools.product(("float32", "float64", "int32"), (True, False)):
        (x, tx), (s, ts) = (pair(rng.standard_normal(n) * 3, dtype) for n in (shape, wide))
        i, ti = pair(index)
        same(
            x.scatter_reduce(dim, i, s, reduce, include_self=include_self),
            tx.scatter_reduce(dim, ti, ts, reduce, include_self=include_self),
            1e-4,
        )


@pytest.mark.parametrize("shape, index_shape, dim", SHAPES)
def test_scatter_add_and_its_gradient(shape, index_shape, dim):
    index = rng.integers(0, max(shape[dim], 1), index_shape)
    (x, tx), (s, ts) = (pair(rng.standard_normal(n), grad=True) for n in (shape, index_shape))
    i, ti = pair(index)
    g, tg = pair(rng.standard_normal(shape))
    y, ty = x.scatter_add(dim, i, s), tx.scatter_add(dim, ti, ts)
    same(y, ty)
    y.backward(g)
    ty.backward(tg)
    same(x.grad, tx.grad)
    same(s.grad, ts.grad)


def test_scatter_mean_gradient():
    index = rng.integers(0, 4, (7, 5))
    for include_self in (True, False):
        (x, tx), (s, ts) = (pair(rng.standard_normal(n), grad=True) for n in ((4, 5), (7, 5)))
        i, ti = pair(index)
        g, tg = pair(rng.standard_normal((4, 5)))
        x.scatter_reduce(0, i, s, "mean", include_self=include_self).backward(g)
        tx.scatter_reduce(0, ti, ts, "mean", include_self=include_self).backward(tg)
        same(x.grad, tx.grad)
        same(s.grad, ts.grad)


def test_a_shared_index_and_other_memory_orders():
    """An index expanded over columns, and operands that are transposed."""
    index = rng.integers(0, 6, (40, 1))
    i, ti = (t.expand(40, 33) for t in pair(index))
    s, ts = (t.transpose(0, 1) for t in pair(rng.standard_normal((33, 40))))
    x, tx = (t.transpose(0, 1) for t in pair(rng.standard_normal((33, 6))))
    same(x.scatter_add(0, i, s), tx.scatter_add(0, ti, ts))
    same(x.transpose(0, 1).scatter_add(1, i.transpose(0, 1), s.transpose(0, 1)),
         tx.transpose(0, 1).scatter_add(1, ti.transpose(0, 1), ts.transpose(0, 1)))  # fmt: skip


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "int64", "float16", "bfloat16"]
)
def test_index_add_of_every_dtype(dtype):
    index = rng.integers(0, 5, 23)
    x, tx = pair(rng.integers(0, 3, (5, 17)), dtype)
    s, ts = pair(rng.integers(0, 3, (23, 17)), dtype)
    i, ti = pair(index)
    same(x.index_add(0, i, s), tx.index_add(0, ti, ts))
    same(
        x.scatter(0, i.unsqueeze(1).expand(23, 17)[:1], s),
        tx.scatter(0, ti.unsqueeze(1).expand(23, 17)[:1], ts),
    )


def test_sums_of_16_bits_round_once():
    """PyTorch rounds after every addition, and stays at 256."""
    index, ones = amity.zeros(1000, dtype=amity.int64), amity.ones(1000, 3, dtype=amity.bfloat16)
    y = amity.zeros(1, 3, dtype=amity.bfloat16).index_add(0, index, ones)
    assert y.tolist() == [[1000.0] * 3]


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_index_add_along_every_dimension(dim):
    shape, wide = [6, 7, 80], [6, 7, 80]
    wide[dim] = 11
    index = rng.integers(0, shape[dim], 11)
    (x, tx), (s, ts), (i, ti) = (
        pair(rng.standard_normal(shape)),
        pair(rng.standard_normal(wide)),
        pair(index),
    )
    same(x.index_add(dim, i, s, alpha=2), tx.index_add(dim, ti, ts, alpha=2))
    same(
        x.index_copy(dim, i[:1], s.narrow(dim, 0, 1)),
        tx.index_copy(dim, ti[:1], ts.narrow(dim, 0, 1)),
    )
    same(x.index_fill(dim, i, 3.5), tx.index_fill(dim, ti, 3.5))


KEYS: list[tuple] = [
    (np.array([0, -1, 2]),),
    (slice(None), np.array([[1, 2], [3, -1]])), (np.array([0, 1]), slice(None), np.array([3, -2])),
    (np.array([[0], [1]]), np.array([2, 3, 4])), (np.array([1, 1]), np.array([2, 2]), np.array([3, 3])),
    (np.zeros((0,), np.int64),), (slice(1, 4), slice(None), np.array([7, 0, 7])),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_reading_and_writing_at_indices(key):
    (x, tx) = pair(rng.standard_normal((6, 7, 8)), grad=True)
    mine = tuple(amity.tensor(k) if isinstance(k, np.ndarray) else k for k in key)
    theirs = tuple(torch.tensor(k) if isinstance(k, np.ndarray) else k for k in key)
    y, ty = x[mine], tx[theirs]
    same(y, ty)
    g, tg = pair(rng.standard_normal(tuple(ty.shape)))
    y.backward(g)
    ty.backward(tg)
    same(x.grad, tx.grad)
    a, ta = pair(rng.standard_normal((6, 7, 8)))
    v, tv = pair(rng.standard_normal(tuple(ty.shape)))
    if key[0] is not KEYS[4][0]:  # PyTorch leaves open which of two values stays
        a[mine], ta[theirs] = v, tv
        same(a, ta)
    a[mine], ta[theirs] = 2.5, 2.5
    same(a, ta)


def test_put_adds_broadcast_and_transposed_values():
    x, tx = pair(rng.standard_normal((6, 5)))
    i, ti = pair(rng.integers(0, 6, (3, 4)))
    row, trow = pair(rng.standard_normal(5))
    same(x.index_put((i,), row, accumulate=True), tx.index_put((ti,), trow, accumulate=True))
    v, tv = (t.permute(2, 1, 0) for t in pair(rng.standard_normal((5, 4, 3))))
    same(x.index_put((i,), v, accumulate=True), tx.index_put((ti,), tv, accumulate=True))
    same(
        x.index_put((i.t(),), v.transpose(0, 1), accumulate=True),
        tx.index_put((ti.t(),), tv.transpose(0, 1), accumulate=True),
    )
    flat, tflat = pair(rng.integers(0, 30, 50))
    s, ts = pair(rng.standard_normal(50))
    same(x.put(flat, s, accumulate=True), tx.put(tflat, ts, accumulate=True))


@pytest.mark.parametrize(
    "rows, width, count",
    [(10, 5, (7,)), (50, 64, (4, 100)), (900, 300, (3000,)), (5, 1, (9,)), (7, 16, (0,))],
)
def test_embedding_and_its_gradient(rows, width, count):
    (w, tw), (i, ti) = (
        pair(rng.standard_normal((rows, width)), grad=True),
        pair(rng.integers(0, rows, count)),
    )
    y, ty = ops.embedding(i, w, padding_idx=3), torch.nn.functional.embedding(ti, tw, padding_idx=3)
    same(y, ty)
    g, tg = pair(rng.standard_normal(tuple(ty.shape)))
    y.backward(g)
    ty.backward(tg)
    same(w.grad, tw.grad)


def test_writing_in_place_into_a_view():
    x, tx = pair(rng.standard_normal((6, 8)))
    i, ti = pair(np.array([2, 0, 2]))
    s, ts = pair(rng.standard_normal((6, 3)))
    x[:, 1:5].index_add_(1, i, s)
    tx[:, 1:5].index_add_(1, ti, ts)
    same(x, tx)


def test_gradients_of_gradients():
    x = amity.randn(4, 3, dtype=amity.float64).requires_grad_()
    s = amity.randn(5, 3, dtype=amity.float64).requires_grad_()
    i = amity.tensor(rng.integers(0, 4, (5, 3)))
    for reduce in ("sum", "prod", "mean"):
        assert amity.autograd.gradgradcheck(
            lambda x, s, r=reduce: x.scatter_reduce(0, i, s, r), (x, s)
        )


@pytest.mark.parametrize("error, says, call", [
    (RuntimeError, "out of bounds", lambda x, i: x.scatter_add(0, i + 9, x)),
    (RuntimeError, "same number of dimensions", lambda x, i: x.scatter_add(0, i[0], x)),
    (RuntimeError, "no larger than", lambda x, i: x.scatter_add(1, i.repeat(2, 1), x)),
    (RuntimeError, "dtype", lambda x, i: x.scatter_add(0, i, x.to(amity.float64))),
    (RuntimeError, "must be either", lambda x, i: x.scatter_reduce(0, i, x, "median")),
])  # fmt: skip
def test_errors_name_the_op(error, says, call):
    with pytest.raises(error, match=says):
        call(amity.zeros(3, 4), amity.zeros(3, 4, dtype=amity.int64))
