"""Calling a module with other tensors in the place of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from amity.frontend.tensor import Tensor
from amity.nn.module import Module
from amity.ops import stack


@contextmanager
def _swapped(module: Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Put `tensors` by dotted name into the registries, and the old ones back at the end."""
    places = []
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        registry = owner._parameters if last in owner._parameters else owner._buffers
        places.append((registry, last, registry[last], tensor))
    try:
        for registry, name, _, new in places:
            registry[name] = new
        yield
    finally:
        for registry, name, old, _ in places:
            registry[name] = old


def _tied(module: Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors`, and each of them under the other names that share its tensor."""
    groups: dict[int, list[str]] = {}
    for named in (module.named_parameters, module.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            groups.setdefault(id(tensor), []).append(name)
    out = dict(tensors)
    for names in groups.values():
        given = [name for name in names if name in tensors]
        if len({id(tensors[name]) for name in given}) > 1:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(given)}, which are tied. "
                "Consider using tie_weights=False"
            )
        for name in names if given else ():
            out[name] = tensors[given[0]]
    return out


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call `module` with the given tensors for parameters and buffers; it keeps its own.

    errors: RuntimeError for names the module lacks, and with `strict` for names not given

    >>> functional_call(Module(), {}, (), strict=True)
    Traceback (most recent call last):
    NotImplementedError: Module [Module] is missing the required "forward" function
    """
    tensors: dict[str, Tensor] = {}
    dicts = parameter_and_buffer_dicts
    for part in (dicts,) if isinstance(dicts, Mapping) else dicts:
        for name, tensor in part.items():
            if name in tensors:
                raise ValueError(f"{name} appeared in multiple dictionaries")
            tensors[name] = tensor
    known = {
        name
        for named in (module.named_parameters, module.named_buffers)
        for name, _ in named(remove_duplicate=False)
    }
    tensors = _tied(module, tensors) if tie_weights else tensors
    problems = []
    if unexpected := sorted(tensors.keys() - known):
        problems.append("Unexpected key(s): " + ", ".join(unexpected) + ".")
    if strict and (missing := sorted(known - tensors.keys())):
        problems.append("Missing key(s): " + ", ".join(missing) + ".")
    if problems:
        name = type(module).__name__
        raise RuntimeError(f"Error(s) in reparametrizing for {name}:\n\t" + "\n\t".join(problems))
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with _swapped(module, tensors):
        return module(*args, **(kwargs or {}))


def stack_module_state(
    models: Sequence[Module],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of models of one class, each stacked along a new dimension.

    errors: RuntimeError for no models, or of different classes or modes
    """
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected all models to have the same training/eval mode."
        )
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    parameters = {
        name: _stacked([m.get_parameter(name) for m in models])
        for name, _ in models[0].named_parameters()
    }
    buffers = {
        name: _stacked([m.get_buffer(name) for m in models])
        for name, _ in models[0].named_buffers()
    }
    return parameters, buffers


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """A new leaf that asks for a gradient as the tensors do."""
    if len({t.requires_grad for t in tensors}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected each parameter to have the same .requires_grad in all models"
        )
    return stack([t.detach() for t in tensors]).requires_grad_(tensors[0].requires_grad)
