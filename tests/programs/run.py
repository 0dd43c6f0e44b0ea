"""One program run in three ways: by PyTorch, by amity, and by amity with what it compiles compiled."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)


def _as_it_is(function: Any) -> Any:
    return function


class Run:
    """A library, what compiling means in it, the same random numbers each time, and what was seen."""

    def __init__(self, library: Any, compile: Any = None) -> None:
        self.m, self.is_compiled = library, compile is not None
        self.compile = compile or _as_it_is
        self.draws = np.random.default_rng(3)
        self.seen: list[Any] = []

    def start(self) -> Run:
        """Let Python's random numbers be the same, too."""
        random.seed(3)
        return self

    def floats(self, *shape: int, scale: float = 1.0) -> Any:
        return self.m.tensor((self.draws.standard_normal(shape) * scale).astype("f").tolist())

    def ints(self, high: int, *shape: int) -> Any:
        return self.m.tensor(self.draws.integers(0, high, shape).tolist())

    def fill(self, module: Any) -> Any:
        """The same weights in either library."""
        with self.m.no_grad():
            for parameter in module.parameters():
                shape = tuple(parameter.shape)
                scale = 0.1 if len(shape) < 2 else 0.7 / np.sqrt(np.prod(shape[1:]))
                parameter.copy_(self.floats(*shape, scale=scale))
        return module

    def note(self, *values: Any) -> None:
        """Keep what is comparable of some values."""
        self.seen += [self._plain(v) for v in values]

    def fails(self, call: Any, *args: Any) -> None:
        """Note the class of what a call raises."""
        try:
            call(*args)
        except ERRORS as error:
            self.note(next(k.__name__ for k in ERRORS if isinstance(error, k)))
        else:
            self.note("no error")

    def _plain(self, x: Any) -> Any:
        if isinstance(x, self.m.Tensor):
            return str(x.dtype).split(".")[-1], tuple(x.shape), x.requires_grad, x.detach().tolist()
        if hasattr(x, "parameters"):
            return [self._plain(v) for v in x.state_dict().values()]
        if isinstance(x, dict):
            return {k: self._plain(v) for k, v in x.items()}
        return [self._plain(v) for v in x] if isinstance(x, (list, tuple)) else x
