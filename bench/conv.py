"""Convolutions against PyTorch in one process: `python bench/conv.py [--threads N] [name…]`.

Prints GFLOP/s (2 * products, whatever the algorithm) and the ratio of times, forward and backward
(both gradients). Every result is checked in double precision first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

import amity
from amity.ops.convolution import ConvGradInput, ConvGradWeight, Convolution

SHAPES = {  # batch, channels, size, outputs, kernel, stride, padding, groups
    "3x3 64x56": (8, 64, 56, 64, 3, 1, 1, 1),
    "3x3 128x28": (8, 128, 28, 128, 3, 1, 1, 1),
    "3x3 256x14": (8, 256, 14, 256, 3, 1, 1, 1),
    "3x3 512x7": (8, 512, 7, 512, 3, 1, 1, 1),
    "7x7/2 stem": (8, 3, 224, 64, 7, 2, 3, 1),
    "1x1 256x56-64": (8, 256, 56, 64, 1, 1, 0, 1),
    "1x1 64x56-256": (8, 64, 56, 256, 1, 1, 0, 1),
    "1x1 512x7-2048": (8, 512, 7, 2048, 1, 1, 0, 1),
    "3x3/2 64x56-128": (8, 64, 56, 128, 3, 2, 1, 1),
    "3x3/2 256x14-512": (8, 256, 14, 512, 3, 2, 1, 1),
    "1x1/2 64x56-128": (8, 64, 56, 128, 1, 2, 0, 1),
    "3x3 256x14 batch 1": (1, 256, 14, 256, 3, 1, 1, 1),
    "3x3 64x56 batch 1": (1, 64, 56, 64, 3, 1, 1, 1),
    "depthwise 144x56": (8, 144, 56, 144, 3, 1, 1, 144),
    "depthwise 384x14": (8, 384, 14, 384, 3, 1, 1, 384),
    "groups 32 128x56": (8, 128, 56, 128, 3, 1, 1, 32),
    "digits 1x28-32": (64, 1, 28, 32, 3, 1, 1, 1),
}


def best(runs: list[Callable[[], object]], clock: Callable[[], float], repeats: int) -> list[float]:
    """Seconds of each, the least of interleaved repeats."""
    times = [[] for _ in runs]
    for run in runs:
        run()
    for _ in range(repeats):
        for i, run in enumerate(runs):
            start = clock()
            run()
            times[i].append(clock() - start)
    return [min(t) for t in times]


def check(got: amity.Tensor, expected: torch.Tensor, what: str) -> None:
    error = np.abs(got.numpy() - expected.numpy()).max() / np.abs(expected.numpy()).max()
    assert error < 2e-5, f"{what}: error {error}"


def measure(name: str, clock: Callable[[], float]) -> str:
    n, c, size, o, k, s, p, groups = SHAPES[name]
    x, w = torch.randn(n, c, size, size), torch.randn(o, c // groups, k, k)
    y = torch.conv2d(x, w, None, s, p, 1, groups)
    g = torch.randn_like(y)
    ax, aw, ag = (amity.from_numpy(t.numpy()) for t in (x, w, g))
    fields = ((s, s), (p, p), (1, 1), groups)
    forward = Convolution(*fields)
    grad_x, grad_w = ConvGradInput(*fields, (size, size)), ConvGradWeight(*fields, (k, k))

    def torch_backward(x=x, w=w, g=g):
        return torch.ops.aten.convolution_backward(
            g, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], groups, [True, True, False]
        )

    exact = torch.conv2d(x.double(), w.double(), None, s, p, 1, groups)
    gx, gw, _ = torch_backward(x.double(), w.double(), g.double())
    check(forward(ax, aw), exact, "forward")
    check(grad_x(ag, aw), gx, "grad_input")
    check(grad_w(ax, ag), gw, "grad_weight")
    runs = [
        lambda: forward(ax, aw),
        lambda: torch.conv2d(x, w, None, s, p, 1, groups),
        lambda: (grad_x(ag, aw), grad_w(ax, ag)),
        torch_backward,
    ]
    work = 2 * y.numel() * c // groups * k * k / 1e9
    ours, theirs, back, back_theirs = best(runs, clock, 9)
    line = f"{name:20s}"
    for what, gf, a, b in (
        ("forward", work, ours, theirs),
        ("backward", 2 * work, back, back_theirs),
    ):
        line += f" {what} {gf / a:6.0f} vs {gf / b:6.0f} GF {b / a:6.2f}x  "
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    amity.set_num_threads(args.threads)
    # of one thread the time of its own work counts, whatever else the machine does
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    for name in SHAPES:
        if not args.names or any(word in name for word in args.names):
            print(measure(name, clock), flush=True)


if __name__ == "__main__":
    main()
