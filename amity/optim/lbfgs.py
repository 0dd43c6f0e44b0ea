"""LBFGS: a quasi-Newton method that remembers a few steps instead of the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from amity import ops
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.grad_mode import enable_grad, no_grad
from amity.frontend.tensor import Tensor
from amity.optim import check
from amity.optim.optimizer import Optimizer


class Point(NamedTuple):
    """A place on the search line: how far along, the loss, its gradient and slope there."""

    t: float
    loss: float
    grad: Tensor
    slope: float


# Nocedal & Wright's constants: sufficient decrease, curvature.
C1, C2 = 1e-4, 0.9


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two points and their slopes is lowest, within bounds."""
    low, high = bounds or (min(a.t, b.t), max(a.t, b.t))
    middle = (low + high) / 2
    if a.t == b.t:
        return middle
    left, right = (a, b) if a.t < b.t else (b, a)
    d1 = left.slope + right.slope - 3 * (left.loss - right.loss) / (left.t - right.t)
    square = d1 * d1 - left.slope * right.slope
    if not square >= 0:
        return middle
    d2 = square**0.5
    curvature = right.slope - left.slope + 2 * d2
    if curvature == 0:
        return middle
    t = right.t - (right.t - left.t) * ((right.slope + d2 - d1) / curvature)
    return min(max(t, low), high)


def strong_wolfe(
    at: Callable[[float], Point], start: Point, t: float, reach: float, tolerance: float, limit: int
) -> tuple[Point, int]:
    """A point that meets the strong Wolfe conditions, and how often the loss was computed.

    `reach` is the largest element of the direction, `limit` the number of tries after the first.
    source: Nocedal & Wright 2006, Numerical Optimization, algorithms 3.5 and 3.6
    """
    ends, tries = bracket(at, start, t, limit)
    if len(ends) == 1 or tries == limit:
        best = ends[0] if ends[0].loss <= ends[-1].loss else ends[-1]
        return best, tries + 1
    best, tries = zoom(at, start, ends, tries, reach, tolerance, limit)
    return best, tries + 1


def rises(point: Point, start: Point) -> bool:
    """Whether the loss has not decreased enough since the start of the line."""
    return point.loss > start.loss + C1 * point.t * start.slope


def is_flat(point: Point, start: Point) -> bool:
    return abs(point.slope) <= -C2 * start.slope


def bracket(
    at: Callable[[float], Point], start: Point, t: float, limit: int
) -> tuple[list[Point], int]:
    """Go out until a minimum lies between two points, or a single point is good enough."""
    last, new = start, at(t)
    for tries in range(limit):
        if rises(new, start) or (tries > 1 and new.loss >= last.loss):
            return [last, new], tries
        if is_flat(new, start):
            return [new], tries
        if new.slope >= 0:
            return [last, new], tries
        bounds = new.t + 0.01 * (new.t - last.t), new.t * 10
        last, new = new, at(cubic_minimum(last, new, bounds))
    return [start, new], limit


def zoom(
    at: Callable[[float], Point],
    start: Point,
    ends: list[Point],
    tries: int,
    reach: float,
    tolerance: float,
    limit: int,
) -> tuple[Point, int]:
    """Narrow the bracket `ends` until its lower end meets the conditions."""
    low = 0 if ends[0].loss <= ends[1].loss else 1
    was_near = False
    while tries < limit and abs(ends[1].t - ends[0].t) * reach >= tolerance:
        t = cubic_minimum(*ends)
        left, right = sorted((ends[0].t, ends[1].t))
        margin = 0.1 * (right - left)
        # Two tries in a row close to an end: step inwards, or the bracket would hardly shrink.
        is_near = min(right - t, t - left) < margin
        if is_near and (was_near or t >= right or t <= left):
            t = right - margin if abs(t - right) < abs(t - left) else left + margin
            is_near = False
        was_near = is_near
        new = at(t)
        tries += 1
        if rises(new, start) or new.loss >= ends[low].loss:
            ends[1 - low] = new
            low = 0 if ends[0].loss <= ends[1].loss else 1
            continue
        if is_flat(new, start):
            return new, tries
        if new.slope * (ends[1 - low].t - ends[low].t) >= 0:
            ends[1 - low] = ends[low]
        ends[low] = new
    return ends[low], tries


