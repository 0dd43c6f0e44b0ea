"""Functions made from functions: gradients, products with Jacobians, Jacobians, Hessians.

Each call aliases its inputs by tensors that only it differentiates by. What those tensors came from
stays behind the alias, so results can be differentiated again, by inner calls and outer ones alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from amity.core.tree import Nest, flatten, mapped

from . import autograd
from .batched import lifted, outer, same_level
from .create import eye
from .grad_mode import enable_grad
from .tape import ACCUMULATE, EDGES, RULE, Rule, leaf, modes, next_seq
from .tensor import Tensor
from .vmap import vmap


class Alias(Rule):
    """The same tensor, as a place of its own to differentiate by."""

    name = "alias"

    def apply(self, node: list, g: Any) -> tuple:
        return (g,)


ALIAS = Alias()


def alias(t: Any, is_inner: bool) -> Any:
    """A tensor to differentiate by; `is_inner` if what made `t` matters to an outer gradient."""
    if not isinstance(t, Tensor):
        raise ValueError(f"Thing passed to transform API must be Tensor, got {type(t)}")
    t = lifted(t)
    out = Tensor._of(t.storage, t.layout)
    out.base = t.base
    if t.tape is not None and is_inner:
        out.tape = [next_seq(), ALIAS, (t.tape,), (), (), (t.layout,), None, None]
        return out
    if t.layout.dtype.kind == "f":
        out.tape = leaf(out)
        return out
    return out.requires_grad_()


def depends(values: Sequence[Tensor], own: Sequence[Tensor]) -> bool:
    """Whether values depend on tensors that require a gradient, other than the leaves in `own`."""
    seen = {id(t.tape) for t in own if t.tape[RULE] is ACCUMULATE}
    stack = [v.tape for t in values for v in outer(t)]
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen:
            continue
        if node[RULE] is ACCUMULATE:
            return True
        seen.add(id(node))
        stack.extend(node[EDGES])
    return False


class Call:
    """A function called on aliases of its inputs, and what came of it."""

    def __init__(self, name: str, func: Callable, inputs: Any, has_aux: bool) -> None:
        self.is_inner = bool(modes.grad)
        leaves, self.inputs = flatten(inputs)
        with enable_grad():
            self.xs = [alias(x, self.is_inner) for x in leaves]
            out = func(*self.inputs.fill(self.xs))
        self.aux: Any = None
        if has_aux:
            if not (isinstance(out, tuple) and len(out) == 2):
                raise RuntimeError(
                    f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True"
                )
            out, self.aux = out
        self.ys, self.outputs = flatten(out)
        for y in self.ys:
            if not isinstance(y, Tensor):
                raise RuntimeError(
                    f"{name}: Expected f(*args) to return only tensors, got type {type(y)}"
                )

    def matters(self, *more: Tensor) -> bool:
        """Whether somebody may differentiate what is made of the results and of `more`."""
        return bool(modes.grad) and depends([*self.ys, *more], self.xs)

    def released(self, value: Any) -> Any:
        """A value without the way to the aliases, unless it is needed by an outer gradient."""
        if not isinstance(value, Tensor) or value.layout.dtype.kind != "f":
            return value
        return value if self.is_inner and depends([value], self.xs) else value.detach()

    def result(self) -> Any:
        return self.outputs.fill([self.released(y) for y in self.ys])

    def pulled(self, seeds: Sequence[Any], create: bool, keep: bool = True) -> list[Tensor]:
        """The gradient for each input, given one for each result."""
        pairs = [(y, s) for y, s in zip(self.ys, seeds, strict=True) if y.requires_grad]
        return gradients(pairs, self.xs, create, keep)


def gradients(
    pairs: Sequence[tuple[Tensor, Any]], xs: Sequence[Tensor], create: bool, keep: bool = True
) -> list[Tensor]:
    """Gradients by `xs` of results with their seeds; zeros where there is no way to one."""
    if not pairs or not xs:
        return [x.detach()._zeros_like() for x in xs]
    ys, seeds = zip(*pairs, strict=True)
    seeds = [s if s is None else same_level(s, y) for y, s in pairs]
    found = autograd.grad(
        ys, xs, seeds, retain_graph=keep or create, create_graph=create, allow_unused=True
    )
    return [x.detach()._zeros_like() if g is None else g for g, x in zip(found, xs, strict=True)]


# -- gradients


def picked(argnums: int | Sequence[int], args: Sequence[Any]) -> list[int]:
    """Which arguments, from the front."""
    wanted = (argnums,) if isinstance(argnums, int) else argnums
    if not isinstance(wanted, tuple) or not all(isinstance(n, int) for n in wanted):
        raise RuntimeError(f"argnum must be int or Tuple[int, ...], got: {type(argnums)}")
    if not wanted:
        raise RuntimeError("argnums must be non-empty: got ()")
    n, out = len(args), []
    for a in wanted:
        if not -n <= a < n:
            raise RuntimeError(f"Got argnum={a}, but only {n} positional inputs")
        out.append(a % n)
    if len(set(out)) < len(out):
        raise RuntimeError(f"argnums elements must be unique, received {argnums}")
    return out


def of_some(
    func: Callable, argnums: int | tuple[int, ...], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Callable, Any]:
    """The function of the picked arguments alone, and these."""
    at = picked(argnums, args)

    def partial(*some: Any) -> Any:
        all_args = list(args)
        for i, value in zip(at, some, strict=True):
            all_args[i] = value
        return func(*all_args, **kwargs)

    return partial, tuple(args[i] for i in at)


def like_argnums(argnums: int | tuple[int, ...], made: Sequence[Any]) -> Any:
    return made[0] if isinstance(argnums, int) else tuple(made)


def grad_and_value(
    func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable:
    """A function that gives the gradient of `func` by some arguments, and its value.

    errors: RuntimeError if the value is no tensor of one number

    >>> import amity
    >>> amity.func.grad_and_value(lambda x: (x * x).sum())(amity.tensor([1.0, 2.0]))
    (tensor([2., 4.]), tensor(5.))
    """

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        partial, some = of_some(func, argnums, args, kwargs)
        call = Call("grad_and_value(f)(*args)", partial, some, has_aux)
        if call.outputs.kind is not None:
            raise RuntimeError(
                f"Expected f(*args) to return tensor, got type {call.outputs.kind.__name__}"
            )
        (y,) = call.ys
        if y.ndim != 0:
            raise RuntimeError(
                f"Expected f(*args) to return a scalar tensor, got tensor with {y.ndim} dims. Did "
                "you mean to use the vjp API instead?"
            )
        made = call.pulled([None], call.matters(), keep=False)
        slopes = like_argnums(argnums, call.inputs.fill(made))
        value = call.released(y)
        return (slopes, (value, mapped(call.released, call.aux))) if has_aux else (slopes, value)

    return wrapper


def value_and_grad(
    func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable:
    """`grad_and_value` the other way round: the value first."""
    both = grad_and_value(func, argnums, has_aux)

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        slopes, value = both(*args, **kwargs)
        return value, slopes

    return wrapper


def grad(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradient of `func` by some of its arguments.

    errors: RuntimeError if the value is no tensor of one number

    >>> import amity
    >>> amity.func.grad(amity.func.grad(amity.sin))(amity.tensor(0.5))
    tensor(-0.4794)
    """
    both = grad_and_value(func, argnums, has_aux)

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        slopes, value = both(*args, **kwargs)
        return (slopes, value[1]) if has_aux else slopes

    return wrapper


