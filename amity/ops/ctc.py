"""Connectionist temporal classification: the likelihood of a sequence over all its alignments.

source: Graves et al. 2006, ICML, section 4.1. The forward variables run over the target with a
blank before, between and after its labels; they are kept as logarithms, impossible ones as a
large negative number, whose gradients stay finite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amity.core.dtype import bool_, int32, int64
from amity.ir.graph import Spec

from .elementwise import exp
from .record import ErrorSample, Op, Sample, opmath, unlike
from .select import where

IMPOSSIBLE = -1e30
MARGIN, LANES = 2, 16  # impossible places around a row of variables, and what its length divides by
LONGEST_ROW = 4 << 20  # bytes


def _check_floats(x: Spec) -> None:
    if x.dtype.kind != "f":
        raise unlike("ctc_loss", x.dtype, "f")


def _rows(x, path, steps, first):
    """The log probabilities along the paths, and empty variables."""
    emitted = np.take_along_axis(
        x.transpose(1, 0, 2), np.broadcast_to(path[:, None], (len(path), len(x), path.shape[1])), 2
    )
    return emitted.astype(first.dtype), np.full(emitted.shape, IMPOSSIBLE, first.dtype)


def _of_sample(x, steps=(5, 5)) -> tuple:
    """Two sequences in four classes: `aab` and `c`."""
    rows = np.array([[1, 1, 2], [3, 0, 0]])
    return _paths(x, rows, np.array(steps), np.array([3, 1]), 0)


def _of_sample_grad(x, g) -> tuple:
    paths = _of_sample(x, (5, 3))
    return *paths, *CtcPaths()(*paths), g


class CtcPaths(Op):
    """The negative log likelihood of each sequence, and the forward variables behind it: a
    by-product, which holds anything behind a sequence's end.

    shape: x [T, N, C]; path, skip, first [N, L + MARGIN]; steps, lengths [N]
    """

    name = "ctc_paths"
    kind = "kernel"
    planner = "ctc"
    results = 2
    byproducts = (1,)
    no_second_gradient = "what fits by it asks for the first alone, as PyTorch's"
    samples = (Sample(((5, 2, 4), "f"), through=_of_sample),)
    errors = (
        ErrorSample(((5, 2, 4), "i"), through=_of_sample, error=NotImplementedError, says="'Long'"),
    )

    def infer(self, x: Spec, path: Spec, skip: Spec, first: Spec, steps: Spec, lengths: Spec):
        _check_floats(x)
        if path.shape[1] * 32 > LONGEST_ROW:
            raise RuntimeError(
                f"ctc_loss: got paths of {path.shape[1]} places; expected shorter targets"
            )
        shape = (x.shape[1], x.shape[0], path.shape[1])
        return Spec((x.shape[1],), x.dtype), Spec(shape, first.dtype)

    def reference(self, x, path, skip, first, steps, lengths):
        emitted, alpha = _rows(x, path, steps, first)
        alpha[:, 0, MARGIN:] = first[:, :-MARGIN] + emitted[:, 0, :-MARGIN] * (steps > 0)[:, None]
        may_skip = np.where(skip[:, :-MARGIN], 0, 2 * IMPOSSIBLE)
        for t in range(1, x.shape[0]):
            old = alpha[:, t - 1]
            ways = [old[:, 2:], old[:, 1:-1], old[:, :-2] + may_skip]
            alpha[:, t, MARGIN:] = np.logaddexp.reduce(ways) + emitted[:, t, :-MARGIN]
        n = np.arange(len(path))
        last = alpha[n, np.maximum(steps - 1, 0)]
        end = last[n, 2 * lengths + MARGIN]
        before = np.where(lengths > 0, last[n, 2 * lengths + MARGIN - 1], IMPOSSIBLE)
        return -np.logaddexp(end, before), alpha

    def grad(self, gs, x, path, skip, first, steps, lengths, result0, result1):
        g = gs[0]
        if g is None:
            return (None,) * 6
        gx = CtcGrad()(x, path, skip, first, steps, lengths, result0, result1, g)
        return gx, None, None, None, None, None


class CtcGrad(Op):
    """The gradient of the log probabilities: minus how likely paths go through each label."""

    name = "ctc_grad"
    kind = "kernel"
    planner = "ctc"
    no_gradient = CtcPaths.no_second_gradient
    samples = (Sample(((5, 2, 4), "f"), ((2,), "f"), through=_of_sample_grad),)
    errors = (
        ErrorSample(((5, 2, 4), "i"), ((2,), "i"), through=lambda x, g: (x,) * 8 + (g,),
                    error=NotImplementedError, says="'Long'"),
    )  # fmt: skip

    def infer(self, x: Spec, path, skip, first, steps, lengths, loss, alpha, g) -> Spec:
        _check_floats(x)
        return Spec(x.shape, x.dtype)

    def reference(self, x, path, skip, first, steps, lengths, loss, alpha, g):
        emitted, _ = _rows(x, path, steps, first)
        out, size = np.zeros_like(x), path.shape[1] - MARGIN
        for n in range(len(path)):
            beta = np.full(size + MARGIN, IMPOSSIBLE)
            for t in reversed(range(steps[n])):
                ahead = np.where(skip[n, MARGIN:], 0, 2 * IMPOSSIBLE)
                later = np.logaddexp.reduce([beta[:size], beta[1 : size + 1], beta[2:] + ahead])
                if t == steps[n] - 1:
                    later = np.full(size, IMPOSSIBLE)
                    later[max(2 * lengths[n] - 1, 0) : 2 * lengths[n] + 1] = 0
                share = np.exp(np.minimum(alpha[n, t, MARGIN:] + later + loss[n], 0)) * g[n]
                ends = 2 * lengths[n] + 1
                np.subtract.at(out[t, n], path[n, :ends], share[:ends])
                beta[:size] = later + emitted[n, t, :size]
        return out

    def grad(self, g, like_x):
        raise RuntimeError("the derivative for 'ctc_loss_backward' is not implemented")


def _lengths(name: str, lengths: Any, batch: int) -> np.ndarray:
    values = lengths._array() if hasattr(lengths, "layout") else np.asarray(lengths)
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
    array, longest = targets._array().astype(np.int64), int(lengths.max(initial=0))
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
    return CtcPaths()(*_paths(x, rows, steps, lengths, blank))[0]


def _paths(x, rows: np.ndarray, steps: np.ndarray, lengths: np.ndarray, blank: int) -> tuple:
    """What the ops take."""
    batch, size = rows.shape[0], 2 * rows.shape[1] + 1
    wide = -(-size // LANES) * LANES + MARGIN
    path = np.full((batch, wide), blank)
    path[:, 1:size:2] = rows
    may_skip = np.zeros((batch, wide), bool)
    may_skip[:, 2:size] = (
        path[:, 2:size] != path[:, : max(size - 2, 0)]
    )  # never from blank to blank
    first = np.full((batch, wide), IMPOSSIBLE)
    first[:, 0] = 0
    first[lengths > 0, 1:2] = 0
    start = x.new_tensor(first, dtype=opmath(x.dtype))
    whole = [x.new_tensor(v, dtype=int64) for v in (path, steps, lengths)]
    skip = x.new_tensor(may_skip, dtype=bool_)
    return x, whole[0], skip, start, whole[1], whole[2]


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
    if x.shape[0] == 0:
        raise RuntimeError("ctc_loss: got no time steps; expected at least one")
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
