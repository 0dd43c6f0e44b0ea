"""Hooks of tensors, leaves and nodes: what they see, when, and what they may change."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.frontend.programs import leaf, programs, raised, twins  # noqa: E402
from tests.ops.compare import match  # noqa: E402


class Hooks:
    def sees_the_gradient(m):
        x = leaf(m, 1, 2)
        y = x * 2
        seen = []
        y.register_hook(lambda g: seen.append(g.clone()))
        x.register_hook(lambda g: seen.append(g.clone()))
        (y * y).sum().backward()
        return seen

    def replaces_it(m):
        x = leaf(m, 1, 2)
        y = x * 2
        y.register_hook(lambda g: g * 10)
        x.register_hook(lambda g: g + 1)
        y.sum().backward()
        return x.grad

    def in_order(m):
        x = leaf(m, 1, 2)
        x.register_hook(lambda g: g + 1)
        x.register_hook(lambda g: g * 2)
        x.sum().backward()
        return x.grad

    def removed(m):
        x = leaf(m, 1, 2)
        a = x.register_hook(lambda g: g + 1)
        x.register_hook(lambda g: g * 2)
        x.sum().backward()
        a.remove()
        a.remove()
        x.sum().backward()
        return x.grad

    def handle_as_context(m):
        x = leaf(m, 1, 2)
        with x.register_hook(lambda g: g * 5):
            x.sum().backward()
        x.sum().backward()
        return x.grad

    def once_for_the_whole_gradient(m):
        x = leaf(m, 1, 2)
        y = x * 2
        seen = []
        y.register_hook(lambda g: seen.append(g.clone()))
        (y * 3 + y.sin() + y).sum().backward()
        return seen

    def of_grad(m):
        x = leaf(m, 1, 2)
        y = x * 2
        y.register_hook(lambda g: g * 3)
        x.register_hook(lambda g: g * 5)
        both = m.autograd.grad(y.sum(), x, retain_graph=True)
        return both, m.autograd.grad(y.sum(), y)

    def before_retain_grad(m):
        x = leaf(m, 1, 2)
        y = x * 2
        y.retain_grad()
        y.register_hook(lambda g: g * 3)
        y.sum().backward()
        return y.grad, x.grad

    def without_gradient(m):
        return raised(m.ones(2).register_hook, print)

    def of_a_wrong_shape(m):
        x = leaf(m, 1, 2)
        x.register_hook(lambda g: m.ones(3, dtype=m.float64))
        return raised(x.sum().backward)

    def of_a_wrong_type(m):
        x = leaf(m, 1, 2)
        x.register_hook(lambda g: 3.0)
        return raised(x.sum().backward)

    def that_raises(m):
        x = leaf(m, 1, 2)

        def hook(g):
            raise ValueError("mine")

        (x * 2).sum()
        y = x * 2
        y.register_hook(hook)
        return raised(y.sum().backward), x.grad, m.is_grad_enabled()

    def differentiable(m):
        x = leaf(m, 1, 2)
        y = x * x
        y.register_hook(lambda g: g * x)
        (g,) = m.autograd.grad(y.sum(), x, create_graph=True)
        return g, m.autograd.grad(g.sum(), x)

    def after_accumulation(m):
        x = leaf(m, 1, 2)
        seen = []
        h = x.register_post_accumulate_grad_hook(lambda t: seen.append((t is x, t.grad.clone())))
        (x * 2 + x).sum().backward()
        (x * 2).sum().backward()
        h.remove()
        (x * 2).sum().backward()
        return seen, x.grad

    def that_steps_and_clears(m):
        x = leaf(m, 1, 2)

        def step(t):
            with m.no_grad():
                t.sub_(t.grad, alpha=0.1)
            t.grad = None

        x.register_post_accumulate_grad_hook(step)
        for _ in range(3):
            (x * x).sum().backward()
        return x, x.grad

    def after_accumulation_of_results(m):
        return raised((leaf(m, 1) * 2).register_post_accumulate_grad_hook, print)

    def after_accumulation_not_by_grad(m):
        x = leaf(m, 1, 2)
        seen = []
        x.register_post_accumulate_grad_hook(lambda t: seen.append(1))
        m.autograd.grad(x.sum(), x)
        return seen

    def retained_after_a_write(m):
        x = leaf(m, 1, 2)
        y = x * 2
        y.retain_grad()
        y.mul_(3)
        y[0] = 7.0
        (y * y).sum().backward()
        return y.grad, x.grad

    def of_nodes_with_several_results(m):
        x = leaf(m, 1, 2)
        low, high = twins(m).apply(x)
        seen = []
        low.grad_fn.register_hook(lambda gi, go: seen.append((len(gi), *go)))
        low.grad_fn.register_prehook(lambda go: (go[0] * 10, go[1]))
        (low + high * 2).sum().backward()
        return seen, x.grad

    def of_nodes(m):
        x = leaf(m, 1, 2)
        y = x.exp()
        seen = []
        handle = y.grad_fn.register_hook(lambda gi, go: seen.append((*gi, *go)))
        y.sum().backward(retain_graph=True)
        handle.remove()
        y.sum().backward()
        return seen

    def of_nodes_replace(m):
        x = leaf(m, 1, 2)
        y = x.exp()
        y.grad_fn.register_hook(lambda gi, go: (gi[0] * 10,))
        y.sum().backward()
        return x.grad

    def before_nodes(m):
        x = leaf(m, 1, 2)
        y = x.exp()
        y.grad_fn.register_prehook(lambda go: (go[0] * 10,))
        y.sum().backward()
        return x.grad

    def latest_node_first(m):
        x = leaf(m, 1, 2)
        seen = []
        a = x * 2
        b = x.exp()
        c = a * 3
        for name, t in (("a", a), ("b", b), ("c", c)):
            t.register_hook(lambda g, name=name: seen.append(name))
        (b + c).sum().backward()
        return seen

    def of_a_tensor_written_later(m):
        x = leaf(m, 1, 2)
        y = x * 2
        seen = []
        y.register_hook(lambda g: seen.append(g.clone()))
        y.mul_(5)
        y.sum().backward()
        return seen

    def survive_deletion_of_the_tensor(m):
        x = leaf(m, 1, 2)
        y = x * 2
        seen = []
        y.register_hook(lambda g: seen.append(1))
        z = y.sum()
        del y
        z.backward()
        return seen


class Nodes:
    def names(m):
        x = leaf(m, 1, 2)
        tensors = [
            x * 2, x + 1, x - 1, x / 2, x.exp(), x.sum(), x.relu(), x.mean(), x.clone(), x[0],
            -x, x.sigmoid(), x.tanh(), x.sqrt(), x.log(), x.abs(), x[:1], x.softmax(0), x.pow(3),
        ]  # fmt: skip
        return [t.grad_fn.name() for t in tensors]

    def results(m):
        low, high = twins(m).apply(leaf(m, 1, 2, 3))
        edges = (low + high).grad_fn.next_functions
        return low.output_nr, high.output_nr, [n for _, n in edges], edges[0][0] == edges[1][0]

    def written(m):
        y = leaf(m, 1, 2) * 2
        y[0] = 1.0
        return y.grad_fn.name().split("::")[-1], (y * 2).grad_fn.name()

    def of_a_function(m):
        low, _ = twins(m).apply(leaf(m, 1))
        return low.grad_fn.name()


@pytest.mark.parametrize("program", programs(Hooks, Nodes))
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_program(program):
    match(program)
