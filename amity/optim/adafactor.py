"""Adafactor: the averaged square of a matrix's gradient, kept as its row and column means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amity import ops
from amity.core.dtype import finfo
from amity.core.errors import fail
from amity.engine import deferral
from amity.frontend import create
from amity.frontend.grad_mode import enable_grad, no_grad
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.elementwise import State
from amity.optim.optimizer import Group, Optimizer


class Adafactor(Optimizer):
    """Adaptive steps with memory for rows and columns only, relative to a parameter's size.

    `eps` are the smallest square (None: that of the dtype) and the smallest size of a parameter;
    `d` bounds the root mean square of a step. `foreach` is accepted and chooses nothing.

    errors: ValueError for an option out of its range.
    source: Shazeer & Stern 2018, arXiv:1804.04235
    """

    _counters = ("step",)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        op = "Adafactor"
        check.lr(op, lr)
        check.not_negative(op, eps1=eps[0] or 0.0, eps2=eps[1], weight_decay=weight_decay)
        if not beta2_decay <= 0.0:
            raise fail(ValueError, op, f"beta2_decay={beta2_decay}", "beta2_decay <= 0")
        if not d >= 1.0:
            raise fail(ValueError, op, f"d={d}", "d >= 1")
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

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
                        self._step_one(p, group)
        return loss

    def _step_one(self, p: Tensor, group: Group) -> None:
        g = -p.grad if group["maximize"] else p.grad
        state = self.state[p]
        if not state:
            with deferral.apart():
                state.update(_start(g))
        t = state["step"] = state["step"] + 1.0
        lr, (eps1, eps2) = float(group["lr"]), group["eps"]
        smallest = finfo(p.dtype).eps if eps1 is None else eps1
        size = max(eps2, _rms(p)) * min(lr, t**-0.5)
        if group["weight_decay"] != 0:
            p.mul_(1 - lr * group["weight_decay"])
        square = _averaged_square(g, state, t ** group["beta2_decay"], smallest)
        update = g * ops.rsqrt(ops.clamp(square, min=smallest * smallest))
        p.add_(update, alpha=-size / max(1.0, _rms(update) / group["d"]))


def _start(g: Tensor) -> State:
    state: State = {"step": 0.0}
    if g.ndim < 2:
        state["variance"] = create.zeros_like(g)
    else:
        *batch, rows, columns = g.shape
        state["row_var"] = g.new_zeros((*batch, rows, 1))
        state["col_var"] = g.new_zeros((*batch, 1, columns))
    return state


def _averaged_square(g: Tensor, state: State, gain: float, smallest: float) -> Tensor:
    if g.ndim < 2:
        return state["variance"].lerp_(g * g, gain)
    square = g * g
    rows = state["row_var"].lerp_(square.mean(-1, keepdim=True), gain)
    columns = state["col_var"].lerp_(square.mean(-2, keepdim=True), gain)
    return rows @ columns / ops.clamp(rows.mean(-2, keepdim=True), min=smallest)


def _rms(x: Tensor) -> float:
    return ops.norm(x).item() / x.numel() ** 0.5
