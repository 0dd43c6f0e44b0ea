"""AdamW: Adam whose weight decay shrinks the parameter and leaves the gradient alone."""

from __future__ import annotations

from typing import Any

from amity.frontend.tensor import Tensor
from amity.optim.adam import Adam


class AdamW(Adam):
    """Adam with decoupled weight decay.

    errors: ValueError for a negative option or a beta outside of [0, 1).
    source: Loshchilov & Hutter 2017, arXiv:1711.05101

    >>> import amity
    >>> p = amity.ones(2, requires_grad=True)
    >>> p.grad = amity.zeros(2)
    >>> AdamW([p], lr=0.5, weight_decay=0.5).step()
    >>> p.tolist()
    [0.75, 0.75]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
