"""GradScaler: losses scaled up, so that small gradients in float16 do not vanish."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from amity import ops
from amity.core.dtype import float16, float32, int32
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.grad_mode import no_grad
from amity.frontend.tensor import Tensor
from amity.optim.optimizer import Optimizer

READY, UNSCALED, STEPPED = range(3)


class _Turn:
    """How far an optimizer is in its step, and whether its gradients were finite."""

    def __init__(self) -> None:
        self.stage = READY
        self.found_inf: Tensor | None = None


class GradScaler:
    """Scales losses, unscales gradients before the optimizer's step, skips steps whose gradients are
    infinite or NaN, and adapts the scale: it shrinks after such a step and grows after
    `growth_interval` steps without one.

    errors: AssertionError for a growth factor <= 1 or a backoff factor >= 1; RuntimeError for calls
            out of turn

    >>> import amity
    >>> w = amity.ones(2, requires_grad=True)
    >>> optimizer, scaler = amity.optim.SGD([w], lr=0.5), GradScaler("cpu")
    >>> scaler.scale(w.sum()).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w.tolist(), scaler.get_scale()
    ([0.5, 0.5], 65536.0)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device, self._enabled = device, enabled
        if enabled and device == "cuda":
            warnings.warn(
                "GradScaler: got device 'cuda', but CUDA is not available. Disabling.", stacklevel=2
            )
            self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._init_scale, self._init_growth_tracker = init_scale, 0
        self._scale: Tensor | None = None  # made by the first loss
        self._growth_tracker: Tensor | None = None
        self._turns: dict[int, _Turn] = {}

    def _turn_of(self, optimizer: Optimizer) -> _Turn:
        return self._turns.setdefault(id(optimizer), _Turn())

    def _check_begun(self, name: str) -> None:
        if self._scale is None:
            raise AssertionError(
                f"Attempted {name} but _scale is None.  This may indicate your script did not use "
                "scaler.scale(loss or outputs) earlier in the iteration."
            )

    def scale(self, outputs: Any) -> Any:
        """A tensor, or those of an iterable, multiplied by the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                self._scale = create.full((), self._init_scale, dtype=float32)
                self._growth_tracker = create.full((), self._init_growth_tracker, dtype=int32)
            return outputs * self._scale
        if isinstance(outputs, Iterable):
            scaled = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    @no_grad()
    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide an optimizer's gradients by the scale, to look at or clip them before `step`.

        errors: RuntimeError if it was done since the last update; ValueError for gradients in float16
        """
        if not self._enabled:
            return
        self._check_begun("unscale_")
        turn = self._turn_of(optimizer)
        if turn.stage == UNSCALED:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if turn.stage == STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        inverse = self._scale.double().reciprocal().float()
        params = [p for group in optimizer.param_groups for p in group["params"]]
        grads = [p.grad for p in params if p.grad is not None]
        if any(g.dtype is float16 for g in grads):
            raise ValueError("Attempting to unscale FP16 gradients.")
        # A sum over x * 0 is 0, or NaN if an element is infinite or NaN.
        sums = [(g * 0).sum(dtype=float32) for g in grads]
        for g in grads:
            g.mul_(inverse)
        if sums:
            turn.found_inf = ops.stack(sums).sum().isnan().float()
        turn.stage = UNSCALED

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step on unscaled gradients, skipped if one is infinite or NaN.

        errors: RuntimeError if it was done since the last update, or for a closure
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._check_begun("step")
        turn = self._turn_of(optimizer)
        if turn.stage == STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if turn.stage == READY:
            self.unscale_(optimizer)
        if turn.found_inf is None:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        is_finite = not turn.found_inf.item()
        result = optimizer.step(*args, **kwargs) if is_finite else None
        turn.stage = STEPPED
        return result

    @no_grad()
    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapt the scale after a step, or set it."""
        if not self._enabled:
            return
        self._check_begun("update")
        if new_scale is None:
            found = [t.found_inf for t in self._turns.values() if t.found_inf is not None]
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.")
            self._adapt(found[0] if len(found) == 1 else ops.stack(found).sum())
        elif isinstance(new_scale, Tensor):
            if new_scale.numel() != 1 or new_scale.requires_grad:
                raise AssertionError(
                    "new_scale should be a float or a 1-element tensor with requires_grad=False."
                )
            self._scale.copy_(new_scale)
        elif isinstance(new_scale, float):
            self._scale.fill_(new_scale)
        else:
            raise fail(TypeError, "update", type(new_scale).__name__, "a float or a Tensor")
        self._turns = {}

    def _adapt(self, found_inf: Tensor) -> None:
        """The scale and the count of steps since it changed, without looking at either."""
        is_bad = found_inf > 0
        count = ops.where(is_bad, 0, self._growth_tracker + 1)
        has_earned = count == self._growth_interval
        grown = self._scale * self._growth_factor
        grown = ops.where(has_earned & grown.isfinite(), grown, self._scale)
        self._scale.copy_(ops.where(is_bad, self._scale * self._backoff_factor, grown))
        self._growth_tracker.copy_(ops.where(has_earned, 0, count))

    def get_scale(self) -> float:
        """The scale, or 1.0 if scaling is disabled."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float:
        """By what the scale grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set by what the scale grows."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """By what the scale is multiplied after a skipped step."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set by what the scale is multiplied after a skipped step."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many steps the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set after how many steps the scale grows."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        tracker = self._growth_tracker
        return self._init_growth_tracker if tracker is None else tracker.item()

    def is_enabled(self) -> bool:
        """Whether anything is scaled."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, its factors and interval, and the steps since it changed; empty if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        errors: RuntimeError for an empty one
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled "
                "instance of GradScaler."
            )
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None:
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        if not self._enabled:
            return self.__dict__
        if self._turns:
            raise AssertionError(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or at "
                "the end after scaler.update()."
            )
        fresh = {"_init_scale": self.get_scale(), "_scale": None, "_growth_tracker": None}
        return self.__dict__ | fresh | {"_init_growth_tracker": self._get_growth_tracker()}
