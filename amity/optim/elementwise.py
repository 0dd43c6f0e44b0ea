"""Optimizers whose step is an elementwise rule: one kernel moves all parameters of a group.

A rule is a plain function over ops, `rule(p, g, *state, **scalars) -> (p, *state)`, where `p` is
the parameter and `g` its gradient. Scalars may differ at every step without a new kernel; what
changes the rule itself (a flag, a branch) is `bound` to it, and makes another kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from itertools import repeat
from typing import Any

from amity.core.dtype import float32, float64
from amity.core.errors import fail
from amity.engine import deferral
from amity.frontend import foreach
from amity.frontend.grad_mode import enable_grad, recording
from amity.frontend.reach import Reach
from amity.frontend.tape import modes, with_grads
from amity.frontend.tensor import Tensor
from amity.optim.optimizer import EVERY_STEP, Group, Optimizer, counter_dtype

State = dict[str, Any]
Rule = tuple[Callable[..., tuple], tuple[str, ...], dict[str, Any]]

SCHEDULED = ("lr", "betas", "momentum")  # what schedules change


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
        """The state of a parameter that has not moved yet, whatever its values are."""
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
        if deferral.is_on and (witness := deferral.witness()) is not None:
            witness.steps(self, closure is not None)
        if closure is not None:
            with enable_grad():
                loss = closure()
        is_taped = self.defaults["differentiable"]
        before, modes.grad = modes.grad, recording(True) if is_taped else False
        try:
            for group in self.param_groups:
                for moving, states, rule in self._batches(group):
                    _move(group, moving, states, *rule)
        finally:
            modes.grad = before
        return loss

    def advance_all(self) -> list[tuple[Callable, dict[str, Any]]]:
        """Advance the counters as a step does; the rule and the scalars of each of its updates."""
        rules = [rule for group in self.param_groups for _, _, rule in self._batches(group)]
        return [(rule, scalars) for rule, _, scalars in rules]

    def counters(self) -> list[tuple[State, dict[str, Any]]]:
        """The counters of each parameter's state, to go back to."""
        names = self._counters
        return [(s, {n: s[n] for n in names}) for s in self.state.values()] if names else []

    def scheduled(self) -> list[Any]:
        """The options that schedules change: where nothing counts steps, they alone tell the scalars."""
        return [group[name] for group in self.param_groups for name in SCHEDULED if name in group]

    def __reach__(self, reach: Reach, where: str) -> None:
        for group in self.param_groups:
            reach.moves(group, SCHEDULED)
        for state in self.state.values():
            reach.moves(state, self._counters)
        reach.instance(self, where)
        reach.follow(EVERY_STEP, "hooks of all optimizers")

    def _batches(self, group: Group) -> list[tuple[list[Tensor], list[State] | None, Rule]]:
        """Parameters, each followed by its gradient, their state if they have any, and their rule."""
        moving = with_grads(group["params"])
        if self.is_stateless(group):
            return [(moving, None, self.rule(group, None))] if moving else []
        batches: dict[Hashable, tuple[list[Tensor], list[State]]] = {}
        for i in range(0, len(moving), 2):
            p = moving[i]
            state = self.state.get(p)
            if not state:
                with deferral.apart():
                    state = self.state[p] = self.start(p, group)
            clock = self.advance(p, state, group)
            if clock not in batches:
                batches[clock] = [], []
            same, states = batches[clock]
            same += moving[i : i + 2]
            states.append(state)
        return [(*batch, self.rule(group, clock)) for clock, batch in batches.items()]


def _move(
    group: Group, moving: list[Tensor], states: list[State] | None, rule: Callable, names: tuple,
    scalars: dict,
) -> None:  # fmt: skip
    """One call of a rule on parameters, each followed by its gradient; `states` are theirs if any."""
    if group["differentiable"]:
        _move_on_tape(moving, states, rule, names, scalars)
        return
    if names:
        rows = zip(moving[::2], moving[1::2], states)
        moving = [t for p, g, state in rows for t in (p, g, *[state[name] for name in names])]
    if deferral.is_on and (witness := deferral.witness()) is not None:
        witness.updates_by(rule, list(scalars.values()))
    foreach.update(rule, moving, 2 + len(names), scalars)


def _move_on_tape(
    moving: list[Tensor], states: list[State] | None, rule: Callable, names: tuple, scalars: dict
) -> None:
    """The same rule, on the tape: state is replaced, as the tape may still need the old one."""
    for p, g, state in zip(moving[::2], moving[1::2], states or repeat({})):
        new_p, *new_state = rule(p.clone(), g, *[state[n] for n in names], **scalars)
        p.copy_(new_p)
        state.update(zip(names, new_state))


def number(group: Group, name: str) -> Any:
    """An option as a number; a tensor stays one where gradients flow through the step."""
    value = group[name]
    return scalar(value, group) if isinstance(value, Tensor) else value


def scalar(value: Any, group: Group) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.squeeze() if group["differentiable"] else value.item()
