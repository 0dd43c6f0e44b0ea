"""Views: who owns the memory, what aliases, what may be written, and the errors of `view`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.frontend.programs import leaf, programs, raised  # noqa: E402
from tests.ops.compare import match  # noqa: E402

VIEWS = """
x[1]
x[1:]
x[:, ::2]
x[..., None]
x[:]
x.t()
x.T
x.mT
x.H
x.view(4, 3)
x.view(-1)
x.view(2, -1)
x.reshape(6, 2)
x.flatten()
x.ravel()
x.transpose(0, 1)
x.permute(1, 0)
x.movedim(0, 1)
x.swapaxes(0, 1)
x.unsqueeze(1)
x.unsqueeze(0).squeeze(0)
x.squeeze()
x.expand(2, 3, 4)
x.expand_as(ones(1, 3, 4))
x.narrow(1, 1, 2)
x.select(1, 2)
x.diagonal()
x.diagonal(1)
x.unfold(1, 2, 1)
x.as_strided((2, 2), (4, 1), 1)
x.split(2)[1]
x.chunk(2, 1)[1]
x.unbind(1)[3]
x.tensor_split(2)[1]
x.hsplit(2)[1]
x.vsplit(3)[2]
x.view_as(ones(12))
x.reshape_as(ones(2, 6))
x.detach()
x.data
x.view(3, 2, 2).flatten(1)
x.view(3, 2, 2)[1].t()[:, 1]
x.unflatten(1, (2, 2))
x.broadcast_to(2, 3, 4)
x.real
x.contiguous()
x.to(float64)
x.double()
x.cpu()
x[None, 1:].transpose(1, 2)[0][::2]
atleast_3d(x)
""".strip().splitlines()

COPIES = """
x.clone()
x.t().contiguous()
x.t().reshape(-1)
x.t().flatten()
x[[0, 1]]
x[x > 0]
x.float()
x + 0
x.repeat(1, 1)
x.to(float64, copy=True)
x.index_select(0, tensor([0]))
x.tile(1, 1)
x.flip(0)
x.roll(1)
""".strip().splitlines()


def facts(text):
    """Where a result lies, and what is seen when it is written to."""

    def program(m, x):
        names = {n: getattr(m, n) for n in ("ones", "float64", "tensor", "atleast_3d")}
        v = eval(text, {"x": x, **names})
        seen = [
            tuple(v.shape), v.stride(), v.storage_offset(), v.is_contiguous(), v._is_view(),
            v._base is x, v.data_ptr() == x.data_ptr(), v.is_leaf, v.numel(), v.element_size(),
            v.dim(), v.nbytes, v.itemsize, v is x,
        ]  # fmt: skip
        shared = v.data_ptr() - x.data_ptr()
        v.fill_(5.0) if 0 not in v.stride() else x.fill_(5.0)
        return seen, 0 <= shared < 12 * 8 and v._version == x._version, x, v

    return program


@pytest.mark.parametrize("text", VIEWS)
def test_views_alias(text):
    match(facts(text), x="float64[3,4]")


@pytest.mark.parametrize("text", COPIES)
def test_copies_do_not(text):
    def program(m, x):
        names = {n: getattr(m, n) for n in ("float64", "tensor")}
        c = eval(text, {"x": x, **names})
        c.fill_(5.0)
        return x, c, c._base is x, c.storage_offset(), x._version, c.stride()

    match(program, x="float64[3,4]")


ERRORS = """
x.t().view(-1)
x.t().view(12)
x[:, ::2].view(6)
x[:, 1:].view(-1)
x.view(5)
x.view(5, -1)
x.view(-1, -1)
x.view(3, -2)
x.view(3.0, 4)
x.view("a")
x.expand(3, 5)
x.expand(4)
x.expand(-1, -1, 4, 4)
x.expand(-1, 3, 4)
x.as_strided((2, 2), (-1, 1))
x.as_strided((2, 2), (1,))
x.as_strided((20, 20), (4, 1))
x.as_strided((2, 2), (4, 1), 100)
x.transpose(0, 2)
x.permute(0, 0)
x.permute(0)
x.squeeze(5)
x.unsqueeze(4)
x.narrow(0, 2, 2)
x.narrow(0, 0, -1)
x.select(0, 3)
x.diagonal(0, 0, 0)
x.unfold(1, 5, 1)
x.unfold(1, 2, 0)
x.split([1, 1])
x.split(-1)
x.chunk(0)
x.unflatten(1, (3, 2))
x[3]
x[0, 0, 0]
x[0][0][0][0]
x[::-1]
x[::0]
x["a"]
x[1.0]
x[object()]
x[0, 1.5]
x[b"a"]
x.size(2)
x.stride(-3)
x.mT.H.view(-1)
x[0].mT
x[None].H
x.flatten(1, 0)
x.movedim((0, 1), (0, 0))
x.view(2, 2, 2, 2)
x.reshape(7)
x.view(uint8).view(3, 32)
x[:, :1].view(float32)
x.t().view(float32)
x.view(float32)
x[:, :3].view(int16)
x.view(int64)
""".strip().splitlines()


@pytest.mark.parametrize("text", ERRORS)
def test_view_errors(text):
    match(text, x="float64[3,4]")


class Bases:
    def a_view_of_a_view_has_the_first_base(m):
        x = m.arange(24.0).view(2, 3, 4)
        v = x[1][1:].t()
        return v._base is x._base, v._base.shape == (24,), v, v.storage_offset()

    def bases_of_leaves(m):
        x = leaf(m, 1, 2, 3)
        v = x[1:]
        return v._base is x, v.is_leaf, v.requires_grad, x._is_view(), x._base is None

    def without_grad(m):
        x = leaf(m, 1, 2, 3)
        with m.no_grad():
            v = x[1:]
        return v.is_leaf, v._is_view(), v._base is x

    def detached_views_have_no_base(m):
        x = m.arange(4.0)
        return x[1:].detach()._base is None or m.__name__, x.detach().storage_offset()

    def gradients_of_views(m):
        x = leaf(m, 1, 2, 3, 4)
        v = x.view(2, 2).t()[1:]
        (v * v).sum().backward()
        return x.grad

    def gradients_of_overlapping_windows(m):
        x = leaf(m, 1, 2, 3, 4, 5)
        (x.unfold(0, 3, 1) * m.arange(9).view(3, 3)).sum().backward()
        return x.grad

    def gradients_of_strides(m):
        x = leaf(m, 1, 2, 3, 4, 5, 6)
        (x.as_strided((3, 2), (1, 2), 1) * m.arange(6).view(3, 2)).sum().backward()
        return x.grad

    def gradients_of_expanded(m):
        x = leaf(m, 1, 2)
        (x.expand(3, 2) * m.arange(6).view(3, 2)).sum().backward()
        return x.grad

    def writes_through_many_views(m):
        x = m.arange(24.0).view(2, 3, 4)
        x[1].t()[2].mul_(10)
        x.permute(2, 0, 1)[0, :, 1:] = -1
        x.view(-1)[::5].add_(100)
        x.unsqueeze(0)[..., -1].zero_()
        return x

    def writes_through_overlap_are_refused(m):
        x = m.arange(4.0)
        return raised(x.expand(3, 4).add_, 1), raised(x[:1].expand(4).copy_, m.ones(4)), x

    def copies_between_overlapping_views(m):
        x = m.arange(8.0)
        x[1:].copy_(x[:-1].clone())
        y = m.arange(8.0)
        y[:4] += y[4:]
        return x, y

    def t_of_a_vector(m):
        x = m.arange(3.0)
        return x.t(), x.t().data_ptr() == x.data_ptr(), raised(m.ones(1, 2, 3).t)

    def in_place_on_a_view_under_the_tape(m):
        x = leaf(m, 1, 2, 3, 4)
        y = x * 2
        v = y.view(2, 2)
        v[0].mul_(10)
        name = v.grad_fn.name() != "MulBackward0"
        (y * y).sum().backward()
        return x.grad, name, v._version, y._version, v, y._is_view()

    def in_place_on_split(m):
        x = leaf(m, 1, 2, 3, 4)
        a, b = (x * 2).chunk(2)
        return raised(a.mul_, 3) in ("RuntimeError", None), b

    def view_of_a_leaf_in_place(m):
        x = leaf(m, 1, 2)
        v = x[:1]
        return raised(v.add_, 1), raised(x.add_, 1), raised(x.view(2, 1).zero_)

    def leaf_written_without_grad_through_a_view(m):
        x = leaf(m, 1, 2)
        with m.no_grad():
            x[:1].add_(10)
            x.view(-1)[1] = 7
        return x, x.is_leaf, x._version


class Data:
    def shares_memory(m):
        x = leaf(m, 1, 2)
        x.data[0] = 5
        x.data.mul_(2)
        return (
            x,
            x._version,
            x.data.requires_grad,
            x.data.is_leaf,
            x.data.data_ptr() == x.data_ptr(),
        )

    def of_a_view(m):
        x = m.arange(6.0).view(2, 3)
        d = x[1].data
        d += 10
        return x, d.storage_offset(), d.data_ptr() == x[1].data_ptr(), d._is_view()

    def is_assigned(m):
        x = leaf(m, 1, 2)
        x.data = m.tensor([3.0, 4.0, 5.0], dtype=m.float64)
        (x * x).sum().backward()
        return x, x.grad, x.is_leaf

    def assigned_memory_is_shared(m):
        x, y = leaf(m, 1, 2), m.zeros(2, dtype=m.float64)
        x.data = y
        y[0] = 9
        return x, x.data_ptr() == y.data_ptr()

    def assigned_wrongly(m):
        x = leaf(m, 1, 2)

        def assign(value):
            x.data = value

        return raised(assign, 3), raised(assign, [1.0, 2.0])

    def overlaps_are_seen(m):
        x = m.arange(6.0)
        x[1:].copy_(x.data[:-1] + 0)
        y = m.arange(6.0)
        y.data[:3].add_(y[3:])
        return x, y


class Storage:
    def takes_over(m):
        x, y = m.arange(6.0), m.zeros(2, 3)
        x.set_(y)
        y.fill_(4)
        return x, x.data_ptr() == y.data_ptr(), x.is_set_to(y), y.is_set_to(m.zeros(2, 3))

    def takes_over_a_view(m):
        x, y = m.arange(6.0), m.zeros(2, 3)
        x.set_(y.t()[1:])
        x.fill_(7)
        return x, y, x.storage_offset(), x.stride()

    def empties(m):
        x = m.arange(6.0)
        x.set_()
        return x.shape == (0,), x.numel()

    def of_another_dtype(m):
        return raised(m.zeros(2).set_, m.zeros(2, dtype=m.int64))

    def shrinks_and_grows(m):
        x = m.arange(6.0)
        where = x.data_ptr()
        x.resize_(2, 2)
        small = x.clone(), x.data_ptr() == where
        x.resize_(6)
        same = x.clone(), x.data_ptr() == where
        x.resize_(20)
        return small, same, x[:6].clone(), x.shape == (20,)

    def resize_like(m):
        x = m.arange(6.0)
        x.resize_as_(m.zeros(3, 2))
        return x

    def resize_refused(m):
        return raised(leaf(m, 1, 2).resize_, 3), raised(m.ones(2).resize_, -1)

    def sizes(m):
        return [
            (m.zeros(3, dtype=d).element_size(), m.zeros(3, dtype=d).nbytes)
            for d in (
                m.bool,
                m.uint8,
                m.int16,
                m.int64,
                m.float16,
                m.bfloat16,
                m.float32,
                m.float64,
            )
        ]

    def of_nothing(m):
        x = m.zeros(0, 3)
        return (
            x.data_ptr(),
            x.storage_offset(),
            x.stride(),
            x.is_contiguous(),
            x.view(3, 0).shape == (3, 0),
        )

    def untyped(m):
        x = m.arange(6.0).view(2, 3)
        s = x[1].untyped_storage()
        return s.nbytes() >= 24, s.data_ptr() == x.data_ptr(), s.size() == len(s) == s.nbytes()

    def squeezed_in_place(m):
        x = m.zeros(1, 3, 1)
        x.squeeze_().unsqueeze_(0).t_()
        return x, x.stride()

    def dtype_views(m):
        x = m.tensor([1.0, -2.0, 3.5])
        y = m.arange(4, dtype=m.int32)
        bits = x.view(m.int32)
        x[0] = 4.0
        return bits, bits.view(m.float32), y.view(m.int64), y.view(m.int16), y[1:3].view(m.uint8)


@pytest.mark.parametrize("program", programs(Bases, Data, Storage))
def test_program(program):
    match(program)


def test_view_errors_say_what_to_do():
    x = amity.zeros(3, 4)
    with pytest.raises(RuntimeError, match=r"view: .*stride.*reshape"):
        x.t().view(12)
    with pytest.raises(RuntimeError, match=r"view: shape '\[5\]' is invalid for input of size 12"):
        x.view(5)
