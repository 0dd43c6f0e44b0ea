"""Parametrizations: a tensor of a module computed from other, freer ones.

A parametrized module gets a class of its own, whose property for the tensor computes it from
the originals, which live in `module.parametrizations.<name>`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from amity.frontend.grad_mode import no_grad
from amity.frontend.tensor import Tensor
from amity.nn.container import ModuleDict, ModuleList
from amity.nn.module import Module
from amity.nn.parameter import Parameter

_depth = 0
_values: dict[tuple[int, str], Tensor] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Within this context every parametrized tensor is computed once."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _values.clear()


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _as_original(new: Tensor, original: Tensor) -> Tensor:
    """`new` as a parameter if the original was one."""
    if isinstance(original, Parameter) and not isinstance(new, Parameter):
        new = Parameter(new, original.requires_grad)
    return new.requires_grad_(original.requires_grad)


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in order, with what they start from.

    The original is `original`, or `original0`, `original1`, ... where a `right_inverse` gave
    several tensors.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with no_grad():
            new: Any = original
            for module in reversed(list(self)):
                new = self._start(module, new)
        self.is_tensor = isinstance(new, Tensor)
        if not self.is_tensor and not isinstance(new, Sequence):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                f"Got {type(new).__name__}"
            )
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            if original.dtype != new.dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {original.dtype}\nright_inverse(original).dtype: {new.dtype}"
                )
            with no_grad():
                original.data = new.data
            _register(self, "original", original)
        else:
            for i, tensor in enumerate(new):
                if not isinstance(tensor, Tensor):
                    raise ValueError(
                        "'right_inverse' must return a Tensor or a Sequence of tensors "
                        f"(list, tuple...). Got element {i} of the sequence with type "
                        f"{type(tensor).__name__}."
                    )
                _register(self, f"original{i}", _as_original(tensor, original))
        if not unsafe:
            self._check(shape, dtype)

    @staticmethod
    def _start(module: Module, value: Any) -> Any:
        """What `module` starts from: its inverse, or the value itself where it has none."""
        if not hasattr(module, "right_inverse"):
            return value
        try:
            return module.right_inverse(value)
        except NotImplementedError:  # an inverse may exist for some options alone
            return value

    def _check(self, shape: Any, dtype: Any) -> None:
        value = self()
        if not isinstance(value, Tensor):
            raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
        if value.dtype != dtype:
            raise ValueError(
                "Registering a parametrization may not change the dtype of the tensor, unless "
                f"`unsafe` flag is enabled.\nunparametrized dtype: {dtype}\n"
                f"parametrized dtype: {value.dtype}"
            )
        if tuple(value.shape) != tuple(shape):
            raise ValueError(
                "Registering a parametrization may not change the shape of the tensor, unless "
                f"`unsafe` flag is enabled.\nunparametrized shape: {shape}\n"
                f"parametrized shape: {value.shape}"
            )

    def _originals(self) -> list[Tensor]:
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals so that the parametrized tensor becomes `value`."""
        with no_grad():
            new: Any = value
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"parametrization {type(module).__name__} does not implement right_inverse."
                    )
                new = module.right_inverse(new)
            if self.is_tensor != isinstance(new, Tensor):
                got, expected = type(new).__name__, "a tensor" if self.is_tensor else "a sequence"
                raise ValueError(f"`right_inverse` must return {expected}. Got {got}")
            new = [new] if self.is_tensor else list(new)
            if len(new) != self.ntensors:
                raise ValueError(
                    "'right_inverse' must return a sequence of tensors of length "
                    f"{self.ntensors}. Got a sequence of length {len(new)}."
                )
            for original, tensor in zip(self._originals(), new, strict=True):
                if not isinstance(tensor, Tensor):
                    raise ValueError(
                        f"`right_inverse` must return tensors. Got {type(tensor).__name__}"
                    )
                if original.dtype != tensor.dtype:
                    raise ValueError(
                        f"Tensor returned by `right_inverse` has dtype {tensor.dtype} while "
                        f"the original has dtype {original.dtype}"
                    )
                original.data = tensor.data

    def forward(self) -> Tensor:
        first, *rest = self
        value = first(*self._originals())
        for module in rest:
            value = module(value)
        return value


