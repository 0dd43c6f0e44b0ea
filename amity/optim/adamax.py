"""Adamax: Adam by the infinity norm."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import Elementwise, Rule, State, bound, descent, number
from amity.optim.optimizer import Group


def adamax(p, g, mean, largest, *, decay, step_size, gain1, beta2, eps, **flags) -> tuple:
    g = descent(p, g, decay, **flags)
    mean = mean + gain1 * (g - mean)
    largest = ops.maximum(beta2 * largest, ops.abs(g) + eps)
    return p - step_size * (mean / largest), mean, largest


class Adamax(Elementwise):
    """Adam that divides by a decaying maximum of gradients instead of their mean square.

    errors: ValueError for a negative option or a beta outside of [0, 1).
    source: Kingma & Ba 2014, arXiv:1412.6980 section 7

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> Adamax([p], lr=0.5, eps=0).step()
    >>> p.tolist()
    [-0.5, -0.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check.lr("Adamax", lr)
        check.not_negative("Adamax", eps=eps, weight_decay=weight_decay)
        check.betas("Adamax", betas)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def start(self, p: Tensor, group: Group) -> State:
        return {
            "step": 0.0,
            "exp_avg": create.zeros_like(p),
            "exp_inf": create.zeros_like(p),
        }

    def rule(self, group: Group, clock: float) -> Rule:
        beta1, beta2 = group["betas"]
        scalars = {
            "decay": group["weight_decay"],
            "step_size": number(group, "lr") / (1 - beta1**clock),
            "gain1": 1 - beta1,
            "beta2": beta2,
            "eps": group["eps"],
        }
        rule = bound(adamax, maximize=group["maximize"], decays=group["weight_decay"] != 0)
        return rule, ("exp_avg", "exp_inf"), scalars
