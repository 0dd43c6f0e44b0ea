"""Linear algebra against PyTorch: results, gradients, errors."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402

rng = np.random.default_rng(0)
BATCHES = [(), (2,), (2, 3)]


def matrix(*shape, kind="any", dtype=np.float64):
    x = rng.standard_normal(shape).astype(dtype)
    if kind == "positive":
        x = x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1], dtype=dtype)
    return x


def leaves(y):
    return [t for v in y for t in leaves(v)] if isinstance(y, tuple) else [y]


def both(call, *arrays, has_grad=True, tolerance=1e-8, view=lambda t: t):
    """The same results through `view`, and the same gradients of what it shows."""
    results = []
    for lib in (amity, torch):
        tensors = [lib.tensor(a) for a in arrays]
        if has_grad:
            tensors = [t.requires_grad_() if t.is_floating_point() else t for t in tensors]
        shown = [view(t) for t in leaves(call(lib, *tensors)) if t.numel()]
        out = [t.detach().numpy() for t in shown]
        if has_grad:
            floats = [t for t in shown if t.is_floating_point()]
            weights = np.random.default_rng(1)
            total = sum((t * lib.tensor(weights.random(tuple(t.shape)))).sum() for t in floats)
            total.backward()
            out += [
                lib.zeros_like(t).numpy() if t.grad is None else t.grad.numpy() for t in tensors
            ]
        results.append(out)
    assert len(results[0]) == len(results[1])
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch", BATCHES)
def test_inverses_and_determinants(batch):
    x = matrix(*batch, 4, 4)
    for name in ("inv", "det", "slogdet", "pinv", "inv_ex"):
        both(lambda m, x, n=name: getattr(m.linalg, n)(x), x)
    for name in ("inverse", "det", "slogdet", "logdet", "pinverse"):
        both(lambda m, x, n=name: getattr(m, n)(x), matrix(*batch, 3, 3, kind="positive"))
        both(lambda m, x, n=name: getattr(x, n)(), matrix(*batch, 3, 3, kind="positive"))
    both(lambda m, x: m.linalg.inv(x), x.astype(np.float32), has_grad=False, tolerance=1e-3)


def test_determinants_of_singular_matrices():
    x = np.outer([1.0, 2, 3], [2.0, 0, 1]) + np.outer([0.0, 1, 1], [1.0, 1, 0])
    t = amity.tensor(x).requires_grad_()  # PyTorch says that all of this gradient is 0
    assert amity.autograd.gradcheck(amity.linalg.det, (t,))
    mine = amity.linalg.slogdet(amity.zeros(2, 2))
    assert float(mine.sign) == 0 and float(mine.logabsdet) == -math.inf
    assert math.isnan(float(amity.logdet(-amity.eye(1))))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("left", [True, False])
def test_equations(batch, left):
    a, b = matrix(*batch, 4, 4), matrix(*batch, 4, 3) if left else matrix(*batch, 3, 4)
    both(lambda m, a, b: m.linalg.solve(a, b, left=left), a, b)
    both(
        lambda m, a, b: m.linalg.solve(a, b, left=left),
        a,
        b[..., :1, :, :] if len(batch) == 2 else b,
    )
    for upper in (True, False):
        for unit in (True, False):
            options = {"upper": upper, "left": left, "unitriangular": unit}
            both(
                lambda m, a, b, o=options: m.linalg.solve_triangular(a, b, **o),
                a,
                b,
                tolerance=1e-6,
            )


def test_equations_of_vectors():
    both(lambda m, a, b: m.linalg.solve(a, b), matrix(4, 4), matrix(4))
    both(lambda m, a, b: m.linalg.solve(a, b), matrix(2, 4, 4), matrix(2, 4))
    both(lambda m, a, b: m.linalg.solve(a, b), matrix(4, 4), matrix(2, 4, 3))


@pytest.mark.parametrize("batch", BATCHES)
def test_cholesky(batch):
    x, b = matrix(*batch, 4, 4, kind="positive"), matrix(*batch, 4, 2)
    both(lambda m, x: m.linalg.cholesky(x), x)
    both(lambda m, x: m.linalg.cholesky(x, upper=True), x)
    both(lambda m, x: m.linalg.cholesky_ex(x), x)
    both(lambda m, x, b: m.cholesky_solve(b, m.linalg.cholesky(x)), x, b)
    both(lambda m, x: m.cholesky_inverse(m.linalg.cholesky(x, upper=True), True), x)
    np.testing.assert_allclose(amity.tensor(x).cholesky(True).mT.numpy(), np.linalg.cholesky(x))
    bad = -x
    assert amity.linalg.cholesky_ex(amity.tensor(bad)).info.numpy().all()


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3), (2, 3, 4)])
def test_qr(shape):
    both(lambda m, x: m.linalg.qr(x), matrix(*shape))
    q, r = amity.qr(amity.tensor(matrix(*shape)))
    assert q.shape[-1] == r.shape[-2] == min(shape[-2:])
    both(lambda m, x: m.linalg.qr(x, "complete"), matrix(*shape), has_grad=shape[-1] >= shape[-2])
    both(lambda m, x: m.linalg.qr(x, "r"), matrix(*shape), has_grad=False)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("half", ["L", "U"])
def test_eigenvalues(batch, half):
    """Vectors up to their sign."""
    x = matrix(*batch, 4, 4, kind="positive")
    both(lambda m, x: m.linalg.eigh(x, half), x, view=lambda t: t * t)
    both(lambda m, x: m.linalg.eigvalsh(x, half), x)
    w, v = amity.linalg.eigh(amity.tensor(x), half)
    np.testing.assert_allclose(((v * w.unsqueeze(-2)) @ v.mT).numpy(), x, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3), (2, 3, 4)])
def test_singular_values(shape):
    x = matrix(*shape)
    both(lambda m, x: m.linalg.svd(x, full_matrices=False), x, view=lambda t: t * t)
    both(lambda m, x: m.svd(x), x, view=lambda t: t * t)
    both(lambda m, x: m.linalg.svdvals(x), x)
    u, s, vh = amity.linalg.svd(amity.tensor(x))
    k = min(shape[-2:])
    rebuilt = (u[..., :k] * s.unsqueeze(-2)) @ vh[..., :k, :]
    np.testing.assert_allclose(rebuilt.numpy(), x, atol=1e-12)
    assert u.shape[-1] == shape[-2] and vh.shape[-1] == shape[-1]


def test_equal_singular_values_have_gradients_of_values():
    x = amity.eye(3, dtype=amity.float64).requires_grad_()
    amity.linalg.svdvals(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.eye(3), atol=1e-12)


LU_SHAPES = [(4, 4), (5, 3), (3, 5), (1, 4), (4, 1), (2, 4, 4), (2, 6, 2), (2, 3, 2, 5)]


@pytest.mark.parametrize("shape", LU_SHAPES)
def test_lu(shape):
    both(lambda m, x: m.linalg.lu(x), matrix(*shape))


@pytest.mark.parametrize("shape", LU_SHAPES)
def test_lu_in_one_matrix(shape):
    both(lambda m, x: tuple(m.linalg.lu_factor(x)), matrix(*shape))
    both(lambda m, x: tuple(m.linalg.lu_factor_ex(x)), matrix(*shape))


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
@pytest.mark.parametrize(("a", "b"), [((4, 4), (4, 2)), ((2, 3, 3), (3, 4)), ((3, 3), (2, 3, 1))])
def test_solutions_from_lu(a, b, left, adjoint):
    b = b if left else (*b[:-2], b[-1], b[-2])

    def call(m, x, y):
        packed, pivots = m.linalg.lu_factor(x)
        return m.linalg.lu_solve(packed, pivots, y, left=left, adjoint=adjoint)

    both(call, matrix(*a), matrix(*b))
    both(lambda m, x, y: m.linalg.solve_ex(x, y, left=left)[0], matrix(*a), matrix(*b))


@pytest.mark.parametrize(
    ("shape", "count"), [((4, 4), 4), ((5, 3), 3), ((2, 4, 3), 2), ((3, 3), 1)]
)
def test_products_of_reflections(shape, count):
    tau = matrix(*shape[:-2], count)
    both(lambda m, x, t: m.linalg.householder_product(x, t), matrix(*shape), tau)


def test_zeros_on_the_diagonal_are_told():
    for lib in (amity, torch):
        x = lib.zeros(2, 3, 3)
        x[1] = lib.eye(3)
        assert lib.linalg.lu_factor_ex(x).info.tolist() == [1, 0]
        with pytest.raises(RuntimeError, match=r"lu_factor: .*U\[1,1\] is zero"):
            lib.linalg.lu_factor(x)
        assert lib.linalg.solve_ex(x[0], lib.ones(3, 1)).info.item() == 1
        with pytest.raises(lib.linalg.LinAlgError, match="singular"):
            lib.linalg.solve_ex(x[0], lib.ones(3, 1), check_errors=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.linalg.lu_factor(m.ones(3, 3), pivot=False), "without pivoting"),
        (
            lambda m: m.linalg.lu_solve(m.eye(3), m.ones(2, dtype=m.int32), m.eye(3)),
            "Number of pivots",
        ),
        (lambda m: m.linalg.lu_solve(m.eye(3), m.ones(3), m.eye(3)), "pivots should be"),
        (lambda m: m.linalg.lu_solve(m.eye(3), m.ones(3, dtype=m.int32), m.eye(2)), "Incompatible"),
        (lambda m: m.linalg.householder_product(m.ones(2, 3), m.ones(1)), "must be greater"),
        (lambda m: m.linalg.householder_product(m.ones(3, 2), m.ones(3)), "must be greater"),
    ],
)
def test_errors_of_packed_factors(call, says):
    for lib in (amity, torch):
        with pytest.raises(RuntimeError, match=says):
            call(lib)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 4, 4), (2, 5, 3)])
def test_pseudo_inverses_and_least_squares(shape):
    a, b = matrix(*shape), matrix(*shape[:-1], 2)
    both(lambda m, a: m.linalg.pinv(a), a)
    both(lambda m, a: m.linalg.matrix_rank(a), a, has_grad=False)
    options = {"driver": "gelsd"}
    both(lambda m, a, b: tuple(m.linalg.lstsq(a, b, **options)), a, b, has_grad=False)
    both(lambda m, a, b: m.linalg.lstsq(a, b).solution, a, b, tolerance=1e-6)


def test_ranks():
    x = np.outer(np.arange(4.0), np.ones(5))
    both(lambda m, x: m.linalg.matrix_rank(x), x, has_grad=False)
    both(lambda m, x: m.linalg.matrix_rank(x, atol=100.0), x, has_grad=False)
    both(lambda m, x: m.linalg.pinv(x), x, tolerance=1e-6)
    both(lambda m, x: m.linalg.pinv(x, hermitian=True), np.diag([1.0, -2, 0]), has_grad=False)


@pytest.mark.parametrize("order", ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf])
def test_matrix_norms(order):
    for dim in ((-2, -1), (0, 2), (2, 1)):
        for keepdim in (False, True):
            call = lambda m, x, d=dim, k=keepdim: m.linalg.matrix_norm(x, order, d, k)  # noqa: E731
            both(call, matrix(4, 3, 5))
    both(lambda m, x: m.linalg.norm(x, order), matrix(4, 3))
    if order != "nuc":
        x = matrix(2, 3, 3)
        both(lambda m, x: m.linalg.cond(x, order), x, has_grad=False)  # PyTorch's gradient fails
        x = amity.tensor(x).requires_grad_()
        assert amity.autograd.gradcheck(lambda x: amity.linalg.cond(x, order), (x,))


def test_vector_norms():
    for order in (None, 0, 1, 2, 2.5, -1, math.inf, -math.inf):
        both(lambda m, x, o=order: m.linalg.norm(x, o), matrix(7), has_grad=order != 0)
        both(lambda m, x, o=order: m.linalg.norm(x, o, dim=1), matrix(3, 4), has_grad=order != 0)
    both(lambda m, x: m.linalg.norm(x), matrix(3, 4, 2))
    both(lambda m, x: m.linalg.cond(x), matrix(5, 3))
    x = matrix(3, 4)
    np.testing.assert_allclose(amity.frobenius_norm(amity.tensor(x)).item(), np.linalg.norm(x))
    singular = np.linalg.svd(x, compute_uv=False)
    np.testing.assert_allclose(amity.nuclear_norm(amity.tensor(x)).item(), singular.sum())


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 3, 10])
def test_powers(n):
    both(lambda m, x: m.linalg.matrix_power(x, n), matrix(2, 3, 3), tolerance=1e-6)
    both(lambda m, x: x.matrix_power(n), matrix(3, 3), tolerance=1e-6)


@pytest.mark.parametrize("scale", [0, 1e-3, 1, 30])
def test_exponentials(scale):
    both(lambda m, x: m.linalg.matrix_exp(x * scale), matrix(2, 3, 3) / 3, tolerance=1e-6)
    small = matrix(3, 3, dtype=np.float32) * np.float32(scale / 10)
    both(lambda m, x: m.matrix_exp(x), small, has_grad=False, tolerance=1e-4)


def test_products():
    chain = [matrix(3, 40), matrix(40, 2), matrix(2, 30), matrix(30, 5)]
    both(lambda m, *ts: m.linalg.multi_dot(ts), *chain)
    both(lambda m, *ts: m.linalg.multi_dot(ts), matrix(3), matrix(3, 4), matrix(4))
    both(lambda m, *ts: m.linalg.vecdot(*ts, dim=0), matrix(3, 4), matrix(3, 4))
    both(lambda m, *ts: m.linalg.cross(*ts), matrix(2, 3), matrix(2, 3))
    both(lambda m, x: m.linalg.diagonal(x, offset=1), matrix(2, 3, 4))
    both(lambda m, x: m.linalg.vander(x, N=4), matrix(2, 3), has_grad=False)
    both(lambda m, a: m.linalg.tensorinv(a), matrix(2, 3, 6))
    both(lambda m, a, b: m.linalg.tensorsolve(a, b), matrix(2, 3, 6), matrix(2, 3))
    mine = amity.chain_matmul(*(amity.tensor(c) for c in chain)).numpy()
    np.testing.assert_allclose(mine, np.linalg.multi_dot(chain))


def test_no_rows():
    for name in ("inv", "cholesky", "svdvals", "det", "eigvalsh", "matrix_exp"):
        both(lambda m, x, n=name: getattr(m.linalg, n)(x), np.zeros((0, 3, 3)), has_grad=False)


def test_gradients_of_gradients():
    x = amity.tensor(matrix(3, 3, kind="positive")).requires_grad_()
    b = amity.randn(3, 2, dtype=amity.float64).requires_grad_()
    check = amity.autograd.gradgradcheck
    linalg = amity.linalg
    for f in (
        linalg.inv,
        linalg.det,
        linalg.pinv,
        lambda x: linalg.cholesky(x @ x.mT),
        linalg.matrix_exp,
    ):
        assert check(f, (x,))
    assert check(lambda x: linalg.slogdet(x)[1], (x,))
    assert check(lambda x: linalg.qr(x)[1], (x,))
    assert check(linalg.svdvals, (x,))
    assert check(linalg.solve, (x, b))


BAD = [
    (lambda m: m.linalg.inv(m.zeros(3, 4)), "square matrices, but they are 3 by 4"),
    (lambda m: m.linalg.inv(m.zeros(3)), "at least 2 dimensions"),
    (lambda m: m.linalg.inv(m.zeros(3, 3)), "singular"),
    (lambda m: m.linalg.inv(m.zeros(3, 3).long()), "Expected a floating point"),
    (lambda m: m.linalg.inv(m.zeros(3, 3).bfloat16()), "Low precision"),
    (lambda m: m.linalg.solve(m.zeros(3, 3), m.zeros(3, 3)), "singular"),
    (lambda m: m.linalg.solve(m.eye(3), m.zeros(4, 2)), "3x3 and 4x2"),
    (lambda m: m.linalg.solve(m.eye(3), m.zeros(3, 3).double()), "same dtype"),
    (lambda m: m.linalg.cholesky(-m.eye(3)), "not positive-definite"),
    (lambda m: m.linalg.eigh(m.eye(2), "X"), "UPLO"),
    (lambda m: m.linalg.eigh(m.full((3, 3), math.nan)), "failed to converge"),
    (lambda m: m.linalg.svd(m.full((3, 3), math.nan)), "non-finite"),
    (lambda m: m.linalg.svd(m.zeros(3)), "at least 2 dimensions"),
    (lambda m: m.linalg.qr(m.zeros(3, 4), "foo"), "unrecognized mode 'foo'"),
    (lambda m: m.linalg.matrix_norm(m.zeros(3, 4), "foo"), "Order foo not supported"),
    (lambda m: m.linalg.norm(m.zeros(3, 4), 7), "Order 7 not supported"),
    (lambda m: m.linalg.norm(m.zeros(3, 3, 3), 2, dim=(0, 1, 2)), "length 1 or 2"),
    (lambda m: m.linalg.lstsq(m.zeros(3, 4), m.zeros(5, 2)), "should match"),
    (lambda m: m.linalg.multi_dot([m.eye(3)]), "at least 2 tensors"),
    (lambda m: m.linalg.cross(m.zeros(3, 3), m.zeros(3, 4)), "must have length 3"),
    (lambda m: m.linalg.cond(m.zeros(3, 4), 1), "square"),
    (lambda m: m.linalg.vander(m.zeros(3), N=1), "greater than 1"),
]


@pytest.mark.parametrize("call, says", BAD)
def test_errors(call, says):
    with pytest.raises(RuntimeError, match=says):
        call(torch)
    with pytest.raises(RuntimeError, match=says):
        call(amity)


def test_singular_matrices_raise_their_own_class():
    with pytest.raises(amity.linalg.LinAlgError, match=r"linalg.inv: \(Batch element 0\)"):
        amity.linalg.inv(amity.zeros(2, 3, 3))