def _own_class(module: Module) -> None:
    """Give `module` a class of its own, on which properties can be set."""
    cls = type(module)

    def __deepcopy__(self: Module, memo: dict) -> Module:
        new = object.__new__(cls)
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(cls.__getstate__(self), memo))
        _own_class(new)
        for name in self.parametrizations:
            _add_property(new, name)
        return new

    def __getstate__(self: Module) -> dict:
        raise RuntimeError(
            "Serialization of parametrized modules is only supported through state_dict()."
        )

    body = {"__getstate__": __getstate__, "__deepcopy__": __deepcopy__, "_unparametrized": cls}
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), body)


def _plain_class(module: Module) -> type:
    return getattr(type(module), "_unparametrized", type(module))


def _add_property(module: Module, name: str) -> None:
    def get(self: Module) -> Tensor:
        parametrization = self.parametrizations[name]
        if not _depth:
            return parametrization()
        key = (id(self), name)
        if key not in _values:
            _values[key] = parametrization()
        return _values[key]

    def put(self: Module, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, put))


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Compute `module.tensor_name` by `parametrization` from now on.

    The parametrization's `right_inverse`, if it has one, gives the originals to start from, and
    makes assignment to the tensor possible. Several may be registered, one after the other.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        chain = module.parametrizations[tensor_name]
        if not unsafe:
            value = getattr(module, tensor_name)
            new = parametrization(value)
            _check_same(value, new)
            if hasattr(parametrization, "right_inverse"):
                with no_grad():
                    _check_inverse(value, parametrization.right_inverse(value))
        chain.append(parametrization)
        chain.unsafe |= unsafe
        return module
    if tensor_name not in module._buffers and tensor_name not in module._parameters:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element "
            f"with name '{tensor_name}'"
        )
    original = getattr(module, tensor_name)
    chain = ParametrizationList([parametrization], original, unsafe=unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        _own_class(module)
        module.parametrizations = ModuleDict()
    _add_property(module, tensor_name)
    module.parametrizations[tensor_name] = chain
    return module


def _check_same(old: Tensor, new: Any) -> None:
    if not isinstance(new, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(new).__name__}.")
    for what in ("dtype", "shape"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            raise ValueError(
                f"Registering a parametrization may not change the {what} of the tensor, unless "
                f"the `unsafe` flag is enabled.\nmodule {what}: {before}\n"
                f"parametrized {what}: {after}"
            )


def _check_inverse(old: Tensor, original: Any) -> None:
    if not isinstance(original, Tensor):
        raise ValueError(
            "`right_inverse` of a further parametrization must return a tensor. "
            f"Got {type(original).__name__}"
        )
    _check_same(old, original)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a tensor of the module, or the one of that name, is parametrized."""
    chains = module.__dict__.get("parametrizations")
    if not isinstance(chains, ModuleDict):
        return False
    return len(chains) > 0 if tensor_name is None else tensor_name in chains


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make the tensor an ordinary one: its present value, or what it was computed from."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain = module.parametrizations[tensor_name]
    if chain.is_tensor:
        tensor = chain.original
        if leave_parametrized:
            with no_grad():
                tensor.data = getattr(module, tensor_name).data
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        tensor = Parameter(value) if value.requires_grad else value
    else:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is "
            "parametrized in terms of a sequence of tensors."
        )
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, tensor)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = _plain_class(module)
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of the module before it was parametrized."""
    return _plain_class(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Give `to_module` copies of the parametrizations of `from_module`, on the same originals."""
    names = [tensor_name] if tensor_name else list(getattr(from_module, "parametrizations", ()))
    for name in names:
        if not is_parametrized(from_module, name):
            continue
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach().clone()))
        for parametrization in from_module.parametrizations[name]:
            register_parametrization(to_module, name, copy.deepcopy(parametrization))
        source, target = from_module.parametrizations[name], to_module.parametrizations[name]
        originals = ["original"] if source.is_tensor else None
        for key in originals or [f"original{i}" for i in range(source.ntensors)]:
            setattr(target, key, getattr(source, key))
    return to_module
