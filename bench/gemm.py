"""Matrix products against PyTorch, interleaved in one process: `python -m bench.gemm [threads]`.

Prints GFLOP/s of both and amity's as a multiple of PyTorch's. The kernels are called directly, so
the smallest sizes include the cost of a ctypes call. With one thread the time is the processor's.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from amity.codegen import cpu
from amity.compiler.gemm import build_gemm
from amity.compiler.gemm_plan import SCRATCH, plan_gemm
from amity.runtime.cpu.loader import Loader

# dtype, batch, m, k, n, and which of A and B are transposed
SQUARES = [("f32", 1, s, s, s, "nn") for s in (32, 64, 100, 512, 1000, 1024, 2048)]
SQUARES += [("f32", 1, 1024, 1024, 1024, "nt"), ("f32", 1, 1024, 1024, 1024, "tn")]
LINEAR = [("f32", 1, 64, 784, 256, "nn"), ("f32", 1, 64, 784, 256, "nt")]
for i, o in ((784, 128), (128, 64), (64, 10), (8, 8)):  # forward, and backward to x and weight
    b = 8 if i == 8 else 32
    LINEAR += [("f32", 1, b, i, o, "nt"), ("f32", 1, b, o, i, "nn"), ("f32", 1, o, b, i, "tn")]
OTHER = [("f32", 64, 64, 64, 64, "nn"), ("f64", 1, 512, 512, 512, "nn")]
OTHER += [("bf16", 1, 512, 512, 512, "nt"), ("bf16", 1, 64, 784, 256, "nt")]
VECTOR = [("f32", 1, 1, 4096, 4096, t) for t in ("nn", "nt")]
VECTOR += [("f32", 1, 1, 1024, 1024, t) for t in ("nn", "nt")]
VECTOR += [("f32", 1, 8, 4096, 4096, t) for t in ("nn", "nt")]

TARGET = cpu.host_target()
LOADER = Loader()
WORD, POINTER = ctypes.c_int64, ctypes.c_void_p
ROUNDS, SPAN = 9, 0.004  # repeats, seconds of one measurement


@functools.cache
def kernel(key):
    code = build_gemm(TARGET, key, None)
    (address,) = LOADER.load(cpu.compile_kernel(code, TARGET), [code.name])
    return ctypes.CFUNCTYPE(None, POINTER, POINTER, WORD, WORD, POINTER)(address)


def amity_call(dtype: str, a, b, c, pool: ThreadPoolExecutor, threads: int):
    """A function that computes `c = a @ b` for PyTorch tensors, over the pool's threads."""
    *batch, m, n = c.shape
    strides = [x.stride() for x in (a, b, c)]
    plan = plan_gemm(TARGET, dtype, m, n, a.shape[-1], *strides, batch=batch, threads=threads)
    pointers = np.array([(a, b, c, c)[i].data_ptr() for i in plan.order], "u8")
    meta, function = np.array(plan.meta, "i8"), kernel(plan.key)
    scratch = [np.zeros(SCRATCH + 64, "u1") for _ in range(threads)]
    places = [(x.ctypes.data + 63) // 64 * 64 for x in scratch]
    step = -(-plan.grid // threads)
    words = meta.ctypes.data, pointers.ctypes.data
    parts = [(i * step, min(plan.grid, (i + 1) * step), places[i]) for i in range(threads)]
    parts = [p for p in parts if p[0] < p[1]]

    def run(keep=(meta, pointers, scratch)) -> None:
        jobs = [pool.submit(function, *words, *p) for p in parts[1:]]
        function(*words, *parts[0])
        for job in jobs:
            job.result()

    return run


def best_times(functions, clock) -> list[float]:
    """The shortest time of each, measured in turns."""
    start = time.perf_counter()
    for f in functions:
        f()
    count = max(1, int(SPAN * len(functions) / (time.perf_counter() - start)))
    best = [float("inf")] * len(functions)
    for _ in range(ROUNDS):
        for i, f in enumerate(functions):
            start = clock()
            for _ in range(count):
                f()
            best[i] = min(best[i], (clock() - start) / count)
    return best


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch  # lazy: reads OMP_NUM_THREADS when loaded

    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    types = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}
    print(f"{'dtype':5} {'product':>22} {'layout':>6} {'amity':>8} {'torch':>8}  ratio")
    with ThreadPoolExecutor(threads) as pool:
        for dtype, batch, m, k, n, layout in SQUARES + LINEAR + OTHER + VECTOR:
            lead = (batch,) if batch > 1 else ()
            shapes = ((m, k), (k, n))
            operands = []
            for (rows, columns), t in zip(shapes, layout, strict=True):
                shape = (columns, rows) if t == "t" else (rows, columns)
                x = torch.randn(*lead, *shape).to(types[dtype])
                operands.append(x.transpose(-1, -2) if t == "t" else x)
            a, b = operands
            ours, theirs = (torch.empty(*lead, m, n, dtype=types[dtype]) for _ in range(2))
            call = amity_call(dtype, a, b, ours, pool, threads)
            multiply = torch.bmm if lead else torch.mm
            times = best_times([call, lambda: multiply(a, b, out=theirs)], clock)  # noqa: B023
            torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=1e-2 * k**0.5)
            size = f"{f'{batch} x ' if lead else ''}{m}x{k}x{n}"
            speeds = [2 * batch * m * n * k / t / 1e9 for t in times]
            ratio = times[1] / times[0]
            print(
                f"{dtype:5} {size:>22} {layout:>6} {speeds[0]:8.1f} {speeds[1]:8.1f}  {ratio:5.2f}"
            )


if __name__ == "__main__":
    main()