class LBFGS(Optimizer):
    """Limited-memory BFGS; each step calls its closure up to `max_eval` times.

    errors: ValueError for a negative `lr` or more than one group; RuntimeError for a
    `line_search_fn` other than 'strong_wolfe'.
    source: Nocedal 1980, Updating Quasi-Newton Matrices with Limited Storage

    >>> p = create.tensor([3.0], requires_grad=True)
    >>> optimizer = LBFGS([p], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((p - 1) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> float(optimizer.step(closure)), round(p.item(), 5)
    (4.0, 1.0)
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check.lr("LBFGS", lr)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise fail(ValueError, "LBFGS", f"{len(self.param_groups)} groups", "one group")

    @property
    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def step(self, closure: Callable[[], Any]) -> Any:
        """Go on for `max_iter` iterations; returns the loss before the first."""

        def evaluate() -> tuple[Any, Tensor]:
            with enable_grad():
                loss = closure()
            return loss, self._flat_grad()

        with no_grad():
            first_loss, grad = evaluate()
            state = self.state[self._params[0]]
            state["func_evals"] = state.get("func_evals", 0) + 1
            state.setdefault("n_iter", 0)
            if not _largest(grad) <= self.param_groups[0]["tolerance_grad"]:
                self._iterate(evaluate, float(first_loss), grad, state)
        return first_loss

    def _iterate(self, evaluate: Callable, loss: float, grad: Tensor, state: dict) -> None:
        group = self.param_groups[0]
        lr, tiny = float(group["lr"]), group["tolerance_change"]
        evals = 1
        for i in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            d = state["d"] = self._direction(grad, state)
            state["prev_flat_grad"], state["prev_loss"] = grad, loss
            t = lr if state["n_iter"] > 1 else min(1.0, 1.0 / grad.abs().sum().item()) * lr
            state["t"] = t
            slope = ops.dot(grad, d).item()
            if slope > -tiny:
                break
            is_last = i == group["max_iter"]
            if group["line_search_fn"] is not None:
                start = Point(0.0, loss, grad, slope)
                found, count = self._search(evaluate, start, t, d, group["max_eval"] - evals)
                t, loss, grad = found.t, found.loss, found.grad
                state["t"] = t
                self._move(t, d)
            else:
                self._move(t, d)
                count = 0
                if not is_last:
                    value, grad = evaluate()
                    loss, count = float(value), 1
            evals += count
            state["func_evals"] += count
            is_done = is_last or evals >= group["max_eval"]
            if is_done or _largest(grad) <= group["tolerance_grad"]:
                break
            if _largest(d) * abs(t) <= tiny or abs(loss - state["prev_loss"]) < tiny:
                break

    def _direction(self, grad: Tensor, state: dict) -> Tensor:
        """Minus the inverse Hessian, as the history knows it, times the gradient."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return -grad
        y, s = grad - state["prev_flat_grad"], state["d"] * state["t"]
        dirs, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        ys = ops.dot(y, s).item()
        if ys > 1e-10:
            if len(dirs) == self.param_groups[0]["history_size"]:
                for memory in (dirs, steps, ro):
                    memory.pop(0)
            dirs.append(y)
            steps.append(s)
            ro.append(1.0 / ys)
            state["H_diag"] = ys / ops.dot(y, y).item()
        q, weights = -grad, []
        for y, s, r in zip(reversed(dirs), reversed(steps), reversed(ro)):
            weights.append(ops.dot(s, q).item() * float(r))
            q = ops.add(q, y, alpha=-weights[-1])
        q = q * state["H_diag"]
        for y, s, r, w in zip(dirs, steps, ro, reversed(weights)):
            q = ops.add(q, s, alpha=w - ops.dot(y, q).item() * float(r))
        return q

    def _search(
        self, evaluate: Callable, start: Point, t: float, d: Tensor, limit: int
    ) -> tuple[Point, int]:
        group = self.param_groups[0]
        if group["line_search_fn"] != "strong_wolfe":
            got = f"line_search_fn={group['line_search_fn']!r}"
            raise fail(RuntimeError, "LBFGS", got, "'strong_wolfe' or None")
        origin = [p.clone() for p in self._params]

        def at(t: float) -> Point:
            self._move(t, d)
            loss, grad = evaluate()
            for p, old in zip(self._params, origin):
                p.copy_(old)
            return Point(t, float(loss), grad, ops.dot(grad, d).item())

        return strong_wolfe(at, start, t, _largest(d), 1e-9, limit)

    def _move(self, t: float, d: Tensor) -> None:
        offset = 0
        for p in self._params:
            p.add_(d[offset : offset + p.numel()].view_as(p), alpha=t)
            offset += p.numel()

    def _flat_grad(self) -> Tensor:
        parts = [create.zeros_like(p) if p.grad is None else p.grad for p in self._params]
        return ops.cat([part.reshape(-1) for part in parts])


def _largest(x: Tensor) -> float:
    return x.abs().max().item()
