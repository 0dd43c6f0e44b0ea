"""Saving a module's tensors into a dictionary and loading them back."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Mapping
from typing import Any
from weakref import ref

from amity.core.errors import fail
from amity.frontend.grad_mode import no_grad
from amity.frontend.tensor import Tensor
from amity.nn.parameter import Parameter, is_lazy

EXTRA = "_extra_state"


class IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict(strict=False)` did not match."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


def save(module: Any, destination: Any, prefix: str, keep_vars: bool) -> Any:
    """Write the state of `module` and of its submodules into `destination`."""
    if destination is None:
        destination = OrderedDict()
        destination._metadata = OrderedDict()
    local_metadata = {"version": module._version}
    if hasattr(destination, "_metadata"):
        destination._metadata[prefix[:-1]] = local_metadata
    for hook in module._state_dict_pre_hooks.values():
        hook(module, prefix, keep_vars)
    module._save_to_state_dict(destination, prefix, keep_vars)
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(
                destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
            )
    for hook in module._state_dict_hooks.values():
        changed = hook(module, destination, prefix, local_metadata)
        if changed is not None:
            if getattr(hook, "_from_public_api", False):
                raise fail(RuntimeError, "state_dict post-hook", "a return value", "None")
            destination = changed
    return destination


def save_own(module: Any, destination: dict, prefix: str, keep_vars: bool) -> None:
    """Write the tensors of `module` alone."""
    for name, tensor in _persistent(module).items():
        if tensor is not None:
            destination[prefix + name] = tensor if keep_vars or is_lazy(tensor) else tensor.detach()
    if type(module).get_extra_state is not get_extra_state:
        destination[prefix + EXTRA] = module.get_extra_state()


def _persistent(module: Any) -> dict[str, Tensor | None]:
    hidden = module._non_persistent_buffers_set
    return {**module._parameters, **{k: v for k, v in module._buffers.items() if k not in hidden}}


def get_extra_state(module: Any) -> Any:
    """Extra state to save with the tensors; a module that has any overrides this."""
    raise RuntimeError(
        f"get_extra_state: got {type(module).__name__}, which has none; expected a module that "
        "overrides get_extra_state()"
    )


def set_extra_state(module: Any, state: Any) -> None:
    """Take back what `get_extra_state` gave."""
    raise RuntimeError(
        f"set_extra_state: got {type(module).__name__}, which has none; expected a module that "
        "overrides set_extra_state()"
    )


class PreHook:
    """A hook before loading, with the module as first argument if it wants it."""

    def __init__(self, hook: Callable, module: Any) -> None:
        self.hook = hook
        self.module = None if module is None else ref(module)

    def __call__(self, *args: Any) -> None:
        self.hook(*args) if self.module is None else self.hook(self.module(), *args)

    def __getstate__(self) -> tuple:
        return self.hook, None if self.module is None else self.module()

    def __setstate__(self, state: tuple) -> None:
        self.hook, module = state
        self.module = None if module is None else ref(module)


def load(module: Any, state_dict: Mapping, strict: bool, assign: bool) -> IncompatibleKeys:
    """Copy (or, with `assign`, put) the tensors of `state_dict` into `module`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    metadata = getattr(state_dict, "_metadata", None)
    state_dict = OrderedDict(state_dict)
    if metadata is not None:
        state_dict._metadata = metadata

    def visit(module: Any, state: Mapping, prefix: str) -> None:
        local = {} if metadata is None else metadata.get(prefix[:-1], {})
        if assign:
            local = {**local, "assign_to_params_buffers": True}
        module._load_from_state_dict(state, prefix, local, True, missing, unexpected, errors)
        for name, child in module._modules.items():
            if child is not None:
                inner = f"{prefix}{name}."
                visit(child, {k: v for k, v in state.items() if k.startswith(inner)}, inner)
        keys = IncompatibleKeys(missing, unexpected)
        for hook in module._load_state_dict_post_hooks.values():
            if hook(module, keys) is not None:
                expected = "None, with the keys changed in place"
                raise fail(RuntimeError, "load_state_dict post-hook", "a return value", expected)

    visit(module, state_dict, "")
    if strict:
        for what, keys in (("Unexpected", unexpected), ("Missing", missing)):
            if keys:
                names = ", ".join(f'"{k}"' for k in keys)
                errors.insert(0, f"{what} key(s) in state_dict: {names}. ")
    if errors:
        lines = "\n\t".join(errors)
        raise RuntimeError(
            f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{lines}"
        )
    return IncompatibleKeys(missing, unexpected)


def load_own(
    module: Any,
    state_dict: Mapping,
    prefix: str,
    local_metadata: dict,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Load the tensors of `module` alone; problems go into the three lists."""
    for hook in module._load_state_dict_pre_hooks.values():
        hook(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
    assign = local_metadata.get("assign_to_params_buffers", False)
    own = {k: v for k, v in _persistent(module).items() if v is not None}
    for name, target in own.items():
        key = prefix + name
        if key in state_dict:
            problem = _put(module, name, target, key, state_dict[key], assign)
            if problem:
                errors.append(problem)
        elif strict:
            missing.append(key)
    extra = prefix + EXTRA
    if type(module).set_extra_state is not set_extra_state:
        if extra in state_dict:
            module.set_extra_state(state_dict[extra])
        elif strict:
            missing.append(extra)
    elif strict and extra in state_dict:
        unexpected.append(extra)
    if strict:
        _add_unexpected(module, state_dict, prefix, own, unexpected)


def _add_unexpected(
    module: Any, state_dict: Mapping, prefix: str, own: dict, unexpected: list[str]
) -> None:
    for key in state_dict:
        if key.startswith(prefix) and key != prefix + EXTRA:
            first, *rest = key[len(prefix) :].split(".", 1)
            is_child = bool(rest) and module._modules.get(first) is not None
            if not is_child and (rest or first not in own):
                unexpected.append(key)


def _put(module: Any, name: str, target: Tensor, key: str, value: Any, assign: bool) -> str | None:
    """Load one tensor; what went wrong comes back as text, to be raised with the rest."""
    if not isinstance(value, Tensor):
        return (
            f'While copying the parameter named "{key}", expected a Tensor-like '
            f"object from checkpoint but received {type(value)}"
        )
    if is_lazy(target) and not is_lazy(value):
        target.materialize(value.shape)
    if not is_lazy(target) and not is_lazy(value):
        if target.dim() == 0 and tuple(value.shape) == (1,):
            value = value[0]  # checkpoints from before 0-d tensors
        if tuple(value.shape) != tuple(target.shape):
            return (
                f"size mismatch for {key}: copying a param with shape {value.shape} from "
                f"checkpoint, the shape in current model is {target.shape}."
            )
    elif is_lazy(value) and not is_lazy(target):
        return f"size mismatch for {key}: got an uninitialized tensor for an initialized one."
    else:
        return None
    try:
        with no_grad():
            if assign:
                if isinstance(target, Parameter):
                    if not isinstance(value, Parameter):
                        value = Parameter(value, requires_grad=target.requires_grad)
                    else:
                        value.requires_grad_(target.requires_grad)
                setattr(module, name, value)
            else:
                target.copy_(value)
    except (RuntimeError, TypeError, ValueError) as error:
        return (
            f'While copying the parameter named "{key}", whose dimensions in the model are '
            f"{target.shape} and whose dimensions in the checkpoint are {value.shape}, an "
            f"exception occurred : {error.args}."
        )
    return None
