"""Adam: steps scaled by running averages of the gradient and of its square."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import (
    Elementwise,
    Rule,
    State,
    bound,
    descent,
    number,
    scalar,
)
from amity.optim.optimizer import Group


def decayed(p, g, decay, *, maximize, decays, decoupled) -> tuple:
    """Weight decay as a gradient of weight `decay`, or (decoupled) by keeping that much of `p`."""
    g = descent(p, g, decay, maximize=maximize, decays=decays and not decoupled)
    return (p * decay if decays and decoupled else p), g


def decay_of(group: Group) -> tuple[Any, dict[str, bool]]:
    """The scalar `decay` and the flags that `decayed` takes."""
    weight_decay, decoupled = number(group, "weight_decay"), group["decoupled_weight_decay"]
    decay = 1 - number(group, "lr") * weight_decay if decoupled else weight_decay
    flags = {"maximize": group["maximize"], "decays": weight_decay != 0, "decoupled": decoupled}
    return decay, flags


def adam(
    p, g, mean, square, *peak, decay, step_size, gain1, beta2, gain2, root_bias2, eps, **flags
) -> tuple:
    p, g = decayed(p, g, decay, **flags)
    mean = mean + gain1 * (g - mean)
    square = beta2 * square + gain2 * (g * g)
    peak = tuple(ops.maximum(largest, square) for largest in peak)
    size = ops.sqrt(peak[0] if peak else square) / root_bias2 + eps
    return p - step_size * (mean / size), mean, square, *peak


class Adam(Elementwise):
    """Adam, and with `amsgrad` the variant that keeps the largest square seen.

    errors: ValueError for a negative option or a beta outside of [0, 1).
    source: Kingma & Ba 2014, arXiv:1412.6980; Reddi et al. 2018, arXiv:1904.09237

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> Adam([p], lr=0.5, eps=0).step()
    >>> amity.allclose(p, amity.tensor([-0.5, -0.5]))
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        op = type(self).__name__
        check.lr(op, lr)
        check.not_negative(op, eps=eps, weight_decay=weight_decay)
        check.betas(op, betas)
        if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
            raise fail(ValueError, op, "one beta as a Tensor", "both floats or both Tensors")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def start(self, p: Tensor, group: Group) -> State:
        state = {"step": 0.0}
        for name in _names(group):
            state[name] = create.zeros_like(p)
        return state

    def rule(self, group: Group, clock: float) -> Rule:
        lr, (decay, flags) = number(group, "lr"), decay_of(group)
        beta1, beta2 = (scalar(beta, group) for beta in group["betas"])
        scalars = {
            "decay": decay,
            "step_size": lr / (1 - beta1**clock),
            "gain1": 1 - beta1,
            "beta2": beta2,
            "gain2": 1 - beta2,
            "root_bias2": (1 - beta2**clock) ** 0.5,
            "eps": group["eps"],
        }
        rule = bound(adam, **flags)
        return rule, _names(group), scalars


def _names(group: Group) -> tuple[str, ...]:
    names = ("exp_avg", "exp_avg_sq")
    return (*names, "max_exp_avg_sq") if group["amsgrad"] else names