# -- products with the Jacobian


def _check_nest(name: str, got: Nest, what: str, expected: Nest) -> None:
    if got != expected:
        raise RuntimeError(
            f"{name}: Expected pytree structure of {what}: got {got}; expected {expected}"
        )


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """The result of a function, and a function that takes a vector to the vector times the Jacobian."""
    call = Call("vjp(f, *primals)", func, primals, has_aux)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        seeds, nest = flatten(cotangents)
        _check_nest("vjp_fn", nest, "cotangents to be the same as of the outputs", call.outputs)
        create = call.matters(*seeds) if create_graph is None else create_graph
        return call.inputs.fill(call.pulled(seeds, create, retain_graph))

    out = (call.result(), vjp_fn)
    return (*out, mapped(call.released, call.aux)) if has_aux else out


class Pushed:
    """A function at a point, ready for products of its Jacobian with vectors.

    The gradient is linear in its seeds, so the derivative of the gradient by them, times a vector,
    is that vector pushed forward.
    """

    def __init__(self, name: str, func: Callable, primals: Any, has_aux: bool = False) -> None:
        self.call = call = Call(name, func, primals, has_aux)
        self.at = [i for i, y in enumerate(call.ys) if y.requires_grad]
        with enable_grad():
            self.seeds = [call.ys[i].detach()._zeros_like().requires_grad_() for i in self.at]
            pairs = [(call.ys[i], s) for i, s in zip(self.at, self.seeds, strict=True)]
            self.back = gradients(pairs, call.xs, True)

    def along(self, tangents: Sequence[Any]) -> Any:
        """What a change of the inputs does to the results."""
        call = self.call
        create = bool(modes.grad) and depends([*self.back, *tangents], [*call.xs, *self.seeds])
        pairs = [(b, t) for b, t in zip(self.back, tangents, strict=True) if b.requires_grad]
        made = dict(zip(self.at, gradients(pairs, self.seeds, create), strict=True))
        all_ys = enumerate(call.ys)
        return call.outputs.fill([made[i] if i in made else y._zeros_like() for i, y in all_ys])


