"""What an op is: one record with its shape rule, NumPy meaning, derivative, lowering and samples.

A *primitive* is a subclass of `Op`; its fields are its attributes, and each bound instance exists
once, so identity is the key of all plans. A *composite* is a plain function over ops that eager
runs as one fused Program and a trace sees through.

A derivative rule `grad(self, g, ...)` is written in ops. What it takes by name is what the tape
keeps: `y` is the result, an input's own name is that input, `like_x` its layout alone (shape and
dtype, no memory kept).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache, update_wrapper
from typing import Any, ClassVar

import numpy as np

from amity.core.dtype import (
    FLOATING,
    PROMOTION,
    DType,
    bool_,
    float32,
    float64,
    get_default_dtype,
    int64,
)  # fmt: skip
from amity.core.layout import Layout
from amity.core.shape import broadcast_shapes
from amity.core.symbolic import SymInt
from amity.ir.graph import Spec

from .arguments import deliver, numpy_names
from .sample import NO_TENSOR, ErrorSample, Sample

REGISTRY: dict[str, type[Op]] = {}  # primitives by name
COMPOSITES: dict[str, Composite] = {}
METHODS: dict[str, Callable] = {}  # public functions that are methods of Tensor too
INSTANCES_KEPT = 20_000


def _not_installed(*args: Any) -> Any:
    raise RuntimeError("ops: got a call before the frontend; expected `import amity` first")


_bind: Callable[..., Any] = _not_installed
_bind_composite: Callable[..., Any] = _not_installed


def install(bind: Callable, bind_composite: Callable) -> None:
    """The one upward hook: the frontend says what happens when an op is called."""
    global _bind, _bind_composite
    _bind, _bind_composite = bind, bind_composite


def told_apart(value: Any) -> Any:
    """What stands for a value in a key: 0.0 and -0.0 are equal, but not the same."""
    return value or str(value) if type(value) is float else value


class Op:
    """Base of all primitives. `kind` says how it is lowered:

    `pointwise`  emit(k, *values) -> value, fused into loops
    `reduce`     joins the elements along `dims` with `combine`
    `view`       view(layout) -> (layout, offset in elements): no kernel at all
    `indexed`    element(k, *accessors) -> value: one output element from indexed loads
    `kernel`     planned by the compiler module that `planner` names (matmul, conv, …)
    `host`       runs `reference` itself, for what is not hot
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str] = "host"
    fields: ClassVar[tuple[str, ...]] = ()
    runtime: ClassVar[tuple[str, ...]] = ()  # integer attributes that kernels read at run time
    planner: ClassVar[str] = ""
    results: ClassVar[int] = 1
    fuses_grad: ClassVar[bool] = False  # whether the derivative rule runs as one Program in eager
    samples: ClassVar[Sequence[Sample]] = ()
    errors: ClassVar[Sequence[ErrorSample]] = ()
    byproducts: ClassVar[tuple[int, ...]] = ()  # results that no gradient flows from
    no_gradient: ClassVar[str] = ""  # why floats have none, where an op has no rule
    no_second_gradient: ClassVar[str] = ""  # why the rule has no derivative of its own
    is_of_memory: ClassVar[bool] = False  # whether strides, not places, say what it shows
    carries: ClassVar[str] = ""  # how one more dimension in front is carried: see batching.py
    arity: ClassVar[int]
    input_names: ClassVar[list[str]]
    saved: ClassVar[tuple[tuple[str, int | str], ...]]
    holds_numbers: ClassVar[bool]  # whether a field may be a float
    _instances: ClassVar[dict]
    plans: dict
    calls: dict

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        own = cls.__dict__.get("__annotations__", {})
        new = (n for n, t in own.items() if "ClassVar" not in str(t) and n not in cls.fields)
        cls.fields = (*cls.fields, *new)
        cls._instances = {}
        kinds = [
            str(getattr(c, "__annotations__", {}).get(f)) for c in cls.__mro__ for f in cls.fields
        ]
        cls.holds_numbers = any(w in k for k in kinds for w in ("float", "object", "Any"))
        if "name" in cls.__dict__:
            if cls.name in REGISTRY:
                raise ValueError(f"op {cls.name!r} is defined twice")
            REGISTRY[cls.name] = cls
        cls.saved = _saved_names(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Op:
        if kwargs or len(args) != len(cls.fields):
            given = dict(zip(cls.fields, args, strict=False)) | kwargs
            args = tuple(given[f] if f in given else getattr(cls, f) for f in cls.fields)
        key = args
        if cls.holds_numbers and 0.0 in args:
            key = tuple(map(told_apart, args))
        key = key, tuple(map(type, args))
        found = cls._instances.get(key)
        if found is None:
            if len(cls._instances) > INSTANCES_KEPT:
                cls._instances.clear()
            found = object.__new__(cls)
            for field, value in zip(cls.fields, args, strict=True):
                object.__setattr__(found, field, value)
            found.plans = {}
            found.calls = {}  # generated callables by number of inputs, filled in by the frontend
            found = cls._instances.setdefault(key, found)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("plans", "calls"):
            raise AttributeError(f"{self.name}: a bound op cannot be changed")
        object.__setattr__(self, name, value)

    def attributes(self) -> dict[str, Any]:
        return {f: getattr(self, f) for f in self.fields}

    @property
    def structure(self) -> tuple:
        """What a kernel's code depends on: the name and the attributes not read at run time."""
        fixed = (f for f in self.fields if f not in self.runtime)
        return (self.name, *((f, told_apart(getattr(self, f))) for f in fixed))

    def parameters(self, *specs: Spec) -> list[int]:
        """The 64-bit words that a kernel reads at run time."""
        out: list[int] = []
        for f in self.runtime:
            value = getattr(self, f)
            out += list(value) if isinstance(value, tuple) else [value]
        return [v if type(v) is SymInt else int(v) for v in out]

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self.attributes().items())
        return f"{self.name}({inner})" if inner else self.name

    def __reduce__(self) -> tuple:
        return (type(self), tuple(self.attributes().values()))

    def __call__(self, *values: Any) -> Any:
        call = self.calls.get(len(values))
        return _bind(self, values) if call is None else call(*values)

    def check_of(self, *specs: Spec) -> Callable[..., None] | None:
        """What to ask of the values before each run: kernels cannot raise."""
        return None

    def orders(self, *inputs: Layout) -> Sequence[Layout | None]:
        """Of each result of a kernel, an input whose order of dimensions in memory it takes over."""
        return (None,) * self.results

    # -- what a record defines
    def infer(self, *specs: Spec) -> Spec | tuple[Spec, ...]:
        raise TypeError(f"{self.name}: the record has no shape rule")

    def reference(self, *arrays: np.ndarray) -> Any:
        raise TypeError(f"{self.name}: the record has no NumPy meaning")

    grad: ClassVar[Callable | None] = None
    batch: ClassVar[Callable]  # where `carries` is "own"
    apart: ClassVar[Callable]  # where it is "apart"


