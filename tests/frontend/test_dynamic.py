"""One Program for many sizes: the same results as eager, from launches that are planned once."""

from __future__ import annotations

import random

import pytest

import amity
from amity import nn
from amity.engine import dynamic
from amity.nn import functional as F
from tests.frontend.test_compile import Functions, values
from tests.frontend.test_compile import agree as close
from tests.frontend.test_compile_random import program

SIZES = (17, 19, 23, 31, 8, 100, 3, 2, 250, 7)


def forms(compiled) -> list:
    return [f for family in compiled.recorder.families.values() for f in family.forms]


def planned(compiled) -> int:
    """Segments that were planned for their sizes alone."""
    return sum(s.form is None for s in compiled.segments.values())


def agree(a, b) -> None:
    for x, y in zip(a, b, strict=True):
        assert amity.allclose(x, y, rtol=1e-4, atol=1e-5, equal_nan=True)


def attend(x):
    heads = x.reshape(x.shape[0], -1, 1, 6).transpose(1, 2)
    out = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
    return out.transpose(1, 2).reshape(x.shape)


FUNCTIONS = {
    "pointwise": lambda x: (x * 2 + 1).tanh(),
    "rows": lambda x: x.softmax(-1) + x.mean(0),
    "columns": lambda x: x.sum(0, keepdim=True) / x.shape[0],
    "all": lambda x: x.std() * x,
    "product": lambda x: x @ x.T @ x,
    "moved": lambda x: amity.cat([x.T, x.flip(0).T], 1).reshape(-1, x.shape[0]),
    "sorted": lambda x: x.sort(0).values + x.cumsum(0),
    "indexed": lambda x: x[amity.arange(x.shape[0] - 1, -1, -1)] + x[1:2],
    "convolution": lambda x: F.conv1d(x[:, None], amity.ones(4, 1, 3), padding=1).amax(1),
    "pooled": lambda x: F.avg_pool1d(x[None], 3, 1, 1).squeeze(0),
    "attention": lambda x: attend(x.unsqueeze(1).expand(-1, 5, -1).reshape(-1, 5, 6)),
    "losses": lambda x: F.mse_loss(x, x * 0.5) + F.layer_norm(x, (6,)).square().mean(),
    "written": lambda x: x.clone().mul_(2).add_(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_program_serves_all_sizes(name):
    f = FUNCTIONS[name]
    c = amity.compile(f)
    for n in SIZES:
        x = amity.randn(n, 6)
        agree([c(x)], [f(x)])
    assert len(forms(c)) == 1 and planned(c) == 2, amity.explain(c)


@pytest.mark.parametrize("function", [f for n, f in vars(Functions).items() if n[0] != "_"],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_whatever_compiles(function):
    """Also functions that look at values, write into views, fail, or differ with sizes."""
    c = amity.compile(function)
    for n in (3, 5, 6, 7, 9, 5):
        outcomes = []
        for f in (function, c):
            amity.manual_seed(n)
            random.seed(n)
            x = amity.arange(4.0 * n).reshape(n, 4)
            try:
                outcomes.append((values(f(x)), values(x)))
            except (RuntimeError, IndexError, ValueError) as error:
                outcomes.append(str(error))
        assert str(outcomes[0]) == str(outcomes[1])


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_random_programs(start):
    found = 0
    for seed in range(start, start + 20):
        f = program(seed)
        c = amity.compile(f, static=False)
        for n in (4, 5, 7, 9, 6, 12, 5, 33):
            seen = []
            for call in (f, c):
                inputs = amity.arange(1.0 * n * n).reshape(n, n) / 7 - n, amity.ones(n, n)
                try:
                    seen.append(values([*call(*inputs), *inputs]))
                except RuntimeError as error:  # some fit matrices of 4 rows alone
                    seen.append([str(error), *values(list(inputs))])
            assert close(*seen), f"program {seed}, size {n}"
        found += len(forms(c))
    assert found


def test_sizes_without_room_for_formulas_have_their_own():
    f = lambda x: (x - x.mean(0)).relu().sum(-1)  # noqa: E731
    c = amity.compile(f)
    for n in (9, 8, 7, 1, 0, 12, 1, 0):
        x = amity.randn(n, 6)
        agree([c(x)], [f(x)])
    assert len(forms(c)) == 1 and planned(c) == 4


def test_two_sizes_at_once():
    f = lambda x, y: (x[:, None] * y).sum(-1).softmax(1) @ y  # noqa: E731
    c = amity.compile(f)
    for n, m in ((5, 7), (6, 9), (11, 8), (20, 30), (13, 4), (64, 65)):
        x, y = amity.randn(n, 3), amity.randn(m, 3)
        agree([c(x, y)], [f(x, y)])
    assert len(forms(c)) == 1 and planned(c) == 2
    assert len(forms(c)[0].fit.sizes) == 2


# -- training


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)  # which the norm would subtract
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8 * 9, 5)

    def forward(self, x):
        x = F.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        return self.linear(F.dropout(x.flatten(1), 0.1, self.training))


def trained(wrap, batches, **options):
    amity.manual_seed(5)
    model = Net()
    optimizer = amity.optim.AdamW(model.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    call = wrap(step, **options) if options else wrap(step)
    losses = [call(amity.randn(n, 3, 6, 6), amity.randint(0, 5, (n,))) for n in batches]
    return losses, [*model.parameters(), model.norm.running_var], call


@pytest.mark.parametrize("batches", [(16, 16, 7, 16, 16, 7), (12, 7, 9, 16, 4, 30, 2, 11, 9)])
def test_training_with_batches_of_many_sizes(batches):
    losses, state, _ = trained(lambda f: f, batches)
    for options, programs in (({}, 2), ({"dynamic": True}, 1), ({"dynamic": False}, 99),
                              ({"dynamic_shapes": {"x": {0: amity.Dim("batch")}}}, 1)):  # fmt: skip
        found, after, call = trained(amity.compile, batches, **options)
        agree(found, losses)
        agree(after, state)
        assert planned(call) == min(programs, len(set(batches))), amity.explain(call)
        assert len(forms(call)) == (len(set(batches)) > programs)


# -- what users say and are told


def test_explain_tells_sizes(capsys):
    c = amity.compile(lambda x: (x * 2).sum(0), dynamic_shapes={"x": {0: amity.Dim("rows")}})
    for n in (5, 8, 9):
        c(amity.ones(n, 3))
    said = amity.explain(c)
    assert "at rows=8 of Program 1 for many sizes: rows from 2" in said
    assert "so is 1 other segment at other sizes, used 1 time in all" in said


def test_formulas_that_get_lost_are_noticed(monkeypatch):
    """A number that silently stays what it was must neither be used nor go untold."""
    launch = dynamic.program.lower_here

    def careless(*args, **how):
        lowered = launch(*args, **how)
        for step in lowered.steps:
            step.meta = [int.__int__(x) for x in step.meta]
        return lowered

    monkeypatch.setattr(dynamic.program, "lower_here", careless)
    f = lambda x: (x * 2).tanh() + x.sum(0)  # noqa: E731
    c = amity.compile(f)
    for n in (5, 7, 8, 9):
        x = amity.randn(n, 3)
        agree([c(x)], [f(x)])
    assert not forms(c) and planned(c) == 4
    assert "its sizes stay as they are: a number of a launch changes" in amity.explain(c)


def test_lowering_that_refuses_formulas_is_told_and_does_without(monkeypatch):
    launch = dynamic.program.lower_here

    def strict(graph, layouts, *args, **how):
        if any(type(n) is not int for lay in layouts for n in lay.shape):
            raise TypeError("got a formula")
        return launch(graph, layouts, *args, **how)

    monkeypatch.setattr(dynamic.program, "lower_here", strict)
    c = amity.compile(lambda x: x * 2)
    for n in (5, 7, 8):
        assert c(amity.ones(n)).tolist() == [2] * n
    assert not forms(c)
    assert "its sizes stay as they are: formulas are refused: got a formula" in amity.explain(c)


def test_declared_sizes_are_checked():
    batch = amity.Dim("batch", min=2, max=8)
    f = amity.compile(lambda x, y: x + y, dynamic_shapes=({0: batch}, [batch, None]))
    assert f(amity.ones(3, 2), amity.ones(3, 2)).shape == (3, 2)
    for rows, says in (((9, 9), "expected 2 to 8"), ((1, 1), "2 to 8"), ((3, 4), "expected 3, as")):
        with pytest.raises(ValueError, match=says):
            f(*[amity.ones(n, 2) for n in rows])
    with pytest.raises(ValueError, match="without dimension 0"):
        f(amity.ones(()), amity.ones(3, 2))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: amity.Dim("two words"), ValueError, "expected an identifier"),
        (lambda: amity.Dim("n", min=4, max=3), ValueError, "expected min <= max"),
        (lambda: amity.compile(len, dynamic_shapes={"z": {}}), ValueError, "got dynamic_shapes"),
        (lambda: amity.compile(len, dynamic_shapes={"obj": {0: 3}}), TypeError, "a Dim or None"),
        (lambda: amity.Dim("n", max=2.5), TypeError, "expected integers or None"),
        (lambda: amity.compile(len, dynamic_shapes=5), TypeError, "got dynamic_shapes of type int"),
        (
            lambda: amity.compile(len, dynamic_shapes=[{}, {}]),
            ValueError,
            "of 2 parameters; expected at",
        ),
        (
            lambda: amity.compile(len, dynamic_shapes=[{"0": None}]),
            TypeError,
            "got dimension '0' of obj",
        ),
        (
            lambda: amity.compile(len, dynamic_shapes=[5]),
            TypeError,
            "got int for obj; expected a map",
        ),
        (
            lambda: amity.compile(len, dynamic_shapes=[{}])(),
            TypeError,
            r"len\(\) got other arguments",
        ),
        (lambda: amity.compile(len, dynamic=3), TypeError, "got dynamic=3; expected None, True"),
        (
            lambda: amity.compile(len, static="no"),
            TypeError,
            "got static='no'; expected None, True",
        ),
    ],
)
def test_what_cannot_be_declared(make, error, says):
    with pytest.raises(error, match=says):
        make()
