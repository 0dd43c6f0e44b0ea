"""Compiles the samples of every op, runs nothing, prints what the objects lack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.engine.symbols import watch

watched = watch()

import amity  # noqa: E402
from amity.ops.record import COMPOSITES, REGISTRY, Pointwise  # noqa: E402
from tests.ops.samples import bound, given  # noqa: E402

DTYPES = [amity.bool, amity.uint8, amity.int64, amity.float16, amity.float32, amity.float64]
LONG = (3, 70)  # has whole vectors and a tail


def pointwise_calls(op: type[Pointwise]) -> Iterator[tuple[str, Any, list]]:
    if op.fields:
        return
    count = getattr(op, "arity", 1)
    for dtype in DTYPES:
        if dtype.kind in op.takes:
            first = [amity.ones(LONG, dtype=amity.bool)] if op.name == "where" else []
            rest = [amity.ones(LONG, dtype=dtype) for _ in range(count - len(first))]
            yield str(dtype), op(), first + rest


def sample_calls(name: str, op: Any) -> Iterator[tuple[str, Any, list]]:
    for sample in op.samples:
        yield "sample", bound(op, sample), given(name, sample)


def all_calls() -> Iterator[tuple[str, str, Any, list]]:
    for name, op in sorted(REGISTRY.items()):
        if issubclass(op, Pointwise):
            yield from ((name, *call) for call in pointwise_calls(op))
        if not issubclass(op, Pointwise) or op.fields:
            yield from ((name, *call) for call in sample_calls(name, op))
    for name, composite in sorted(COMPOSITES.items()):
        yield from ((name, *call) for call in sample_calls(name, composite))


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
