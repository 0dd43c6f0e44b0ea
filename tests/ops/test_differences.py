"""Slopes by differences against PyTorch: spacings, coordinates, edges, refusals."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import cases, match  # noqa: E402

GRADIENTS = cases(
    """
gradient(x) ; gradient(x[0]) ; gradient(x, dim=0) ; gradient(x, dim=-1) ; gradient(x, dim=(1, 0))
gradient(x, dim=(0, 1), spacing=2.0) ; gradient(x, spacing=0.5) ; gradient(x, spacing=[0.5, 3])
gradient(x, spacing=(cumsum(v.detach(), 0), cumsum(w.detach(), 0)))
gradient(x, spacing=(cumsum(v.detach(), 0),), dim=0)
gradient(x, spacing=(cumsum(v.detach(), 0),), dim=0, edge_order=2) ; gradient(x, edge_order=2)
gradient(x, spacing=0.5, edge_order=2) ; gradient(x[:2]) ; gradient(x[:1])
gradient(x[:2], edge_order=2) ; gradient(x, spacing=[1.0]) ; gradient(x, edge_order=3)
gradient(x, dim=2) ; gradient(x, dim=(0, 0))
gradient(x[:2], spacing=(cumsum(v.detach(), 0)[:2],), dim=0)
"""
)


@pytest.mark.parametrize("text", GRADIENTS)
def test_gradient(text):
    v, w = "float64[5]|p", "float64[4]|p"
    match(text, order=2, tolerance=1e-8, x="float64[5,4]", v=v, w=w)


def test_coordinates_must_be_as_many_as_elements():
    with pytest.raises(RuntimeError, match=r"shape \[3\]"):
        amity.gradient(amity.ones(5, 4), spacing=(amity.arange(3.0),), dim=0)
