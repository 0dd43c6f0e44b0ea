"""Module: members, hooks, state and whole-tree changes; each story is told in both frameworks."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import amity
from amity import nn
from amity.frontend.tensor import Tensor
from amity.nn import hooks


def ones(*shape, **options):
    return amity.ones(shape, **options)


class Leaf(nn.Module):
    """A module with everything: parameters, one absent, buffers of both kinds."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(ones(2, 3))
        self.register_parameter("bias", None)
        self.register_buffer("mean", ones(3))
        self.register_buffer("hidden", ones(1), persistent=False)

    def forward(self, x):
        return x * self.weight.sum() + self.mean


class Tree(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = Leaf(), Leaf()
        self.empty = None
        self.tied = self.left

    def forward(self, x):
        return self.right(self.left(x))


class TestMembers:
    def test_attributes_register_by_type(self):
        m = nn.Module()
        m.p, m.child = nn.Parameter(ones(1)), Leaf()
        m.b, m.quiet = nn.Buffer(ones(1)), nn.Buffer(ones(1), persistent=False)
        m.plain = ones(1)
        assert list(m._parameters) == ["p"] and list(m._modules) == ["child"]
        assert list(m._buffers) == ["b", "quiet"]
        assert list(m.state_dict()) == ["p", "b", "child.weight", "child.mean"]

    def test_reassigning_moves_between_kinds(self):
        m = nn.Module()
        m.x = 3
        m.x = nn.Buffer(ones(2), persistent=False)
        assert "x" in m._buffers
        m.x = Leaf()
        assert "x" not in m._buffers and "x" in m._modules
        m.x = nn.Parameter(ones(1))
        assert "x" not in m._modules and "x" in m._parameters
        assert list(m.state_dict()) == ["x"]

    def test_registered_names_refuse_other_things(self):
        m = Leaf()
        with pytest.raises(TypeError, match="cannot assign 'Tensor' as parameter 'weight'"):
            m.weight = ones(2, 3)
        with pytest.raises(TypeError, match="cannot assign 'int' as buffer 'mean'"):
            m.mean = 3
        with pytest.raises(TypeError, match="cannot assign 'Leaf' as parameter 'weight'"):
            m.weight = Leaf()
        tree = Tree()
        with pytest.raises(TypeError, match="cannot assign 'Buffer' as child module 'left'"):
            tree.left = nn.Buffer(ones(1))
        with pytest.raises(TypeError, match="cannot assign 'int' as child module 'left'"):
            tree.left = 3

    def test_none_keeps_the_name(self):
        m = Tree()
        m.left = None
        m.right.weight = None
        m.right.mean = None
        assert m._modules["left"] is None and m.right._parameters["weight"] is None
        assert list(m.right.state_dict()) == []
        assert m.left is None

    def test_a_buffer_may_become_another_tensor(self):
        m = Leaf()
        m.hidden = ones(4)
        assert m._buffers["hidden"].shape == (4,)
        assert "hidden" not in m.state_dict()

    def test_deleting(self):
        m = Tree()
        del m.left, m.right.weight, m.right.hidden
        assert not hasattr(m, "left") and not hasattr(m.right, "weight")
        assert list(m._modules) == ["right", "tied"]
        with pytest.raises(AttributeError):
            del m.nothing

    def test_missing_attribute_names_the_class(self):
        with pytest.raises(AttributeError, match="'Leaf' object has no attribute 'wieght'"):
            Leaf().wieght  # noqa: B018

    def test_members_before_init_are_refused(self):
        class Early(nn.Module):
            def __init__(self):
                self.p = nn.Parameter(ones(1))

        with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
            Early()

    def test_writing_a_registry_shows_in_the_attribute(self):
        m = Leaf()
        new = nn.Parameter(ones(5))
        m._parameters["weight"] = new
        assert m.weight is new
        del m._parameters["weight"]
        assert not hasattr(m, "weight")
        m._parameters.update(weight=new)
        assert m.weight is new
        assert m._parameters.pop("weight") is new and not hasattr(m, "weight")
        assert m._parameters.setdefault("weight", new) is m.weight
        m._parameters |= {"other": None}
        assert m.other is None
        m._parameters.clear()
        assert not hasattr(m, "weight") and not hasattr(m, "other")

    def test_assigning_a_whole_registry(self):
        m = Tree()
        m._modules = OrderedDict(right=m.right)
        assert not hasattr(m, "left") and m.right is m._modules["right"]

    @pytest.mark.parametrize(
        "name, error, text",
        [
            (3, TypeError, "name should be a string. Got int"),
            ("a.b", KeyError, 'contain "."'),
            ("", KeyError, "be empty string"),
            ("forward", KeyError, "attribute 'forward' already exists"),
        ],
    )
    def test_bad_names(self, name, error, text):
        m = nn.Module()
        for register in (
            lambda: m.register_parameter(name, None),
            lambda: m.register_buffer(name, None),
            lambda: m.add_module(name, None),
        ):
            with pytest.raises(error, match=text):
                register()

    def test_bad_values(self):
        m = nn.Module()
        with pytest.raises(TypeError, match="Parameter or None required"):
            m.register_parameter("p", ones(1))
        with pytest.raises(TypeError, match="Tensor or None required"):
            m.register_buffer("b", 3)
        with pytest.raises(TypeError, match="int is not a Module subclass"):
            m.register_module("m", 3)
        with pytest.raises(TypeError, match="expected none for Module.__init__"):
            nn.Module(3)

    def test_paths(self):
        m = Tree()
        assert m.get_submodule("") is m and m.get_submodule("left") is m.left
        assert m.get_parameter("left.weight") is m.left.weight
        assert m.get_buffer("right.mean") is m.right.mean
        for get, path in (
            (m.get_submodule, "left.nothing"),
            (m.get_submodule, "left.weight"),
            (m.get_parameter, "left.mean"),
            (m.get_buffer, "left.weight"),
            (m.get_buffer, "left.nothing"),
        ):
            with pytest.raises(AttributeError):
                get(path)

    def test_set_submodule(self):
        m = nn.Sequential(nn.Sequential(Leaf()))
        new = Leaf()
        m.set_submodule("0.0", new)
        assert m[0][0] is new
        with pytest.raises(ValueError):
            m.set_submodule("", new)
        with pytest.raises(AttributeError):
            m.set_submodule("0.1", new, strict=True)
        with pytest.raises(AttributeError):
            m.set_submodule("0.0.weight", new)

    def test_walks_show_shared_members_once(self):
        m = Tree()
        assert [n for n, _ in m.named_modules()] == ["", "left", "right"]
        assert [n for n, _ in m.named_children()] == ["left", "right"]
        assert [n for n, _ in m.named_parameters()] == ["left.weight", "right.weight"]
        every = [n for n, _ in m.named_parameters(remove_duplicate=False)]
        assert every == ["left.weight", "right.weight", "tied.weight"]
        assert [n for n, _ in m.named_buffers(prefix="top")][:1] == ["top.left.mean"]
        assert list(m.parameters(recurse=False)) == []
        assert len(list(m.modules())) == 3 and len(list(m.buffers())) == 4

    def test_dir_has_members_and_no_numbers(self):
        names = dir(nn.Sequential(Leaf()))
        assert "0" not in names and "forward" in names
        assert {"weight", "mean"} <= set(dir(Leaf()))

    def test_forward_is_asked_for(self):
        with pytest.raises(NotImplementedError, match=r"Module \[Module\] is missing"):
            nn.Module()(1)

    def test_no_cycle_keeps_a_module_alive(self):
        gc.disable()
        try:
            m = Tree()
            alive = weakref.ref(m.left.weight), weakref.ref(m)
            del m
            assert alive[0]() is None and alive[1]() is None
        finally:
            gc.enable()

    def test_super_getattr_may_be_extended(self):
        class Wrapper(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Leaf()

            def __getattr__(self, name):
                try:
                    return super().__getattr__(name)
                except AttributeError:
                    return getattr(self.inner, name)

        assert Wrapper().weight.shape == (2, 3)

    def test_call_super_init_passes_arguments_on(self):
        class Mixin:
            def __init__(self, size):
                self.size = size

        class Both(nn.Module, Mixin):
            call_super_init = True

        assert Both(3).size == 3


class TestParameter:
    def test_printing(self):
        assert repr(nn.Parameter(ones(1))).startswith("Parameter containing:\n")

    def test_empty_and_wrong(self):
        assert nn.Parameter().shape == (0,)
        with pytest.raises(TypeError):
            nn.Parameter([1.0])
        with pytest.raises(TypeError):
            nn.Buffer([1.0])

    def test_shares_memory_and_is_a_leaf(self):
        data = ones(2)
        p = nn.Parameter(data)
        data[0] = 7
        assert p[0].item() == 7 and p.is_leaf and p.requires_grad and isinstance(p, Tensor)
        assert not nn.Parameter(data, requires_grad=False).requires_grad

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
    def test_copies(self, again):
        p = nn.Parameter(ones(2), requires_grad=False)
        new = again(p)
        assert type(new) is nn.Parameter and not new.requires_grad and new is not p
        assert new.data_ptr() != p.data_ptr()
        b = again(nn.Buffer(ones(2), persistent=False))
        assert type(b) is nn.Buffer and not b.persistent

    def test_non_leaf_is_refused(self):
        m = nn.Module()
        p = nn.Parameter(ones(2))
        assert type(p * 2) is Tensor
        m.p = p
        assert (m.p * 2).requires_grad


class TestState:
    def test_round_trip_shares_memory(self):
        m = Tree()
        state = m.state_dict()
        assert list(state) == [
            "left.weight", "left.mean", "right.weight", "right.mean", "tied.weight", "tied.mean",
        ]  # fmt: skip
        assert not state["left.weight"].requires_grad
        state["left.mean"][0] = 9
        assert m.left.mean[0].item() == 9
        assert m.state_dict(keep_vars=True)["left.weight"] is m.left.weight
        assert state._metadata["left"] == {"version": 1}

    def test_prefix_and_destination(self):
        destination = OrderedDict(a=1)
        assert Leaf().state_dict(destination=destination, prefix="x.") is destination
        assert list(destination) == ["a", "x.weight", "x.mean"]
        with pytest.warns(FutureWarning):
            assert list(Leaf().state_dict(None, "y.")) == ["y.weight", "y.mean"]

    def test_loading_copies(self):
        m, other = Leaf(), Leaf()
        other.weight.data.fill_(5)
        weight = m.weight
        assert str(m.load_state_dict(other.state_dict())) == "<All keys matched successfully>"
        assert m.weight is weight and m.weight[0, 0].item() == 5
        assert m.weight.data_ptr() != other.weight.data_ptr()

    def test_strict_errors_list_everything(self):
        state = {"left.weight": ones(3, 2), "more": ones(1), "right.x.y": ones(1)}
        with pytest.raises(RuntimeError) as info:
            Tree().load_state_dict(state)
        assert str(info.value) == (
            "Error(s) in loading state_dict for Tree:\n"
            '\tMissing key(s) in state_dict: "left.mean", "right.weight", "right.mean", '
            '"tied.weight", "tied.mean". \n'
            '\tUnexpected key(s) in state_dict: "more", "right.x.y". \n'
            "\tsize mismatch for left.weight: copying a param with shape "
            f"{state['left.weight'].shape} from checkpoint, the shape in current model is "
            f"{Tree().left.weight.shape}."
        )

    def test_not_strict_reports_keys_but_not_sizes(self):
        keys = Leaf().load_state_dict({"other": ones(1)}, strict=False)
        assert keys.missing_keys == ["weight", "mean"] and keys.unexpected_keys == ["other"]
        with pytest.raises(RuntimeError, match="size mismatch for mean"):
            Leaf().load_state_dict({"mean": ones(2)}, strict=False)

    def test_wrong_things(self):
        with pytest.raises(TypeError, match="dict-like"):
            Leaf().load_state_dict([1])
        with pytest.raises(RuntimeError, match='parameter named "mean", expected'):
            Leaf().load_state_dict({"weight": ones(2, 3), "mean": 3})

    def test_assign_takes_tensors_as_they_are(self):
        m = Leaf()
        m.weight.requires_grad_(False)
        state = {"weight": ones(2, 3, dtype=amity.float64), "mean": ones(3)}
        m.load_state_dict(state, assign=True)
        assert m.weight.dtype is amity.float64 and isinstance(m.weight, nn.Parameter)
        assert not m.weight.requires_grad and m.mean is state["mean"]

    def test_loading_casts_to_the_modules_dtype(self):
        m = Leaf()
        m.load_state_dict({"weight": ones(2, 3, dtype=amity.float64), "mean": ones(3)})
        assert m.weight.dtype is amity.float32

    def test_zero_dim_takes_one_element(self):
        m = nn.Module()
        m.scale = nn.Parameter(amity.tensor(2.0))
        m.load_state_dict({"scale": ones(1)})
        assert m.scale.shape == () and m.scale.item() == 1

    def test_extra_state(self):
        class Extra(nn.Module):
            value = 1

            def get_extra_state(self):
                return {"value": self.value}

            def set_extra_state(self, state):
                self.value = state["value"]

        m = nn.Sequential(Extra())
        m[0].value = 8
        state = m.state_dict()
        assert state == {"0._extra_state": {"value": 8}}
        new = nn.Sequential(Extra())
        new.load_state_dict(state)
        assert new[0].value == 8
        with pytest.raises(RuntimeError, match='Missing key.*"0._extra_state"'):
            new.load_state_dict({})
        with pytest.raises(RuntimeError, match='Unexpected key.*"_extra_state"'):
            nn.Module().load_state_dict({"_extra_state": 1})
        with pytest.raises(RuntimeError, match="get_extra_state"):
            nn.Module().get_extra_state()
        with pytest.raises(RuntimeError, match="set_extra_state"):
            nn.Module().set_extra_state(1)

    def test_hooks_around_saving_and_loading(self):
        m, log = nn.Sequential(Leaf()), []
        m[0].register_state_dict_pre_hook(lambda mod, prefix, keep: log.append(("pre", prefix)))
        m[0]._register_state_dict_hook(lambda mod, s, prefix, meta: log.append(("post", prefix)))
        m.register_state_dict_post_hook(lambda mod, s, prefix, meta: s.update(more=ones(1)))
        m[0]._register_load_state_dict_pre_hook(lambda s, *rest: log.append(("load", len(rest))))
        m[0].register_load_state_dict_pre_hook(
            lambda mod, s, prefix, *rest: s.setdefault(prefix + "late", 1)
        )

        def forget(module, keys):
            log.append("after")
            keys.unexpected_keys.clear()

        m.register_load_state_dict_post_hook(forget)
        state = m.state_dict()
        assert list(state) == ["0.weight", "0.mean", "more"]
        m.load_state_dict(state)
        assert log == [("pre", "0."), ("post", "0."), ("load", 6), "after"]
        m.register_load_state_dict_post_hook(lambda module, keys: keys)
        with pytest.raises(RuntimeError, match="post-hook"):
            m.load_state_dict(state)

    def test_public_post_hook_may_not_return(self):
        m = Leaf()
        m.register_state_dict_post_hook(lambda mod, s, prefix, meta: s)
        with pytest.raises(RuntimeError, match="post-hook"):
            m.state_dict()


def story(order):
    """A module whose hooks write down when they run."""
    m = nn.Linear(2, 2)
    m.register_forward_pre_hook(lambda m, a: order.append("pre1"))
    m.register_forward_pre_hook(lambda m, a: order.append("pre0"), prepend=True)
    m.register_forward_hook(lambda m, a, out: order.append("post1"))
    m.register_forward_hook(lambda m, a, out: order.append("post0"), prepend=True)
    m.register_full_backward_pre_hook(lambda m, g: order.append("back-pre"))
    m.register_full_backward_hook(lambda m, gi, go: order.append("back"))
    return m


class TestHooks:
    def test_order(self):
        order = []
        with (
            hooks.register_module_forward_pre_hook(lambda m, a: order.append("all-pre")),
            hooks.register_module_forward_hook(lambda m, a, out: order.append("all-post")),
            hooks.register_module_full_backward_pre_hook(lambda m, g: order.append("all-bp")),
            hooks.register_module_full_backward_hook(lambda m, gi, go: order.append("all-b")),
        ):
            story(order)(ones(1, 2, requires_grad=True)).sum().backward()
        assert order == [
            "all-pre", "pre0", "pre1", "all-post", "post0", "post1",
            "all-bp", "back-pre", "all-b", "back",
        ]  # fmt: skip
        order.clear()
        story(order)(ones(1, 2))
        assert order == ["pre0", "pre1", "post0", "post1"]

    def test_pre_hook_changes_arguments(self):
        m = nn.Identity()
        m.register_forward_pre_hook(lambda m, args: args[0] + 1)
        m.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
        assert m(3) == 8

    def test_forward_hook_changes_output(self):
        m = nn.Identity()
        handle = m.register_forward_hook(lambda m, args, out: out + 1)
        assert m(3) == 4
        handle.remove()
        handle.remove()
        assert m(3) == 3

    def test_with_kwargs(self):
        class Add(nn.Module):
            def forward(self, x, *, y=0):
                return x + y

        m, seen = Add(), []
        m.register_forward_pre_hook(lambda m, a, k: (a, {"y": k["y"] + 1}), with_kwargs=True)
        m.register_forward_hook(lambda m, a, k, out: seen.append((a, k, out)), with_kwargs=True)
        assert m(1, y=2) == 4
        assert seen == [((1,), {"y": 3}, 4)]
        m.register_forward_pre_hook(lambda m, a, k: 3, with_kwargs=True)
        with pytest.raises(RuntimeError, match="None or a tuple"):
            m(1, y=2)

    def test_always_call(self):
        class Fails(nn.Module):
            def forward(self, x):
                raise ValueError("boom")

        m, seen = Fails(), []
        m.register_forward_hook(lambda m, a, out: seen.append("never"))
        m.register_forward_hook(lambda m, a, out: seen.append(out), always_call=True)
        with pytest.raises(ValueError, match="boom"):
            m(1)
        assert seen == [None]

        def broken(m, a, out):
            raise RuntimeError("hook")

        m.register_forward_hook(broken, always_call=True)
        with pytest.warns(UserWarning, match="always_call"), pytest.raises(ValueError):
            m(1)

    def test_a_hook_that_failed_is_not_called_again(self):
        m, seen = nn.Identity(), []

        def fails(m, a, out):
            seen.append(1)
            raise ValueError("hook")

        m.register_forward_hook(fails, always_call=True)
        with pytest.raises(ValueError):
            m(1)
        assert seen == [1]

    def test_backward_hooks_see_gradients(self):
        m, seen = nn.Linear(2, 3, bias=False), {}
        m.register_full_backward_pre_hook(lambda m, go: seen.update(pre=go))
        m.register_full_backward_hook(lambda m, gi, go: seen.update(gi=gi, go=go))
        x = ones(1, 2, requires_grad=True)
        m(x).sum().backward()
        assert [tuple(g.shape) for g in seen["go"]] == [(1, 3)]
        np.testing.assert_allclose(seen["gi"][0].numpy(), x.grad.numpy())
        assert np.all(seen["pre"][0].numpy() == 1)

    def test_backward_hooks_change_gradients(self):
        x = ones(1, 2, requires_grad=True)
        m = nn.Linear(2, 3, bias=False)
        m(x).sum().backward()
        plain, x.grad, m.weight.grad = x.grad, None, None
        m.register_full_backward_pre_hook(lambda m, go: (go[0] * 2,))
        m.register_full_backward_hook(lambda m, gi, go: (gi[0] * 5,))
        m(x).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 10 * plain.numpy(), rtol=1e-6)
        np.testing.assert_allclose(m.weight.grad.numpy(), np.full((3, 2), 2.0))

    def test_backward_hook_without_input_gradients(self):
        m, seen = nn.Linear(2, 3), []
        m.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].shape)))
        m(ones(1, 2)).sum().backward()
        assert seen == [((None,), (1, 3))]
        m.register_full_backward_hook(lambda m, gi, go: (ones(1, 2),))
        with pytest.raises(RuntimeError, match="no input requires a gradient"):
            m(ones(1, 2)).sum().backward()

    def test_backward_hook_with_several_outputs_and_inputs(self):
        class Two(nn.Module):
            def forward(self, a, flag, b):
                return a * 2, b * 3

        m, seen = Two(), []
        m.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        a, b = ones(1, requires_grad=True), ones(1, requires_grad=True)
        left, _ = m(a, True, b)
        left.sum().backward()
        ((gi, go),) = seen
        assert gi[0].item() == 2 and gi[1] is None and go[0].item() == 1 and go[1] is None
        m.register_full_backward_hook(lambda m, gi, go: gi[0])
        with pytest.raises(RuntimeError, match="expected 3"):
            m(a, True, b)[0].sum().backward()

    def test_backward_hooks_warn_about_other_outputs(self):
        class Named(nn.Module):
            def forward(self, x):
                return {"y": x}

        m = Named()
        m.register_full_backward_hook(lambda m, gi, go: None)
        with pytest.warns(UserWarning, match="only where it is a Tensor or a tuple"):
            m(ones(1, requires_grad=True))

    def test_registration_hooks(self):
        seen = []
        note = lambda m, name, value: seen.append(name)  # noqa: E731
        with (
            hooks.register_module_parameter_registration_hook(note),
            hooks.register_module_buffer_registration_hook(note),
            hooks.register_module_module_registration_hook(note),
        ):
            nn.Sequential(nn.BatchNorm1d(2))
        assert seen == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked", "0"]
        swap = nn.Parameter(ones(7))
        with hooks.register_module_parameter_registration_hook(lambda m, n, p: swap):
            assert nn.PReLU().weight is swap

    def test_a_handle_does_not_keep_its_module(self):
        m = nn.Identity()
        handle = m.register_forward_hook(print)
        alive = weakref.ref(m)
        del m
        gc.collect()
        assert alive() is None
        handle.remove()


