"""RMSprop: steps scaled by a running root mean square of the gradient."""

from __future__ import annotations

from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import Elementwise, Rule, State, bound, descent, number
from amity.optim.optimizer import Group


def rmsprop(
    p, g, square, *others, lr, decay, alpha, gain, momentum, eps, is_centered, has_momentum, **flags
) -> tuple:
    g = descent(p, g, decay, **flags)
    square = alpha * square + gain * (g * g)
    variance, kept = square, []
    if is_centered:
        mean = others[0] + gain * (g - others[0])
        variance = square - mean * mean
        kept.append(mean)
    move = g / (ops.sqrt(variance) + eps)
    if has_momentum:
        move = momentum * others[-1] + move
        kept.append(move)
    return p - lr * move, square, *kept


class RMSprop(Elementwise):
    """Gradient descent divided by a running root mean square; `centered` takes off the mean.

    errors: ValueError for a negative option.
    source: Hinton 2012, lecture 6 of Neural Networks for Machine Learning; Graves 2013,
    arXiv:1308.0850 (centered)

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> RMSprop([p], lr=0.5, alpha=0.75, eps=0).step()
    >>> p.tolist()
    [-1.0, -1.0]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check.lr("RMSprop", lr)
        check.not_negative(
            "RMSprop", eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha
        )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def start(self, p: Tensor, group: Group) -> State:
        return {"step": 0.0} | {name: create.zeros_like(p) for name in _names(group)}

    def advance(self, p: Tensor, state: State, group: Group) -> None:
        state["step"] += 1.0

    def rule(self, group: Group, clock: None) -> Rule:
        scalars = {
            "lr": number(group, "lr"),
            "decay": group["weight_decay"],
            "alpha": group["alpha"],
            "gain": 1 - group["alpha"],
            "momentum": group["momentum"],
            "eps": group["eps"],
        }
        rule = bound(
            rmsprop,
            maximize=group["maximize"],
            decays=group["weight_decay"] != 0,
            is_centered=group["centered"],
            has_momentum=group["momentum"] > 0,
        )
        return rule, _names(group), scalars


def _names(group: Group) -> tuple[str, ...]:
    names = ["square_avg"]
    if group["centered"]:
        names.append("grad_avg")
    if group["momentum"] > 0:
        names.append("momentum_buffer")
    return tuple(names)
