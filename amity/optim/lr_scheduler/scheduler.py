"""LRScheduler: sets the learning rate of each group at the start of an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from amity.core.errors import fail
from amity.frontend.tensor import Tensor
from amity.optim.optimizer import Group, Optimizer


class LRScheduler:
    """The parent of all schedulers; subclasses write `get_lr`, called with `last_epoch` set.

    errors: TypeError if `optimizer` is none; KeyError if `last_epoch` says that training goes on
    and a group lacks `initial_lr`.
    """

    _get_lr_called_within_step = False
    _is_initial = False
    # Attributes that `state_dict` leaves out.
    _unsaved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", detached(group["lr"]))
            elif "initial_lr" not in group:
                raise fail(
                    KeyError,
                    type(self).__name__,
                    f"last_epoch={last_epoch} and no 'initial_lr' in param_groups[{i}]",
                    "the optimizer's saved state to be loaded first",
                )
        self.base_lrs = values(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        optimizer._opt_called = False
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def state_dict(self) -> dict[str, Any]:
        """All that changes, without the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key not in self._unsaved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The learning rates that the last step set, one a group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The learning rates of epoch `last_epoch`, one a group."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch; call it after `optimizer.step()`. `epoch` is deprecated."""
        if self._step_count == 1:
            self._check_order()
        self._step_count += 1
        if epoch is not None:
            warn_of_epoch()
        self._update_lr(epoch)

    def _check_order(self) -> None:
        if "step" in vars(self.optimizer):
            return  # someone wrapped it: nothing is known of their calls
        if not self.optimizer._opt_called:
            warnings.warn(
                f"{type(self).__name__}: `lr_scheduler.step()` came before `optimizer.step()`; "
                "the first learning rate of the schedule is skipped",
                UserWarning,
                stacklevel=3,
            )

    def _update_lr(self, epoch: int | None = None) -> None:
        with self._within_step():
            self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
            # Reached by a jump, an epoch has no last learning rate to go on from.
            closed_form = getattr(self, "_get_closed_form_lr", self.get_lr)
            lrs = self.get_lr() if epoch is None else closed_form()
        self._set(lrs)

    def _set(self, lrs: list[Any]) -> None:
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            assign(group, "lr", lr)
        self._last_lr = values(self.optimizer, "lr")

    @contextmanager
    def _within_step(self) -> Iterator[None]:
        self._get_lr_called_within_step = True
        try:
            yield
        finally:
            self._get_lr_called_within_step = False

    def _warn_outside_step(self) -> None:
        if not self._get_lr_called_within_step:
            warnings.warn(
                f"{type(self).__name__}: get_lr() computes the next learning rate; "
                "get_last_lr() gives the last one",
                UserWarning,
                stacklevel=3,
            )


def warn_of_epoch() -> None:
    warnings.warn(
        "lr_scheduler.step: `epoch` is deprecated; call step() without it",
        UserWarning,
        stacklevel=3,
    )


def check_optimizer(op: str, optimizer: object) -> None:
    if not isinstance(optimizer, Optimizer):
        raise fail(TypeError, op, f"optimizer of type {type(optimizer).__name__}", "an Optimizer")


def detached(value: Any) -> Any:
    """The value, or a copy where it is a tensor that changes in place."""
    return value.clone() if isinstance(value, Tensor) else value


def values(optimizer: Optimizer, key: str) -> list[Any]:
    """An option of all groups."""
    return [detached(group[key]) for group in optimizer.param_groups]


def assign(group: Group, key: str, value: Any) -> None:
    """Set an option; one that is a tensor stays the same tensor."""
    if isinstance(group[key], Tensor):
        group[key].fill_(float(value))
    else:
        group[key] = value


def per_group(op: str, name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """`value` once for each group, unless it is already a list.

    errors: ValueError if there are more or fewer values than groups.
    """
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        value = [value] * count
    if len(value) != count:
        raise fail(ValueError, op, f"{len(value)} values of {name}", f"{count}, one a group")
    return [detached(item) for item in value]


def saved_callable(fn: Any) -> dict[str, Any] | None:
    """What to save of a callable: the attributes of an object, nothing of a function."""
    return None if fn is None or isinstance(fn, FunctionType) else vars(fn).copy()
