"""Compiles the samples of every op, runs nothing, prints what the objects lack."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.engine.symbols import watch

watched = watch()

import amity  # noqa: E402
from amity.ops.record import COMPOSITES, REGISTRY, Pointwise, Sample  # noqa: E402

DTYPES = [amity.bool, amity.uint8, amity.int64, amity.float16, amity.float32, amity.float64]
KINDS = {"f": amity.float32, "p": amity.float32, "i": amity.int64, "b": amity.bool}
LONG = (3, 70)  # has whole vectors and a tail


def argument(given: Any) -> Any:
    """A tensor for what a sample says."""
    if isinstance(given, tuple) and len(given) == 2 and given[1] in KINDS:
        return amity.ones(given[0], dtype=KINDS[given[1]])
    return amity.from_numpy(given.copy()) if isinstance(given, np.ndarray) else given


def pointwise_calls(op: type[Pointwise]) -> Iterator[tuple[str, Any, list]]:
    if op.fields:
        return
    count = getattr(op, "arity", 1)
    for dtype in DTYPES:
        if dtype.kind in op.takes:
            first = [amity.ones(LONG, dtype=amity.bool)] if op.name == "where" else []
            rest = [amity.ones(LONG, dtype=dtype) for _ in range(count - len(first))]
            yield str(dtype), op(), first + rest


def sample_calls(op: Any, samples: list[Sample]) -> Iterator[tuple[str, Any, list]]:
    for s in samples:
        bound = op(**s.attributes) if isinstance(op, type) else partial(op, **s.attributes)
        yield "sample", bound, [argument(x) for x in s.inputs]


def all_calls() -> Iterator[tuple[str, str, Any, list]]:
    for name, op in sorted(REGISTRY.items()):
        if issubclass(op, Pointwise):
            yield from ((name, *call) for call in pointwise_calls(op))
        if not issubclass(op, Pointwise) or op.fields:
            yield from ((name, *call) for call in sample_calls(op, list(op.samples)))
    for name, composite in sorted(COMPOSITES.items()):
        yield from ((name, *call) for call in sample_calls(composite, list(composite.samples)))


def main() -> None:
    done, refused = set(), 0
    for name, kind, call, arguments in all_calls():
        watched.now = f"{name} of {kind}"
        try:
            call(*arguments)
        except RuntimeError as e:
            if "not implemented for" not in str(e):
                raise
            refused += 1
        done.add(name)
    print(f"{watched.kernels} kernels of {len(done)} ops; refused {refused}")
    print(f"missing: {watched.missing}")


if __name__ == "__main__":
    main()
