"""What Programs keep from call to call: weights laid out for kernels, until somebody writes them."""

import gc
import threading

import numpy as np
import pytest

import amity
from amity import nn
from amity.compiler import pipeline
from amity.runtime import kept


@pytest.fixture(autouse=True)
def _seed():
    amity.manual_seed(0)


class Net:
    """Two convolutions, eager and compiled."""

    def __init__(self) -> None:
        self.first, self.last = nn.Conv2d(16, 24, 3), nn.Conv2d(24, 16, 1)
        self.x = amity.randn(2, 16, 9, 9)
        self.compiled = amity.compile(self)

    def __call__(self, x):
        with amity.no_grad():
            return self.last(self.first(x).relu())

    def holds(self, calls: int = 4, atol: float = 5e-5) -> None:
        for _ in range(calls):
            np.testing.assert_allclose(
                self.compiled(self.x).numpy(), self(self.x).numpy(), atol=atol
            )

    @property
    def states(self) -> list[kept.KeptSteps]:
        return [s.keeps for s in self.compiled.segments.values() if s.keeps is not None]

    @property
    def is_keeping(self) -> bool:
        return any(s.words[kept.BLOCK] and s.is_armed for s in self.states)

    @property
    def times(self) -> int:
        """How often weights were laid out to stay."""
        return sum(s.words[kept.TIMES] for s in self.states)


def test_kept_while_weights_stay():
    net = Net()
    net.holds(6)
    assert net.is_keeping and net.times == 1
    net.x = amity.randn(2, 16, 9, 9)
    net.holds()
    assert net.times == 1


def write_in_place(net):
    with amity.no_grad():
        net.first.weight.mul_(2)
        net.last.bias.add_(1)


def write_a_view(net):
    with amity.no_grad():
        net.first.weight[3].mul_(-2)


def write_through_detached(net):
    net.first.weight.detach().flatten()[5:100].mul_(-1)


def replace_data(net):
    net.first.weight.data = amity.randn(24, 16, 3, 3)


def replace_parameter(net):
    net.last.weight = nn.Parameter(amity.randn(16, 24, 1, 1))


def load(net):
    net.first.load_state_dict({n: t * -2 for n, t in net.first.state_dict().items()})


def swap(net):
    a, b = net.first.weight.data, amity.randn(24, 16, 3, 3)
    net.first.weight.data, net.other = b, a


def write_by_a_compiled_step(net):
    optimizer = amity.optim.SGD([*net.first.parameters(), *net.last.parameters()], lr=0.1)

    @amity.compile
    def step():
        optimizer.zero_grad()
        net.last(net.first(net.x).relu()).square().mean().backward()
        optimizer.step()

    for _ in range(4):
        step()


def write_by_numpy(net):
    array = net.first.weight.detach().numpy()
    net.holds()
    array *= 2
    net.holds()
    array += 1


def write_through_data(net):
    net.first.weight.data.mul_(2)
    net.holds()
    net.last.bias.data += 1


CHANGES = [
    write_through_data,
    write_in_place,
    write_a_view,
    write_through_detached,
    replace_data,
    replace_parameter,
]
CHANGES += [load, swap, write_by_a_compiled_step, write_by_numpy]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_made_again_when_weights_change(change):
    net = Net()
    net.holds()
    assert net.is_keeping
    for _ in range(2):
        before = net(net.x).numpy().copy()
        change(net)
        assert np.abs(net(net.x).numpy() - before).max() > 1e-3
        net.holds(atol=5e-4)


def test_memory_that_serves_again():
    """A new weight where an old one was freed is another weight."""
    first, x = amity.randn(2, 16, 9, 9), amity.randn(2, 16, 9, 9)
    conv = amity.compile(lambda x, w, v: nn.functional.conv2d(nn.functional.conv2d(x, w).relu(), v))
    v = amity.randn(16, 24, 1, 1)
    del first
    for _ in range(12):
        w = amity.randn(24, 16, 3, 3)
        for _ in range(1 + int(amity.randint(0, 3, ()))):
            wanted = nn.functional.conv2d(nn.functional.conv2d(x, w).relu(), v)
            np.testing.assert_allclose(conv(x, w, v).numpy(), wanted.numpy(), atol=2e-3)
        del w, wanted
        gc.collect()


def test_weights_that_are_parts_of_one_memory():
    net = Net()
    whole = amity.randn(2, 24, 16, 3, 3)
    net.first.weight.data = whole[1]
    net.holds()
    assert net.is_keeping and net.times == 1
    whole[0] = 0
    net.holds()
    whole.mul_(2)
    net.holds(atol=5e-4)


def test_weights_from_numpy_are_never_kept():
    net = Net()
    array = np.random.default_rng(0).standard_normal((24, 16, 3, 3), dtype=np.float32)
    net.first.weight.data = amity.from_numpy(array)
    net.holds()
    array *= 3
    net.holds()
    assert [len(s.slots) for s in net.states] == [2]  # weight and bias of the other one


def test_weights_that_the_program_writes_are_not_kept():
    net = Net()

    def f(x):
        y = net(x)
        with amity.no_grad():
            net.first.weight.mul_(0.5)
        return y

    compiled = amity.compile(f)
    for _ in range(4):
        wanted = net(net.x).numpy()
        np.testing.assert_allclose(compiled(net.x).numpy(), wanted, atol=5e-5)


def test_switched_off():
    with pipeline.without("keep"):
        net = Net()
        net.holds()
    assert not net.states


def test_memory_is_given_back():
    net = Net()
    net.holds()
    state = net.states[0]
    root = net.first.weight.storage.root
    net.compiled.segments.clear()
    assert state.words[kept.BLOCK]
    del net, state
    gc.collect()
    assert root.version >= 0


def test_threads():
    """Threads run the same Program, with weights that change between their calls."""
    net = Net()
    net.holds()
    wrong = []

    def work():
        for _ in range(30):
            got = net.compiled(net.x).numpy()
            if np.abs(got - wanted).max() > 1e-4:
                wrong.append(got)

    for _ in range(3):
        write_in_place(net)
        wanted = net(net.x).numpy()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong
