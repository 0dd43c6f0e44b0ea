"""Losses of margins, ranks and likelihoods."""

from __future__ import annotations

import math

import numpy as np

from .activation import _softplus_of
from .elementwise import EXP, LOG, NEG, maximum, minimum
from .loss import (
    PAIR,
    UNLIKE,
    F,
    _check_classes,
    binary_cross_entropy_with_logits,
    reduced,
    reduction_of,
)
from .record import ErrorSample, Sample, composite
from .reduce import SUM
from .select import WHERE

SIGNS = np.array([1.0, -1.0, 1.0], np.float32)


@composite(samples=PAIR, errors=UNLIKE)
def _soft_margin(input, target, reduction="mean"):
    return reduced(_softplus_of(NEG(target * input)), reduction)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target * input))."""
    return _soft_margin(input, target, reduction_of(size_average, reduce, reduction))


@composite(
    samples=(
        Sample(((3,), F), ((3,), F), SIGNS, 0.1, "mean"),
        Sample(((3,), F), ((3,), F), ((3,), F), 0.1, "none"),
    ),
    errors=(
        ErrorSample(((2,), F), ((3,), F), SIGNS, 0.1, "sum", error=RuntimeError, says="broadcast"),
    ),
)
def _margin_ranking(input1, input2, target, margin, reduction):
    return reduced(maximum(NEG(target) * (input1 - input2) + margin, 0.0), reduction)


def margin_ranking_loss(
    input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"
):
    """max(0, -target * (input1 - input2) + margin)."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.shape}, input2: {input2.shape}, target: {target.shape} "
        )
    return _margin_ranking(
        input1, input2, target, float(margin), reduction_of(size_average, reduce, reduction)
    )


@composite(samples=PAIR, errors=UNLIKE)
def _hinge_embedding(input, target, reduction="mean", margin=1.0):
    far = WHERE(target == 1, 0.0, maximum(margin - input, 0.0))
    return reduced(far + WHERE(target == -1, 0.0, input), reduction)


def hinge_embedding_loss(
    input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"
):
    """The input for targets 1, max(0, margin - input) for targets -1."""
    return _hinge_embedding(
        input, target, reduction_of(size_average, reduce, reduction), float(margin)
    )


@composite(
    samples=(
        Sample(((3, 4), F), ((3, 4), F), SIGNS, 0.1, "mean"),
        Sample(((3, 4), F), ((3, 4), F), SIGNS, -0.9, "none"),
    ),
    errors=(
        ErrorSample(
            ((2, 4), F), ((3, 4), F), SIGNS, 0.1, "sum", error=RuntimeError, says="broadcast"
        ),
    ),
)
def _cosine_embedding(input1, input2, target, margin, reduction):
    dim = (input1.ndim - 1,)
    eps = 1e-12
    dots = SUM(input1 * input2, dim, False)
    norms = (
        (SUM(input1 * input1, dim, False) + eps) * (SUM(input2 * input2, dim, False) + eps)
    ).sqrt()
    cos = dots / norms
    loss = WHERE(target == 1, 1 - cos, 0.0) + WHERE(target == -1, maximum(cos - margin, 0.0), 0.0)
    return reduced(loss, reduction)


def cosine_embedding_loss(
    input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"
):
    """1 - cos for targets 1, max(0, cos - margin) for targets -1."""
    if target.ndim + 1 != input1.ndim or target.ndim + 1 != input2.ndim:
        kind = (
            "1D target tensor expects 2D input tensors"
            if target.ndim == 1
            else "0D target tensor expects 1D input tensors"
        )
        raise RuntimeError(
            f"{kind}, but found inputs with sizes {list(input1.shape)} and {list(input2.shape)}."
        )
    return _cosine_embedding(
        input1, input2, target, float(margin), reduction_of(size_average, reduce, reduction)
    )


@composite(
    samples=(
        Sample(((3, 4), F), ((3, 4), F), True, False, 1e-8, "mean"),
        Sample(((3, 4), "p"), ((3, 4), "g"), False, True, 1e-8, "none"),
    ),
    errors=(
        ErrorSample(
            ((2,), F), ((3,), F), True, False, 1e-8, "sum", error=RuntimeError, says="broadcast"
        ),
    ),
)
def _poisson_nll(input, target, log_input, full, eps, reduction):
    loss = EXP(input) - target * input if log_input else input - target * LOG(input + eps)
    if full:
        stirling = target * LOG(target) - target + 0.5 * LOG(2 * math.pi * target)
        loss = loss + WHERE(target > 1, stirling, 0.0)
    return reduced(loss, reduction)


