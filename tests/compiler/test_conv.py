"""Convolution kernels against PyTorch in double precision, on every target this machine can run.

Operands end at a page that may not be touched, results lie between guards.
"""

import ctypes
import functools
import math
import mmap
import random

import llvmlite.binding as binding
import numpy as np
import pytest

from amity.codegen import cpu
from amity.compiler.conv import plan_conv
from amity.compiler.window import EVEN, choose_block, shared
from amity.compiler.winograd import is_worthwhile
from amity.ir.target import Target
from amity.runtime.cpu.loader import Loader

torch = pytest.importorskip("torch")

HOST = cpu.host_target()
FEATURES = binding.get_host_cpu_features()
TARGETS = {"native": HOST}
if HOST.triple.startswith("x86_64"):
    for name, (processor, vector, registers, has) in cpu.CAPS.items():
        if name == "sse2" or FEATURES.get(name):
            TARGETS[name] = Target(name, HOST.triple, processor, "", vector, registers, has)
LOADER = Loader()
TORCH = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16,
         "i32": torch.int32, "i64": torch.int64, "u8": torch.uint8}  # fmt: skip
PAGE = mmap.PAGESIZE
GUARD = 256
LIBC = ctypes.CDLL(None, use_errno=True)
SCRATCH = np.zeros((8 << 20) + 64, np.uint8)


# -- running a plan
@functools.cache
def compiled(what, dtype, target, build):
    name = f"test_conv_{what}_{dtype}_{target}"
    kernel = build(name, TARGETS[target], None)
    (address,) = LOADER.load(cpu.compile_kernel(kernel, TARGETS[target]), [name])
    ptr, i64 = ctypes.c_void_p, ctypes.c_int64
    return ctypes.CFUNCTYPE(None, ptr, ptr, i64, i64, ptr)(address)


BUILDERS = {}


def kernel_of(launch, target):
    _, what, dtype = launch.key
    build = BUILDERS.setdefault((what, dtype), launch.build)
    return compiled(what, dtype, target, build)


class Fenced:
    """Memory whose last byte lies before a page that may not be touched."""

    def __init__(self, nbytes):
        pages = -(-max(nbytes, 1) // PAGE)
        self.map = mmap.mmap(-1, (pages + 1) * PAGE)
        view = ctypes.c_char.from_buffer(self.map)
        self.start = ctypes.addressof(view)
        assert LIBC.mprotect(ctypes.c_void_p(self.start + pages * PAGE), PAGE, 0) == 0
        self.address = self.start + pages * PAGE - nbytes
        self.keep = view


def fenced(t):
    """The elements of a tensor, strides kept, at the end of fenced memory."""
    extent = 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride())) if t.numel() else 0
    f = Fenced(extent * t.element_size())
    if extent:
        ctypes.memmove(f.address, t.data_ptr(), extent * t.element_size())
    return f


def guarded(shape, dtype):
    """A result full of a known number, between two guards."""
    size = int(np.prod(shape))
    whole = torch.full((size + 2 * GUARD,), 77, dtype=dtype)
    return whole, whole[GUARD : GUARD + size].view(shape)


