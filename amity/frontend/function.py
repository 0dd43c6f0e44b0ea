"""Functions whose derivative the user writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from amity.core.errors import fail
from amity.core.shape import broadcast_shapes

from .create import zeros
from .grad_mode import no_grad
from .rules import fit, forward_trace, unpack, version_of
from .tape import EDGES, LAYOUTS, OUTPUT, Rule, modes, next_seq
from .tensor import Tensor


class Context:
    """What forward keeps for backward; attributes of any name may be set too."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._saved: tuple[Tensor | None, ...] = ()
        self._unpacked: Sequence[Tensor | None] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._constant: tuple[Tensor, ...] = ()
        self._fills_grads = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs, checked against later writes; `saved_tensors` gives them back."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise fail(TypeError, "save_for_backward", type(t).__name__, "Tensors or None")
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(self._unpacked)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs forward writes to; it must return them."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros for outputs without a gradient (else None)."""
        self._fills_grads = value


def _is_in(tensor: Tensor, tensors: Sequence[Tensor]) -> bool:
    return any(tensor is t for t in tensors)


class FunctionRule(Rule):
    """The derivative of one call: runs the user's backward."""

    def __init__(self, function: type[Function], ctx: Context) -> None:
        self.function, self.ctx, self.name = function, ctx, function.__name__
        self.layouts: list[Any] = []  # of the outputs; None for what is no tensor
        self.slots: list[int | None] = []  # which output is saved, for each saved tensor
        self.ties: list[int | None] = []  # the place of an output among the taped ones
        self.count = 0

    def label(self) -> str:
        return f"{self.name}Backward"

    def record(self, outs: Sequence[Any], values: Sequence[Any]) -> None:
        """Write the node. Saved outputs are kept as aliases: a node never holds its own results."""
        ctx = self.ctx
        self.layouts = [o.layout if isinstance(o, Tensor) else None for o in outs]
        taped = [o for o in outs if isinstance(o, Tensor) and o.layout.dtype.kind == "f"]
        taped = [o for o in taped if not _is_in(o, ctx._constant)]
        kept, self.slots = [], []
        for s in ctx._saved:
            slot = next((i for i, o in enumerate(outs) if s is not None and o is s), None)
            self.slots.append(slot)
            kept.append(s if slot is None else Tensor._of(s.storage, s.layout))
        ctx._saved = ()
        edges = tuple([v.tape if isinstance(v, Tensor) else None for v in values])
        layouts = tuple([v.layout if isinstance(v, Tensor) else type(v) for v in values])
        versions = tuple([version_of(s) for s in kept])
        where = forward_trace() if modes.anomaly else None
        node = [next_seq(), self, edges, tuple(kept), versions, layouts, None, where]
        self.ties = [None] * len(outs)
        self.count = len(taped)
        for at, o in enumerate(taped):
            self.ties[next(i for i, other in enumerate(outs) if other is o)] = at
            o.tape = node if self.count == 1 else self._output(node, at, o.layout)

    def _output(self, node: list, at: int, lay: Any) -> list:
        return [next_seq(), OUTPUT, (node,), at, None, (self.count, lay), None, None]

    def apply(self, node: list, g: Any) -> Sequence[Any]:
        saved = []
        for s, slot in zip(unpack(node), self.slots, strict=True):
            if slot is not None and modes.grad and self.ties[slot] is not None:
                s = Tensor._of(s.storage, s.layout)
                at = self.ties[slot]
                s.tape = node if self.count == 1 else self._output(node, at, s.layout)
            saved.append(s)
        self.ctx._unpacked = saved
        gs = (g,) if self.count == 1 else g
        grads = [self._grad(lay, at, gs) for lay, at in zip(self.layouts, self.ties, strict=True)]
        try:
            out = self.function.backward(self.ctx, *grads)
        finally:
            self.ctx._unpacked = ()
        return self._checked(out if isinstance(out, tuple) else (out,), node)

    def _grad(self, lay: Any, at: int | None, gs: Sequence[Any]) -> Tensor | None:
        g = None if at is None else gs[at]
        if g is not None or lay is None or not self.ctx._fills_grads:
            return g
        return zeros(tuple(lay.shape), dtype=lay.dtype, device=lay.device)

    def _checked(self, grads: Sequence[Any], node: list) -> list[Any]:
        edges, layouts, name = node[EDGES], node[LAYOUTS], f"{self.name}Backward"
        if len(grads) < len(edges) or any(g is not None for g in grads[len(edges) :]):
            raise RuntimeError(
                f"function {name} returned an incorrect number of gradients "
                f"(expected {len(edges)}, got {len(grads)})"
            )
        out = []
        for i, (g, edge, lay) in enumerate(zip(grads, edges, layouts, strict=False)):
            if g is None or edge is None:
                out.append(None)
                continue
            if not isinstance(g, Tensor):
                raise TypeError(f"{name}: expected Variable or None (got {type(g).__name__})")
            out.append(self._fitted(g, i, lay))
        return out

    def _fitted(self, g: Tensor, i: int, lay: Any) -> Tensor:
        """A gradient in its input's shape: summed over what was broadcast, or expanded."""
        shape = tuple(lay.shape)
        if tuple(g.shape) != shape:
            try:
                joint = broadcast_shapes(self.name, tuple(g.shape), shape)
            except RuntimeError:
                joint = None
            if joint == shape:
                g = g.expand(shape)
            elif joint != tuple(g.shape):
                raise RuntimeError(
                    f"Function {self.name}Backward returned an invalid gradient at index {i} - "
                    f"got {list(g.shape)} but expected shape compatible with {list(shape)}"
                )
        return fit(g, lay)


