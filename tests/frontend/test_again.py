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
