"""Convolutions of compiled inference: channels side by side, and what follows joins the kernel."""

import numpy as np
import pytest

import amity
from amity import nn
from amity.profiler import profile
from tests.frontend.held import holds

F = nn.functional


@pytest.fixture(autouse=True)
def _no_gradients():
    amity.manual_seed(0)
    with amity.no_grad():
        yield


def kernels(f, *args):
    f(*args)
    with profile() as p:
        f(*args)
    return [e.key for e in p.key_averages()]


def normal(channels):
    """A BatchNorm with statistics of its own."""
    norm = nn.BatchNorm2d(channels).eval()
    norm.running_mean.copy_(amity.randn(channels))
    norm.running_var.copy_(amity.rand(channels) + 0.5)
    norm.weight.copy_(amity.randn(channels))
    norm.bias.copy_(amity.randn(channels))
    return norm


SHAPES = [  # batch, channels, output channels, height, width, kernel, stride, padding, dilation, groups
    (1, 16, 32, 8, 8, 3, 1, 1, 1, 1),
    (2, 3, 64, 37, 33, 7, 2, 3, 1, 1),
    (2, 64, 48, 7, 9, 3, 2, 1, 1, 1),
    (3, 20, 40, 7, 9, 1, 1, 0, 1, 1),
    (3, 20, 40, 7, 9, 1, 2, 0, 1, 1),
    (2, 40, 80, 9, 9, 3, 1, 1, 1, 2),
    (2, 40, 37, 13, 11, 3, 1, 2, 2, 1),
    (1, 600, 33, 7, 7, 1, 1, 0, 1, 1),
    (1, 130, 70, 5, 6, 5, 3, 2, 1, 1),
    (2, 1, 16, 28, 28, 5, 1, 0, 1, 1),
    (2, 30, 30, 9, 7, 3, 1, 1, 1, 30),
    (2, 24, 16, 1, 1, 1, 1, 0, 1, 1),
    (1, 17, 18, 6, 23, 3, (2, 1), (0, 2), (1, 3), 1),
    (0, 16, 16, 5, 5, 3, 1, 1, 1, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("is_biased", [False, True])
def test_chain(shape, is_biased):
    """What comes in has its columns side by side, what is in between its channels."""
    N, C, O, H, W, kernel, stride, padding, dilation, groups = shape
    options = {"dilation": dilation, "groups": groups, "bias": is_biased}
    first = nn.Conv2d(C, O, kernel, stride, padding, **options)
    options = {"groups": O if groups == C > 1 else 1}
    second, norm = nn.Conv2d(O, O, 3, 1, 1, **options), normal(O)
    third = nn.Conv2d(O, C, kernel, stride, padding, dilation, groups=groups)

    def f(x):
        y = norm(first(x)).relu()
        z = norm(second(y) + y).relu()
        if min(z.shape[2:]) + 2 * np.min(padding) > np.max(dilation) * (kernel - 1):
            return third(z), z.mean((2, 3)), z.amax((0, 2, 3)) if N else z
        return z * 2, z

    holds(f, amity.randn(N, C, H, W))


@pytest.mark.parametrize("channels", [1000, 1024])
@pytest.mark.parametrize("size", [(5, 7), (1, 11), (3, 3), (1, 1)])
def test_parts_of_depth(channels, size):
    """Sums of any number of pixels wait for the rest of their depth; 1024 channels are a page."""
    first, second, third = (
        nn.Conv2d(5, channels, 1),
        nn.Conv2d(channels, 40, 1),
        nn.Conv2d(40, 3, 1),
    )
    holds(lambda x: third(second(first(x).relu())), amity.randn(2, 5, *size))


@pytest.mark.parametrize("channels", [3, 80])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("of", ["rows", "columns", "some"])
def test_columns_side_by_side(channels, dilation, of):
    """Lines of such images are copied, whatever lies between their columns."""
    x = amity.randn(2, channels, 9, 34)
    x = {"rows": x, "columns": x.transpose(2, 3), "some": x[:, :, ::2, 1::2]}[of]
    first = nn.Conv2d(channels, 20, (3, 5), (1, 2), (2, 1), (1, dilation))
    holds(lambda x: nn.functional.max_pool2d(first(x), 2), x)


def test_far():
    """Results that no cache holds; what is added to them is fetched ahead."""
    first, second = nn.Conv2d(3, 40, 1), nn.Conv2d(40, 40, 1)

    def f(x):
        y = first(x)
        return F.max_pool2d((second(y) + y).relu(), 2)

    holds(f, amity.randn(1, 3, 160, 170))


def test_volumes():
    first, second = nn.Conv3d(3, 20, (2, 3, 7), (1, 2, 1), (1, 1, 3)), nn.Conv3d(20, 17, 2)
    holds(lambda x: second(first(x).relu()).mean(4), amity.randn(2, 3, 5, 8, 19))


@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize("groups", [1, 2])
def test_winograd(padding, groups):
    """Many tiles, cut off at the edges and at the last channels."""
    first, norm = nn.Conv2d(5, 36, 1), normal(42)
    second = nn.Conv2d(36, 42, 3, padding=padding, groups=groups, bias=padding != 0)
    third = nn.Conv2d(42, 48, 3, padding=padding, groups=groups)

    def f(x):
        y = norm(second(first(x))).relu()
        return third(y * 0.5), third(y).mean((2, 3)) + 1

    x = amity.randn(3, 5, 31, 26)
    compiled = holds(f, x, tolerance=2e-5)
    assert any(n.startswith("conv_row_tiles") for n in kernels(compiled, x))


DEPTHWISE = [
    (3, 1, 1, 1),
    (3, 2, 1, 1),
    (7, 1, 3, 1),
    (7, 2, 3, 1),
    ((2, 5), (1, 3), (1, 0), (2, 1)),
]


@pytest.mark.parametrize("channels", [16, 37, 3])
@pytest.mark.parametrize("shape", DEPTHWISE, ids=str)
def test_depthwise(channels, shape):
    first, last = nn.Conv2d(20, channels, 1), nn.Conv2d(channels, 16, 1)
    first = first if channels >= 16 else nn.Conv2d(channels, channels, 1)
    options = {"groups": channels, "bias": channels != 37}
    kernel, stride, padding, dilation = shape
    conv, norm = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, **options), None
    norm = normal(channels)
    f = lambda x: last(norm(conv(first(x))).relu())  # noqa: E731
    for height, width in ((20, 31), (9, 8), (5, 5)):
        compiled = holds(f, amity.randn(2, first.in_channels, height, width))
    if channels >= 16:
        x = amity.randn(2, 20, 9, 9)
        assert any(n.startswith("conv_depth_rows") for n in kernels(compiled, x))


def test_depthwise_in_other_dimensions_and_dtypes():
    model = nn.Sequential(nn.Conv1d(5, 20, 1), nn.Conv1d(20, 20, 4, padding=3, groups=20))
    holds(model.append(nn.Conv1d(20, 16, 1)), amity.randn(2, 5, 33))
    model = nn.Sequential(nn.Conv3d(5, 20, 1), nn.Conv3d(20, 20, 3, 2, 1, groups=20), nn.Tanh())
    holds(model.append(nn.Conv3d(20, 16, 1)), amity.randn(2, 5, 7, 6, 9))
    model = nn.Sequential(nn.Conv2d(5, 20, 1), nn.Conv2d(20, 20, 3, 2, 1, groups=20), nn.ReLU())
    model.append(nn.Conv2d(20, 16, 1)).to(amity.bfloat16)
    holds(model, amity.randn(2, 5, 9, 9).to(amity.bfloat16), tolerance=0.02)


@pytest.mark.parametrize("channels", [16, 37, 100])
def test_pooling_between(channels):
    first, last = nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 16, 1)
    x = amity.randn(2, 3, 17, 14)
    x[0, 0, 3, 3] = float("nan")
    pools = [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((2, 3), 1, dilation=(1, 2), ceil_mode=True),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d((2, 3), (3, 2), 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d((3, 4)),
    ]
    for pool in pools:
        compiled = holds(lambda x, pool=pool: last(pool(first(x)).relu()), x)
    holds(lambda x: last(F.max_pool2d(first(x), 2, return_indices=True)[0]), x)
    assert any(n.startswith("pool_rows") for n in kernels(amity.compile(
        lambda x: last(pools[0](first(x)))), x)), compiled  # fmt: skip


def test_one_launch_does_all():
    conv, norm, last = nn.Conv2d(16, 32, 3, padding=1), normal(32), nn.Conv2d(32, 32, 1)
    again = nn.Conv2d(32, 32, 3, padding=1)

    def f(x):
        y = norm(conv(x)).relu()
        return last(F.hardtanh(norm(again(y)) + y) * 0.5)

    names = kernels(amity.compile(f), amity.randn(2, 16, 9, 9))
    assert not any(n.startswith(("sub", "mul", "relu")) for n in names), names


def test_several_results_of_one_ending():
    conv, last = nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 24, 1)

    def f(x):
        sums = conv(x)
        y = sums.sigmoid()
        return last(sums), last(y), last(y * sums)

    holds(f, amity.randn(2, 16, 6, 7))


