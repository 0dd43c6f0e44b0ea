"""Products of matrices against PyTorch: broadcasting, layouts, empty sizes, dtypes, slopes, errors."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from tests.ops.compare import DTYPES, cases, match  # noqa: E402

SHAPES = {
    "a": "[3,4]",
    "b": "[4,5]",
    "v": "[4]",
    "w": "[3]",
    "t": "[2,3,4]",
    "u": "[2,4,5]",
    "z": "[5]",
}
WIDE = {"a": "[37,65]", "b": "[65,130]", "v": "[65]", "t": "[3,37,65]", "u": "[3,65,19]"}


def inputs(dtype: str, text: str, shapes: dict[str, str] = SHAPES) -> dict[str, str]:
    """The tensors that a text names."""
    used = re.findall(r"\b[abvwtuz]\b", text)
    return {n: dtype + s for n, s in shapes.items() if n in used}


PRODUCTS = cases(
    """
matmul(a, b) ; a @ b ; matmul(a, v) ; matmul(w, a) ; matmul(v, v) ; matmul(v, b) ; matmul(t, u)
matmul(t, b) ; matmul(a, u) ; matmul(t, v) ; matmul(v, u) ; matmul(t[:, None], u)
matmul(t[None], u[:, None]) ; matmul(t[:1], u) ; matmul(t[:1].expand(2, 3, 4), u) ; matmul(a.T, a)
matmul(a, a.T) ; matmul(b.T, a.T) ; matmul(a[:, ::2], b[::2]) ; matmul(a[::2], b[:, 1::2])
matmul(a[:1].expand(3, 4), b) ; matmul(a, b[:, :1].expand(4, 5)) ; matmul(t.transpose(0, 1), u[0])
matmul(t.transpose(1, 2), t) ; matmul(a[:, :0], b[:0]) ; matmul(a[:0], b) ; matmul(a, b[:, :0])
matmul(v[:0], v[:0]) ; matmul(a[:, :0], v[:0]) ; matmul(t[:0], u[:0])
matmul(t[:, :, :0], u[:, :0]) ; matmul(t[:0], b) ; matmul(a, a) ; matmul(a, w) ; matmul(v, a)
matmul(v, w) ; matmul(t, u[:, :3])
matmul(t, u.expand(3, 2, 4, 5)[:, 0][:, None].expand(3, 3, 4, 5)) ; matmul(a, a[0, 0])
matmul(a[0, 0], a) ; matmul(a, b.to(float64)) ; matmul(a, b.to(int64)) ; matmul(a, 3)
matmul(a, b, out=empty(0)) ; matmul(a, b, out=empty(3, 5))
matmul(a, b, out=empty(3, 5, dtype=float64)) ; matmul(a, b, out=empty(2, 2)) ; a @ 3 ; 3 @ a
a @ [1] ; mm(a, b) ; mm(a, b.T) ; mm(a.T, w[:, None]) ; mm(a, v) ; mm(v, a) ; mm(t, u)
mm(a[:, :0], b[:0]) ; mm(a, b, out=empty(0)) ; mm(a, mat2=b) ; mm(a, b.to(float16)) ; bmm(t, u)
bmm(t, u.transpose(1, 2)) ; bmm(t.transpose(1, 2), t) ; bmm(t, u[:1]) ; bmm(a, b)
bmm(t[:0], u[:0]) ; bmm(t[:, :0], u) ; bmm(t[:, :, :0], u[:, :0]) ; bmm(t, mat2=u)
bmm(t, u, out=empty(0)) ; mv(a, v) ; mv(a.T, w) ; mv(a, w) ; mv(v, v) ; mv(a, a)
mv(a[:, :0], v[:0]) ; mv(a[:0], v) ; mv(a, v, out=empty(0)) ; a.mv(v) ; dot(v, v)
dot(v, v[::1].flip(0)) ; dot(a[:, 1], w) ; dot(v[:0], v[:0]) ; dot(v, w) ; dot(a, v)
dot(v, v[0]) ; dot(v, v.to(float64)) ; dot(v, v.to(int64)) ; dot(v, v, out=empty(())) ; vdot(v, v)
inner(v, v) ; inner(a, a) ; inner(t, a) ; inner(a, v) ; inner(a, w) ; inner(a, a[0, 0])
inner(a[0, 0], a[0, 0]) ; inner(v[:0], v[:0]) ; inner(a, b) ; inner(t, t).shape ; outer(v, w)
outer(v[:0], w) ; outer(a, v) ; outer(v, a[:, 0]) ; outer(v, w.to(int64))
outer(v, w, out=empty(0)) ; ger(v, w) ; v.outer(w) ; a.kron(b)
a.matmul(b), a.mm(b), t.bmm(u), v.dot(v), v.inner(v), a.__matmul__(b), a.__rmatmul__(b.T[:, :3])
"""
)
SUMS = cases(
    """
