"""Every record and composite under `vmap`, on every sample of its own, against a call for each entry."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import amity
from tests.ops.samples import OPS, bound, given

STRUCTURE = ("bag_sum", "bag_place", "ctc_paths", "ctc_grad")  # whose integers belong together


def another(name: str, v: Any) -> Any:
    """A second entry beside `v`, of the same range."""
    if v.dtype.kind == "f":
        return v * 0.7
    return v if name in STRUCTURE or v.numel() == 0 else v.reshape(-1).roll(1).reshape(v.shape)


def check(call: Any, entries: list[list], dims: list, what: str) -> None:
    columns = zip(*entries, dims, strict=True)
    stacked = [a if d is None else amity.stack([a, b], d) for a, b, d in columns]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        got = amity.vmap(call, tuple(dims))(*stacked)
    rows = [call(*row) for row in entries]
    rows = [r if isinstance(r, (tuple, list)) else (r,) for r in rows]
    got = got if isinstance(got, (tuple, list)) else (got,)
    assert len(got) == len(rows[0]), what
    for g, *each in zip(got, *rows, strict=True):
        assert g.dtype is each[0].dtype and g.shape == (2, *each[0].shape), what
        expected = np.stack([e.double().numpy() for e in each])
        np.testing.assert_allclose(g.double().numpy(), expected, 2e-5, 2e-5, err_msg=what)


@pytest.mark.parametrize("name", OPS)
def test_entries(name):
    for sample in OPS[name].samples:
        values = given(name, sample)
        at = [i for i, v in enumerate(values) if isinstance(v, amity.Tensor)]
        if not at:
            continue
        call = bound(OPS[name], sample)

        def of_tensors(*tensors, values=values, at=at, call=call):
            full = list(values)
            for i, t in zip(at, tensors, strict=True):
                full[i] = t
            return call(*full)

        first = [values[i] for i in at]
        second = [another(name, v) for v in first]
        check(of_tensors, [first, second], [0] * len(at), f"{name} {sample}")
        for k in range(len(at)) if len(at) > 1 else ():
            dims = [-1 if i == k else None for i in range(len(at))]
            rest = [b if i == k else a for i, (a, b) in enumerate(zip(first, second, strict=True))]
            check(of_tensors, [first, rest], dims, f"{name} {sample}, input {k} alone")
