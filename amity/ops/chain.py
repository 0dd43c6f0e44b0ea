"""The product of several matrices, in the order that takes the fewest multiplications."""

from __future__ import annotations

from .matmul import matmul
from .record import deliver


def _cheapest(sizes: list[int]) -> list[list[int]]:
    """Where to split each chain of matrices so that multiplications are fewest."""
    n = len(sizes) - 1
    cost, split = [[0] * n for _ in range(n)], [[0] * n for _ in range(n)]
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            choices = [
                (cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i][j], split[i][j] = min(choices)
    return split


def multi_dot(tensors, *, out=None):
    """The product of several matrices in the cheapest order; the ends may be vectors."""
    ts = list(tensors)
    if len(ts) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(ts)}")
    ends = ts[0].ndim == 1, ts[-1].ndim == 1
    ts[0] = ts[0].unsqueeze(0) if ends[0] else ts[0]
    ts[-1] = ts[-1].unsqueeze(1) if ends[1] else ts[-1]
    for i, t in enumerate(ts):
        if t.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {t.ndim}D")
    split = _cheapest([t.shape[0] for t in ts] + [ts[-1].shape[1]])

    def product(i: int, j: int):
        if i == j:
            return ts[i]
        return matmul(product(i, split[i][j]), product(split[i][j] + 1, j))

    y = product(0, len(ts) - 1)
    y = y.squeeze(0) if ends[0] else y
    return deliver(y.squeeze(-1) if ends[1] else y, out)
