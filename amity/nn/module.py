"""Module: a function with parameters, buffers and submodules of its own."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from amity.core.dtype import DType
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.compiled import compile
from amity.frontend.grad_mode import no_grad
from amity.frontend.reach import Reach
from amity.frontend.tape import drop_grads
from amity.frontend.tensor import Tensor
from amity.nn import hooks, state
from amity.nn.hooks import EVERY, RemovableHandle
from amity.nn.members import REGISTRIES, Members
from amity.nn.registry import Registry

_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_state_dict_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


class Module(Members):
    """The parent of all layers and models.

    Assign parameters, buffers and modules to attributes in `__init__`, write `forward`, call it.

    >>> class Twice(Module):
    ...     def forward(self, x):
    ...         return 2 * x
    >>> Twice()(3)
    6
    """

    training: bool
    _version = 1
    call_super_init = False
    dump_patches = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and (args or kwargs):
            got = f"{len(args)} positional and {len(kwargs)} keyword arguments"
            raise fail(
                TypeError, f"{type(self).__name__}.__init__", got, "none for Module.__init__"
            )
        attributes = self.__dict__
        attributes["training"] = True
        for name in REGISTRIES:
            attributes[name] = Registry(self)
        attributes["_non_persistent_buffers_set"] = set()
        for name in _HOOKS:
            attributes[name] = OrderedDict()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *input: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (
            self._forward_hooks
            or self._forward_pre_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or EVERY.calls
        ):
            return hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def __reach__(self, reach: Reach, where: str) -> None:
        reach.instance(self, where)
        reach.follow(EVERY, "hooks of all modules")

    def compile(self, **options: Any) -> None:
        """Compile this module's forward in place, with the options of `amity.compile`."""
        self.forward = compile(self.forward, **options)  # type: ignore[method-assign]

    # ---- hooks

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before forward; what it returns replaces the arguments."""
        flags = ((self._forward_pre_hooks_with_kwargs, with_kwargs),)
        return hooks.add(self._forward_pre_hooks, hook, prepend, flags)

    def register_forward_hook(
        self,
        hook: Callable,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward; what it returns replaces the output."""
        flags = (
            (self._forward_hooks_with_kwargs, with_kwargs),
            (self._forward_hooks_always_called, always_call),
        )
        return hooks.add(self._forward_hooks, hook, prepend, flags)

    def register_full_backward_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_output)` before backward; it may return another gradient."""
        return hooks.add(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` once the inputs' gradients are known."""
        return hooks.add(self._backward_hooks, hook, prepend)

    register_backward_hook = register_full_backward_hook

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before the module saves its state."""
        return hooks.add(self._state_dict_pre_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable) -> RemovableHandle:
        if getattr(hook, "_from_public_api", False):
            expected = "a hook that register_state_dict_post_hook has not taken"
            raise fail(RuntimeError, "_register_state_dict_hook", hook, expected)
        return hooks.add(self._state_dict_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)` after the state is saved."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return hooks.add(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, ...)` before the module loads its state."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable, with_module: bool = False
    ) -> RemovableHandle:
        entry = state.PreHook(hook, self if with_module else None)
        return hooks.add(self._load_state_dict_pre_hooks, entry)

    def register_load_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` after loading; it may change the keys."""
        return hooks.add(self._load_state_dict_post_hooks, hook)

    # ---- state

    get_extra_state = state.get_extra_state
    set_extra_state = state.set_extra_state
    _save_to_state_dict = state.save_own
    _load_from_state_dict = state.load_own

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """All parameters and persistent buffers by dotted name; they share the module's memory."""
        if args:
            warnings.warn(
                "Positional args are being deprecated, use kwargs instead.",
                FutureWarning,
                stacklevel=2,
            )
            destination, prefix, keep_vars = (*args, destination, prefix, keep_vars)[:3]
        return state.save(self, destination, prefix, keep_vars)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> state.IncompatibleKeys:
        """Copy the tensors of `state_dict` in, or with `assign` take them as they are.

        errors: RuntimeError that lists missing and unexpected keys (if `strict`) and wrong sizes
        """
        return state.load(self, state_dict, strict, assign)

    # ---- whole-tree changes

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call `fn` on every submodule, then on the module itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the data of all parameters and buffers; parameters keep their identity."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            grad = param.grad
            with no_grad():
                param.grad = None
                param.data = fn(param.detach())
                if grad is not None:
                    param.grad = fn(grad.detach()).requires_grad_(grad.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move and cast in place: `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`.

        dtype:  only floating-point parameters and buffers are cast
        errors: TypeError for an integer dtype
        """
        device, dtype, non_blocking = _parse_to(*args, **kwargs)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(
                f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}"
            )

        memory_format = kwargs.get("memory_format")

        def convert(tensor: Tensor) -> Tensor:
            target = dtype if tensor.is_floating_point() else None
            wanted = memory_format if tensor.ndim in (4, 5) else None
            return tensor.to(device, target, non_blocking, memory_format=wanted)

        return self._apply(convert)

    def type(self, dst_type: Any) -> Self:
        """Cast all parameters and buffers, integer ones too."""
        return self._apply(lambda t: t.type(dst_type))

    def _cast(self, name: str) -> Self:
        return self._apply(lambda t: getattr(t, name)() if t.is_floating_point() else t)

    def float(self) -> Self:
        """Cast all floating-point parameters and buffers to float32."""
        return self._cast("float")

    def double(self) -> Self:
        """Cast all floating-point parameters and buffers to float64."""
        return self._cast("double")

    def half(self) -> Self:
        """Cast all floating-point parameters and buffers to float16."""
        return self._cast("half")

    def bfloat16(self) -> Self:
        """Cast all floating-point parameters and buffers to bfloat16."""
        return self._cast("bfloat16")

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self._apply(lambda t: t.cpu())

    def cuda(self, device: Any = None) -> Self:
        """Move to a CUDA device."""
        return self._apply(lambda t: t.cuda(device))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Move to a device without the values."""
        return self._apply(lambda t: create.empty_like(t, device=device), recurse=recurse)

    def share_memory(self) -> Self:
        """Move to memory that worker processes share."""
        return self._apply(lambda t: t.share_memory_())

    def train(self, mode: bool = True) -> Self:
        """Set training mode, which dropout and batch norm ask for, in the whole tree."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode in the whole tree."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let autograd follow all parameters, or none."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        if set_to_none:
            drop_grads(self.parameters())
            return
        for param in self.parameters():
            if param.grad is not None:
                param.grad = param.grad.detach().zero_().requires_grad_(False)

    # ---- printing, copying

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module prints."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {indent(repr(m))}" for name, m in self._modules.items()]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({lines[0]})"
        if not lines and not children:
            return f"{self._get_name()}()"
        body = "".join(f"\n  {line}" for line in lines + children)
        return f"{self._get_name()}({body}\n)"

    def __getstate__(self) -> dict[str, Any]:
        attributes = self.__dict__.copy()
        for registry in REGISTRIES:
            for name in attributes.get(registry, ()):
                attributes.pop(name, None)
            if registry in attributes:
                attributes[registry] = dict(attributes[registry])
        return attributes

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        for name in _HOOKS:
            self.__dict__[name] = OrderedDict()
        self.__dict__["_non_persistent_buffers_set"] = set()
        self.__dict__.update(attributes)
        for registry in REGISTRIES:
            self.__dict__[registry] = Registry(self, attributes.get(registry, {}))


def indent(text: str) -> str:
    """`text` with every line but the first moved right."""
    return text.replace("\n", "\n  ")


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, DType | None, bool]:
    """The device, dtype and non_blocking that the arguments of `Module.to` ask for."""
    unknown = kwargs.keys() - {"device", "dtype", "non_blocking", "tensor", "memory_format"}
    if unknown or len(args) > 3:
        raise fail(TypeError, "Module.to", sorted(unknown) or args, "a device, dtype or tensor")
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    non_blocking = kwargs.get("non_blocking", False)
    rest: Iterable = args if args else (kwargs["tensor"],) if "tensor" in kwargs else ()
    for arg in rest:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, DType):
            dtype = arg
        elif isinstance(arg, bool):
            non_blocking = arg
        elif arg is not None:
            device = arg
    return device, dtype, non_blocking
