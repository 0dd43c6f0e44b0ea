"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from amity import ops
from amity.frontend.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of the parameters, in order, as one vector."""
    parts, device = [], None
    for param in parameters:
        device = _same_device(param, device)
        parts.append(param.reshape(-1))
    return ops.cat(parts)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Give each parameter its part of the vector."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected a Tensor, but got: {type(vec).__name__}")
    start, device = 0, None
    for param in parameters:
        device = _same_device(param, device)
        end = start + param.numel()
        param.data = vec[start:end].view(param.shape).data
        start = end


def _same_device(param: Tensor, device: object) -> object:
    if device is not None and param.device != device:
        raise TypeError(
            "Found two parameters on different devices, this is currently not supported."
        )
    return param.device
