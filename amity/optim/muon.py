"""Muon: momentum for weight matrices, made orthogonal before each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from amity import ops
from amity.core.dtype import bfloat16
from amity.core.errors import fail
from amity.engine import deferral
from amity.frontend import create
from amity.frontend.grad_mode import enable_grad, no_grad
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.optimizer import Group, Optimizer

# The quintic whose iteration brings every singular value near one within five steps.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Steps along the orthogonal matrix nearest to the momentum, computed in bfloat16.

    It is for matrices in a model's inside; give biases and embeddings to AdamW. `adjust_lr_fn`
    says how the shape of a matrix scales the learning rate: 'original' or 'match_rms_adamw'.

    errors: ValueError for a negative option, a parameter that is no matrix, an unknown
    `adjust_lr_fn`, other than three coefficients, or 100 iterations and more.
    source: Jordan et al. 2024, Muon; Liu et al. 2025, arXiv:2502.16982
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        check.lr("Muon", lr)
        check.not_negative("Muon", momentum=momentum, weight_decay=weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            got = f"adjust_lr_fn={adjust_lr_fn!r}"
            raise fail(ValueError, "Muon", got, "'original', 'match_rms_adamw' or None")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def _check_parameter(self, p: object) -> None:
        super()._check_parameter(p)
        if p.ndim != 2:
            raise fail(ValueError, "Muon", f"a parameter of shape {tuple(p.shape)}", "matrices")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._step_matrix(p, group)
        return loss

    def _step_matrix(self, p: Tensor, group: Group) -> None:
        state, momentum, lr = self.state[p], group["momentum"], float(group["lr"])
        if "momentum_buffer" not in state:
            with deferral.apart():
                state["momentum_buffer"] = create.zeros_like(p.grad)
        buf = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
        update = ops.lerp(p.grad, buf, momentum) if group["nesterov"] else buf
        update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(update, alpha=-lr * shape_factor(group["adjust_lr_fn"], *p.shape))


def orthogonal(g: Tensor, coefficients: tuple, steps: int, eps: float) -> Tensor:
    """Nearly the orthogonal factor of `g`, by a Newton-Schulz iteration in bfloat16."""
    if steps >= 100:
        raise fail(ValueError, "Muon", f"ns_steps={steps}", "fewer than 100")
    if len(coefficients) != 3:
        raise fail(ValueError, "Muon", f"{len(coefficients)} ns_coefficients", "three")
    a, b, c = coefficients
    x, is_tall = g.to(bfloat16), g.shape[0] > g.shape[1]
    x = x.T if is_tall else x  # the smaller Gram matrix of the two
    x = x / ops.clamp(ops.norm(x), min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = ops.addmm(x, ops.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def shape_factor(rule: str | None, rows: int, columns: int) -> float:
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))
