"""Order against PyTorch: every dtype, short and long rows, both directions, ties, NaNs, gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402

rng = np.random.default_rng(0)
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1.0, 1.0, -2.5]


def tensors(array, dtype):
    a, b = amity.tensor(array), torch.tensor(array)
    return a.to(getattr(amity, dtype)), b.to(getattr(torch, dtype))


def same(mine, theirs):
    """The same values and, as both are stable, the same places."""
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype.name == str(b.dtype).split(".")[-1] and tuple(a.shape) == tuple(b.shape)
        a, b = (t.to(lib.float64).numpy() for t, lib in ((a, amity), (b, torch)))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
@pytest.mark.parametrize("n", [0, 1, 2, 17, 64, 65, 300])
def test_sorting(dtype, n):
    values = rng.integers(-100, 100, (5, n)) if dtype in DTYPES else rng.standard_normal((5, n)) * 9
    a, b = tensors(values, dtype)
    for descending in (False, True):
        options = {"descending": descending, "stable": True}
        same(a.sort(1, **options), b.sort(dim=1, **options))
        same(a.t().sort(0, **options), b.t().sort(dim=0, **options))


@pytest.mark.parametrize("dtype", ["int32", "int64", "float64"])
def test_numbers_of_every_size(dtype):
    top = 2 ** (31 if dtype == "int32" else 62)
    values = rng.integers(-top, top, (2, 500))
    a, b = tensors(values, dtype)
    same(a.sort(-1), b.sort(dim=-1, stable=True))
    same(a.sort(-1, True), b.sort(dim=-1, descending=True, stable=True))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("copies", [2, 20])
def test_special_values(dtype, copies):
    values = np.resize(np.array(SPECIAL), (3, copies * len(SPECIAL)))
    values = rng.permuted(values, axis=1)
    a, b = tensors(values, dtype)
    for descending in (False, True):
        options = {"descending": descending, "stable": True}
        same(a.sort(1, **options), b.sort(dim=1, **options))
        signs = np.signbit(a.sort(1, **options)[0].to(amity.float64).numpy())
        kept = b.sort(dim=1, **options)[0]
        no_nan = ~torch.isnan(kept).numpy()
        np.testing.assert_array_equal(signs[no_nan], torch.signbit(kept).numpy()[no_nan])


def test_long_rows_and_middle_dimensions():
    for shape, dim in (((2, 200_001), 1), ((3, 70, 5), 1), ((400_000,), 0)):
        a, b = tensors(rng.standard_normal(shape), "float32")
        same(a.sort(dim), b.sort(dim=dim, stable=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "int64", "uint8"])
@pytest.mark.parametrize("k", [0, 1, 5, 64, 65, 200])
def test_the_first_few(dtype, k):
    values = rng.permuted(np.resize(np.arange(200), (4, 200)), axis=1)
    a, b = tensors(values, dtype)
    for largest in (True, False):
        same(a.topk(k, 1, largest), b.topk(k, 1, largest))
        same(a.t().topk(k, 0, largest), b.t().topk(k, 0, largest))


def test_the_first_few_of_special_values():
    values = np.tile(np.resize(np.array(SPECIAL), 300), (2, 1))
    a, b = tensors(values, "float32")
    for largest in (True, False):
        mine, theirs = a.topk(40, 1, largest)[0], b.topk(40, 1, largest)[0]
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    assert a.topk(1)[1].tolist() == [[0], [0]]


def test_gradients():
    values = rng.permutation(600).reshape(6, 100).astype(np.float64)
    for call in (lambda t: t.sort(1)[0], lambda t: t.topk(7, 0 if t.ndim == 1 else 1)[0],
                 lambda t: t.t().topk(5, 0, False)[0], lambda t: t.median(1)[0]):  # fmt: skip
        grads = []
        for t in tensors(values, "float64"):
            t.requires_grad_()
            y = call(t)
            (y * y).sum().backward()
            grads.append(t.grad.numpy())
        np.testing.assert_array_equal(*grads)


def test_a_second_call_is_recorded_as_the_first():
    t = amity.tensor([[3.0, 1.0, 2.0]]).requires_grad_()
    for _ in range(3):
        t.grad = None
        (t.sort(1)[0].sum() + t.topk(2)[0].sum()).backward()
        assert t.grad.tolist() == [[2.0, 1.0, 2.0]]


def test_errors():
    with pytest.raises(RuntimeError, match="out of range"):
        amity.zeros(3).topk(4)
    with pytest.raises(NotImplementedError, match="bool"):
        amity.zeros(3).bool().topk(1)
