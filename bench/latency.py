"""What a first step, a new batch size and a process cost: `python -m bench.latency`; with `--depth`
what planning compiled steps of transformers costs as they get deeper.

A ResNet-18 for 32x32 images trains eagerly. Each part runs in a process of its own: with an empty
kernel cache, with a full one, beside PyTorch in turns, and alone for its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 16
MEGABYTE = 1 << 20


def seconds(f: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    f()
    return clock() - start


def peak() -> float:
    """The most memory this process has held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


# -- parts: each runs in its own process and prints its figures


def first_steps(optimizer: str) -> dict[str, Any]:
    """The first step, the steady one, and new batch sizes afterwards."""
    import amity
    from amity.engine import device

    from .resnet import training

    kernels = device.kernels()
    step = training(amity, optimizer)
    before, at = kernels.compiled, kernels.seconds
    first = seconds(lambda: step(BATCH).item())
    out = {"first": first, "compiled": kernels.compiled - before, "LLVM": kernels.seconds - at}
    for _ in range(3):
        step(BATCH).item()
    compiled = kernels.compiled
    extra, busy = {}, {}
    for batch in (15, 12, 10, 9, 7, 18, 24):
        amity.randn(batch, 3, 32, 32), amity.randint(0, 10, (batch,))  # data is no part of a step
        start = time.process_time()
        extra[batch] = seconds(lambda b=batch: step(b).item())
        busy[batch] = time.process_time() - start
        again = lambda b=batch: step(b).item()  # noqa: E731
        extra[batch] -= min(seconds(again) for _ in range(4))
        busy[batch] -= min(seconds(again, time.process_time) for _ in range(4))
    out["extra"], out["busy"] = extra, list(busy.values())
    out["compiled for new sizes"] = kernels.compiled - compiled
    return out


def speed(optimizer: str) -> dict[str, Any]:
    """Steady steps of both in turns, at one and two threads."""
    import torch

    import amity

    from .resnet import training

    ours, theirs = training(amity, optimizer), training(torch, optimizer)
    out = {}
    for threads in (1, 2):
        amity.set_num_threads(threads)
        torch.set_num_threads(threads)
        for _ in range(3):
            ours(BATCH), theirs(BATCH)
        pairs = [
            (seconds(lambda: ours(BATCH).item()), seconds(lambda: theirs(BATCH).item()))
            for _ in range(9)
        ]
        a, b = (statistics.median(x) for x in zip(*pairs, strict=True))
        out[str(threads)] = (a, b, statistics.median(x / y for x, y in pairs))
    return out


def memory(optimizer: str, library: str) -> dict[str, float]:
    """Peak memory after a few steps of one library, and what importing it took."""
    module = __import__(library)
    imported = peak()

    from .resnet import training

    step = training(module, optimizer)
    for _ in range(4):
        step(BATCH).item()
    return {"peak": peak(), "imported": imported}


def importing() -> dict[str, float]:
    """Seconds and memory of `import amity` in a fresh process."""
    taken = seconds(lambda: __import__("amity"))
    return {"seconds": taken, "memory": peak()}


def planning(layers: str) -> dict[str, Any]:
    """Seconds to plan a compiled GPT step, or to read its plan, without those of compiling kernels."""
    import amity

    from .models import transformer
    from .workloads import gpt

    work = gpt(192, 128, 8, True, int(layers))
    model = transformer(amity, **work.config)
    update = amity.optim.AdamW(model.parameters(), lr=work.lr)
    x, y = (amity.from_numpy(a) for a in (*work.inputs(), work.labels()))

    @amity.compile
    def step() -> Any:
        update.zero_grad()
        loss = amity.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        amity.nn.utils.clip_grad_norm_(model.parameters(), work.clip)
        update.step()
        return loss

    step().item()
    segments = step.segments.values()
    return {
        "seconds": sum(s.seconds - s.kernel_seconds for s in segments),
        "kernels": sum(s.kernels for s in segments),
    }


# -- the whole


DEPTHS = (3, 6, 12, 24)


def deepen(cache: str) -> None:
    """Planning by depth: with the parts of a graph that repeat lowered once, each anew, and read."""
    print(
        f"{'GPT step, d=192':18s} {'planned':>10s} {'parts anew':>12s} {'read':>10s}   new kernels"
    )
    for layers in map(str, DEPTHS):
        first = run("planning", layers, cache=cache)
        anew = run("planning", layers, cache=cache, AMITY_PASSES="-outline")
        read = run("planning", layers, cache=cache)
        figures = [f"{x['seconds'] * 1e3:.0f} ms" for x in (first, anew, read)]
        print(f"{layers + ' layers':18s} {figures[0]:>10s} {figures[1]:>12s} {figures[2]:>10s}   "
              f"{first['kernels']}", flush=True)  # fmt: skip


