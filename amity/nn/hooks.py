"""Hooks: functions that a module calls around its forward and its backward."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from amity.core.errors import fail
from amity.core.hooks import RemovableHandle, add
from amity.frontend.autograd import Function
from amity.frontend.grad_mode import is_grad_enabled
from amity.frontend.tensor import Tensor


class GlobalHooks:
    """Hooks that every module calls, before its own."""

    def __init__(self) -> None:
        self.calls: OrderedDict = OrderedDict()  # ids of all hooks around calls, for a quick look
        self.forward_pre: OrderedDict = OrderedDict()
        self.forward: OrderedDict = OrderedDict()
        self.forward_with_kwargs: OrderedDict = OrderedDict()
        self.forward_always: OrderedDict = OrderedDict()
        self.backward_pre: OrderedDict = OrderedDict()
        self.backward: OrderedDict = OrderedDict()
        self.buffer: OrderedDict = OrderedDict()
        self.module: OrderedDict = OrderedDict()
        self.parameter: OrderedDict = OrderedDict()


EVERY = GlobalHooks()


def registered(kind: str, module: Any, name: str, value: Any) -> Any:
    """What the global registration hooks of `kind` make of a new member."""
    for hook in getattr(EVERY, kind).values():
        result = hook(module, name, value)
        if result is not None:
            value = result
    return value


def _tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _run_pre_hooks(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    own_with_kwargs = module._forward_pre_hooks_with_kwargs
    hooks = [
        *((h, False) for h in EVERY.forward_pre.values()),
        *((h, i in own_with_kwargs) for i, h in module._forward_pre_hooks.items()),
    ]
    for hook, with_kwargs in hooks:
        if with_kwargs:
            result = hook(module, args, kwargs)
            if result is None:
                continue
            if not (isinstance(result, tuple) and len(result) == 2):
                expected = "None or a tuple of (new_args, new_kwargs)"
                raise fail(RuntimeError, "forward pre-hook", result, expected)
            args, kwargs = result
        else:
            result = hook(module, args)
            if result is not None:
                args = _tuple(result)
    return args, kwargs


def _own_hooks(module: Any) -> list[tuple[int, Callable, bool]]:
    with_kwargs = module._forward_hooks_with_kwargs
    return [(i, h, i in with_kwargs) for i, h in module._forward_hooks.items()]


def _run_hook(hook: Callable, with_kwargs: bool, module: Any, args: tuple, kwargs: dict, out: Any):
    changed = hook(module, args, kwargs, out) if with_kwargs else hook(module, args, out)
    return out if changed is None else changed


def call(module: Any, args: tuple, kwargs: dict) -> Any:
    """Call `module.forward` with all hooks around it, PyTorch's order: global ones first."""
    called: set[int] = set()
    out = None
    try:
        args, kwargs = _run_pre_hooks(module, args, kwargs)
        backward = BackwardHook.of(module)
        if backward is not None:
            args = backward.watch_input(args)
        out = module.forward(*args, **kwargs)
        every = [(i, h, i in EVERY.forward_with_kwargs) for i, h in EVERY.forward.items()]
        for i, hook, with_kwargs in every + _own_hooks(module):
            called.add(i)
            out = _run_hook(hook, with_kwargs, module, args, kwargs, out)
        return out if backward is None else backward.watch_output(out)
    except Exception:
        _run_always_called(module, args, kwargs, out, called)
        raise


def _run_always_called(module: Any, args: tuple, kwargs: dict, out: Any, called: set) -> None:
    """After an error: the `always_call` hooks that have not run; their own errors only warn."""
    every = [(i, EVERY.forward[i], i in EVERY.forward_with_kwargs) for i in EVERY.forward_always]
    own = [entry for entry in _own_hooks(module) if entry[0] in module._forward_hooks_always_called]
    for i, hook, with_kwargs in every + own:
        if i in called:
            continue
        try:
            out = _run_hook(hook, with_kwargs, module, args, kwargs, out)
        except Exception as error:
            warnings.warn(
                f"forward hook with always_call=True raised {error!r}; "
                "it was silenced because an error was already raised in forward",
                stacklevel=3,
            )


class _Watch(Function):
    """The identity; its backward passes on what `ctx.seen` makes of the gradients."""

    @staticmethod
    def forward(ctx: Any, seen: Callable, *tensors: Tensor) -> tuple:
        ctx.seen = seen
        ctx.mark_non_differentiable(
            *(t for t, needed in zip(tensors, ctx.needs_input_grad[1:], strict=True) if not needed)
        )
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple:
        return None, *ctx.seen(grads)


