"""Ready parametrizations: weight norm, spectral norm, orthogonal matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amity import ops
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.autograd import Function
from amity.frontend.grad_mode import no_grad
from amity.frontend.tensor import Tensor
from amity.nn.conv import _ConvTranspose
from amity.nn.module import Module
from amity.nn.utils.parametrize import register_parametrization


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The 2-norm over all dimensions but `dim`, or over all for -1.

    shape: v[*] -> the same number of dimensions, sizes 1 but at `dim`; [] for -1
    """
    if dim == -1:
        return (v * v).sum().sqrt()
    others = [i for i in range(v.dim()) if i != dim % v.dim()]
    return (v * v).sum(others, keepdim=True).sqrt() if others else v.abs()


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a weight into its length `original0` and its direction `original1`.

    source: Salimans & Kingma 2016, arXiv:1602.07868
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    new = {f"{name}_{s}": f"parametrizations.{name}.original{i}" for i, s in enumerate("gv")}

    def rename(state_dict: dict, prefix: str, *rest: Any) -> None:
        """Checkpoints of the older weight norm have other names."""
        if all(prefix + old in state_dict for old in new):
            for old, key in new.items():
                state_dict[prefix + key] = state_dict.pop(prefix + old)

    module._register_load_state_dict_pre_hook(rename)
    return module


class _SpectralNorm(Module):
    """Divides a matrix by its largest singular value, which power iteration estimates."""

    def __init__(
        self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        ndim = weight.dim()
        if not -ndim <= dim < ndim:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but "
                f"got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                "Expected n_power_iterations to be positive, but got "
                f"n_power_iterations={n_power_iterations}"
            )
        self.dim, self.eps = dim % ndim, eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._matrix(weight)
            rows, columns = matrix.shape
            options = {"dtype": weight.dtype, "device": weight.device}
            u, v = create.empty(rows, **options), create.empty(columns, **options)
            self.register_buffer("_u", ops.normalize(u.normal_(0, 1), dim=0, eps=eps))
            self.register_buffer("_v", ops.normalize(v.normal_(0, 1), dim=0, eps=eps))
            self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix whose rows run along `dim`."""
        if self.dim:
            weight = weight.movedim(self.dim, 0)
        return weight.flatten(1)

    def _iterate(self, matrix: Tensor, count: int) -> None:
        with no_grad():
            for _ in range(count):
                self._u.copy_(ops.normalize(ops.mv(matrix, self._v), dim=0, eps=self.eps))
                self._v.copy_(ops.normalize(ops.mv(matrix.t(), self._u), dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.dim() == 1:
            return ops.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix.detach(), self.n_power_iterations)
        # copies: a later forward changes the buffers while this one may still be differentiated
        u, v = self._u.clone(), self._v.clone()
        return weight / ops.dot(u, ops.mv(matrix, v))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value.

    source: Miyato et al. 2018, arXiv:1802.05957
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if isinstance(module, _ConvTranspose) else 0
    chain = _SpectralNorm(weight, n_power_iterations, dim, eps)
    return register_parametrization(module, name, chain)


def _matrix_exp(a: Tensor) -> Tensor:
    """The exponential of a matrix, by scaling, a Taylor series and squaring.

    source: Moler & Van Loan 2003, SIAM Review 45(1), method 3
    """
    size = float(a.detach().abs().sum(-1).max()) if a.numel() else 0.0
    halvings = max(0, math.ceil(math.log2(size)) + 2) if size > 0 else 0
    a = a / 2.0**halvings
    term = create.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    out = term + a
    term = a
    for k in range(2, 13):  # the norm is at most 1/4: the 13th term is below 1e-17
        term = term @ a / k
        out = out + term
    for _ in range(halvings):
        out = out @ out
    return out


def _householder_product(a: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of the reflections I - tau v v^T, v the columns of a."""
    n, k = a.shape[-2:]
    eye = create.eye(n, k, dtype=a.dtype, device=a.device)
    v = a.tril(-1) + eye
    out = eye
    for i in reversed(range(k)):
        column = v[..., :, i : i + 1]
        out = out - tau[..., i, None, None] * (column @ (column.transpose(-2, -1) @ out))
    return out


def _orthogonalize(a: Tensor) -> Tensor:
    """The nearest factor of `a`: its Q with the signs of R's diagonal."""
    q, r = np.linalg.qr(a._array())
    signs = np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -1, 1)
    q = np.ascontiguousarray(q * signs[..., None, :])
    return create.from_numpy(q).to(device=a.device, dtype=a.dtype)


