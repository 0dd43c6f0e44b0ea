"""What is done again takes a shorter way: it must lead to the same place."""

from __future__ import annotations

import pytest

import amity

torch = pytest.importorskip("torch")

KEYS = (2, -1, slice(1, 3), slice(None), slice(-2, None, 2), (slice(None), 1), (1, slice(0, 2)),
        (..., 0), (None, 1), (0, -1), (slice(1, 3), slice(2)))  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_views_alias_each_time(key):
    x, t = amity.arange(12.0).reshape(4, 3), torch.arange(12.0).reshape(4, 3)
    for i in range(3):
        a, b = x[key], t[key]
        assert a.tolist() == b.tolist() and tuple(a.stride()) == tuple(b.stride())
        x[key] = i
        t[key] = i
        assert x.tolist() == t.tolist() and a.tolist() == b.tolist()


def test_keys_that_are_equal_but_not_the_same():
    x = amity.arange(12.0).reshape(4, 3)
    for _ in range(2):
        assert x[1].shape == (3,)
        assert x[True].shape == (1, 4, 3)
        assert x[(1, None, None)].shape == (1, 1, 3)
        assert x[1:None:None].shape == (3, 3)
        with pytest.raises(TypeError):
            x[1.0:2]
    assert x.reshape(3, 4).reshape(2, 6).shape == (2, 6)
    with pytest.raises((TypeError, RuntimeError)):
        x.reshape(2.0, 6)


def test_offsets_are_counted_from_the_view():
    x = amity.arange(24.0)
    for start in (0, 4, 8):
        assert x[start : start + 4][1].item() == start + 1
        assert x[start : start + 4].view(2, 2)[1].tolist() == [start + 2, start + 3]


def test_views_are_recorded_on_the_tape_each_time():
    x = amity.arange(6.0).reshape(2, 3).requires_grad_()
    for _ in range(3):
        x.grad = None
        (x[1] * 2).sum().backward()
        (x.t().reshape(6)[:2].sum()).backward()
        assert x.grad.tolist() == [[1, 0, 0], [3, 2, 2]]
        with amity.no_grad():
            assert not x[1].requires_grad


def test_inplace_on_parts_of_one_memory():
    for _ in range(3):
        x, t = amity.arange(8.0), torch.arange(8.0)
        a, b = x.detach(), t.detach()
        a.add_(a)
        b.add_(b)
        x[1:5].add_(x[1:5])
        t[1:5].add_(t[1:5])
        a.mul_(2)
        b.mul_(2)
        assert x.tolist() == t.tolist()
        whole = amity.arange(8.0)
        whole.add_(whole.flip(0))
        assert whole.tolist() == [7.0] * 8
        shown = amity.arange(4.0)
        shown.sub_(shown[:1])
        assert shown.tolist() == [0, 1, 2, 3]


def test_inplace_again_still_minds_versions_and_leaves():
    x = amity.ones(3, requires_grad=True)
    y = x * 2
    z = y * y
    other = amity.ones(3)
    for _ in range(2):
        other.add_(1)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="leaf"):
            x.add_(1)
        with pytest.raises(RuntimeError, match="leaf"):
            x[0] = 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("value", [0, 1, -1, 2.5, True, float("inf"), 1e30, 1 << 40], ids=str)
def test_filling_as_pytorch_does(dtype, value):
    x, t = (
        amity.zeros(3, 2, dtype=getattr(amity, dtype)),
        torch.zeros(3, 2, dtype=getattr(torch, dtype)),
    )
    for a in (x, x.t()[0]):
        b = t if a is x else t.t()[0]
        try:
            b.fill_(value)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                a.fill_(value)
        else:
            assert a.fill_(value).tolist() == b.tolist()
        assert x.tolist() == t.tolist()
        assert a.zero_().tolist() == b.zero_().tolist()


