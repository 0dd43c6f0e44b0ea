"""`vmap`: a function of single entries as a function of whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from amity.core.tree import Nest, flatten, spread
from amity.ops.batching import back, front
from amity.ops.joining import cat

from .batched import Level, entered, entries, is_batched, repeated, wrapped
from .tensor import Tensor

RANDOMNESS = ("error", "different", "same")
Dims = int | None | tuple


def vmap(
    func: Callable, in_dims: Dims = 0, out_dims: Dims = 0, randomness: str = "error", *,
    chunk_size: int | None = None,
) -> Callable:  # fmt: skip
    """A function that maps `func` over a dimension of its inputs, all entries at once.

    Inside, ops see single entries. `randomness` says what random numbers do: each entry gets
    "different" ones, all get the "same", or asking for any is an "error".

    errors: ValueError for dims that do not fit the inputs or results; RuntimeError where the body
            needs to look at values

    >>> import amity
    >>> amity.vmap(amity.dot)(amity.ones(3, 2), amity.ones(3, 2))
    tensor([2., 2., 2.])
    """
    if randomness not in RANDOMNESS:
        raise RuntimeError(
            f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}"
        )
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
    name = getattr(func, "__name__", repr(func))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        leaves, nest = flatten(args)
        dims = _in_dims(name, in_dims, leaves, nest)
        size = _size(name, leaves, dims)

        def body(part: Sequence[Any], count: int) -> tuple[list[Any], Nest, list[Any]]:
            return _run(name, func, nest, part, dims, count, kwargs, out_dims, randomness)

        if chunk_size is None or size <= chunk_size:
            outs, made, _ = body(leaves, size)
            return made.fill(outs)
        cuts = [
            x.split(chunk_size, d) if d is not None else None
            for x, d in zip(leaves, dims, strict=True)
        ]
        done = []
        for i, start in enumerate(range(0, size, chunk_size)):
            part = [x if c is None else c[i] for x, c in zip(leaves, cuts, strict=True)]
            done.append(body(part, min(chunk_size, size - start)))
        _, made, where = done[0]
        columns = zip(*(outs for outs, _, _ in done), strict=True)
        return made.fill(
            [c[0] if d is None else cat(c, d) for c, d in zip(columns, where, strict=True)]
        )

    return wraps(func)(wrapper) if hasattr(func, "__name__") else wrapper


def _run(
    name: str, func: Callable, nest: Nest, leaves: Sequence[Any], dims: Sequence[int | None], size: int,
    kwargs: dict[str, Any], out_dims: Dims, randomness: str,
) -> tuple[list[Any], Nest, list[Any]]:  # fmt: skip
    """One call of the body on a batch: its results, their nest, and where their batch is."""
    with entered(size, randomness) as level:
        inner = [
            x if d is None else wrapped(front(x, d), level.number)
            for x, d in zip(leaves, dims, strict=True)
        ]
        outs, made = flatten(func(*nest.fill(inner), **kwargs))
        where = _out_dims(name, out_dims, outs, made)
    return [_result(name, t, d, level) for t, d in zip(outs, where, strict=True)], made, where


def _result(name: str, t: Any, dim: int | None, level: Level) -> Tensor:
    value = entries(t, level)
    if dim is None:
        if value is not None:
            raise ValueError(
                f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None"
            )
        return t.layout.value if is_batched(t) and t.layout.level == level.number else t
    value = repeated(t, level) if value is None else value
    if not -value.ndim <= dim < value.ndim:
        raise IndexError(
            f"vmap({name}, ...): got out_dim={dim}: Dimension out of range (expected to be in range of "
            f"[{-value.ndim}, {value.ndim - 1}])"
        )
    return back(value, dim % value.ndim)


def _in_dims(name: str, in_dims: Any, leaves: Sequence[Any], nest: Nest) -> list[int | None]:
    head = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, (int, tuple, list, type(None))):
        raise ValueError(
            f"{head}expected `in_dims` to be int or a (potentially nested) tuple matching the "
            f"structure of inputs, got: {type(in_dims)}."
        )
    if not leaves:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying "
            "to vmap over a function with no inputs. The latter is unsupported."
        )
    dims = spread(tuple(in_dims) if isinstance(in_dims, list) else in_dims, nest)
    if dims is None:
        raise ValueError(
            f"{head}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{flatten(in_dims)[1]} but inputs has structure {nest}."
        )
    out: list[int | None] = []
    for x, d in zip(leaves, dims, strict=True):
        if d is not None and not isinstance(d, int):
            raise ValueError(
                f"{head}Got in_dim={d} for an input but in_dim must be either an integer dimension or "
                "None."
            )
        if d is not None and not isinstance(x, Tensor):
            raise ValueError(
                f"{head}Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap "
                "over non-Tensor arguments, please use None as the respective in_dim"
            )
        if d is not None and not -x.ndim <= d < x.ndim:
            raise ValueError(
                f"{head}Got in_dim={d} for some input, but that input is a Tensor of dimensionality "
                f"{x.ndim} so expected in_dim to satisfy -{x.ndim} <= in_dim < {x.ndim}."
            )
        out.append(None if d is None else d % x.ndim)
    return out


def _size(name: str, leaves: Sequence[Any], dims: Sequence[int | None]) -> int:
    sizes = [x.shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None]
    if not sizes:
        raise ValueError(
            f"vmap({name})(<inputs>): got no input to map over: expected a dimension in in_dims"
        )
    if len(set(sizes)) > 1:
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return sizes[0]


def _out_dims(name: str, out_dims: Any, outs: Sequence[Any], made: Nest) -> list[int | None]:
    for t in outs:
        if not isinstance(t, Tensor):
            raise ValueError(
                f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(t)}. Did you "
                "mean to set out_dims= to None for output?"
            )
    dims = spread(out_dims, made)
    if dims is None and isinstance(out_dims, tuple) and len(out_dims) == 1 and len(outs) == 1:
        dims = list(out_dims)
    if dims is None and isinstance(out_dims, tuple) and made.kind is list:
        dims = spread(list(out_dims), made)
    if dims is None or not all(d is None or isinstance(d, int) for d in dims):
        raise ValueError(
            f"vmap({name}, ..., out_dims={out_dims}): out_dims is not compatible with the structure of "
            f"`outputs`. out_dims has structure {flatten(out_dims)[1]} but outputs has structure {made}."
        )
    return dims
