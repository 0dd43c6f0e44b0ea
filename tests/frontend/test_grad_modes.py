"""Leaves, what is recorded, versions of what was saved, anomaly mode."""

from __future__ import annotations

import threading
from contextlib import nullcontext as no_context

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.frontend.programs import leaf, programs, raised  # noqa: E402
from tests.ops.compare import match  # noqa: E402


class Leaves:
    def which(m):
        x = leaf(m, 1, 2)
        y = x * 2
        made = m.ones(2)
        return (
            x.is_leaf, y.is_leaf, made.is_leaf, (made * 2).is_leaf, y.detach().is_leaf, x[0].is_leaf,
            x.grad_fn is None, y.grad_fn is None, x.to(m.float32).is_leaf, x.clone().is_leaf,
        )  # fmt: skip

    def integers_cannot(m):
        return raised(m.ones(2, dtype=m.int64).requires_grad_), raised(
            m.ones, 2, dtype=m.int32, requires_grad=True
        )  # fmt: skip

    def bools_cannot(m):
        return raised(m.tensor, [True], requires_grad=True)

    def integers_may_say_no(m):
        return m.ones(2, dtype=m.int64).requires_grad_(False).requires_grad

    def results_cannot_be_switched_off(m):
        y = leaf(m, 1) * 2
        return raised(y.requires_grad_, False), y.requires_grad_().requires_grad

    def attribute(m):
        x = m.ones(2)
        x.requires_grad = True
        y = x * 2
        x.requires_grad = False
        z = x * 2
        return y.requires_grad, z.requires_grad

    def switched_off_after_use(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        x.requires_grad_(False)
        y.backward()
        return x.grad

    def detached(m):
        x = leaf(m, 1, 2)
        y = x.detach()
        y[0] = 5
        return x, y.requires_grad, y.is_leaf, (y * 2).requires_grad

    def detached_in_place(m):
        x = leaf(m, 1, 2)
        y = x * 2
        w = y * 3
        y.detach_()
        w.sum().backward()
        return x.grad, y.requires_grad, y.is_leaf, (y * 2).requires_grad

    def view_cannot_detach_in_place(m):
        return raised((leaf(m, 1, 2) * 2)[0].detach_)

    def retained(m):
        x = leaf(m, 1, 2)
        y = x * 2
        before = y.retains_grad
        y.retain_grad()
        y.retain_grad()
        (y * y).sum().backward()
        return before, y.retains_grad, y.grad, x.retains_grad

    def retained_leaf(m):
        x = leaf(m, 1)
        x.retain_grad()
        return x.retains_grad

    def retained_without_gradient(m):
        return raised(m.ones(2).retain_grad)

    def deleted(m):
        x = leaf(m, 1)
        (x * 2).backward()
        del x.grad
        return x.grad

    def assigned_wrongly(m):
        x = leaf(m, 1, 2)

        def assign(value):
            x.grad = value

        return [raised(assign, g) for g in (m.ones(3), 1.0, m.ones(2), m.ones(2, dtype=m.float64))]

    def assigned_itself(m):
        x = leaf(m, 1, 2)

        def assign():
            x.grad = x

        return raised(assign)

    def seeds(m):
        x = leaf(m, 1, 2)
        y = x * 2
        return [
            raised(y.backward), raised(y.backward, m.ones(3)), raised(y.backward, 1.0),
            raised(m.ones(1).backward), raised(y.backward, m.ones(2, 2)),
        ]  # fmt: skip


class Modes:
    def no_grad(m):
        x = leaf(m, 1)
        with m.no_grad():
            y = x * 2
            inside = m.is_grad_enabled()
        return y.requires_grad, inside, m.is_grad_enabled(), (x * 2).requires_grad

    def decorator(m):
        x = leaf(m, 1)

        @m.no_grad()
        def f(x):
            return x * 2

        @m.no_grad
        def g(x):
            return x * 2

        return f(x).requires_grad, g(x).requires_grad, m.is_grad_enabled(), f.__name__

    def generator(m):
        x = leaf(m, 1)

        @m.no_grad()
        def numbers():
            try:
                got = yield (x * 2).requires_grad, m.is_grad_enabled()
                yield got, (x * 2).requires_grad
            except ValueError:
                yield "caught", m.is_grad_enabled()
            finally:
                seen.append(m.is_grad_enabled())

        seen = []
        it = numbers()
        seen += [next(it), m.is_grad_enabled(), it.send(5), m.is_grad_enabled()]
        seen += [it.throw(ValueError()), m.is_grad_enabled()]
        it.close()
        return seen

    def nested(m):
        x = leaf(m, 1)
        seen = []
        with m.no_grad():
            with m.enable_grad():
                seen.append((x * 2).requires_grad)
            seen.append((x * 2).requires_grad)
            with m.set_grad_enabled(True):
                seen.append((x * 2).requires_grad)
            seen.append((x * 2).requires_grad)
        return seen

    def function(m):
        x = leaf(m, 1)
        m.set_grad_enabled(False)
        off = (x * 2).requires_grad, m.is_grad_enabled()
        m.set_grad_enabled(True)
        return off, (x * 2).requires_grad

    def set_as_decorator(m):
        x = leaf(m, 1)

        @m.set_grad_enabled(False)
        def f():
            return (x * 2).requires_grad

        return f(), m.is_grad_enabled(), f()

    def after_an_error(m):
        try:
            with m.no_grad():
                raise ValueError
        except ValueError:
            return m.is_grad_enabled()

    def again(m):
        mode = m.no_grad()
        with mode:
            pass
        with mode:
            inside = m.is_grad_enabled()
        return inside, m.is_grad_enabled()

    def leaves_may_be_written(m):
        x = leaf(m, 1)
        with m.no_grad():
            x.mul_(2)
            x[0] = 3
        return x, x.requires_grad, x.is_leaf

    def new_leaf_inside(m):
        with m.no_grad():
            x = m.ones(2, requires_grad=True)
            y = (x * 2).requires_grad_()
        return x.requires_grad, y.is_leaf, (x * y).requires_grad

    def inference(m):
        x = leaf(m, 1, 2)
        with m.inference_mode():
            y = x * 2
            flags = m.is_inference_mode_enabled(), m.is_grad_enabled()
            with m.inference_mode(False):
                flags += (m.is_inference_mode_enabled(), m.is_grad_enabled())
        return y.requires_grad, flags, x.is_inference(), m.is_inference_mode_enabled()

    def inference_decorators(m):
        @m.inference_mode()
        def f():
            return m.is_inference_mode_enabled()

        @m.inference_mode
        def g():
            return m.is_inference_mode_enabled()

        return f(), g(), m.is_inference_mode_enabled()

    def inference_results_beside_taped_ones(m):
        x = leaf(m, 1, 2)
        with m.inference_mode():
            y = m.ones(2, dtype=m.float64)
            y.add_(1)
        z = y.clone()
        (x * z + y).sum().backward()
        return x.grad, y, z.is_inference()

    def backward_in_no_grad(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        with m.no_grad():
            y.backward()
        return x.grad

    def create_graph_in_no_grad(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        with m.no_grad():
            (g,) = m.autograd.grad(y, x, create_graph=True)
            off = m.is_grad_enabled()
        return g.requires_grad, off

    def hooks_run_without_recording(m):
        x = leaf(m, 1, 2)
        seen = []
        x.register_hook(lambda g: seen.append(m.is_grad_enabled()))
        (x * x).sum().backward(retain_graph=True)
        (x * x).sum().backward(create_graph=True)
        return seen


class Versions:
    def written_input(m):
        x = leaf(m, 1, 2)
        y = x * 1
        z = y * y
        y.add_(1)
        return raised(z.sum().backward)

    def written_result(m):
        x = leaf(m, 1, 2)
        y = x.exp()
        y.add_(1)
        return raised(y.sum().backward)

    def written_but_not_needed(m):
        x = leaf(m, 1, 2)
        y = x * 1
        z = y + y
        y.add_(1)
        z.sum().backward()
        return x.grad

    def written_leaf(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        with m.no_grad():
            x.add_(1)
        return raised(y.backward)

    def written_through_data(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        x.data.add_(1)
        y.backward()
        return x.grad

    def written_through_detach(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        x.detach().add_(1)
        return raised(y.backward)

    def weight_of_a_product(m):
        a, b = m.ones(2, 3, requires_grad=True), m.ones(3, 2)
        y = (a @ b).sum()
        b.mul_(2)
        return raised(y.backward)

    def counts(m):
        x = m.ones(3)
        seen = [x._version]
        x.add_(1)
        x[0] = 2
        seen.append(x._version)
        x.view(3, 1).zero_()
        x.fill_(3)
        x.copy_(m.ones(3))
        seen.append(x._version)
        x.data.add_(1)
        seen.append(x._version)
        return seen


@pytest.mark.parametrize("program", programs(Leaves, Modes, Versions))
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_program(program):
    match(program)


def test_inference_results_are_ordinary_tensors():
    """PyTorch refuses to keep or to write them later; here they have nothing special."""
    x = leaf(amity, 1, 2)
    with amity.inference_mode():
        y = amity.ones(2, dtype=amity.float64)
        v = x * 2
    y.add_(1)
    (x * y).sum().backward()
    assert x.grad.tolist() == [2, 2] and not v.requires_grad and not y.is_inference()


def broken(lib):
    """A function whose derivative fails, called on a line of its own."""

    class Broken(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            raise ArithmeticError("no derivative")

    return Broken


@pytest.mark.parametrize("lib", [torch, amity], ids=["torch", "amity"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.filterwarnings("ignore:Error detected in:UserWarning")
def test_anomaly_mode_names_the_forward_line(lib, capfd):
    function = broken(lib)
    x = lib.ones(2, requires_grad=True)
    with lib.autograd.detect_anomaly():
        y = function.apply(x)  # this line
        with pytest.raises(ArithmeticError), pytest.warns() if lib is torch else no_context():
            y.sum().backward()
    if lib is amity:
        assert "y = function.apply(x)  # this line" in capfd.readouterr().err


@pytest.mark.parametrize("lib", [torch, amity], ids=["torch", "amity"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.filterwarnings("ignore:Error detected in:UserWarning")
def test_anomaly_mode_finds_nan(lib):
    x = lib.tensor([0.0, 1.0], requires_grad=True)
    with lib.autograd.detect_anomaly():
        y = (x * 0).sqrt() * 0  # its slope is inf * 0
        with pytest.raises(RuntimeError, match="SqrtBackward0' returned nan values in its 0th"):
            y.sum().backward()
        assert lib.is_anomaly_enabled() and lib.is_anomaly_check_nan_enabled()
        with lib.autograd.set_detect_anomaly(False):
            ((x * 0).sqrt() * 0).sum().backward()
    with lib.autograd.detect_anomaly(check_nan=False):
        ((x * 0).sqrt() * 0).sum().backward()
    assert not lib.is_anomaly_enabled()


def test_anomaly_mode_shows_the_line_of_a_nan():
    x = amity.tensor([0.0, 1.0], requires_grad=True)
    with amity.autograd.detect_anomaly():
        y = (x * 0).sqrt() * 0  # here
    with (
        amity.autograd.detect_anomaly(),
        pytest.raises(RuntimeError, match=r"y = \(x \* 0\).sqrt\(\) \* 0  # here"),
    ):
        y.sum().backward()


def test_modes_belong_to_threads():
    seen = []
    with amity.no_grad():
        thread = threading.Thread(target=lambda: seen.append(amity.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]