def run(part: str, *arguments: str, cache: str, **settings: str) -> dict[str, Any]:
    """The figures of one part, from a process of its own."""
    command = [sys.executable, "-m", "bench.latency", "--part", part, *arguments]
    env = os.environ | {"AMITY_CACHE_DIR": cache, "PYTHONPYCACHEPREFIX": cache} | settings
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed: with modules compiled
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{part}: got exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def installed() -> float:
    """Megabytes of amity and what it requires, as they are installed here."""
    here, total = Path(sysconfig.get_paths()["purelib"]), 0
    folders = [Path(__file__).resolve().parents[1] / "amity"]
    for name in ("numpy", "numpy.libs", "llvmlite", "ml_dtypes"):
        folders.append(here / name)
    for folder in folders:
        total += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return total / MEGABYTE


def row(name: str, figure: str, wanted: str, is_met: bool) -> None:
    print(
        f"{name:46s} {figure:>24s}   {wanted:14s} {'' if is_met else 'missed'}".rstrip(), flush=True
    )


def report(optimizer: str, cache: str) -> None:
    cold = run("first", optimizer, cache=cache)
    row("first step, empty cache", f"{cold['first']:.2f} s", "<= 5 s", cold["first"] <= 5)
    row("kernels compiled in it", f"{cold['compiled']} in {cold['LLVM']:.2f} s", "", True)
    warm = run("first", optimizer, cache=cache)
    row("first step, full cache", f"{warm['first']:.2f} s", "", True)
    row("kernels compiled in it", str(warm["compiled"]), "0", warm["compiled"] == 0)
    extra = sorted(warm["extra"].values())
    worst = ", ".join(f"{b}: {t * 1e3:.0f}" for b, t in warm["extra"].items())
    middle = statistics.median(extra)
    row("new batch size over a steady step", f"{middle * 1e3:.0f} ms", "<= 50 ms", middle <= 0.05)
    print(f"    by batch size, in ms: {worst}")
    row("the same in processor time", f"{statistics.median(warm['busy']) * 1e3:.0f} ms", "", True)
    again = cold["compiled for new sizes"]
    row("kernels compiled for new batch sizes", str(again), "0", again == 0)
    for threads, (a, b, ratio) in run("speed", optimizer, cache=cache).items():
        figure = f"{a * 1e3:.0f} / {b * 1e3:.0f} ms = {ratio:.2f}"
        row(f"steady step against PyTorch, {threads} thread(s)", figure, "<= 1", ratio <= 1)
    ours, theirs = (run("memory", optimizer, x, cache=cache) for x in ("amity", "torch"))
    figure = f"{ours['peak']:.0f} / {theirs['peak']:.0f} MB"
    row("peak memory against PyTorch", figure, "no more", ours["peak"] <= theirs["peak"])
    ours, theirs = (x["peak"] - x["imported"] for x in (ours, theirs))
    row("of it beyond the import", f"{ours:.0f} / {theirs:.0f} MB", "", True)
    loads = [run("import", cache=cache) for _ in range(5)]
    taken = statistics.median(x["seconds"] for x in loads)
    row("import amity", f"{taken:.2f} s", "<= 0.35 s", taken <= 0.35)
    row("memory after it", f"{loads[0]['memory']:.0f} MB", "<= 150 MB", loads[0]["memory"] <= 150)
    size = installed()
    row("amity and what it requires, installed", f"{size:.0f} MB", "<= 300 MB", size <= 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="+", help="used inside: print the figures of one part")
    parser.add_argument("--optimizer", default="SGD", choices=["SGD", "AdamW"])
    parser.add_argument(
        "--depth", action="store_true", help="planning of ever deeper steps instead"
    )
    options = parser.parse_args()
    parts = {"first": first_steps, "speed": speed, "memory": memory, "import": importing}
    parts["planning"] = planning
    if options.part:
        name, *arguments = options.part
        print(json.dumps(parts[name](*arguments)))
        return
    with tempfile.TemporaryDirectory() as cache:
        deepen(cache) if options.depth else report(options.optimizer, cache)


if __name__ == "__main__":
    main()
