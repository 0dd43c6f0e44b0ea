"""Gives Tensor its methods: operators, every published op, in-place forms, conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amity import ops
from amity.core import dtype as dt
from amity.core.device import Device
from amity.core.dtype import DType, as_dtype
from amity.core.layout import formatted, is_formatted, layout, preserve_format
from amity.ops import record as records
from amity.ops.cast import Cast
from amity.ops.record import INPLACE, METHODS, Op, Pointwise
from amity.ops.reduce import dims_of

from . import autograd, create, foreach, inplace, view_memo
from .batched import Batched, all_entries, held, is_batched, through
from .bind import bind, fast_binary, fast_reduction, fast_unary
from .fused import bind_composite
from .inplace import apply_inplace, write_again
from .tape import ACCUMULATE, RULE, Rule, keep_grad, modes, next_seq
from .tensor import Tensor
from .trace import Symbol
from .view_memo import remembered

records.install(bind, bind_composite)


def set_method(name: str, function: Callable) -> None:
    setattr(Tensor, name, function)


# -- published ops


def inplace_method(name: str, function: Callable) -> Callable:
    op = getattr(function, "op", None)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if len(args) == 1 and not kwargs and op is not None:
            out = write_again(op, self, args[0])
            if out is not None:
                return out
        return apply_inplace(name, function, self, args, kwargs)

    method.__name__ = name + "_"
    method.__doc__ = f"`{name}` written into this tensor."
    return method


MORE_INPLACE = ("float_power", "mvlgamma", "renorm")


def attach_ops() -> None:
    for name, function in METHODS.items():
        set_method(name, remembered(function) if name in view_memo.NAMES else function)
    written = set(INPLACE.values())
    aliases = {n: f for n, f in METHODS.items() if f in written or n in MORE_INPLACE}
    for name, function in (INPLACE | aliases).items():
        set_method(name + "_", inplace_method(name, function))


# -- operators


def _number_or_tensor(x: Any) -> bool:
    return (
        isinstance(x, (Tensor, bool, int, float))
        or getattr(x, "ndim", None) == 0
        and hasattr(x, "item")
    )


def guarded(method: Callable) -> Callable:
    """NotImplemented for operands that are no tensors or numbers, so that they get their turn."""

    def checked(a: Any, b: Any) -> Any:
        return method(a, b) if _number_or_tensor(b) else NotImplemented

    return checked


def binary_operator(op: Pointwise) -> Callable:
    def slow(a: Any, b: Any) -> Any:
        return bind(op, (a, b)) if _number_or_tensor(b) else NotImplemented

    return fast_binary(op, slow)


def attach_operators() -> None:
    e = ops
    table = {
        "add": e.ADD, "sub": e.SUB, "mul": e.MUL, "truediv": e.DIV, "floordiv": e.FLOOR_DIVIDE, "mod": e.REMAINDER,
        "eq": e.EQ, "ne": e.NE, "lt": e.LT, "le": e.LE, "gt": e.GT, "ge": e.GE,
    }  # fmt: skip
    for name, op in table.items():
        set_method(f"__{name}__", binary_operator(op))
        if name not in ("eq", "ne", "lt", "le", "gt", "ge"):
            set_method(f"__r{name}__", guarded(lambda a, b, op=op: bind(op, (b, a))))
            set_method(
                f"__i{name}__", guarded(inplace_method(name, METHODS[_PLAIN.get(name, name)]))
            )
    for name in ("add", "mul"):
        set_method(f"__r{name}__", binary_operator(table[name]))
    set_method("__neg__", fast_unary(e.NEG, e.neg))
    set_method("__pos__", lambda self: self)
    set_method("__abs__", fast_unary(e.ABS, e.abs))
    set_method("__pow__", guarded(e.pow))
    set_method("__rpow__", guarded(lambda a, b: e.POW(b, a)))
    set_method("__ipow__", guarded(inplace_method("pow", e.pow)))
    set_method(
        "__matmul__", lambda a, b: e.matmul(a, b) if isinstance(b, Tensor) else NotImplemented
    )
    set_method(
        "__rmatmul__", lambda a, b: e.matmul(b, a) if isinstance(b, Tensor) else NotImplemented
    )
    for name, function in (("and", "bitwise_and"), ("or", "bitwise_or"), ("xor", "bitwise_xor"),
                           ("lshift", "bitwise_left_shift"), ("rshift", "bitwise_right_shift")):  # fmt: skip
        f = getattr(e, function, None)
        if f is not None:
            set_method(f"__{name}__", guarded(f))
            set_method(f"__r{name}__", guarded(lambda a, b, f=f: f(create.as_tensor(b), a)))
            set_method(f"__i{name}__", guarded(inplace_method(function, f)))
    if hasattr(e, "bitwise_not"):
        set_method("__invert__", invert)


def invert(self: Tensor) -> Tensor:
    """`~x`: bitwise, or logical for bools."""
    if self.layout.dtype.kind == "f":
        raise TypeError(
            f"bitwise_not: got {self.dtype}: ~ (operator.invert) is only implemented on integer "
            "and Boolean-type tensors; expected one of these"
        )
    return ops.bitwise_not(self)


_PLAIN = {"truediv": "div", "floordiv": "floor_divide", "mod": "remainder"}
FAST_UNARY = (
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "sqrt",
    "abs",
    "neg",
    "relu",
    "rsqrt",
    "square",
)


def attach_fast_unary() -> None:
    for name in FAST_UNARY:
        function = getattr(ops, name, None)
        if isinstance(getattr(function, "op", None), Op):
            set_method(name, fast_unary(function.op, function))
    sum_over = lambda a, dim=None: ops.Sum(dims_of("sum", a, dim, False), False)  # noqa: E731
    set_method("sum", fast_reduction(sum_over, ops.sum))


# -- conversions


def to(self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, non_blocking: bool = False,
       copy: bool = False, memory_format: Any = None) -> Tensor:  # fmt: skip
    """This tensor in another dtype or on another device; itself if nothing changes."""
    for a in args:
        if isinstance(a, DType):
            dtype = a
        elif isinstance(a, Tensor):
            dtype, device = a.dtype, a.device
        elif isinstance(a, (str, Device)):
            device = a
        elif isinstance(a, bool):
            continue
        elif a is not None:
            raise TypeError(f"to: got {type(a).__name__}; expected a dtype, a device or a Tensor")
    out, dtype = self, as_dtype("to", dtype)
    if dtype is not None and dtype is not self.layout.dtype:
        out = Cast(dtype)(self)
    if (
        device is not None
        and Device(device) is not out.device
        and Device(device).type != out.device.type
    ):
        out = _to_device(out, Device(device))
    if memory_format is not None and memory_format is not preserve_format:
        out = out.contiguous(memory_format=memory_format)
    return out.clone() if copy and out is self else out


def _to_device(t: Tensor, device: Device) -> Tensor:
    if device.type == "meta":
        return Tensor._of(None, layout(t.layout.dtype, t.layout.shape, t.layout.strides, device))
    raise RuntimeError("to: Cannot copy out of meta tensor; no data!")


def converter(dtype: DType) -> Callable:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return self if self.layout.dtype is dtype else Cast(dtype)(self)

    return method


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of this tensor's type, or the tensor in another dtype."""
    if dtype is None:
        return f"amity.{records._LEGACY[self.dtype.name]}Tensor"
    if isinstance(dtype, str):
        named = _BY_TYPE_NAME.get(dtype.removeprefix("amity.").removeprefix("torch."))
        if named is None:
            raise ValueError(
                f"type: got {dtype!r}: invalid type; expected e.g. 'amity.FloatTensor'"
            )
        dtype = named
    return self.to(dtype)


