"""Containers, against lists, dictionaries and PyTorch."""

from collections import OrderedDict

import pytest

import amity
from amity import nn


def layers(*sizes):
    return [nn.Linear(1, size) for size in sizes]


def widths(container):
    return [m.out_features for m in container]


class TestSequential:
    def test_calls_in_order(self):
        m = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        assert m(amity.ones(4, 2)).shape == (4, 1)
        assert nn.Sequential()(7) == 7

    def test_named(self):
        m = nn.Sequential(OrderedDict(first=nn.ReLU(), second=nn.Tanh()))
        assert list(m._modules) == ["first", "second"] and m.first is m[0]
        assert type(m[1:]) is nn.Sequential and list(m[1:]._modules) == ["second"]

    def test_items(self):
        m = nn.Sequential(*layers(1, 2, 3, 4))
        assert m[-1].out_features == 4 and widths(m[1:3]) == [2, 3] and len(m) == 4
        with pytest.raises(IndexError, match="index 4 is out of range"):
            m[4]
        m[0] = nn.Linear(1, 9)
        del m[1]
        assert widths(m) == [9, 3, 4] and list(m._modules) == ["0", "1", "2"]
        del m[:2]
        assert widths(m) == [4] and list(m._modules) == ["0"]
        assert not hasattr(m, "1")

    def test_growing(self):
        m = nn.Sequential(*layers(1))
        assert m.append(nn.Linear(1, 2)) is m
        assert m.extend(layers(3, 4)) is m
        assert m.insert(0, nn.Linear(1, 7)) is m
        assert widths(m) == [7, 1, 2, 3, 4]
        m.insert(-1, nn.Linear(1, 8))
        assert widths(m) == [7, 1, 2, 3, 8, 4]
        assert m.pop(1).out_features == 1 and m.pop().out_features == 4
        assert widths(m) == [7, 2, 3, 8]
        with pytest.raises(IndexError):
            m.insert(9, nn.ReLU())
        with pytest.raises(AssertionError):
            m.insert(0, 3)

    def test_arithmetic(self):
        a, b = nn.Sequential(*layers(1)), nn.Sequential(*layers(2, 3))
        assert widths(a + b) == [1, 2, 3]
        assert widths(b * 2) == [2, 3, 2, 3] and widths(2 * b) == [2, 3, 2, 3]
        a += b
        assert widths(a) == [1, 2, 3]
        b *= 2
        assert widths(b) == [2, 3, 2, 3]
        with pytest.raises(ValueError):
            a + nn.ReLU()
        with pytest.raises(ValueError):
            a * 0
        with pytest.raises(TypeError):
            a * 1.5


class TestModuleList:
    def test_is_a_list_of_registered_modules(self):
        m = nn.ModuleList(layers(1, 2))
        m.append(nn.Linear(1, 3)).extend(layers(4))
        m.insert(1, nn.Linear(1, 9))
        m += layers(5)
        assert widths(m) == [1, 9, 2, 3, 4, 5]
        assert widths(m + layers(6)) == [1, 9, 2, 3, 4, 5, 6]
        assert type(m[1:3]) is nn.ModuleList and widths(m[1:3]) == [9, 2]
        assert m.pop(1).out_features == 9 and m[1] in m
        assert len(list(m.parameters())) == 10
        m[-1] = nn.Linear(1, 7)
        assert list(m.state_dict())[-1] == "4.bias" and m[4].out_features == 7

    def test_errors(self):
        with pytest.raises(TypeError, match="should be called with an iterable"):
            nn.ModuleList().extend(3)
        with pytest.raises(TypeError, match="int is not a Module subclass"):
            nn.ModuleList([3])
        with pytest.raises(NotImplementedError):
            nn.ModuleList([])(1)

    def test_printing_joins_equal_modules(self):
        m = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh(), nn.ReLU()])
        expected = "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Tanh()\n  (3): ReLU()\n)"
        assert repr(m) == expected
        assert repr(nn.ModuleList()) == "ModuleList()"