def _is_orthogonal(q: Tensor) -> bool:
    k = q.shape[-1]
    array = q._array()
    eps = 10 * k * np.finfo(array.dtype).eps
    return np.allclose(np.swapaxes(array, -1, -2) @ array, np.eye(k), atol=eps)


class _Orthogonal(Module):
    """Maps any matrix to one with orthonormal columns, or rows if it has fewer."""

    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool) -> None:
        super().__init__()
        self.shape, self.orthogonal_map = tuple(weight.shape), orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        is_wide = X.shape[-2] < X.shape[-1]
        if is_wide:
            X = X.transpose(-2, -1)
        n, k = X.shape[-2:]
        if self.orthogonal_map == "householder":
            A = X.tril(-1)
            tau = 2.0 / (1.0 + (A * A).sum(-2))
            Q = _householder_product(A, tau)
            # the signs on the diagonal let an assigned matrix be reached
            Q = Q * X.diagonal(dim1=-2, dim2=-1).sign().detach().unsqueeze(-2)
        else:
            X = X.tril()
            if n != k:
                X = ops.pad(X, (0, n - k))
            A = X - X.transpose(-2, -1)
            Q = _matrix_exp(A) if self.orthogonal_map == "matrix_exp" else _cayley(A)
            Q = Q[..., :k]
        if getattr(self, "base", None) is not None:
            Q = self.base @ Q
        return Q.transpose(-2, -1) if is_wide else Q

    def right_inverse(self, Q: Tensor) -> Tensor:
        if tuple(Q.shape) != self.shape:
            raise ValueError(
                "Expected a matrix or batch of matrices of shape "
                f"{self.shape}. Got a tensor of shape {tuple(Q.shape)}."
            )
        has_base = "base" in self._buffers
        if not has_base and self.orthogonal_map != "householder":
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley "
                "parametrizations when use_trivialization=False."
            )
        is_wide = Q.shape[-2] < Q.shape[-1]
        tall = Q.transpose(-2, -1) if is_wide else Q
        n, k = tall.shape[-2:]
        if not has_base:
            A = _reflections(tall)
            return A.transpose(-2, -1).contiguous() if is_wide else A
        if n != k:
            shape = (*tall.shape[:-1], n - k)
            noise = create.empty(shape, dtype=Q.dtype, device=Q.device).normal_(0, 1)
            self.base = _orthogonalize(ops.cat([tall, noise], -1))
        else:
            self.base = tall.clone() if _is_orthogonal(tall) else _orthogonalize(tall)
        start = create.zeros(Q.shape, dtype=Q.dtype, device=Q.device)
        start.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
        return start


def _reflections(q: Tensor) -> Tensor:
    """The matrix below whose diagonal are the reflections of q, with the signs to reach q."""
    arrays = q._array().astype(np.float64)
    out = np.empty_like(arrays)
    for index in np.ndindex(arrays.shape[:-2]):
        h, tau = np.linalg.qr(arrays[index], mode="raw")
        a = h.T.copy()
        i = np.arange(a.shape[1])
        a[i, i] = np.sign(a[i, i]) * np.where(tau == 0, -1, 1)
        out[index] = a
    return create.from_numpy(out).to(device=q.device, dtype=q.dtype)


class _Solve(Function):
    """a^-1 b."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        x = np.linalg.solve(a._array(), b._array())
        x = create.from_numpy(x).to(device=a.device, dtype=a.dtype)
        ctx.save_for_backward(a, x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        a, x = ctx.saved_tensors
        g = _Solve.apply(a.transpose(-2, -1), g)
        return -g @ x.transpose(-2, -1), g


def _cayley(a: Tensor) -> Tensor:
    """(I - A / 2)^-1 (I + A / 2), orthogonal for a skew-symmetric A."""
    eye = create.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return _Solve.apply(eye - 0.5 * a, eye + 0.5 * a)


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """Keep a matrix, or a batch of them, orthogonal.

    source: Lezcano-Casado 2019, arXiv:1909.09501
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.dim() < 2:
        raise ValueError(
            f"Expected a matrix or batch of matrices. Got a tensor of {weight.dim()} dimensions."
        )
    if orthogonal_map is None:
        is_square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if is_square else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        expected = "one of matrix_exp, cayley, householder"
        raise fail(ValueError, "orthogonal", f"orthogonal_map={orthogonal_map!r}", expected)
    chain = _Orthogonal(weight, orthogonal_map, use_trivialization)
    return register_parametrization(module, name, chain, unsafe=True)
