"""Matrix products against NumPy: every dtype, layout and target, with guards around the result."""

from __future__ import annotations

import ctypes
import functools
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

from amity.codegen import cpu
from amity.compiler import gemm_plan
from amity.compiler.ending import head, make_ending
from amity.compiler.gemm import build_gemm
from amity.compiler.gemm_plan import GemmPlan, plan_gemm
from amity.compiler.nest import Access, Instruction
from amity.compiler.product import GemmKey
from amity.ir.kernel import register_type
from amity.ir.target import Target
from amity.ops.elementwise import ADD, MAXIMUM, MUL
from amity.runtime.cpu.loader import Loader

HOST = cpu.host_target()
NUMPY = {"f32": "f4", "f64": "f8", "f16": "f2", "bf16": ml_dtypes.bfloat16,
         "i8": "i1", "u8": "u1", "i16": "i2", "i32": "i4", "i64": "i8"}  # fmt: skip
EPSILON = {"f32": 2e-7, "f64": 4e-16, "f16": 1e-3, "bf16": 8e-3}  # of a rounded result
SIZES = [1, 2, 3, 5, 7, 8, 10, 13, 14, 15, 16, 17, 28, 31, 32, 33, 47, 64, 65, 100]
GUARD, WORD = 8, ctypes.c_int64
SCRATCH, SCRATCH_GUARD = 8 << 20, 4096


def capped(name: str) -> Target:
    """A lesser target of the same family, as AMITY_CPU names it."""
    processor, width, registers, has = cpu.CAPS[name]
    return Target(name, HOST.triple, processor, "", width, registers, has)


TARGETS = {"host": HOST}
if HOST.triple.startswith("x86_64"):
    TARGETS |= {name: capped(name) for name in cpu.CAPS}
KEEP: list[Loader] = []  # code lives as long as its loader


@functools.cache
def kernel(target: Target, key, nest=None):
    code = build_gemm(target, key, None, nest)
    loader = Loader()
    KEEP.append(loader)
    (address,) = loader.load(cpu.compile_kernel(code, target), [code.name])
    pointer = ctypes.c_void_p
    return ctypes.CFUNCTYPE(None, pointer, pointer, WORD, WORD, pointer)(address)


def aligned(size: int) -> np.ndarray:
    raw = np.zeros(size + 64, "u1")
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def launch(
    target: Target, plan: GemmPlan, arrays, ranges=None, nest=None, words=(), extra=()
) -> None:
    """Run a plan over some ranges of its grid, in one call by default."""
    function = kernel(target, plan.key, nest)
    buffers = [arrays[i] for i in plan.order] + list(extra)
    pointers = np.array([0 if x is None else x.ctypes.data for x in buffers], "u8")
    meta = np.array([*plan.meta, *words], "i8")
    scratch = aligned(SCRATCH + SCRATCH_GUARD)
    for lo, hi in ranges or [(0, plan.grid)]:
        function(meta.ctypes.data, pointers.ctypes.data, lo, hi, scratch.ctypes.data)
    assert not scratch[SCRATCH:].any()


