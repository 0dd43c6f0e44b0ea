"""ResNet-18 for 32x32 images, written once for amity and for PyTorch: the same code, another import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def resnet18(lib: Any, classes: int = 10) -> Any:
    """The network of `lib` (amity or torch): four stages of two blocks, 11.2 million parameters."""
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x: Any) -> Any:
            y = nn.functional.relu(self.bn1(self.conv1(x)))
            return nn.functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.bn = nn.BatchNorm2d(64)
            blocks, inputs = [], 64
            for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
                blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
                inputs = outputs
            self.blocks = nn.Sequential(*blocks)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.linear = nn.Linear(512, classes)

        def forward(self, x: Any) -> Any:
            y = self.blocks(nn.functional.relu(self.bn(self.conv(x))))
            return self.linear(self.pool(y).flatten(1))

    return ResNet()


def training(lib: Any, optimizer: str = "SGD") -> Callable[[int], Any]:
    """A function that makes one training step on a batch of so many random images."""
    lib.manual_seed(0)
    model = resnet18(lib)
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