addmm(z, a, b) ; addmm(a[:, :1], a, b) ; addmm(a[0, 0], a, b) ; addmm(z, a, b, beta=0.5, alpha=2)
addmm(z * nan, a, b, beta=0) ; addmm(z, a, b, alpha=0) ; addmm(w, a, b) ; addmm(z, a, a)
addmm(z, v, b) ; addmm(z, a[:, :0], b[:0]) ; addmm(z, a[:, :0], b[:0], beta=2)
addmm(z, a[:0], b) ; addmm(z.to(float64), a, b) ; addmm(z, a, b, out=empty(0))
addmm(z, a, b, beta=1.5, alpha=-1) ; zeros(3, 5).addmm_(a, b) ; zeros(5).addmm_(a, b)
ones(3, 5).addmm_(a, b, beta=2, alpha=0.5) ; z.addmm(a, b) ; addmv(w, a, v) ; addmv(w[0], a, v)
addmv(w, a, v, beta=0.5, alpha=2) ; addmv(w * nan, a, v, beta=0) ; addmv(v, a, v) ; addmv(w, a, w)
addmv(w, v, v) ; addmv(w, a[:, :0], v[:0]) ; addmv(w, a, v, out=empty(0)) ; w.clone().addmv_(a, v)
addr(zeros(4, 3), v, w) ; addr(w, v, w, beta=2, alpha=3) ; addr(w, v, a) ; addr(v, v, w)
zeros(4, 3).addr_(v, w) ; addbmm(zeros(3, 5), t, u) ; addbmm(z, t, u, beta=2, alpha=0.5)
addbmm(z * nan, t, u, beta=0) ; addbmm(z, t[:0], u[:0]) ; addbmm(w, t, u)
zeros(3, 5).addbmm_(t, u) ; baddbmm(zeros(2, 3, 5), t, u) ; baddbmm(z, t, u, beta=2, alpha=0.5)
baddbmm(z * nan, t, u, beta=0) ; baddbmm(a[:, :1], t, u) ; baddbmm(w, t, u) ; baddbmm(z, t, u[:1])
baddbmm(z, t[:, :, :0], u[:, :0]) ; zeros(2, 3, 5).baddbmm_(t, u) ; zeros(3, 5).baddbmm_(t, u)
ones(2, 3, 5).baddbmm_(t, u, beta=0.5, alpha=2) ; baddbmm(z, t, u, out=empty(0))
baddbmm(t[:, :, :1], t, u, beta=0, alpha=2) ; addmm(z, a, b, 2)
"""
)
EINSUMS = cases(
    """
