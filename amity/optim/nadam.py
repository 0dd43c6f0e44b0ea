"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.adam import decay_of, decayed
from amity.optim.elementwise import Elementwise, Rule, State, bound, number, rounded
from amity.optim.optimizer import Group


def nadam(
    p, g, mean, square, *, decay, gain1, beta2, gain2, bias2, grad_size, mean_size, eps, **flags
) -> tuple:
    p, g = decayed(p, g, decay, **flags)
    mean = mean + gain1 * (g - mean)
    square = beta2 * square + gain2 * (g * g)
    return p - (grad_size * g + mean_size * mean) / (ops.sqrt(square / bias2) + eps), mean, square


class NAdam(Elementwise):
    """Adam with Nesterov's momentum, warmed up by `momentum_decay`.

    errors: ValueError for a negative option or a beta outside of [0, 1).
    source: Dozat 2016, Incorporating Nesterov Momentum into Adam

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> NAdam([p], lr=0.5).step()
    >>> bool((p < 0).all())
    True
    """

    _counters = ("step", "mu_product")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check.lr("NAdam", lr)
        check.not_negative(
            "NAdam", eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay
        )
        check.betas("NAdam", betas)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def start(self, p: Tensor, group: Group) -> State:
        return {
            "step": 0.0,
            "mu_product": 1.0,
            "exp_avg": create.zeros_like(p),
            "exp_avg_sq": create.zeros_like(p),
        }

    def advance(self, p: Tensor, state: State, group: Group) -> tuple[float, float]:
        t = state["step"] = state["step"] + 1.0
        state["mu_product"] = rounded(state["mu_product"] * rounded(_mu(group, t)))
        return t, state["mu_product"]

    def rule(self, group: Group, clock: tuple[float, float]) -> Rule:
        t, mu_product = clock
        mu, next_mu = _mu(group, t), _mu(group, t + 1)
        lr, (decay, flags) = number(group, "lr"), decay_of(group)
        beta1, beta2 = group["betas"]
        scalars = {
            "decay": decay,
            "gain1": 1 - beta1,
            "beta2": beta2,
            "gain2": 1 - beta2,
            "bias2": 1 - beta2**t,
            "grad_size": lr * (1 - mu) / (1 - mu_product),
            "mean_size": lr * next_mu / (1 - mu_product * next_mu),
            "eps": group["eps"],
        }
        rule = bound(nadam, **flags)
        return rule, ("exp_avg", "exp_avg_sq"), scalars


def _mu(group: Group, t: float) -> float:
    """The momentum at step `t`; the paper's schedule."""
    return group["betas"][0] * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"]))
