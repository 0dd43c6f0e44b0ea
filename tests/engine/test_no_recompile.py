"""Kernels hold no sizes: an op that ran once compiles nothing for new sizes of the same class.

Every case keeps to one class. Classes of their own are: a size of 1, an order of strides, whole
reductions long enough to be split, and rows of a pool that are shorter than a vector.
"""

import pytest

import amity
from amity import nn, ops
from amity.engine import device


def compiled() -> int:
    return device.kernels().compiled


def gradients(function, *tensors):
    """Run forward and backward, with a gradient for every floating tensor."""
    leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in tensors]
    out = function(*leaves)
    out.backward(amity.ones_like(out))
    return out


def normal(*shape):
    return amity.randn(*shape)


def below(limit, *shape):
    return amity.randint(0, limit, shape)


# name: (function, tensors of a size), each called with both sizes
CASES = {
    "add": (lambda a, b: a + b, lambda n: (normal(n, 3 * n), normal(n, 3 * n))),
    "add broadcast": (lambda a, b: a + b, lambda n: (normal(n, 3 * n), normal(3 * n))),
    "add transposed": (lambda a, b: a.t() + b, lambda n: (normal(n, 2 * n), normal(2 * n, n))),
    "add sliced": (lambda a: a[:, 1:-1] + 1.5, lambda n: (normal(n, 2 * n),)),
    "gelu": (ops.gelu, lambda n: (normal(n, n + 3),)),
    "where": (lambda a, b: ops.where(a > b, a, b), lambda n: (normal(n, 5), normal(n, 5))),
    "sum": (lambda a: a.sum(), lambda n: (normal(n, 2 * n),)),
    "sum of rows": (lambda a: a.sum(-1), lambda n: (normal(n, 2 * n),)),
    "sum of columns": (lambda a: a.sum(0), lambda n: (normal(n, 2 * n),)),
    "mean": (lambda a: a.mean((0, 2)), lambda n: (normal(n, 6, 2 * n),)),
    "var": (lambda a: a.var(-1), lambda n: (normal(n, 2 * n),)),
    "amax": (lambda a: a.amax(1), lambda n: (normal(n, 2 * n),)),
    "logsumexp": (lambda a: ops.logsumexp(a, -1), lambda n: (normal(n, 2 * n),)),
    "cumsum": (lambda a: a.cumsum(-1), lambda n: (normal(n, 2 * n),)),
    "softmax": (lambda a: ops.softmax(a, -1) ** 2, lambda n: (normal(n, 3 * n),)),
    "layer_norm": (
        lambda a, w, b: ops.layer_norm(a, tuple(w.shape), w, b),
        lambda n: (normal(n, 3 * n), normal(3 * n), normal(3 * n)),
    ),
    "batch_norm": (
        lambda a, w, b: ops.batch_norm(a, None, None, w, b, training=True),
        lambda n: (normal(n, 6, n, n), normal(6), normal(6)),
    ),
    "cross_entropy": (ops.cross_entropy, lambda n: (normal(n, 10), below(10, n))),
    "matmul": (lambda a, b: a @ b, lambda n: (normal(4 * n, 5 * n), normal(5 * n, 3 * n))),
    "matmul batched": (lambda a, b: a @ b, lambda n: (normal(n, 9, n), normal(n, n, 11))),
    "linear": (ops.linear, lambda n: (normal(4 * n, 24), normal(32, 24), normal(32))),
    "conv 3x3": (
        lambda x, w: ops.conv2d(x, w, None, 1, 1),
        lambda n: (normal(n, 16, 2 * n, 2 * n), normal(24, 16, 3, 3)),
    ),
    "conv 3x3 stride 2": (
        lambda x, w, b: ops.conv2d(x, w, b, 2, 1),
        lambda n: (normal(n, 16, 2 * n, 2 * n), normal(24, 16, 3, 3), normal(24)),
    ),
    "conv 1x1": (ops.conv2d, lambda n: (normal(n, 16, n, n), normal(24, 16, 1, 1))),
    "max_pool": (lambda x: ops.max_pool2d(x, 2), lambda n: (normal(n, 4, 6 * n, 6 * n),)),
    "avg_pool": (lambda x: ops.avg_pool2d(x, 2), lambda n: (normal(n, 4, 6 * n, 6 * n),)),
    "gather": (lambda a, i: a.gather(1, i), lambda n: (normal(n, 2 * n), below(2 * n, n, n))),
    "index_select": (lambda a, i: a.index_select(0, i), lambda n: (normal(2 * n, n), below(n, n))),
    "indexing": (lambda a, i: a[i], lambda n: (normal(2 * n, n), below(n, n + 2))),
    "embedding": (lambda i, w: ops.embedding(i, w), lambda n: (below(n, n, 4), normal(n, 2 * n))),
    "cat": (lambda a, b: ops.cat((a, b), 1), lambda n: (normal(n, 2 * n), normal(n, 3 * n))),
}


@pytest.mark.parametrize("name", CASES)
def test_new_sizes_compile_nothing(name):
    function, tensors = CASES[name]
    gradients(function, *tensors(8))
    warm = [tensors(n) for n in (11, 13)]  # made first: making data is not what is counted
    before = compiled()
    for given in warm:
        gradients(function, *given)
    assert compiled() == before


def test_constants_compile_nothing():
    x = normal(40)
    ops.leaky_relu(x, 0.01), amity.full((5,), 3.5), ops.elu(x, 1.25)
    before = compiled()
    for n, slope in ((6, 0.2), (9, 0.3)):
        ops.leaky_relu(x, slope), amity.full((n,), 10 * slope), ops.elu(x, 1 + slope)
    assert compiled() == before


def test_another_structure_does_compile():
    """The counter counts: without this the tests above could pass for nothing."""
    x = normal(17)
    before = compiled()
    _ = x.sin().cos().tan(), ops.softmin(x.to(amity.float64) * 3.25, 0), x.to(amity.int16) // 3
    device.kernels().address(("nothing", before), lambda *a: _empty(*a), "nothing")
    assert compiled() > before


def _empty(name, target, math):
    from amity.ir.kernel import Builder

    b = Builder(name, target, math)
    with b.entry():
        pass
    return b.kernel


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.linear = nn.Linear(16 * 16, 10)

    def forward(self, x):
        x = ops.relu(self.norm(self.conv1(x)))
        x = ops.max_pool2d(ops.relu(self.conv2(x)), 2)
        return self.linear(ops.dropout(x.flatten(1), 0.2))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_training_step_compiles_nothing_for_a_new_batch_size(optimizer):
    model = Small()
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    update = getattr(amity.optim, optimizer)(model.parameters(), lr=0.01, **options)

    def step(batch):
        x, y = normal(batch, 3, 16, 16), below(10, batch)
        loss = ops.cross_entropy(model(x), y)
        update.zero_grad()
        loss.backward()
        update.step()
        return loss.item()

    for _ in range(3):
        step(16)
    before = compiled()
    for batch in (12, 24, 7):
        assert step(batch) > 0
    assert compiled() == before
