"""Python functions over elements: slow, one call each."""

from __future__ import annotations

from collections.abc import Callable

from . import create
from .tensor import Tensor


def _mapped(name: str, self: Tensor, others: tuple[Tensor, ...], function: Callable) -> Tensor:
    if any(t.requires_grad for t in (self, *others)):
        raise RuntimeError(
            f"{name}: Can't call {name}() on Variable that requires grad: got one; expected "
            f"tensors off the tape, e.g. from detach()"
        )
    flat = [t.expand(self.shape).reshape(-1).tolist() for t in (self, *others)]
    values = [function(*v) for v in zip(*flat, strict=True)]
    return self.copy_(create.tensor(values, dtype=self.dtype).reshape(self.shape))


def apply_(self: Tensor, callable: Callable) -> Tensor:
    """Each element replaced by a Python function of it."""
    return _mapped("apply_", self, (), callable)


def map_(self: Tensor, tensor: Tensor, callable: Callable) -> Tensor:
    """Each element replaced by a Python function of it and of another tensor's."""
    return _mapped("map_", self, (tensor,), callable)


def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable) -> Tensor:
    """Each element replaced by a Python function of it and of two other tensors'."""
    return _mapped("map2_", self, (x, y), callable)


for _f in (apply_, map_, map2_):
    setattr(Tensor, _f.__name__, _f)