def test_endings_that_do_not_fit():
    """Rows of other shapes, results by columns, positions and reductions are computed apart."""
    conv, last = nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 24, 1)
    field, x = amity.randn(6, 7), amity.randn(2, 16, 6, 7)
    holds(lambda x: last(conv(x) * field), x)
    holds(lambda x: last(conv(x) + x.sum((1, 2, 3), keepdim=True)), x)
    holds(lambda x: last(conv(x) - conv(x).mean((2, 3), keepdim=True)), x)
    holds(lambda x: last(conv(x).transpose(2, 3)), x)
    holds(lambda x: last(conv(x) + amity.arange(7)), x)
    holds(lambda x: (conv(x).flatten(1), conv(x)[:, 3], conv(x).relu()), x)


@pytest.mark.parametrize("dtype", [amity.float64, amity.bfloat16, amity.float16])
def test_dtypes(dtype):
    model = nn.Sequential(nn.Conv2d(5, 20, 3, 2), nn.ReLU(), nn.Conv2d(20, 17, 1), nn.Sigmoid())
    model.append(nn.Conv2d(17, 16, 3, padding=1)).to(dtype)
    tolerance = 3e-6 if dtype is amity.float64 else 0.02
    holds(model, amity.randn(2, 5, 11, 9).to(dtype), tolerance=tolerance)


