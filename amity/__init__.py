"""amity: one deep-learning framework, written like PyTorch, compiled and shipped like TensorFlow."""

import importlib
from math import e, inf, nan, pi

from . import autograd, random
from .core.device import Device as device
from .core.device import get_default_device, set_default_device
from .core.dtype import (
    DType as dtype,
)  # fmt: skip
from .core.dtype import (
    bfloat16,
    can_cast,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from .core.dtype import (
    bool_ as bool,
)
from .core.errors import OutOfMemoryError
from .core.layout import MemoryFormat as memory_format
from .core.layout import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    preserve_format,
    strided,
)  # fmt: skip
from .core.shape import Size
from .core.version import __version__
from .engine.checks import Checks as checking
from .engine.threads import get_num_threads, set_num_threads
from .frontend import attach, copying, elements, indexing, reshaping, storage
from .frontend.autocast import (
    autocast,
    autocast_decrement_nesting,
    autocast_increment_nesting,
    clear_autocast_cache,
    get_autocast_dtype,
    is_autocast_cache_enabled,
    is_autocast_enabled,
    set_autocast_cache_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from .frontend.autograd import backward, grad
from .frontend.compiled import compile
from .frontend.control import cond, scan, while_loop
from .frontend.create import (
    as_tensor,
    empty,
    empty_like,
    empty_permuted,
    empty_strided,
    eye,
    from_numpy,
    full,
    full_like,
    ones,
    ones_like,
    scalar_tensor,
    tensor,
    zeros,
    zeros_like,
)  # fmt: skip
from .frontend.dims import Dim
from .frontend.doors import door as _door
from .frontend.doors import guard as _guard
from .frontend.exchange import asarray, from_dlpack, frombuffer, to_dlpack
from .frontend.explain import explain
from .frontend.grad_mode import (
    enable_grad,
    inference_mode,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)  # fmt: skip
from .frontend.legacy import (
    BFloat16Tensor,
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
    typename,
)
from .frontend.places import broadcast_shapes, result_type, unravel_index
from .frontend.printing import set_printoptions
from .frontend.random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)  # fmt: skip
from .frontend.ranges import arange, linspace, logspace, range
from .frontend.reshaping import is_tensor, real
from .frontend.sampling import bernoulli, binomial, multinomial, normal, poisson
from .frontend.settings import (
    are_deterministic_algorithms_enabled,
    get_float32_matmul_precision,
    is_deterministic_algorithms_warn_only_enabled,
    set_float32_matmul_precision,
    set_flush_denormal,
    use_deterministic_algorithms,
)
from .frontend.show import show
from .frontend.storage import UntypedStorage
from .frontend.tensor import Tensor
from .frontend.triangles import tril_indices, triu_indices
from .frontend.vmap import vmap
from .frontend.windows import (
    bartlett_window,
    blackman_window,
    hamming_window,
    hann_window,
    kaiser_window,
)
from .ops import *

newaxis = None
PARTS = ("amp", "data", "func", "io", "linalg", "nn", "optim", "profiler", "special", "utils")
float, double, half, long, int, short = float32, float64, float16, int64, int32, int16
_guard(globals(), __name__)
del attach, copying, elements, indexing, reshaping, storage


def __getattr__(name):
    """Parts that only some programs need, loaded when first named."""
    if name in PARTS:
        return importlib.import_module(f"amity.{name}")
    if name in ("save", "load"):
        return getattr(importlib.import_module("amity.io"), name)
    method = getattr(Tensor, name, None) if name[:1] != "_" else None
    if callable(method):  # `amity.relu_(x)`, `amity.clone(x)`: the method is the function
        return globals().setdefault(name, _door(method, __name__))
    raise AttributeError(f"module 'amity' has no attribute {name!r}")
