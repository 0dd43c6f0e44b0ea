"""Backward: gradients from roots to leaves, latest node first."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from amity.engine import deferral, lines

from .function import Function as Function
from .function import once_differentiable as once_differentiable
from .grad_mode import recording, set_grad_enabled
from .tape import (
    ACCUMULATE,
    EDGES,
    FREED,
    HOOKS,
    OUTPUT,
    RULE,
    SAVED,
    SEQ,
    VERSIONS,
    WHERE,
    Hooks,
    hooks_of,
    modes,
)  # fmt: skip
from .tensor import Tensor
from .trace import Symbol
from .vmap import vmap


class Handle:
    """Removes a hook."""

    def __init__(self, hooks: dict, key: int) -> None:
        self._hooks, self._key = hooks, key

    @classmethod
    def of(cls, hooks: dict, hook: Callable) -> Handle:
        """Add a hook after those that are there."""
        key = max(hooks, default=0) + 1
        hooks[key] = hook
        return cls(hooks, key)

    def remove(self) -> None:
        self._hooks.pop(self._key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(node: list, hook: Callable) -> Handle:
    """Call `hook(grad)` with the gradient of a node's result; what it returns replaces it."""
    return Handle.of(hooks_of(node).before, hook)


def run(
    roots: Sequence[tuple[list, Any]],
    keep_graph: bool,
    create_graph: bool,
    captures: dict[int, Any] | None = None,
    wanted: set[int] | None = None,
) -> None:
    """Push gradients through the tape.

    `captures` maps `id(node)` to the gradient found there, filled in; `wanted` holds the ids of the
    nodes worth visiting; with captures, other leaves keep their `.grad`.
    """
    grads: dict[int, Any] = {}
    heap: list[tuple[int, list]] = []
    node = g = None
    if len(roots) == 1:
        node, g = roots[0]
    else:
        for root, seed in roots:
            _push(grads, heap, root, seed)
    around = lines.backward
    _drain(grads, heap, node, g, keep_graph, create_graph, captures, wanted)
    lines.backward = around


def _drain(grads: dict[int, Any], heap: list, node: list | None, g: Any, keep_graph: bool,
           create_graph: bool, captures: dict[int, Any] | None, wanted: set[int] | None,
) -> None:  # fmt: skip
    """Visit `node`, given its gradient, and then the latest node that waits until none is left."""
    is_checked, has_lines = modes.checks_nan, lines.are_noted()
    is_plain = captures is None and not create_graph
    while node is not None or heap:
        if node is None:
            seq, node = heappop(heap)
            g = grads.pop(seq)
        rule, hooks = node[RULE], node[HOOKS]
        if hooks is not None:
            g = _call_hooks(hooks, g)
        if captures is not None and id(node) in captures:
            captures[id(node)] = g
        if rule is ACCUMULATE or rule is OUTPUT:
            if rule is OUTPUT:
                _push_result(grads, heap, node, g, wanted)
            elif captures is None:
                accumulate(node, g, create_graph, 3)  # g, the argument and getrefcount's
            node = None
            continue
        if has_lines:
            lines.backward = node[SEQ]
        try:
            out = rule.apply(node, g)
        except Exception as error:
            _explain(node, error)
            raise
        if hooks is not None and hooks.after:
            out = _call_after(hooks, out, g)
        if is_checked:
            _check_nan(node, out)
        if not keep_graph and node[SAVED]:
            node[SAVED], node[VERSIONS] = FREED, ()
        is_fresh = rule.is_fresh and is_plain and hooks is None
        edges, node, g = node[EDGES], None, None
        for edge, gx in zip(edges, out):
            if edge is None or gx is None or (wanted is not None and id(edge) not in wanted):
                continue
            if edge[1] is ACCUMULATE and captures is None and edge[3] is edge[HOOKS] is None:
                if edge[2] is None and is_fresh:
                    edge[2] = gx
                else:
                    accumulate(edge, gx, create_graph, 5)  # with out, zip and getrefcount's
                continue
            have = grads.get(s := edge[0])
            if have is not None:
                grads[s] = have + gx
            elif node is None and not heap:  # the only way on, so far: no need to queue
                node, g = edge, gx
            elif node is edge:
                g = g + gx
            else:
                grads[s] = gx
                heappush(heap, (s, edge))
                if node is not None:
                    _push(grads, heap, node, g)
                    node = g = None
        out = gx = have = None


def _is_owner(g: Tensor) -> bool:
    """Whether a gradient is all of its own memory, and of nobody else's."""
    s = g.storage
    return (
        g.layout.is_contiguous
        and g.base is None
        and g.tape is None
        and s is not None
        and s.root is s
        and sys.getrefcount(s) == 3 + (deferral.holds() if deferral.is_on else 0)
    )


def _push(grads: dict[int, Any], heap: list, node: list, g: Any) -> None:
    have = grads.get(node[SEQ])
    if have is None:
        grads[node[SEQ]] = g
        heappush(heap, (node[SEQ], node))
    else:
        grads[node[SEQ]] = have + g