def test_one_and_three_dimensions():
    model = nn.Sequential(nn.Conv1d(5, 20, 3, 2), nn.ReLU(), nn.Conv1d(20, 17, 2, padding=1))
    holds(model, amity.randn(3, 5, 33))
    model = nn.Sequential(nn.Conv3d(4, 18, 3, 2, 1), nn.ReLU(), nn.Conv3d(18, 17, (1, 2, 3)))
    holds(model, amity.randn(2, 4, 7, 9, 8))


def test_nan_and_infinity_reach_what_sees_them():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.Hardtanh(), nn.Conv2d(16, 16, 1))
    x = amity.randn(1, 3, 12, 12)
    x[0, 1, 2, 2], x[0, 0, 9, 9] = float("nan"), float("inf")
    wanted = model(x).numpy()
    assert np.isnan(wanted).any() and np.isfinite(wanted).any()
    np.testing.assert_array_equal(np.isnan(amity.compile(model)(x).numpy()), np.isnan(wanted))


def test_strided_images_and_weights():
    conv, last = nn.Conv2d(12, 20, 3, padding=1), nn.Conv2d(20, 16, 1)
    conv.weight.data = amity.randn(3, 3, 20, 12).permute(2, 3, 0, 1)
    f = lambda x: last(conv(x).relu())  # noqa: E731
    holds(f, amity.randn(2, 9, 8, 12).permute(0, 3, 1, 2))
    holds(f, amity.randn(2, 12, 9, 16)[..., ::2])
    holds(f, amity.randn(12, 9, 8, 1).permute(3, 0, 1, 2).expand(2, 12, 9, 8))


def test_written_argument_is_not_overwritten_before_it_is_read():
    conv, last = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)

    def f(x, state):
        y = conv(x)
        state.copy_(last(y.relu()) + state)
        x.copy_(y.relu() * 2)
        return last(x)

    x, state = amity.randn(1, 16, 6, 6), amity.randn(1, 16, 6, 6)
    wanted = [x.clone(), state.clone()]
    result = f(*wanted)
    given = [x.clone(), state.clone()]
    for a, b in zip((amity.compile(f)(*given), *given), (result, *wanted), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-5)


def test_weights_that_change():
    conv, last = nn.Conv2d(16, 24, 3), nn.Conv2d(24, 16, 1)
    f = lambda x: last(conv(x).relu())  # noqa: E731
    x = amity.randn(2, 16, 9, 9)
    compiled = holds(f, x)
    conv.weight.mul_(2)
    np.testing.assert_allclose(compiled(x).numpy(), f(x).numpy(), atol=2e-5)
    last.weight.data = amity.randn(16, 24, 1, 1)
    np.testing.assert_allclose(compiled(x).numpy(), f(x).numpy(), atol=2e-5)
    conv.load_state_dict({n: t * 3 for n, t in conv.state_dict().items()})
    np.testing.assert_allclose(compiled(x).numpy(), f(x).numpy(), atol=5e-5)


def test_two_threads_give_the_same():
    model = nn.Sequential(nn.Conv2d(16, 70, 3, 1, 1), nn.ReLU(), nn.Conv2d(70, 33, 3, 2))
    x, before = amity.randn(2, 16, 40, 30), amity.get_num_threads()
    compiled, results = amity.compile(model), []
    try:
        for threads in (1, 2):
            amity.set_num_threads(threads)
            results.append(compiled(x).numpy())
    finally:
        amity.set_num_threads(before)
    np.testing.assert_array_equal(*results)
