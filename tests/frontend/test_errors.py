"""A user's mistakes: each is the class of error that PyTorch raises, and says what was got."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import BUILTIN, builtin_class  # noqa: E402

# an expression, then what its message must say: the op, what was got, what was expected
MISTAKES = """
x + ones(5)                                                 | add; (3, 4); (5,); expected
x - ones(3, 5)                                              | sub; (3, 5); expected
x / None                                                    | /; NoneType
x @ ones(5, 2)                                              | matmul; 3x4; 5x2
mm(x, x)                                                    | matmul; 3x4
mm(x, ones(4))                                              | mm; 1-D; matrix
bmm(x, x)                                                   | bmm; 2-D; 3D
bmm(ones(2, 3, 4), ones(3, 4, 5))                           | bmm; 2; 3; expected
mv(x, ones(3))                                              | mat; 4; 3
dot(ones(3), ones(4))                                       | 3; 4
dot(x, x)                                                   | dot; 2D; 1D
tensor(1.0) @ x                                             | matmul; 0D; 1D
matmul(x, 2)                                                | matmul; int; Tensor
addmm(ones(2), x, ones(4, 5))                               | addmm; (2,); (3, 5)
einsum("ij,jk->ik", x, x)                                   | einsum; j; 3; 4
einsum("ij->k", x)                                          | einsum; k
einsum("ij", x, x)                                          | einsum; 1; 2
x @ x.t().long()                                            | matmul; float32; int64
tensordot(x, x, dims=1)                                     | tensordot; 4; 3
outer(x, x)                                                 | outer; 2-D; 1-D
kron(x, 3)                                                  | kron; other; int
cat([])                                                     | cat; non-empty
cat([x, ones(3, 5)], 0)                                     | cat; 4; 5; dimension 0
cat([x, ones(3)], 0)                                        | cat; 2; 1
cat(x)                                                      | cat; tensors; Tensor
cat([x, 3])                                                 | cat; int; Tensor
stack([x, ones(2)])                                         | stack; [3, 4]; [2]
stack([x, x], 5)                                            | stack; 5; [-3, 2]
split(x, 0)                                                 | split; 0
chunk(x, 2, 9)                                              | chunk; 9; [-2, 1]
x.reshape(5, 2)                                             | reshape; [5, 2]; 12
x.reshape("a")                                              | reshape; str; int
x.transpose(0, 7)                                           | transpose; 7; [-2, 1]
x.permute(0, 1, 2)                                          | permute; 3; 2
x.permute(0, 0)                                             | permute; duplicate
x.expand(2)                                                 | expand; 1; 2
x.repeat(2)                                                 | repeat; dimensions
x.flip(0, 0)                                                | flip; 0
x.roll((1, 2), 0)                                           | roll; 2; 1
x.rot90(1, (0, 0))                                          | rot90; 0
x.unfold(0, 9, 1)                                           | unfold; 3; 9
x.diagonal(0, 1, 1)                                         | diagonal; 1
movedim(x, 0, 8)                                            | movedim; 8; [-2, 1]
x.sum(5)                                                    | sum; 5; [-2, 1]
x.sum((0, 0))                                               | sum; 0
x.long().mean()                                             | mean; int64; floating
zeros(0).max()                                              | max; dim
zeros(0, 3).max(0)                                          | max; 0; non-zero
zeros(0).argmax()                                           | argmax; [0]
x.quantile(2.0)                                             | quantile; [0, 1]
x.kthvalue(9, 1)                                            | kthvalue; 9; 4
x.topk(9)                                                   | topk; 9; 4
x.argmax(4)                                                 | argmax; 4; [-2, 1]
x.norm(dim=8)                                               | norm; 8; [-2, 1]
x[5]                                                        | 5; [3, 4]; dimension 0
x[0, 0, 0]                                                  | index; 3; 2
x["a"]                                                      | index; str; integers
x[1.5]                                                      | index; float; integers
x[::-1]                                                     | slice; -1; greater than zero
x[tensor([9])]                                              | index; 9; dimension 0; 3
x[tensor([1.0])]                                            | index; float32; long
x[ones(2, dtype=m.bool)]                                    | index; [2]; [3, 4]
x[i, tensor([0, 1])]                                        | index; [3]; [2]
x.gather(0, tensor([[9]]))                                  | gather; 9; dimension 0; 3
x.gather(0, tensor([0]))                                    | gather; 1; 2
x.gather(0, tensor([[0.0]]))                                | gather; int64
x.scatter(0, tensor([[9]]), 1.0)                            | scatter; 9; 3
x.scatter(0, tensor([[0]]), x.long())                       | scatter; float32; int64
x.scatter_reduce(0, tensor([[0]]), x, "bad")                | scatter_reduce; bad; amax
x.index_select(0, tensor([9]))                              | index_select; 9; 3
x.index_select(0, tensor([[0]]))                            | index_select; vector; 2
x.index_add(0, i, ones(2, 4))                               | index_add; 3; 2
x.take(tensor([99]))                                        | take; 99; 12
x.masked_fill(x, 1.0)                                       | masked_fill; float32; bool
x.masked_select(x)                                          | masked_select; float32; Bool
where(x, x, x)                                              | where; float32; bool
where(x > 0, x, ones(5))                                    | where; (3, 4); (5,)
clamp(x)                                                    | clamp; min; max
lerp(x, x.long(), 0.5)                                      | float32; int64; end
bitwise_and(x, x)                                           | bitwise_and; float32; expected
~x                                                          | bitwise_not; float32; integer
i // 0                                                      | floor_divide; 0
pow(i, -1)                                                  | pow; -1; int64
F.one_hot(tensor([5]), 3)                                   | one_hot; num_classes
F.embedding(tensor([9]), x)                                 | index; 9; 3
F.embedding(x, x)                                           | embedding; float32; Long
nonzero(3)                                                  | nonzero; input; int; Tensor
cumsum([1, 2], 0)                                           | cumsum; input; list; Tensor
tril(ones(3))                                               | tril; 2 dimensions
meshgrid(x, x)                                              | meshgrid; 2D; 1D
zeros(-1)                                                   | zeros; -1; negative
zeros(2.5)                                                  | zeros; float; ints
zeros(2, dtype="float32")                                   | zeros; str; dtype
zeros(2, device="gpu")                                      | device; gpu; cpu
full((2,), 300, dtype=uint8)                                | full; 300; uint8
arange(0, 5, 0)                                             | arange; step; nonzero
arange(5, 0)                                                | arange; bound; sign
linspace(0, 1, -1)                                          | linspace; steps; non-negative
eye(-1)                                                     | eye; -1
tensor([[1], [2, 3]])                                       | tensor; length
tensor("a")                                                 | tensor; str
tensor([1, None])                                           | tensor; NoneType
tensor(2**70)                                               | tensor; 64 bits
tensor([1], requires_grad=True)                             | int64; floating
as_tensor("a")                                              | tensor; str
from_numpy([1])                                             | list; ndarray
rand(2, dtype=int64)                                        | rand; int64
randint(5, 5, (2,))                                         | random_; 5
randint(3)                                                  | randint; size
randint(0, 300, (2,), dtype=uint8)                          | randint; 300; uint8
randperm(-1)                                                | -1; negative
bernoulli(tensor([2.0]))                                    | bernoulli; [0, 1]
multinomial(x, 0)                                           | multinomial; 0
multinomial(-ones(2), 1)                                    | multinomial; element < 0
multinomial(ones(2), 3)                                     | multinomial; 3; 2
normal(0.0, -1.0, (2,))                                     | normal; -1; >= 0
x.uniform_(2, 1)                                            | uniform_; 2; 1
x.exponential_(-1)                                          | exponential_; -1; > 0
x.geometric_(2)                                             | geometric_; 2; (0, 1)
x.cauchy_(0, -1)                                            | cauchy_; -1; > 0
x.log_normal_(0, -1)                                        | log_normal_; -1; > 0
x.bernoulli_(2)                                             | bernoulli_; 2; [0, 1]
i.normal_()                                                 | normal_; int64
i.uniform_()                                                | uniform_; int64
i.exponential_()                                            | exponential_; int64
manual_seed("a")                                            | a
set_rng_state(ones(3))                                      | ByteTensor
F.dropout(x, 2.0)                                           | dropout; 2.0; between 0 and 1
x.backward()                                                | require grad
x.requires_grad_().backward()                               | scalar
i.requires_grad_()                                          | requires_grad_; int64; floating
ones(2).item()                                              | item; 2
int(ones(2))                                                | 2; one element
bool(ones(2))                                               | bool; more than one
len(tensor(1))                                              | len; 0-d
x.size(5)                                                   | size; 5; [-2, 1]
x.to("foo")                                                 | foo; cpu
x.to(dtype="float32")                                       | to; str; dtype
x.type("foo")                                               | type; foo
x.add_(ones(2, 3, 4))                                       | add_; [3, 4]; [2, 3, 4]
i.add_(1.5)                                                 | add_; float; int64
i.sqrt_()                                                   | sqrt_; float32; int64
x.copy_(ones(5))                                            | expand; 5; [3, 4]
x.requires_grad_().mul_(2)                                  | leaf; in-place
x.requires_grad_()[0].mul_(2)                               | view of a leaf; in-place
x.expand(2, 3, 4).add_(1)                                   | add_; single memory location
add(x, x, out=i)                                            | float32; int64
softmax(x, 5)                                               | softmax; 5; [-2, 1]
set_default_dtype(int32)                                    | set_default_dtype; int32; floating
finfo(int32)                                                | finfo; int32; floating
iinfo(float32)                                              | iinfo; float32; integer
promote_types(int32, "a")                                   | promote_types; str; dtype
result_type("a", x)                                         | result_type; str; Tensor
Size([1.5])                                                 | Size; float; ints
device("cuda:0:1")                                          | cuda:0:1
F.linear(x, ones(5, 5))                                     | 3x4; 5x5
F.conv2d(x, ones(2, 3, 3, 3))                               | conv2d; [3, 4]
F.conv2d(ones(1, 6, 5, 5), ones(4, 3, 3, 3))                | conv2d; 6; 3
F.conv2d(ones(1, 6, 5, 5), ones(4, 3, 3, 3), groups=4)      | conv2d; 6; 4
F.conv2d(ones(1, 3, 2, 2), ones(4, 3, 3, 3))                | conv2d; 2; 3
F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), bias=ones(5))  | conv2d; 5; 4
F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3).double())       | conv2d; float32; float64
F.max_pool2d(ones(1, 1, 2, 2), 3)                           | max_pool; small
F.interpolate(ones(1, 1, 4, 4), size=2, mode="foo")         | interpolate; foo
F.batch_norm(x, zeros(3), ones(3))                          | 3; 4
F.layer_norm(x, (3,))                                       | layer_norm; [3]; [3, 4]
F.group_norm(ones(1, 6, 2), 4)                              | 6; 4
F.cross_entropy(x, tensor([0, 1]))                          | 3; 2
F.cross_entropy(x, tensor([0, 1, 9]))                       | 9
F.cross_entropy(x, i, reduction="foo")                      | foo
F.mse_loss(x, x, reduction="bad")                           | bad
F.binary_cross_entropy(sigmoid(x), ones(3))                 | binary_cross_entropy; [3, 4]; [3]
F.pad(x, (5, 5), mode="reflect")                            | pad; (5, 5); 4
F.glu(ones(3))                                              | 3
nn.Linear(3, 2)(x)                                          | 3x4; 3x2
nn.Linear(4, 2)(x.double())                                 | float64; float32
nn.Conv2d(3, 4, 3, groups=2)                                | in_channels; groups
nn.Embedding(3, 2)(tensor([5]))                             | 5; 3
nn.BatchNorm2d(3)(x)                                        | 4D; 2D
nn.LSTM(3, 2)(x)                                            | 3; 4
nn.Sequential(3)                                            | int; Module
nn.Linear(3, 2).foo                                         | Linear; foo
nn.Linear(3, 2).load_state_dict({})                         | Missing; weight
nn.Linear(3, 2).register_buffer("weight", ones(1))          | weight; exists
optim.SGD([], lr=0.1)                                       | empty
optim.SGD(x, lr=0.1)                                        | Tensor
optim.SGD([x.requires_grad_()], lr=-1)                      | SGD; lr; -1
optim.Adam([x.requires_grad_()], betas=(1.5, 0.9))          | beta; 1.5
linalg.inv(x)                                               | linalg.inv; square; 3
linalg.inv(zeros(2, 2))                                     | linalg.inv; singular
linalg.cholesky(-eye(2))                                    | linalg.cholesky; positive-definite
linalg.solve(x, x)                                          | linalg.solve; square
autograd.grad(x.sum(), x)                                   | require grad
""".strip().splitlines()


def attempt(lib, expression):
    """What an expression raises; None if it has a value."""
    import builtins

    space = {n: getattr(lib, n) for n in dir(lib) if not n.startswith("_")}
    space |= {n: getattr(lib, n) for n in ("nn", "optim", "linalg", "autograd")}
    space |= {n: getattr(builtins, n) for n in ("int", "bool", "len")}
    space |= {"m": lib, "F": lib.nn.functional, "i": lib.tensor([0, 1, 2])}
    space["x"] = lib.arange(12.0).reshape(3, 4)
    try:
        eval(expression, space)
    except (*BUILTIN, AttributeError, KeyError) as error:
        return error
    return None


@pytest.mark.parametrize("line", MISTAKES, ids=lambda line: line.split("|")[0].strip())
def test_mistake(line):
    expression, _, words = (part.strip() for part in line.rpartition("|"))
    theirs, mine = attempt(torch, expression), attempt(amity, expression)
    assert theirs is not None, "PyTorch takes it"
    assert mine is not None, f"got a value; expected {theirs!r}"
    others = (AttributeError, KeyError)
    kind = type(theirs) if type(theirs) in others else builtin_class(theirs)
    assert isinstance(mine, kind), f"got {mine!r}; expected {theirs!r}"
    for word in words.split(";"):
        assert word.strip().lower() in str(mine).lower(), f"no {word.strip()!r} in {mine!r}"


TAKE_TENSORS = """
abs argmax argsort clone cumsum diff exp flatten flip gather isnan log_softmax matmul max mean nonzero
numel permute prod relu repeat_interleave reshape roll sigmoid softmax sort sqrt squeeze std sum
tanh topk transpose tril unbind unique unsqueeze var view_as_real
""".split()


@pytest.mark.parametrize("name", [n for n in TAKE_TENSORS if hasattr(amity, n)])
def test_functions_take_tensors_alone(name):
    """Arrays and lists look like tensors to much code; they are refused before they go wrong in it."""
    for given in (np.ones((2, 2), np.float32), [1.0, 2.0], "a", None):
        for lib in (torch, amity):
            with pytest.raises(TypeError):
                getattr(lib, name)(given, *([0] if name in ("cumsum", "topk", "unsqueeze") else []))


def test_functions_are_found_again():
    assert pickle.loads(pickle.dumps(amity.cumsum)) is amity.cumsum
    assert pickle.loads(pickle.dumps(amity.nn.functional.pad)) is amity.nn.functional.pad
    assert list(inspect.signature(amity.cumsum).parameters)[:2] == ["input", "dim"]
    with pytest.raises(
        TypeError, match=r"kron\(\): argument 'other' \(position 2\) must be Tensor, not int"
    ):
        amity.kron(amity.ones(2, 2), 3)


def test_a_memory_too_large_is_an_error():
    """Not a crash, and what comes after works: sizes beyond the machine, of results as well."""
    x = amity.ones(1)
    for make in (
        lambda: amity.empty(1 << 50),
        lambda: amity.zeros(1 << 30, 1 << 30),
        lambda: x.expand(1 << 48) + 1,
        lambda: x.expand(1 << 26, 1) @ x.expand(1, 1 << 26),
        lambda: x.repeat(1 << 48),
        lambda: amity.rand(1 << 48),
    ):
        with pytest.raises(RuntimeError, match="memory|[Ss]torage size"):
            make()
    assert (x + 1).tolist() == [2.0]


def test_an_error_leaves_tensors_as_they_were():
    x = amity.arange(4.0)
    before = x._version
    for mistake in (lambda: x.add_(amity.ones(3)), lambda: x.copy_(amity.ones(2, 2)), lambda: x[9]):
        with pytest.raises((RuntimeError, IndexError)):
            mistake()
    assert x.tolist() == [0, 1, 2, 3] and x._version == before
