"""copy, deepcopy and pickle of tensors and modules: what is shared, what is kept, what is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.frontend.programs import leaf, programs, raised  # noqa: E402
from tests.ops.compare import DTYPES, match  # noqa: E402

WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


def each_way(make):
    """A program that copies by both ways."""
    return lambda m: [make(m, way) for way in WAYS.values()]


class Copies:
    def owns_its_memory(m, way):
        x = m.arange(6.0).view(2, 3)
        y = way(x)
        y[0] = 9
        return x, y, y.is_leaf, y.requires_grad

    def leaf_stays_leaf(m, way):
        x = leaf(m, 1, 2)
        y = way(x)
        (y * y).sum().backward()
        return y.requires_grad, y.is_leaf, x.grad, y.grad

    def transposed(m, way):
        y = way(m.arange(6).view(2, 3).t())
        return y, y.stride()

    def strided_view(m, way):
        y = way(m.arange(24).view(4, 6)[1:, ::2])
        return y, y.stride(), y.storage_offset(), y._is_view()

    def expanded(m, way):
        y = way(m.arange(3).expand(2, 3))
        return y, y.stride()

    def zero_dimensions_and_empty(m, way):
        return way(m.tensor(3)), way(m.zeros(0, 2)), way(m.zeros(2, 0, dtype=m.bool))

    def attributes(m, way):
        x = m.ones(2)
        x.tag = ["a", {"b": 1}]
        y = way(x)
        y.tag[1]["b"] = 2
        return x.tag, y.tag

    def meta(m, way):
        y = way(m.zeros(2, 3, device="meta"))
        return y.shape == (2, 3), y.device.type, str(y.dtype).split(".")[-1]

    def dtypes_devices_sizes(m, way):
        return (
            way(m.float16) is m.float16,
            way(m.device("cpu")) == m.device("cpu"),
            way(m.Size([2, 3])) == (2, 3),
        )

    def size_type(m, way):
        return type(way(m.Size([2, 3]))).__name__, type(way(m.ones(2).shape)).__name__

    def parameter(m, way):
        p = m.nn.Parameter(m.arange(3.0))
        q = way(p)
        return type(q).__name__, q.requires_grad, q.is_leaf, q.detach(), q is p

    def frozen_parameter(m, way):
        q = way(m.nn.Parameter(m.arange(3.0), requires_grad=False))
        return type(q).__name__, q.requires_grad

    def buffer(m, way):
        q = way(m.nn.Buffer(m.arange(3.0)))
        return isinstance(q, m.nn.Buffer), q.detach()

    def module(m, way):
        m.manual_seed(0)
        net = m.nn.Sequential(m.nn.Linear(2, 3), m.nn.BatchNorm1d(3), m.nn.ReLU())
        net.eval()
        twin = way(net)
        twin[0].weight.data.zero_()
        same = [n for n, p in net.named_parameters()] == [n for n, p in twin.named_parameters()]
        return same, twin.training, bool((net[0].weight == 0).any()), twin[1].running_mean

    def tied_weights(m, way):
        net = m.nn.Sequential(m.nn.Linear(2, 2), m.nn.Linear(2, 2))
        net[1].weight = net[0].weight
        twin = way(net)
        return twin[0].weight is twin[1].weight, len(list(twin.parameters()))

    def optimizer_state(m, way):
        x = leaf(m, 1, 2)
        optimizer = m.optim.Adam([x], lr=0.1)
        (x * x).sum().backward()
        optimizer.step()
        state = way(optimizer.state_dict())
        return state["state"][0]["exp_avg"], state["param_groups"][0]["lr"]

    def results_of_reductions(m, way):
        values, places = way(m.tensor([[3.0, 1.0], [2.0, 5.0]]).max(1))
        return values, places


class Others:
    def deepcopy_keeps_sharing(m):
        x = m.arange(6.0)
        a, b, c = copy.deepcopy([x, x.view(2, 3)[1], x])
        a[4] = 100
        return a, b, c is a, x

    def deepcopy_keeps_sharing_in_a_dictionary(m):
        x = m.zeros(2)
        d = copy.deepcopy({"a": x, "b": {"c": x[:1]}})
        d["a"].fill_(3)
        return d["b"]["c"]

    def deepcopy_keeps_gradients(m):
        x = leaf(m, 1, 2)
        (x * x).sum().backward()
        y = copy.deepcopy(x)
        y.grad.zero_()
        return x.grad, y.grad

    def deepcopy_of_a_result(m):
        return raised(copy.deepcopy, leaf(m, 1) * 2)

    def deepcopy_of_a_view_of_a_leaf(m):
        return raised(copy.deepcopy, leaf(m, 1, 2)[0])

    def deepcopy_of_a_detached_result(m):
        return copy.deepcopy((leaf(m, 1, 2) * 2).detach())

    def deepcopy_of_a_result_without_grad(m):
        with m.no_grad():
            return copy.deepcopy(leaf(m, 1, 2) * 2)

    def deepcopy_with_memo(m):
        x = m.ones(2)
        memo = {}
        return copy.deepcopy(x, memo) is copy.deepcopy(x, memo)

    def shallow_copy_shares(m):
        x = m.arange(3.0)
        y = copy.copy(x)
        y[0] = 7
        return x, y is x, y.data_ptr() == x.data_ptr()

    def shallow_copy_of_a_leaf(m):
        x = leaf(m, 1, 2)
        y = copy.copy(x)
        return y.requires_grad, y.is_leaf, y is x

    def shallow_copy_of_a_module(m):
        net = m.nn.Linear(2, 2)
        return copy.copy(net).weight is net.weight

    def pickled_result(m):
        y = pickle.loads(pickle.dumps(leaf(m, 1, 2) * 2))
        return y, y.requires_grad, y.is_leaf

    def pickled_with_old_protocols(m):
        x = m.arange(3.0)
        return [pickle.loads(pickle.dumps(x, protocol=n)) for n in (0, 1, 2, 3, 4, 5)]

    def parameter_list(m):
        ps = m.nn.ParameterList([m.ones(2), m.zeros(1)])
        qs = copy.deepcopy(ps)
        qs[0].data.fill_(5)
        return ps[0].detach(), qs[0].detach(), len(qs)

    def gradients_of_deepcopied_modules(m):
        net = m.nn.Linear(2, 1)
        net(m.ones(1, 2)).sum().backward()
        twin = copy.deepcopy(net)
        return twin.weight.grad is None, net.weight.grad

    def generator(m):
        g = m.Generator().manual_seed(3)
        h = g.clone_state()
        return m.equal(m.rand(3, generator=g), m.rand(3, generator=h))


BOTH = [pytest.param(each_way(p.values[0]), id=p.id) for p in programs(Copies)]


@pytest.mark.parametrize("program", BOTH + programs(Others))
def test_program(program):
    match(program)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_dtypes(name, way):
    x = amity.tensor([0, 1, 2]).to(getattr(amity, name))
    y = way(x)
    assert y.dtype is x.dtype and y.tolist() == x.tolist()


def test_generators_are_kept():
    g = amity.Generator().manual_seed(5)
    amity.rand(3, generator=g)
    for way in WAYS.values():
        twin = way(g)
        assert (
            amity.rand(4, generator=twin).tolist()
            == amity.rand(4, generator=g.clone_state()).tolist()
        )


def test_a_message_of_deepcopy():
    with pytest.raises(RuntimeError, match=r"graph leaves\) support the deepcopy"):
        copy.deepcopy(leaf(amity, 1) * 2)


READER = """
import pickle, sys
x, y = pickle.load(sys.stdin.buffer)
x[0] = 5
print(x.tolist(), y.tolist(), x.requires_grad)
"""


def test_pickles_are_read_by_another_process():
    """With the memory that they share, which PyTorch's own pickles forget."""
    x = amity.arange(3.0)
    done = subprocess.run(
        [sys.executable, "-c", READER], input=pickle.dumps((x, x[:2])), capture_output=True,
        cwd=Path(__file__).resolve().parents[2], timeout=60,
    )  # fmt: skip
    assert done.stdout == b"[5.0, 1.0, 2.0] [5.0, 1.0] False\n", done.stderr
