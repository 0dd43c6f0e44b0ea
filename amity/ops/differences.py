"""Slopes of sampled functions by differences of neighbours.

source: Fornberg 1988, Math. Comp. 51 (the weights of three unevenly spaced points)
"""

from __future__ import annotations

from amity.core.shape import canonical_dims

from .joining import cat


def _steps(x, d: int, rank: int):
    """Distances of neighbouring coordinates, along dimension d of a tensor."""
    n = x.shape[0]
    shape = tuple(n - 1 if i == d else 1 for i in range(rank))
    return (x.narrow(0, 1, n - 1) - x.narrow(0, 0, n - 1)).reshape(shape)


def _three(y, d: int, start: int, count: int, weights):
    """Weighted sums of three neighbours each, from `start` on."""
    return sum(w * y.narrow(d, start + i, count) for i, w in enumerate(weights))


def _edge(y, d: int, h, at_end: bool, edge_order: int):
    """The slope at an end; the step h is a number or holds all distances."""
    n = y.shape[d]
    near = h if isinstance(h, (int, float)) else h.narrow(d, n - 2 if at_end else 0, 1)
    if edge_order == 1:
        start = n - 2 if at_end else 0
        return (y.narrow(d, start + 1, 1) - y.narrow(d, start, 1)) / near
    far = h if isinstance(h, (int, float)) else h.narrow(d, n - 3 if at_end else 1, 1)
    both = near + far
    weights = [-(near + both) / (near * both), both / (near * far), -near / (far * both)]
    if at_end:
        weights = [-w for w in reversed(weights)]
    return _three(y, d, n - 3 if at_end else 0, 1, weights)


def _slope(y, d: int, h, edge_order: int):
    n = y.shape[d]
    parts = [_edge(y, d, h, False, edge_order), _edge(y, d, h, True, edge_order)]
    if n > 2 and isinstance(h, (int, float)):
        parts.insert(1, (y.narrow(d, 2, n - 2) - y.narrow(d, 0, n - 2)) / (2 * h))
    elif n > 2:
        a, b = h.narrow(d, 0, n - 2), h.narrow(d, 1, n - 2)
        weights = (-b / (a * (a + b)), (b - a) / (a * b), a / (b * (a + b)))
        parts.insert(1, _three(y, d, 0, n - 2, weights))
    return cat(parts, d)


def gradient(input, *, spacing=1, dim=None, edge_order=1):
    """The slope of a sampled function along each dimension, exact for parabolas between the ends.

    `spacing` is one distance, one for each dimension, or the coordinates along each as tensors.

    errors: RuntimeError for other counts of spacings or dimensions that are too short
    """
    order = [dim] if isinstance(dim, int) else list(range(input.ndim) if dim is None else dim)
    canonical_dims("gradient", order, input.ndim)
    order = [d % input.ndim for d in order]
    is_one = isinstance(spacing, (int, float)) or hasattr(spacing, "layout")
    steps = [spacing] * len(order) if is_one else list(spacing)
    if len(steps) != len(order):
        raise RuntimeError(
            f"gradient: got {len(steps)} spacings for {len(order)} dimensions; expected as many"
        )
    if edge_order not in (1, 2):
        raise RuntimeError(
            f"gradient: got edge_order={edge_order}; only supports edge_order=1 and 2"
        )
    out = []
    for d, h in zip(order, steps, strict=True):
        if input.shape[d] < edge_order + 1:
            raise RuntimeError(
                f"gradient: got size {input.shape[d]} in dimension {d}; expected each dimension size to "
                "be at least edge_order+1"
            )
        if hasattr(h, "layout"):
            if h.ndim != 1 or h.shape[0] != input.shape[d]:
                raise RuntimeError(
                    f"gradient: got coordinates of shape {list(h.shape)} for dimension {d}; expected "
                    f"[{input.shape[d]}]"
                )
            h = _steps(h, d, input.ndim)
        out.append(_slope(input, d, h, edge_order))
    return out
