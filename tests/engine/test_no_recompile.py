"""Kernels hold no sizes: an op that ran once compiles nothing for other sizes of the same layout class.

docs/architecture.md says what a layout class is. Every case runs at one size, and at 1 where that
makes a class of its own; then come empty, odd, prime and large sizes, on both sides of each
threshold where a plan changes: long reductions are split, few rows of a product are streamed.
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
    if out.requires_grad:
        out.backward(amity.ones_like(out))
    return out


def normal(*shape):
    return amity.randn(*shape)


def below(limit, *shape):
    return amity.randint(0, limit, shape)


SIZES = (0, 2, 3, 5, 7, 11, 16, 31, 64, 97)  # after 8; a case adds its large ones

LAYERS = {"lstm": nn.LSTM(4, 20), "gru": nn.GRU(4, 20, batch_first=True)}

# name: (function, tensors of a size, large sizes)
MAPS = {
    "add": (lambda a, b: a + b, lambda n: (normal(n, 3 * n), normal(n, 3 * n)), (509,)),
    "add flat": (lambda a, b: a + b * 0.5, lambda n: (normal(n), normal(n)), (4099, 200_003)),
    "add number": (lambda a: a + 2, lambda n: (normal(n),), (4099, 200_003)),
    "divide integers": (lambda a: a // 2 + a % 3, lambda n: (below(100, n),), (4099,)),
    "gelu": (ops.gelu, lambda n: (normal(n, n),), (509,)),
    "relu": (ops.relu, lambda n: (normal(n),), (65_537,)),
    "where": (lambda a, b: ops.where(a > b, a, b), lambda n: (normal(n), normal(n)), (65_537,)),
    "cast": (lambda a: a.to(amity.bfloat16), lambda n: (normal(n),), (65_537,)),
    "dropout": (lambda a: ops.dropout(a, 0.5), lambda n: (normal(n),), (65_537,)),
}
CASES = {
    "add broadcast": (lambda a, b: a + b, lambda n: (normal(n, 3 * n), normal(3 * n)), (509,)),
    "add column": (lambda a, b: a + b, lambda n: (normal(n, 3 * n), normal(n, 1)), (509,)),
    "add transposed": (
        lambda a, b: a.t() + b, lambda n: (normal(n, 2 * n), normal(2 * n, n)), (509,)
    ),
    "transpose few columns": (lambda a: a.t().contiguous(), lambda n: (normal(n, 40),), (4099,)),
    "transpose few rows": (lambda a: a.t().contiguous(), lambda n: (normal(40, n),), (4099,)),
    "add sliced": (lambda a: a[:, 1:-1] + 1.5, lambda n: (normal(n, 2 * n + 4),), (509,)),
    "sum": (lambda a: a.sum(), lambda n: (normal(n, 2 * n),), (256, 509)),
    "sum of bfloat16": (
        lambda a: a.sum(), lambda n: (normal(n, 2 * n).to(amity.bfloat16),), (256, 509)
    ),
    "mean": (lambda a: a.mean(), lambda n: (normal(n, 2 * n),), (256, 509)),
    "norm": (lambda a: a.norm(), lambda n: (normal(n, 2 * n),), (509,)),
    "sum of rows": (lambda a: a.sum(-1), lambda n: (normal(n, 2 * n),), (509,)),
    "sum of few rows": (lambda a: a.sum(-1) * 2, lambda n: (normal(3, n),), (4099, 140_009)),
    "sum of columns": (lambda a: a.sum(0), lambda n: (normal(n, 2 * n),), (509,)),
    "sum of few columns": (lambda a: a.sum(0), lambda n: (normal(200, n),), (4099,)),
    "sum of long columns": (lambda a: a.sum(0), lambda n: (normal(n, 3),), (4099, 140_009)),
    "mean of planes": (lambda a: a.mean((2, 3)), lambda n: (normal(2, 3, n, n),), (509,)),
    "mean of channels": (lambda a: a.mean((0, 2)), lambda n: (normal(n, 6, 2 * n),), (509,)),
    "var": (lambda a: a.var(-1), lambda n: (normal(4, 2 * n),), (509, 70_001)),
    "amax": (lambda a: a.amax(1), lambda n: (normal(n, 2 * n + 2),), (509,)),
    "argmax": (lambda a: a.argmax(-1) * 1.0, lambda n: (normal(5, n + 2),), (4099, 140_009)),
    "any": (lambda a: (a > 9).any(), lambda n: (normal(n),), (4099, 140_009)),
    "logsumexp": (lambda a: ops.logsumexp(a, -1), lambda n: (normal(4, n),), (4099, 140_009)),
    "softmax": (lambda a: ops.softmax(a, -1) ** 2, lambda n: (normal(9, n),), (4099, 70_001)),
    "softmax of few": (lambda a: ops.softmax(a, -1) ** 2, lambda n: (normal(2, n),), (140_009,)),
    "softmax of columns": (lambda a: ops.softmax(a, 0), lambda n: (normal(20, n),), (4099,)),
    "lstm": (
        lambda x: LAYERS["lstm"](x)[0], lambda n: (normal(3, n, 4),), (109,)
    ),
    "lstm of many steps": (
        lambda x: LAYERS["lstm"](x)[0], lambda n: (normal(n, 9, 4),), (109,)
    ),
    "gru of a batch in front": (
        lambda x: LAYERS["gru"](x)[0], lambda n: (normal(n, 3, 4),), (109,)
    ),
    "cumsum": (lambda a: a.cumsum(-1), lambda n: (normal(n, 2 * n),), (509,)),
    "layer_norm": (
        lambda a, w, b: ops.layer_norm(a, tuple(w.shape), w, b),
        lambda n: (normal(6, n), normal(n), normal(n)), (4099, 140_009),
    ),
    "batch_norm": (
        lambda a, w, b: ops.batch_norm(a, None, None, w, b, training=True),
        lambda n: (normal(4, 3, n, n), normal(3), normal(3)), (211,),
    ),
    "cross_entropy": (ops.cross_entropy, lambda n: (normal(n, 10), below(10, n)), (4099,)),
    "cross_entropy of many": (
        ops.cross_entropy, lambda n: (normal(9, n or 2), below(n or 2, 9)), (4099, 70_001)
    ),
    "mse_loss": (ops.mse_loss, lambda n: (normal(n), normal(n)), (4099, 140_009)),
    "matmul": (lambda a, b: a @ b, lambda n: (normal(4 * n, 5 * n), normal(5 * n, 3 * n)), (127,)),
    "matmul few rows": (lambda a, b: a @ b, lambda n: (normal(3, n), normal(n, n)), (509, 1021)),
    "matmul turned": (lambda a, b: a @ b.t(), lambda n: (normal(n, 300), normal(300, 300)), ()),
    "matmul batched": (lambda a, b: a @ b, lambda n: (normal(n, 9, n), normal(n, n, 11)), (211,)),
    "vector": (lambda a, b: a @ b, lambda n: (normal(n, 2 * n), normal(2 * n)), (509, 1021)),
    "linear": (ops.linear, lambda n: (normal(n, 400), normal(320, 400), normal(320)), (509,)),
    "linear wide": (ops.linear, lambda n: (normal(3, 2 * n), normal(n, 2 * n), normal(n)), (509,)),
    "attention": (
        ops.scaled_dot_product_attention,
        lambda n: tuple(normal(2, 3, n, 16) for _ in range(3)), (211,),
    ),
    "conv 3x3": (
        lambda x, w: ops.conv2d(x, w, None, 1, 1),
        lambda n: (normal(2, 16, n, n + 1), normal(24, 16, 3, 3)), (),
    ),
    "conv 3x3 batches": (
        lambda x, w: ops.conv2d(x, w, None, 1, 1),
        lambda n: (normal(n, 16, 9, 8), normal(24, 16, 3, 3)), (),
    ),
    "conv 3x3 channels": (
        lambda x, w: ops.conv2d(x, w, None, 1, 1),
        lambda n: (normal(1, n, 14, 14), normal(n, n, 3, 3)), (),
    ),
    "conv 3x3 stride 2": (
        lambda x, w, b: ops.conv2d(x, w, b, 2, 1),
        lambda n: (normal(2, n, 2 * n, 9), normal(24, n, 3, 3), normal(24)), (),
    ),
    "conv 1x1": (ops.conv2d, lambda n: (normal(n, 16, n, 9), normal(24, 16, 1, 1)), ()),
    "conv1d": (ops.conv1d, lambda n: (normal(2, 4, n + 4), normal(n, 4, 5)), (509,)),
    "conv_transpose2d": (
        lambda x, w: ops.conv_transpose2d(x, w, None, 2),
        lambda n: (normal(2, 6, n, 9), normal(6, n, 3, 3)), (),
    ),
    "max_pool2d": (lambda x: ops.max_pool2d(x, 2), lambda n: (normal(2, 4, 2 * n, 2 * n),), (211,)),
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, 3, 1, 1), lambda n: (normal(2, 4, n, n),), (211,)),
    "avg_pool1d": (lambda x: ops.avg_pool1d(x, 2), lambda n: (normal(2, 4, 2 * n),), (4099,)),
    "adaptive": (lambda x: ops.adaptive_avg_pool2d(x, 3), lambda n: (normal(2, 4, n, n),), (211,)),
    "bilinear": (
        lambda x: ops.interpolate(x, (21, 34), mode="bilinear"),
        lambda n: (normal(2, 3, n, n + 1),), (211,),
    ),
    "nearest": (lambda x: ops.interpolate(x, (21, 34)), lambda n: (normal(2, 3, n, n),), (211,)),
    "pad": (lambda a: ops.pad(a, (2, 3), value=1.5), lambda n: (normal(n, n),), (509,)),
    "reflect": (
        lambda a: ops.pad(a, (1, 2), mode="reflect"), lambda n: (normal(2, n + 3),), (4099,)
    ),
    "roll": (lambda a: a.roll(3, 1), lambda n: (normal(n, 2 * n),), (509,)),
    "flip": (lambda a: a.flip(0), lambda n: (normal(n, 2 * n),), (509,)),
    "tril": (lambda a: a.tril(1), lambda n: (normal(n, 2 * n),), (509,)),
    "gather": (lambda a, i: a.gather(1, i), lambda n: (normal(n, 9), below(9, n, n)), (509,)),
    "index_select": (lambda a, i: a.index_select(0, i), lambda n: (normal(40, n), below(40, n)), (509,)),
    "index_add": (
        lambda a, i, b: a.index_add(0, i, b),
        lambda n: (normal(40, n), below(40, n), normal(n, n)), (509,),
    ),
    "scatter_add": (
        lambda a, i, b: a.scatter_add(0, i, b),
        lambda n: (normal(40, n), below(40, n, n), normal(n, n)), (509,),
    ),
    "indexing": (lambda a, i: a[i], lambda n: (normal(40, n), below(40, n + 2)), (509,)),
    "embedding": (ops.embedding, lambda n: (below(40, n, 4), normal(40, 2 * n)), (509,)),
    "cat": (lambda a, b: ops.cat((a, b), 1), lambda n: (normal(n, 2 * n), normal(n, 3 * n)), (509,)),
    "stack": (lambda a, b: ops.stack((a, b)), lambda n: (normal(n), normal(n)), (4099,)),
    "repeat": (lambda a: a.repeat(2, 3), lambda n: (normal(n, 2 * n),), (211,)),
    "sort": (lambda a: a.sort()[0], lambda n: (normal(n),), (4099, 600_011)),
    "topk": (lambda a: a.topk(2)[0], lambda n: (normal(3, n + 2),), (4099,)),
}  # fmt: skip


def sweep(name, cases, classes):
    function, tensors, large = cases[name]
    for n in classes:
        gradients(function, *tensors(n))
    found = []
    for n in (*SIZES, *large):
        given = tensors(n)  # made first: making data is not what is counted
        before = compiled()
        try:
            gradients(function, *given)
        except (ValueError, IndexError, RuntimeError) as error:
            assert n == 0, error  # some ops refuse to work on nothing
        if compiled() != before:
            found.append(n)
    assert found == []


# a result that is made of nothing has code of its own, as its values are infinite or nan
FROM_NOTHING = {"mean of planes", "logsumexp", "cross_entropy", "mse_loss"}


@pytest.mark.parametrize("name", CASES)
def test_new_sizes_compile_nothing(name):
    sweep(name, CASES, (8, 1, 0) if name in FROM_NOTHING else (8, 1))


@pytest.mark.parametrize("name", MAPS)
def test_not_even_a_size_of_one_compiles(name):
    """Tensors that loops run through from end to end are of one class, 1 element or many."""
    sweep(
        name, {n: (f, lambda k, t=t: t(k), (1, *large)) for n, (f, t, large) in MAPS.items()}, (8,)
    )


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
    device.kernels().find(("nothing", before), lambda *a: _empty(*a), "nothing")
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
