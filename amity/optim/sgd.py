"""SGD: gradient descent, with momentum and Nesterov's."""

from __future__ import annotations

from typing import Any

from amity.core.errors import fail
from amity.engine import deferral
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import Elementwise, Rule, State, bound, descent, number
from amity.optim.optimizer import Group


def plain(p, g, *, lr, decay, **flags) -> tuple:
    g = descent(p, g, decay, **flags)
    return (p - lr * g,)


def with_momentum(p, g, buf, *, lr, decay, momentum, kept, gain, nesterov, **flags) -> tuple:
    g = descent(p, g, decay, **flags)
    buf = kept * buf + gain * g
    return p - lr * (g + momentum * buf if nesterov else buf), buf


class SGD(Elementwise):
    """Stochastic gradient descent.

    errors: ValueError for a negative option, or `nesterov` without momentum or with dampening.
    source: Sutskever et al. 2013, On the importance of initialization and momentum

    >>> p = create.zeros(2, requires_grad=True)
    >>> p.grad = create.ones(2)
    >>> SGD([p], lr=0.5).step()
    >>> p.tolist()
    [-0.5, -0.5]
    """

    _counters = ()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check.lr("SGD", lr)
        check.not_negative("SGD", momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            got = f"nesterov with momentum={momentum}, dampening={dampening}"
            raise fail(ValueError, "SGD", got, "momentum > 0 and dampening=0")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def is_stateless(self, group: Group) -> bool:
        return group["momentum"] == 0

    def start(self, p: Tensor, group: Group) -> State:
        return {"momentum_buffer": None}

    def advance(self, p: Tensor, state: State, group: Group) -> bool:
        is_first = state["momentum_buffer"] is None
        if is_first:
            with deferral.apart():
                state["momentum_buffer"] = create.zeros_like(p)
        return is_first

    def rule(self, group: Group, clock: bool) -> Rule:
        weight_decay = number(group, "weight_decay")
        flags = {"maximize": group["maximize"], "decays": weight_decay != 0}
        scalars = {"lr": number(group, "lr"), "decay": weight_decay}
        if group["momentum"] == 0:
            return bound(plain, **flags), (), scalars
        # The first buffer is the gradient itself, without dampening.
        kept, gain = (0.0, 1.0) if clock else (group["momentum"], 1 - group["dampening"])
        scalars |= {"momentum": group["momentum"], "kept": kept, "gain": gain}
        rule = bound(with_momentum, **flags, nesterov=group["nesterov"])
        return rule, ("momentum_buffer",), scalars