_BY_TYPE_NAME = {f"{legacy}Tensor": dt.BY_NAME[n] for n, legacy in records._LEGACY.items()}


def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """This tensor if it is row-major (or in the memory format), else such a copy."""
    if type(self.layout) is Batched:
        return self if self.layout.is_contiguous else clone(self)
    if memory_format not in (None, preserve_format) and type(self.layout) is not Symbol:
        if is_formatted("contiguous", self.layout, memory_format):
            return self
        return _clone(self, formatted("contiguous", self.layout, memory_format))
    return (
        self
        if self.layout.is_contiguous
        else _clone(self, layout(self.layout.dtype, self.layout.shape))
    )


def clone(self: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with memory of its own; gradients flow back."""
    if type(self.layout) is Batched:
        out = through(lambda x: x.contiguous().clone(), self)
        if self.tape is not None and modes.grad:
            out.tape = [next_seq(), CLONE, (self.tape,), (), (), (self.layout,), None, None]
        return out
    if type(self.layout) is Symbol:
        return self * 1 if self.dtype.kind != "b" else self | False
    return _clone(self, formatted("clone", self.layout, memory_format))


def _clone(self: Tensor, lay: Any) -> Tensor:
    if type(self.layout) is Symbol:
        return self
    out = inplace.duplicate(self, lay)
    if self.tape is not None and modes.grad:
        out.tape = [next_seq(), CLONE, (self.tape,), (), (), (self.layout,), None, None]
    return out


class _CloneRule(Rule):
    """A copy passes its gradient on."""

    name = "clone"

    def apply(self, node: list, g: Any) -> tuple:
        return (g,)


CLONE = _CloneRule()


def backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
             create_graph: bool = False, inputs: Any = None) -> None:  # fmt: skip
    """Add the gradients of this tensor to the `.grad` of the leaves it was made of."""
    gradients = None if gradient is None else (gradient,)
    autograd.backward((self,), gradients, retain_graph, create_graph, None, inputs)


def register_hook(self: Tensor, hook: Callable) -> Any:
    """Call `hook(grad)` whenever this tensor's gradient is known; what it returns replaces it."""
    if self.tape is None:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    return autograd.add_hook(self.tape, hook)


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable) -> Any:
    """Call `hook(tensor)` after this leaf's `.grad` was added to."""
    if self.tape is None or self.tape[RULE] is not ACCUMULATE:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    hooks = self.tape[3] = self.tape[3] or {}
    return autograd.Handle.of(hooks, lambda: hook(self))


