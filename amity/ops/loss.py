"""Losses, each one fused op. `reduction` is "mean", "sum" or "none"."""

from __future__ import annotations

import math
import warnings

import numpy as np

from amity.core.shape import broadcast_shapes

from .activation import _log_softmax, _softplus_of
from .elementwise import ABS, EXP, LOG, NEG, maximum
from .gather import Gather, Scatter
from .indexing import Index
from .position import Position
from .record import ErrorSample, Sample, composite
from .reduce import PEAK, SUM
from .select import WHERE

F = "f"
PAIR = (
    Sample(((3, 4), F), ((3, 4), F)),
    Sample(((3, 4), F), ((3, 4), F), reduction="none"),
    Sample(((3,), F), ((3,), F), reduction="sum"),
)
UNLIKE = (ErrorSample(((2,), F), ((3,), F), error=RuntimeError, says="broadcast"),)
CLASSES, PLACES = np.array([2, 0, 3]), np.array([[1, 0], [-100, 2]])
CERTAIN = ((3, 4), "u")


def reduction_of(size_average, reduce, reduction: str) -> str:
    """The reduction that the old pair of flags or the new name asks for."""
    if size_average is not None or reduce is not None:
        warnings.warn(
            "size_average and reduce args will be deprecated, please use reduction instead.",
            stacklevel=3,
        )
        size_average = True if size_average is None else size_average
        reduce = True if reduce is None else reduce
        return "none" if not reduce else "mean" if size_average else "sum"
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(x, reduction: str):
    """The sum or mean of all, or all as they are."""
    if reduction == "none":
        return x
    total = SUM(x, tuple(range(x.ndim)), False)
    if reduction == "sum":
        return total
    return total / x.numel() if x.numel() else total * math.nan


def _same(name: str, input, target) -> None:
    """Losses do not broadcast silently: that is a mistake more often than not."""
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}) in {name}. This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the "
            "same size.",
            stacklevel=3,
        )


@composite(samples=PAIR, errors=UNLIKE)
def _mse(input, target, reduction="mean"):
    d = input - target
    return reduced(d * d, reduction)


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The squared difference."""
    _same("mse_loss", input, target)
    if weight is not None:
        d = input - target
        return _weighted(d * d, weight, reduction_of(size_average, reduce, reduction))
    return _mse(input, target, reduction_of(size_average, reduce, reduction))


def _weighted(x, weight, reduction):
    y = x * weight
    return (
        y
        if reduction == "none"
        else y.sum()
        if reduction == "sum"
        else y.sum() / weight.expand(x.shape).sum()
    )


@composite(samples=PAIR, errors=UNLIKE)
def _l1(input, target, reduction="mean"):
    return reduced(ABS(input - target), reduction)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The absolute difference."""
    _same("l1_loss", input, target)
    if weight is not None:
        return _weighted(ABS(input - target), weight, reduction_of(size_average, reduce, reduction))
    return _l1(input, target, reduction_of(size_average, reduce, reduction))


@composite(samples=PAIR, errors=UNLIKE)
def _smooth_l1(input, target, reduction="mean", beta=1.0):
    d = ABS(input - target)
    return reduced(WHERE(d < beta, d * d * (0.5 / beta), d - 0.5 * beta) if beta else d, reduction)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Squared below beta, absolute beyond. source: Girshick 2015, arXiv:1504.08083"""
    _same("smooth_l1_loss", input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return _smooth_l1(input, target, reduction_of(size_average, reduce, reduction), beta)


@composite(samples=PAIR, errors=UNLIKE)
def _huber(input, target, reduction="mean", delta=1.0):
    d = ABS(input - target)
    return reduced(WHERE(d <= delta, d * d * 0.5, (d - 0.5 * delta) * delta), reduction)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Squared below delta, linear beyond. source: Huber 1964"""
    _same("huber_loss", input, target)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    loss = _huber(
        input, target, "none" if weight is not None else reduction_of(None, None, reduction), delta
    )
    return loss if weight is None else _weighted(loss, weight, reduction)


# -- classification


