"""The names that a user of PyTorch looks for on tensors and in the module, and what few of them do."""

from __future__ import annotations

import inspect

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.frontend.programs import leaf, programs, raised  # noqa: E402
from tests.ops.compare import match  # noqa: E402

# What amity leaves out of `torch.Tensor`, by reason.
NO_TENSORS = {
    "sparse": """ccol_indices coalesce col_indices crow_indices dense_dim indices is_coalesced
        resize_as_sparse_ row_indices smm sparse_dim sparse_mask sparse_resize_ sspaddmm
        sparse_resize_and_clear_ to_sparse to_sparse_bsc to_sparse_bsr to_sparse_coo to_sparse_csc
        to_sparse_csr values""",
    "quantized": """dequantize int_repr q_per_channel_axis q_per_channel_scales
        q_per_channel_zero_points q_scale q_zero_point qscheme""",
    "complex": "cdouble cfloat chalf imag istft stft",
    "other devices": "ipu mtia record_stream xpu to_mkldnn",
    "removed or deprecated": """eig index lstsq lu reinforce resize resize_as solve storage_type
        symeig volatile""",
    "inner workings": "grad_dtype hash_tensor module_load slice_inverse to_padded_tensor",
    "rare factorizations": "geqrf lu_solve orgqr ormqr",
    "special functions to come": "igamma igamma_ igammac igammac_ polygamma_",
}


def test_no_other_name_of_tensors_is_missing():
    absent = {n for names in NO_TENSORS.values() for n in names.split()}
    names = {n for n in dir(torch.Tensor) if n[0] != "_"}
    missing = {n for n in names if not hasattr(amity.Tensor, n)}
    assert missing <= absent
    assert absent <= names, "names that PyTorch does not have"


# Functions of the module that have to do with tensors as such, whatever ops there are.
NAMES = """
Generator LongTensor FloatTensor OutOfMemoryError Size Tensor UntypedStorage arange
are_deterministic_algorithms_enabled as_tensor asarray autograd backends bool can_cast clone
default_generator device dtype e empty empty_like empty_permuted empty_strided enable_grad eye finfo
float32 from_dlpack from_numpy frombuffer full full_like get_default_device get_default_dtype
get_float32_matmul_precision get_num_threads get_rng_state iinfo inf inference_mode initial_seed
is_anomaly_check_nan_enabled is_anomaly_enabled is_complex is_conj
is_deterministic_algorithms_warn_only_enabled is_floating_point is_grad_enabled is_inference
is_inference_mode_enabled is_neg is_nonzero is_same_size is_signed is_tensor linspace logspace
manual_seed memory_format nan newaxis no_grad numel ones ones_like pi poisson promote_types rand
rand_like randint randint_like randn randn_like random randperm range real resolve_conj result_type
scalar_tensor seed set_default_device set_default_dtype set_float32_matmul_precision
set_flush_denormal set_grad_enabled set_num_threads set_printoptions set_rng_state strided tensor
to_dlpack tril_indices triu_indices typename use_deterministic_algorithms zeros zeros_like
"""


@pytest.mark.parametrize("name", sorted(set(NAMES.split()) - {"backends"}))
def test_the_module_has(name):
    assert hasattr(torch, name) and hasattr(amity, name)


AUTOGRAD = "Function Variable backward detect_anomaly function functional grad gradcheck grad_mode"


@pytest.mark.parametrize("name", AUTOGRAD.split())
def test_autograd_has(name):
    assert hasattr(torch.autograd, name) and hasattr(amity.autograd, name)


SIGNATURES = """
Tensor.backward Tensor.register_hook Tensor.register_post_accumulate_grad_hook autograd.grad
autograd.backward set_printoptions autograd.functional.jacobian autograd.functional.hessian
autograd.functional.vjp autograd.functional.jvp autograd.functional.vhp autograd.functional.hvp
""".split()


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_are_pytorchs(name):
    theirs, mine = torch, amity
    for part in name.split("."):
        theirs, mine = getattr(theirs, part), getattr(mine, part)
    want = [p for p in inspect.signature(theirs).parameters if p != "self"]
    have = [p for p in inspect.signature(mine).parameters if p != "self"]
    assert have[: len(want)] == want


