"""What a region of autocast does to the ops that are called in it: which cast, and to what.

While a region is on in some thread, the listed functions have another code, which casts and calls
their own; while none is, they are what they were, so that nobody pays for a check.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache, reduce
from types import CodeType, FunctionType
from typing import Any
from weakref import ref

from amity import ops
from amity.core.dtype import DType, bfloat16, float32, float64, promote_types
from amity.ops import linalg, lu
from amity.ops.cast import Cast

from .bind import fast_call
from .tape import is_leaf, modes
from .tensor import Tensor
from .trace import Symbol

# PyTorch's lists for processors, by the names of functions; what casts to
# ... the region's dtype:
LOWER = """
    addbmm addmm baddbmm bmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d linalg.vecdot linear matmul mm prelu scaled_dot_product_attention
"""
# ... float32:
FULL = """
    adaptive_avg_pool3d adaptive_max_pool3d adaptive_max_pool3d_with_indices avg_pool3d
    binary_cross_entropy binary_cross_entropy_with_logits cdist cholesky cholesky_inverse
    cholesky_solve cosine_embedding_loss cross_entropy ctc_loss fractional_max_pool2d
    fractional_max_pool2d_with_indices fractional_max_pool3d fractional_max_pool3d_with_indices
    grid_sample hinge_embedding_loss huber_loss inverse kl_div l1_loss linalg.cholesky
    linalg.cholesky_ex linalg.cond linalg.eigh linalg.eigvalsh linalg.inv linalg.inv_ex
    linalg.lstsq linalg.matrix_rank linalg.qr linalg.solve linalg.svd linalg.svdvals
    linalg.tensorinv linalg.tensorsolve lu.householder_product margin_ranking_loss max_pool3d
    max_unpool2d max_unpool3d mse_loss multi_margin_loss multilabel_margin_loss nanquantile
    nll_loss pad pinverse poisson_nll_loss prod qr quantile smooth_l1_loss soft_margin_loss svd
    trace triangular_solve triplet_margin_loss
"""
# ... the widest dtype among the arguments (`cat` and `stack` do so anyway):
WIDEST = "index_copy"
# What calls functions of the lists, and yet is none of them:
APART = """
    Tensor.addbmm_ Tensor.addmm_ Tensor.baddbmm_ Tensor.index_copy_ addmv bilinear dot
    linalg.matrix_exp multilabel_soft_margin_loss mv vdot
"""
SPACES: dict[str, Any] = {"": ops, "linalg": linalg, "lu": lu, "Tensor": Tensor}


class Region(threading.local):
    """What autocast is in a thread; `kept` are casts of leaves, by identity."""

    def __init__(self) -> None:
        self.is_on, self.dtype, self.keeps = False, bfloat16, True
        self.depth = 0
        self.kept: dict[tuple, tuple] = {}


region = Region()
_threads_on = 0
_lock = threading.Lock()


def switch(is_on: bool) -> None:
    """Turn this thread's region on or off."""
    global _threads_on
    with _lock:
        if is_on and not region.is_on:
            _threads_on += 1
            if _threads_on == 1:
                _swap(1)
        elif region.is_on and not is_on:
            _threads_on -= 1
            if not _threads_on:
                _swap(0)
    region.is_on = is_on


# -- casts


def cast(value: Any, dtype: DType) -> Any:
    """A tensor, or those of a list, in another dtype; anything else, float64 too, as it is."""
    if isinstance(value, Tensor):
        return _cast_leaf(value, dtype) if is_castable(value) else value
    if type(value) is list or type(value) is tuple:
        return type(value)([cast(v, dtype) for v in value])
    return value


def lowered(value: Any) -> Any:
    """In a region, a tensor or those of a tuple in its dtype; for layers that are on its list."""
    return cast(value, region.dtype) if region.is_on else value


def is_castable(t: Tensor) -> bool:
    lay = t.layout
    return (
        lay.dtype.kind == "f"
        and lay.dtype is not float64
        and lay.device.type == "cpu"
        and type(lay) is not Symbol
    )


