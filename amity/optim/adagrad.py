"""Adagrad: steps scaled by the sum of all squared gradients."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import Elementwise, Rule, State, bound, descent, number
from amity.optim.optimizer import Group


def adagrad(p, g, total, *, decay, step_size, eps, **flags) -> tuple:
    g = descent(p, g, decay, **flags)
    total = total + g * g
    return p - step_size * (g / (ops.sqrt(total) + eps)), total


class Adagrad(Elementwise):
    """Adaptive gradient descent, with larger steps where gradients were rare.

    errors: ValueError for a negative option.
    source: Duchi et al. 2011, Adaptive Subgradient Methods

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> Adagrad([p], lr=0.5).step()
    >>> p.tolist()
    [-0.5, -0.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check.lr("Adagrad", lr)
        check.not_negative(
            "Adagrad",
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = self.start(p, group)

    def share_memory(self) -> None:
        """Move the sums to shared memory, for training from several processes."""
        for state in self.state.values():
            state["sum"].share_memory_()

    def start(self, p: Tensor, group: Group) -> State:
        total = create.full_like(p, group["initial_accumulator_value"])
        return {"step": 0.0, "sum": total}

    def rule(self, group: Group, clock: float) -> Rule:
        scalars = {
            "decay": group["weight_decay"],
            "step_size": number(group, "lr") / (1 + (clock - 1) * group["lr_decay"]),
            "eps": group["eps"],
        }
        rule = bound(adagrad, maximize=group["maximize"], decays=group["weight_decay"] != 0)
        return rule, ("sum",), scalars