class Function:
    """A function with a derivative of its own: write `forward` and `backward`, call `apply`.

    >>> import amity
    >>> class Double(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return 2 * g
    >>> x = amity.ones(1, requires_grad=True)
    >>> Double.apply(x).backward()
    >>> x.grad.item()
    2.0
    """

    def __init__(self) -> None:
        raise RuntimeError(
            f"{type(self).__name__}: a Function is not instantiated; its methods should all be "
            "static, and it is called as `.apply(...)`"
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The result: `forward(ctx, *args)`, or `forward(*args)` beside `setup_context`."""
        raise NotImplementedError("You must implement the forward function for custom Function.")

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple, output: Any) -> None:
        """Keep what backward needs, where forward takes no context."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        """A gradient, or None, for each argument of forward."""
        raise NotImplementedError("You must implement the backward method for custom Function.")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward off the tape and record backward on it."""
        needs = tuple(isinstance(a, Tensor) and a.tape is not None for a in args)
        ctx = Context(needs if modes.grad else (False,) * len(args))
        with no_grad():
            if cls.setup_context is Function.setup_context:
                out = cls.forward(ctx, *args)
            else:
                out = cls.forward(*args)
                cls.setup_context(ctx, args, out)
        is_tuple = isinstance(out, tuple)
        outs = [_own(o, args, ctx) for o in (out if is_tuple else (out,))]
        if modes.grad and any(needs):
            before = out if is_tuple else (out,)
            ctx._saved = tuple(_follow(s, before, outs) for s in ctx._saved)
            ctx._constant = tuple(_follow(s, before, outs) for s in ctx._constant)
            _check_dirty(cls, ctx, outs)
            FunctionRule(cls, ctx).record(outs, args)
        return tuple(outs) if is_tuple else outs[0]


def _own(out: Any, args: Sequence[Any], ctx: Context) -> Any:
    """An output that is an input, unwritten, becomes a view with its own place on the tape."""
    if isinstance(out, Tensor) and _is_in(out, args) and not _is_in(out, ctx._dirty):
        return out.detach()
    return out


def _follow(tensor: Any, before: Sequence[Any], after: Sequence[Any]) -> Any:
    """A marked output, after an input among the outputs became a view."""
    return next((new for old, new in zip(before, after, strict=True) if old is tensor), tensor)


def _check_dirty(cls: type[Function], ctx: Context, outs: Sequence[Any]) -> None:
    for t in ctx._dirty:
        if not _is_in(t, outs):
            got = "a dirty tensor that forward did not return"
            raise fail(RuntimeError, cls.__name__, got, "every dirty tensor among the outputs")
        if t.requires_grad and t.is_leaf:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )


def once_differentiable(backward: Callable) -> Callable:
    """Run a backward off the tape: its own derivative is an error, not silently zero."""

    @wraps(backward)
    def off_tape(ctx: Context, *grads: Any) -> Any:
        is_taped = modes.grad and any(isinstance(g, Tensor) and g.requires_grad for g in grads)
        with no_grad():
            out = backward(ctx, *grads)
        if not is_taped:
            return out
        many = out if isinstance(out, tuple) else (out,)
        return tuple(None if g is None else _NoDerivative.apply(g, *grads) for g in many)

    return off_tape


class _NoDerivative(Function):
    """A gradient that was computed off the tape."""

    @staticmethod
    def forward(ctx: Context, g: Tensor, *sources: Tensor) -> Tensor:
        return g

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )
