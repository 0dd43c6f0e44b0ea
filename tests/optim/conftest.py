"""Parameters that exist twice, in amity and in PyTorch, and are fed the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import amity

SHAPES = [(3,), (2, 5), (), (1, 1, 7), (0,), (5, 4)]
LATE, NEVER = 1, 3  # parameters whose gradient comes late, or never


class Pair:
    """The same parameters in both libraries."""

    def __init__(self, torch: Any, dtype: type = np.float32, seed: int = 0) -> None:
        self.torch, self.dtype = torch, dtype
        self.random = np.random.default_rng(seed)
        starts = [np.asarray(self.random.normal(size=shape), dtype) for shape in SHAPES]
        # The last one is not contiguous.
        self.ours = [amity.from_numpy(a.copy()) for a in starts[:-1]]
        self.ours.append(amity.from_numpy(starts[-1].T.copy()).t())
        self.theirs = [torch.from_numpy(a.copy()) for a in starts]
        for p in (*self.ours, *self.theirs):
            p.requires_grad_()

    def give_gradients(self, step: int) -> None:
        for i, (p, q) in enumerate(zip(self.ours, self.theirs)):
            grad = np.asarray(self.random.normal(size=p.shape), self.dtype)
            if i == NEVER or (i == LATE and step < 3):
                continue
            p.grad = amity.from_numpy(grad.copy())
            q.grad = self.torch.from_numpy(grad.copy())

    def check(self) -> None:
        exact = self.dtype is np.float64
        for p, q in zip(self.ours, self.theirs):
            close(p.detach().numpy(), q.detach().numpy(), exact)


def close(a: Any, b: Any, exact: bool) -> None:
    rtol, atol = (1e-10, 1e-13) if exact else (1e-5, 1e-6)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.fixture
def pair() -> Callable[..., Pair]:
    torch = pytest.importorskip("torch")
    return lambda *args, **kwargs: Pair(torch, *args, **kwargs)


def converted(tree: Any, make: Callable[[np.ndarray], Any]) -> Any:
    """A state_dict of one library as one of the other."""
    if isinstance(tree, dict):
        return {key: converted(value, make) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(converted(value, make) for value in tree)
    if hasattr(tree, "numpy"):
        return make(np.array(tree.detach().numpy()))
    return tree


@pytest.fixture
def convert() -> Callable[..., Any]:
    return converted


@pytest.fixture
def same_state() -> Callable[[dict, dict, bool], None]:
    """Asserts that two state_dicts have the same keys, shapes, dtypes and values."""

    def check(ours: Any, theirs: Any, exact: bool) -> None:
        if isinstance(theirs, dict):
            assert set(ours) == set(theirs)
            for key in theirs:
                check(ours[key], theirs[key], exact)
        elif isinstance(theirs, (list, tuple)):
            assert type(ours) is type(theirs) and len(ours) == len(theirs)
            for a, b in zip(ours, theirs):
                check(a, b, exact)
        elif hasattr(theirs, "numpy"):
            assert ours.numpy().dtype == theirs.numpy().dtype
            assert ours.numpy().shape == theirs.numpy().shape
            close(ours.numpy(), theirs.numpy(), exact)
        else:
            assert ours == theirs

    return check
