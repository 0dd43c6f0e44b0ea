"""Matrix products of compiled graphs: the elementwise ops that follow join the kernel."""

import numpy as np
import pytest

import amity
from amity import nn
from amity.compiler import pipeline
from amity.profiler import profile
from tests.frontend.held import holds

F = nn.functional
CLOSE = {amity.float32: 3e-6, amity.float64: 1e-12, amity.bfloat16: 8e-3}


@pytest.fixture(autouse=True)
def _no_gradients():
    amity.manual_seed(0)
    with amity.no_grad():
        yield


def kernels(f, *args):
    """What a call runs, but for weights that are laid out."""
    f(*args)
    with profile() as p:
        f(*args)
    events = [e for e in p.key_averages() if "_" in e.key and not e.key.startswith("turn")]
    return {e.key.rsplit("_", 1)[0]: e.count for e in events}


ENDINGS = {
    "relu": lambda h, s, row, column: h.relu(),
    "gelu, residual": lambda h, s, row, column: s + F.gelu(h),
    "row and column": lambda h, s, row, column: (h * row + column).tanh() - 1,
    "both": lambda h, s, row, column: (h, (h + s).sigmoid()),
    "narrowed": lambda h, s, row, column: (h * 2).half(),
    "several reads": lambda h, s, row, column: (h * s, h > 0, s * s + h),
}
SIZES = [(1, 30, 300), (3, 200, 129), (4, 600, 512), (12, 1000, 40), (33, 130, 65), (70, 9, 2100), (9, 1, 7),
         (9, 40, 1), (0, 5, 6), (128, 260, 1100), (64, 256, 256)]  # fmt: skip


@pytest.mark.parametrize("m, k, n", SIZES)
@pytest.mark.parametrize("dtype", CLOSE)
def test_endings(m, k, n, dtype):
    x, s, row, column = (amity.randn(*z).to(dtype) for z in ((m, k), (m, n), (n,), (m, 1)))
    layer = nn.Linear(k, n).to(dtype)
    w = layer.weight.t().contiguous() / k**0.5
    for name, end in ENDINGS.items():
        if dtype is not amity.float32 and name != "gelu, residual":
            continue
        close = 1e-3 if name == "narrowed" else CLOSE[dtype]
        for product in (layer, lambda x: x @ w, lambda x: amity.addmm(s, x, w, beta=0.5, alpha=2)):
            holds(
                lambda *a, f=product, end=end: end(f(a[0]), *a[1:]),
                x,
                s,
                row,
                column,
                tolerance=close,
            )


def test_batches():
    a, b = amity.randn(3, 4, 60, 50), amity.randn(3, 4, 50, 70)
    scale, mask = amity.randn(3, 1, 60, 1), amity.randn(60, 70)
    holds(lambda: (a @ b).exp() * 0.5)
    holds(lambda: (a @ b) * scale + mask)  # rows that no single step walks
    holds(lambda: (a @ b).transpose(-1, -2).relu() + 1)
    holds(lambda: amity.softmax(a @ b * 0.1 + mask, -1), tolerance=1e-5)


def test_one_kernel_for_all_of_it():
    layer, x, s = nn.Linear(200, 700), amity.randn(300, 200), amity.randn(300, 700)
    f = amity.compile(lambda: s + F.gelu(layer(x)))
    assert kernels(f) == {"gemm": 1}
    with pipeline.without("end"):
        f = amity.compile(lambda: s - F.gelu(layer(x)))
        assert kernels(f).keys() == {"gemm", "mul_erf_add_sub"}


def test_a_reduction_reads_what_was_added():
    """One value is stored before a reduction, not the product and then that."""
    layer, norm = nn.Linear(200, 384), nn.LayerNorm(384)
    x, s = amity.randn(300, 200), amity.randn(300, 384)

    def block(x, s):
        s = s + layer(x)
        return s, norm(s)

    found = kernels(holds(block, x, s), x, s)
    assert found.pop("gemm") == 1 and [name.split("_")[0] for name in found] == ["sum"]
    holds(lambda x: (layer(x) - 1).square().mean(), x)


@pytest.mark.parametrize("m", [7, 300])
def test_results_in_place(m):
    """An argument that the ending reads takes its result, whether or not the product is ended."""
    layer, square = nn.Linear(40, 1000), nn.Linear(1000, 1000)
    x, first = amity.randn(m, 40), amity.randn(m, 1000)

    def add(s):
        return s.add_(layer(x))

    def feed(s):
        return s.add_(square(s).relu())  # the product reads what it is added to

    for f in (add, feed):
        ours, wanted = first.clone(), first.clone()
        compiled = amity.compile(f)
        for _ in range(3):
            compiled(ours), f(wanted)
        np.testing.assert_allclose(ours.numpy(), wanted.numpy(), 1e-4, 1e-4)


def test_sizes_as_formulas():
    layer = nn.Linear(256, 256)
    f = amity.compile(lambda x: F.silu(layer(x)), dynamic=True)
    for m in (300, 20, 5, 1000, 64, 9):
        x = amity.randn(m, 256)
        np.testing.assert_allclose(f(x).numpy(), F.silu(layer(x)).numpy(), 1e-5, 1e-5)
