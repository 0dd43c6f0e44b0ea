"""Pooling kernels against PyTorch: every border, stride, layout and dtype."""

import itertools

import numpy as np
import pytest

import amity
from amity import ops

torch = pytest.importorskip("torch")
TF = torch.nn.functional

SHAPES = {1: (2, 3, 37), 2: (2, 3, 9, 21), 3: (2, 2, 4, 5, 11)}
# kernel, stride, padding, dilation, ceil_mode
WINDOWS = [
    (2, 2, 0, 1, False),
    (3, 2, 1, 1, False),
    (3, 1, 1, 1, False),
    (3, 2, 1, 1, True),
    (2, 3, 1, 2, True),
    (3, 3, 1, 1, False),
    (4, 1, 2, 1, False),
]


def pair(array, dtype="float32", grad=True):
    """The same values as a tensor of amity and of PyTorch."""
    a = amity.tensor(array).to(getattr(amity, dtype))
    t = torch.tensor(array).to(getattr(torch, dtype))
    return (a.requires_grad_(grad), t.requires_grad_(grad)) if grad else (a, t)


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(a, t, tolerance=1e-6):
    found, wanted = a.detach().double().numpy(), t.detach().double().numpy()
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def same_with_gradient(a, t, f, g, tolerance=1e-6):
    """`f` (amity) and `g` (PyTorch) agree on the value and on the gradient."""
    ya, yt = f(a), g(t)
    assert tuple(ya.shape) == tuple(yt.shape)
    close(ya, yt, tolerance)
    seed = numbers(tuple(yt.shape), 1)
    ya.backward(amity.tensor(seed).to(ya.dtype))
    yt.backward(torch.tensor(seed).to(yt.dtype))
    close(a.grad, t.grad, tolerance)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS)
def test_max(rank, window):
    name = f"max_pool{rank}d"
    a, t = pair(numbers(SHAPES[rank]))
    same_with_gradient(
        a, t, lambda x: getattr(ops, name)(x, *window), lambda x: getattr(TF, name)(x, *window)
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS)
def test_max_with_indices(rank, window):
    name = f"max_pool{rank}d"
    a, t = pair(numbers(SHAPES[rank]), grad=False)
    ya, ia = getattr(ops, name)(a, *window, return_indices=True)
    yt, it = getattr(TF, name)(t, *window, return_indices=True)
    close(ya, yt)
    assert ia.dtype == amity.int64
    np.testing.assert_array_equal(ia.numpy(), it.numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", [w for w in WINDOWS if w[3] == 1])
@pytest.mark.parametrize("has_padding", [True, False])
def test_mean(rank, window, has_padding):
    name, options = f"avg_pool{rank}d", (*window[:3], window[4], has_padding)
    a, t = pair(numbers(SHAPES[rank]))
    same_with_gradient(
        a, t, lambda x: getattr(ops, name)(x, *options), lambda x: getattr(TF, name)(x, *options)
    )


def test_mean_with_a_divisor():
    a, t = pair(numbers(SHAPES[2]))
    options = {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 7}
    same_with_gradient(
        a, t, lambda x: ops.avg_pool2d(x, **options), lambda x: TF.avg_pool2d(x, **options)
    )


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_dtypes(name, dtype):
    a, t = pair(numbers((2, 3, 8, 40)), dtype)
    tolerance = {"float64": 1e-12, "float16": 2e-3, "bfloat16": 1e-2}[dtype]
    same_with_gradient(
        a, t, lambda x: getattr(ops, name)(x, 2), lambda x: getattr(TF, name)(x, 2), tolerance
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_maxima_of_integers(dtype):
    array = np.random.default_rng(0).integers(-100, 100, (1, 2, 7, 33)).astype(np.float32)
    a, t = pair(np.abs(array) if dtype == "uint8" else array, dtype, grad=False)
    np.testing.assert_array_equal(
        ops.max_pool2d(a, 3, 2, 1).numpy(), TF.max_pool2d(t, 3, 2, 1).numpy()
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(2, 3),
        lambda x: x.permute(1, 0, 3, 2),
        lambda x: x[:, :, ::2, 1::3],
        lambda x: x[:, :1].expand(-1, 4, -1, -1),
    ],
)
def test_any_strides(name, stride, view):
    a, t = pair(numbers((3, 2, 20, 41)))
    same_with_gradient(
        a,
        t,
        lambda x: getattr(ops, name)(view_of(x, view), 3, stride, 1),
        lambda x: getattr(TF, name)(view(x), 3, stride, 1),
        1e-5,
    )


def view_of(x, view):
    return view(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(bad):
    array = numbers((1, 1, 6, 34))
    array[0, 0, [0, 2, 5], [0, 7, 33]] = bad
    array[0, 0, :2, 10:12] = bad
    for window in ((2, 2, 0), (3, 1, 1)):
        a, t = pair(array)
        ya, yt = ops.max_pool2d(a, *window), TF.max_pool2d(t, *window)
        np.testing.assert_array_equal(ya.detach().numpy(), yt.detach().numpy())
        ya.sum().backward()
        yt.sum().backward()
        np.testing.assert_array_equal(a.grad.numpy(), t.grad.numpy())


def test_ties_go_to_the_first():
    a, t = pair(np.zeros((1, 1, 6, 40), np.float32))
    same_with_gradient(
        a, t, lambda x: ops.max_pool2d(x, 3, 2, 1), lambda x: TF.max_pool2d(x, 3, 2, 1)
    )


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 1), (2, 1), (1, 1), (1, 2), (2, 3)])
def test_rows_of_every_length(width, kernel, stride):
    a, t = pair(numbers((1, 2, 3, width + kernel - 1)))
    for name, k in itertools.product(("max_pool2d", "avg_pool2d"), ((1, kernel),)):
        a.grad = t.grad = None
        same_with_gradient(
            a,
            t,
            lambda x, name=name, k=k: getattr(ops, name)(x, k, (1, stride)),
            lambda x, name=name, k=k: getattr(TF, name)(x, k, (1, stride)),
        )


def test_the_end_of_memory_is_not_read():
    """Rows that end where a buffer does: a vector that read on would see what lies behind."""
    whole = np.full(4096, np.nan, np.float32)
    for width in range(4, 40):
        whole[:] = np.nan
        whole[: 3 * width] = 1
        x = amity.from_numpy(whole[: 3 * width].reshape(1, 1, 3, width))
        assert (ops.max_pool2d(x, 2, 2) == 1).all()
        assert (ops.avg_pool2d(x, 2, 1) == 1).all()


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_an_empty_batch(name):
    a, t = pair(np.zeros((0, 3, 8, 8), np.float32))
    same_with_gradient(a, t, lambda x: getattr(ops, name)(x, 2), lambda x: getattr(TF, name)(x, 2))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_second_gradients(name):
    a, t = pair(numbers((2, 2, 6, 7)))
    results = []
    for lib, f, x in ((amity, ops, a), (torch, TF, t)):
        y = (getattr(f, name)(x, 3, 2, 1) ** 3).sum()
        (g,) = (amity.grad if lib is amity else torch.autograd.grad)(y, x, create_graph=True)
        (g * g).sum().backward()
        results.append(x.grad)
    close(*results, 1e-4)


def test_many_planes_share_the_work():
    a, t = pair(numbers((16, 24, 40, 40)))
    same_with_gradient(
        a, t, lambda x: ops.max_pool2d(x, 3, 2, 1), lambda x: TF.max_pool2d(x, 3, 2, 1)
    )
