"""Gradients as a user asks for them: accumulated, kept, again, of several, deep, wide, in threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.frontend.programs import leaf, programs, raised  # noqa: E402
from tests.ops.compare import match  # noqa: E402


class Accumulation:
    def adds_up(m):
        x = leaf(m, 1, 2)
        seen = []
        for _ in range(3):
            (x * x).sum().backward()
            seen.append(x.grad.clone())
        return seen

    def starts_anew_from_none(m):
        x = leaf(m, 1, 2)
        (x * 2).sum().backward()
        x.grad = None
        (x * 3).sum().backward()
        return x.grad

    def keeps_the_same_tensor(m):
        x = leaf(m, 1, 2)
        (x * 2).sum().backward()
        kept = x.grad
        (x * 2).sum().backward()
        return kept is x.grad, kept

    def with_create_graph_makes_a_new_tensor(m):
        x = leaf(m, 1, 2)
        (x * x).sum().backward(create_graph=True)
        first = x.grad
        (x * x).sum().backward(create_graph=True)
        return first, x.grad, x.grad.requires_grad, first is x.grad

    def zeroed_in_place(m):
        x = leaf(m, 1, 2)
        (x * x).sum().backward()
        x.grad.zero_()
        (x * x).sum().backward()
        return x.grad

    def given_by_hand(m):
        x = leaf(m, 1, 2)
        x.grad = m.tensor([10.0, 20.0], dtype=m.float64)
        (x * x).sum().backward()
        return x.grad

    def into_a_gradient_that_is_a_view(m):
        x = leaf(m, 1, 2)
        whole = m.zeros(4, dtype=m.float64)
        x.grad = whole[1:3]
        (x * x).sum().backward()
        return whole, x.grad

    def into_gradients_that_alias(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        x.grad = z.grad = m.zeros(2, dtype=m.float64)
        (x * 2 + z * 3).sum().backward()
        return x.grad, z.grad

    def of_expanded_gradient_owns_its_memory(m):
        x = leaf(m, 1, 2, 3)
        x.sum().backward()
        x.grad[0] = 7
        return x.grad, x.grad.is_contiguous()

    def of_two_leaves_from_one_gradient(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        (x + z).sum().backward()
        x.grad[0] = 50
        return x.grad, z.grad

    def seed_is_not_taken_over(m):
        x = leaf(m, 1, 2)
        seed = m.tensor([1.0, 1.0], dtype=m.float64)
        x.backward(seed)
        x.grad.mul_(5)
        return seed, x.grad

    def of_a_leaf_itself(m):
        x = leaf(m, 3)
        x.backward()
        x.backward()
        return x.grad

    def same_input_twice(m):
        x = leaf(m, 2, 3)
        (x * x * x).sum().backward()
        return x.grad

    def keeps_the_order_of_a_transposed_leaf(m):
        x = m.arange(6.0).reshape(2, 3).t().requires_grad_()
        (x * 2).sum().backward()
        return x.grad

    def several_roots(m):
        x = leaf(m, 1, 2)
        m.autograd.backward([x.sum(), (x * x).sum()])
        return x.grad

    def several_roots_with_gradients(m):
        x = leaf(m, 1, 2)
        one = m.tensor([1.0, 2.0], dtype=m.float64)
        m.autograd.backward([x * 2, x * x], [one, one])
        return x.grad

    def a_root_inside_another(m):
        x = leaf(m, 1, 2)
        y = x * 2
        m.autograd.backward([y.sum(), (y * y).sum()])
        return x.grad

    def a_root_twice(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        m.autograd.backward([y, y], retain_graph=True)
        return x.grad


class Graphs:
    def retained(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        y.backward(retain_graph=True)
        y.backward()
        return x.grad, raised(y.backward)

    def second_backward(m):
        x = leaf(m, 1, 2)
        y = (x.exp() * x).sum()
        y.backward()
        return raised(y.backward)

    def second_backward_without_saved_values(m):
        x = leaf(m, 1, 2)
        y = (x + 1).sum()
        y.backward()
        y.backward()
        return x.grad

    def second_grad(m):
        x = leaf(m, 1, 2)
        y = (x * x).sum()
        m.autograd.grad(y, x)
        return raised(m.autograd.grad, y, x)

    def freed_part_shared(m):
        x = leaf(m, 1, 2)
        y = x.exp()
        (y * 2).sum().backward()
        return raised((y * 3).sum().backward)

    def third_order(m):
        x = leaf(m, 0.5, 1.5)
        found = [x.sin() * x**3]
        for _ in range(3):
            found += m.autograd.grad(found[-1].sum(), x, create_graph=True)
        return found[1:]

    def penalty(m):
        x, z = leaf(m, 0.5, 1.5), leaf(m, 1.0, -2.0)
        (g,) = m.autograd.grad((x * z).tanh().sum(), x, create_graph=True)
        ((g**2).sum() + x.sum()).backward()
        return x.grad, z.grad

    def hessian(m):
        x = leaf(m, 1, 2, 3)
        (g,) = m.autograd.grad((x.prod() * x).sum(), x, create_graph=True)
        return [m.autograd.grad(e, x, retain_graph=True)[0] for e in g]

    def create_graph_without_need(m):
        x = leaf(m, 1, 2)
        (g,) = m.autograd.grad((x * 3).sum(), x, create_graph=True)
        return g, g.requires_grad

    def through_a_seed(m):
        x, v = leaf(m, 1, 2), leaf(m, 3, 4)
        (g,) = m.autograd.grad(x * x, x, v, create_graph=True)
        return m.autograd.grad(g.sum(), [x, v])

    def shared_subgraph(m):
        x = leaf(m, 1.1, 1.2)
        y = x * 1
        for _ in range(12):
            y = y * 0.5 + y * 0.6
        y.sum().backward()
        return x.grad

    def diamond(m):
        x = leaf(m, 1, 2)
        y = x.exp()
        a, b = y.sin(), y.cos()
        (a * b + a / b).sum().backward()
        return x.grad

    def wide(m):
        x = leaf(m, 1, 2)
        sum((x * i for i in range(300)), m.zeros(2)).sum().backward()
        return x.grad

    def part_without_gradient(m):
        x, z = leaf(m, 1, 2), m.tensor([3.0, 4.0], dtype=m.float64)
        y = x * z + z.exp() * x.detach()
        y.sum().backward()
        return x.grad, z.grad, y.requires_grad

    def integers_beside_floats(m):
        x = leaf(m, 1, 2, 3)
        values, places = x.sort(descending=True)
        (values * m.tensor([1, 2, 3])).sum().backward()
        return x.grad, places.requires_grad, places.is_leaf

    def unused_result(m):
        x = leaf(m, 1, 5, 3)
        low, high = x.aminmax()
        high.backward()
        return x.grad

    def dtype_follows_the_leaf(m):
        x = m.ones(3, requires_grad=True, dtype=m.float16)
        (x.double() * 2).sum().backward()
        return x.grad

    def broadcast_is_summed(m):
        x, z = m.ones(3, 1, requires_grad=True), m.ones(4, requires_grad=True)
        (x * z).sum().backward()
        return x.grad, z.grad


class Grad:
    def leaves_grad_alone(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad((x * x).sum(), x), x.grad

    def of_several(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        return m.autograd.grad([(x * z).sum(), (x + z).sum()], [x, z])

    def of_several_with_seeds(m):
        x, v = leaf(m, 1, 2), m.tensor([1.0, -1.0], dtype=m.float64)
        return m.autograd.grad([x * x, (x * 3).sum()], x, [v, None])

    def of_an_inner_tensor(m):
        x = leaf(m, 1, 2)
        y = x * 2
        return m.autograd.grad((y * y).sum(), [y, x])

    def of_itself(m):
        x = leaf(m, 3)
        return m.autograd.grad(x, x)

    def of_the_same_input_twice(m):
        x = leaf(m, 3, 4)
        return m.autograd.grad((x * x).sum(), [x, x])

    def unused(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        return m.autograd.grad(x.sum(), [x, z])

    def unused_allowed(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        return m.autograd.grad(x.sum(), [x, z], allow_unused=True)

    def unused_filled(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        return m.autograd.grad(x.sum(), [x, z], materialize_grads=True)

    def filled_but_refused(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad(x.sum(), x, allow_unused=False, materialize_grads=True)

    def without_requires_grad(m):
        return m.autograd.grad(leaf(m, 1).sum(), m.ones(1))

    def of_what_has_no_gradient(m):
        return m.autograd.grad(m.ones(1), leaf(m, 1))

    def of_many_elements(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad(x * 2, x)

    def seed_of_wrong_shape(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad(x * 2, x, m.ones(3, dtype=m.float64))

    def seed_of_wrong_type(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad((x * 2).sum(), x, 1.0)

    def too_few_seeds(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad([x.sum(), x.sum()], x, [None])

    def seed_of_one_for_a_scalar(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad((x * x).sum(), x, m.tensor(3.0, dtype=m.float64))

    def no_inputs(m):
        return m.autograd.grad(leaf(m, 1).sum(), [])

    def view_of_a_leaf(m):
        x = leaf(m, 1, 2)
        return m.autograd.grad((x * x).sum(), x[0], allow_unused=True)

    def does_not_free_what_it_skips(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        y, w = x.exp(), z.exp()
        m.autograd.grad((y + w).sum(), x)
        return m.autograd.grad((w * 2).sum(), z)


class Inputs:
    def only_these(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        (x * z).sum().backward(inputs=[x])
        return x.grad, z.grad

    def one_tensor(m):
        x, z = leaf(m, 1, 2), leaf(m, 3, 4)
        (x * z).sum().backward(inputs=x)
        return x.grad, z.grad

    def adds_up(m):
        x = leaf(m, 1, 2)
        x.grad = m.ones(2, dtype=m.float64)
        kept = x.grad
        (x * 2).sum().backward(inputs=[x])
        return x.grad, kept is x.grad

    def none(m):
        return raised(leaf(m, 1, 2).sum().backward, inputs=[])

    def runs_post_accumulate_hooks(m):
        x = leaf(m, 1, 2)
        seen = []
        x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.clone()))
        (x * 2).sum().backward(inputs=[x])
        return seen

    def same_twice(m):
        x = leaf(m, 1, 2)
        (x * 2).sum().backward(inputs=[x, x])
        return x.grad

    def without_gradient(m):
        x, z = leaf(m, 1, 2), m.ones(2)
        return raised((x * z).sum().backward, inputs=[z])


@pytest.mark.parametrize("program", programs(Accumulation, Graphs, Grad, Inputs))
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_program(program):
    match(program)


def test_messages_name_the_op():
    x = leaf(amity, 1, 2)
    y = x * 1
    z = y * y
    y.add_(1)
    with pytest.raises(
        RuntimeError, match=r"mul: .*\[float64 \[2\]\] is at version 1; expected version 0"
    ):
        z.sum().backward()
    y = (x * x).sum()
    y.backward()
    with pytest.raises(
        RuntimeError, match="backward through the graph a second time.*retain_graph=True"
    ):
        y.backward()
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        amity.autograd.grad(x.sum(), x, amity.ones(3, 2), is_grads_batched=True)


def chain(x, depth):
    y = x
    for i in range(depth):
        y = y + 1 if i % 2 else y * 1.0
    return y


def test_graphs_a_hundred_thousand_nodes_deep():
    """Backward, the search for inputs and the end of the graph keep no Python frame per node."""
    x = leaf(amity, 1, 2)
    y = chain(x, 100_000)
    y.sum().backward(retain_graph=True)
    (g,) = amity.autograd.grad(y.sum(), x)
    assert x.grad.tolist() == g.tolist() == [1, 1]
    del y


def test_in_place_writes_a_hundred_thousand_deep():
    y = leaf(amity, 1, 2) * 1
    for _ in range(100_000):
        y.add_(1)
    y.sum().backward()
    assert y.tolist() == [100_001, 100_002]


def test_wide_graphs():
    x = amity.ones(3, requires_grad=True)
    amity.stack([x * i for i in range(1000)]).sum().backward()
    assert x.grad.tolist() == [1000 * 999 / 2] * 3


def test_nodes_are_freed_with_their_tensors():
    """No cycles: memory goes when the last name goes, without the garbage collector."""
    import gc
    import weakref

    x = amity.ones(3, requires_grad=True)
    gc.disable()
    try:
        y = x.exp()
        y.retain_grad()
        z = (y * y).softmax(0).sum()
        gone = weakref.ref(y)
        z.backward()
        del y, z
        assert gone() is None
    finally:
        gc.enable()


def test_threads_run_backward_at_once():
    """On graphs of their own with one leaf of their own, and on one shared graph into `grad` calls."""
    x = leaf(amity, 1, 2, 3)
    y = (x * x).sin().sum()
    (expected,) = amity.autograd.grad(y, x, retain_graph=True)
    start = threading.Barrier(4)

    def work(n):
        start.wait()
        for _ in range(50):
            (shared,) = amity.autograd.grad(y, x, retain_graph=True)
            own = leaf(amity, n, n)
            (own.exp() * own).sum().backward()
        return shared, own

    with ThreadPoolExecutor(4) as threads:
        for n, (shared, own) in enumerate(threads.map(work, range(4))):
            assert shared.tolist() == expected.tolist()
            assert own.grad.tolist() == pytest.approx([(1 + n) * 2.718281828459045**n] * 2)


def test_a_gradient_whose_memory_another_tensor_shows_is_copied():
    kept = []

    class Keeping(amity.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            made = g * 2
            kept.append(made.detach())
            return made

    x = amity.ones(3, requires_grad=True)
    Keeping.apply(x).sum().backward()
    kept[0].zero_()
    assert x.grad.tolist() == [2, 2, 2]
