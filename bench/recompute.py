"""What computing values again saves of training steps, and costs: `python -m bench.recompute [name …]`.

Each step is compiled with and without; both run in turns, on one thread. Planning is told with kernels
that are there, and with nothing on disk that is planned already.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

import amity
from amity import nn
from amity.engine import template
from amity.engine.program import paper_of

from .harness import interleave
from .models import resnet, transformer
from .workloads import gpt

ROUNDS = 9
F = nn.functional


def classified(y: Any, labels: Any) -> Any:
    return F.cross_entropy(y.flatten(0, -2) if y.ndim > 2 else y, labels.flatten())


def squared(y: Any, labels: Any) -> Any:
    return (y - labels).square().mean()


def gpt_step(layers: int, is_mixed: bool = False) -> tuple[Any, ...]:
    work = gpt(192, 128, 8, True, layers)
    x, y = (amity.from_numpy(a) for a in (*work.inputs(), work.labels()))
    context = lambda: amity.autocast("cpu", amity.bfloat16, is_mixed)  # noqa: E731
    return transformer(amity, **work.config), amity.optim.AdamW, classified, x, y, context


def resnet_step() -> tuple[Any, ...]:
    x, y = amity.randn(16, 3, 32, 32), amity.randint(0, 10, (16,))
    return resnet(amity, 18, True), amity.optim.SGD, classified, x, y


def mlp_step() -> tuple[Any, ...]:
    """Twelve layers with LayerNorm, GELU and dropout."""
    parts: list[Any] = []
    for _ in range(12):
        parts += [nn.Linear(256, 256), nn.LayerNorm(256), nn.GELU(), nn.Dropout(0.1)]
    model = nn.Sequential(*parts, nn.Linear(256, 10))
    return model, amity.optim.AdamW, classified, amity.randn(512, 256), amity.randint(0, 10, (512,))


class Elementwise(nn.Module):
    """Ten times some elementwise ops."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(amity.randn(512)), nn.Parameter(amity.zeros(512))

    def forward(self, x: Any) -> Any:
        for _ in range(10):
            x = (x * self.w + self.b).tanh()
            x = x * x.sigmoid() + x
        return x


def elementwise_step() -> tuple[Any, ...]:
    x, y = amity.randn(1024, 512), amity.randn(1024, 512)
    return Elementwise(), amity.optim.SGD, squared, x, y


STEPS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "ResNet-18": resnet_step,
    "GPT-6": lambda: gpt_step(6),
    "GPT-12": lambda: gpt_step(12),
    "GPT-6-bf16": lambda: gpt_step(6, True),
    "MLP-12": mlp_step,
    "elementwise": elementwise_step,
}


def compiled(name: str, **options: Any) -> tuple[Any, list[float]]:
    """A compiled step, and its first losses."""
    amity.manual_seed(0)
    model, optimizer, loss_of, x, y, *context = STEPS[name]()
    update = optimizer(model.parameters(), lr=1e-3)
    context = context[0] if context else amity.enable_grad

    @amity.compile(**options)
    def step() -> Any:
        update.zero_grad()
        with context():
            loss = loss_of(model(x), y)
        loss.backward()
        update.step()
        return loss

    return step, [step().item() for _ in range(3)]


class Nothing:
    """A cache of Programs that keeps none."""

    def get(self, *_: Any) -> None:
        """Nothing is there."""

    def put(self, *_: Any) -> None:
        """Nothing is kept."""


def planning(name: str, **options: Any) -> float:
    """Seconds to plan a step whose kernels are there."""
    step, _ = compiled(name, **options)
    return sum(s.seconds - s.kernel_seconds for s in step.segments.values())


def compare(name: str) -> None:
    """A row of the table."""
    (plain, a), (less, b) = compiled(name), compiled(name, recompute=True)
    if a != b:
        raise RuntimeError(f"{name}: got losses {b} with values computed again; expected {a}")
    papers = [paper_of([*f.segments.values()][-1].program) for f in (plain, less)]
    arenas = [p.plan().arena / 1e6 for p in papers]
    plans = [planning(name), planning(name, recompute=True)]
    times = interleave({"plain": plain, "less": less}, ROUNDS)
    ratio = statistics.median(y / x for x, y in zip(*times.values(), strict=True))
    print(
        f"{name:12s} {arenas[0]:8.2f} MB {arenas[1]:8.2f} MB {arenas[1] / arenas[0]:6.2f} "
        f"{papers[1].again.count:6d} {min(times['plain']) * 1e3:9.2f} ms "
        f"{min(times['less']) * 1e3:9.2f} ms {ratio:6.2f} {plans[0] * 1e3:7.0f} ms "
        f"{plans[1] * 1e3:6.0f} ms",
        flush=True,
    )


def main(names: list[str]) -> None:
    """Print the table."""
    amity.set_num_threads(1)
    template.cache = Nothing()
    print(
        f"{'step':12s} {'arena':>11s} {'again':>11s} {'ratio':>6s} {'nodes':>6s} {'step':>12s} "
        f"{'again':>12s} {'ratio':>6s} {'planned':>10s} {'again':>9s}"
    )
    for name in names or STEPS:
        compare(name)


if __name__ == "__main__":
    main(sys.argv[1:])
