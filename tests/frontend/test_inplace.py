"""Writing into tensors and through views, on the tape and off it, against PyTorch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import match  # noqa: E402


def programs(cls):
    return [pytest.param(f, id=n) for n, f in vars(cls).items() if not n.startswith("_")]


class Writes:
    """Each writes somewhere into something computed from x and z, and returns what it made."""

    def whole(m, x, z):
        y = x * 2
        y.mul_(3)
        return y

    def by_tensor(m, x, z):
        y = x * 2
        y.add_(z)
        return y * z

    def row(m, x, z):
        y = x * 2
        y[0] = z[1]
        return y

    def row_by_number(m, x, z):
        y = x * x
        y[1] = 5.0
        return y * x

    def row_in_place(m, x, z):
        y = x * x
        y[1].mul_(3)
        return y

    def view_seen_by_base(m, x, z):
        y = x * 2
        v = y[1:]
        v.mul_(z[1:])
        return y, v

    def base_seen_by_view(m, x, z):
        y = x * 2
        v = y[0]
        w = y.t()
        y.mul_(3)
        return v * 2, w

    def view_seen_by_view(m, x, z):
        y = x * 2
        a, b = y[:2], y[1:]
        a.mul_(5)
        return b * x[1:], y

    def view_of_view(m, x, z):
        y = x * 2
        v = y[1:]
        v[0, 1:].mul_(4)
        return v, y

    def transposed(m, x, z):
        y = (x * 2).t()
        y[0].add_(z[:, 1])
        return y

    def of_transposed_base(m, x, z):
        y = (x.t() * 2).clone()
        y[1:, ::2].mul_(3)
        return y

    def strided(m, x, z):
        y = x * 1
        y[:, ::2] = z[:, ::2] * 2
        y[::2] = 1.0
        return y

    def diagonal(m, x, z):
        y = x * 2
        y.diagonal().mul_(z[0, :3])
        return y

    def filled(m, x, z):
        y = x * 2
        y.fill_(2.0)
        return y * z

    def filled_by_tensor(m, x, z):
        y = x * 2
        y.fill_(z[0, 0])
        return y

    def zeroed_part(m, x, z):
        y = x * 2
        y[0].zero_()
        return y

    def fill_diagonal(m, x, z):
        y = x * 2
        y.fill_diagonal_(3.0)
        return y * z

    def masked(m, x, z):
        y = x * 2
        y[y > 0] = 0.5
        return y

    def masked_by_values(m, x, z):
        y = x * 2
        y[:2][z[:2] > 0] *= 3
        return y

    def rows_by_index(m, x, z):
        y = x * 2
        y[m.tensor([2, 0])] = z[:2]
        return y * x

    def copied(m, x, z):
        y = m.zeros(3, 4, dtype=m.float64)
        y.copy_(x)
        return y * z

    def copied_row(m, x, z):
        y = m.zeros(3, 4, dtype=m.float64)
        y[1].copy_(x[0])
        y[2] = z[0] * x[1]
        return y

    def buffer_seen_by_older_view(m, x, z):
        y = m.zeros(3, 4, dtype=m.float64)
        a, b = y[:2], y[1:]
        a.copy_(x[:2])
        return b

    def step_by_step(m, x, z):
        y = m.empty(3, 4, dtype=m.float64)
        for i in range(3):
            y[i] = x[i] * (y[i - 1] if i else z[0])
        return y

    def detached(m, x, z):
        y = x * 2
        y.detach()[0] = 100.0
        return y

    def without_grad(m, x, z):
        y = x * 2
        with m.no_grad():
            y.mul_(5)
        return y

    def relu(m, x, z):
        y = x * 2
        return m.relu_(y) * z

    def chain(m, x, z):
        y = x * 2
        return y.exp_().sub(1).tanh_() + 1

    def operators(m, x, z):
        y = x * 2
        y += z
        y -= 1
        y *= x
        y /= 2
        return y

    def scatter(m, x, z):
        y = x * 2
        y.scatter_(0, m.tensor([[0, 2, 1, 0]]), z[:1])
        y.index_add_(1, m.tensor([0, 0]), x[:, :2])
        return y

    def clamped(m, x, z):
        y = x * 2
        return y.clamp_(-1, 1).masked_fill_(z > 0, 2.0)

    def wider_result(m, x, z):
        y = x * 2
        y[None].add_(z)
        return y

    def expanded_value(m, x, z):
        y = x * 2
        y[:] = z[0]
        y[:, 1] = x[0, 0]
        return y

    def as_strided(m, x, z):
        y = x * 2
        y.as_strided((2, 2), (5, 1), 1).mul_(z[:2, :2])
        return y

    def reshaped(m, x, z):
        y = x * 2
        y.view(-1)[3:7] = z.reshape(-1)[3:7]
        return y, y.reshape(4, 3)

    def lerp(m, x, z):
        y = x * 2
        return y.lerp_(z, 0.3)

    def swapped(m, x, z):
        y = x * 2
        y.transpose_(0, 1)
        return y


@pytest.mark.parametrize("program", programs(Writes))
def test_writes_on_the_tape(program):
    match(program, order=2, x="float64[3,4]", z="float64[3,4]")


@pytest.mark.parametrize("program", programs(Writes))
def test_writes_off_the_tape(program):
    match(program, x="float64[3,4]", z="float64[3,4]")


class Errors:
    def leaf(m, x, z):
        x.mul_(2)

    def leaf_item(m, x, z):
        x[0] = 1.0

    def leaf_view(m, x, z):
        x[0].add_(1)

    def leaf_view_made_without_grad(m, x, z):
        with m.no_grad():
            v = x[0]
        v.add_(1)

    def view_made_without_grad(m, x, z):
        y = x * 2
        with m.no_grad():
            v = y[0]
        v.add_(1)

    def saved_input(m, x, z):
        y = x * 2
        w = y * z
        y.add_(1)
        return w

    def saved_result(m, x, z):
        y = m.exp(x)
        y.add_(1)
        return y

    def saved_by_view(m, x, z):
        y = x * 2
        w = y * z
        y[0] = 0.0
        return w

    def saved_through_view(m, x, z):
        y = x * 2
        w = y[0] * z[0]
        y.mul_(2)
        return w

    def expanded(m, x, z):
        y = (x * 2)[:1].expand(3, 4)
        y.mul_(2)

    def wrong_shape(m, x, z):
        y = x * 2
        y.add_(m.ones(2, 3, 4))

    def wrong_item_shape(m, x, z):
        y = x * 2
        y[0] = z[:, 0]

    def wrong_mask(m, x, z):
        y = x * 2
        y[z[:2] > 0] = 1.0

    def wrong_dtype(m, x, z):
        y = (x * 2).to(m.int64)
        y.mul_(0.5)

    def out_of_taped(m, x, z):
        return m.add(x, z, out=m.zeros(3, 4, dtype=m.float64))

    def out_of_narrow_dtype(m, x, z):
        with m.no_grad():
            return m.add(x, z, out=m.zeros(3, 4, dtype=m.int32))


@pytest.mark.parametrize("program", programs(Errors))
def test_errors(program):
    match(program, order=1, x="float64[3,4]", z="float64[3,4]")


OUT = """
add(x, z, out=o), o
mul(x, 2, out=o[0]), o
sum(x, 0, out=o[0]), o
matmul(x, z.T, out=o[:, :3]), o
exp(x, out=x), x
add(x.T, x.T, out=empty(0, dtype=float64))
cat([x, z], out=empty(0, dtype=float64))
max(x, 1, out=(empty(0, dtype=float64), empty(0, dtype=int64)))
sort(x, 1, out=(empty(0, dtype=float64), empty(0, dtype=int64)))
topk(x, 2, out=(empty(0, dtype=float64), empty(0, dtype=int64)))
cummax(x, 1, out=(empty(0, dtype=float64), empty(0, dtype=int64)))
argmax(x, 1, out=empty(0, dtype=int64))
mean(x, 1, out=empty(0, dtype=float64))
clamp(x, 0, 1, out=o), o
where(x > 0, x, z, out=o), o
gt(x, z, out=o), o
gt(x, z, out=empty(0, dtype=bool))
add(x, z, out=zeros(3, 4, dtype=float32))
arange(5, out=empty(0, dtype=int64))
zeros(2, 3, out=empty(0))
cumsum(x, 1, out=o), o
index_select(x, 0, tensor([1]), out=empty(0, dtype=float64))
nonzero(x > 0, out=empty(0, dtype=int64))
""".strip().splitlines()


@pytest.mark.parametrize("text", OUT)
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_out(text):
    match(text, x="float64[3,4]", z="float64[3,4]", o="float64[3,4]")


def test_every_view_shares_one_version():
    x = amity.zeros(3, 4)
    v, w = x[1:], x.t().reshape(-1)[:0]
    before = x._version
    v.add_(1)
    assert x._version == v._version == before + 1
    x.mul_(2)
    x[0] = 1
    assert v._version == before + 3 and w.numel() == 0
    assert x.detach()._version == x._version


def test_a_base_forgets_views_that_are_gone():
    y = amity.ones(3, requires_grad=True) * 2
    for i in range(5000):
        y[i % 3]
    assert len(y.__dict__["_views"]) < 200


def test_a_view_written_before_a_gradient_that_repeats_one_number():
    x = amity.ones(4, requires_grad=True)
    y = x * 1
    y[:2].mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [3, 3, 1, 1]


def test_copying_out_of_a_meta_tensor():
    with pytest.raises(NotImplementedError, match="no data"):
        amity.ones(2, 3).copy_(amity.empty(2, 3, device="meta"))
    meta = amity.empty(2, 3, device="meta")
    assert meta.copy_(amity.ones(2, 3)) is meta and meta.add_(1).zero_().fill_(2).is_meta