einsum('ij,jk->ik', a, b) ; einsum('ij,jk', a, b) ; einsum('ij->ji', a) ; einsum('ij', a)
einsum('ji', a) ; einsum('ij->', a) ; einsum('ij->i', a) ; einsum('i,i->', v, v)
einsum('i,i', v, v) ; einsum('i,j->ij', v, w) ; einsum('bij,bjk->bik', t, u)
einsum('bij,bjk->ik', t, u) ; einsum('bij,jk->bik', t, b) ; einsum('...ij,...jk->...ik', t, u)
einsum('...ij,jk', t, b) ; einsum('...i->...', t) ; einsum('ii->i', a[:, :3])
einsum('ii', a[:, :3]) ; einsum('iij->j', t[:, :2]) ; einsum('ij,ij->ij', a, a)
einsum('ij,kj->ik', a, a) ; einsum('ij,ij,j->i', a, a, v) ; einsum('i,ij,jk,k->', w, a, b, z)
einsum('ij, jk -> ik', a, b) ; einsum('Ab,bC->AC', a, b) ; einsum('ij,jk->ijk', a, b)
einsum('ij,jk->kij', a, b) ; einsum('ij,ik->i', a, a) ; einsum('i,->i', v, v[0])
einsum('ab,bc,cd->ad', a, b, b.T) ; einsum('bij,bij->b', t, t) ; einsum('...,...->...', a, v)
einsum(a, [0, 1], b, [1, 2], [0, 2]) ; einsum(a, [0, 1], b, [1, 2]) ; einsum('ij,jk->ik', [a, b])
einsum('ij,jk->ik', a, a) ; einsum('ij,jk->iz', a, b) ; einsum('ijk->i', a)
einsum('ij,jk->ik', a) ; einsum('ij->ii', a) ; einsum('i1->i', a) ; einsum('ij->i->j', a)
einsum('ij,j', a[:, :0], v[:0]) ; einsum('ij,jk->ik', a[:0], b)
einsum('ij,jk->ik', a, b.to(float64)) ; einsum('', v[0]) ; einsum('...a,...a', t, a)
einsum('a...,a...->...', w, a) ; einsum('b...i,...i->b...', t, v)
"""
)
OTHERS = cases(
    """
tensordot(a, b, 1) ; tensordot(a, b, dims=1) ; tensordot(a, b, dims=0).shape ; tensordot(a, a, 2)
tensordot(t, u, dims=([0, 2], [0, 1])) ; tensordot(t, a, dims=([1, 2], [0, 1]))
tensordot(a, b, dims=((1,), (0,))) ; tensordot(a, b, dims=([-1], [0]))
tensordot(a, b, dims=([1], [1])) ; tensordot(a, b, 2) ; tensordot(a, b, -1) ; tensordot(a, b, 5)
tensordot(a, b, dims=tensor([[1], [0]])) ; tensordot(t, u, ([0], [0, 1]))
tensordot(a[:, :0], b[:0], 1) ; tensordot(a, b) ; kron(a, b) ; kron(v, w) ; kron(a, v)
kron(v, t) ; kron(a[0, 0], b) ; kron(a[:0], b) ; kron(a.to(int64), b) ; kron(a, b, out=empty(0))
chain_matmul(a, b) ; chain_matmul(a, b, b.T, a.T) ; chain_matmul(a) ; linalg.multi_dot([a, b])
linalg.multi_dot([a, b, z]) ; linalg.multi_dot([w, a, b]) ; linalg.multi_dot([w, a, b, z])
linalg.multi_dot([a, b, b.T, b, z[:, None]]) ; linalg.multi_dot([a]) ; linalg.multi_dot([a, a])
linalg.multi_dot([a, v, b]) ; linalg.multi_dot((a, b), out=empty(0)) ; linalg.matmul(a, b)
linalg.vecdot(a, a), linalg.vecdot(a, a, dim=0), linalg.vecdot(a, v)
linalg.matrix_power(a[:, :3], 3), linalg.matrix_power(a[:, :3], 0), linalg.matrix_power(a, 2)
matrix_power(a[:, :3], 2)
cross(w, w.flip(0), dim=0), linalg.cross(a.T, a.T.flip(1)), cross(a.T, a[:1].T.expand(4, 1), dim=1), cross(a, a)
trace(a), trace(v), a.trace(), trace(a.to(int32))
"""
)
LAYERS = cases(
    """