def _saved_names(cls: type[Op]) -> tuple[tuple[str, int | str], ...]:
    """What the rule takes after `self, g`, as pairs (how, which): see the module's docstring."""
    if cls.grad is None:
        return ()
    inputs = [n.lstrip("*") for n in parameter_names(cls.infer) if n != "self"]
    return saved_of(cls.grad, inputs, skip=2)


def parameter_names(function: Callable) -> list[str]:
    """A function's parameters in order, with a star for one that takes the rest. `inspect` tells the
    same, but at a cost that importing hundreds of ops would show.
    """
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__") or code.co_kwonlyargcount:
        stars: dict[Any, str] = {
            inspect.Parameter.VAR_POSITIONAL: "*",
            inspect.Parameter.VAR_KEYWORD: "**",
        }
        found = inspect.signature(function).parameters
        return [stars.get(p.kind, "") + n for n, p in found.items()]
    names = list(code.co_varnames[: code.co_argcount])
    more = code.co_varnames[code.co_argcount :]
    if code.co_flags & inspect.CO_VARARGS:
        names.append("*" + more[0])
    if code.co_flags & inspect.CO_VARKEYWORDS:
        names.append("**" + more[1 if code.co_flags & inspect.CO_VARARGS else 0])
    return names


def saved_of(rule: Callable, inputs: Sequence[str], skip: int) -> tuple[tuple[str, int | str], ...]:
    out: list[tuple[str, int | str]] = []
    for name in parameter_names(rule)[skip:]:
        if name == "*layouts":  # of all inputs
            out.append(("layouts", 0))
        elif name.startswith("*"):  # the inputs: all, or those that the shape rule calls so too
            out.append(("inputs", inputs.index(name[1:]) if name[1:] in inputs else 0))
        elif name == "needs":  # for each input, whether its gradient is wanted
            out.append(("needs", 0))
        elif name == "y" and "y" not in inputs:
            out.append(("result", 0))
        elif name.startswith("result"):
            out.append(("result", int(name[6:] or 0)))
        elif name.startswith("like_"):
            out.append(("layout", inputs.index(name[5:])))
        elif name in inputs:
            out.append(("input", inputs.index(name)))
        else:
            raise TypeError(
                f"derivative rule takes {name!r}; expected y, like_*, needs or {inputs}"
            )
    return tuple(out)


