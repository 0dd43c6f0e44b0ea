"""Rprop: steps along the sign of the gradient, longer while it stays, shorter when it turns."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import Elementwise, Rule, State, bound, scalar
from amity.optim.optimizer import Group


def rprop(p, g, previous, size, *, etas, step_sizes, maximize) -> tuple:
    g = -g if maximize else g
    agreement = g * previous
    turned = agreement < 0
    grown = ops.where(agreement > 0, size * etas[1], size)
    size = ops.clamp(ops.where(turned, size * etas[0], grown), *step_sizes)
    # Where the sign turned, the parameter waits for one step.
    g = ops.where(turned, 0.0, g)
    return p - ops.sign(g) * size, g, size


class Rprop(Elementwise):
    """Resilient backpropagation, for full batches.

    errors: ValueError for a negative `lr`, or unless 0 < etas[0] < 1 < etas[1].
    source: Riedmiller & Braun 1993, The RPROP Algorithm

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> Rprop([p], lr=0.5).step()
    >>> p.tolist()
    [-0.5, -0.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check.lr("Rprop", lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise fail(ValueError, "Rprop", f"etas={tuple(etas)}", "0 < etas[0] < 1 < etas[1]")
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def start(self, p: Tensor, group: Group) -> State:
        return {
            "step": 0.0,
            "prev": create.zeros_like(p),
            "step_size": create.full_like(p, float(group["lr"])),
        }

    def advance(self, p: Tensor, state: State, group: Group) -> None:
        state["step"] += 1.0

    def rule(self, group: Group, clock: None) -> Rule:
        # These options are constants of the kernel: comparisons need them, not arithmetic.
        etas = tuple(scalar(eta, group) for eta in group["etas"])
        rule = bound(
            rprop, etas=etas, step_sizes=tuple(group["step_sizes"]), maximize=group["maximize"]
        )
        return rule, ("prev", "step_size"), {}
