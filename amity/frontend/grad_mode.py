"""Whether ops are recorded: no_grad, enable_grad, inference_mode, detect_anomaly."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .tape import modes


def recording(is_on: bool) -> bool | int:
    """What `modes.grad` is: with anomaly mode a true value other than True, so that the inlined
    tape of the hot methods steps aside for the one that notes the forward line."""
    return (2 if modes.anomaly else True) if is_on else False


class _Mode:
    """A context manager that also decorates functions and generators."""

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generate(*args: Any, **kwargs: Any) -> Any:
                inner = function(*args, **kwargs)
                step, given = inner.send, None
                while True:
                    with self._again():
                        try:
                            value = step(given)
                        except StopIteration as stop:
                            return stop.value
                    try:
                        step, given = inner.send, (yield value)
                    except BaseException as error:  # GeneratorExit included: its `finally` runs
                        step, given = inner.throw, error

            return generate

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapped

    def _again(self) -> _Mode:
        return type(self)()


class no_grad(_Mode):
    """No recording inside.

    >>> import amity
    >>> x = amity.ones(2, requires_grad=True)
    >>> with amity.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    value = False

    def __new__(cls, function: Callable | None = None) -> Any:
        mode = object.__new__(cls)
        return mode if function is None else mode(function)

    def __init__(self, function: Callable | None = None) -> None:
        pass

    def __enter__(self) -> None:
        self.before = modes.grad
        modes.grad = recording(self.value)

    def __exit__(self, *exc: object) -> None:
        modes.grad = self.before


class enable_grad(no_grad):
    """Recording inside, even within no_grad."""

    value = True


class set_grad_enabled(_Mode):
    """Recording on or off, as a function or as a context."""

    def __init__(self, mode: bool) -> None:
        self.mode, self.before = bool(mode), modes.grad
        modes.grad = recording(self.mode)

    def __call__(self, function: Callable) -> Callable:
        modes.grad = self.before
        return super().__call__(function)

    def _again(self) -> set_grad_enabled:
        return set_grad_enabled(self.mode)

    def __enter__(self) -> None:
        modes.grad = recording(self.mode)

    def __exit__(self, *exc: object) -> None:
        modes.grad = self.before


class inference_mode(_Mode):
    """No recording inside. What is made inside are ordinary tensors: unlike PyTorch's, they may be
    used in recorded code and written to later."""

    def __init__(self, mode: bool | Callable = True) -> None:
        self.mode = mode if isinstance(mode, bool) else True

    def __new__(cls, mode: bool | Callable = True) -> Any:
        self = object.__new__(cls)
        if callable(mode):
            self.mode = True
            return self(mode)
        return self

    def _again(self) -> inference_mode:
        return inference_mode(self.mode)

    def __enter__(self) -> None:
        self.before = modes.grad, modes.inference
        modes.inference = self.mode
        modes.grad = recording(not self.mode)

    def __exit__(self, *exc: object) -> None:
        modes.grad, modes.inference = self.before


class detect_anomaly(_Mode):
    """Names the forward line of an op whose gradient fails or, with `check_nan`, is NaN."""

    mode = True

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def _again(self) -> detect_anomaly:
        return detect_anomaly(self.check_nan)

    def __enter__(self) -> None:
        self.before = modes.anomaly, modes.checks_nan, modes.grad
        self._set()

    def _set(self) -> None:
        modes.anomaly, modes.checks_nan = self.mode, self.mode and self.check_nan
        modes.grad = recording(bool(modes.grad))

    def __exit__(self, *exc: object) -> None:
        modes.anomaly, modes.checks_nan, modes.grad = self.before


class set_detect_anomaly(detect_anomaly):
    """Anomaly mode on or off, as a function or as a context."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(check_nan)
        self.mode, self.before = mode, (modes.anomaly, modes.checks_nan, modes.grad)
        self._set()

    def __call__(self, function: Callable) -> Callable:
        self.__exit__()
        return super().__call__(function)

    def _again(self) -> set_detect_anomaly:
        return set_detect_anomaly(self.mode, self.check_nan)

    def __enter__(self) -> None:
        self._set()


def is_anomaly_enabled() -> bool:
    """Whether this thread is in anomaly mode."""
    return modes.anomaly


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode looks for NaN in this thread."""
    return modes.checks_nan


def is_grad_enabled() -> bool:
    """Whether ops are recorded in this thread."""
    return bool(modes.grad)


def is_inference_mode_enabled() -> bool:
    """Whether this thread is in inference mode."""
    return modes.inference
