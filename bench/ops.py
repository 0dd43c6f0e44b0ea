"""Many eager ops against PyTorch eager at one thread: `python -m bench.ops [family …]`.

Each op is written once, for the module that it is given (amity or torch), and timed as the rows of
`bench.eager` are: in turns, forward alone and, where a gradient makes sense, with backward.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import amity

from .eager import compare
from .harness import Row

Family = Iterator[Row]
FAMILIES: dict[str, Callable[[], Family]] = {}


def family(f: Callable[[], Family]) -> Callable[[], Family]:
    FAMILIES[f.__name__] = f
    return f


def integers(high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape)


def rows(
    name: str, f: Callable[..., Any], *inputs: Any, grad: bool = True, constant: int = 0
) -> Family:
    """Rows of `f(library, *tensors)`; an input is a shape of normal numbers or an array.

    Gradients are asked of floats but the last `constant` inputs.
    """
    rng = np.random.default_rng(1)
    arrays = [
        rng.standard_normal(x, "f4") if isinstance(x, tuple) else np.ascontiguousarray(x)
        for x in inputs
    ]
    calls = [_calls(lib, f, arrays, grad, len(arrays) - constant) for lib in (amity, torch)]
    yield Row(name, *(c[0] for c in calls))
    if grad:
        yield Row(f"{name} fwd+bwd", *(c[1] for c in calls))


def _calls(lib: Any, f: Callable[..., Any], arrays: list, grad: bool, first: int) -> tuple:
    plain = [lib.from_numpy(x.copy()) for x in arrays]
    forward = lambda: f(lib, *plain)  # noqa: E731
    if not grad:
        return (forward,)
    taped = [
        lib.from_numpy(x.copy()).requires_grad_() if x.dtype.kind == "f" and i < first else t
        for i, (x, t) in enumerate(zip(arrays, plain, strict=True))
    ]
    leaves = [t for t in taped if t.requires_grad]
    result = f(lib, *taped)
    seed = None if result.ndim == 0 else lib.ones(tuple(result.shape)) * 0.5

    def both() -> None:
        for t in leaves:
            t.grad = None
        f(lib, *taped).backward(seed)

    return forward, both


# -- families


@family
def small() -> Family:
    """What an op costs whatever its size."""
    ten = (10,)

    def add_(L, a, b):
        a.add_(b)

    def write(L, a, b):
        a[2:5] = 0.0

    yield from rows("add_, 10", add_, ten, ten, grad=False)
    yield from rows("mul_ by a number, 10", lambda L, a: a.mul_(1.0), ten, grad=False)
    yield from rows("zero_, 10", lambda L, a: a.zero_(), ten, grad=False)
    yield from rows("copy_, 10", lambda L, a, b: a.copy_(b), ten, ten, grad=False)
    yield from rows("a[2:5] = 0", write, ten, ten, grad=False)
    yield from rows("a[3]", lambda L, a: a[3], ten, grad=False)
    yield from rows("a[:, 1:3]", lambda L, a: a[:, 1:3], (4, 4), grad=False)
    yield from rows("item", lambda L, a: a.sum().item(), ten, grad=False)
    yield from rows("a + 1", lambda L, a: a + 1, ten)
    yield from rows("exp", lambda L, a: L.exp(a), ten)
    yield from rows("sum(-1), 4x4", lambda L, a: a.sum(-1), (4, 4))
    yield from rows("softmax, 4x4", lambda L, a: L.softmax(a, -1), (4, 4))
    yield from rows("reshape", lambda L, a: a.reshape(2, 5), ten, grad=False)
    yield from rows("transpose", lambda L, a: a.transpose(0, 1), (4, 4), grad=False)
    yield from rows("cat of two, 10", lambda L, a, b: L.cat([a, b]), ten, ten)
    yield from rows("zeros, 10", lambda L: L.zeros(10), grad=False)
    yield from rows("matmul 8x8x8", lambda L, a, b: a @ b, (8, 8), (8, 8))
    yield from rows("mse_loss, 10", lambda L, a, b: L.nn.functional.mse_loss(a, b), ten, ten)


@family
def reductions() -> Family:
    x = (1024, 1024)
    for dim in (0, 1):
        yield from rows(f"sum dim={dim}", lambda L, x, d=dim: x.sum(d), x)
        yield from rows(f"mean dim={dim}", lambda L, x, d=dim: x.mean(d), x)
        yield from rows(f"var dim={dim}", lambda L, x, d=dim: x.var(d), x)
        yield from rows(f"amax dim={dim}", lambda L, x, d=dim: x.amax(d), x)
        yield from rows(f"argmax dim={dim}", lambda L, x, d=dim: x.argmax(d), x, grad=False)
        yield from rows(f"max dim={dim}", lambda L, x, d=dim: x.max(d)[0], x)
        yield from rows(f"logsumexp dim={dim}", lambda L, x, d=dim: x.logsumexp(d), x)
        yield from rows(f"softmax dim={dim}", lambda L, x, d=dim: x.softmax(d), x)
        yield from rows(f"cumsum dim={dim}", lambda L, x, d=dim: x.cumsum(d), x)
        yield from rows(f"norm dim={dim}", lambda L, x, d=dim: x.norm(dim=d), x)
    yield from rows("sum dim=1 of 3", lambda L, x: x.sum(1), (64, 128, 128))
    yield from rows("sum of all", lambda L, x: x.sum(), x)
    yield from rows("prod dim=1", lambda L, x: x.prod(1), x, grad=False)
    yield from rows("any dim=1", lambda L, x: (x > 3).any(1), x, grad=False)
    yield from rows("cumprod dim=1", lambda L, x: x.cumprod(1), x, grad=False)


@family
def sorting() -> Family:
    x = (256, 1024)
    yield from rows("sort", lambda L, x: L.sort(x, -1)[0], x)
    yield from rows("argsort of 100k", lambda L, x: L.argsort(x), (100_000,), grad=False)
    yield from rows("topk 5 of 1000", lambda L, x: L.topk(x, 5, -1)[0], (256, 1000))
    yield from rows("median", lambda L, x: x.median(-1)[0], x)
    yield from rows("kthvalue", lambda L, x: L.kthvalue(x, 5, -1)[0], x, grad=False)
    yield from rows("unique", lambda L, x: L.unique(x), integers(1000, 100_000), grad=False)
    yield from rows("bincount", lambda L, x: L.bincount(x), integers(1000, 100_000), grad=False)
    edges = np.linspace(-3, 3, 1000, dtype="f4")
    yield from rows(
        "searchsorted", lambda L, e, x: L.searchsorted(e, x), edges, (100_000,), grad=False
    )
    yield from rows("cummax", lambda L, x: L.cummax(x, -1)[0], x, grad=False)
    yield from rows("nonzero", lambda L, x: (x > 1).nonzero(), x, grad=False)


@family
def movement() -> Family:
    x, y = (512, 1024), (512, 1024)
    yield from rows("cat dim=0", lambda L, a, b: L.cat([a, b], 0), x, y)
    yield from rows("cat dim=1", lambda L, a, b: L.cat([a, b], 1), x, y)
    yield from rows("stack dim=0", lambda L, a, b: L.stack([a, b], 0), x, y)
    yield from rows("stack dim=-1", lambda L, a, b: L.stack([a, b], -1), x, y)
    yield from rows("t().contiguous()", lambda L, a: a.t().contiguous(), (1024, 1024))
    yield from rows(
        "permute 0 2 3 1", lambda L, a: a.permute(0, 2, 3, 1).contiguous(), (8, 64, 56, 56)
    )
    yield from rows(
        "heads", lambda L, a: a.reshape(8, 128, 8, 64).transpose(1, 2).contiguous(), (8, 128, 512)
    )
    yield from rows("flip", lambda L, a: a.flip(1), x)
    yield from rows("roll", lambda L, a: L.roll(a, 100, 1), x)
    yield from rows("repeat", lambda L, a: a.repeat(2, 2), x)
    yield from rows("repeat_interleave", lambda L, a: a.repeat_interleave(2, 0), x)
    yield from rows("split and cat", lambda L, a: L.cat(a.split(256, 1)[::-1], 1), x)
    yield from rows("tril", lambda L, a: a.tril(), (1024, 1024))
    yield from rows("pad", lambda L, a: L.nn.functional.pad(a, (1, 1, 1, 1)), (8, 64, 56, 56))
    yield from rows(
        "pad reflect", lambda L, a: L.nn.functional.pad(a, (1, 1, 1, 1), "reflect"), (8, 64, 56, 56)
    )
    yield from rows("unfold", lambda L, a: L.nn.functional.unfold(a, 3, padding=1), (8, 16, 32, 32))
    yield from rows("fold", lambda L, a: L.nn.functional.fold(a, 32, 3, padding=1), (8, 144, 1024))


@family
def indexing() -> Family:
    x, wide = (4096, 256), integers(256, 4096, 64)
    at = integers(4096, 2048)
    yield from rows("index_select dim=0", lambda L, x, i: x.index_select(0, i), x, at)
    yield from rows("x[i]", lambda L, x, i: x[i], x, at)
    yield from rows("x[mask]", lambda L, x: x[x > 1], x, grad=False)
    yield from rows(
        "index_select dim=1", lambda L, x, i: x.index_select(1, i), x, integers(256, 128)
    )
    yield from rows("gather dim=1", lambda L, x, i: x.gather(1, i), x, wide)
    yield from rows("gather dim=0", lambda L, x, i: x.gather(0, i), x, integers(4096, 512, 256))
    add = lambda d: lambda L, x, i, s: x.scatter_add(d, i, s)  # noqa: E731
    yield from rows("scatter_add dim=1", add(1), x, wide, (4096, 64))
    yield from rows("scatter_add dim=0", add(0), x, integers(4096, 512, 256), (512, 256))
    yield from rows("scatter dim=1", lambda L, x, i, s: x.scatter(1, i, s), x, wide, (4096, 64))
    yield from rows("index_add", lambda L, x, i, s: x.index_add(0, i, s), x, at, (2048, 256))
    yield from rows(
        "index_put", lambda L, x, i, s: x.index_put((i,), s), x, np.arange(2048), (2048, 256)
    )
    yield from rows(
        "one_hot", lambda L, i: L.nn.functional.one_hot(i, 100), integers(100, 4096), grad=False
    )
    mask = integers(2, 1024, 1024) > 0
    yield from rows("masked_fill", lambda L, x, m: x.masked_fill(m, 0.0), (1024, 1024), mask)
    yield from rows("where", lambda L, m, a, b: L.where(m, a, b), mask, (1024, 1024), (1024, 1024))
    table, words = (30_000, 256), integers(30_000, 32, 128)
    yield from rows("embedding", lambda L, i, w: L.nn.functional.embedding(i, w), words, table)
    bag = lambda mode: lambda L, i, w: L.nn.functional.embedding_bag(i, w, mode=mode)  # noqa: E731
    yield from rows("embedding_bag sum", bag("sum"), integers(30_000, 256, 16), table)
    yield from rows("embedding_bag mean", bag("mean"), integers(30_000, 256, 16), table)
    yield from rows("embedding_bag max", bag("max"), integers(30_000, 256, 16), table)
    starts = np.arange(0, 4096, 16)
    yield from rows(
        "embedding_bag offsets", lambda L, i, o, w: L.nn.functional.embedding_bag(i, w, o),
        integers(30_000, 4096), starts, table,
    )  # fmt: skip


@family
def losses() -> Family:
    x, y = (512, 256), integers(256, 512)
    call = lambda name, **k: lambda L, *a: getattr(L.nn.functional, name)(*a, **k)  # noqa: E731
    yield from rows("cross_entropy 512x256", call("cross_entropy"), x, y)
    yield from rows("cross_entropy 32x10", call("cross_entropy"), (32, 10), integers(10, 32))
    yield from rows(
        "cross_entropy 1024x8192", call("cross_entropy"), (1024, 8192), integers(8192, 1024)
    )
    smoothed = call("cross_entropy", label_smoothing=0.1)
    yield from rows("cross_entropy, smoothed", smoothed, x, y)
    yield from rows(
        "cross_entropy of images", call("cross_entropy"), (4, 21, 64, 64), integers(21, 4, 64, 64)
    )
    yield from rows("nll_loss 512x256", call("nll_loss"), x, y)
    yield from rows(
        "log_softmax + nll", lambda L, x, y: L.nn.functional.nll_loss(x.log_softmax(1), y), x, y
    )
    p, q = np.random.default_rng(0).random((2, 512, 256), "f4")
    yield from rows("bce", call("binary_cross_entropy"), p, q, constant=1)
    yield from rows("bce_with_logits", call("binary_cross_entropy_with_logits"), x, q, constant=1)
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        yield from rows(name, call(name), x, x, constant=1)
    yield from rows("kl_div", call("kl_div", reduction="batchmean"), x, q, constant=1)
    yield from rows("cosine_similarity", call("cosine_similarity"), x, x)
    yield from rows("pdist", call("pdist"), (256, 64))
    yield from rows("cdist", lambda L, a, b: L.cdist(a, b), (256, 64), (256, 64))
    yield from rows("triplet_margin_loss", call("triplet_margin_loss"), x, x, x)


@family
def norms() -> Family:
    image, c = (16, 64, 32, 32), (64,)
    F = lambda L: L.nn.functional  # noqa: E731
    yield from rows(
        "batch_norm, training",
        lambda L, x, w, b, m, v: F(L).batch_norm(x, m, v, w, b, True),
        image, c, c, np.zeros(64, "f4"), np.ones(64, "f4"), constant=2,
    )  # fmt: skip
    yield from rows(
        "batch_norm, evaluation",
        lambda L, x, w, b, m, v: F(L).batch_norm(x, m, v, w, b, False),
        image, c, c, np.zeros(64, "f4"), np.ones(64, "f4"), constant=2,
    )  # fmt: skip
    yield from rows("group_norm 8", lambda L, x, w, b: F(L).group_norm(x, 8, w, b), image, c, c)
    yield from rows("instance_norm", lambda L, x: F(L).instance_norm(x), image)
    yield from rows(
        "layer_norm 4096x512",
        lambda L, x, w, b: F(L).layer_norm(x, (512,), w, b),
        (4096, 512),
        (512,),
        (512,),
    )
    yield from rows(
        "rms_norm 4096x512", lambda L, x, w: F(L).rms_norm(x, (512,), w), (4096, 512), (512,)
    )
    yield from rows("normalize", lambda L, x: F(L).normalize(x), (4096, 512))
    yield from rows("local_response_norm", lambda L, x: F(L).local_response_norm(x, 5), image)
    for name in (
        "relu",
        "gelu",
        "silu",
        "sigmoid",
        "tanh",
        "softplus",
        "elu",
        "hardswish",
        "leaky_relu",
        "mish",
    ):
        yield from rows(name, lambda L, x, n=name: getattr(F(L), n)(x), (1024, 1024))
    yield from rows("glu", lambda L, x: F(L).glu(x), (1024, 1024))
    yield from rows("dropout 0.5", lambda L, x: F(L).dropout(x, 0.5), (1024, 1024))


@family
def pools() -> Family:
    image = (8, 64, 56, 56)
    F = lambda L: L.nn.functional  # noqa: E731
    yield from rows("max_pool2d 2", lambda L, x: F(L).max_pool2d(x, 2), image)
    yield from rows("max_pool2d 3/2", lambda L, x: F(L).max_pool2d(x, 3, 2, 1), image)
    yield from rows("avg_pool2d 2", lambda L, x: F(L).avg_pool2d(x, 2), image)
    yield from rows("avg_pool2d 3/1", lambda L, x: F(L).avg_pool2d(x, 3, 1, 1), image)
    yield from rows("adaptive_avg_pool2d 1", lambda L, x: F(L).adaptive_avg_pool2d(x, 1), image)
    yield from rows("adaptive_avg_pool2d 7", lambda L, x: F(L).adaptive_avg_pool2d(x, 7), image)
    yield from rows("adaptive_max_pool2d 7", lambda L, x: F(L).adaptive_max_pool2d(x, 7), image)
    yield from rows("max_pool1d 2", lambda L, x: F(L).max_pool1d(x, 2), (16, 64, 1024))
    for mode in ("nearest", "bilinear", "bicubic"):
        yield from rows(
            f"interpolate {mode} x2",
            lambda L, x, m=mode: F(L).interpolate(x, scale_factor=2, mode=m),
            (8, 32, 32, 32),
        )
    for mode in ("bilinear", "nearest"):
        yield from rows(
            f"grid_sample {mode}",
            lambda L, x, g, m=mode: F(L).grid_sample(x, g, m, align_corners=False),
            (8, 16, 32, 32), np.random.default_rng(0).random((8, 32, 32, 2), "f4") * 2 - 1,
        )  # fmt: skip
    yield from rows("pixel_shuffle", lambda L, x: F(L).pixel_shuffle(x, 2), (8, 64, 32, 32))


@family
def convolutions() -> Family:
    F = lambda L: L.nn.functional  # noqa: E731

    def conv(name, x, w, dims=2, **k):
        return rows(name, lambda L, x, w: getattr(F(L), f"conv{dims}d")(x, w, **k), x, w)

    for c, size in ((64, 56), (256, 14)):
        w = (c, 1, 7, 7)
        yield from conv(f"depthwise 7x7 {c}x{size}", (8, c, size, size), w, padding=3, groups=c)
    for c, size, stride in ((64, 56, 1), (64, 56, 2), (256, 14, 1), (256, 14, 2)):
        yield from conv(
            f"depthwise 3x3/{stride} {c}x{size}", (8, c, size, size), (c, 1, 3, 3),
            stride=stride, padding=1, groups=c,
        )  # fmt: skip
    yield from conv("groups=4 3x3 64x28", (8, 64, 28, 28), (64, 16, 3, 3), padding=1, groups=4)
    yield from conv("conv1d 3", (16, 64, 256), (128, 64, 3), 1, padding=1)
    yield from conv("conv1d depthwise 4", (16, 256, 256), (256, 1, 4), 1, padding=3, groups=256)
    yield from conv("conv3d 3", (2, 16, 16, 32, 32), (32, 16, 3, 3, 3), 3, padding=1)
    yield from rows(
        "conv_transpose2d 4/2",
        lambda L, x, w: F(L).conv_transpose2d(x, w, stride=2, padding=1), (8, 64, 16, 16), (64, 32, 4, 4),
    )  # fmt: skip
    yield from conv("dilated 3x3", (4, 64, 28, 28), (64, 64, 3, 3), padding=2, dilation=2)


@family
def attention() -> Family:
    heads = (8, 8, 128, 64)
    sdpa = lambda **k: lambda L, *a: L.nn.functional.scaled_dot_product_attention(*a, **k)  # noqa: E731
    yield from rows("sdpa", sdpa(), heads, heads, heads)
    yield from rows("sdpa, causal", sdpa(is_causal=True), heads, heads, heads)
    long = (1, 8, 1024, 64)
    yield from rows("sdpa 1024, causal", sdpa(is_causal=True), long, long, long)
    yield from _layer(
        "MultiheadAttention",
        lambda L: L.nn.MultiheadAttention(256, 8, batch_first=True),
        (8, 64, 256),
        3,
    )
    yield from _layer("LSTM 64->128", lambda L: L.nn.LSTM(64, 128, batch_first=True), (16, 32, 64))
    yield from _layer("GRU 64->128", lambda L: L.nn.GRU(64, 128, batch_first=True), (16, 32, 64))
    yield from _layer("LSTMCell 64->128", lambda L: L.nn.LSTMCell(64, 128), (16, 64))
    yield from _layer("GRUCell 64->128", lambda L: L.nn.GRUCell(64, 128), (16, 64), is_pair=False)
    yield from _layer(
        "TransformerEncoderLayer", lambda L: L.nn.TransformerEncoderLayer(128, 4, 256, 0.0, batch_first=True),
        (8, 32, 128), is_pair=False,
    )  # fmt: skip


def _layer(name: str, make: Callable, shape: tuple, times: int = 1, is_pair: bool = True) -> Family:
    layers = {lib: make(lib) for lib in (amity, torch)}

    def run(L, x):
        y = layers[L](*[x] * times)
        return y[0] if is_pair else y

    return rows(name, run, shape)


@family
def products() -> Family:
    yield from rows("bmm 64 x 64", lambda L, a, b: L.bmm(a, b), (64, 64, 64), (64, 64, 64))
    yield from rows("matmul of batches", lambda L, a, b: a @ b, (8, 4, 32, 64), (64, 64))
    yield from rows(
        "einsum bhid,bhjd->bhij",
        lambda L, a, b: L.einsum("bhid,bhjd->bhij", a, b),
        (8, 8, 64, 64),
        (8, 8, 64, 64),
    )
    yield from rows(
        "einsum bij,bjk->bik",
        lambda L, a, b: L.einsum("bij,bjk->bik", a, b),
        (16, 64, 64),
        (16, 64, 64),
    )
    yield from rows("einsum i,j->ij", lambda L, a, b: L.einsum("i,j->ij", a, b), (1024,), (1024,))
    yield from rows("mv", lambda L, a, b: a @ b, (1024, 1024), (1024,))
    yield from rows(
        "linear 64x512x512",
        lambda L, x, w, b: L.nn.functional.linear(x, w, b),
        (64, 512),
        (512, 512),
        (512,),
    )
    yield from rows(
        "baddbmm", lambda L, c, a, b: L.baddbmm(c, a, b), (64, 64, 64), (64, 64, 64), (64, 64, 64)
    )
    spd = np.eye(128, dtype="f4") * 200 + np.ones((128, 128), "f4")
    yield from rows("cholesky 128", lambda L, a: L.linalg.cholesky(a), spd)
    yield from rows("solve 128", lambda L, a, b: L.linalg.solve(a, b), spd, (128, 16))
    yield from rows("inv 128", lambda L, a: L.linalg.inv(a), spd)
    yield from rows("svd 64", lambda L, a: L.linalg.svdvals(a), (64, 64))


@family
def random() -> Family:
    yield from rows("randn 1M", lambda L: L.randn(1024, 1024), grad=False)
    yield from rows("rand 1M", lambda L: L.rand(1024, 1024), grad=False)
    yield from rows("randint 1M", lambda L: L.randint(0, 10, (1024, 1024)), grad=False)
    yield from rows("randperm 10k", lambda L: L.randperm(10_000), grad=False)
    yield from rows("bernoulli_", lambda L, x: x.bernoulli_(0.5), (1024, 1024), grad=False)
    p = np.random.default_rng(0).random((64, 1000), "f4")
    yield from rows("multinomial", lambda L, p: L.multinomial(p, 1), p, grad=False)
    yield from rows("arange 1M", lambda L: L.arange(1_000_000), grad=False)
    yield from rows("full 1M", lambda L: L.full((1024, 1024), 1.5), grad=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)}; all by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    options = parser.parse_args()
    print(f"{'row':44s} {'amity':>11s} {'PyTorch':>11s} {'ratio':>6s}")
    for name in options.families or FAMILIES:
        print(f"-- {name}")
        for row in FAMILIES[name]():
            if options.only in row.name:
                gc.collect()
                gc.disable()
                a, b, ratio = compare(row, options.rounds)
                gc.enable()
                mark = "" if ratio <= 1 else "  slower"
                print(
                    f"{row.name:44s} {a * 1e6:9.2f}us {b * 1e6:9.2f}us {ratio:6.2f}{mark}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
