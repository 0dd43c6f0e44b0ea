"""Schedulers that follow a cosine."""

from __future__ import annotations

import math
from typing import Any

from amity.core.errors import fail
from amity.optim.lr_scheduler.scheduler import LRScheduler
from amity.optim.optimizer import Optimizer


class CosineAnnealingLR(LRScheduler):
    """Falls along half a cosine to `eta_min` at epoch `T_max`, and rises again.

    source: Loshchilov & Hutter 2016, arXiv:1608.03983 (without its restarts)
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def _height(self, epoch: float) -> float:
        """Twice the cosine's height at an epoch: 2 at the top, 0 at the bottom."""
        return 1 + math.cos(math.pi * epoch / self.T_max)

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        groups = self.optimizer.param_groups
        if self._is_initial:
            return [group["lr"] for group in groups]
        if self._step_count == 1 and self.last_epoch > 0:
            return self._get_closed_form_lr()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The last height was zero, so there is no ratio to it.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            pairs = zip(self.base_lrs, groups, strict=True)
            return [group["lr"] + (base - self.eta_min) * rise for base, group in pairs]
        ratio = self._height(self.last_epoch) / self._height(self.last_epoch - 1)
        return [ratio * (group["lr"] - self.eta_min) + self.eta_min for group in groups]

    def _get_closed_form_lr(self) -> list[Any]:
        height = self._height(self.last_epoch)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Falls along half a cosine over `T_0` epochs and starts again, each run `T_mult` times longer.

    errors: ValueError unless T_0 and T_mult are positive integers and eta_min a number.
    source: Loshchilov & Hutter 2016, arXiv:1608.03983
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        op = type(self).__name__
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise fail(ValueError, op, f"{name}={value!r}", "a positive integer")
        if not isinstance(eta_min, (float, int)):
            raise fail(ValueError, op, f"eta_min={eta_min!r}", "a float or int")
        self.T_0, self.T_i, self.T_mult = T_0, T_0, T_mult
        self.eta_min, self.T_cur = eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        height = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go on by one epoch, or to `epoch`, which may lie between two.

        errors: ValueError if `epoch` is negative.
        """
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            self._jump(epoch)
        self.last_epoch = math.floor(epoch)
        with self._within_step():
            lrs = self.get_lr()
        self._set(lrs)

    def _jump(self, epoch: float) -> None:
        """Find the run that `epoch` falls into, and the place within it."""
        if epoch < 0:
            raise fail(ValueError, f"{type(self).__name__}.step", f"epoch={epoch}", "epoch >= 0")
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            # Runs grow geometrically: n of them take T_0 * (T_mult**n - 1) / (T_mult - 1) epochs.
            grown = epoch / self.T_0 * (self.T_mult - 1) + 1
            power = self.T_mult ** int(math.log(grown, self.T_mult))
            self.T_cur = epoch - self.T_0 * (power - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * power
