"""`nn.functional` has every function of PyTorch's."""

import inspect

import pytest

import amity
from amity import nn, ops

torch = pytest.importorskip("torch")

ABSENT = {
    "assert_int_or_pair": "a helper of TorchScript",
    "boolean_dispatch": "a helper of TorchScript",
    "has_torch_function": "the protocol of tensor look-alikes, not a function of networks",
    "has_torch_function_unary": "as has_torch_function",
    "has_torch_function_variadic": "as has_torch_function",
    "handle_torch_function": "as has_torch_function",
    "grouped_mm": "a prototype for CUDA",
    "scaled_mm": "a prototype for CUDA's float8",
    "scaled_grouped_mm": "a prototype for CUDA's float8",
    "linear_cross_entropy": "a prototype whose arguments still change",
    "conv_tbc": "a layout that only fairseq used",
    "native_channel_shuffle": "an internal twin of channel_shuffle",
    "importlib": "a module",
}


def is_function(name):
    value = getattr(torch.nn.functional, name)
    if name.startswith("_") or inspect.ismodule(value) or isinstance(value, type):
        return False
    return callable(value) and not name[0].isupper()


def test_nothing_is_missing():
    names = {name for name in dir(torch.nn.functional) if is_function(name)}
    missing = {name for name in names if not hasattr(nn.functional, name)}
    assert missing <= set(ABSENT)
    assert not [name for name in ABSENT if hasattr(nn.functional, name)]


def test_functions_are_the_ops():
    for name in ("softmax", "conv2d", "pad"):
        assert inspect.unwrap(getattr(nn.functional, name)) is inspect.unwrap(getattr(ops, name))


@pytest.mark.parametrize("name", "celu elu hardtanh leaky_relu relu rrelu selu threshold".split())
def test_in_place_forms_write_into_their_input(name):
    extra = (0.1, 20.0) if name == "threshold" else ()
    x = amity.tensor([-2.0, 0.5, 3.0])
    expected = getattr(nn.functional, name)(x.clone(), *extra)
    assert getattr(nn.functional, name + "_")(x, *extra) is x
    assert x.tolist() == expected.tolist()