def run(plan, inputs, result, target, pieces):
    fences = [fenced(t) for t in inputs]
    temporaries = [Fenced(-(-n // 64) * 64) for n in plan.temporaries]
    known = [f.address for f in fences] + [result.data_ptr()] + [f.address for f in temporaries]
    scratch = -(-SCRATCH.ctypes.data // 64) * 64
    for launch in plan.launches:
        kernel = kernel_of(launch, target)
        meta = np.array(launch.meta, np.int64)
        buffers = np.array([known[i] for i in launch.buffers], np.uint64)
        for lo in range(0, launch.grid, pieces):
            hi = min(launch.grid, lo + pieces)
            kernel(meta.ctypes.data, buffers.ctypes.data, lo, hi, scratch)


def close(got, expected, dtype, terms):
    """Within what sums of this many terms may lose, relative to the largest result."""
    if not dtype.is_floating_point or not expected.numel():
        assert torch.equal(got, expected.to(dtype))
        return
    unit = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}[
        dtype
    ]
    scale = max(1e-6, expected.abs().max().item())
    slack = 1 + terms**0.5 / 30 if dtype in (torch.float32, torch.float64) else 1
    error = (got.double() - expected.double()).abs().max().item() / scale
    assert error < unit * slack, f"error {error} of {scale}"


def fill(shape, dtype, seed):
    g = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)
    return torch.randint(0, 5, shape, generator=g).to(dtype)


def reference(x, w, bias, stride, padding, dilation, groups):
    f = (torch.conv1d, torch.conv2d, torch.conv3d)[x.ndim - 3]
    return f(
        x.double(),
        w.double(),
        None if bias is None else bias.double(),
        stride,
        padding,
        dilation,
        groups,
    )


def plan_of(op, case, target="native", dtype="f32", **how):
    """The plan of a case: (x, w, stride, padding, dilation, groups)."""
    x, w, stride, padding, dilation, groups = case
    return plan_conv(
        TARGETS[target], op, dtype, x, w, stride=stride, padding=padding, dilation=dilation,
        groups=groups, **how,
    )  # fmt: skip


def check(
    case, dtype="f32", target="native", layout=None, bias=False, pieces=10**9, threads=1, ops=None
):
    """All three results of one convolution against PyTorch."""
    x_shape, w_shape, stride, padding, dilation, groups = case
    t = TORCH[dtype]
    keep = layout or (lambda v: v)
    x, w = keep(fill(x_shape, t, 1)), keep(fill(w_shape, t, 2))
    b = fill((w_shape[0],), t, 3) if bias else None
    xd, wd = x.double().requires_grad_(), w.double().requires_grad_()
    y = reference(xd, wd, b, stride, padding, dilation, groups)
    gy = keep(fill(tuple(y.shape), t, 4))
    y.backward(gy.double())
    terms = {"forward": w[0].numel(), "grad_input": w.numel() // max(1, w.shape[1] * groups),
             "grad_weight": gy.numel() // max(1, gy.shape[1])}  # fmt: skip
    cases = {
        "forward": ((x, w) + ((b,) if bias else ()), y.detach()),
        "grad_input": ((gy, w), xd.grad),
        "grad_weight": ((x, gy), wd.grad),
    }
    for op, (inputs, expected) in cases.items():
        if ops and op not in ops:
            continue
        plan = plan_of(
            op, case, target, dtype, has_bias=bias and op == "forward", threads=threads,
            x_strides=x.stride() if op != "grad_input" else None,
            w_strides=w.stride() if op != "grad_weight" else None,
            y_strides=gy.stride() if op != "forward" else None,
        )  # fmt: skip
        whole, result = guarded(tuple(expected.shape), t)
        run(plan, inputs, result, target, pieces)
        close(result, expected, t, terms[op])
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all(), (
            f"{op} wrote past its result"
        )


def conv2d(n, c, size, o, kernel, stride=1, padding=0, dilation=1, groups=1):
    two = lambda v: v if isinstance(v, tuple) else (v, v)  # noqa: E731
    return (
        (n, c, *two(size)),
        (o, c // groups, *two(kernel)),
        two(stride),
        two(padding),
        two(dilation),
        groups,
    )


def random_case(rng):
    """A convolution of one to three dimensions whose kernel fits its padded input."""
    while True:
        d = rng.choice((1, 2, 2, 3))
        most = {1: 300, 2: 40, 3: 12}[d]
        groups = rng.choice((1, 1, 2, 3))
        size = [rng.choice((rng.randint(1, 9), rng.randint(4, most))) for _ in range(d)]
        kernel = [rng.choice((1, 2, 3, 3, 4, 5)) for _ in range(d)]
        stride = tuple(rng.choice((1, 1, 2, 3, 5)) for _ in range(d))
        dilation = tuple(rng.choice((1, 1, 2, 3)) for _ in range(d))
        padding = tuple(rng.randint(0, 3) for _ in range(d))
        if all(n + 2 * p >= a * (k - 1) + 1 for n, k, p, a in zip(size, kernel, padding, dilation)):
            channels = rng.choice((rng.randint(1, 4), rng.randint(1, 24)))
            outs = rng.choice((rng.randint(1, 9), rng.randint(1, 40)))
            x = (rng.choice((1, 2, 3)), groups * channels, *size)
            return x, (groups * outs, channels, *kernel), stride, padding, dilation, groups


# -- shapes
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(8))
def test_random_shapes(seed, target):
    rng = random.Random(seed)
    for _ in range(8):
        check(random_case(rng), target=target, bias=rng.random() < 0.5,
              pieces=rng.choice((1, 3, 10**9)), threads=rng.choice((1, 2, 8)))  # fmt: skip


WINOGRAD = [
    conv2d(64, 16, 4, 16, 3, padding=1),
    conv2d(4, 17, (9, 13), 24, 3, padding=1),
    conv2d(2, 32, (31, 27), 40, 3),
    conv2d(17, 32, 7, 40, 3, padding=(1, 2)),
    conv2d(1, 32, (70, 101), 48, 3, padding=2, groups=2),
    conv2d(1, 16, (5, 450), 16, 3, padding=1),
    conv2d(5, 1000, 12, 16, 3, padding=1),
    ((2, 32, 5, 20, 31), (48, 16, 1, 3, 3), (2, 1, 1), (1, 2, 1), (1, 1, 1), 2),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", WINOGRAD)
def test_winograd(case, target):
    plan = plan_of("forward", case, target)
    assert "tiles" in plan.launches[-1].key[1]
    check(case, target=target, bias=True)
    check(case, target=target, pieces=1, threads=4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("pieces", [1, 4, 10**9])
def test_weights_that_lie_side_by_side(pieces, target):
    check(conv2d(2, 63, 5, 30, 1, groups=3), target=target, pieces=pieces, ops=["grad_input"])


@pytest.mark.parametrize("counts", [(16, 1, 4, 4), (5, 1, 7, 7), (1, 3, 14, 9), (1, 1, 2, 3000)])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_threads_get_equally_many_blocks(counts, threads):
    block = choose_block(counts, 16)
    few = shared(block, counts, 16, threads)
    blocks = math.prod(-(-n // size) for n, size in zip(counts, few, strict=True))
    assert all(a <= b for a, b in zip(few, block, strict=True))
    assert few == block or blocks % threads == 0 or blocks >= EVEN * threads
    if threads == 2:
        assert blocks % 2 == 0 or blocks >= EVEN * threads


DEPTHWISE = [
    conv2d(2, 8, (9, 13), 8, 3, padding=1, groups=8),
    conv2d(2, 8, (29, 53), 16, 3, 2, 1, groups=8),
    conv2d(2, 6, (40, 70), 6, 5, padding=2, dilation=2, groups=6),
    conv2d(1, 5, 7, 10, 7, padding=3, groups=5),
    conv2d(2, 32, 14, 64, 3, padding=1, groups=8),
    ((2, 6, 90), (6, 1, 4), (1,), (3,), (1,), 6),
    ((1, 4, 5, 6, 7), (4, 1, 3, 3, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1), 4),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", DEPTHWISE)
def test_few_channels_a_group(case, target):
    check(case, target=target, bias=True)


@pytest.mark.parametrize("case", [
    conv2d(2, 3, 64, 16, 7, 2, 3),  # a stem
    conv2d(2, 24, 20, 40, 1),  # in place
    conv2d(2, 24, 20, 40, 1, 2),
    conv2d(3, 700, 5, 30, 1),  # several steps of depth
    conv2d(1, 2, 40, 20, 27, padding=13),  # a step holds part of one channel's taps
    conv2d(1, 3, 32, 12, 8, 8),  # patches
    conv2d(1, 2, 9, 10, 2, 5),  # a stride longer than the kernel: gradients of zero
    conv2d(1, 3, (1, 1), 10, 3, padding=1),
    ((1, 2, 30000), (12, 2, 9), (1,), (4,), (1,), 1),
    ((1, 1, 20000), (10, 1, 400), (160,), (200,), (1,), 1),  # a spectrogram's frames
    ((2, 12, 3, 9, 11), (20, 12, 3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
], ids=str)  # fmt: skip
def test_known_shapes(case):
    check(case, bias=True)
    check(case, pieces=1, threads=3)


@pytest.mark.parametrize("case", [
    conv2d(0, 3, 8, 12, 3), conv2d(0, 32, 8, 32, 3, padding=1), conv2d(0, 8, 8, 8, 3, groups=8),
    conv2d(0, 3, 8, 12, 1),
], ids=str)  # fmt: skip
def test_empty(case):
    check(case)


def test_no_input_channels_give_the_bias():
    x, w, b = torch.empty(2, 0, 5, 6), torch.empty(12, 0, 3, 3), torch.randn(12)
    plan = plan_of("forward", conv2d(2, 0, (5, 6), 12, 3), has_bias=True)
    _, y = guarded((2, 12, 3, 4), torch.float32)
    run(plan, (x, w, b), y, "native", 10**9)
    assert torch.equal(y, b.view(1, -1, 1, 1).expand_as(y))


# -- layouts and dtypes
def channels_last(t):
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


def every_second(t):
    return torch.stack((t, t), -1).flatten(-2)[..., ::2]


def turned(t):
    return t.transpose(-1, -2).contiguous().transpose(-1, -2)


LAYOUTS = [channels_last, every_second, turned]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [
    conv2d(2, 5, (9, 12), 12, 3, 2, 1), conv2d(2, 16, 12, 20, 1),
    conv2d(5, 16, 12, 20, 3, padding=1),
    conv2d(2, 8, 14, 8, 3, padding=1, groups=8), conv2d(2, 6, 11, 12, 3, groups=2),
], ids=str)  # fmt: skip
def test_strided_operands(case, layout):
    check(case, layout=layout, bias=True)


def test_an_expanded_gradient():
    case = conv2d(2, 5, 9, 12, 3, padding=1)
    check(
        case, layout=lambda t: t if t.shape != (2, 12, 9, 9) else t[:1, :1, :1, :1].expand(t.shape)
    )


@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16", "i32", "i64", "u8"])
@pytest.mark.parametrize("case", [
    conv2d(2, 5, (9, 12), 12, 3, 2, 1), conv2d(2, 16, 12, 20, 1),
    conv2d(5, 16, 12, 20, 3, padding=1),
    conv2d(2, 8, 14, 8, 3, padding=1, groups=8),
], ids=str)  # fmt: skip
def test_dtypes(case, dtype):
    check(case, dtype, bias=True, ops=None if dtype in ("f64", "bf16", "f16") else ("forward",))


def test_a_transposed_convolution_has_bias_and_output_padding():
    x, w, b = torch.randn(2, 12, 5, 7), torch.randn(12, 10, 3, 3), torch.randn(10)
    for stride, dilation, extra in ((3, 1, 1), (2, 3, 2), (1, 2, 1)):
        expected = torch.conv_transpose2d(x, w, b, stride, 1, extra, 1, dilation)
        case = (expected.shape, w.shape, (stride,) * 2, (1, 1), (dilation,) * 2, 1)
        plan = plan_of("grad_input", case, has_bias=True, y_shape=x.shape)
        whole, y = guarded(tuple(expected.shape), torch.float32)
        run(plan, (x, w, b), y, "native", 10**9)
        close(y, expected, torch.float32, 108)
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all()


# -- values
@pytest.mark.parametrize(
    "case", [conv2d(1, 3, 12, 12, 3), conv2d(1, 2, 12, 2, 3, groups=2)], ids=str
)
def test_nan_reaches_its_windows_only(case):
    x, w = torch.randn(case[0]), torch.randn(case[1])
    x[0, 0, 5, 5] = float("nan")
    plan = plan_of("forward", case)
    expected = torch.conv2d(x, w, groups=case[5])
    _, y = guarded(tuple(expected.shape), torch.float32)
    run(plan, (x, w), y, "native", 10**9)
    assert torch.equal(y.isnan(), expected.isnan())


def test_stale_scratch_does_no_harm():
    SCRATCH.view(np.uint32)[:] = 0x7FC00000  # NaN
    try:
        for case in (*WINOGRAD[:2], conv2d(2, 3, 9, 12, 3, 2, 1), DEPTHWISE[0]):
            check(case)
    finally:
        SCRATCH[:] = 0


# -- plans
def test_new_shapes_need_no_new_kernels():
    def keys(op, case):
        return [launch.key for launch in plan_of(op, case).launches]

    a, b = conv2d(1, 16, 20, 24, 5, padding=2), conv2d(7, 9, (33, 12), 17, (2, 3), 1, 1, (2, 1))
    assert keys("forward", a) == keys("forward", b)
    assert keys("grad_input", a) == keys("grad_input", b)
    assert set(keys("grad_weight", a)) >= set(keys("grad_weight", b)[:1])


@pytest.mark.parametrize("case", [
    conv2d(1, 1024, (3, 2000), 16, 3, padding=1), conv2d(12, 1024, 8, 1024, 3, padding=1),
    conv2d(1, 64, 500, 24, 9, dilation=40), conv2d(8, 4096, 7, 4096, 1), conv2d(8, 2, 7, 9000, 3),
    conv2d(1, 3, 600, 16, 500), ((1, 8, 100000), (16, 8, 3), (1,), (0,), (30000,), 1),
], ids=str)  # fmt: skip
def test_large_sizes_fit_scratch(case):
    for op in ("forward", "grad_input", "grad_weight"):
        for threads in (1, 4):
            plan = plan_of(op, case, threads=threads)
            assert all(launch.grid > 0 for launch in plan.launches)


def test_windows_beyond_scratch_are_refused():
    with pytest.raises(
        RuntimeError, match="^conv: got windows that span .* MiB; expected less than 8 MiB"
    ):
        plan_of("forward", conv2d(1, 1, 3000, 16, 2000))


def test_threads_do_not_change_results():
    case = conv2d(3, 20, 15, 24, 3, padding=1)
    x, w = torch.randn(case[0]), torch.randn(case[1])
    results = []
    for threads in (1, 2, 16):
        plan = plan_of("forward", case, threads=threads)
        _, y = guarded((3, 24, 15, 15), torch.float32)
        run(plan, (x, w), y, "native", 1)
        results.append(y.clone())
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype, used", [("f32", True), ("f64", False)])
def test_double_precision_takes_no_winograd(dtype, used):
    from amity.compiler.conv_problem import Array, Conv, forward_product

    x, w, y = (
        Array(s, (1, 1, 1, 1, 1))
        for s in ((1, 32, 1, 19, 19), (32, 32, 1, 3, 3), (1, 32, 1, 19, 19))
    )
    conv = Conv(dtype, x, w, y, (1, 1, 1), (0, 1, 1), (1, 1, 1), 1, False, 1)
    assert is_worthwhile(forward_product(conv)) is used