# -- dtypes and shapes of elementwise results


def result_dtype(specs: Iterable[Spec]) -> DType:
    """PyTorch's promotion: tensors with dimensions outrank 0-d ones, which outrank Python numbers,
    unless the lesser is of a higher kind (bool < integer < floating).

    >>> from amity.core.dtype import int32
    >>> result_dtype([Spec((2,), int32), Spec((), float64, True)])
    amity.float32
    """
    levels = [(2 if s.is_weak else 0 if s.shape else 1, s.dtype) for s in specs]
    return _promoted(tuple(levels), get_default_dtype())


@lru_cache(4096)
def _promoted(given: tuple[tuple[int, DType], ...], default: DType) -> DType:
    levels: list[DType | None] = [None, None, None]
    for i, dtype in given:
        have = levels[i]
        levels[i] = dtype if have is None else PROMOTION[have, dtype]
    if levels[2] is not None:
        levels[2] = default if levels[2].kind == "f" else levels[2]
    return max((d for d in levels if d is not None), key=_rank)  # the first of equals


def _rank(d: DType) -> int:
    return {"b": 0, "u": 1, "i": 1, "f": 2}[d.kind]


class Pointwise(Op):
    """One output element from one element of each input.

    `rule` gives the dtypes: `same` computes and returns the promoted dtype; `number` turns bools
    into int64 first, `float` integers into the default float; `compare` returns bool; `logical`
    computes on bools.
    """

    kind = "pointwise"
    fuses_grad = True
    rule: ClassVar[str] = "same"
    takes: ClassVar[str] = "buif"  # kinds of dtypes that the op accepts
    takes_each: ClassVar[bool] = False  # whether each input must be of such a kind
    function: ClassVar[Callable]
    code: ClassVar[Callable]

    def compute_dtype(self, *specs: Spec) -> DType:
        if self.rule == "logical":
            return bool_
        dtype = result_dtype(specs)
        if (
            dtype.kind == "f"
        ):  # of numbers alone: a derivative of one, exact until it meets a tensor
            return float64 if all(s.is_weak for s in specs) else dtype
        if self.rule == "float":
            return get_default_dtype()
        return int64 if self.rule == "number" and dtype.kind == "b" else dtype

    def argument_dtypes(self, *specs: Spec) -> tuple[DType, ...]:
        """The dtype that each argument is cast to before `emit`."""
        return (self.compute_dtype(*specs),) * len(specs)

    def infer(self, *specs: Spec) -> Spec:
        dtype = self.compute_dtype(*specs)
        for d in [s.dtype for s in specs] if self.takes_each else (dtype,):
            if d.kind not in self.takes:
                raise unlike(self.name, d, self.takes)
        shape = specs[0].shape
        if any(s.shape != shape for s in specs):
            shape = broadcast_shapes(self.name, *[s.shape for s in specs])
        if self.rule in ("compare", "logical"):
            return Spec(shape, bool_)
        return Spec(shape, dtype, dtype is float64 and all(s.is_weak for s in specs))

    def is_identity(self, *specs: Spec) -> bool:
        """Whether it gives its first input as it is."""
        return False

    def emit(self, k: Any, *values: Any) -> Any:
        return type(self).code(k, *values)

    def reference(self, *arrays: np.ndarray) -> np.ndarray:
        return type(self).function(*arrays)


_KINDS = {"b": "bool", "u": "uint8", "i": "a signed integer", "f": "a float"}
_LEGACY = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
           "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double"}  # fmt: skip


def unlike(op: str, dtype: DType, takes: str) -> Exception:
    """The error for a dtype that is of none of the kinds that an op takes."""
    return NotImplementedError(
        f"\"{op}\" not implemented for '{_LEGACY[dtype.name]}': got {dtype}; expected "
        f"{' or '.join(_KINDS[k] for k in takes)}"
    )


def pointwise(
    name: str,
    function: Callable,
    code: Callable,
    grad: Callable | None = None,
    *,
    inputs: Sequence[str] | None = None,
    **more: Any,
) -> Op:
    """A pointwise primitive without attributes, bound.

    `function` is its meaning in NumPy, `code(k, *values)` its kernel instructions, `grad(g, ...)`
    its derivative (see the module's docstring; without `self`).
    """
    rows = dict(more)
    rows.update(name=name, function=staticmethod(function), code=staticmethod(code))
    arity = rows.pop("arity", None) or len(parameter_names(code)) - 1
    inputs = list(inputs or ("x", "z", "w")[:arity])
    rows.setdefault("errors", _refusals(arity, rows.get("takes", "buif")))
    cls: Any = type(name.title().replace("_", ""), (Pointwise,), rows)
    cls.arity = arity
    cls.input_names = inputs
    if grad is not None:
        cls.grad = lambda self, g, *saved: grad(g, *saved)
        cls.saved = saved_of(grad, inputs, skip=1)
    return cls()