class TestModuleDict:
    def test_is_a_dictionary_of_registered_modules(self):
        m = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
        m["c"] = nn.Sigmoid()
        m.update([("d", nn.ReLU()), ["a", nn.Tanh()]])
        assert list(m) == list(m.keys()) == ["a", "b", "c", "d"] and len(m) == 4
        assert type(m["a"]) is nn.Tanh and "b" in m and "x" not in m
        assert [k for k, _ in m.items()] == ["a", "b", "c", "d"]
        assert type(list(m.values())[1]) is nn.Tanh
        del m["a"]
        assert type(m.pop("b")) is nn.Tanh and list(m) == ["c", "d"]
        m.update(nn.ModuleDict({"z": nn.ReLU()}))
        assert m.z is m["z"]
        m.clear()
        assert len(m) == 0 and not hasattr(m, "z")

    def test_errors(self):
        m = nn.ModuleDict()
        with pytest.raises(TypeError, match="iterable of key/value pairs"):
            m.update(3)
        with pytest.raises(TypeError, match="element #0 should be Iterable"):
            m.update([3])
        with pytest.raises(ValueError, match="element #0 has length 1; 2 is required"):
            m.update([["a"]])
        with pytest.raises(KeyError):
            m["keys"] = nn.ReLU()
        with pytest.raises(KeyError):
            m["nothing"]


class TestParameterList:
    def test_is_a_list_of_parameters(self):
        m = nn.ParameterList([amity.ones(1), nn.Parameter(amity.ones(2))])
        m.append(amity.ones(3)).extend([amity.ones(4)])
        m += [amity.ones(5)]
        assert [p.shape[0] for p in m] == [1, 2, 3, 4, 5]
        assert all(isinstance(p, nn.Parameter) for p in m)
        assert [p.shape[0] for p in m[1:3]] == [2, 3] and type(m[:1]) is nn.ParameterList
        m[-1] = amity.ones(9)
        assert m[4].shape == (9,) and len(m) == 5 and len(list(m.parameters())) == 5
        with pytest.raises(IndexError):
            m[5]
        with pytest.raises(TypeError):
            m.extend(amity.ones(2))
        with pytest.raises(RuntimeError, match="should not be called"):
            m(1)

    def test_other_values_are_kept(self):
        m = nn.ParameterList([3, amity.ones(1)])
        assert m[0] == 3 and list(m.state_dict()) == ["1"]


class TestParameterDict:
    def test_is_a_dictionary_of_parameters(self):
        m = nn.ParameterDict({"a": amity.ones(1)})
        m["b"] = amity.ones(2)
        m.update({"c": amity.ones(3)})
        assert list(m) == list(m.keys()) == ["a", "b", "c"] and list(reversed(m)) == ["c", "b", "a"]
        assert isinstance(m["a"], nn.Parameter) and len(m) == 3 and "a" in m
        assert m.get("z") is None and m.get("a") is m.a
        assert m.setdefault("d", amity.ones(4)).shape == (4,) and m.setdefault("d").shape == (4,)
        assert m.pop("a").shape == (1,) and m.popitem()[0] == "d"
        assert [k for k, _ in m.items()] == ["b", "c"]
        assert [v.shape[0] for v in m.values()] == [2, 3]
        both = m | nn.ParameterDict({"x": amity.ones(1)})
        assert list(both) == ["b", "c", "x"]
        m |= both
        assert list(m.copy()) == ["b", "c", "x"] and m.copy()["b"] is m["b"]
        assert list(m.fromkeys(["k"], 1).items()) == [("k", 1)]
        m.clear()
        assert len(m) == 0 and list(m.parameters()) == []

    def test_errors(self):
        m = nn.ParameterDict()
        with pytest.raises(TypeError, match="not a string"):
            m[3] = amity.ones(1)
        with pytest.raises(KeyError):
            m["nothing"]
        with pytest.raises(RuntimeError, match="should not be called"):
            m(1)


def test_containers_print_as_pytorch():
    torch = pytest.importorskip("torch")

    def build(nn, ones):
        return [
            nn.Sequential(nn.Linear(1, 2), nn.Sequential(nn.ReLU(), nn.Dropout())),
            nn.ModuleList([nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU()), nn.Linear(1, 1)]),
            nn.ModuleDict({"a": nn.ReLU(), "b": nn.ModuleList([nn.Tanh()])}),
        ]

    for ours, theirs in zip(build(nn, amity.ones), build(torch.nn, torch.ones), strict=True):
        assert repr(ours) == repr(theirs)
    ours = repr(nn.ParameterList([amity.ones(2, 3)])).replace("amity.", "torch.")
    theirs = repr(torch.nn.ParameterList([torch.ones(2, 3)])).replace(
        "torch.FloatTensor", "torch.float32"
    )
    assert ours == theirs