WRITES = {
    "zero_": lambda x: x.zero_(),
    "fill_": lambda x: x.fill_(3.0),
    "copy_": lambda x: x.copy_(type(x).detach(x) + 1),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes_again_mind_leaves_views_and_shared_places(name):
    write = WRITES[name]
    for lib in (amity, torch):
        for _ in range(3):
            x = lib.ones(3)
            assert write(x) is x and x._version == 1
            rows = lib.ones(2, 3)
            y = rows[0]
            write(y)
            assert rows[1].tolist() == [1.0] * 3 and rows[0].tolist() == x.tolist()
        for other in (lib.ones(3, requires_grad=True), lib.ones(2, 3, requires_grad=True)[0]):
            with pytest.raises(RuntimeError):
                write(other)
        for _ in range(2):
            one = lib.ones(1)
            if name == "copy_":
                with pytest.raises(RuntimeError, match="single memory location"):
                    write(one.expand(3))
            else:
                assert write(one.expand(2, 3)).tolist() == [[write(one).item()] * 3] * 2
        with lib.no_grad():
            hidden = lib.ones(2, 3, requires_grad=True)[0]
        with pytest.raises(RuntimeError):
            write(hidden)
        leaf = lib.ones(3, requires_grad=True)
        y = leaf * 2
        z = y * y
        write(y)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            z.sum().backward()


def test_copies_again_of_overlapping_parts():
    for _ in range(3):
        x, t = amity.arange(6.0), torch.arange(6.0)
        x[1:5].copy_(x[0:4].clone())
        t[1:5].copy_(t[0:4].clone())
        assert x.tolist() == t.tolist()
        x = amity.arange(6.0)
        x[1:5].copy_(x[0:4])
        assert x.tolist() == [0, 0, 1, 2, 3, 5]
        x.copy_(amity.tensor(2))
        assert x.tolist() == [2.0] * 6


def test_sums_and_sizes_again_by_what_they_are_given():
    x, t = amity.arange(6.0).reshape(2, 3), torch.arange(6.0).reshape(2, 3)
    for _ in range(3):
        for dims in ((), (0,), (-1,), (1,)):
            assert x.sum(*dims).tolist() == t.sum(*dims).tolist()
        assert x.sum(1, True).shape == (2, 1) and x.sum(1, keepdim=True).shape == (2, 1)
        assert x.sum((0, 1)).item() == 15
        assert x.int().sum(1).dtype is amity.int64
        with pytest.raises(IndexError):
            x.sum(2)
        with pytest.raises(TypeError):
            x.sum(1.0)
        assert amity.zeros(2).shape == amity.zeros((2,)).shape == (2,)
        assert amity.zeros(1, dtype=amity.int32).dtype is amity.int32
        for wrong in (True, 2.0):
            with pytest.raises(TypeError):
                amity.zeros(wrong)
        with pytest.raises(RuntimeError):
            amity.zeros(-1)
    amity.set_default_dtype(amity.float64)
    try:
        assert amity.zeros(2).dtype is amity.float64
    finally:
        amity.set_default_dtype(amity.float32)


def test_classes_are_looked_at_each_time():
    x = amity.randn(2, 3)
    for _ in range(3):
        y = amity.tensor([0, 2])
        assert amity.nn.functional.cross_entropy(x, y).item() > 0
        y[1] = 3
        for loss in ("cross_entropy", "nll_loss"):
            with pytest.raises(IndexError, match="Target 3 is out of bounds"):
                getattr(amity.nn.functional, loss)(x, y)
        y[1] = -100
        assert amity.nn.functional.nll_loss(x, y).item() == pytest.approx(-x[0, 0].item())


def test_linear_of_vectors_and_wrong_ranks():
    x, w, b = amity.randn(3), amity.randn(2, 3), amity.randn(2)
    f = amity.nn.functional.linear
    assert amity.allclose(f(x, w, b), w @ x + b) and amity.allclose(f(x, w), w @ x)
    assert f(x, w[0]).shape == ()
    for wrong in (amity.randn(2, 2, 3), amity.randn(2, 4)):
        with pytest.raises(RuntimeError):
            f(x, wrong, b)
