"""Optimizer: parameter groups, the state of each parameter, hooks, saving and loading."""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import wraps
from itertools import chain
from typing import Any

from amity.core import hooks
from amity.core.dtype import DType, float32, float64, get_default_dtype
from amity.core.errors import fail
from amity.core.hooks import RemovableHandle
from amity.frontend import create
from amity.frontend.tape import drop_grads, with_grads
from amity.frontend.tensor import Tensor

Group = dict[str, Any]
HOOKS = ("step_pre", "step_post", "state_dict_pre", "state_dict_post")
HOOKS += ("load_state_dict_pre", "load_state_dict_post")

_every_step_pre: OrderedDict = OrderedDict()
_every_step_post: OrderedDict = OrderedDict()
EVERY_STEP = (_every_step_pre, _every_step_post)


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` before each step of every optimizer."""
    return hooks.add(_every_step_pre, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` after each step of every optimizer."""
    return hooks.add(_every_step_post, hook)


def _with_hooks(step: Callable) -> Callable:
    """A class's own `step`, called between the hooks that want to know of it."""

    @wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        # A subclass's step may call its parent's: only the outermost one speaks to the hooks.
        if type(self).step is not hooked:
            return step(self, *args, **kwargs)
        if not (
            _every_step_pre or self._step_pre_hooks or self._step_post_hooks or _every_step_post
        ):
            self._opt_called = True
            return step(self, *args, **kwargs)
        for hook in chain(_every_step_pre.values(), self._step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is None:
                continue
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise fail(
                    RuntimeError, "step_pre_hook", repr(changed), "None or a tuple (args, kwargs)"
                )
            args, kwargs = changed
        result = step(self, *args, **kwargs)
        self._opt_called = True
        for hook in chain(self._step_post_hooks.values(), _every_step_post.values()):
            hook(self, args, kwargs)
        return result

    return hooked


class Optimizer:
    """The parent of all optimizers: subclasses write `__init__` and `step`.

    `params` is an iterable of tensors, of `(name, tensor)` pairs, or of dicts (groups) with a key
    `params` and any options that differ from `defaults`.

    errors: TypeError if `params` holds what is no tensor; ValueError if it is empty, if a tensor
    is no leaf, or if it stands in two groups.
    """

    # State that is a number to the optimizer, and as in PyTorch a 0-d tensor in its state_dict.
    _counters: tuple[str, ...] = ()
    # LR schedulers read it, to warn of a schedule that starts before the first step.
    _opt_called = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: Iterable, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise fail(
                TypeError, type(self).__name__, "params as one tensor", "an iterable of them"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._make_hooks()
        groups = list(params)
        if not groups:
            raise fail(
                ValueError, type(self).__name__, "an empty parameter list", "tensors or groups"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hooks(self) -> None:
        for kind in HOOKS:
            self.__dict__.setdefault(f"_{kind}_hooks", OrderedDict())

    def __getstate__(self) -> dict[str, Any]:
        names = ("defaults", "state", "param_groups")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_hooks()
        # A checkpoint may be older than an option.
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        for saved in self.state.values():
            for name in self._counters:
                if name in saved:
                    saved[name] = float(saved[name])

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            options = (f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
            text += f"\nParameter Group {i}\n" + "".join(options)
        return text + ")"

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once; `closure` computes the loss again and returns it."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or fill them with zeros where `set_to_none` is false."""
        for group in self.param_groups:
            if set_to_none:
                drop_grads(group["params"])
                continue
            for grad in with_grads(group["params"])[1::2]:
                if grad.grad_fn is not None:
                    grad.detach_()
                else:
                    grad.requires_grad_(False)
                grad.zero_()

    # --- parameter groups ---

    def add_param_group(self, param_group: Group) -> None:
        """Add a group, a dict with `params` and the options that differ from the defaults.

        errors: TypeError for what is no dict, or for a set of tensors (it has no order).
        """
        op = "add_param_group"
        if not isinstance(param_group, dict):
            raise fail(TypeError, op, type(param_group).__name__, "a dict")
        params, names = _split_names(param_group["params"])
        param_group["params"] = params
        if names:
            param_group["param_names"] = names
        for p in params:
            self._check_parameter(p)
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise fail(
                    ValueError, op, f"no {name}", f"a group with {name}, which has no default"
                )
            param_group.setdefault(name, default)
        if len(params) != len(set(params)):
            warnings.warn(f"{op}: a parameter stands twice in one group", stacklevel=3)
        for group in self.param_groups:
            if ("param_names" in group) != ("param_names" in param_group):
                raise fail(
                    ValueError, op, "some groups with names", "all groups with names, or none"
                )
            if not set(params).isdisjoint(group["params"]):
                raise fail(ValueError, op, "a parameter of another group", "each in one group only")
        self.param_groups.append(param_group)

    def _check_parameter(self, p: object) -> None:
        if not isinstance(p, Tensor):
            raise fail(
                TypeError, type(self).__name__, f"a parameter of type {type(p).__name__}", "Tensors"
            )
        if not (self.defaults.get("differentiable") or p.is_leaf or p.retains_grad):
            raise fail(ValueError, type(self).__name__, "a non-leaf Tensor", "leaf Tensors")

    def _parameters(self) -> Iterator[Tensor]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    # --- saving and loading ---

    def state_dict(self) -> dict[str, Any]:
        """`state` (by the number of a parameter) and `param_groups`, in PyTorch's layout.

        The tensors are the optimizer's own, not copies.
        """
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        number: dict[int, int] = {}
        for i, p in enumerate(self._parameters()):
            number.setdefault(id(p), i)
        groups = [
            {
                **{key: value for key, value in group.items() if key != "params"},
                "params": [number[id(p)] for p in group["params"]],
            }
            for group in self.param_groups
        ]
        state = {
            number[id(k)] if isinstance(k, Tensor) else k: self._with_counters(v)
            for k, v in self.state.items()
        }
        result = {"state": state, "param_groups": groups}
        for hook in self._state_dict_post_hooks.values():
            changed = hook(self, result)
            if changed is not None:
                result = changed
        return result

    def _with_counters(self, state: dict[str, Any]) -> dict[str, Any]:
        counts = {name: state[name] for name in self._counters if name in state}
        dtype = counter_dtype()
        return {**state, **{k: create.tensor(float(v), dtype=dtype) for k, v in counts.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over state and options saved by `state_dict`; tensors are copied.

        Parameters are matched by their order. State takes its parameter's dtype, but for `step`.

        errors: ValueError if groups or their lengths differ.
        """
        state_dict = state_dict.copy()
        for hook in self._load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        groups = deepcopy(state_dict["param_groups"])
        got = [len(group["params"]) for group in groups]
        expected = [len(group["params"]) for group in self.param_groups]
        if got != expected:
            raise fail(ValueError, "load_state_dict", f"groups of {got} parameters", f"{expected}")
        saved_ids = chain.from_iterable(group["params"] for group in groups)
        owner = dict(zip(saved_ids, self._parameters()))
        state: defaultdict = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in owner:
                state[owner[key]] = _adapt(value, owner[key], ("step", *self._counters))
            else:
                state[key] = value
        for group, own in zip(groups, self.param_groups):
            group["params"] = own["params"]
            if "param_names" in own:
                group.setdefault("param_names", own["param_names"])
        self.__setstate__({"state": state, "param_groups": groups})
        for hook in self._load_state_dict_post_hooks.values():
            hook(self)

    # --- hooks ---

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step; it may return new ones."""
        return hooks.add(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return hooks.add(self._step_post_hooks, hook)

    def register_state_dict_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer)` before `state_dict` collects."""
        return hooks.add(self._state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` on what `state_dict` returns; it may replace it."""
        return hooks.add(self._state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before loading; it may replace the dict."""
        return hooks.add(self._load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer)` after loading."""
        return hooks.add(self._load_state_dict_post_hooks, hook, prepend)


def _split_names(params: Any) -> tuple[list, list[str]]:
    """Tensors, and their names where they came as `(name, tensor)` pairs."""
    if isinstance(params, Tensor):
        return [params], []
    if isinstance(params, set):
        raise fail(TypeError, "add_param_group", "a set", "an ordered collection, such as a list")
    params = list(params)
    pairs = [item for item in params if isinstance(item, tuple)]
    if pairs and len(pairs) != len(params):
        raise fail(ValueError, "add_param_group", "some parameters with names", "all with, or none")
    return [tensor for _, tensor in pairs] or params, [name for name, _ in pairs]


def counter_dtype() -> DType:
    return float64 if get_default_dtype() is float64 else float32


def _adapt(value: Any, p: Tensor, counters: tuple[str, ...]) -> Any:
    """A copy of saved state that fits the parameter `p`; counters keep their dtype."""
    if isinstance(value, Tensor):
        return value.to(p.device, p.dtype if p.is_floating_point() else value.dtype, copy=True)
    if isinstance(value, dict):
        return {
            k: v.clone() if k in counters and isinstance(v, Tensor) else _adapt(v, p, counters)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_adapt(v, p, counters) for v in value)
    return value