def _refusals(arity: int, takes: str) -> Sequence[ErrorSample]:
    """What every elementwise op refuses: shapes, dtypes, or what is no number at all."""
    out = []
    if arity > 1:
        shapes = [((n, 2), "i" if "i" in takes else "f") for n in range(2, 2 + arity)]
        out.append(ErrorSample(*shapes, error=RuntimeError, says="expected sizes that broadcast"))
    refused = [k for k in "bif" if k not in takes]
    if refused:
        of = [((2,), refused[0])] * arity
        out.append(ErrorSample(*of, error=NotImplementedError, says="not implemented for"))
    return out or NO_TENSOR


# -- public functions

INPLACE: dict[str, Callable] = {}  # functions `f` whose `f_` writes into its first argument


def publish(
    op: Op, doc: str, *aliases: str, inplace: bool = True, like: Callable | None = None
) -> Callable:
    """The public function of a primitive: its name and aliases, methods, and in-place form."""

    def unary(input, *, out=None):
        return deliver(op(input), out)

    def binary(input, other, *, out=None):
        return deliver(op(input, other), out)

    def ternary(input, tensor1, tensor2, *, out=None):
        return deliver(op(input, tensor1, tensor2), out)

    function: Any = {1: unary, 2: binary, 3: ternary}[getattr(op, "arity", 1)]
    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = doc
    function.op = op
    function.__module__ = like.__module__ if like else sys._getframe(1).f_globals["__name__"]
    for name in (op.name, *aliases):
        METHODS[name] = function
        if inplace:
            INPLACE[name] = function
    return function


def means(function: Callable, op: Op) -> None:
    """Say that a public function of plain arguments is just this primitive: its fast path."""
    function.__dict__["op"] = op


def method(
    f: Callable | None = None, *, name: str | None = None, inplace: bool = False
) -> Callable:
    """Mark a public function as a method of Tensor too, and in its in-place form if wanted."""
    if f is None:
        return lambda g: method(g, name=name, inplace=inplace)
    if "dim" in parameter_names(f) and not isinstance(f, Composite):
        f = numpy_names(f)
    METHODS[name or f.__name__] = f
    if inplace:
        INPLACE[name or f.__name__] = f
    return f


class Composite:
    """A function over ops that eager runs as one fused Program; `grad` may give a better rule
    than the one derived from its primitives. Arguments that are not tensors are static.
    """

    def __init__(self, function: Callable, grad: Callable | None, samples, errors) -> None:
        self.function, self.rule = function, grad
        self.samples, self.errors = samples, errors
        self.name = function.__name__
        self.parameters = tuple(n.lstrip("*") for n in parameter_names(function))
        self.plans: dict = {}
        self.calls: dict = {}  # generated callables by argument types, filled in by the frontend
        self.saved = None
        if grad is not None:
            self.saved = tuple(n.lstrip("*") for n in parameter_names(grad)[1:])
        update_wrapper(self, function)
        COMPOSITES[self.name] = self

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            call = self.calls.get(tuple(map(type, args)))
            if call is not None:
                return call(args)
        return _bind_composite(self, args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return lambda *args, **kwargs: _bind_composite(self, (instance, *args), kwargs)

    def __repr__(self) -> str:
        return f"<op {self.name}{self.signature}>"


def composite(
    function: Callable | None = None,
    *,
    grad: Callable | None = None,
    samples: Sequence[Sample] = (),
    errors: Sequence[ErrorSample] = (),
) -> Any:
    """Make a plain function over ops one op to the user and to the tape."""
    if function is None:
        return lambda f: Composite(f, grad, samples, errors)
    return Composite(function, grad, samples, errors)


def weak_spec(number: bool | int | float) -> Spec:
    """The spec of a Python number."""
    kind = bool_ if isinstance(number, bool) else int64 if isinstance(number, int) else float64
    return Spec((), kind, True)


def is_floating(dtype: DType) -> bool:
    return dtype in FLOATING


def opmath(dtype: DType) -> DType:
    """The dtype in which a 16-bit float is computed."""
    return float32 if dtype.kind == "f" and dtype.itemsize == 2 else dtype
