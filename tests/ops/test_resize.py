"""Resizing against PyTorch: every mode, rank and option, forward and gradient."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import ops  # noqa: E402

rng = np.random.default_rng(0)
theirs = torch.nn.functional.interpolate
MODES = {
    3: ["nearest", "nearest-exact", "linear", "area"],
    4: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
    5: ["nearest", "nearest-exact", "trilinear", "area"],
}
SMOOTH = ("linear", "bilinear", "bicubic", "trilinear")
CASES = [(n, m) for n, modes in MODES.items() for m in modes]


def close(a, b, tolerance):
    a, b = a.detach().to(amity.float64).numpy(), b.detach().to(torch.float64).numpy()
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def compare(x, dtype="float32", tolerance=1e-4, **options):
    a = amity.tensor(x).to(getattr(amity, dtype)).requires_grad_()
    b = torch.tensor(x).to(getattr(torch, dtype)).requires_grad_()
    y, z = ops.interpolate(a, **options), theirs(b, **options)
    assert tuple(y.shape) == tuple(z.shape) and y.dtype.name == dtype
    g = rng.standard_normal(tuple(z.shape))
    y.backward(amity.tensor(g).to(y.dtype))
    z.backward(torch.tensor(g).to(z.dtype))
    close(y, z, tolerance)
    close(a.grad, b.grad, tolerance)


@pytest.mark.parametrize("rank, mode", CASES)
def test_sizes_up_and_down(rank, mode):
    shape = (2, 3, 5, 8, 6)[:rank]
    for factor, aligned in itertools.product((1, 0.4, 1.7, 3), (None, False, True)):
        if aligned is not None and mode not in SMOOTH:
            continue
        size = [max(1, int(n * factor) + i % 2) for i, n in enumerate(shape[2:])]
        x = rng.standard_normal(shape)
        compare(x, size=size, mode=mode, align_corners=aligned)
        compare(x, "float64", 1e-9, size=size, mode=mode, align_corners=aligned)


@pytest.mark.parametrize("rank, mode", CASES)
def test_scale_factors(rank, mode):
    x = rng.standard_normal((2, 3, 7, 8, 6)[:rank])
    factors = (0.3, 1.3, 2, (2.5, 1.2, 0.6)[: rank - 2])
    for factor, again in itertools.product(factors, (None, False, True)):
        compare(x, scale_factor=factor, mode=mode, recompute_scale_factor=again)


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_a_scale_that_keeps_the_size(rank):
    """Forward only: PyTorch's gradient does not fit its own result here."""
    x = rng.standard_normal((1, 2, 7, 7, 7)[:rank])
    y = ops.interpolate(amity.tensor(x), scale_factor=1.1)
    close(y, theirs(torch.tensor(x), scale_factor=1.1), 0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 4), (20, 9), (1, 1), (7, 2), (13, 11)])
def test_antialiasing(mode, size):
    x = rng.standard_normal((2, 2, 13, 11))
    for aligned in (False, True):
        options = {"size": size, "mode": mode, "align_corners": aligned, "antialias": True}
        compare(x, **options)
        compare(x, "float64", 1e-6, **options)


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_halves(dtype, tolerance):
    x = rng.standard_normal((2, 3, 6, 7))
    for mode in MODES[4]:
        compare(x, dtype, tolerance, size=(9, 15), mode=mode)


def test_bytes_round():
    x = rng.integers(0, 256, (2, 3, 9, 8)).astype(np.uint8)
    for mode in ("nearest", "bilinear", "bicubic"):
        y = ops.interpolate(amity.tensor(x), (17, 5), mode=mode).numpy().astype(int)
        z = theirs(torch.tensor(x), (17, 5), mode=mode).numpy().astype(int)
        assert np.abs(y - z).max() <= 1


def test_memory_orders_and_no_samples():
    x = rng.standard_normal((2, 6, 7, 3)).astype(np.float32)
    y = ops.interpolate(amity.tensor(x).permute(0, 3, 1, 2), (9, 9), mode="bilinear")
    close(y, theirs(torch.tensor(x).permute(0, 3, 1, 2), (9, 9), mode="bilinear"), 1e-5)
    assert tuple(ops.interpolate(amity.zeros(0, 3, 4, 4), 8).shape) == (0, 3, 8, 8)


def test_not_a_number_stays_where_it_is():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 2] = np.nan
    for mode in MODES[4]:
        y = ops.interpolate(amity.tensor(x), (9, 7), mode=mode).numpy()
        z = theirs(torch.tensor(x), (9, 7), mode=mode).numpy()
        np.testing.assert_array_equal(np.isnan(y), np.isnan(z))


def test_gradients_of_gradients():
    x = amity.randn(1, 2, 4, 5, dtype=amity.float64).requires_grad_()
    assert amity.autograd.gradgradcheck(lambda x: ops.interpolate(x, (7, 3), mode="bicubic"), (x,))


def test_old_names():
    x = rng.standard_normal((1, 2, 4, 5)).astype(np.float32)
    bilinear = {"mode": "bilinear"}
    for name, options in (
        ("upsample", bilinear),
        ("upsample_nearest", {}),
        ("upsample_bilinear", {}),
    ):
        with pytest.warns(UserWarning, match=name):
            y = getattr(ops, name)(amity.tensor(x), scale_factor=2, **options)
        with pytest.warns(UserWarning):
            z = getattr(torch.nn.functional, name)(torch.tensor(x), scale_factor=2, **options)
        close(y, z, 1e-5)


IMAGE = (1, 1, 2, 2)
BAD = [
    (IMAGE, {}, "either size or scale_factor"),
    (IMAGE, {"size": 4, "scale_factor": 2}, "only one of"),
    (IMAGE, {"size": (4,)}, "same number of spatial dimensions"),
    (IMAGE, {"scale_factor": (4.0,)}, "same number of spatial dimensions"),
    (IMAGE, {"size": 4, "align_corners": False}, "align_corners"),
    (IMAGE, {"size": 4, "mode": "linear"}, "linear mode needs 3D"),
    (IMAGE, {"size": 0}, "greater than 0"),
    ((1, 0, 2, 2), {"size": 2}, "Non-empty 4D"),
    ((1, 1), {"size": 4}, "got 2D"),
    ((1, 1, 2), {"size": 4, "mode": "cube"}, "got cube"),
    ((1, 1, 2), {"size": 4, "mode": "linear", "antialias": True}, "Anti-alias"),
    ((1, 1, 2), {"size": 4.5}, "output size of type float"),
    ((1, 1, 2), {"size": 4, "recompute_scale_factor": True}, "not meaningful"),
]


@pytest.mark.parametrize("shape, options, says", BAD)
def test_errors(shape, options, says):
    with pytest.raises(Exception) as expected:  # noqa: B017
        theirs(torch.zeros(shape), **options)
    with pytest.raises(type(expected.value), match=says):
        ops.interpolate(amity.zeros(shape), **options)
