"""Trains a small CNN on real images, keeps it, and checks what it kept."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import amity
from amity import nn
from amity.cli.picture import Samples, draw_training
from amity.cli.png import write_png
from amity.cli.progress import Progress, clock
from amity.cli.task import Task, load_task
from amity.engine.cache import cache
from amity.nn import functional as F


def build_model(task: Task) -> nn.Sequential:
    """Two convolutions and two linear layers; the first layer learns the pixels' mean and scale."""
    side = task.train_images.shape[-1]
    stem = nn.Conv2d(1, 16, 5, stride=2, padding=2) if side > 16 else nn.Conv2d(1, 16, 3, padding=1)
    flat = 32 * ((side // 2 if side > 16 else side) // 2) ** 2
    return nn.Sequential(
        nn.BatchNorm2d(1, affine=False),
        stem,
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(task.recipe.dropout),
        nn.Linear(flat, 128),
        nn.ReLU(),
        nn.Linear(128, len(task.names)),
    )


def shift(images: amity.Tensor, most: int) -> amity.Tensor:
    """Move a batch by up to `most` pixels each way: the same thing, seen from elsewhere."""
    height, width = images.shape[-2:]
    down, right = amity.randint(0, 2 * most + 1, (2,)).tolist()
    padded = F.pad(images, (most, most, most, most))
    return padded[:, :, down : down + height, right : right + width]


def batches(task: Task, size: int) -> Iterator[tuple[amity.Tensor, amity.Tensor]]:
    """The training images in a new random order, `size` at a time."""
    order = amity.randperm(len(task.train_images))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        images = task.train_images[rows].float()
        if task.recipe.shift:
            images = shift(images, task.recipe.shift)
        yield images, task.train_labels[rows]


def predict(model: nn.Module, images: amity.Tensor) -> np.ndarray:
    """The class the model gives to each image."""
    model.eval()
    with amity.no_grad():
        found = [model(part.float()).argmax(1).numpy() for part in images.split(1000)]
    return np.concatenate(found)


def accuracy(predicted: np.ndarray, labels: amity.Tensor) -> float:
    return float((predicted == labels.numpy()).mean())


def train(
    model: nn.Module,
    task: Task,
    epochs: int,
    batch_size: int,
    progress: Progress,
    is_compiled: bool = False,
) -> tuple[list[float], list[float]]:
    """Train `model` in place; the loss of each step and the test accuracy of each epoch."""
    steps = -(-len(task.train_images) // batch_size)
    rate = task.recipe.lr
    optimizer = amity.optim.AdamW(model.parameters(), lr=rate)
    schedule = amity.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=epochs * steps, pct_start=0.2
    )

    def step(images: amity.Tensor, labels: amity.Tensor) -> tuple[amity.Tensor, amity.Tensor]:
        optimizer.zero_grad()
        scores = model(images)
        loss = F.cross_entropy(scores, labels)
        loss.backward()
        optimizer.step()
        return loss, (scores.argmax(1) == labels).sum()

    run = amity.compile(step) if is_compiled else step
    losses: list[float] = []
    accuracies: list[float] = []
    for epoch in range(1, epochs + 1):
        model.train()
        right = seen = 0
        for images, labels in batches(task, batch_size):
            loss, hits = run(images, labels)
            schedule.step()
            losses.append(loss.item())
            right += int(hits)
            seen += len(labels)
            note = f"loss {losses[-1]:.3f}  acc {right / seen:.1%}"
            progress.advance(len(labels), f"epoch {epoch}/{epochs}", note)
        accuracies.append(accuracy(predict(model, task.test_images), task.test_labels))
        if epoch % -(-epochs // 10) == 0 or epoch == epochs:  # some ten lines stay
            mean = float(np.mean(losses[-steps:]))
            progress.print(
                f"epoch {epoch}/{epochs}  loss {mean:.3f}  acc {right / seen:.2%}  "
                f"test {accuracies[-1]:.2%}  {progress.speed()}"
            )
    return losses, accuracies


def train_eagerly(task: Task, epochs: int, batch_size: int, seed: int) -> tuple[float, float]:
    """Seconds and test accuracy of the same training without compiling."""
    amity.manual_seed(seed)
    model, started = build_model(task), time.perf_counter()
    silent = Progress(epochs * len(task.train_images), sys.stdout, quiet=True)
    _, accuracies = train(model, task, epochs, batch_size, silent)
    return time.perf_counter() - started, accuracies[-1]


def check_kept(path: Path, task: Task, predicted: np.ndarray) -> float:
    """The accuracy of a new model loaded from the file, which must predict all the same."""
    model = build_model(task)
    model.load_state_dict(amity.load(path))
    again = predict(model, task.test_images)
    differing = int((again != predicted).sum())
    if differing:
        raise RuntimeError(
            f"demo: got {differing} other predictions from {path}; expected the saved model's"
        )
    return accuracy(again, task.test_labels)


def run(options: argparse.Namespace) -> int:
    """`amity demo`: load, train, save, draw, reload."""
    started = time.perf_counter()
    amity.manual_seed(options.seed)
    try:
        task = load_task(options.dataset, options.data, options.download)
        options.out.mkdir(parents=True, exist_ok=True)  # now, not after the training
    except (OSError, RuntimeError, ValueError) as error:
        print(f"amity demo: {error}", file=sys.stderr)
        return 1
    epochs = options.epochs or task.recipe.epochs
    batch_size = options.batch_size or task.recipe.batch_size
    model = build_model(task)
    progress = Progress(epochs * len(task.train_images), sys.stdout, quiet=options.quiet)
    progress.print(f"{task.title}: {task.source}")
    progress.print(
        f"{len(task.train_images)} training and {len(task.test_images)} test images, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'} in batches of {batch_size}"
    )
    eagerly = None
    if options.compile:
        eagerly = train_eagerly(task, epochs, batch_size, options.seed)
        amity.manual_seed(options.seed)
        model, started = build_model(task), time.perf_counter()
    losses, accuracies = train(model, task, epochs, batch_size, progress, options.compile)
    trained = time.perf_counter() - started

    predicted = predict(model, task.test_images)
    reached = accuracy(predicted, task.test_labels)
    kept, drawn = options.out / "model.safetensors", options.out / "training.png"
    amity.save(model.state_dict(), kept)
    samples = Samples(task.test_images[:, 0].numpy(), task.test_labels.numpy(), predicted)
    title = f"{task.title}: {reached:.2%}"
    write_png(drawn, draw_training(title, losses, accuracies, samples, task.names))
    again = check_kept(kept, task, predicted)
    print(f"test accuracy {reached:.2%} after {clock(trained)} of training")
    if eagerly is not None:
        seconds, found = eagerly
        print(
            f"eagerly, from the same seed: {found:.2%} after {clock(seconds)}; compiled took "
            f"{trained / seconds:.2f} of that time"
        )
    print(f"saved {kept}; loaded again into a new model: {again:.2%}, every prediction the same")
    print(f"drew  {drawn}")
    print(f"kernels: {cache.misses} compiled, {cache.hits} taken from {cache.folder}")
    return 0
