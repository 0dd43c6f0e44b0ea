"""Keeping gradients small."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.grad_mode import no_grad
from amity.frontend.tensor import Tensor


def _tensors(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def _grads(parameters: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


@no_grad()
def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors as if they were one vector.

    errors: RuntimeError for a norm that is not finite, with `error_if_nonfinite`

    >>> get_total_norm([create.tensor([3.0]), create.tensor([4.0])]).item()
    5.0
    """
    tensors, norm_type = _tensors(tensors), float(norm_type)
    if not tensors:
        return create.tensor(0.0)
    norms = [ops.norm(t, norm_type) for t in tensors]
    device = norms[0].device
    total = ops.norm(ops.stack([n.to(device) for n in norms]), norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
            "so it cannot be clipped. To disable this error and scale the gradients by the "
            "non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return total


@no_grad()
def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scale all gradients so that a total norm above `max_norm` becomes `max_norm`."""
    # no branch on the norm: reading it would wait for the device
    scale = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
    for grad in _grads(_tensors(parameters)):
        grad.mul_(scale.to(grad.device))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Limit the norm of all gradients together, in place; gives the norm before.

    errors: RuntimeError for a norm that is not finite, with `error_if_nonfinite`
    source: Pascanu et al. 2012, arXiv:1211.5063
    """
    parameters = _tensors(parameters)
    total = get_total_norm(_grads(parameters), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(*args: Any, **kwargs: Any) -> Tensor:
    """The old name of `clip_grad_norm_`."""
    warnings.warn(
        "`nn.utils.clip_grad_norm` is now deprecated in favor of `nn.utils.clip_grad_norm_`.",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(*args, **kwargs)


@no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limit each element of the gradients to [-clip_value, clip_value], in place."""
    clip_value = float(clip_value)
    for grad in _grads(_tensors(parameters)):
        grad.clamp_(min=-clip_value, max=clip_value)
