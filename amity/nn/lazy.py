"""Modules that take the shape of their parameters from the first input."""

from __future__ import annotations

from typing import Any

from amity.core.errors import fail
from amity.nn.parameter import is_lazy


class LazyModuleMixin:
    """Makes a module lazy: name it before the module class, and write two things.

    `becomes` is the class of the module once it has its shapes; `initialize_parameters(*args)`
    gives the uninitialized parameters and buffers their shapes.
    """

    becomes: type | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._initialize_hook = self.register_forward_pre_hook(
            LazyModuleMixin._infer_parameters, with_kwargs=True
        )

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give all uninitialized parameters and buffers their shapes."""
        raise NotImplementedError(
            f"initialize_parameters is not implemented for {type(self).__name__}"
        )

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of the module itself still has no shape."""
        return any(is_lazy(t) for t in (*self._parameters.values(), *self._buffers.values()))

    def _infer_parameters(self, args: tuple, kwargs: dict) -> None:
        self.initialize_parameters(*args, **kwargs)
        if self.has_uninitialized_params():
            expected = "initialize_parameters to give every parameter a shape"
            raise fail(RuntimeError, self._get_name(), "uninitialized parameters", expected)
        self._initialize_hook.remove()
        del self._initialize_hook
        if self.becomes is not None:
            self.__class__ = self.becomes
