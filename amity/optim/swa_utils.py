"""Averages of a model's weights over training: AveragedModel, its rules, update_bn and SWALR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

from amity.core.dtype import int64
from amity.core.errors import fail
from amity.frontend import create, foreach
from amity.frontend.grad_mode import no_grad
from amity.frontend.tensor import Tensor
from amity.nn.batchnorm import _BatchNorm
from amity.nn.module import Module
from amity.optim.lr_scheduler.scheduler import LRScheduler, per_group
from amity.optim.optimizer import Optimizer

AvgFn = Callable[[Tensor, Tensor, Any], Tensor]
MultiAvgFn = Callable[[list[Tensor], list[Tensor], Any], None]


def approach(averaged, current, *, weight) -> tuple:
    return (averaged + weight * (current - averaged),)


def _move(averaged: list[Tensor], current: list[Tensor], weight: float) -> None:
    """Move every average towards its current value by `weight`; one kernel for all of them."""
    with no_grad():
        if averaged[0].is_floating_point():
            foreach.update(approach, list(chain(*zip(averaged, current))), 2, {"weight": weight})
            return
        for a, c in zip(averaged, current):
            a.copy_(a + weight * (c - a))


def _check_decay(op: str, decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise fail(ValueError, op, f"decay={decay}", "0 <= decay <= 1")


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAvgFn:
    """The exponential moving average of all parameters at once.

    errors: ValueError unless 0 <= decay <= 1.
    """
    _check_decay("get_ema_multi_avg_fn", decay)
    return lambda averaged, current, _: _move(averaged, current, 1 - decay)


def get_swa_multi_avg_fn() -> MultiAvgFn:
    """The equal average of all parameters at once."""
    return lambda averaged, current, count: _move(averaged, current, 1 / (float(count) + 1))


def get_ema_avg_fn(decay: float = 0.999) -> AvgFn:
    """The exponential moving average of one parameter.

    errors: ValueError unless 0 <= decay <= 1.
    """
    _check_decay("get_ema_avg_fn", decay)

    def average(averaged: Tensor, current: Tensor, count: Any) -> Tensor:
        with no_grad():
            return decay * averaged + (1 - decay) * current

    return average


def get_swa_avg_fn() -> AvgFn:
    """The equal average of one parameter."""

    def average(averaged: Tensor, current: Tensor, count: Any) -> Tensor:
        with no_grad():
            return averaged + (current - averaged) / (count + 1)

    return average


class AveragedModel(Module):
    """A copy of `model` whose parameters are averages of the model's, the equal one by default.

    Buffers are copied at each update, or averaged where `use_buffers` is true.

    errors: ValueError if both `avg_fn` and `multi_avg_fn` are given.
    source: Izmailov et al. 2018, arXiv:1803.05407; Polyak & Juditsky 1992 (moving averages)
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: AvgFn | None = None,
        multi_avg_fn: MultiAvgFn | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise fail(ValueError, "AveragedModel", "avg_fn and multi_avg_fn", "one of them")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", create.tensor(0, dtype=int64, device=device))
        self.avg_fn, self.multi_avg_fn = avg_fn, multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the model's present parameters into the average."""
        averaged, current = self._averaged(self.module), self._averaged(model)
        if int(self.n_averaged) == 0:
            for a, c in zip(averaged, current):
                a.copy_(c)
        elif self.avg_fn is not None:
            for a, c in zip(averaged, current):
                a.copy_(self.avg_fn(a, c.to(a.device), self.n_averaged.to(a.device)))
        else:
            self._update_together(averaged, current)
        if not self.use_buffers:
            for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
                own.detach().copy_(other.detach())
        self.n_averaged.add_(1)

    def _averaged(self, model: Module) -> list[Tensor]:
        members = chain(model.parameters(), model.buffers() if self.use_buffers else ())
        return [member.detach() for member in members]

    def _update_together(self, averaged: list[Tensor], current: list[Tensor]) -> None:
        update = self.multi_avg_fn or get_swa_multi_avg_fn()
        kinds: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
        for a, c in zip(averaged, current):
            ours, theirs = kinds.setdefault((a.device, a.dtype), ([], []))
            ours.append(a)
            theirs.append(c.to(a.device))
        for (device, _), (ours, theirs) in kinds.items():
            update(ours, theirs, self.n_averaged.to(device))


def update_bn(loader: Iterable, model: Module, device: Any = None) -> None:
    """Compute the statistics of all BatchNorm layers anew, as equal averages over `loader`.

    Items of the loader are inputs, or sequences that start with one.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    momenta, was_training = [layer.momentum for layer in layers], model.training
    model.train()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    try:
        with no_grad():
            for item in loader:
                batch = item[0] if isinstance(item, (list, tuple)) else item
                model(batch if device is None else batch.to(device))
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
        model.train(was_training)


class SWALR(LRScheduler):
    """Goes from any learning rate to `swa_lr` within `anneal_epochs`, and stays there.

    errors: ValueError for an unknown `anneal_strategy` or negative `anneal_epochs`.
    source: Izmailov et al. 2018, arXiv:1803.05407
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise fail(
                ValueError, "SWALR", f"anneal_strategy={anneal_strategy!r}", "'cos' or 'linear'"
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise fail(ValueError, "SWALR", f"anneal_epochs={anneal_epochs!r}", "an integer >= 0")
        lrs = per_group("SWALR", "swa_lr", optimizer, swa_lr)
        for group, lr in zip(optimizer.param_groups, lrs):
            group["swa_lr"] = lr
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How much of the learning rate is `swa_lr` by then."""
        t = max(0, min(1, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        lrs = []
        for group in self.optimizer.param_groups:
            lr, end = group["lr"], group["swa_lr"]
            # Another schedule may set the rate too: take out the share that was mixed in.
            start = end if before == 1 else (lr - before * end) / (1 - before)
            lrs.append(end * now + start * (1 - now))
        return lrs
