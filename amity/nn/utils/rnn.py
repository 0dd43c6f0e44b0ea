"""Batches of sequences of different length: packed without padding, or padded.

A packed batch holds, for each step, the values of the sequences that are still running; the
sequences are sorted from long to short, so these are always the first ones.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from amity import ops
from amity.core.dtype import float16, float32, float64, int32, int64
from amity.frontend import create
from amity.frontend.tensor import Tensor

_Fields = namedtuple("_Fields", ["data", "batch_sizes", "sorted_indices", "unsorted_indices"])


class PackedSequence(_Fields):
    """Sequences of different length, step by step without padding.

    `batch_sizes[t]` says how many sequences reach step t; `sorted_indices` and
    `unsorted_indices` lead from the given order to the sorted one and back.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        if batch_sizes.device.type != "cpu":
            raise ValueError(
                "batch_sizes should always be on CPU. Instances of PackedSequence should never be "
                "created manually; use pack_sequence or pack_padded_sequence."
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Move and cast the data, as `Tensor.to`."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        indices = (
            None if i is None else i.to(data.device)
            for i in (self.sorted_indices, self.unsorted_indices)
        )
        return type(self)(data, self.batch_sizes, *indices)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self.to("cpu", *args, **kwargs)

    def double(self) -> PackedSequence:
        return self.to(dtype=float64)

    def float(self) -> PackedSequence:
        return self.to(dtype=float32)

    def half(self) -> PackedSequence:
        return self.to(dtype=float16)

    def long(self) -> PackedSequence:
        return self.to(dtype=int64)

    def int(self) -> PackedSequence:
        return self.to(dtype=int32)

    @property
    def is_cuda(self) -> bool:
        return self.data.is_cuda

    def is_pinned(self) -> bool:
        return self.data.is_pinned()


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes another.

    >>> invert_permutation(None) is None
    True
    """
    return None if permutation is None else ops.argsort(permutation)


def _places(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Batch sizes, and for each packed row its place `step * batch + sequence`."""
    steps = np.arange(lengths[0])
    is_running = lengths[None, :] > steps[:, None]  # (T, B)
    return is_running.sum(1), np.flatnonzero(is_running)


def pack_padded_sequence(
    input: Tensor,
    lengths: Tensor | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Pack a padded batch.

    shape:  input[T, B, *] or, with `batch_first`, [B, T, *]; lengths[B]
    errors: RuntimeError for a length below 1, and for unsorted lengths with `enforce_sorted`
    """
    counts = np.asarray(lengths._array() if isinstance(lengths, Tensor) else lengths)
    counts = counts.astype(np.int64)
    order = None
    if not enforce_sorted:
        permutation = np.argsort(-counts, kind="stable")
        counts = counts[permutation]
        order = create.from_numpy(permutation).to(input.device)
        input = input.index_select(0 if batch_first else 1, order)
    if batch_first:
        input = input.transpose(0, 1)
    if counts.shape != (input.shape[1],):
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {counts.size} "
            f"(batch_size={input.shape[1]})"
        )
    if counts.size == 0 or counts.min() <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            "that is <= 0"
        )
    if (np.diff(counts) > 0).any():
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
            "You can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence."
        )
    if counts[0] > input.shape[0]:
        raise RuntimeError(
            f"pack_padded_sequence: got a length of {counts[0]}; expected at most {input.shape[0]}"
        )
    sizes, places = _places(counts)
    rows = input.reshape(input.shape[0] * input.shape[1], *input.shape[2:])
    data = rows.index_select(0, create.from_numpy(places).to(input.device))
    return PackedSequence(data, create.from_numpy(sizes), order, None)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Pad a packed batch; gives the batch and the lengths.

    shape:  -> [T, B, *] or, with `batch_first`, [B, T, *]; lengths[B]
    errors: ValueError for a `total_length` below the longest sequence
    """
    sizes = sequence.batch_sizes._array()
    steps, batch = len(sizes), int(sizes[0])
    if total_length is not None:
        if total_length < steps:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in "
                f"input, but got total_length={total_length} and max sequence length being {steps}"
            )
        steps = total_length
    lengths = (sizes[:, None] > np.arange(batch)[None, :]).sum(0)
    data = sequence.data
    _, places = _places(lengths)
    source = np.full(steps * batch, data.shape[0])  # one row more than there is: the padding
    source[places] = np.arange(data.shape[0])
    pad = create.full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    rows = ops.cat([data, pad]).index_select(0, create.from_numpy(source).to(data.device))
    out = rows.reshape(steps, batch, *data.shape[1:])
    if batch_first:
        out = out.transpose(0, 1)
    length = create.from_numpy(lengths)
    order = sequence.unsorted_indices
    if order is not None:
        out = out.index_select(0 if batch_first else 1, order)
        length = length.index_select(0, order.cpu())
    return out, length


def pad_sequence(
    sequences: Tensor | Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Pad sequences to the longest and stack them.

    shape: B times [L, *] -> [T, B, *] or, with `batch_first`, [B, T, *]
    """
    if isinstance(sequences, Tensor):
        sequences = sequences.unbind(0)
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: "
            f"{type(sequences)}"
        )
    if padding_side not in ("right", "left"):
        raise ValueError(
            f"Expected padding_side to be one of left or right, but got {padding_side}."
        )
    sequences = tuple(sequences)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    longest = max(s.shape[0] for s in sequences)
    padded = []
    for sequence in sequences:
        missing = longest - sequence.shape[0]
        ends = (0, missing) if padding_side == "right" else (missing, 0)
        borders = (0, 0) * (sequence.dim() - 1) + ends
        padded.append(
            ops.pad(sequence, borders, "constant", padding_value) if missing else sequence
        )
    return ops.stack(padded, 0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded batch."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    pairs = zip(padded_sequences.unbind(0), lengths.tolist(), strict=True)
    return [sequence[:length] for sequence, length in pairs]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences, each [L, *]."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed batch."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
