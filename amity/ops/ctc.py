"""Connectionist temporal classification: the likelihood of a sequence over all its alignments.

source: Graves et al. 2006, ICML, section 4.1. The forward variables run over the target with a
blank before, between and after its labels; they are kept as logarithms, impossible ones as a
large negative number, whose gradients stay finite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amity.core.dtype import int32, int64

from .elementwise import exp, log, maximum
from .gather import gather
from .movement import Embed, Slice
from .position import Position
from .record import Sample, composite
from .select import where

IMPOSSIBLE = -1e30
F = "f"


def _later(alpha, by: int):
    """The variables moved to later places; nothing comes before the first."""
    size = alpha.shape[1]
    count = max(size - by, 0)
    moved = Embed(1, min(by, size), 1, size)(Slice(1, 0, count, 1)(alpha))
    return where(Position(1)(alpha) >= by, moved, IMPOSSIBLE)


@composite(samples=(Sample(((2, 5), F), ((2, 5), F), ((2, 5), "b"), ((2, 1), "b")),))
def ctc_step(alpha, emitted, may_skip, is_running):
    """Forward variables one step on: from the same place, the one before, or past a blank.

    shape: alpha, emitted, may_skip [N, L], is_running [N, 1] -> [N, L]
    """
    one = _later(alpha, 1)
    two = where(may_skip, _later(alpha, 2), IMPOSSIBLE)
    top = maximum(maximum(alpha, one), two).detach()
    total = log(exp(alpha - top) + exp(one - top) + exp(two - top)) + top
    return where(is_running, total + emitted, alpha)


def _lengths(name: str, lengths: Any, batch: int) -> np.ndarray:
    values = lengths.numpy() if hasattr(lengths, "layout") else np.asarray(lengths)
    if values.dtype.kind not in "iu":
        raise RuntimeError(f"ctc_loss: got {name} of {values.dtype}; expected integers")
    values = values.astype(np.int64).reshape(-1)
    if values.size != batch:
        raise RuntimeError(f"ctc_loss: {name} must be of size batch_size, got {values.size}")
    if values.size and values.min() < 0:
        raise RuntimeError(f"ctc_loss: got a negative one among {name}; expected lengths")
    return values


def _labels(targets, lengths: np.ndarray) -> np.ndarray:
    """The labels of each sequence, a row each; what lies behind the end is any number."""
    if targets.dtype not in (int32, int64):
        raise RuntimeError(f"ctc_loss: got targets of {targets.dtype}; expected integers")
    array, longest = targets.numpy().astype(np.int64), int(lengths.max(initial=0))
    if array.ndim == 2:
        if array.shape[0] != lengths.size or array.shape[1] < longest:
            raise RuntimeError(
                f"ctc_loss: Expected tensor to have size at least {longest} at dimension 1, but "
                f"got size {list(array.shape)} for argument targets"
            )
        return array[:, :longest]
    if array.ndim != 1 or array.size != lengths.sum():
        raise RuntimeError(
            f"ctc_loss: got targets of shape {list(array.shape)}; expected [N, S], or all "
            f"{int(lengths.sum())} labels in one dimension"
        )
    rows = np.zeros((lengths.size, longest), np.int64)
    rows[np.arange(longest)[None, :] < lengths[:, None]] = array
    return rows


def _check(log_probs, blank: int, longest: int, reduction: str) -> None:
    if log_probs.dtype.kind != "f":
        raise RuntimeError(f"ctc_loss: got log_probs of {log_probs.dtype}; expected floats")
    if not 0 <= blank < log_probs.shape[2]:
        raise RuntimeError("ctc_loss: blank must be in label range")
    if longest > log_probs.shape[0]:
        raise RuntimeError(
            f"ctc_loss: Expected input_lengths to have value at most {log_probs.shape[0]}, but "
            f"got value {longest}"
        )
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")


def _negative_log_likelihood(x, rows: np.ndarray, steps: np.ndarray, lengths: np.ndarray, blank):
    """shape: x [T, N, C], rows [N, S] -> [N]"""
    batch, size = rows.shape[0], 2 * rows.shape[1] + 1
    path = np.full((batch, size), blank)
    path[:, 1::2] = rows
    may_skip = np.zeros((batch, size), bool)
    may_skip[:, 2:] = path[:, 2:] != path[:, :-2]  # never from blank to blank
    places = x.new_tensor(path, dtype=int64).unsqueeze(0).expand(x.shape[0], batch, size)
    emitted = gather(x, 2, places).unbind(0)
    first = np.full((batch, size), IMPOSSIBLE)
    first[:, 0] = 0
    first[lengths > 0, 1:2] = 0
    alpha = x.new_tensor(first)
    alpha = where(x.new_tensor(steps[:, None] > 0).bool(), alpha + emitted[0], alpha)
    skip = x.new_tensor(may_skip).bool()
    for t in range(1, int(steps.max(initial=0))):
        running = x.new_tensor(steps[:, None] > t).bool()
        alpha = ctc_step(alpha, emitted[t], skip, running)
    ends = np.stack([2 * lengths, np.maximum(2 * lengths - 1, 0)], 1)
    last = gather(alpha, 1, x.new_tensor(ends, dtype=int64))
    alone = np.stack([np.zeros_like(lengths, bool), lengths == 0], 1)
    last = where(x.new_tensor(alone).bool(), IMPOSSIBLE, last)
    return -last.logsumexp(1)


def ctc_loss(
    log_probs,
    targets,
    input_lengths,
    target_lengths,
    blank=0,
    reduction="mean",
    zero_infinity=False,
):
    """The negative log likelihood of `targets`, summed over all alignments with the input.

    The gradient is the one with respect to the logits before a log softmax, as PyTorch's is; a
    log softmax before this loss leaves it as it is.

    shape:  log_probs [T, N, C] or [T, C]; targets [N, S] or [sum of lengths]; lengths [N]
    errors: RuntimeError for lengths or labels that do not fit
    source: Graves et al. 2006, ICML
    """
    is_batched = log_probs.ndim == 3
    x = log_probs if is_batched else log_probs.unsqueeze(1)
    steps = _lengths("input_lengths", input_lengths, x.shape[1])
    lengths = _lengths("target_lengths", target_lengths, x.shape[1])
    _check(x, blank, int(steps.max(initial=0)), reduction)
    rows = _labels(targets if is_batched or targets.ndim == 1 else targets.reshape(-1), lengths)
    is_label = np.arange(rows.shape[1])[None, :] < lengths[:, None]
    if (rows[is_label] < 0).any() or (rows[is_label] >= x.shape[2]).any():
        raise RuntimeError(f"ctc_loss: got a label out of range; expected 0 to {x.shape[2] - 1}")
    loss = _negative_log_likelihood(x, np.where(is_label, rows, blank), steps, lengths, blank)
    seen = x.new_tensor(np.arange(x.shape[0])[:, None] < steps[None, :]).unsqueeze(2)
    mass = (exp(x) * seen).sum((0, 2))
    loss = loss + (mass - mass.detach())  # no value; its gradient is the softmax's part
    loss = where(loss.detach() > -IMPOSSIBLE / 2, 0.0 if zero_infinity else math.inf, loss)
    if reduction == "mean":
        return (loss / x.new_tensor(np.maximum(lengths, 1))).mean()
    if reduction == "sum":
        return loss.sum()
    return loss if is_batched else loss.squeeze(0)
