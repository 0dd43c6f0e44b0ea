"""Eager amity against PyTorch eager, in one process, interleaved: `python -m bench.eager`.

Every row is timed in turns (amity, PyTorch, amity, …); a figure is the median over rounds of the
best of a few calls in a round, the ratio amity's time over PyTorch's. Wanted ratios are in the table.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable

import torch
import torch.nn.functional as TF

import amity
from amity import ops
from amity.engine.threads import set_num_threads

from . import harness
from .harness import Row


def compare(row: Row, rounds: int) -> tuple[float, float, float]:
    """Seconds of ours and theirs, and the median ratio of rounds, at the row's threads."""
    torch.set_num_threads(row.threads)
    set_num_threads(row.threads)
    return harness.compare(row, rounds)


def pair(*shape: int, grad: bool = False, scale: float = 1.0):
    """The same numbers as a tensor of each."""
    t = torch.randn(*shape) * scale
    a = amity.tensor(t.numpy())
    return (a.requires_grad_(), t.requires_grad_()) if grad else (a, t)


def small_ops() -> list[Row]:
    (a, ta), (b, tb) = pair(10), pair(10)
    (ga, tga), (gb, tgb) = pair(10, grad=True), pair(10, grad=True)

    def product(x, y):
        x.grad = y.grad = None
        (x * y).sum().backward()

    return [
        Row("a+b, 10 elements", lambda: a + b, lambda: ta + tb, 0.30),
        Row("a+b with grad", lambda: ga + gb, lambda: tga + tgb, 0.30),
        Row("relu", lambda: a.relu(), lambda: ta.relu(), 0.30),
        Row("sum", lambda: a.sum(), lambda: ta.sum(), 0.30),
        Row("(a*b).sum().backward()", lambda: product(ga, gb), lambda: product(tga, tgb), 0.30),
    ]


def mlp(sizes: tuple[int, ...], batch: int, ours: bool):
    """A training step: linear layers with ReLU, cross-entropy, backward, SGD."""
    lib, f = (amity, ops) if ours else (torch, TF)
    gen = torch.Generator().manual_seed(0)
    draw = lambda *s: torch.randn(*s, generator=gen) * 0.1  # noqa: E731
    make = lambda t: amity.tensor(t.numpy()) if ours else t.clone()  # noqa: E731
    layers = [
        (make(draw(o, i)).requires_grad_(), make(draw(o)).requires_grad_())
        for i, o in zip(sizes, sizes[1:], strict=False)
    ]
    params = [p for layer in layers for p in layer]
    x = make(torch.randn(batch, sizes[0], generator=gen))
    y = make(torch.randint(0, sizes[-1], (batch,), generator=gen))
    optimizer = (amity.optim if ours else torch.optim).SGD(params, lr=0.01)

    def step():
        h = x
        for i, (w, b) in enumerate(layers):
            h = f.linear(h, w, b)
            h = h.relu() if i + 1 < len(layers) else h
        loss = f.cross_entropy(h, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    del lib
    return step


def steps() -> list[Row]:
    rows = []
    for sizes, batch, wanted in (((8, 8, 8, 8), 4, 0.20), ((784, 128, 64, 10), 32, 0.60)):
        name = f"MLP step {'-'.join(map(str, sizes))}, batch {batch}"
        rows.append(Row(name, mlp(sizes, batch, True), mlp(sizes, batch, False), wanted))
    return rows


def adamw(ours: bool):
    p = (amity.randn(4096, 1024) if ours else torch.randn(4096, 1024)).requires_grad_()
    p.grad = amity.randn(4096, 1024) if ours else torch.randn(4096, 1024)
    optimizer = amity.optim.AdamW([p]) if ours else torch.optim.AdamW([p], fused=True)
    return optimizer.step


def memory_bound(threads: int) -> list[Row]:
    (x, tx), (r, tr), (bias, tbias) = pair(4096, 1024), pair(4096, 1024), pair(1024)
    (w, tw), (b, tb) = pair(1024), pair(1024)
    return [
        Row(
            "softmax 4096x1024",
            lambda: ops.softmax(x, -1),
            lambda: TF.softmax(tx, -1),
            threads=threads,
        ),
        Row(
            "layer_norm 4096x1024",
            lambda: ops.layer_norm(x, (1024,), w, b),
            lambda: TF.layer_norm(tx, (1024,), tw, tb),
            threads=threads,
        ),
        Row("gelu 4096x1024", lambda: ops.gelu(x), lambda: TF.gelu(tx), threads=threads),
        Row(
            "bias+relu+residual 4096x1024",
            lambda: (x + bias).relu() + r,
            lambda: (tx + tbias).relu() + tr,
            threads=threads,
        ),
        Row("AdamW step, 4M parameters", adamw(True), adamw(False), threads=threads),
    ]


def products(threads: int) -> list[Row]:
    rows = []
    for m, k, n in ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (64, 784, 256)):
        (a, ta), (b, tb) = pair(m, k, grad=True), pair(k, n, grad=True)
        g, tg = pair(m, n)

        def forward(a=a, b=b):
            return a.detach() @ b.detach()

        def forward_torch(ta=ta, tb=tb):
            return ta.detach() @ tb.detach()

        def both(a=a, b=b, g=g):
            a.grad = b.grad = None
            (a @ b).backward(g)

        def both_torch(ta=ta, tb=tb, tg=tg):
            ta.grad = tb.grad = None
            (ta @ tb).backward(tg)

        rows.append(Row(f"matmul {m}x{k}x{n}", forward, forward_torch, threads=threads))
        rows.append(Row(f"matmul {m}x{k}x{n} forward+backward", both, both_torch, threads=threads))
    return rows