def _log_of(p):
    """The logarithm, no less than -100, so that a certain mistake costs a finite amount."""
    return maximum(LOG(p), -100.0)


def _bce_grad(g, input, target, weight, reduction):
    x = input
    d = (x - target) / maximum((1 - x) * x, 1e-12)
    d = d if weight is None else d * weight
    share = g / x.numel() if reduction == "mean" else g
    gx = d * share
    gt = (LOG(1 - x) - LOG(x)) * (1 if weight is None else weight) * share
    return (gx, gt) if weight is None else (gx, gt, None)


@composite(
    grad=_bce_grad,
    samples=(
        Sample(CERTAIN, CERTAIN, None, "mean"),
        Sample(CERTAIN, CERTAIN, ((4,), "p"), "none", rough="a weight has no gradient"),
    ),
    errors=(
        ErrorSample(((2,), "u"), ((3,), "u"), None, "sum", error=RuntimeError, says="broadcast"),
    ),
)
def _bce(input, target, weight, reduction):
    loss = NEG(target * _log_of(input) + (1 - target) * _log_of(1 - input))
    return reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean"
):
    """The cross-entropy of probabilities.

    errors: ValueError if the shapes differ; RuntimeError for inputs outside [0, 1]
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if target.shape != input.shape:
        raise ValueError(
            f"binary_cross_entropy: Using a target size ({target.shape}) that is different to the "
            f"input size ({input.shape}) is deprecated. Please ensure they have the same size."
        )
    if input.numel() and not bool((input >= 0).logical_and(input <= 1)._held().all()):
        raise RuntimeError("all elements of input should be between 0 and 1")
    return _bce(input, target, weight if weight is None else weight.expand(input.shape), reduction)


@composite(
    samples=(
        Sample(((3, 4), F), ((3, 4), F), None, None, "mean"),
        Sample(((3, 4), F), ((3, 4), "u"), ((4,), "p"), ((4,), "p"), "none"),
    ),
    errors=(
        ErrorSample(((2,), F), ((3,), F), None, None, "sum", error=RuntimeError, says="broadcast"),
    ),
)
def _bce_logits(input, target, weight, pos_weight, reduction):
    if pos_weight is None:
        loss = (1 - target) * input + _softplus_of(NEG(input))
    else:
        loss = (1 - target) * input + (1 + (pos_weight - 1) * target) * _softplus_of(NEG(input))
    return reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None
):
    """The cross-entropy of probabilities given as logits."""
    if target.shape != input.shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    return _bce_logits(
        input, target, weight, pos_weight, reduction_of(size_average, reduce, reduction)
    )


def _hot(input, target):
    """Where the class is the target's, over the class dimension (the second, or the only one)."""
    dim = _classes(input)
    return Position(dim)(input) == target.unsqueeze(dim)


def _classes(input) -> int:
    return 1 if input.ndim > 1 else 0


def _samples(input, target, weight, ignore_index):
    """The class of each sample (0 where it is to be ignored), whether it counts, and its weight;
    all keep the class dimension.
    """
    dim = _classes(input)
    target = target.unsqueeze(dim)
    valid = target != ignore_index
    classes = WHERE(valid, target, 0)
    kept = tuple(1 if d == dim else n for d, n in enumerate(input.shape))
    broadcast_shapes("nll", kept, classes.shape)
    if weight is None:
        return classes, valid, valid.to(input.dtype)
    w = WHERE(valid, Index((0,))(weight, classes), 0.0)
    return classes, valid, w.to(input.dtype)


def _normalized(loss, weights, reduction, dim):
    if reduction == "none":
        return loss.squeeze(dim)
    total = SUM(loss, tuple(range(loss.ndim)), False)
    return total if reduction == "sum" else total / SUM(weights, tuple(range(weights.ndim)), False)


def _nll_grad(g, input, target, weight, ignore_index, reduction):
    dim = _classes(input)
    classes, _, w = _samples(input, target, weight, ignore_index)
    zeros = g.new_zeros(()).expand(input.shape)
    gx = Scatter(dim, "assign", True)(zeros, classes, NEG(w) * _share(g, w, reduction, dim))
    return (gx, None) if weight is None else (gx, None, None)


