"""The CTC kernels: against PyTorch at many sizes, and against the NumPy meaning of their records."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import ops  # noqa: E402
from amity.ops.ctc import CtcGrad, CtcPaths  # noqa: E402

rng = np.random.default_rng(0)


def compare(x, targets, steps, lengths, dtype, turn=lambda t: t, **options):
    results = []
    for lib, F in ((amity, ops), (torch, torch.nn.functional)):
        t = lib.tensor(x).to(getattr(lib, dtype)).requires_grad_()
        arguments = [lib.tensor(np.asarray(v)) for v in (targets, steps, lengths)]
        loss = F.ctc_loss(turn(t).log_softmax(2), *arguments, **options)
        (loss * lib.arange(1, loss.numel() + 1).to(loss.dtype).reshape(loss.shape)).sum().backward()
        results.append([loss.detach().numpy(), t.grad.numpy()])
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("times, longest", [(1, 1), (5, 2), (60, 7), (60, 8), (60, 25), (200, 40)])
def test_losses_of_many_sizes(dtype, times, longest):
    batch, classes = 4, 6
    x = rng.standard_normal((times, batch, classes))
    targets = rng.integers(1, classes, (batch, longest))
    lengths = np.minimum(rng.integers(0, longest + 1, batch), times // 2)
    steps = rng.integers(np.maximum(2 * lengths, 1), times + 1)
    for reduction in ("none", "mean", "sum"):
        compare(x, targets, steps, lengths, dtype, reduction=reduction)
    last = {"blank": classes - 1, "reduction": "none"}
    compare(x, targets - 1, steps, lengths, dtype, **last)


def test_targets_that_do_not_fit_and_no_targets():
    x = rng.standard_normal((4, 3, 5))
    targets = np.array([[1, 1, 1, 1], [1, 2, 3, 4], [1, 2, 0, 0]])
    lengths, steps = [4, 0, 2], [4, 4, 3]
    compare(x, targets, steps, lengths, "float64", reduction="none", zero_infinity=True)
    loss = ops.ctc_loss(
        amity.tensor(x).log_softmax(2), amity.tensor(targets), steps, lengths, reduction="none"
    )
    assert np.isinf(loss.numpy()).tolist() == [True, False, False]


def test_other_memory_orders():
    x = rng.standard_normal((3, 5, 20))
    targets = rng.integers(1, 5, (3, 6))
    compare(x, targets, [20, 20, 15], [6, 5, 3], "float64", turn=lambda t: t.permute(2, 0, 1))


def test_the_records_say_the_same():
    batch, times, classes, wide = 2, 6, 4, 18
    path = np.zeros((batch, wide), np.int64)
    path[:, 1:7:2] = [[1, 1, 2], [3, 2, 3]]
    skip = np.zeros((batch, wide), bool)
    skip[:, 2:7] = path[:, 2:7] != path[:, :5]
    first = np.full((batch, wide), -1e30)
    first[:, :2] = 0
    x = np.log(rng.dirichlet(np.ones(classes), (times, batch)))
    arrays = [x, path, skip, first, np.array([6, 5]), np.array([3, 2])]
    loss, alpha = CtcPaths().reference(*arrays)
    tensors = [amity.tensor(a) for a in arrays]
    mine, variables = CtcPaths()(*tensors)
    np.testing.assert_allclose(mine.numpy(), loss, rtol=1e-9)
    g = np.array([1.0, -2.0])
    expected = CtcGrad().reference(*arrays, loss, alpha, g)
    found = CtcGrad()(*tensors, mine, variables, amity.tensor(g))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_errors():
    x, targets = amity.zeros(4, 1, 3).requires_grad_(), amity.ones(1, 2, dtype=amity.int64)
    with pytest.raises(RuntimeError, match="at least one"):
        ops.ctc_loss(amity.zeros(0, 1, 3), targets, (0,), (0,))
    g = amity.grad(ops.ctc_loss(x, targets, (4,), (2,)), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="derivative for 'ctc_loss_backward'"):
        g.square().sum().backward()