class TestChanges:
    def test_apply_is_depth_first(self):
        seen = []
        m = nn.Sequential(nn.Sequential(nn.Identity()), nn.ReLU())
        assert m.apply(lambda m: seen.append(type(m).__name__)) is m
        assert seen == ["Identity", "Sequential", "ReLU", "Sequential"]

    def test_casts_keep_identity_and_integers(self):
        m = nn.BatchNorm1d(2)
        weight = m.weight
        weight.grad = ones(2)
        for cast, dtype in (
            (m.double, amity.float64),
            (m.half, amity.float16),
            (m.bfloat16, amity.bfloat16),
            (m.float, amity.float32),
            (lambda: m.to(amity.float64), amity.float64),
            (lambda: m.to("cpu", amity.float32), amity.float32),
            (lambda: m.to(dtype=amity.float64), amity.float64),
            (lambda: m.to(ones(1)), amity.float32),
            (lambda: m.to(device="cpu"), amity.float32),
        ):
            assert cast() is m
            assert m.weight is weight and weight.dtype is dtype and weight.grad.dtype is dtype
            assert m.running_mean.dtype is dtype and weight.requires_grad and weight.is_leaf
            assert m.num_batches_tracked.dtype is amity.int64
        with pytest.raises(TypeError, match="only accepts floating point"):
            m.to(amity.int64)
        with pytest.raises(TypeError):
            m.to(kind="cpu")

    def test_train_and_eval(self):
        m = Tree()
        assert m.eval() is m and not m.right.training
        assert m.train().left.training
        with pytest.raises(ValueError, match="boolean"):
            m.train(1)

    def test_requires_grad_and_zero_grad(self):
        m = nn.Linear(2, 2)
        assert m.requires_grad_(False) is m and not m.weight.requires_grad
        m.requires_grad_()
        m(ones(1, 2)).sum().backward()
        m.zero_grad(set_to_none=False)
        assert np.all(m.weight.grad.numpy() == 0)
        m.zero_grad()
        assert m.weight.grad is None

    def test_to_empty_keeps_shapes(self):
        m = nn.Linear(2, 3)
        m.to_empty(device="cpu")
        assert m.weight.shape == (3, 2) and m.weight.requires_grad

    def test_printing(self):
        class Wide(nn.Module):
            def extra_repr(self):
                return "a=1\nb=2"

        assert repr(Wide()) == "Wide(\n  a=1\n  b=2\n)"
        assert repr(nn.Sequential(Wide())) == "Sequential(\n  (0): Wide(\n    a=1\n    b=2\n  )\n)"
        assert repr(nn.Module()) == "Module()"


def grown():
    m = Tree()
    m.note = [1, 2]
    m.register_forward_hook(print)
    return m.eval()


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_are_whole_and_apart(again):
    m = grown()
    new = again(m)
    assert type(new) is Tree and new.note == [1, 2] and new.note is not m.note
    assert new.tied is new.left and new.left is new._modules["left"]
    assert new.left.weight is new.left._parameters["weight"]
    assert not new.training and len(new._forward_hooks) == 1
    assert list(new.state_dict()) == list(m.state_dict())
    new.left.weight.data.fill_(3)
    assert m.left.weight[0, 0].item() == 1
    new._modules["extra"] = Leaf()
    assert hasattr(new, "extra") and not hasattr(m, "extra")


def test_shallow_copy_shares_tensors_but_not_registries():
    m = Leaf()
    new = copy.copy(m)
    assert new.weight is m.weight
    new.weight = nn.Parameter(ones(1))
    assert m.weight.shape == (2, 3)


def test_tensors_of_a_module_print_once():
    assert repr(nn.Parameter(ones(1))).count("containing") == 1
    assert repr(nn.Buffer(ones(1))) == repr(ones(1))
