"""Schedulers made of schedulers: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from amity.core.errors import fail
from amity.optim.lr_scheduler.plateau import ReduceLROnPlateau
from amity.optim.lr_scheduler.scheduler import LRScheduler, assign, values
from amity.optim.optimizer import Optimizer


class _Composed(LRScheduler):
    """Holds schedulers of one optimizer, and saves them with itself."""

    _unsaved = ("optimizer", "_schedulers")

    def _hold(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        op = type(self).__name__
        if not schedulers:
            raise fail(ValueError, op, "no scheduler", "at least one")
        for i, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise fail(TypeError, op, f"no `optimizer` at index {i}", "schedulers")
            if isinstance(scheduler, ReduceLROnPlateau):
                got = f"a ReduceLROnPlateau at index {i}"
                raise fail(ValueError, op, got, "schedulers whose step needs no metrics")
            optimizer = optimizer or scheduler.optimizer
            if scheduler.optimizer is not optimizer:
                raise fail(ValueError, op, f"another optimizer at index {i}", "the same one in all")
        self._schedulers, self.optimizer = schedulers, optimizer

    def _begin(self) -> None:
        """Go to epoch 0, from the learning rates as they are."""
        raise NotImplementedError

    def _initial_step(self) -> None:
        self._begin()
        self._last_lr = values(self.optimizer, "lr")

    def _update_lr(self, epoch: int | None = None) -> None:
        """As a part of a SequentialLR: start anew at its milestone."""
        _reset_lr(self.optimizer)
        self._initial_step()

    def state_dict(self) -> dict[str, Any]:
        saved = [scheduler.state_dict() for scheduler in self._schedulers]
        return {**super().state_dict(), "_schedulers": saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rest = dict(state_dict)
        for scheduler, saved in zip(self._schedulers, rest.pop("_schedulers")):
            scheduler.load_state_dict(saved)
        super().load_state_dict(rest)


class SequentialLR(_Composed):
    """One scheduler after the other, each from its own start; they change at `milestones`.

    errors: ValueError unless there is one milestone between each two schedulers, of one optimizer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        self._hold(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            got = f"{len(schedulers)} schedulers and {len(milestones)} milestones"
            raise fail(ValueError, "SequentialLR", got, "one milestone between each two")
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        # Each scheduler took its first step when it was made: all of these are undone.
        _reset_lr(optimizer)
        for scheduler in schedulers:
            _undo_first_step(scheduler)
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def _begin(self) -> None:
        self.last_epoch = 0
        _begin(self._schedulers[bisect_right(self._milestones, 0)])

    def step(self) -> None:  # type: ignore[override]
        """Go on to the next epoch."""
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _reset_lr(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        assign(group, "lr", group["initial_lr"])


def _begin(scheduler: LRScheduler) -> None:
    if not isinstance(scheduler, _Composed):
        scheduler.last_epoch = -1
    scheduler._initial_step()


def _undo_first_step(scheduler: LRScheduler) -> None:
    if isinstance(scheduler, _Composed):
        for inner in scheduler._schedulers:
            _undo_first_step(inner)
    else:
        scheduler.last_epoch -= 1


class ChainedScheduler(_Composed):
    """All schedulers at once, each on the learning rate that the one before left.

    errors: ValueError for no scheduler, or schedulers of several optimizers.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._hold(schedulers, optimizer)
        self._last_lr = values(self.optimizer, "lr")

    def _begin(self) -> None:
        for scheduler in self._schedulers:
            _begin(scheduler)

    def step(self) -> None:  # type: ignore[override]
        """Let every scheduler go on to its next epoch."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = values(self.optimizer, "lr")
