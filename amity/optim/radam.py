"""RAdam: Adam that trusts its averaged square only once enough gradients went into it."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.adam import decay_of, decayed
from amity.optim.elementwise import Elementwise, Rule, State, bound, number
from amity.optim.optimizer import Group


def radam(
    p, g, mean, square, *, decay, step_size, gain1, beta2, gain2, eps, is_rectified, **flags
) -> tuple:
    p, g = decayed(p, g, decay, **flags)
    mean = mean + gain1 * (g - mean)
    square = beta2 * square + gain2 * (g * g)
    move = mean / (ops.sqrt(square) + eps) if is_rectified else mean
    return p - step_size * move, mean, square


class RAdam(Elementwise):
    """Adam with a rectified learning rate; the first steps go along the averaged gradient.

    errors: ValueError for a negative option or a beta outside of [0, 1).
    source: Liu et al. 2019, arXiv:1908.03265

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> RAdam([p], lr=0.5).step()
    >>> p.tolist()
    [-0.5, -0.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check.lr("RAdam", lr)
        check.not_negative("RAdam", eps=eps, weight_decay=weight_decay)
        check.betas("RAdam", betas)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def start(self, p: Tensor, group: Group) -> State:
        return {
            "step": 0.0,
            "exp_avg": create.zeros_like(p),
            "exp_avg_sq": create.zeros_like(p),
        }

    def rule(self, group: Group, clock: float) -> Rule:
        lr, (decay, flags) = number(group, "lr"), decay_of(group)
        beta1, beta2 = group["betas"]
        bias1, bias2 = 1 - beta1**clock, 1 - beta2**clock
        # rho: how many gradients the averaged square stands for, now and in the long run.
        rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * clock * beta2**clock / bias2
        step_size = lr / bias1
        if rho > 5:
            grown = (rho - 4) * (rho - 2) * rho_inf
            final = (rho_inf - 4) * (rho_inf - 2) * rho
            step_size = step_size * (bias2 * grown / final) ** 0.5
        scalars = {
            "decay": decay,
            "step_size": step_size,
            "gain1": 1 - beta1,
            "beta2": beta2,
            "gain2": 1 - beta2,
            "eps": group["eps"],
        }
        rule = bound(radam, **flags, is_rectified=rho > 5)
        return rule, ("exp_avg", "exp_avg_sq"), scalars
