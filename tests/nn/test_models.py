"""Whole models: a few steps of gradient descent give PyTorch's losses and parameters."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402

rng = np.random.default_rng(7)


def f(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def perceptron(nn):
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.0), nn.Linear(8, 3))


def block(nn):
    class Block(nn.Module):
        """A residual block with a shortcut that changes the shape."""

        def __init__(self, inside, outside, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outside)
            self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outside)
            self.relu = nn.ReLU(inplace=True)
            self.short = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(y)) + self.short(x))

    return Block


def residual(nn):
    layer = block(nn)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(2),
        layer(4, 4, 1),
        layer(4, 6, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def reader(nn):
    class Reader(nn.Module):
        """Words, a bidirectional LSTM, a class."""

        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(11, 5, padding_idx=0)
            self.lstm = nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True)
            self.norm = nn.LayerNorm(8)
            self.out = nn.Linear(8, 3)

        def forward(self, words):
            y, _ = self.lstm(self.words(words))
            return self.out(self.norm(y.mean(1)))

    return Reader()


def attentive(nn):
    class Attentive(nn.Module):
        """Words, transformer layers, a class."""

        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(11, 8)
            layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.out = nn.Linear(8, 3)

        def forward(self, words):
            return self.out(self.layers(self.words(words))[:, 0])

    return Attentive()


WORDS = rng.integers(0, 11, (5, 6))
MODELS = [
    (perceptron, f(5, 6)),
    (residual, f(5, 3, 12, 12)),
    (reader, WORDS),
    (attentive, WORDS),
]
TARGET = rng.integers(0, 3, 5)


def train(model, nn, x, target, steps=4):
    """Losses of plain gradient descent with weight decay and clipping."""
    loss_of, losses = nn.CrossEntropyLoss(label_smoothing=0.1), []
    for _ in range(steps):
        model.zero_grad()
        loss = loss_of(model(x), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for p in model.parameters():
            p.data.add_(p.grad + 0.01 * p.detach(), alpha=-0.1)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("build, x", MODELS, ids=lambda v: getattr(v, "__name__", ""))
def test_training_follows_pytorch(build, x):
    torch.manual_seed(3)
    theirs, ours = build(torch.nn), build(nn)
    assert repr(ours) == repr(theirs)
    state = {k: amity.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    expected = train(theirs, torch.nn, torch.from_numpy(x), torch.from_numpy(TARGET))
    losses = train(ours, nn, amity.from_numpy(x), amity.from_numpy(TARGET))
    np.testing.assert_allclose(losses, expected, rtol=2e-4)
    for (key, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-3, atol=1e-4, err_msg=key)
    ours.eval()
    theirs.eval()
    y, z = ours(amity.from_numpy(x)), theirs(torch.from_numpy(x))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=2e-3, atol=2e-4)