def retain_grad(self: Tensor) -> None:
    """Keep `.grad` of this tensor though it is no leaf."""
    if self.tape is None:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if self.tape[RULE] is not ACCUMULATE:
        keep_grad(self)


def new_tensor(
    self: Tensor,
    data: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    return create.tensor(
        data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad
    )


def new_filled(make: Callable) -> Callable:
    def method(
        self: Tensor,
        *size: Any,
        dtype: DType | None = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Tensor:
        if type(self.layout) is Symbol:
            like = create.traced(
                create.Node(
                    create.Constant(0, False),
                    (),
                    create.Spec(create.sizes(size), dtype or self.dtype),
                )
            )
            return make.like(like)
        if is_batched(self):
            shape, kind = all_entries(self.layout, create.sizes(size)), dtype or self.dtype
            t = through(lambda x: make(shape, dtype=kind, device=device or x.device), self)
            return create.finish(t, requires_grad)
        return make(
            *size,
            dtype=dtype or self.dtype,
            device=device or self.device,
            requires_grad=requires_grad,
        )

    return method


def new_full(
    self: Tensor,
    size: Any,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    if is_batched(self):
        shape, kind = all_entries(self.layout, create.sizes((size,))), dtype or self.dtype
        t = through(lambda x: create.full(shape, fill_value, dtype=kind, device=x.device), self)
        return create.finish(t, requires_grad)
    return create.full(
        size,
        fill_value,
        dtype=dtype or self.dtype,
        device=device or self.device,
        requires_grad=requires_grad,
    )


def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element set to a value."""
    if isinstance(value, Tensor):
        return self.copy_(value)
    return inplace.set_to(self, value)


def zero_(self: Tensor) -> Tensor:
    """Every element set to 0."""
    out = inplace.write_again(inplace.FILL, self, 0)
    if out is not None:
        return out
    if self.storage is None and is_batched(self):
        return inplace.set_to(self, 0)
    if self.storage is None:
        return (
            self
            if type(self.layout) is not Symbol
            else inplace._rebind(self, create.zeros_like(self))
        )
    inplace.check_writable("zero_", self, True)
    if modes.grad and (
        self.tape is not None or (self.base is not None and self.base.tape is not None)
    ):
        return inplace.assign(self, create.zeros((), dtype=self.dtype).expand(self.shape))
    return inplace.fill(self, 0)


def _blended(running: Tensor, new: Tensor, keep: Any, take: Any) -> tuple[Tensor]:
    return (running * keep + new * take,)


def blend(self: Tensor, new: Tensor, keep: float, take: float) -> None:
    """`self = keep * self + take * new` in place, off the tape: running statistics."""
    foreach.update(_blended, (self, new.detach()), 2, {"keep": keep, "take": take})


def attach_rest() -> None:
    rest = (to, contiguous, clone, backward, register_hook, register_post_accumulate_grad_hook, retain_grad,
            new_tensor, new_full, fill_, zero_)  # fmt: skip
    for f in rest:
        set_method(f.__name__, f)
    set_method("type", type_)
    set_method("copy_", inplace.copy_)
    set_method("_receive", inplace.receive)
    set_method("_held", held)
    set_method("_become", inplace.become)
    set_method("_blend", blend)
    set_method("_zeros_like", lambda self: create.zeros_like(self))
    set_method("_ones_like", lambda self: create.ones_like(self))
    for name, make, like in (("zeros", create.zeros, create.zeros_like), ("ones", create.ones, create.ones_like),
                             ("empty", create.empty, create.empty_like)):  # fmt: skip
        make.like = like
        set_method(f"new_{name}", new_filled(make))
    names = {"float": dt.float32, "double": dt.float64, "half": dt.float16, "bfloat16": dt.bfloat16, "int": dt.int32,
             "long": dt.int64, "short": dt.int16, "char": dt.int8, "byte": dt.uint8, "bool": dt.bool_}  # fmt: skip
    for name, dtype in names.items():
        set_method(name, converter(dtype))
    set_method("cpu", lambda self, memory_format=None: self)
    set_method("view_as", lambda self, other: self.view(other.shape))
    set_method("reshape_as", lambda self, other: self.reshape(other.shape))
    set_method("expand_as", lambda self, other: self.expand(other.shape))
    set_method("type_as", lambda self, other: self.to(other.dtype))
    set_method("T", property(lambda self: self.permute(tuple(reversed(range(self.ndim))))))
    set_method("share_memory_", lambda self: self)
    set_method("is_inference", lambda self: False)
    set_method("pin_memory", lambda self, device=None: self)
    set_method("cuda", _no_cuda)


def _no_cuda(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    raise RuntimeError("cuda: got device 'cuda'; expected one of cpu, meta")


attach_ops()
attach_operators()
attach_fast_unary()
attach_rest()