F.linear(a, b.T) ; F.linear(a, b.T, z) ; F.linear(v, b.T, z) ; F.linear(t, b.T, z)
F.linear(t, b.T, z[:1]) ; F.linear(a, v) ; F.linear(t[:0], b.T, z)
F.linear(a[:, :0], b.T[:, :0], z) ; F.linear(a, b) ; F.linear(a, b.T, w)
F.linear(a, b.T.to(float64)) ; F.linear(a[0, 0], b.T) ; F.linear(t.transpose(0, 1), b.T, z)
F.linear(a[:, ::2], b.T[:, ::2], z) ; F.linear(a[None, None], b.T, z)
F.bilinear(a, a[:, :2], ones(5, 4, 2)) ; F.bilinear(a, a[:, :2], ones(5, 4, 2), z)
F.bilinear(t, t[:, :, :2], ones(5, 4, 2), z) ; F.bilinear(a, a, ones(5, 4, 2))
F.bilinear(a, a[:2], ones(5, 4, 4)) ; F.bilinear(v, v, ones(5, 4, 4))
"""
)


@pytest.mark.parametrize("text", PRODUCTS + SUMS + EINSUMS + LAYERS + OTHERS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of out= and of old names
def test_forms(text):
    match(text, **inputs("float32", text))


OF_DTYPES = cases(
    """
matmul(a, b) ; matmul(a, v) ; matmul(v, v) ; matmul(t, u) ; matmul(t, b) ; mm(a, b) ; bmm(t, u)
mv(a, v) ; dot(v, v) ; outer(v, w) ; inner(a, a) ; addmm(z, a, b)
addmm(z, a, b, beta=2, alpha=3) ; addmv(w, a, v) ; addr(zeros_like(a), w, v) ; addbmm(z, t, u)
baddbmm(z, t, u) ; baddbmm(z, t, u, beta=2, alpha=3) ; einsum('ij,jk->ik', a, b)
einsum('ij->j', a) ; tensordot(a, b, 1) ; kron(w, v) ; F.linear(a, b.T) ; F.linear(a, b.T, z)
linalg.multi_dot([a, b, z]) ; matmul(a.T, a) ; matmul(a[:, ::2], b[::2]) ; matmul(a[:, :0], b[:0])
addmm(z, a, b, alpha=0.5) ; addmm(z, a, b, beta=0.5) ; vdot(v, v) ; linalg.vecdot(a, a)
matrix_power(a[:, :3], 2) ; cross(a.T, a.T, dim=1)
"""
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    for text in OF_DTYPES:
        if dtype == "bool" and ":0" in text:
            continue  # PyTorch gives zeros where nothing is multiplied
        match(text, **inputs(dtype, text))


SLOPES = cases(
    """
matmul(a, b) ; matmul(a, v) ; matmul(w, a) ; matmul(v, v) ; matmul(t, u) ; matmul(t, b)
matmul(a, u) ; matmul(t, v) ; matmul(v, u) ; matmul(t[:, None], u) ; matmul(t[:1], u)
matmul(t[:1].expand(2, 3, 4), u) ; matmul(a.T, a) ; matmul(a[:, ::2], b[::2])
matmul(a[:1].expand(3, 4), b) ; matmul(t.transpose(0, 1), u[0]) ; matmul(a[:, :0], b[:0])
matmul(a[:0], b) ; matmul(t[:0], u[:0]) ; mm(a, b) ; bmm(t, u) ; mv(a, v) ; dot(v, v)
dot(v, v * 2) ; inner(a, t) ; outer(v, w) ; addmm(z, a, b, beta=0.5, alpha=2)
addmm(a[:, :1], a, b) ; addmm(z, a, b, beta=0) ; addmv(w, a, v, beta=2, alpha=3)
addmv(w[0], a, v) ; addr(a, w, v, beta=2, alpha=0.5) ; addbmm(z, t, u, beta=2, alpha=0.5)
baddbmm(z, t, u, beta=2, alpha=0.5) ; baddbmm(w[:, None], t, u) ; einsum('ij,jk->ik', a, b)
einsum('bij,jk->bik', t, b) ; einsum('ij->', a) ; einsum('ii->i', a[:, :3])
einsum('ii', a[:, :3]) ; einsum('i,ij,jk,k->', w, a, b, z) ; einsum('ij,ij->i', a, a)
einsum('...ij,...jk', t, u) ; einsum('i,j', v, w) ; einsum(a, [0, 1], b, [1, 2], [0, 2])
tensordot(a, b, 1) ; tensordot(t, u, dims=([0, 2], [0, 1])) ; tensordot(a, b, 0) ; kron(a, b)
kron(v, w) ; chain_matmul(a, b, b.T) ; linalg.multi_dot([w, a, b, z]) ; F.linear(a, b.T, z)
F.linear(t, b.T, z) ; F.linear(v, b.T, z) ; F.linear(a, v)
F.bilinear(a, a[:, :2], b[:, :2].expand(5, 4, 2)) ; matrix_power(a[:, :3], 3) ; trace(a)
cross(a.T, a.T.flip(1), dim=1) ; linalg.vecdot(a, v) ; matmul(a, a.T) @ a
"""
)


@pytest.mark.parametrize("text", SLOPES)
def test_slopes(text):
    match(text, order=2, tolerance=1e-8, **inputs("float64", text))


LARGER = cases(
    """
