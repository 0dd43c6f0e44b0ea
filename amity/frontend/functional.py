"""Derivatives of functions: Jacobians, Hessians, and their products with vectors.

An input or a result may be one tensor or a tuple of them; derivatives are nested accordingly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from amity.ops.joining import stack

from .autograd import grad
from .grad_mode import enable_grad
from .tensor import Tensor
from .transforms import jacfwd, jacrev

Tensors = tuple[Tensor, ...]


def _tuple_of(op: str, what: str, given: Any) -> Tensors:
    out = (
        (given,)
        if isinstance(given, Tensor)
        else tuple(given)
        if isinstance(given, (list, tuple))
        else given
    )
    if not isinstance(out, tuple) or not all(isinstance(t, Tensor) for t in out):
        raise TypeError(
            f"{op}: got {what} of {type(given).__name__}; expected a Tensor or a tuple of them"
        )
    return out


def _like(given: Any, values: Sequence[Any]) -> Any:
    """One value for one tensor, else a tuple."""
    return values[0] if isinstance(given, Tensor) else tuple(values)


def _prepared(given: Tensors, create_graph: bool) -> Tensors:
    """Inputs to differentiate by: of their own, or still part of the user's graph."""
    if create_graph:
        return tuple(
            t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in given
        )
    return tuple(t.detach().requires_grad_() for t in given)


def _called(
    op: str, func: Callable, inputs: Any, create_graph: bool
) -> tuple[Tensors, Any, Tensors]:
    xs = _prepared(_tuple_of(op, "inputs", inputs), create_graph)
    result = func(_like(inputs, xs)) if isinstance(inputs, Tensor) else func(*xs)
    return xs, result, _tuple_of(op, "the function's result", result)


def _gradients(
    op: str, ys: Tensors, xs: Tensors, seeds: Any, create_graph: bool, strict: bool
) -> Tensors:
    """The gradient for each input; zeros, or an error if `strict`, where there is no way to it."""
    taped = [(y, s) for y, s in zip(ys, seeds, strict=True) if y.requires_grad]
    if strict and len(taped) < len(ys):
        raise RuntimeError(
            f"{op}: got a result that does not depend on the inputs; expected none (strict)"
        )
    if not taped:
        return tuple(x._zeros_like() for x in xs)
    outs, weights = zip(*taped, strict=True)
    found = grad(outs, xs, weights, retain_graph=True, create_graph=create_graph, allow_unused=True)
    if strict and any(g is None for g in found):
        raise RuntimeError(
            f"{op}: got an input that the results do not depend on; expected none (strict)"
        )
    return tuple(x._zeros_like() if g is None else g for g, x in zip(found, xs, strict=True))


def _vectors(op: str, v: Any, like: Tensors, what: str) -> Tensors:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"{op}: got no v; expected one, as the {what} is no single number")
        return (like[0].detach()._ones_like(),)
    vs = _tuple_of(op, "v", v)
    if [t.shape for t in vs] != [t.shape for t in like]:
        got, expected = ([tuple(t.shape) for t in ts] for ts in (vs, like))
        raise RuntimeError(f"{op}: got v of shapes {got}; expected those of the {what}: {expected}")
    return vs


def _released(value: Any, create_graph: bool) -> Any:
    """Off the tape, unless a graph is wanted."""
    if create_graph:
        return value
    return (
        value.detach() if isinstance(value, Tensor) else tuple(_released(v, False) for v in value)
    )


@enable_grad()
def vjp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """The result of a function, and the vector `v` times its Jacobian."""
    xs, result, ys = _called("vjp", func, inputs, create_graph)
    found = _gradients("vjp", ys, xs, _vectors("vjp", v, ys, "result"), create_graph, strict)
    return _released(result, create_graph), _released(_like(inputs, found), create_graph)


@enable_grad()
def jvp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """The result of a function, and its Jacobian times the vector `v`."""
    xs, result, ys = _called("jvp", func, inputs, create_graph)
    vs = _vectors("jvp", v, xs, "input")
    seeds = tuple(y.detach()._zeros_like().requires_grad_() for y in ys)
    back = _gradients("jvp", ys, xs, seeds, True, strict)  # linear in the seeds: its own derivative
    found = _gradients("jvp", back, seeds, vs, create_graph, False)
    return _released(result, create_graph), _released(_like(result, found), create_graph)


@enable_grad()
def jacobian(
    func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The derivative of each element of the result by each element of the inputs.

    shape:  that of the result followed by that of the input
    """
    if strategy not in MODES:
        raise ValueError(f"jacobian: got strategy {strategy!r}; expected one of {list(MODES)}")
    if vectorize:
        return _jacobian_at_once(func, inputs, create_graph, strict, strategy)
    if strategy == "forward-mode":
        raise NotImplementedError(
            "jacobian: got strategy='forward-mode' and vectorize=False; Computing Jacobian using "
            "forward-AD is only implemented for `vectorize=True`."
        )
    xs, result, ys = _called("jacobian", func, inputs, create_graph)
    rows: list[Any] = []
    for y in ys:
        flat = [
            _gradients("jacobian", (e,), xs, (None,), create_graph, strict) for e in y.reshape(-1)
        ]
        columns = zip(*flat, strict=True) if flat else [()] * len(xs)
        made = [
            stack(c).reshape(*y.shape, *x.shape) if c else x.new_zeros((*y.shape, *x.shape))
            for c, x in zip(columns, xs, strict=True)
        ]  # fmt: skip
        rows.append(_like(inputs, made))
    return _released(_like(result, rows), create_graph)


def _jacobian_at_once(
    func: Callable, inputs: Any, create_graph: bool, strict: bool, strategy: str
) -> Any:
    """All rows, or columns, as one map."""
    if strict:
        raise RuntimeError(
            "jacobian: got strict=True and vectorize=True; `strict=True` and `vectorized=True` are not "
            "supported together"
        )
    is_one = isinstance(inputs, Tensor)
    xs = (inputs,) if is_one else inputs
    argnums = 0 if is_one else tuple(range(len(xs)))
    return _released(MODES[strategy](func, argnums)(*xs), create_graph)


MODES = {"reverse-mode": jacrev, "forward-mode": jacfwd}


def _scalar(op: str, func: Callable) -> Callable:
    def checked(*xs: Tensor) -> Tensor:
        y = func(*xs)
        if not isinstance(y, Tensor) or y.numel() != 1:
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise RuntimeError(f"{op}: got a result of {got}; expected a Tensor of one element")
        return y.reshape(())

    return checked


@enable_grad()
def hessian(
    func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The second derivatives of a function with one number as its result."""
    single = isinstance(inputs, Tensor)

    def slope(*xs: Tensor) -> Any:
        y = _scalar("hessian", func)(*xs)
        found = _gradients("hessian", (y,), xs, (None,), True, strict)
        return found[0] if single else found

    return jacobian(slope, inputs, create_graph, False, vectorize, outer_jacobian_strategy)


@enable_grad()
def vhp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """The result of a function, and the vector `v` times its Hessian."""
    xs, result, _ = _called("vhp", _scalar("vhp", func), inputs, create_graph)
    vs = _vectors("vhp", v, xs, "input")
    slopes = _gradients("vhp", (result,), xs, (None,), True, strict)
    found = _gradients("vhp", slopes, xs, vs, create_graph, strict)
    return _released(result, create_graph), _released(_like(inputs, found), create_graph)


def hvp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """The result of a function, and its Hessian, which is symmetric, times the vector `v`."""
    return vhp(func, inputs, v, create_graph, strict)