def _push_result(
    grads: dict[int, Any], heap: list, node: list, g: Any, wanted: set[int] | None
) -> None:
    """The gradient of one of several results: the parent gets a list."""
    parent, index, count = node[EDGES][0], node[3], node[5][0]
    if wanted is not None and id(parent) not in wanted:
        return
    have = grads.get(parent[SEQ])
    if have is None:
        have = grads[parent[SEQ]] = [None] * count
        heappush(heap, (parent[SEQ], parent))
    have[index] = g if have[index] is None else have[index] + g


def _call_hooks(hooks: Hooks, g: Any) -> Any:
    for hook in list(hooks.before.values()):
        replaced = hook(g)
        if replaced is not None:
            if isinstance(g, Tensor):
                _check_replaced(hook, replaced, g)
            g = replaced
    tensor = None if hooks.kept is None else hooks.kept()
    if tensor is not None:
        have = tensor.__dict__.get("_grad")
        tensor.__dict__["_grad"] = g if have is None else have + g
    return g


def _check_replaced(hook: Callable, g: Any, before: Tensor) -> None:
    """An error for what cannot stand for a gradient; the rules after it would fail anywhere."""
    name = getattr(hook, "__name__", type(hook).__name__)
    if not isinstance(g, Tensor):
        raise TypeError(f"hook {name!r}: got {type(g).__name__}; expected a Tensor or None")
    for what in ("dtype", "shape"):
        got, expected = getattr(g.layout, what), getattr(before.layout, what)
        if got != expected:
            raise RuntimeError(
                f"hook {name!r} has changed the {what} of the gradient: got {got}; expected {expected}"
            )


def _call_after(hooks: Hooks, out: Sequence[Any], g: Any) -> Sequence[Any]:
    """The gradients of a node's inputs after its hooks."""
    for hook in list(hooks.after.values()):
        replaced = hook(tuple(out), tuple(g) if type(g) is list else (g,))
        if replaced is not None:
            if len(replaced) != len(out):
                raise RuntimeError(
                    f"register_hook: got {len(replaced)} gradients from a hook; expected {len(out)}"
                )
            out = replaced
    return out


def _explain(node: list, error: Exception) -> None:
    if node[WHERE]:
        print(
            f"Error detected in {node[RULE].label()}. Traceback of forward call that caused the "
            f"error:\n{node[WHERE]}",
            file=sys.stderr,
        )


def _check_nan(node: list, grads: Sequence[Any]) -> None:
    for i, g in enumerate(grads):
        if isinstance(g, Tensor) and g.storage is not None and bool((g != g).any()):
            where = (
                f" Traceback of forward call that caused it:\n{node[WHERE]}" if node[WHERE] else ""
            )
            raise RuntimeError(
                f"Function '{node[RULE].label()}' returned nan values in its {i}th output.{where}"
            )


def accumulate(leaf: list, g: Any, create_graph: bool, holders: int) -> None:
    """Add to a leaf's `.grad`. A gradient that only `holders` references hold is taken over as it is."""
    have = leaf[2]
    if have is None:
        if not create_graph and type(g.layout) is not Symbol:
            if sys.getrefcount(g) > holders or not _is_owner(g):
                g = g.detach()
                g = g.clone() if g.layout.is_contiguous else g.contiguous()
        leaf[2] = g
    elif create_graph or type(g.layout) is Symbol or have.tape is not None:
        leaf[2] = have + g
    else:
        have.add_(g.detach())
    if leaf[3]:
        for hook in list(leaf[3].values()):
            hook()


_ones: dict[Any, Any] = {}  # the gradients that scalars start from
ONES_KEPT = 256


def _seed(op: str, t: Tensor, g: Any) -> Any:
    if g is None:
        if t.layout.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if deferral.is_on and deferral.recorder() is not None:
            return t._ones_like()  # a constant, which a graph folds
        one = _ones.get(t.layout)
        if one is None or one.storage.version:  # a hook may have written to it
            if t.storage is None:
                return t._ones_like()
            if len(_ones) > ONES_KEPT:
                _ones.clear()
            with deferral.apart():
                one = _ones[t.layout] = t._ones_like()
        return one
    if not isinstance(g, Tensor):
        raise TypeError(
            f"{op}: gradients can be either Tensors or None, but got {type(g).__name__}"
        )
    if g.layout.shape != t.layout.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output has a shape of {list(g.shape)} and output has a "
            f"shape of {list(t.shape)}."
        )
    return g


