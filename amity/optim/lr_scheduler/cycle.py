"""Schedulers that cycle the learning rate, and the momentum against it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from amity.core.errors import fail
from amity.optim.lr_scheduler.scheduler import (
    LRScheduler,
    assign,
    check_optimizer,
    per_group,
    saved_callable,
)
from amity.optim.optimizer import Group, Optimizer


class _MomentumCycle(LRScheduler):
    """Knows where the optimizer keeps its momentum: in `betas` or in `momentum`."""

    use_beta1: bool

    def _find_momentum(self) -> None:
        names = self.optimizer.defaults
        if "momentum" not in names and "betas" not in names:
            got = f"cycle_momentum with {type(self.optimizer).__name__}"
            raise fail(ValueError, type(self).__name__, got, "an optimizer with momentum or betas")
        self.use_beta1 = "betas" in names

    def _set_momentum(self, group: Group, momentum: float) -> None:
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum

    def _start_momentum(self, highest: list[float], lowest: list[float]) -> None:
        for group, top, bottom in zip(self.optimizer.param_groups, highest, lowest, strict=True):
            self._set_momentum(group, top)
            group["max_momentum"], group["base_momentum"] = top, bottom


class CyclicLR(_MomentumCycle):
    """Goes up from `base_lr` to `max_lr` and down again, while the momentum does the opposite.

    `mode` scales the height of each cycle: 'triangular' not, 'triangular2' by halves,
    'exp_range' by `gamma` to the number of iterations; `scale_fn` replaces it.

    errors: ValueError for an unknown mode without `scale_fn`, lists that do not fit the groups,
    or `cycle_momentum` where the optimizer has none.
    source: Smith 2015, arXiv:1506.01186
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        op = "CyclicLR"
        check_optimizer(op, optimizer)
        self.optimizer = optimizer
        base_lrs = per_group(op, "base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs):
                assign(group, "lr", lr)
        self.max_lrs = per_group(op, "max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            expected = "'triangular', 'triangular2', 'exp_range' or a scale_fn"
            raise fail(ValueError, op, f"mode={mode!r}", expected)
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        if scale_fn is None:
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._find_momentum()
            self.base_momentums = per_group(op, "base_momentum", optimizer, base_momentum)
            self.max_momentums = per_group(op, "max_momentum", optimizer, max_momentum)
            if last_epoch == -1:
                self._start_momentum(self.max_momentums, self.base_momentums)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The height of cycle (or at iteration) `x`, as a part of the full one."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return 1 / 2.0 ** (x - 1)
        return self.gamma**x if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        turns = 1.0 + self.last_epoch / self.total_size
        cycle = math.floor(turns)
        x = turns - cycle
        is_up = x <= self.step_ratio
        height = x / self.step_ratio if is_up else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            pairs = zip(self.base_momentums, self.max_momentums)
            for group, (low, high) in zip(self.optimizer.param_groups, pairs, strict=True):
                self._set_momentum(group, high - (high - low) * height * scale)
        pairs = zip(self.base_lrs, self.max_lrs, strict=True)
        return [low + (high - low) * height * scale for low, high in pairs]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_scale_fn_custom": saved_callable(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rest = dict(state_dict)
        saved = rest.pop("_scale_fn_custom")
        if saved is not None:
            vars(self._scale_fn_custom).update(saved)
        super().load_state_dict(rest)


class OneCycleLR(_MomentumCycle):
    """One rise to `max_lr` and one fall far below the start, the momentum against it.

    The rise takes `pct_start` of `total_steps` (or of `epochs * steps_per_epoch`);
    `three_phase` comes down as it went up before the last fall.

    errors: ValueError for steps that are no positive integers, `pct_start` outside of [0, 1], an
    unknown `anneal_strategy`, or more steps than `total_steps`.
    source: Smith & Topin 2017, arXiv:1708.07120
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        op = "OneCycleLR"
        check_optimizer(op, optimizer)
        self.optimizer = optimizer
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not (isinstance(pct_start, float) and 0 <= pct_start <= 1):
            raise fail(ValueError, op, f"pct_start={pct_start!r}", "a float between 0 and 1")
        if anneal_strategy not in ("cos", "linear"):
            raise fail(ValueError, op, f"anneal_strategy={anneal_strategy!r}", "'cos' or 'linear'")
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        self._anneal_func_type = anneal_strategy
        max_lrs = per_group(op, "max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, highest in zip(optimizer.param_groups, max_lrs):
                group["initial_lr"] = highest / div_factor
                group["max_lr"] = highest
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._find_momentum()
            highest = per_group(op, "max_momentum", optimizer, max_momentum)
            lowest = per_group(op, "base_momentum", optimizer, base_momentum)
            if last_epoch == -1:
                self._start_momentum(highest, lowest)
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: float, end: float, pct: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * pct + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * pct) + 1)

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        step = self.last_epoch
        if step > self.total_steps:
            raise fail(ValueError, "OneCycleLR", f"step {step}", f"at most {self.total_steps}")
        start, last = 0.0, self._schedule_phases[-1]
        for phase in self._schedule_phases:
            if step <= phase["end_step"] or phase is last:
                break
            start = phase["end_step"]
        pct = (step - start) / (phase["end_step"] - start)
        lrs = []
        for group in self.optimizer.param_groups:
            lrs.append(self._anneal(group[phase["start_lr"]], group[phase["end_lr"]], pct))
            if self.cycle_momentum:
                ends = group[phase["start_momentum"]], group[phase["end_momentum"]]
                self._set_momentum(group, self._anneal(*ends, pct))
        return lrs


def _total_steps(total: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total is not None:
        counts = {"total_steps": total}
    elif epochs is not None and steps_per_epoch is not None:
        counts = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    else:
        got, expected = "no number of steps", "total_steps, or epochs and steps_per_epoch"
        raise fail(ValueError, "OneCycleLR", got, expected)
    for name, count in counts.items():
        if not isinstance(count, int) or count <= 0:
            raise fail(ValueError, "OneCycleLR", f"{name}={count!r}", "a positive integer")
    return math.prod(counts.values())


def _phases(total: int, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
    """Each phase by its last step and the names of the options that it goes between."""
    names = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
    rise = (pct_start * total - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
    if three_phase:
        back = 2 * pct_start * total - 2
        falls = [
            (back, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
            (total - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
        ]
    else:
        falls = [(total - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
    return [dict(zip(names, phase)) for phase in (rise, *falls)]