CONVOLUTIONS = (
    ("3x3 64x56", 64, 56, 64, 3, 1, 1),
    ("3x3 128x28", 128, 28, 128, 3, 1, 1),
    ("3x3 256x14", 256, 14, 256, 3, 1, 1),
    ("7x7/2 stem 3x224", 3, 224, 64, 7, 2, 3),
    ("1x1 256->64 at 56", 256, 56, 64, 1, 1, 0),
)


def convolutions(threads: int) -> list[Row]:
    rows = []
    for name, c, size, o, k, stride, padding in CONVOLUTIONS:
        (x, tx), (w, tw) = pair(8, c, size, size, grad=True), pair(o, c, k, k, grad=True, scale=0.1)
        with torch.no_grad():
            g = torch.randn_like(TF.conv2d(tx, tw, stride=stride, padding=padding))
        ag = amity.tensor(g.numpy())

        def forward(x=x, w=w, s=stride, p=padding):
            return ops.conv2d(x.detach(), w.detach(), None, s, p)

        def forward_torch(x=tx, w=tw, s=stride, p=padding):
            return TF.conv2d(x.detach(), w.detach(), None, s, p)

        def both(x=x, w=w, g=ag, s=stride, p=padding):
            x.grad = w.grad = None
            ops.conv2d(x, w, None, s, p).backward(g)

        def both_torch(x=tx, w=tw, g=g, s=stride, p=padding):
            x.grad = w.grad = None
            TF.conv2d(x, w, None, s, p).backward(g)

        rows.append(Row(f"conv {name}", forward, forward_torch, threads=threads))
        rows.append(Row(f"conv {name} forward+backward", both, both_torch, threads=threads))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    options = parser.parse_args()
    groups: list[Callable[[], list[Row]]] = [small_ops, steps]
    for t in options.threads:
        groups += [
            lambda t=t: memory_bound(t),
            lambda t=t: products(t),
            lambda t=t: convolutions(t),
        ]
    print(
        f"{'row':44s} {'threads':>7s} {'amity':>11s} {'PyTorch':>11s} {'ratio':>6s} {'wanted':>6s}"
    )
    for group in groups:
        rows = group()
        for row in rows:
            if options.only in row.name:
                gc.collect()
                gc.disable()
                a, b, ratio = compare(row, options.rounds)
                gc.enable()
                mark = "" if ratio <= row.wanted else "  slower than wanted"
                print(
                    f"{row.name:44s} {row.threads:7d} {a * 1e6:9.2f}us {b * 1e6:9.2f}us "
                    f"{ratio:6.2f} {row.wanted:6.2f}{mark}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
