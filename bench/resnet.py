"""A ResNet-18 that trains on 32x32 images, in amity or PyTorch: the same code, another import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .models import resnet


def training(lib: Any, optimizer: str = "SGD") -> Callable[[int], Any]:
    """A function that makes one training step on a batch of so many random images."""
    lib.manual_seed(0)
    model = resnet(lib, 18, True)
    options = {"lr": 0.01, "momentum": 0.9} if optimizer == "SGD" else {"lr": 1e-3}
    update = getattr(lib.optim, optimizer)(model.parameters(), **options)
    batches: dict[int, tuple[Any, Any]] = {}

    def step(batch: int) -> Any:
        if batch not in batches:
            batches[batch] = lib.randn(batch, 3, 32, 32), lib.randint(0, 10, (batch,))
        x, y = batches[batch]
        loss = lib.nn.functional.cross_entropy(model(x), y)
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    return step