def _check_tangents(name: str, primals: Any, tangents: Any) -> list[Any]:
    for what, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, tuple):
            raise RuntimeError(
                f"{name}: Expected {what} to be a tuple. E.g. it should be valid to call f(*primals): "
                f"got {type(value).__name__}"
            )
        if not value:
            raise RuntimeError(f"{name}: Expected {what} to have at least one tensor: got ()")
    (xs, nest), (vs, given) = flatten(primals), flatten(tangents)
    _check_nest(name, given, "primals and tangents to be the same", nest)
    for x, v in zip(xs, vs, strict=True):
        if not isinstance(v, Tensor) or v.shape != x.shape:
            got = list(v.shape) if isinstance(v, Tensor) else type(v).__name__
            raise RuntimeError(f"{name}: got a tangent {got}; expected a shape {list(x.shape)}")
    return vs


def jvp(
    func: Callable, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
) -> tuple:
    """The result of a function, and its Jacobian times a vector."""
    vs = _check_tangents("jvp(f, primals, tangents)", primals, tangents)
    pushed = Pushed("jvp(f, primals, tangents)", func, primals, has_aux)
    call = pushed.call
    if strict and len(pushed.at) < len(call.ys):
        raise RuntimeError(
            "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. "
            "This is not allowed with strict=True."
        )
    out = (call.result(), mapped(call.released, pushed.along(vs)))
    return (*out, mapped(call.released, call.aux)) if has_aux else out


def linearize(func: Callable, *primals: Any) -> tuple[Any, Callable]:
    """The result of a function, and the function of vectors that its Jacobian is."""
    pushed = Pushed("linearize(f, *primals)", func, primals)

    def jvp_fn(*tangents: Any) -> Any:
        return pushed.along(_check_tangents("linearize", primals, tangents))

    return pushed.call.result(), jvp_fn


# -- Jacobians


def _basis(leaves: Sequence[Tensor]) -> list[Tensor]:
    """For each of several tensors its part of the unit vectors of them all: row i has the i-th."""
    total, start, out = sum(t.numel() for t in leaves), 0, []
    for t in leaves:
        rows = eye(total, dtype=t.dtype)[:, start : start + t.numel()]
        out.append(rows.reshape((total, *t.shape)))
        start += t.numel()
    return out


def _parts(rows: Tensor, leaves: Sequence[Tensor], dim: int) -> list[Tensor]:
    """A dimension over the elements of several tensors, cut into theirs and unfolded."""
    cut = rows.split([t.numel() for t in leaves], dim)
    return [
        c.reshape((*c.shape[:dim], *t.shape, *c.shape[dim + 1 :]))
        for c, t in zip(cut, leaves, strict=True)
    ]


def jacrev(
    func: Callable, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False, chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable:  # fmt: skip
    """A function that gives the derivative of each result by each input, row by row, backwards.

    shape: that of the result followed by that of the input
    """
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        partial, some = of_some(func, argnums, args, kwargs)
        call = Call("jacrev(f)(*args)", partial, some, has_aux)

        def rows(*seeds: Tensor) -> list[Tensor]:
            return call.pulled(seeds, call.matters())

        made = vmap(rows, chunk_size=chunk_size)(*_basis(call.ys)) if call.ys else []
        by_input = [_parts(m, call.ys, 0) for m in made]
        nested = [
            like_argnums(argnums, call.inputs.fill([parts[i] for parts in by_input]))
            for i in range(len(call.ys))
        ]
        out = call.outputs.fill(nested)
        return (out, mapped(call.released, call.aux)) if has_aux else out

    return wrapper


def jacfwd(
    func: Callable,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Callable:
    """A function that gives the derivative of each result by each input, column by column, forwards.

    `func` itself runs once, whatever `randomness` says.

    shape: that of the result followed by that of the input
    """

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        partial, some = of_some(func, argnums, args, kwargs)
        pushed = Pushed("jacfwd(f)(*args)", partial, some, has_aux)
        call = pushed.call

        def columns(*tangents: Tensor) -> list[Tensor]:
            return flatten(pushed.along(tangents))[0]

        made = vmap(columns, out_dims=-1, randomness=randomness)(*_basis(call.xs))
        nested = [
            like_argnums(argnums, call.inputs.fill(_parts(m, call.xs, m.ndim - 1))) for m in made
        ]
        out = call.outputs.fill(nested)
        return (out, mapped(call.released, call.aux)) if has_aux else out

    return wrapper


def hessian(func: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """A function that gives the second derivatives of `func`: `jacfwd(jacrev(func))`."""
    return jacfwd(jacrev(func, argnums), argnums)