@cache
def _converter(dtype: DType) -> Callable[[Tensor], Tensor]:
    return fast_call(Cast(dtype), 1)


def _cast_leaf(t: Tensor, dtype: DType) -> Tensor:
    """The cast; one for all uses of a parameter, for as long as nobody writes to it."""
    if t.layout.dtype is dtype:
        return t
    is_kept = (
        region.keeps and dtype is region.dtype and t.layout.dtype is float32
        and t.tape is not None and is_leaf(t.tape) and t.storage is not None
    )  # fmt: skip
    if not is_kept:
        return _converter(dtype)(t)
    key = id(t), dtype, bool(modes.grad)
    whose, storage, version, made = region.kept.get(key, (None, None, None, None))
    if whose is None or whose() is not t or storage is not t.storage or version != storage.version:
        made = _converter(dtype)(t)
        region.kept[key] = ref(t), t.storage, t.storage.version, made
    return made


def _widest(values: Sequence[Any]) -> DType:
    found = [v.layout.dtype for v in values if isinstance(v, Tensor) and is_castable(v)]
    return reduce(promote_types, found) if found else region.dtype


# -- the listed functions


def _is_other_pad(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> bool:
    return mode not in ("reflect", "replicate")


def _has_indices(*args: Any, return_indices: bool = False, **kwargs: Any) -> bool:
    return args[6] if len(args) > 6 else return_indices


# Where the arguments say which of PyTorch's ops a function is: when it is none of the list's.
UNLESS = {"pad": _is_other_pad, "max_pool3d": _has_indices}


def _with_casts(name: str, own: Callable, dtype_of: Callable) -> Callable:
    """A function in a region; what it calls in turn is not cast again."""
    unless = UNLESS.get(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if not region.is_on or kwargs.get("out") is not None:
            return own(*args, **kwargs)
        if dtype_of is not None and not (unless and unless(*args, **kwargs)):
            dtype = dtype_of((*args, *kwargs.values()))
            args = cast(args, dtype)
            kwargs = {n: cast(v, dtype) for n, v in kwargs.items()}
        region.is_on = False
        try:
            return own(*args, **kwargs)
        finally:
            region.is_on = True

    return call


ENTRANCE = """
def around({free}):
    def entrance(*args, _in_region, **kwargs):
        return _in_region(*args, **kwargs)
        {free}
    return entrance
"""


@cache
def _entrance(count: int) -> CodeType:
    """The other code, with as many free variables as the function's own: Python asks for that."""
    names = [f"v{i}" for i in range(count)]
    space: dict[str, Any] = {"__name__": __name__}
    source = ENTRANCE.format(free=", ".join(names))
    exec(compile(source, "<function in a region of autocast>", "exec"), space)
    return space["around"](*names).__code__


def _codes(name: str, function: FunctionType, dtype_of: Callable | None) -> tuple:
    """A function with its own code and that of the entrance, whose default is what casts."""
    code = function.__code__
    own = FunctionType(
        code, function.__globals__, name, function.__defaults__, function.__closure__
    )
    own.__kwdefaults__ = function.__kwdefaults__
    function.__kwdefaults__ = {
        **(function.__kwdefaults__ or {}),
        "_in_region": _with_casts(name, own, dtype_of),
    }
    function.__dict__.setdefault("__wrapped__", own)  # whence the signature is read
    return function, (code, _entrance(len(code.co_freevars)))


_listed: list[tuple] = []


def _swap(which: int) -> None:
    """Give the listed functions one of their codes."""
    if not _listed:
        policies: list[tuple[str, Callable | None]] = [
            (LOWER, lambda _: region.dtype),
            (FULL, lambda _: float32),
            (WIDEST, _widest),
            (APART, None),
        ]
        for names, policy in policies:
            for path in names.split():
                space, _, name = path.rpartition(".")
                function = getattr(SPACES[space], name)
                _listed.append(_codes(name, function, policy))
    for function, codes in _listed:
        function.__code__ = codes[which]
