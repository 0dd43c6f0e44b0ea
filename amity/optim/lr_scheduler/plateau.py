"""ReduceLROnPlateau: lower the learning rate once a metric no longer gets better."""

from __future__ import annotations

import math
from typing import Any

from amity.core.errors import fail
from amity.optim.lr_scheduler.scheduler import (
    LRScheduler,
    assign,
    check_optimizer,
    per_group,
    values,
    warn_of_epoch,
)
from amity.optim.optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """Multiplies by `factor` when `patience` epochs went by without a better metric.

    Better means lower (`mode='min'`) or higher ('max') than the best by `threshold`, a part of
    the best ('rel') or an amount ('abs'). After a reduction, `cooldown` epochs do not count.

    errors: ValueError for factor >= 1, an unknown mode, or `min_lr` that does not fit the groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        op = type(self).__name__
        if factor >= 1.0:
            raise fail(ValueError, op, f"factor={factor}", "factor < 1")
        check_optimizer(op, optimizer)
        self.factor, self.optimizer = factor, optimizer
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = per_group(op, "min_lr", optimizer, min_lr)
        self.patience, self.cooldown, self.eps = patience, cooldown, eps
        self.last_epoch = 0
        self._last_lr = values(optimizer, "lr")
        self._set_mode(mode, threshold, threshold_mode)
        self._reset()

    def _set_mode(self, mode: str, threshold: float, threshold_mode: str) -> None:
        op = type(self).__name__
        if mode not in ("min", "max"):
            raise fail(ValueError, op, f"mode={mode!r}", "'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise fail(ValueError, op, f"threshold_mode={threshold_mode!r}", "'rel' or 'abs'")
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode

    def _reset(self) -> None:
        self.best = self.mode_worse
        self.cooldown_counter = self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        return self.cooldown_counter > 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take in the metric of one more epoch. `epoch` is deprecated."""
        current = float(metrics)
        if epoch is not None:
            warn_of_epoch()
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = values(self.optimizer, "lr")

    def _reduce_lr(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                got = f"{len(groups)} groups and {len(self.min_lrs)} min_lrs"
                raise fail(RuntimeError, type(self).__name__, got, "a min_lr for each group")
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, lowest in zip(groups, self.min_lrs):
            old = float(group["lr"])
            new = max(old * self.factor, lowest)
            if old - new > self.eps:
                assign(group, "lr", new)

    def _is_better(self, a: float, best: float) -> bool:
        margin = -self.threshold if self.mode == "min" else self.threshold
        bar = best * (1.0 + margin) if self.threshold_mode == "rel" else best + margin
        return a < bar if self.mode == "min" else a > bar

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._set_mode(self.mode, self.threshold, self.threshold_mode)