def _roots(
    op: str, outputs: Sequence[Tensor], grads: Sequence[Any] | None
) -> list[tuple[list, Any]]:
    if grads is None and len(outputs) == 1 and outputs[0].tape is not None:
        return [(outputs[0].tape, _seed(op, outputs[0], None))]
    grads = [None] * len(outputs) if grads is None else list(grads)
    if len(grads) != len(outputs):
        raise RuntimeError(
            f"{op}: got {len(outputs)} tensors and {len(grads)} gradients; expected as many"
        )
    roots = []
    for i, (t, g) in enumerate(zip(outputs, grads, strict=True)):
        if t.tape is None:
            raise RuntimeError(
                f"element {i} of tensors does not require grad and does not have a grad_fn"
            )
        roots.append((t.tape, _seed(op, t, g)))
    return roots


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    grad_variables: Any = None, inputs: Any = None,
) -> None:  # fmt: skip
    """Add the gradients of `tensors` to the `.grad` of the leaves they were made of."""
    if grad_variables is not None:
        warnings.warn("backward: 'grad_variables' is deprecated: use 'grad_tensors'", stacklevel=2)
        if grad_tensors is not None:
            raise RuntimeError("backward: got grad_tensors and grad_variables; expected one")
        grad_tensors = grad_variables
    tensors = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
    grad_tensors = (grad_tensors,) if isinstance(grad_tensors, Tensor) else grad_tensors
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        before, modes.grad = modes.grad, recording(True) if create_graph else False
        try:
            run(_roots("backward", tensors, grad_tensors), keep, create_graph)
        finally:
            modes.grad = before
        return
    with set_grad_enabled(create_graph):
        roots = _roots("backward", tensors, grad_tensors)
        inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        inputs = tuple({id(t): t for t in inputs}.values())
        _check_inputs("backward", inputs)
        for t, g in zip(inputs, _gradients(roots, inputs, keep, create_graph), strict=True):
            if g is not None:
                if t.is_leaf:
                    accumulate(t.tape, g, create_graph, 3)
                else:
                    t.grad = g if t.grad is None else t.grad + g


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None,
    create_graph: bool = False, only_inputs: bool = True, allow_unused: bool | None = None,
    is_grads_batched: bool = False, materialize_grads: bool = False,
) -> tuple:  # fmt: skip
    """The gradients of outputs with respect to inputs; `.grad` is left alone.

    errors: RuntimeError if an input was not used, unless `allow_unused`
    """
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    grad_outputs = (grad_outputs,) if isinstance(grad_outputs, Tensor) else grad_outputs
    if not only_inputs:
        warnings.warn(
            "grad: only_inputs=False is deprecated and has no effect: call backward() to add to "
            "the .grad of other leaves",
            stacklevel=2,
        )
    if is_grads_batched:
        return _batched_grad(outputs, inputs, grad_outputs, create_graph, allow_unused,
                             materialize_grads)  # fmt: skip
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "grad: Expected allow_unused to be True or not passed when materialize_grads=True"
        )
    _check_inputs("grad", inputs)
    keep = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        found = _gradients(_roots("grad", outputs, grad_outputs), inputs, keep, create_graph)
    out = []
    for t, g in zip(inputs, found, strict=True):
        if g is None and materialize_grads:
            g = t._zeros_like()
        elif g is None and not allow_unused:
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
        out.append(g)
    return tuple(out)


def _batched_grad(
    outputs: Any, inputs: Any, grad_outputs: Any, create_graph: bool,
    allow_unused: bool | None, materialize: bool,
) -> tuple:  # fmt: skip
    """The gradients for each of many gradients of the outputs, which have one more dimension in front."""
    used: list[bool] = []

    def one(*seeds: Tensor) -> list[Tensor]:
        found = grad(
            outputs, inputs, seeds, True, create_graph, True, allow_unused, False, materialize
        )
        used[:] = [g is not None for g in found]
        return [g for g in found if g is not None]

    made = iter(vmap(one)(*grad_outputs))
    return tuple(next(made) if is_used else None for is_used in used)


def _check_inputs(op: str, inputs: Sequence[Any]) -> None:
    if not inputs:
        raise RuntimeError(f"{op}: `inputs` argument to {op}() cannot be empty.")
    for t in inputs:
        if not isinstance(t, Tensor):
            raise TypeError(f"{op}: got inputs of {type(t).__name__}; expected Tensors")
        if t.tape is None:
            raise RuntimeError(
                f"{op}: One of the differentiated Tensors does not require grad: got inputs with "
                f"one of shape {list(t.shape)}; expected tensors that require grad"
            )


def _gradients(roots, inputs: Sequence[Tensor], keep: bool, create_graph: bool) -> list[Any]:
    captures: dict[int, Any] = {id(t.tape): None for t in inputs}
    wanted = reach([node for node, _ in roots], set(captures))
    run([r for r in roots if id(r[0]) in wanted], keep, create_graph, captures, wanted)
    return [captures[id(t.tape)] for t in inputs]


def reach(roots: Sequence[list], targets: set[int]) -> set[int]:
    """The nodes on a way from the roots to one of the targets."""
    good: set[int] = set()
    state: dict[int, bool] = {}
    for root in roots:
        stack: list[tuple[list, int]] = [(root, 0)]
        while stack:
            node, at = stack.pop()
            key = id(node)
            edges = () if node[RULE] is ACCUMULATE else [e for e in node[EDGES] if e is not None]
            if at == 0:
                if key in state:
                    continue
                state[key] = True
            if at < len(edges):
                stack.append((node, at + 1))
                stack.append((edges[at], 0))
                continue
            if key in targets or any(id(e) in good for e in edges):
                good.add(key)
    return good