def poisson_nll_loss(
    input,
    target,
    log_input=True,
    full=False,
    size_average=None,
    eps=1e-8,
    reduce=None,
    reduction="mean",
):
    """The negative log-likelihood of counts under a Poisson distribution."""
    return _poisson_nll(
        input, target, log_input, full, eps, reduction_of(size_average, reduce, reduction)
    )


@composite(
    samples=(
        Sample(((3, 4), F), ((3, 4), F), ((3, 4), "p"), False, 1e-6, "mean"),
        Sample(((3, 4), F), ((3, 4), F), ((3, 1), "p"), True, 1e-6, "none"),
    ),
    errors=(
        ErrorSample(
            ((2,), F),
            ((3,), F),
            ((3,), "p"),
            True,
            1e-6,
            "sum",
            error=RuntimeError,
            says="broadcast",
        ),
    ),
)
def _gaussian_nll(input, target, var, full, eps, reduction):
    v = WHERE(var < eps, eps, var)
    d = input - target
    loss = 0.5 * (LOG(v) + d * d / v)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """The negative log-likelihood of targets under normal distributions."""
    if not hasattr(var, "layout"):
        var = input.new_full((), float(var))
    if var.shape != input.shape:
        if tuple(input.shape[:-1]) == tuple(var.shape):
            var = var.unsqueeze(-1)
        elif var.numel() != 1 and not (
            tuple(input.shape[:-1]) == tuple(var.shape[:-1]) and var.shape[-1] == 1
        ):
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    if bool((var < 0)._held().any()):
        raise ValueError("var has negative entry/entries")
    return _gaussian_nll(input, target, var, full, eps, reduction)


def multilabel_soft_margin_loss(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean"
):
    """The mean over classes of the logistic loss of every label."""
    loss = binary_cross_entropy_with_logits(input, target.to(input.dtype), reduction="none")
    loss = loss if weight is None else loss * weight
    return reduced(loss.mean(-1), reduction_of(size_average, reduce, reduction))


def multi_margin_loss(
    input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"
):
    """The hinge loss over classes."""
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    _check_classes("multi_margin_loss", input, target, weight, -1 << 40)
    x = input if input.ndim == 2 else input.unsqueeze(0)
    t = target if input.ndim == 2 else target.unsqueeze(0)
    hot = t.unsqueeze(1) == t.new_tensor(range(x.shape[1]))
    own = (x * hot).sum(1, keepdim=True)
    z = maximum(margin - own + x, 0.0)
    z = z if p == 1 else z * z
    z = z if weight is None else z * (weight * hot).sum(1, keepdim=True)
    loss = WHERE(hot, 0.0, z).sum(1) / x.shape[1]
    out = reduced(loss, reduction_of(size_average, reduce, reduction))
    return out.squeeze(0) if out.ndim and input.ndim == 1 else out


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """The hinge loss between the classes listed in a target row (up to the first -1) and all others."""
    x = input if input.ndim == 2 else input.unsqueeze(0)
    t = target if target.ndim == 2 else target.unsqueeze(0)
    if x.shape != t.shape:
        raise RuntimeError(
            f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}"
        )
    kept = (t < 0).to(t.dtype).cumsum(1) == 0
    at = WHERE(kept, t, 0)
    n = x.shape[1]
    is_target = ((at.unsqueeze(2) == t.new_tensor(range(n))).logical_and(kept.unsqueeze(2))).any(1)
    margins = maximum(1 - (x.gather(1, at).unsqueeze(2) - x.unsqueeze(1)), 0.0)
    counted = kept.unsqueeze(2).logical_and(is_target.logical_not().unsqueeze(1))
    loss = WHERE(counted, margins, 0.0).sum((1, 2)) / n
    out = reduced(loss, reduction_of(size_average, reduce, reduction))
    return out.squeeze(0) if out.ndim and input.ndim == 1 else out


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of the difference over the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


def triplet_margin_loss(
    anchor,
    positive,
    negative,
    margin=1.0,
    p=2,
    eps=1e-6,
    swap=False,
    size_average=None,
    reduce=None,
    reduction="mean",
):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)."""
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced(maximum(near - far + margin, 0.0), reduction_of(size_average, reduce, reduction))


def triplet_margin_with_distance_loss(
    anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"
):
    """The triplet loss under any distance."""
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced(maximum(near - far + margin, 0.0), reduction_of(None, None, reduction))