def elements(x: np.ndarray, batch=None) -> list[int]:
    if batch is not None:
        x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
    return [s // x.itemsize for s in x.strides]


def values(rng, shape, dtype: str) -> np.ndarray:
    if dtype in EPSILON:
        return rng.standard_normal(shape).astype(NUMPY[dtype])
    return rng.integers(0, 100, shape).astype(NUMPY[dtype])


def operand(rng, batch, rows: int, columns: int, dtype: str) -> np.ndarray:
    """A matrix for each of a batch: row-major, turned or strided, padded, broadcast."""
    batch = tuple(n if rng.random() < 0.7 else 1 for n in batch)
    pad, kind = int(rng.integers(0, 4)), rng.integers(0, 5)
    if kind < 2:
        return values(rng, (*batch, rows, columns + pad), dtype)[..., :columns]
    if kind < 4:
        return values(rng, (*batch, columns, rows + pad), dtype)[..., :rows].swapaxes(-1, -2)
    return values(rng, (*batch, rows * 2, columns * 3), dtype)[..., ::2, ::3]


def guarded(rng, batch, m: int, n: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Memory and the part of it that a result may fill."""
    is_turned = rng.random() < 0.25
    rows, columns = (n, m) if is_turned else (m, n)
    pad = 2 * GUARD + int(rng.integers(0, 3)) * 3
    memory = values(rng, (*batch, rows + 2 * GUARD, columns + pad), dtype)
    c = memory[..., GUARD : GUARD + rows, GUARD : GUARD + columns]
    return memory, c.swapaxes(-1, -2) if is_turned else c


def assert_product(c, a, b, dtype: str, alpha=1, beta=1, d=None) -> None:
    wide = "f8" if dtype in EPSILON else "i8"
    a, b = a.astype(wide), b.astype(wide)
    expected = alpha * (a @ b) + (0 if d is None else beta * d.astype(wide))
    if dtype not in EPSILON:
        np.testing.assert_array_equal(c, np.broadcast_to(expected, c.shape).astype(NUMPY[dtype]))
        return
    size = abs(alpha) * (abs(a) @ abs(b)) + (0 if d is None else abs(beta * d.astype(wide)))
    sums = EPSILON["f64"] if dtype == "f64" else EPSILON["f32"]
    allowed = EPSILON[dtype] * abs(expected) + sums * max(2, a.shape[-1] ** 0.5) * size
    allowed = allowed + (6e-8 if dtype == "f16" else 0)  # half a unit of its subnormals
    assert (abs(c.astype(wide) - expected) <= allowed).all()


def check(
    rng, target: Target, dtype: str, batch, m, k, n, addend=None, alpha=1, beta=1, threads=1
) -> None:
    """One product: values, and that nothing else in memory changed."""
    a, b = operand(rng, batch, m, k, dtype), operand(rng, batch, k, n, dtype)
    memory, c = guarded(rng, batch, m, n, dtype)
    before = c.copy()
    if addend == "row":
        d = values(rng, (1, n), dtype)
    elif addend == "self":
        d = c
    else:
        d = None if addend is None else operand(rng, batch, m, n, dtype)
    strides = [elements(x, batch) for x in (a, b, c)]
    added = None if d is None else elements(d, batch)
    plan = plan_gemm(target, dtype, m, n, k, *strides, added, batch, alpha, beta, threads=threads)
    outside = memory.copy()
    singles = [(i, i + 1) for i in reversed(range(plan.grid))] if rng.random() < 0.5 else None
    launch(target, plan, (a, b, c, d), singles)
    assert_product(c, a, b, dtype, alpha, beta, before if addend == "self" else d)
    c[...] = before
    assert memory.tobytes() == outside.tobytes()


LESSER = [name for name in TARGETS if name != "host"]
CASES = [("host", dtype) for dtype in NUMPY]
CASES += [(name, dtype) for name in LESSER for dtype in ("f32", "f64", "bf16", "i8")]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_random_products(name, dtype, monkeypatch):
    rng = np.random.default_rng(1)
    factors = [(1, 1), (1, 1), (0.5, -1.5) if dtype in EPSILON else (2, 3)]
    for _ in range(60):
        batch = [(), (), (3,), (2, 3), (2, 1, 3), (2, 2, 2, 3)][rng.integers(0, 6)]
        m, k, n = (int(x) for x in rng.choice(SIZES, 3))
        k = int(rng.choice([k] * 9 + [0, 385, 800, 1153]))
        addend = [None, None, "row", "full", "self"][rng.integers(0, 5)]
        # small matrices take the kernels for few rows too
        for bound in ("DOT_BYTES", "AXPY_BYTES", "DOT_DEPTH", "UNTURNED_DEPTH"):
            monkeypatch.setattr(gemm_plan, bound, int(rng.choice([0, 1 << 20])))
        alpha, beta = factors[rng.integers(0, 3)]
        how = addend, alpha, beta, int(rng.integers(1, 5))
        check(rng, TARGETS[name], dtype, batch, m, k, n, *how)


BLOCKS = [("host", dtype) for dtype in ("f32", "bf16", "f16", "i8")]
BLOCKS += [(name, "f64") for name in TARGETS]
LARGE = [(300, 1000, 1100), (513, 800, 40), (40, 2000, 300), (30, 3000, 1)]


@pytest.mark.parametrize(("name", "dtype"), BLOCKS)
@pytest.mark.parametrize("shape", LARGE)
def test_products_of_many_blocks(name, dtype, shape):
    rng = np.random.default_rng(2)
    check(rng, TARGETS[name], dtype, (), *shape)
    check(rng, TARGETS[name], dtype, (), *shape, "row", threads=4)


def packed_everywhere(tile, shape, dtype, task):
    size = np.dtype(NUMPY[dtype]).itemsize
    a_row, a_k, b_k, b_column, _, _ = gemm_plan.byte_strides(shape, size)
    return gemm_plan.packing(a_k, a_row, size), gemm_plan.packing(b_k, b_column, size)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_packing_of_both_operands(name, dtype, monkeypatch):
    monkeypatch.setattr(gemm_plan, "how_packed", packed_everywhere)
    rng = np.random.default_rng(3)
    for _ in range(20):
        m, k, n = (int(x) for x in rng.choice(SIZES, 3))
        check(rng, TARGETS[name], dtype, (), m, k, n)
    check(rng, TARGETS[name], dtype, (), 130, 900, 700)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "i32"])
@pytest.mark.parametrize(("m", "n"), [(1, 20), (20, 1), (5, 40)])
def test_no_depth_gives_zeros_or_the_addend(dtype, m, n):
    rng = np.random.default_rng(4)
    check(rng, HOST, dtype, (2,), m, 0, n)
    check(rng, HOST, dtype, (2,), m, 0, n, "full", 2, 3)


TURNED = [(16, 40, 65), (31, 800, 130), (128, 21, 520), (64, 3, 260)]  # m, k, n


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32"])
def test_products_that_turn_the_smaller_operand(name, dtype):
    rng, target = np.random.default_rng(7), TARGETS[name]
    for m, k, n in TURNED:
        a, b = values(rng, (m, k + 2), dtype)[:, :k], values(rng, (n, k + 1), dtype)[:, :k].T
        bias, full = values(rng, (1, n), dtype), values(rng, (m, 2 * n), dtype)[:, ::2]
        for d, alpha, beta in ((None, 1, 1), (bias, 1, 1), (full, 2, 3)):
            memory = values(rng, (m + 2, n + 2 * GUARD), dtype)
            outside, c = memory.copy(), memory[1:-1, GUARD:-GUARD]
            strides = [elements(x) for x in (a, b, c)]
            added = None if d is None else elements(np.broadcast_to(d, c.shape))
            plan = plan_gemm(
                target, dtype, m, n, k, *strides, added, alpha=alpha, beta=beta, threads=2
            )
            assert plan.order[:2] == (1, 0)
            launch(target, plan, (a, b, c, d))
            assert_product(c, a, b, dtype, alpha, beta, d)
            memory[1:-1, GUARD:-GUARD] = outside[1:-1, GUARD:-GUARD]
            assert memory.tobytes() == outside.tobytes()


@pytest.mark.parametrize(
    ("m", "b", "kind"), [(8, "nt", "dot"), (8, "nn", "tiles"), (20, "nt", "tiles")]
)
def test_few_rows_turn_nothing(m, b, kind):
    strides = [300, 1], [1, 300] if b == "nt" else [40, 1], [40, 1]
    assert plan_gemm(HOST, "f32", m, 40, 300, *strides).key.kind == kind


EMPTY = [((), 0, 4), ((), 4, 0), ((0,), 3, 4), ((2, 0), 1, 4)]


@pytest.mark.parametrize(("batch", "m", "n"), EMPTY)
def test_empty_products_have_no_tasks(batch, m, n):
    shapes = (*batch, m, 5), (*batch, 5, n), (*batch, m, n)
    strides = [elements(np.zeros(shape)) for shape in shapes]
    assert plan_gemm(HOST, "f64", m, n, 5, *strides, batch=batch).grid == 0


@pytest.mark.parametrize(("m", "k", "is_turned"), [(20, 40, False), (15, 40, True), (9, 300, True)])
def test_values_that_are_not_finite_stay_in_their_row_and_column(m, k, is_turned):
    a, b = np.ones((m, k), "f4"), np.ones((64, k), "f4").T if is_turned else np.ones((k, 64), "f4")
    a[3, 5], b[7, 11] = np.nan, np.inf
    c = np.zeros((m, 64), "f4")
    launch(HOST, plan_gemm(HOST, "f32", m, 64, k, *map(elements, (a, b, c))), (a, b, c, None))
    np.testing.assert_array_equal(c, a @ b)
    assert np.isnan(c[3]).all() and np.isinf(np.delete(c[:, 11], 3)).all()
    assert np.isfinite(c).sum() == (m - 1) * 63


def test_one_kernel_serves_every_shape_and_layout():
    keys = {
        plan_gemm(HOST, "f32", m, n, k, a, b, [n, 1], threads=t).key
        for m, n, k, t in ((5, 6, 7, 1), (500, 600, 700, 4), (64, 256, 784, 2))
        for a in ([k, 1], [1, m], [2 * k, 2])
        for b in ([n, 1], [1, k], [3 * n, 3])
    }
    assert len(keys) == 1


def test_rows_of_a_batch_that_shares_b_are_one_product():
    strides = [105, 35, 7, 1], [0, 0, 6, 1], [90, 30, 6, 1]
    plan = plan_gemm(HOST, "f32", 5, 6, 7, *strides, batch=(4, 3))
    assert plan.grid == 1 and plan.meta[4:7] == (60, 6, 7)


def residual_relu(dtype: str, residual: np.ndarray, result: np.ndarray):
    """An ending with a number and two operands of its own: max(sums + 3 * residual, 0)."""
    element = register_type(dtype)
    steps = [
        head(dtype), Instruction("load", 0, (), element), Instruction("const", 3.0, (), element),
        Instruction("pointwise", MUL, (1, 2), element),
        Instruction("pointwise", ADD, (0, 3), element), Instruction("const", 0.0, (), element),
        Instruction("pointwise", MAXIMUM, (4, 5), element),
    ]  # fmt: skip
    operands = [(i, Access(dtype, tuple(elements(x)))) for i, x in enumerate((residual, result))]
    return make_ending(result.shape, result.ndim - 1, operands, 1, steps, [(1, 6)])


ENDED = [((), 33, 20, 45), ((3,), 15, 900, 37), ((), 1, 30, 700), ((), 3, 4000, 300),
         ((), 9, 600, 1500), ((2,), 9, 30, 1), ((), 28, 64, 64), ((), 16, 400, 65)]  # fmt: skip


@pytest.mark.parametrize(("batch", "m", "k", "n"), ENDED)
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize(("target", "dtype"), [(t, "f32") for t in TARGETS] + [("host", "bf16")])
def test_ending(target, dtype, batch, m, k, n, is_transposed):
    rng = np.random.default_rng(5)
    a, bias = values(rng, (*batch, m, k), dtype), values(rng, (n,), dtype)
    b = values(rng, (*batch, n, k) if is_transposed else (*batch, k, n), dtype)
    b = b.swapaxes(-1, -2) if is_transposed else b
    residual, c = (np.zeros((*batch, m, n), a.dtype) for _ in range(2))
    residual[...] = rng.standard_normal(c.shape)
    whole = np.full((*batch, m, n + GUARD), 7, a.dtype)
    result, ending = whole[..., :n], residual_relu(dtype, residual, whole[..., :n])
    strides = [*(elements(x) for x in (a, b, c)), [0] * len(batch) + [0, 1]]
    plan = plan_gemm(TARGETS[target], dtype, m, n, k, *strides, batch, is_ended=True)
    extra = (residual, result)
    launch(TARGETS[target], plan, (a, b, c, bias), None, ending.nest, ending.meta, extra)
    a, b, bias, residual = (x.astype("f8") for x in (a, b, bias, residual))
    expected, close = np.maximum(a @ b + bias + 3 * residual, 0), 1e-4 if dtype == "f32" else 1e-2
    np.testing.assert_allclose(result.astype("f8"), expected, rtol=close, atol=close * k**0.5)
    assert not c.any() and (whole[..., n:] == 7).all()


def test_threads_share_a_grid():
    rng = np.random.default_rng(6)
    a, b = values(rng, (300, 400), "f32"), values(rng, (400, 500), "f32")
    c = np.zeros((300, 500), "f4")
    plan = plan_gemm(HOST, "f32", 300, 500, 400, [400, 1], [500, 1], [500, 1], threads=4)
    assert plan.grid >= 4
    with ThreadPoolExecutor(4) as pool:
        for lo in range(plan.grid):
            pool.submit(launch, HOST, plan, (a, b, c, None), [(lo, lo + 1)])
    assert_product(c, a, b, "f32")


@pytest.mark.parametrize("kind", ["tiles", "dot", "axpy"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_kernels_compile_for_neon(kind, dtype):
    arm = Target(
        "arm64", "aarch64-unknown-linux-gnu", "neoverse-n1", "", 16, 32, frozenset({"fma"})
    )
    key = GemmKey(dtype, kind, "strided", True)
    assert cpu.compile_kernel(build_gemm(arm, key, None), arm).startswith(b"\x7fELF")


@pytest.mark.parametrize(
    ("length", "unit", "count"), [(784, 32, 4), (5, 14, 3), (1000, 14, 7), (0, 14, 2)]
)
def test_tasks_are_even(length, unit, count):
    tasks = gemm_plan.cut(length, unit, count)
    sizes = [tasks.size + unit * (i < tasks.extra) for i in range(tasks.count)]
    assert length <= sum(sizes) < length + unit and max(sizes) - min(sizes) <= unit
    assert max(sizes) == tasks.most


def test_errors():
    with pytest.raises(ValueError, match="unit stride in one dimension"):
        plan_gemm(HOST, "f32", 4, 5, 6, [6, 1], [5, 1], [10, 2])
    batch = (2,) * 7
    a, b = ([*(n * (i % 2 == odd) for i in range(7)), 5, 1] for odd, n in ((0, 30), (1, 25)))
    c = [*(20 << (6 - i) for i in range(7)), 5, 1]
    with pytest.raises(ValueError, match="at most 6 dimensions"):
        plan_gemm(HOST, "f32", 4, 5, 5, a, b, c, batch=batch)