a @ b ; a.T @ a ; b.T @ a.T ; t @ u ; t @ b ; t.transpose(1, 2) @ t ; a @ v ; v @ b
t[:, :, 1::2] @ u[:, ::2][:, :32] ; a[:, :64:2] @ b[1::2] ; t.permute(1, 0, 2) @ u[0]
F.linear(t, b.T, b[0]) ; addmm(b[0], a, b, alpha=0.5) ; einsum('bij,bjk->bik', t, u)
einsum('bij,bkj->bik', t, t) ; t[:1].expand(3, 37, 65) @ u ; a @ b[:, :1].expand(65, 4)
"""
)


@pytest.mark.parametrize("text", LARGER)
def test_sizes_beyond_one_tile(text):
    match(text, tolerance=1e-4, **inputs("float32", text, WIDE))


HALVES = cases(
    """
a @ b ; a.T @ a ; t @ u ; t @ b ; a @ v ; v @ b ; F.linear(t, b.T, b[0])
addmm(b[0], a, b, alpha=0.5)
"""
)


# PyTorch rounds sums of 16-bit products at other places: as much as the largest of them
@pytest.mark.parametrize("dtype, tolerance", [("float16", 0.02), ("bfloat16", 0.13)])
def test_slopes_of_halves(dtype, tolerance):
    for text in HALVES:
        match(text, order=1, tolerance=tolerance, **inputs(dtype, text, WIDE))


SPECIAL = cases(
    """
a @ b ; a @ a.T ; mv(a, b[:, 0]) ; einsum('ij,jk->ik', a, b) ; F.linear(a, b.T)
addmm(b[0], a, b) ; bmm(a[None], b[None]) ; outer(a[0], a[1]) ; dot(a[0], a[1])
"""
)


@pytest.mark.parametrize("text", SPECIAL)
def test_nan_and_infinity_spread_as_they_should(text):
    match(text, a="float32[6,4]|special", b="float32[4,5]")


@pytest.mark.parametrize("name", ["addmm_", "addbmm_", "baddbmm_", "addmv_", "addr_"])
def test_slopes_through_written_tensors(name):
    def text(m, a, b, t, u, v, w):
        args, start = {
            "addmm_": ((a, b), a[:, :1] * m.ones(5, dtype=a.dtype)),
            "addbmm_": ((t, u), a[:, :1] * m.ones(5, dtype=a.dtype)),
            "baddbmm_": ((t, u), t[:, :, :1] * m.ones(5, dtype=a.dtype)),
            "addmv_": ((a, v), w * 2),
            "addr_": ((w, v), a * 2),
        }[name]
        return getattr(start, name)(*args, beta=0.5, alpha=2)

    match(text, order=1, **inputs("float64", "a b t u v w"))