def _share(g, w, reduction, dim):
    """The gradient that reaches a sample's loss."""
    if reduction == "none":
        return g.unsqueeze(dim)
    return g if reduction == "sum" else g / SUM(w, tuple(range(w.ndim)), False)


@composite(
    grad=_nll_grad,
    samples=(
        Sample(((3, 4), F), CLASSES, None, -100, "mean"),
        Sample(((2, 3, 2), F), PLACES, np.array([0.5, 1, 2], np.float32), -100, "none"),
        Sample(((4,), F), np.array(1), None, -100, "sum"),
    ),
    errors=(
        ErrorSample(((2, 4), F), CLASSES, None, -100, "mean", error=RuntimeError, says="broadcast"),
    ),
)
def _nll(input, target, weight, ignore_index, reduction):
    dim = _classes(input)
    classes, _, w = _samples(input, target, weight, ignore_index)
    return _normalized(NEG(Gather(dim)(input, classes)) * w, w, reduction, dim)


_fitting: dict[tuple, int] = {}  # the number of classes, by layouts that were found to fit
FITTING_KEPT = 10_000


def _check_classes(name, input, target, weight, ignore_index):
    key = (input.layout, target.layout, None if weight is None else weight.layout)
    classes = _fitting.get(key)
    if classes is None:
        _check_fit(name, input, target, weight)
        if len(_fitting) > FITTING_KEPT:
            _fitting.clear()
        classes = _fitting[key] = input.shape[_classes(input)]
    bad = target._first_outside(0, classes, ignore_index)
    if bad is not None:
        raise IndexError(f"{name}: Target {bad} is out of bounds.")


def _check_fit(name, input, target, weight):
    dim = 1 if input.ndim > 1 else 0
    expected = tuple(n for d, n in enumerate(input.shape) if d != dim)
    if tuple(target.shape) != expected:
        if input.ndim > 1 and target.ndim and input.shape[0] != target.shape[0]:
            raise ValueError(
                f"Expected input batch_size ({input.shape[0]}) to match target batch_size "
                f"({target.shape[0]})."
            )
        raise RuntimeError(
            f"{name}: got a target of size {list(target.shape)}; expected {list(expected)}"
        )
    if target.dtype.kind == "f":
        raise RuntimeError(f"expected scalar type Long but found {target.dtype.name}")
    if weight is not None and tuple(weight.shape) != (input.shape[dim],):
        raise RuntimeError(
            f"weight tensor should be defined either for all {input.shape[dim]} classes or no "
            f"classes but got weight tensor of shape: {list(weight.shape)}"
        )


def nll_loss(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"
):
    """The negative of the log-probability given to the target class.

    shape:  input [N, C, ...] or [C], target [N, ...] or []
    errors: IndexError for targets that are no class
    """
    reduction = reduction_of(size_average, reduce, reduction)
    _check_classes("nll_loss", input, target, weight, ignore_index)
    return _nll(input, target, weight, ignore_index, reduction)


def _log_sum(x, dim):
    top = PEAK(x, (dim,))
    return top + LOG(SUM(EXP(x - top), (dim,), True))


def _cross_entropy_grad(g, input, target, weight, ignore_index, reduction, smoothing):
    dim = _classes(input)
    count = input.shape[dim]
    _, valid, w = _samples(input, target, weight, ignore_index)
    share = w * _share(g, w, reduction, dim)  # first, so that the rest is one kernel
    e = EXP(input - PEAK(input, (dim,)))
    p = e / SUM(e, (dim,), True)
    hot = _hot(input, target)
    if not smoothing:
        gx = share * (p - WHERE(hot, 1.0, 0.0))
    elif weight is None:
        gx = share * (p - WHERE(hot, 1.0 - smoothing, 0.0) - smoothing / count)
    else:
        every = weight.reshape(tuple(-1 if d == dim else 1 for d in range(input.ndim)))
        smooth = (p * SUM(every, (dim,), True) - every) * valid.to(input.dtype)
        smooth = smooth * _share(g, w, reduction, dim) * (smoothing / count)
        gx = share * (p - WHERE(hot, 1.0, 0.0)) * (1 - smoothing) + smooth
    return (gx, None) if weight is None else (gx, None, None)


