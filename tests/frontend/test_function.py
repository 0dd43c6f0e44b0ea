"""Functions with a derivative of their own, against PyTorch where it has an opinion."""

import math

import pytest

import amity
from amity.frontend.autograd import Function, once_differentiable


def leaf(*values):
    return amity.tensor(list(values), requires_grad=True)


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Exp(Function):
    """Saves its own output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * g


def test_backward_is_called():
    x = leaf(1.0, 3.0)
    y = Square.apply(x)
    assert y.requires_grad and not y.is_leaf and "Square" in repr(y.grad_fn)
    y.sum().backward()
    assert x.grad.tolist() == [2, 6]


@pytest.mark.parametrize("function, second", [(Square, 2.0), (Exp, math.e)])
def test_second_derivatives(function, second):
    x = leaf(1.0)
    (g,) = amity.grad(function.apply(x).sum(), x, create_graph=True)
    (h,) = amity.grad(g.sum(), x)
    assert h.item() == pytest.approx(second)


def test_backward_twice_needs_the_graph():
    x = leaf(1.0)
    y = Square.apply(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 4
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()


def test_saved_tensors_must_not_change():
    x = leaf(1.0) * 2
    y = Square.apply(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


class Several(Function):
    @staticmethod
    def forward(ctx, x, factor, z=None):
        ctx.factor = factor
        assert ctx.needs_input_grad == (True, False, False)
        return factor * x, x + 1, "text", x.long()

    @staticmethod
    def backward(ctx, a, b, text, whole):
        assert text is None and whole is not None and not whole.any()
        return ctx.factor * a + b, None, None


def test_several_outputs_and_other_arguments():
    x = leaf(1.0, 2.0)
    a, b, text, whole = Several.apply(x, 3.0, None)
    assert text == "text" and not whole.requires_grad and a.requires_grad and b.requires_grad
    a.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [3, 3]
    (a.sum() + 10 * b.sum()).backward()
    assert x.grad.tolist() == [16, 16]


class Sparing(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        top = x * 2
        ctx.mark_non_differentiable(top)
        return top, x * 1, x * 5

    @staticmethod
    def backward(ctx, a, b, c):
        assert a is None and c is None
        return b


def test_marks():
    x = leaf(1.0)
    top, same, _ = Sparing.apply(x)
    assert not top.requires_grad
    same.backward()
    assert x.grad.item() == 1


class Identity(Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return 7 * g


def test_an_input_as_output_becomes_a_view():
    x = leaf(1.0)
    y = Identity.apply(x)
    assert y is not x and y.data_ptr() == x.data_ptr()
    y.sum().backward()
    assert x.grad.item() == 7 and x.is_leaf


class Fill(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.fill_(5.0)

    @staticmethod
    def backward(ctx, g):
        return g * 0


def test_in_place():
    x = leaf(1.0)
    y = x * 2
    assert Fill.apply(y) is y
    (y + x).sum().backward()
    assert y.item() == 5 and x.grad.item() == 1
    with pytest.raises(RuntimeError, match="leaf Variable"):
        Fill.apply(leaf(1.0))


class Parted(Function):
    @staticmethod
    def forward(x, factor):
        return x * factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.factor = inputs
        assert output.shape == x.shape

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor, None


def test_forward_without_a_context():
    x = leaf(1.0)
    Parted.apply(x, 4.0).backward()
    assert x.grad.item() == 4


class Once(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 3

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * 3


def test_once_differentiable():
    x = leaf(1.0)
    Once.apply(x).backward()
    assert x.grad.item() == 3
    w = leaf(2.0)
    (g,) = amity.grad((Once.apply(x) * w).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def returning(*grads):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            return grads

    return Wrong


@pytest.mark.parametrize(
    "grads, error, text",
    [
        ((None,), RuntimeError, r"incorrect number of gradients \(expected 2, got 1\)"),
        ((None, None, 3), RuntimeError, "incorrect number of gradients"),
        ((3, None), TypeError, "expected Variable or None"),
        ((amity.ones(3), None), RuntimeError, "invalid gradient at index 0"),
    ],
)
def test_wrong_gradients(grads, error, text):
    x = leaf(1.0, 2.0)
    with pytest.raises(error, match=text):
        returning(*grads).apply(x, amity.ones(2)).sum().backward()


def test_gradients_are_fitted():
    x = leaf(1.0, 2.0)
    returning(amity.ones(1), None).apply(x, amity.ones(2)).sum().backward()
    assert x.grad.tolist() == [1, 1]
    x.grad = None
    returning(amity.ones(4, 2), None, None).apply(x, amity.ones(2)).sum().backward()
    assert x.grad.tolist() == [4, 4]


def test_no_tape_without_need():
    assert not Square.apply(amity.ones(1)).requires_grad
    x = leaf(1.0)
    with amity.no_grad():
        assert not Square.apply(x).requires_grad


def test_misuse():
    with pytest.raises(RuntimeError, match="not instantiated"):
        Square()

    class Empty(Function):
        pass

    with pytest.raises(NotImplementedError, match="forward"):
        Empty.apply(leaf(1.0))

    class SavesNumbers(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)

    with pytest.raises(TypeError, match="save_for_backward: got int"):
        SavesNumbers.apply(leaf(1.0))
