"""Picking, placing, ordering and counting against PyTorch: values, gradients, dtypes, errors."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import BUILTIN, array_of, evaluate, match, of_torch  # noqa: E402

INPUTS = {
    "x": "float64[3,4]", "z": "float64[3,4]", "v": "float64[6]", "w": "float64[2,3,4]", "s": "float64[]",
    "e": "float64[0,3]", "i": "int64[3,4]|p",
}  # fmt: skip
# `g` is an index into x along 0, `h` along 1, `k` one for vectors, `b` a mask of x
NAMES = """
g = [[0, 2, 1], [2, 2, 0]]; h = [[3, 0], [1, 1], [2, 3]]; k = [0, 2, 2]; b = [[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]]
""".strip()
PICK = """
gather(x, 0, g), gather(x, 1, h), gather(x, -1, h), x.gather(-2, g), gather(s, 0, tensor(0))
gather(s, 0, tensor([0, 0])), gather(x, 0, g[:0]), gather(x, 1, h[:, :0]), gather(x.T, 1, g.T)
gather(w, 1, w.long() * 0 + 2), gather(x, 0, g, sparse_grad=False), gather(v, 0, tensor(3))
gather(x, dim=1, index=h), gather(x[:, ::2], 1, h[:, 1:] * 0 + 1), gather(x, 1, h.T.contiguous().T)
gather(e, 1, e.long()), gather(i, 0, g), gather(x, 0, g.int()), gather(x > 0, 0, g), index_select(x, 0, k)
index_select(x, 1, k), x.index_select(-1, k), index_select(x, 0, k[:0]), index_select(s, 0, tensor([0]))
index_select(x.T, 0, k), index_select(x, 0, tensor(1)), index_select(x, 1, k.int()), index_select(w, 2, k)
index_select(i, 0, k), index_select(e, 1, k), index_select(s, 0, tensor(0))
index_select(x[:, ::2], 1, tensor([1, 0, 1])), take(x, g), take(x, tensor(-1)), take(x, tensor([])[:0].long())
x.take(tensor([11, -12, 3])), take(x.T, g), take(i, k), take(s, tensor([0, -1])), take_along_dim(x, h, 1)
take_along_dim(x, g[:, :1], 0), take_along_dim(x, tensor([5, 0, 3])), take_along_dim(w, argsort(w, 1), 1)
x.take_along_dim(h[:1], dim=-1), take_along_dim(x, argsort(x, dim=1), dim=1)
take_along_dim(x[:1], g.expand(2, 3)[:, :1], 1), take_along_dim(x, h - 4, 1), masked_select(x, b)
masked_select(x, b[0]), masked_select(x[0], b), x.masked_select(x > 99), masked_select(s, s == s)
masked_select(x.T, b.T), masked_select(e, e > 0), masked_select(i, b), masked_select(x[:, :1], b), nonzero(x)
nonzero(b), b.nonzero(), nonzero(s), nonzero(b, as_tuple=True), nonzero(s, as_tuple=True), nonzero(e)
nonzero(i * 0), nonzero(b.T), nonzero(v > 99, as_tuple=True), argwhere(b), argwhere(s), argwhere(s * 0)
argwhere(e), b.argwhere(), nonzero(s * 0), nonzero(x[:, ::2] > 0), argwhere(w > 0), nonzero_static(b, size=4)
nonzero_static(b, size=9, fill_value=-7), b.nonzero_static(size=2), nonzero_static(b, size=0)
nonzero_static(s, size=2), b.flatten().nonzero_static(size=8), where(b), where(s), where(b, x, z)
where(b, x, 0), where(b, 1, z), where(b, 1.5, 2), where(b, 1, 2), where(b[0], x, s), where(b, x, z.to(float32))
where(b, i, x), where(b, True, False), where(b[:, :1], x[:1], z), where(s > 9, x, z), where(e > 0, e, e)
x.where(b, z), x.where(b, 0), where(b, x.T.contiguous().T, z), where(b, tensor(1), x.to(float32))
where(b, tensor(1.5), i), where(b, i, 2.5)
""".strip().splitlines()
PLACE = """
scatter_reduce(x, 0, g, z[:2, :3] * (z[:2, :3] > 0), 'prod'), scatter_reduce(x * 0, 0, g, z[:2, :3] * 0, 'prod')
scatter_reduce(x * 0, 0, g, z[:2, :3] * 0, 'prod', include_self=False), scatter(x, 0, g, z[:2, :3])
scatter(x, 1, h, 2.5), x.scatter(-1, h, z[:, :2]), scatter(x, 0, tensor([[0, 2, 1, 0]]), z[:1])
scatter(x, 1, h, value=-1), scatter(s, 0, tensor(0), s * 2), scatter(x, 0, g[:0], z[:0, :3])
scatter(i, 0, tensor([[1, 2]]), i), scatter(x.T, 1, tensor([[0, 1]]), z.T[:1, :2])
scatter(x, dim=0, index=tensor([[1]]), src=z[:1, :1]), scatter(i, 0, g, 2.7), scatter(s, 0, tensor([0]), 3)
scatter(e, 0, e.long(), 1.0), scatter_add(x, 0, g, z[:2, :3]), scatter_add(x, 1, h, z[:, :2])
scatter_add(s, 0, tensor(0), s), scatter_add(x, 0, g[:0], z[:0, :3]), scatter_add(i, 0, g, i)
scatter_add(x, -1, h, z[:, :2]), scatter_add(s, 0, tensor([0]), v[:1]), scatter_add(x.T, 0, h.T, z[:, :2].T)
scatter_add(x, 0, g, z[:1, :1].expand(2, 3)), x.scatter_add(0, tensor([[1, 1, 1]]), z[:1, :3])
scatter_reduce(x, 0, g, z[:2, :3], 'sum'), scatter_reduce(x, 0, g, z[:2, :3], 'mean')
scatter_reduce(x, 0, g, z[:2, :3], 'amax'), scatter_reduce(x, 0, g, z[:2, :3], 'amin')
scatter_reduce(x, 0, g, z[:2, :3], 'prod'), scatter_reduce(x, 1, h, z[:, :2], 'sum', include_self=False)
scatter_reduce(x, 1, h, z[:, :2], 'mean', include_self=False)
scatter_reduce(x, 1, h, z[:, :2], 'amax', include_self=False)
scatter_reduce(x, 1, h, z[:, :2], 'amin', include_self=False)
scatter_reduce(x, 1, h, z[:, :2], 'prod', include_self=False), scatter_reduce(i, 0, g, i, 'mean')
scatter_reduce(i, 0, g, i, 'prod', include_self=False), scatter_reduce(i, 1, h, i, 'amin')
scatter_reduce(i, 1, h, i, 'amax', include_self=False)
scatter_reduce(x, 0, g[:0], z[:0, :3], 'amax', include_self=False)
scatter_reduce(s, 0, tensor(0), s + 1, 'mean'), scatter_reduce(x * 0, 0, g, z[:2, :3], 'prod')
scatter_reduce(x * 0, 0, g, z[:2, :3] * 0, 'amax'), scatter_reduce(x, 0, g, z[:1, :3].expand(2, 3), 'amin')
scatter_reduce(-i, 0, g, i, 'mean'), index_add(x, 0, k, z), index_add(x, 1, k, z[:, :3])
x.index_add(-1, k, z[:, 1:], alpha=2), index_add(x, 0, k[:0], z[:0]), index_add(i, 0, k, i, alpha=3)
index_add(s, 0, tensor([0]), s), index_add(x, 0, k.int(), z), index_add(x.T, 1, k, z.T)
index_add(v, 0, k, v[:3]), index_add(s, 0, tensor(0), s), index_add(x, 0, tensor([0, 2, 2]), z, alpha=-0.5)
index_add(x, 0, tensor(1), z[:1]), index_add(e, 1, k, e), index_copy(x, 0, tensor([2, 0, 1]), z)
index_copy(x, 1, tensor([3, 1]), z[:, :2]), index_copy(x, 0, k[:0], z[:0])
x.index_copy(-1, tensor([0]), z[:, 3:]), index_copy(s, 0, tensor([0]), s * 3)
index_copy(i, 0, tensor([1]), i[:1]), index_copy(v, 0, tensor(2), s), index_copy(v, 0, tensor([2]), v[:1])
index_fill(x, 0, k, 2.5), index_fill(x, 1, k, s), x.index_fill(-1, k, 0), index_fill(x, 0, k[:0], 1.0)
index_fill(i, 1, k, 7), index_fill(s, 0, tensor([0]), 2.0), index_fill(x, 0, tensor(1), 3.0)
index_fill(x.T, 0, k, 1), index_fill(i, 0, k, 2.7), index_fill(x > 0, 0, k, True)
index_fill(x, 0, tensor([-1, 0]), 9.0), index_reduce(x, 0, k, z, 'prod'), index_reduce(x, 0, k, z, 'mean')
index_reduce(x, 1, k, z[:, :3], 'amax'), index_reduce(x, 0, k, z, 'amin', include_self=False)
index_reduce(x, 0, k, z, 'mean', include_self=False), index_reduce(i, 0, k, i, 'amin')
index_reduce(i, 0, k, i, 'prod', include_self=False), index_put(x, (k,), z)
index_put(x, (k, tensor([1, 0, 3])), v[:3]), index_put(x, (k, k), s, accumulate=True), index_put(x, (b,), s)
x.index_put((g,), z[0], accumulate=True), index_put(x, (k[:0],), z[:0]), index_put(x, (k,), z, accumulate=True)
index_put(x, (tensor(-1),), z[0]), index_put(i, (k,), i, accumulate=True)
index_put(x, [k.int(), k.int()], v[3:]), index_put(x, (tensor([True, False, True]),), z[:2])
index_put(x, (k[:, None], k), z[:, :3], accumulate=True), x.index_put(indices=(k,), values=z)
x.put(tensor([0, -1, 5]), v[:3]), x.put(g, v, accumulate=True), put(x, k[:0], v[:0])
x.T.put(tensor([1, 5]), v[:2]), i.put(k, i[0, :3], True), put(s, tensor([0]), v[:1]), masked_fill(x, b, 2.5)
masked_fill(x, b, s), masked_fill(x, b[0], -inf), masked_fill(i, b, 7), x.masked_fill(b[:, :1], 0)
masked_fill(e, e > 0, 1.0), masked_fill(s, s == s, 3), masked_fill(x, s == s, 1.0), masked_fill(i, b, 2.0)
masked_fill(x[0], b, 1.0), masked_fill(x, b, tensor(3)), masked_fill(x > 0, b, True), masked_fill(x.T, b.T, 1.0)
masked_fill(i, b, tensor(2.5)), masked_scatter(x, b, z), masked_scatter(x, b[0], z), x.masked_scatter(x > 99, z)
masked_scatter(s, s == s, v), masked_scatter(i, b, i), masked_scatter(e, e > 0, v), masked_scatter(x.T, b.T, z)
masked_scatter(x[0], b, z)
""".strip().splitlines()
FORWARD = """
scatter(x, 0, g, z), x.scatter(-1, h, z), scatter(x, 0, tensor([[0, 2, 1, 0]]), z), scatter(x, 0, g[:0], z)
scatter(x, 1, tensor([[0, 1], [2, 3], [1, 0]]), z, reduce='add'), scatter(x, 0, g, 2.0, reduce='multiply')
scatter(x, 0, g, 2.0, reduce='add'), scatter(x.T, 1, tensor([[0, 1]]), z.T)
scatter(x, dim=0, index=tensor([[1]]), src=z), scatter_add(x, 0, g, z), scatter_add(x, 1, h, z)
scatter_add(x, 0, g[:0], z), scatter_add(x, -1, h, z), scatter_add(x.T, 0, h.T, z.T)
scatter_add(x, 0, g, z.expand(3, 4)), x.scatter_add(0, tensor([[1, 1, 1]]), z)
scatter_reduce(x, 0, g, z, 'sum'), scatter_reduce(x, 0, g, z, 'mean'), scatter_reduce(x, 0, g, z, 'amax')
scatter_reduce(x, 0, g, z, 'amin'), scatter_reduce(x, 0, g, z, 'prod')
scatter_reduce(x, 1, h, z, 'sum', include_self=False), scatter_reduce(x, 1, h, z, 'mean', include_self=False)
scatter_reduce(x, 1, h, z, 'amax', include_self=False), scatter_reduce(x, 1, h, z, 'amin', include_self=False)
scatter_reduce(x, 1, h, z, 'prod', include_self=False)
scatter_reduce(x, 0, g[:0], z, 'amax', include_self=False), scatter_reduce(x, 0, g, x[:2] * 0, 'prod')
scatter_reduce(x * 0, 0, g, z, 'prod'), scatter_reduce(x * 0, 0, g, z * 0, 'amax')
scatter_reduce(x, 0, g, z[:1].expand(2, 4), 'amin'), index_add(i, 0, k, i, alpha=2)
""".strip().splitlines()
ORDER = """
sort(x), sort(x, 0), sort(x, -1, True), x.sort(descending=True), sort(s), sort(e), sort(e, 0)
sort(x, dim=1, stable=True), sort(x, stable=True), sort(x.T, 0), sort(i, 1), sort(x > 0, stable=True)
sort(s, 0, True), sort(x, stable=False, dim=0, descending=True), sort(x[:, ::2], 1), x.sort(0).values
x.sort(0)[1], msort(x), msort(w), x.msort(), msort(e), argsort(x), argsort(x, 0, True)
argsort(i, dim=1, stable=True), argsort(s), argsort(x, dim=0, descending=True, stable=True), x.argsort(-2)
argsort(e), argsort(i, stable=True, dim=0, descending=True), topk(x, 2), topk(x, 3, 0)
topk(x, 2, largest=False), topk(x, 0), topk(v, 6), topk(s, 1), topk(x, 2, -1, False, True), x.topk(1, dim=0)
topk(e, 0), topk(e, 0, 1), topk(x.T, 2, 0), topk(w, 2, 1), topk(s, 0), kthvalue(x, 1), kthvalue(x, 3, 0)
kthvalue(x, 4, 1, True), kthvalue(s, 1), kthvalue(v, 6), x.kthvalue(2, dim=-1, keepdim=True), kthvalue(w, 2, 1)
kthvalue(e.T, 1, 0), unique(i), unique(i, return_inverse=True), unique(i, return_counts=True)
unique(i, True, True, True), unique(i % 2, dim=0), unique(i % 2, dim=1, return_inverse=True, return_counts=True)
unique(x > 0), unique(e), unique(s), i.unique(), unique(e, return_inverse=True, return_counts=True)
unique(s, return_inverse=True, return_counts=True), unique(i.T % 3, return_inverse=True)
unique(i % 2, dim=-1, return_counts=True), unique(tensor([nan, 1.0, nan])), unique(i.to(uint8))
unique(x, sorted=True), unique_consecutive(i // 3)
unique_consecutive(i // 3, return_inverse=True, return_counts=True), unique_consecutive(i // 3, dim=0)
unique_consecutive(i // 5, return_counts=True, dim=1), unique_consecutive(e)
unique_consecutive(s, return_inverse=True, return_counts=True), unique_consecutive(x > 0)
unique_consecutive(tensor([nan, nan, 1.0, 1.0])), i.unique_consecutive(return_inverse=True)
unique_consecutive(e, return_inverse=True, return_counts=True)
unique_consecutive(i.T // 3, return_inverse=True), unique_consecutive(i // 9, return_inverse=True, dim=0)
unique_consecutive(i // 5, dim=-1, return_inverse=True), searchsorted(sort(v)[0], x)
searchsorted(sort(v)[0], x, right=True), searchsorted(sort(v)[0], 0.5), searchsorted(sort(x)[0], z)
searchsorted(sort(v)[0], v, side='right'), searchsorted(sort(v)[0], s), searchsorted(v, v, sorter=argsort(v))
searchsorted(sort(v)[0], v, out_int32=True), searchsorted(e[:, 0], v), searchsorted(sort(v)[0], e)
searchsorted(sort(i)[0], i), searchsorted(tensor([1.0, 2, 2, 4]), tensor([2.0, nan, 3]))
searchsorted(tensor([1, 2, 2, 5]), 2, side='left', right=False)
searchsorted(tensor([1.0, 2, 2, 4]), tensor([2.0, nan, 3]), right=True), searchsorted(sort(w)[0], w[:, :, :2])
searchsorted(sort(v)[0], nan), searchsorted(sorted_sequence=sort(v)[0], input=x.T)
searchsorted(sort(x)[0].T.contiguous().T, z), bucketize(x, sort(v)[0]), bucketize(0.3, sort(v)[0])
bucketize(x, sort(v)[0], right=True, out_int32=True), bucketize(i, tensor([2, 4, 6])), bucketize(s, sort(v)[0])
bucketize(e, sort(v)[0]), bucketize(tensor([nan, inf]), tensor([0.0, 1.0])), bucketize(3, tensor([1, 3, 5]))
bincount(i[0]), bincount(i[0], minlength=20), bincount(i[0], x[0]), bincount(i[0], x[0].float())
bincount(i[0][:0]), bincount(i[0][:0], minlength=3), bincount(i[0].int(), i[1]), bincount(i[0].to(uint8))
i[1].bincount(), bincount(i[:, 0], minlength=2), bincount(i[0][:0], x[0][:0]), bincount(i[0], x[0].half())
bincount(i[0], x[0] > 0), histc(x), histc(x, 4), histc(x, 5, -1, 1), x.histc(bins=3, min=0, max=2), histc(e, 3)
histc(s, 4), histc(ones(3), 2), histc(x.float(), 6), histc(x, 3, 0, 0), histc(x, 4, -1.5, 1.5)
histc(tensor([0.0, 1.0, 2.0]), 2, 0, 2), histc(tensor([nan, 1.0]), 2, 0, 2), histogram(x, 4)
histogram(x, 3, range=(-1, 1)), histogram(x, tensor([-2.0, 0, 1, 3], dtype=float64)), histogram(x, 3, weight=z)
x.histogram(2, range=(0.0, 1.0), density=True), histogram(x, 5, weight=z, density=True), histogram(ones(3), 2)
histogram(e, 3), histogramdd(x[:, :2], [2, 3]), histogramdd(x[:, :2], bins=[2, 2], range=[-1.0, 1, 0, 2])
histogramdd(w, bins=(2, 2, 2, 2), density=True), histogramdd(x[:, :1], [tensor([-1.0, 0, 1], dtype=float64)])
histogramdd(x[:, :2], 3), histogramdd(x[:, :2], [2, 2], weight=x[:, 0]), isin(i, tensor([1, 2, 3])), isin(i, 3)
isin(3, i), isin(x, x[0]), isin(i, tensor([])[:0].long()), isin(i, k, invert=True)
isin(i, k, assume_unique=True), isin(e, x), isin(tensor([nan]), tensor([nan])), isin(s, x), isin(i.float(), k)
count_nonzero(x), count_nonzero(i * 0), count_nonzero(b, 0), count_nonzero(b, (0, 1)), count_nonzero(s)
count_nonzero(e, 0), mode(i), mode(i, 0), mode(x, -1, True), mode(s), mode(i.T, 0), mode(x > 0)
""".strip().splitlines()
WORDS = """
F.one_hot(k), F.one_hot(k, 5), F.one_hot(g, num_classes=3), F.one_hot(tensor(2)), F.one_hot(k[:0], 4)
F.one_hot(i), F.embedding(k, x), F.embedding(g, x), F.embedding(tensor(1), x), F.embedding(k, x, padding_idx=2)
F.embedding(k, x, padding_idx=-1), F.embedding(k[:0], x), F.embedding(k.int(), x)
F.embedding(g, x, scale_grad_by_freq=True), F.embedding(k, x.T), F.embedding(g.T, x), F.embedding(k, x[:, ::2])
F.embedding(k, x[:, :0]), F.embedding(k, x.detach().clone(), max_norm=1.0)
F.embedding(k, x.detach().clone(), max_norm=0.5, norm_type=1.0), F.embedding_bag(g, x)
F.embedding_bag(g, x, mode='sum'), F.embedding_bag(g, x, mode='max'), F.embedding_bag(g[0], x, tensor([0, 1]))
F.embedding_bag(g[0], x, tensor([0, 0, 3]), mode='sum'), F.embedding_bag(g[0], x, tensor([0, 2]), mode='max')
F.embedding_bag(g, x, mode='sum', per_sample_weights=z[:2, :3]), F.embedding_bag(g, x, padding_idx=2)
F.embedding_bag(g[0], x, tensor([0, 1, 3]), include_last_offset=True), F.embedding_bag(g.int(), x)
F.embedding_bag(g[:0], x), F.embedding_bag(g, x, padding_idx=0, mode='max')
F.embedding_bag(g[0], x, tensor([0, 2]), mode='sum', per_sample_weights=v[:3])
F.embedding_bag(k[:0], x, tensor([0, 0])), F.embedding_bag(g, x, padding_idx=-1, mode='sum')
""".strip().splitlines()
ERRORS = """
gather(x, 0, tensor([[3]])), gather(x, 0, tensor([[-1]])), gather(x, 2, g), gather(x, 0, g[0])
gather(x, 0, g.float()), gather(x, 1, tensor([[0]] * 4)), gather(v, 0, g), gather(s, 0, tensor([[0]]))
gather(x, 0, g.to(int16)), gather(s, 1, tensor(0)), gather(e, 0, tensor([[0]])), gather(x, 0, b)
gather(s, 0, tensor(1)), gather(x, 0, 1), scatter(x, 0, tensor([[3]]), z), scatter(x, 0, tensor([[-1]]), z)
scatter(x, 0, g, z.float()), scatter(x, 0, g[0], z), scatter(x, 2, g, z), scatter(x, 0, g, z[:1])
scatter(x, 0, g, z, reduce='mean'), scatter(x, 0, g), scatter(x, 0, g.float(), z)
scatter(x, 1, g.T.contiguous(), z[:1]), scatter(x, 0, g, i), scatter(x, 1, tensor([[0]] * 4), 1.0)
scatter(x, 0, g, None), scatter(x, 0, g.int() * 2.5, 1), scatter_add(x, 0, tensor([[3]]), z)
scatter_add(x, 0, g, z.float()), scatter_add(x, 0, g, z[:, :2]), scatter_add(x, 0, g, 1.0)
scatter_add(x, 0, g.float(), z), scatter_add(x, 0, g[0], z), scatter_add(x, 5, g, z)
scatter_reduce(x, 0, g, z, 'add'), scatter_reduce(x, 0, tensor([[5]]), z, 'sum')
scatter_reduce(x, 0, g, z.float(), 'sum'), scatter_reduce(x, 0, g, z), scatter_reduce(x, 0, g[0], z, 'sum')
scatter_reduce(x, 0, g, 1.0, 'sum'), index_select(x, 0, tensor([3])), index_select(x, 0, tensor([-1]))
index_select(x, 0, g), index_select(x, 2, k), index_select(x, 0, k.float()), index_select(s, 0, k)
index_select(s, 0, tensor([1])), index_select(x, 0, b[0]), index_select(x, 0, 1), index_select(e, 0, k)
index_select(x, 0, k.to(int16)), index_add(x, 0, tensor([3]), z[:1]), index_add(x, 0, k, z[:2])
index_add(x, 0, k, z[:, :2]), index_add(x, 0, g, z), index_add(x, 0, k, z.float())
index_add(x, 0, k.float(), z), index_add(x, 2, k, z), index_add(x, 0, tensor([-1]), z[:1])
index_add(x, 0, k, v[:3]), index_copy(x, 0, tensor([3]), z[:1]), index_copy(x, 0, k, z[:2])
index_copy(x, 0, k, z.float()), index_copy(x, 0, k, z[:, :2]), index_copy(x, 0, k.int(), z)
index_copy(x, 0, k.float(), z), index_copy(x, 0, g, z), index_copy(x, 0, tensor([-1]), z[:1])
index_copy(x, 0, k, v[:3]), index_copy(x, 3, k, z), index_fill(x, 0, tensor([3]), 1.0)
index_fill(x, 0, tensor([-4]), 1.0), index_fill(x, 0, k.float(), 1.0), index_fill(x, 0, g, 1.0)
index_fill(x, 0, k, v), index_fill(x, 2, k, 1.0), index_fill(x, 0, k.int(), 1.0)
index_reduce(x, 0, k, z, 'sum'), index_reduce(x, 0, tensor([3]), z[:1], 'prod')
index_reduce(x, 0, k, z[:2], 'prod'), index_reduce(x, 0, k, z.float(), 'prod'), index_put(x, (tensor([3]),), s)
index_put(x, (tensor([-4]),), s), index_put(x, (k, tensor([0, 1])), s), index_put(x, (k,), v)
index_put(x, (k,), z.float()), index_put(x, (k.float(),), s), index_put(x, (k, k, k), s)
index_put(x, (b[0],), s), index_put(x, (k,), 1.0), index_put(x, k, s), x.put(tensor([12]), v[:1])
x.put(tensor([-13]), v[:1]), x.put(k, v), x.put(k.float(), v[:3]), x.put(k, v[:3].float())
x.put(k.int(), v[:3]), take(x, tensor([12])), take(x, tensor([-13])), take(x, k.float()), take(x, k.int())
take(e, k), take(x, 1), take_along_dim(x, k, 0), take_along_dim(x, h.float(), 1), take_along_dim(x, h.int(), 1)
take_along_dim(x, h[:2], 1), take_along_dim(x, h, 2), masked_fill(x, i, 1.0), masked_fill(x, b, v)
masked_fill(x, b[:, :2], 1.0), masked_fill(x, b, None), masked_fill(x, tensor([True] * 3), 1.0)
masked_fill(x, b.to(uint8), 1.0), masked_fill(i, b, inf), masked_fill(x, b, 'a'), masked_select(x, i)
masked_select(x, b[:, :2]), masked_select(x, b.to(uint8)), masked_select(x, True), masked_scatter(x, b, v[:2])
masked_scatter(x, i, z), masked_scatter(x, b, z.float()), masked_scatter(x, b[:2], z)
masked_scatter(x, b.to(uint8), z), masked_scatter(x, b, 1.0), nonzero_static(b, size=-1), nonzero_static(b)
where(x, x, z), where(i, x, z), where(b, x), where(b, x, v), where(b, None, x), where(x.float(), 1, 2)
x.where(b), sort(x, 2), sort(x, -3), sort(s, 1), argsort(x, 2), topk(x, 5), topk(x, -1), topk(x, 2, 2)
topk(s, 2), topk(x > 0, 2), topk(e, 1, 0), kthvalue(x, 0), kthvalue(x, 5), kthvalue(x, 1, 2), kthvalue(e, 1, 0)
kthvalue(s, 2), topk(x, 1.5), sort(x, 'a'), unique(i, dim=2), unique(e, dim=1), unique_consecutive(i, dim=2)
unique(s, dim=0), unique_consecutive(s, dim=0), unique(i, dim=-3), searchsorted(x, v)
searchsorted(sort(v)[0], v, side='mid'), searchsorted(sort(v)[0], v, right=True, side='left')
searchsorted(v, v, sorter=k), searchsorted(x, s), searchsorted(s, v), searchsorted(sort(x)[0], 0.5)
searchsorted(v, v, sorter=v), searchsorted(v, v, sorter=tensor([0, 1, 2, 3, 4, 9])), bucketize(x, z)
bucketize(x, s), bucketize(x), bincount(x[0]), bincount(i), bincount(-i[0]), bincount(i[0], minlength=-1)
bincount(i[0], x[0][:2]), bincount(b[0]), bincount(s), bincount(i[0], x), histc(i), histc(x, 0)
histc(x, 4, 2, 1), histc(x / 0, 4), histc(x, 4, nan, 1), histc(x, 2.5), histc(x, -1), histc(x > 0)
histc(x, 4, 0, inf), histogram(x, 0), histogram(i, 3), histogram(x, x), histogram(x, 3, range=(2, 1))
histogram(x, 3, weight=v), histogram(x, 3, weight=z.float()), histogram(x / 0, 3)
histogram(x, tensor([0.0, 1.0])), histogramdd(v, [2]), histogramdd(x, [2, 2]), F.one_hot(-k), F.one_hot(k, 2)
F.one_hot(x), F.one_hot(k.int()), F.one_hot(k[:0]), F.one_hot(k, 0), F.one_hot(k, -2)
F.embedding(tensor([3]), x), F.embedding(tensor([-1]), x), F.embedding(k.float(), x), F.embedding(k, v)
F.embedding(k, w), F.embedding(b, x), F.embedding(k.to(int16), x), F.embedding_bag(g, x, tensor([0]))
F.embedding_bag(g[0], x), F.embedding_bag(g[0], x, tensor([1, 2])), F.embedding_bag(g[0], x, tensor([0, 5]))
F.embedding_bag(g, x, mode='min'), F.embedding_bag(w.long(), x)
F.embedding_bag(g, x, per_sample_weights=z[:2, :3]), F.embedding_bag(g + 9, x), F.embedding_bag(g.float(), x)
F.embedding_bag(g, x, mode='sum', per_sample_weights=z)
F.embedding_bag(g, x, mode='sum', per_sample_weights=z[:2, :3].float())
F.embedding_bag(g[0], x, tensor([[0, 1]])), F.embedding_bag(g[0], x, tensor([0.0, 1.0]))
F.embedding_bag(g, x, padding_idx=3), F.embedding_bag(g - 1, x), isin(x, None), isin(3, 4), mode(e, 0)
mode(x, 2), count_nonzero(x, 2), count_nonzero(x, (0, 0))
""".strip().splitlines()


def with_names(text):
    """A function of the library in which the names of the indices stand for its tensors."""

    def run(lib, **given):
        space = {
            n.strip(): lib.tensor(eval(v)) for n, v in (d.split("=") for d in NAMES.split(";"))
        }
        space["b"] = space["b"].bool()
        return evaluate(lib, text, {**given, **space})

    run.__name__ = run.__qualname__ = text
    return run


def parts(lines):
    """Each expression of lines of them."""
    out = []
    for line in lines:
        depth, start = 0, 0
        for at, c in enumerate(line + ","):
            depth += (c in "([{") - (c in ")]}")
            if c == "," and not depth:
                out.append(line[start:at].strip())
                start = at + 1
    return out


def succeeds(text, specs):
    """PyTorch takes it: two errors would match too."""
    with_names(text)(torch, **{n: of_torch(array_of(a, n), False) for n, a in specs.items()})


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("text", parts([*PICK, *PLACE, *WORDS]))
def test_values_and_gradients(text):
    succeeds(text, INPUTS)
    order = 0 if "max_norm" in text else 1 if "embedding_bag" in text or "'prod'" in text else 2
    match(with_names(text), order=order, **INPUTS)


@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
@pytest.mark.parametrize("text", parts(FORWARD))
def test_values(text):
    """Without gradients, which PyTorch lacks or refuses where the source is larger than the index."""
    succeeds(text, INPUTS)
    match(with_names(text), **INPUTS)


@pytest.mark.filterwarnings("ignore:.*non-contiguous")
@pytest.mark.parametrize("text", parts(ORDER))
def test_order_and_counts(text):
    succeeds(text, INPUTS)
    slopes = text.startswith(
        ("sort", "x.sort", "msort", "x.msort", "topk", "x.topk", "kth", "x.kth", "mode")
    )
    match(with_names(text), order=int(slopes), **INPUTS)


@pytest.mark.parametrize("text", parts(ERRORS))
def test_errors(text):
    given = {n: of_torch(array_of(a, n), False) for n, a in INPUTS.items()}
    with pytest.raises(BUILTIN):
        with_names(text)(torch, **given)
    match(with_names(text), **INPUTS)


DTYPED = """
gather(x, 0, g), scatter(x, 0, g[:1], x), scatter_add(x, 0, g, x), scatter_reduce(x, 0, g, x, 'amax')
scatter_reduce(x, 0, g, x, 'prod', include_self=False), scatter_reduce(x, 0, g, x, 'mean')
index_select(x, 1, k), index_add(x, 0, k, x), index_copy(x, 0, k[:1], x[:1]), index_fill(x, 0, k, 1), x[k, k]
index_put(x, (k,), x, accumulate=True), take(x, k), masked_fill(x, b, 1), masked_select(x, b)
masked_scatter(x, b, x), nonzero(x), where(b, x, x.T.reshape(3, 4)), sort(x, dim=1, stable=True), topk(x, 2)[0]
kthvalue(x, 2)[0], unique(x), unique_consecutive(x), msort(x), isin(x, x[0]), count_nonzero(x, 1)
searchsorted(sort(x)[0], x), bucketize(x, sort(x[0])[0]), F.embedding(k, x), mode(x)[0], bincount(x[0])
histc(x, 3)
""".strip().splitlines()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("text", parts(DTYPED))
def test_every_dtype(text, dtype):
    """Where PyTorch takes the dtype."""
    try:
        succeeds(text, {"x": f"{dtype}[3,4]|p"})
    except (NotImplementedError, RuntimeError):
        return
    match(with_names(text), x=f"{dtype}[3,4]|p")


NANS = """
sort(x), sort(x, descending=True), argsort(x, stable=True), topk(x, 3), topk(x, 3, largest=False)
kthvalue(x, 1), kthvalue(x, 12), msort(x), unique(x), unique(x, return_inverse=True, return_counts=True)
unique_consecutive(x), isin(x, x), nonzero(x), count_nonzero(x), mode(x)
scatter_reduce(x, 0, tensor([0, 0, 1, 1]), x, 'amax')
scatter_reduce(x, 0, tensor([0, 0, 1, 1]), x[6:], 'amin', include_self=False)
scatter_reduce(x, 0, tensor([0, 0, 1, 1]), x[6:], 'prod'), searchsorted(sort(x[:7])[0], x)
bucketize(x, tensor([-1.0, 0, 1])), bucketize(x, tensor([-1.0, 0, 1]), right=True)
searchsorted(sort(x[:7])[0], x, right=True), masked_fill(x, x != x, 0), where(x > 0, x, 0)
index_add(x, 0, tensor([9, 9]), x[:2]), histc(x[:6], 3, -1, 1)
""".strip().splitlines()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("text", parts(NANS))
def test_nans_and_infinities(text, dtype):
    if "tensor([-1.0" in text and dtype != "float32":
        text = text.replace("tensor([-1.0, 0, 1]", f"tensor([-1.0, 0, 1], dtype={dtype}")
    match(text, x=f"{dtype}[12]|special")


INPLACE = """
scatter_reduce(x, 0, g, z[:2, :3] * (z[:2, :3] > 0), 'prod'), scatter_reduce(x * 0, 0, g, z[:2, :3] * 0, 'prod')
scatter_reduce(x * 0, 0, g, z[:2, :3] * 0, 'prod', include_self=False), y.scatter_(0, g, z[:2, :3])
y.scatter_(1, h, 2.5), y.scatter_add_(0, g, z[:2, :3]), y.scatter_reduce_(0, g, z[:2, :3], 'amax')
y.scatter_reduce_(0, g, z[:2, :3], 'mean', include_self=False), y.index_add_(0, k, z)
y.index_copy_(0, tensor([1, 0]), z[:2]), y.index_fill_(1, k, 3.0), y.index_put_((k,), z, accumulate=True)
y.index_put_((k, k), s), y.index_reduce_(0, k, z, 'prod'), y.put_(k, v[:3]), y.put_(k, v[:3], accumulate=True)
y.masked_fill_(b, 2.0), y.masked_fill_(b, s), y.masked_scatter_(b, z)
y.T.scatter_(1, tensor([[0, 1]]), z.T[:1, :2]), y[:, 1:].index_fill_(0, k, 1.0), y.T.index_add_(1, k, z.T)
y[1].masked_fill_(b[0], 0.0), y[:, ::2].index_put_((k,), z[:, :2]), y[0].put_(k, v[:3])
y.T.masked_scatter_(b.T, z), y.diagonal().index_fill_(0, k, 4.0)
""".strip().splitlines()


@pytest.mark.parametrize("text", parts(INPLACE))
def test_writing_in_place(text):
    def run(lib, **given):
        y = given["x"] * 1
        with_names(text)(lib, y=y, **given)
        return y

    match(run, order=2, **INPUTS)


SHARED = "y.scatter_(0, g, z[:2, :3]), y.index_add_(0, k, z), y.put_(k, v[:3])"
WRONG = """
x.scatter_(0, g, z), x.index_add_(0, k, z), x.masked_fill_(b, 1.0), x.index_put_((k,), z), x.put_(k, v[:3])
x.masked_scatter_(b, z)
""".strip().splitlines()


@pytest.mark.parametrize("text", parts([SHARED]))
def test_writing_to_shared_memory_is_refused(text):
    def run(lib, **given):
        return with_names(text)(lib, y=given["x"][:1].expand(3, 4), **given)

    match(run, **INPUTS)


@pytest.mark.parametrize("text", parts(WRONG))
def test_writing_to_a_leaf_is_refused(text):
    match(with_names(text), order=1, **INPUTS)


OUT = """
gather(x, 0, g, out=o), scatter(x, 0, g, z, out=o), index_select(x, 0, k, out=o), index_add(x, 0, k, z, out=o)
take_along_dim(x, h, 1, out=o), masked_select(x, b, out=o), index_copy(x, 0, k[:1], z[:1], out=o)
scatter_reduce(x, 0, g, z, 'sum', out=o), scatter_add(x, 0, g, z, out=o), take(x, k, out=o), msort(x, out=o)
histc(x, 3, out=o), where(b, x, z, out=o)
""".strip().splitlines()


@pytest.mark.parametrize("text", parts(OUT))
def test_results_written_into_a_tensor(text):
    def run(lib, **given):
        o = lib.empty(0, dtype=lib.float64)
        assert with_names(text)(lib, o=o, **given) is o
        return o

    match(run, **INPUTS)


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_results_written_into_several_tensors():
    def run(lib, x):
        values, places = lib.empty(0, dtype=lib.float64), lib.empty(0, dtype=lib.int64)
        out = []
        for f in (lib.sort, lib.kthvalue, lib.topk, lib.mode):
            args = (x, 2) if f in (lib.kthvalue, lib.topk) else (x,)
            f(*args, out=(values, places))
            out += [values.clone(), places.clone()]
        return out

    match(run, x="float64[3,4]")


def test_positions_counted_from_the_end():
    """PyTorch 2.13 takes the remainder of positions outside; here they are errors."""
    x = amity.arange(12.0).view(3, 4)
    for at in ([[9]], [[-5]]):
        with pytest.raises(RuntimeError, match="out of bounds"):
            amity.take_along_dim(x, amity.tensor(at), 0)
    with pytest.raises(RuntimeError, match="out of bounds"):
        amity.take_along_dim(x, amity.tensor([12]))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("place", [0, 1, -1, -(2**31), -(2**62)])
def test_no_position_outside_is_read(dtype, place):
    at = amity.tensor(
        [place if dtype == "int64" else max(place, -(2**31))], dtype=getattr(amity, dtype)
    )
    for n in (0, 1) if place else (0,):
        x, many = amity.zeros(n, 3), at.expand(3)[None]
        reads = (
            (amity.index_select, x, 0, at),
            (amity.gather, x, 0, many),
            (amity.ops.embedding, at, x),
        )
        for read, *arguments in reads:
            with pytest.raises((IndexError, RuntimeError), match="out of (bounds|range)"):
                read(*arguments)


def test_many_places():
    for text in (
        "scatter_add(x, 0, i, z)", "index_add(x, 0, i[:, 0], z)", "gather(x, 0, i)", "x[i[:, 0]]", "F.embedding(i, x)",
        "scatter_reduce(x, 0, i, z, 'mean')", "index_put(x, (i[:, 0],), z, accumulate=True)",
    ):  # fmt: skip
        match(
            text,
            order=1,
            tolerance=1e-4,
            x="float32[9,70]",
            z="float32[4000,70]",
            i="int64[4000,70]|p",
        )