@composite(
    grad=_cross_entropy_grad,
    samples=(
        Sample(((3, 4), F), CLASSES, None, -100, "mean", 0.0),
        Sample(((2, 3, 2), F), PLACES, np.array([0.5, 1, 2], np.float32), -100, "mean", 0.1),
        Sample(((3, 4), F), CLASSES, None, 0, "none", 0.2),
        Sample(((4,), F), np.array(1), None, -100, "sum", 0.0),
    ),
    errors=(
        ErrorSample(
            ((2, 4), F), CLASSES, None, -100, "mean", 0.0, error=RuntimeError, says="broadcast"
        ),
    ),
)
def _cross_entropy(input, target, weight, ignore_index, reduction, smoothing):
    dim = _classes(input)
    classes, valid, w = _samples(input, target, weight, ignore_index)
    picked = Gather(dim)(input, classes)
    total = _log_sum(input, dim)
    loss = NEG(picked - total) * w
    if smoothing:
        valid = valid.to(input.dtype)
        count = input.shape[dim]
        if weight is None:
            even = (total * count - SUM(input, (dim,), True)) * valid
        else:
            every = weight.reshape(tuple(-1 if d == dim else 1 for d in range(input.ndim)))
            even = SUM((total - input) * every, (dim,), True) * valid
        loss = loss * (1 - smoothing) + even * (smoothing / count)
    return _normalized(loss, w, reduction, dim)


@composite(
    samples=(
        Sample(((3, 4), F), ((3, 4), F), None, "mean", 0.1),
        Sample(((2, 3, 2), F), ((2, 3, 2), "u"), ((3,), "p"), "none", 0.0),
    ),
    errors=(
        ErrorSample(
            ((2, 4), F), ((3, 4), F), None, "mean", 0.0, error=RuntimeError, says="broadcast"
        ),
    ),
)
def _soft_cross_entropy(input, target, weight, reduction, smoothing):
    dim = 1 if input.ndim > 1 else 0
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.shape[dim]
    logp = _log_softmax(input, dim) * target
    if weight is not None:
        logp = logp * weight.reshape(tuple(-1 if d == dim else 1 for d in range(input.ndim)))
    loss = NEG(SUM(logp, (dim,), False))
    if reduction == "mean":
        return SUM(loss, tuple(range(loss.ndim)), False) / (
            input.numel() // max(input.shape[dim], 1)
        )
    return reduced(loss, reduction)


def cross_entropy(
    input,
    target,
    weight=None,
    size_average=None,
    ignore_index=-100,
    reduce=None,
    reduction="mean",
    label_smoothing=0.0,
):
    """The cross-entropy of logits with classes, or with probabilities of the input's shape.

    shape:  input [N, C, ...] or [C]; target [N, ...] or [] of classes, or as input
    errors: IndexError for targets that are no class; RuntimeError for label_smoothing outside [0, 1]
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if target.dtype.kind == "f":
        if target.shape != input.shape:
            raise RuntimeError(
                "Expected floating point type for target with class probabilities, got sizes "
                f"{list(target.shape)} and {list(input.shape)}; expected equal sizes"
            )
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        return _soft_cross_entropy(input, target, weight, reduction, float(label_smoothing))
    _check_classes("cross_entropy", input, target, weight, ignore_index)
    return _cross_entropy(input, target, weight, ignore_index, reduction, float(label_smoothing))


@composite(samples=PAIR, errors=UNLIKE)
def _kl_div(input, target, reduction="mean", log_target=False):
    if log_target:
        return reduced(EXP(target) * (target - input), reduction)
    return reduced(
        WHERE(target > 0, target * LOG(WHERE(target > 0, target, 1.0)), target * 0)
        - target * input,
        reduction,
    )


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """The Kullback-Leibler divergence; `input` holds log-probabilities."""
    if reduction == "batchmean":
        return _kl_div(input, target, "sum", log_target) / input.shape[0]
    return _kl_div(input, target, reduction_of(size_average, reduce, reduction), log_target)
