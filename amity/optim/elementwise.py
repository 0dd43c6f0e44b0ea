"""Optimizers whose step is an elementwise rule: one kernel moves all parameters of a group.

A rule is a plain function over ops, `rule(p, g, *state, **scalars) -> (p, *state)`, where `p` is
the parameter and `g` its gradient. Scalars may differ at every step without a new kernel; what
changes the rule itself (a flag, a branch) is `bound` to it, and makes another kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import Any

from amity.core.dtype import float32, float64
from amity.core.errors import fail
from amity.frontend import foreach
from amity.frontend.grad_mode import enable_grad, recording
from amity.frontend.tape import modes
from amity.frontend.tensor import Tensor
from amity.optim.optimizer import Group, Optimizer, counter_dtype

State = dict[str, Any]
Rule = tuple[Callable[..., tuple], tuple[str, ...], dict[str, Any]]


@lru_cache(maxsize=1024, typed=True)
def bound(rule: Callable, **flags: Any) -> Callable:
    """The rule for these flags: the same object for the same flags, as kernels are found by it."""
    return partial(rule, **flags)


def descent(p: Any, g: Any, weight_decay: Any, *, maximize: bool, decays: bool) -> Any:
    """The gradient to go down: negated to maximize, with the L2 penalty's gradient added."""
    g = -g if maximize else g
    return g + weight_decay * p if decays else g


def rounded(value: float) -> float:
    """A number as a state_dict can hold it, so that a saved state goes on exactly alike."""
    return value if counter_dtype() is float64 else float(float32.numpy.type(value))


class Elementwise(Optimizer):
    """A subclass says what state a parameter starts with, how its counters advance, and the rule.

    Parameters that come back from `advance` with the same clock share one call of the rule.
    `foreach`, `fused` and `capturable` are accepted and choose nothing: there is one body.
    """

    _counters = ("step",)

    def start(self, p: Tensor, group: Group) -> State:
        """The state of a parameter that has not moved yet."""
        raise NotImplementedError

    def is_stateless(self, group: Group) -> bool:
        """Whether the parameters of a group have no state at all."""
        return False

    def advance(self, p: Tensor, state: State, group: Group) -> Hashable:
        """Move the counters of one parameter on, and return what the rule must know of them."""
        state["step"] += 1.0
        return state["step"]

    def rule(self, group: Group, clock: Any) -> Rule:
        """The rule, the names of the state that it moves, and its scalars."""
        raise NotImplementedError

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if defaults.get("fused"):
            for other in ("differentiable", "foreach"):
                if defaults[other]:
                    got = f"fused=True and {other}=True"
                    raise fail(RuntimeError, type(self).__name__, got, "one of them")
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        before, modes.grad = modes.grad, recording(self.defaults["differentiable"])
        try:
            for group in self.param_groups:
                self._step_group(group)
        finally:
            modes.grad = before
        return loss

    def _step_group(self, group: Group) -> None:
        run = _differentiable_update if group["differentiable"] else _update
        if self.is_stateless(group):
            batch = [(p, g, None) for p in group["params"] if (g := p.grad) is not None]
            if batch:
                run(batch, *self.rule(group, None))
            return
        batches: dict[Hashable, list[tuple[Tensor, Tensor, State]]] = {}
        for p in group["params"]:
            g = p.grad
            if g is None:
                continue
            state = self.state.get(p)
            if not state:
                state = self.state[p] = self.start(p, group)
            clock = self.advance(p, state, group)
            if clock in batches:
                batches[clock].append((p, g, state))
            else:
                batches[clock] = [(p, g, state)]
        for clock, batch in batches.items():
            run(batch, *self.rule(group, clock))


def _update(batch: list, rule: Callable, names: tuple, scalars: dict) -> None:
    if names:
        flat = [t for p, g, state in batch for t in (p, g, *[state[name] for name in names])]
    else:
        flat = [t for p, g, _ in batch for t in (p, g)]
    foreach.update(rule, flat, 2 + len(names), scalars)


def _differentiable_update(batch: list, rule: Callable, names: tuple, scalars: dict) -> None:
    """The same rule, on the tape: state is replaced, as the tape may still need the old one."""
    for p, g, state in batch:
        new_p, *new_state = rule(p.clone(), g, *[state[n] for n in names], **scalars)
        p.copy_(new_p)
        if names:
            state.update(zip(names, new_state))


def number(group: Group, name: str) -> Any:
    """An option as a number; a tensor stays one where gradients flow through the step."""
    return scalar(group[name], group)


def scalar(value: Any, group: Group) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.squeeze() if group["differentiable"] else value.item()
