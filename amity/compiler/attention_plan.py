"""Plans of attention: which blocks, where they lie in scratch, and the numbers of a call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

from amity.core.layout import Layout
from amity.core.symbolic import bits_of
from amity.ir.target import Target

from .attention import build_attention
from .plan import Launch
from .tile import Tile, best_tile

SCRATCH = 8 << 20  # bytes that each thread has
KEYS, LEAST_KEYS = 256, 32  # of a block
FEW_QUERIES, MANY_QUERIES = 32, 64  # of a block; few compute less beyond a causal diagonal
FEW_HEADS, SHORT_CHUNK, LONG_CHUNK = 16, 4, 12  # blocks of queries that make a task


class Blocks(NamedTuple):
    """Queries and keys of a block, and queries of a task."""

    queries: int
    keys: int
    chunk: int


def plan_attention(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple[list[Launch], list[int]]:
    """Attention, or its gradients where there are three results."""
    role = "forward" if len(outs) == 2 else "gradient"
    q, k, v, *rest = ins
    has_mask = len(ins) > (3 if role == "forward" else 6)
    mask = ins[-1] if has_mask else None
    operands = [*ins[: len(ins) - has_mask], *outs]
    places = [*range(len(ins) - has_mask), *range(len(ins), len(ins) + len(outs))]
    batch, (length, width), (keys, values) = q.shape[:-2], q.shape[-2:], v.shape[-2:]
    heads = prod(batch)
    element = "f64" if q.dtype.code == "f64" else "f32"
    tile = best_tile(target, element)
    queries = FEW_QUERIES if role == "forward" or op.is_causal else MANY_QUERIES
    blocks, words, q_row = blocks_of(tile, role, queries, length, keys, width, values, heads)
    strides = [list(x.strides) for x in operands]
    strides[4] = [*strides[4], 0]  # lse has no columns
    sizes = [x.dtype.itemsize for x in operands]
    temporaries: list[int] = []
    if role == "gradient":  # sums of gradients of queries, where keys come in several blocks
        is_whole = keys <= blocks.keys
        temporaries = [0 if is_whole else heads * length * q_row]
        steps = [length * q_row * prod(batch[i + 1 :]) for i in range(len(batch))]
        strides.append([*(0 if is_whole else s for s in steps), 0, 0])
        sizes.append(1)
        places.append(len(ins) + len(outs))
    if mask is not None:
        strides.append(list(mask.strides))
        sizes.append(mask.dtype.itemsize)
        places.append(len(ins) - 1)
    chunks = max(1, -(-length // blocks.chunk)) if role == "forward" else 1
    moved = [[s * n for s in walk] for walk, n in zip(strides, sizes, strict=True)]
    axes = merged(batch, [walk[:-2] for walk in moved])
    head = [bits_of(op.scale), length, keys, width, values, *blocks, chunks, *words, len(axes)]
    meta = [*head, *(s for walk in moved for s in walk[-2:])]
    meta += [word for axis in axes for word in axis]
    key = ("attention", role, q.dtype.code, op.is_causal, mask.dtype.code if mask else "")
    build = partial(build_attention, key)
    grid = heads * chunks if length or role == "gradient" else 0
    launch = Launch(key, build, meta, places, grid, 1, True, f"attention_{role}")
    return [launch], temporaries


def merged(batch: Sequence[int], strides: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Size and strides of each axis of a batch, the last one first; neighbours joined if they can."""
    out: list[tuple[int, ...]] = []
    for i in reversed(range(len(batch))):
        if batch[i] == 1:
            continue
        steps = tuple(walk[i] for walk in strides)
        if out and all(s == t * out[-1][0] for s, t in zip(steps, out[-1][1:], strict=True)):
            out[-1] = (out[-1][0] * batch[i], *out[-1][1:])
        else:
            out.append((batch[i], *steps))
    return out


def rounded(x: int, unit: int) -> int:
    return -(-x // unit) * unit


def blocks_of(
    tile: Tile, role: str, queries: int, length: int, keys: int, width: int, values: int, heads: int
) -> tuple[Blocks, list[int], int]:
    """Blocks that fit scratch; the words of rows and places there; bytes of a row of queries."""
    size = tile.bytes
    q_row, v_row = (max(1, rounded(n, tile.width)) * size for n in (width, values))
    queries, most = rounded(queries, tile.columns), KEYS
    chunk = queries * (SHORT_CHUNK if heads < FEW_HEADS else LONG_CHUNK)
    while True:
        key_block = min(most, max(keys, 1))
        blocks = Blocks(queries, key_block, chunk if role == "forward" else max(1, length))
        places, total = scratch_of(tile, role, blocks, width, values, q_row, v_row)
        if total <= SCRATCH or most <= LEAST_KEYS:
            break
        most //= 2
    return blocks, [q_row, v_row, queries * size, *places, int(keys <= key_block)], q_row


def scratch_of(
    tile: Tile, role: str, blocks: Blocks, width: int, values: int, q_row: int, v_row: int
) -> tuple[list[int], int]:
    """Where each block lies in scratch, and the bytes of all."""
    size, slack = tile.bytes, 4 * tile.columns * tile.bytes  # of whole vectors
    queries, keys, chunk = blocks
    scores, is_back = keys * queries * size, role == "gradient"
    each = (queries if is_back else chunk) * size  # of what each query keeps
    sizes = [
        width * queries * size, values * queries * size * is_back, queries * q_row,
        queries * v_row, keys * q_row, keys * v_row, (queries if is_back else chunk) * v_row,
        scores, max(scores * is_back, queries * size), queries * q_row * is_back,
        keys * q_row * is_back, keys * v_row * is_back, each, each,
    ]  # fmt: skip
    places, at = [], 0
    for n in sizes:
        places.append(at)
        at += rounded(n + slack, 64)
    return places, at