class Small:
    def kinds(m):
        x, i = m.ones(2), m.ones(2, dtype=m.int64)
        return (
            m.is_tensor(x), m.is_tensor(3), m.is_floating_point(x), m.is_floating_point(i), x.is_floating_point(),
            m.is_complex(x), x.is_signed(), m.ones(1, dtype=m.uint8).is_signed(), m.numel(x), x.numel(), x.nelement(),
            m.is_nonzero(m.tensor(2.0)), raised(m.is_nonzero, x), m.is_same_size(x, i), x.is_conj(), x.is_neg(),
            x.is_sparse, x.is_quantized, x.is_cuda, x.is_cpu, x.is_meta, x.get_device(),
            x.layout is m.strided or None,
        )[:-1]  # fmt: skip

    def sizes(m):
        x = m.ones(2, 3, 4)
        return (
            x.size(), x.size(1), x.size(-1), x.shape[1:], x.stride(), x.stride(0), x.dim(), x.ndim, x.ndimension(),
            x.shape.numel(), x.element_size(), x.nbytes, x.itemsize, raised(x.size, 3), x.shape == (2, 3, 4),
            type(x.shape + (1,)).__name__, type(x.shape[:1]).__name__, x.shape.count(2),
        )  # fmt: skip

    def limits(m):
        f, i = m.finfo(m.float32), m.iinfo(m.int16)
        return (
            f.eps,
            f.max,
            f.bits,
            i.min,
            i.max,
            i.bits,
            m.finfo().dtype,
            raised(m.finfo, m.int8),
            raised(m.iinfo, m.half),
        )

    def default_dtype(m):
        m.set_default_dtype(m.float64)
        try:
            made = (
                m.tensor([1.5]),
                m.ones(1),
                m.arange(2.0),
                m.tensor(1) / 2,
                m.rand(1).dtype == m.float64,
            )
        finally:
            m.set_default_dtype(m.float32)
        return made, m.get_default_dtype() is m.float32, raised(m.set_default_dtype, m.int32)

    def promotion(m):
        return (
            m.promote_types(m.int8, m.uint8) is m.int16,
            m.result_type(m.ones(1), m.ones(1, dtype=m.float64)) is m.float64,
            m.result_type(m.ones(1, dtype=m.int64), 1.5) is m.float32, m.can_cast(m.float32, m.int8),
            m.can_cast(m.bool, m.int8), m.result_type(True, 2) is m.int64,
        )  # fmt: skip

    def threads(m):
        before = m.get_num_threads()
        m.set_num_threads(1)
        now = m.get_num_threads()
        m.set_num_threads(before)
        return now, m.get_num_threads() == before, raised(m.set_num_threads, 0)

    def settings(m):
        m.set_float32_matmul_precision("high")
        m.use_deterministic_algorithms(True, warn_only=True)
        told = (
            m.get_float32_matmul_precision(), m.are_deterministic_algorithms_enabled(),
            m.is_deterministic_algorithms_warn_only_enabled(),
        )  # fmt: skip
        m.set_float32_matmul_precision("highest")
        m.use_deterministic_algorithms(False)
        return (
            told,
            m.are_deterministic_algorithms_enabled(),
        )

    def older_constructors(m):
        return (
            m.LongTensor([1, 2]), m.FloatTensor([[1, 2]]), m.DoubleTensor([1.5]), m.BoolTensor([1, 0]),
            m.IntTensor(2, 3).shape,
            m.FloatTensor().shape, m.ByteTensor([3]), m.Tensor([1, 2]), m.Tensor(2, 3).shape, m.Tensor(m.ones(2)),
            isinstance(m.ones(1), m.FloatTensor), isinstance(m.ones(1), m.LongTensor), isinstance(3, m.LongTensor),
            raised(m.LongTensor, m.ones(2)), raised(m.LongTensor, "a"),
        )  # fmt: skip

    def variables(m):
        v = m.autograd.Variable(m.ones(2), requires_grad=True)
        return v, isinstance(v, m.autograd.Variable), isinstance(3, m.autograd.Variable)

    def type_names(m):
        x = m.ones(2)
        names = [
            x.type(),
            m.ones(1, dtype=m.int64).type(),
            m.typename(x),
        ]
        return (
            [n.replace(m.__name__, "m") for n in names],
            m.typename(3),
            x.type("torch.LongTensor") if m is torch else x.type("amity.LongTensor"),
        )

    def conversions(m):
        x = m.tensor([1.7, -2.2])
        return (
            x.int(), x.long(), x.short(), x.char(), x.bool(), x.half(), x.bfloat16(), x.double(),
            x.float() is x, x.to(m.int32),
            x.to(x.dtype) is x, x.to("cpu") is x, x.to(m.ones(1, dtype=m.int8)),
            x.type_as(m.ones(1).long()), x.cpu() is x,
            x.to(x, copy=True) is x, x.to(device="cpu", dtype=m.float64), x.type(m.int64), x.abs().byte(),
        )  # fmt: skip

    def made_like(m):
        x = m.ones(2, dtype=m.float64)
        return (
            x.new_zeros(2, 3), x.new_ones((2,)), x.new_full((2,), 7), x.new_tensor([1, 2]), x.new_empty(3).shape,
            x.new_zeros(2, dtype=m.int8), x.new([1, 2]), x.new(2, 3).shape,
            x.new_empty_strided((2, 2), (1, 2)).stride(),
        )  # fmt: skip

    def elements(m):
        x = m.arange(4.0).view(2, 2)
        x.apply_(lambda v: v * v)
        x.map_(m.ones(2, 2), lambda a, b: a + b)
        x.t().map2_(x.t().clone(), m.ones(2, 2), lambda a, b, c: b - c)
        return x, raised(leaf(m, 1).apply_, abs)

    def comparisons_in_place(m):
        x, y = m.tensor([1.0, 2.0]), m.tensor([2.0, 2.0])
        return [
            getattr(x.clone(), n)(y)
            for n in (
                "eq_",
                "ne_",
                "lt_",
                "le_",
                "gt_",
                "ge_",
                "less_",
                "greater_equal_",
                "not_equal_",
            )
        ]

    def more_in_place(m):
        x = m.tensor([[1.0, 4.0], [3.0, 2.0]], dtype=m.float64)
        return x.clone().float_power_(2), x.clone().renorm_(2, 0, 1.0), (x + 5).mvlgamma_(2)

    def functions_of_methods(m):
        x = m.tensor([-1.0, 2.0])
        return (
            m.relu_(x.clone()),
            m.clone(x),
            m.detach(x),
            m.numel(x),
            m.is_same_size(x, x),
            raised(m.numel, 3),
            raised(m.detach, "a"),
        )

    def reals(m):
        x = m.ones(2)
        return (
            m.real(x) is x,
            x.real is x,
            x.conj() is x,
            m.conj(x) is x,
            m.resolve_conj(x) is x,
            x.resolve_neg() is x,
        )

    def constants(m):
        return m.pi, m.e, m.inf, m.nan != m.nan, m.newaxis

    def devices(m):
        d = m.device("cpu")
        return (
            str(d),
            d.type,
            d.index,
            d == m.device("cpu"),
            hash(d) == hash(m.device("cpu")),
            m.ones(1).device == d,
            str(m.device("cpu", 0)),
            raised(m.device, "abc"),
        )


@pytest.mark.parametrize("program", programs(Small))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_program(program):
    match(program)