def _spread(indices: list[int], values: tuple, size: int) -> tuple:
    """`values` at `indices` of a tuple of `size`, None elsewhere."""
    out: list = [None] * size
    for i, value in zip(indices, values, strict=True):
        out[i] = value
    return tuple(out)


class BackwardHook:
    """One call of a module whose gradients are watched by full backward (pre-)hooks."""

    def __init__(self, module: Any, pre: list[Callable], full: list[Callable]) -> None:
        self.module, self.pre, self.full = module, pre, full
        self.inputs: list[int] = []
        self.input_count = 0
        self.is_input_watched = False
        self.grad_output: tuple | None = None

    @staticmethod
    def of(module: Any) -> BackwardHook | None:
        pre = [*EVERY.backward_pre.values(), *module._backward_pre_hooks.values()]
        full = [*EVERY.backward.values(), *module._backward_hooks.values()]
        return BackwardHook(module, pre, full) if pre or full else None

    def _watch(self, values: tuple, seen: Callable) -> tuple[tuple, list[int], bool]:
        indices = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
        tensors = [values[i] for i in indices]
        if not is_grad_enabled() or not any(t.requires_grad for t in tensors):
            return values, indices, False
        out = list(values)
        for i, tensor in zip(indices, _tuple(_Watch.apply(seen, *tensors)), strict=True):
            out[i] = tensor
        if hasattr(values, "_fields"):
            return type(values)(*out), indices, True
        return tuple(out), indices, True

    def watch_input(self, args: tuple) -> tuple:
        self.input_count = len(args)
        args, self.inputs, self.is_input_watched = self._watch(args, self._on_grad_input)
        return args

    def watch_output(self, result: Any) -> Any:
        if not isinstance(result, (Tensor, tuple)):
            warnings.warn(
                "backward hooks see a module's output only where it is a Tensor or a tuple of "
                f"Tensors, got {type(result).__name__}",
                stacklevel=4,
            )
            return result
        values = _tuple(result)
        indices = [i for i, v in enumerate(values) if isinstance(v, Tensor)]

        def on_grad_output(grads: tuple) -> tuple:
            return self._on_grad_output(indices, len(values), grads)

        watched, _, _ = self._watch(values, on_grad_output)
        return watched if isinstance(result, tuple) else watched[0]

    def _on_grad_output(self, indices: list[int], size: int, grads: tuple) -> tuple:
        self.grad_output = _spread(indices, grads, size)
        for hook in self.pre:
            result = hook(self.module, self.grad_output)
            if result is not None:
                self.grad_output = self._checked("pre-hook", result, self.grad_output)
        if not self.is_input_watched:
            nothing = (None,) * self.input_count
            for hook in self.full:
                result = hook(self.module, nothing, self.grad_output)
                if result is not None and any(r is not None for r in _tuple(result)):
                    expected = "None, as no input requires a gradient"
                    raise fail(RuntimeError, "backward hook", "a gradient", expected)
        return tuple(self.grad_output[i] for i in indices)

    def _on_grad_input(self, grads: tuple) -> tuple:
        grad_input = _spread(self.inputs, grads, self.input_count)
        for hook in self.full:
            result = hook(self.module, grad_input, self.grad_output)
            if result is not None:
                grad_input = self._checked("hook", result, grad_input)
        self.grad_output = None
        return tuple(grad_input[i] for i in self.inputs)

    @staticmethod
    def _checked(what: str, result: Any, old: tuple) -> tuple:
        new = _tuple(result)
        if len(new) != len(old):
            raise fail(RuntimeError, f"backward {what}", f"{len(new)} gradients", str(len(old)))
        return new


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(module, args)` before the forward of every module."""
    return add(EVERY.forward_pre, hook, flags=((EVERY.calls, True),))


def register_module_forward_hook(
    hook: Callable, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call `hook(module, args, output)` after the forward of every module."""
    flags = (
        (EVERY.calls, True),
        (EVERY.forward_with_kwargs, with_kwargs),
        (EVERY.forward_always, always_call),
    )
    return add(EVERY.forward, hook, flags=flags)


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(module, grad_output)` before the backward of every module."""
    return add(EVERY.backward_pre, hook, flags=((EVERY.calls, True),))


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(module, grad_input, grad_output)` after the backward of every module."""
    return add(EVERY.backward, hook, flags=((EVERY.calls, True),))


def register_module_buffer_registration_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(module, name, buffer)` when any module registers a buffer."""
    return add(EVERY.buffer, hook)


def register_module_module_registration_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(module, name, submodule)` when any module registers a submodule."""
    return add(EVERY.module, hook)


def register_module_parameter_registration_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(module, name, parameter)` when any module registers a parameter."""
    return add(EVERY.parameter, hook)
