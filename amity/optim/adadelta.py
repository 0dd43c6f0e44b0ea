"""Adadelta: steps whose size follows from earlier steps instead of a learning rate."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import Elementwise, Rule, State, bound, descent, number
from amity.optim.optimizer import Group


def adadelta(p, g, square, moved, *, lr, decay, rho, gain, eps, **flags) -> tuple:
    g = descent(p, g, decay, **flags)
    square = rho * square + gain * (g * g)
    move = ops.sqrt(moved + eps) / ops.sqrt(square + eps) * g
    return p - lr * move, square, rho * moved + gain * (move * move)


class Adadelta(Elementwise):
    """Gradient descent in the units of the parameters.

    errors: ValueError for a negative option, or `rho` outside of [0, 1].
    source: Zeiler 2012, arXiv:1212.5701

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> Adadelta([p]).step()
    >>> bool((p < 0).all())
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check.lr("Adadelta", lr)
        check.not_negative("Adadelta", eps=eps, weight_decay=weight_decay)
        if not 0.0 <= rho <= 1.0:
            raise fail(ValueError, "Adadelta", f"rho={rho}", "0 <= rho <= 1")
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def start(self, p: Tensor, group: Group) -> State:
        return {
            "step": 0.0,
            "square_avg": create.zeros_like(p),
            "acc_delta": create.zeros_like(p),
        }

    def advance(self, p: Tensor, state: State, group: Group) -> None:
        state["step"] += 1.0

    def rule(self, group: Group, clock: None) -> Rule:
        scalars = {
            "lr": number(group, "lr"),
            "decay": group["weight_decay"],
            "rho": group["rho"],
            "gain": 1 - group["rho"],
            "eps": group["eps"],
        }
        rule = bound(adadelta, maximize=group["maximize"], decays=group["weight_decay"] != 0)
        return rule, ("square_avg", "acc_delta"), scalars
