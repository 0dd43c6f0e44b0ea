"""The parts of the benchmark that run in a process of their own; each prints its figures as JSON."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .harness import confine, interleave
from .models import MODELS, draw
from .peers import MODES, OURS, PEERS, REFERENCE, Job
from .workloads import GROWTH, WORKLOADS, Workload

CLOSE = 1e-3  # results may differ by so much of the largest number
CLOSE_16 = 3e-2  # with products of 16-bit numbers, of 8 binary digits
SLOW = 10.0  # seconds of a call that is not worth waiting for again
STEPS = 3  # of training, whose losses are compared
PATIENCE = 1500  # seconds that a part may take


def workload(name: str) -> Workload:
    return next(w for w in (*WORKLOADS, *GROWTH) if w.name == name)


def installed(libraries: list[str]) -> list[str]:
    return [lib for lib in libraries if importlib.util.find_spec(lib) is not None]


def peak() -> float:
    """The most memory this process has held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


def load(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


# -- parts


def weights(name: str, path: str) -> None:
    """Save numbers for the weights of a workload's network."""
    import amity  # lazy: other parts measure processes without it

    work = workload(name)
    np.savez(path, **draw(MODELS[work.model](amity, **work.config).state_dict()))


def difference(results: list[list[np.ndarray]], wanted: list[list[np.ndarray]]) -> float:
    """The largest difference, as a part of the largest number."""
    worst = 0.0
    for a, b in zip(sum(results, []), sum(wanted, []), strict=True):
        if a.shape != b.shape or not np.isfinite(a).all():
            return float("inf")
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)))
    return worst


def first_results(job: Job, work: Workload) -> list[list[np.ndarray]]:
    return [job.numbers(job.call()) for _ in range(STEPS if work.is_training else 1)]


def speed(name: str, path: str, threads: str, rounds: str, *libraries: str) -> dict[str, Any]:
    """Seconds of each mode in each round, after their results were seen to agree with PyTorch's."""
    work, given = workload(name), load(path)
    modes = [(m, make) for lib in libraries for m, make in PEERS[lib].items()]
    modes.sort(key=lambda mode: mode[0] != REFERENCE)
    jobs: dict[str, Job] = {}
    errors: dict[str, str] = {}
    wanted: list[list[np.ndarray]] = []
    for mode, make in modes:
        try:
            job = make(work, given, int(threads))
            results = first_results(job, work)
            start = time.perf_counter()
            job.call()
            took = time.perf_counter() - start
        except Exception as error:  # what a library raises is a result here, and is shown
            errors[mode] = f"{type(error).__name__}: {error}"[:600]
            continue
        wanted = wanted or results
        off = difference(results, wanted)
        if off > (CLOSE_16 if work.is_mixed else CLOSE):
            errors[mode] = f"its results differ from {modes[0][0]}'s by {off:.1e} of the largest"
        elif took > SLOW:
            errors[mode] = f"not timed: a call takes {took:.0f} s"
        else:
            jobs[mode] = job
    confine(int(threads))
    gc.collect()
    gc.disable()
    ours_first = sorted(jobs, key=lambda m: m not in OURS)
    times = interleave({m: jobs[m].call for m in ours_first}, int(rounds))
    return {"times": times, "errors": errors}


def first(name: str, path: str, mode: str) -> dict[str, float]:
    """Seconds of a mode's first step, of which it knew nothing but the model, and of the next."""
    work, given = workload(name), load(path)
    job = MODES[mode](work, given, os.cpu_count() or 1)
    start = time.perf_counter()
    job.numbers(job.call())
    middle = time.perf_counter()
    job.numbers(job.call())
    return {"first": middle - start, "second": time.perf_counter() - middle}


def memory(name: str, path: str, mode: str) -> dict[str, float]:
    """Peak memory of a process that makes a few steps."""
    job = MODES[mode](workload(name), load(path), 1)
    for _ in range(STEPS):
        job.numbers(job.call())
    return {"peak": peak()}


PARTS = {"weights": weights, "speed": speed, "first": first, "memory": memory}


# -- from outside


def run(part: str, *arguments: str, threads: int = 0, **env: str) -> Any:
    """The figures of a part, or what went wrong as {"failed": text}."""
    own = os.environ | env
    if threads:
        count = str(threads)
        own |= {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "NPROC": count}
    own |= {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "bench", "--part", part, *arguments]
    try:
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {PATIENCE} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-3:]
        return {"failed": f"exit status {done.returncode}: {' / '.join(lines)}"}
    return json.loads(done.stdout.splitlines()[-1])


def weights_file(folder: Path, work: Workload) -> str:
    """The file of a workload's weights, made when first asked for."""
    path = folder / f"{zlib.crc32(work.name.encode()):08x}.npz"
    if not path.exists():
        made = run("weights", work.name, str(path))
        if made and "failed" in made:
            raise RuntimeError(f"weights: got {made['failed']}")
    return str(path)
