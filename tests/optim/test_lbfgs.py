"""LBFGS walks PyTorch's way, with and without its line search."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import amity
from amity.optim.lbfgs import Point, cubic_minimum

torch = pytest.importorskip("torch")

OPTIONS = [
    {},
    {"lr": 0.1, "history_size": 2},
    {"lr": 0.5, "max_iter": 4},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "max_iter": 3, "history_size": 3},
    {"line_search_fn": "strong_wolfe", "max_iter": 6, "max_eval": 4},
    {"line_search_fn": "strong_wolfe", "lr": 20.0, "max_iter": 5},
    {"line_search_fn": "strong_wolfe", "lr": 1e-3, "max_iter": 5},
]


def bowl(library, x, y):
    """Smooth, convex, badly scaled."""
    scale = library.tensor([1.0, 30.0, 0.1], dtype=library.float64)
    return (scale * (x - 1) ** 2).sum() + ((y * y + 1).sqrt() * 3).sum() + (x[:2] @ y) ** 2


def valley(library, x, y):
    """Rosenbrock's function."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum() + (y**2).sum()


def runner(library, f, options, start):
    x, y = (library.tensor(v, dtype=library.float64, requires_grad=True) for v in start)
    optimizer = library.optim.LBFGS([x, y], **options)

    def closure():
        optimizer.zero_grad()
        loss = f(library, x, y)
        loss.backward()
        return loss

    return optimizer, closure, (x, y)


@pytest.mark.parametrize("f", [bowl, valley])
@pytest.mark.parametrize("options", OPTIONS, ids=[" ".join(map(str, o.items())) for o in OPTIONS])
def test_trajectory_equals_pytorch(f, options):
    if f is valley and "line_search_fn" not in options:
        options = {**options, "lr": 1e-4}
    start = [-1.2, 1.0, 0.5], [0.3, -0.7]
    ours, our_closure, our_params = runner(amity, f, options, start)
    theirs, their_closure, their_params = runner(torch, f, options, start)
    for _ in range(2):  # with lr=0.1, a last bit grows to 1e-6 within a third
        a, b = ours.step(our_closure), theirs.step(their_closure)
        assert a.item() == pytest.approx(b.item(), rel=1e-7, abs=1e-12)
        for p, q in zip(our_params, their_params):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-7, atol=1e-9)
        one, two = ours.state[our_params[0]], theirs.state[their_params[0]]
        assert (one["n_iter"], one["func_evals"]) == (two["n_iter"], two["func_evals"])


def test_strong_wolfe_reaches_rosenbrocks_minimum():
    options = {"line_search_fn": "strong_wolfe", "tolerance_change": 1e-15}
    optimizer, closure, (x, _) = runner(amity, valley, options, ([-1.2, 1.0], [0.0]))
    for _ in range(5):
        optimizer.step(closure)
    np.testing.assert_allclose(x.detach().numpy(), [1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("options", [{"lr": 0.1}, {"line_search_fn": "strong_wolfe"}])
def test_state_goes_over_from_pytorch_and_back(convert, options):
    options, start = {**options, "max_iter": 4}, ([-1.2, 1.0, 0.5], [0.3, -0.7])
    ours, our_closure, our_params = runner(amity, bowl, options, start)
    theirs, their_closure, their_params = runner(torch, bowl, options, start)
    for _ in range(2):
        ours.step(our_closure)
        theirs.step(their_closure)
        saved = copy.deepcopy(ours.state_dict()), copy.deepcopy(theirs.state_dict())
        assert set(saved[0]["state"][0]) <= set(saved[1]["state"][0])
        ours.load_state_dict(convert(saved[1], amity.from_numpy))
        theirs.load_state_dict(convert(saved[0], torch.from_numpy))
    assert ours.step(our_closure).item() == pytest.approx(theirs.step(their_closure).item())
    for p, q in zip(our_params, their_params):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_parameter_without_gradient_stays():
    x = amity.tensor([3.0], requires_grad=True)
    idle = amity.tensor([[7.0, 8.0]], requires_grad=True)
    optimizer = amity.optim.LBFGS([idle, x])

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with amity.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert idle.tolist() == [[7.0, 8.0]] and abs(x.item()) < 1e-3


def test_nothing_moves_at_a_minimum():
    optimizer, closure, (x, y) = runner(amity, valley, {}, ([1.0, 1.0], [0.0]))
    assert optimizer.step(closure).item() == 0.0
    assert x.tolist() == [1.0, 1.0]
    assert optimizer.state[x] == {"func_evals": 1, "n_iter": 0}


def test_groups_and_unknown_line_searches_are_refused():
    p, q = amity.ones(1, requires_grad=True), amity.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="LBFGS: got 2 groups; expected one group"):
        amity.optim.LBFGS([{"params": p}, {"params": q}])
    optimizer, closure, _ = runner(amity, bowl, {"line_search_fn": "golden"}, ([1, 2, 3], [1, 1]))
    with pytest.raises(RuntimeError, match="line_search_fn='golden'"):
        optimizer.step(closure)


def test_cubic_minimum_is_exact_for_a_cubic_and_halves_where_there_is_none():
    def at(t):  # t**3 - 3*t has its minimum at 1
        return Point(t, t**3 - 3 * t, amity.zeros(1), 3 * t * t - 3)

    assert cubic_minimum(at(0.0), at(3.0)) == pytest.approx(1.0)
    assert cubic_minimum(at(3.0), at(0.0)) == pytest.approx(1.0)
    assert cubic_minimum(at(0.0), at(3.0), bounds=(2.0, 2.5)) == 2.0
    assert cubic_minimum(at(2.0), at(2.0)) == 2.0
    line = [Point(t, -t, amity.zeros(1), -1.0) for t in (0.0, 4.0)]
    assert cubic_minimum(*line) == 2.0
