"""Collation: a list of samples becomes one batch of tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from amity import ops
from amity.core.dtype import float64
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor

EXPECTED = "tensors, NumPy arrays, numbers, strings, mappings or sequences of these"


def default_collate(batch: Sequence[Any]) -> Any:
    """Stack the samples of a batch along a new first dimension, inside mappings and sequences too.

    Tensors and arrays are stacked; ints, floats and bools become a tensor; strings and bytes stay a
    list; mappings, named tuples and lists keep their kind, and tuples become lists.
    dtype:  floats give float64, ints int64, bools bool
    errors: TypeError for any other kind; RuntimeError if samples differ in length or shape

    >>> default_collate([{"x": 1.5, "name": "a"}, {"x": 2.0, "name": "b"}])
    {'x': tensor([1.5000, 2.0000], dtype=amity.float64), 'name': ['a', 'b']}
    """
    if not len(batch):
        raise fail(IndexError, "default_collate", "an empty batch", "one or more samples")
    first = batch[0]
    if isinstance(first, Tensor):
        return ops.stack(batch, 0)
    if isinstance(first, np.ndarray):
        return _stack_arrays(batch)
    if isinstance(first, np.generic) and not _is_text(first.dtype):
        return create.as_tensor(np.asarray(batch))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, float):
        return create.tensor(batch, dtype=float64)
    if isinstance(first, int):
        return create.tensor(batch)
    if isinstance(first, Mapping):
        columns = {key: default_collate([sample[key] for sample in batch]) for key in first}
        return _like_mapping(first, columns)
    if isinstance(first, Sequence):
        return _collate_sequences(first, batch)
    raise fail(TypeError, "default_collate", f"samples of {type(first)}", EXPECTED)


def _is_text(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "SUO"


def _stack_arrays(batch: Sequence[np.ndarray]) -> Tensor:
    first = batch[0]
    if _is_text(first.dtype):
        got = f"arrays of dtype {first.dtype}"
        raise fail(TypeError, "default_collate", got, EXPECTED)
    if all(
        type(x) is type(first) and x.dtype == first.dtype and x.shape == first.shape for x in batch
    ):
        return create.from_numpy(np.stack(batch))
    return ops.stack([create.as_tensor(x) for x in batch], 0)


def _collate_sequences(first: Sequence[Any], batch: Sequence[Any]) -> Any:
    lengths = {len(sample) for sample in batch}
    if len(lengths) > 1:
        got = f"samples of lengths {sorted(lengths)}"
        raise fail(RuntimeError, "default_collate", got, "samples of one length")
    columns = [default_collate(column) for column in zip(*batch)]
    if isinstance(first, tuple):
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    return _like_sequence(first, columns)


def _like_mapping(first: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """`items` as a mapping of the kind of `first`; a dict where that kind cannot be built."""
    try:
        if isinstance(first, MutableMapping):
            clone = copy.copy(first)
            clone.update(items)
            return clone
        return type(first)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _like_sequence(first: Sequence[Any], items: list[Any]) -> Sequence[Any]:
    """`items` as a sequence of the kind of `first`; a list where that kind cannot be built."""
    try:
        if isinstance(first, MutableSequence):
            clone = copy.copy(first)
            for i, item in enumerate(items):
                clone[i] = item
            return clone
        return type(first)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def default_convert(data: Any) -> Any:
    """Turn NumPy arrays into tensors, inside mappings and sequences too; leave the rest as it is.

    >>> default_convert({"x": np.ones(2), "name": "a"})
    {'x': tensor([1., 1.], dtype=amity.float64), 'name': 'a'}
    """
    if isinstance(data, np.ndarray | np.generic):
        return data if _is_text(data.dtype) else create.as_tensor(data)
    if isinstance(data, Tensor | str | bytes):
        return data
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple):
        items = [default_convert(item) for item in data]
        return type(data)(*items) if hasattr(data, "_fields") else items
    if isinstance(data, Sequence):
        return _like_sequence(data, [default_convert(item) for item in data])
    return data


Collate = Callable[[Any], Any]
