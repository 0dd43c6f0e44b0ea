"""ASGD: gradient descent that also keeps the average of where it has been."""

from __future__ import annotations

from typing import Any

from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import Elementwise, Rule, State, bound, descent, rounded
from amity.optim.optimizer import Group


def asgd(p, g, average, *, decay, shrink, eta, mu, averages, **flags) -> tuple:
    g = descent(p, g, decay, **flags)
    p = p * shrink - eta * g
    return p, average + mu * (p - average) if averages else p


class ASGD(Elementwise):
    """Averaged stochastic gradient descent; the average (`ax` of the state) starts at step `t0`.

    errors: ValueError for a negative `lr` or `weight_decay`.
    source: Polyak & Juditsky 1992, Acceleration of stochastic approximation by averaging

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> ASGD([p], lr=0.5).step()
    >>> p.tolist()
    [-0.5, -0.5]
    """

    _counters = ("step", "eta", "mu")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check.lr("ASGD", lr)
        check.not_negative("ASGD", weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
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
            "eta": rounded(float(group["lr"])),
            "mu": 1.0,
            "ax": create.zeros_like(p),
        }

    def advance(self, p: Tensor, state: State, group: Group) -> tuple[float, float]:
        """This step's learning rate and averaging weight; the state gets those of the next."""
        t = state["step"] = state["step"] + 1.0
        clock = state["eta"], state["mu"]
        lr = float(group["lr"])
        state["eta"] = rounded(lr / (1 + group["lambd"] * lr * t) ** group["alpha"])
        state["mu"] = rounded(1 / max(1, t - group["t0"]))
        return clock

    def rule(self, group: Group, clock: tuple[float, float]) -> Rule:
        eta, mu = clock
        scalars = {
            "decay": group["weight_decay"],
            "shrink": 1 - group["lambd"] * eta,
            "eta": eta,
            "mu": mu,
        }
        rule = bound(
            asgd,
            maximize=group["maximize"],
            decays=group["weight_decay"] != 0,
            averages=mu != 1,
        )
        return rule, ("ax",), scalars
