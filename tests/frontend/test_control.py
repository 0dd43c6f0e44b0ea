"""`cond`, `while_loop` and `scan` against PyTorch's, and against plain Python under transforms."""

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import func  # noqa: E402

from ..ops.compare import BUILTIN, match, same  # noqa: E402

X = "float64[3,2]"


def branch(m, x, cond=None):
    return (cond or m.cond)(x.sum() > 0, lambda a: a.sin() * 2, lambda a: a * a, (x,))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sign", [1, -1])
def test_cond(sign):
    match(lambda m, x: branch(m, abs(x) * sign), order=1, x=X)
    match(
        lambda m, x: m.cond(sign > 0, lambda d: {"k": d["a"] + 1}, lambda d: {"k": d["a"]}, ({"a": x},))["k"],
        order=1, x=X,
    )  # fmt: skip
    x = amity.rand(3, 2) * sign
    expected = branch(amity, x)
    assert amity.compile(lambda x: branch(amity, x))(x).tolist() == expected.tolist()
    assert amity.cond(x.new_full((1, 1), sign > 0), lambda: 1, lambda: 2) == (1 if sign > 0 else 2)


def test_cond_of_entries():
    def plain(p, yes, no, xs):
        return amity.where(p, yes(*xs), no(*xs))

    x = amity.tensor([[1.0, 2.0], [-3.0, 1.0], [0.5, 0.1]], dtype=amity.float64)

    def by(f):
        return amity.vmap(func.grad(lambda a: branch(amity, a, f).sum()))(x)

    same(by(amity.cond), torch.from_numpy(by(plain).numpy()), "cond under vmap")
    curved = func.hessian(lambda a: branch(amity, a).sum())
    assert curved(x[1]).tolist() == [[2, 0], [0, 2]]  # of a * a
    assert curved(x[0]).diagonal().tolist() == pytest.approx((-2 * x[0].sin()).tolist())
    with pytest.raises(RuntimeError, match="the same structure"):
        amity.vmap(lambda a: amity.cond(a.sum() > 0, lambda: (a, a), lambda: a))(x)
    with pytest.raises(RuntimeError, match="the same metadata"):
        amity.vmap(lambda a: amity.cond(a.sum() > 0, lambda: a, lambda: a[:1]))(x)


def halved(loop, x):
    """Halve until the sum is small, and count."""
    return loop(
        lambda n, y: abs(y).sum() > 1, lambda n, y: (n + 1, y / 2 + 0 * n), (amity.tensor(0), x)
    )


def plain_loop(goes_on, body, carried):
    while goes_on(*carried):
        carried = body(*carried)
    return carried


def test_while_loop():
    from torch._higher_order_ops import while_loop

    def double(m, loop, x):
        return loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2 + y.sin()), (m.tensor(0), x))

    x = amity.rand(3, 2, dtype=amity.float64) + 1
    expected = double(torch, while_loop, torch.from_numpy(x.numpy()))
    same(double(amity, amity.while_loop, x), expected, "while_loop")
    got = func.grad(lambda a: halved(amity.while_loop, a)[1].sum())(x)
    assert got.tolist() == func.grad(lambda a: halved(plain_loop, a)[1].sum())(x).tolist()
    count, y = amity.compile(lambda x: halved(amity.while_loop, x))(x)
    assert [count.tolist(), y.tolist()] == [t.tolist() for t in halved(plain_loop, x)]
    counts, rows = amity.vmap(lambda a: halved(amity.while_loop, a))(
        x * amity.tensor([[1.0], [9.0], [0.1]])
    )
    each = [halved(plain_loop, a) for a in x * amity.tensor([[1.0], [9.0], [0.1]])]
    assert counts.tolist() == [int(n) for n, _ in each] and len(set(counts.tolist())) == 3
    assert rows.tolist() == [y.tolist() for _, y in each]
    assert amity.while_loop(lambda x: False, lambda x: (x,), (x,))[0] is x


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(dim, reverse):
    from torch._higher_order_ops import scan

    def call(m, x):
        f = scan if m is torch else amity.scan
        start = m.zeros(x.shape[1 - abs(dim)], dtype=x.dtype)
        return f(lambda c, a: (c.sin() + a, c * a), start, x, dim=dim, reverse=reverse)

    match(call, order=1, x=X)
    x = amity.rand(4, 3, 2)
    got = amity.vmap(lambda a: call(amity, a)[1])(x)
    assert got.tolist() == amity.stack([call(amity, a)[1] for a in x]).tolist()
    both = amity.compile(lambda a: call(amity, a))(x[0])
    for a, b in zip(both, call(amity, x[0]), strict=True):
        assert a.tolist() == pytest.approx(b.tolist()) if a.ndim == 1 else True
        assert abs(a - b).max() < 1e-6


def test_scan_of_nests():
    xs = {"a": amity.arange(4.0), "b": amity.ones(4, 2)}
    carry, ys = amity.scan(
        lambda c, x: ({"s": c["s"] + x["a"]}, (x["b"] * c["s"], x["a"])),
        {"s": amity.tensor(1.0)},
        xs,
    )
    assert carry["s"].item() == 7 and ys[0][:, 0].tolist() == [1, 1, 2, 4]
    assert ys[1].tolist() == [0, 1, 2, 3]


ERRORS = {
    "pred": lambda x: amity.cond("x", lambda: x, lambda: x),
    "several": lambda x: amity.cond(x > 0, lambda: x, lambda: x),
    "branch": lambda x: amity.cond(True, 3, lambda: x),
    "operands": lambda x: amity.cond(True, lambda a: a, lambda a: a, x),
    "condition": lambda x: amity.while_loop(lambda a: a, lambda a: (a,), (x,)),
    "carried": lambda x: amity.while_loop(lambda a: True, lambda a: (a,), x),
    "body": lambda x: amity.while_loop(lambda a: True, lambda a: a, (x,)),
    "body's shape": lambda x: amity.while_loop(lambda a: True, lambda a: (a[:1],), (x,)),
    "body's structure": lambda x: amity.while_loop(lambda a: True, lambda a: (a, a), (x,)),
    "no function": lambda x: amity.while_loop(True, lambda a: (a,), (x,)),
    "combine": lambda x: amity.scan(3, x, x),
    "one result": lambda x: amity.scan(lambda c, a: c, x[0], x),
    "carry": lambda x: amity.scan(lambda c, a: (c[:1], a), x[0], x),
    "nothing": lambda x: amity.scan(lambda c, a: (c, a), x[0], x[:0]),
    "no tensors": lambda x: amity.scan(lambda c, a: (c, a), x[0], []),
    "dim": lambda x: amity.scan(lambda c, a: (c, a), x[0], x, dim=2),
    "sizes": lambda x: amity.scan(lambda c, a: (c, a), x[0], (x, x[:2])),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    with pytest.raises(BUILTIN, match="^(cond|while_loop|scan): "):
        ERRORS[name](amity.ones(3, 2))
