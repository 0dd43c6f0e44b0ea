"""Optimizer: groups, hooks, saving, errors, closures, steps that gradients flow through."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import amity
from amity.optim import optimizer as optimizer_module

SIMPLE = ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta"]
SIMPLE += ["RMSprop", "Rprop", "ASGD"]

BAD_ARGUMENTS = [
    *[(name, {"lr": -1.0}, "lr=-1.0") for name in [*SIMPLE, "LBFGS"]],
    ("SGD", {"momentum": -0.1}, "momentum=-0.1"),
    ("SGD", {"weight_decay": -0.1}, "weight_decay=-0.1"),
    ("SGD", {"nesterov": True}, "nesterov"),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening=0.1"),
    ("SGD", {"fused": True, "foreach": True}, "foreach=True"),
    ("Adam", {"fused": True, "differentiable": True}, "differentiable=True"),
    ("Adagrad", {"fused": True, "foreach": True}, "foreach=True"),
    ("Adadelta", {"rho": 1.1}, "rho=1.1"),
    ("Adadelta", {"eps": -1.0}, "eps=-1.0"),
    ("Adagrad", {"lr_decay": -0.5}, "lr_decay=-0.5"),
    ("Adagrad", {"initial_accumulator_value": -1}, "initial_accumulator_value=-1"),
    ("RMSprop", {"alpha": -0.1}, "alpha=-0.1"),
    ("RMSprop", {"momentum": -0.1}, "momentum=-0.1"),
    ("Rprop", {"etas": (1.0, 0.5)}, "etas="),
    ("NAdam", {"momentum_decay": -0.2}, "momentum_decay=-0.2"),
    ("ASGD", {"weight_decay": -0.5}, "weight_decay=-0.5"),
    *[(n, {"betas": (1.0, 0.9)}, r"betas\[0\]=1.0") for n in SIMPLE[1:6]],
    *[(n, {"betas": (0.9, -0.1)}, r"betas\[1\]=-0.1") for n in SIMPLE[1:6]],
    *[(n, {"eps": -1.0}, "eps=-1.0") for n in SIMPLE[1:7]],
    *[(n, {"weight_decay": -1}, "weight_decay=-1") for n in SIMPLE[1:9]],
    ("Adam", {"lr": float("nan")}, "lr=nan"),
]


def parameter(*values: float) -> amity.Tensor:
    p = amity.tensor(list(values) or [1.0, 2.0], requires_grad=True)
    p.grad = amity.ones(len(p))
    return p


@pytest.mark.parametrize(("name", "options", "says"), BAD_ARGUMENTS)
def test_bad_argument_raises_as_pytorch_does(name, options, says):
    torch = pytest.importorskip("torch")
    with pytest.raises((ValueError, RuntimeError)) as theirs:
        getattr(torch.optim, name)([torch.ones(2, requires_grad=True)], **options)
    with pytest.raises(theirs.type, match=f"^{name}: got .*{says}.*; expected "):
        getattr(amity.optim, name)([parameter()], **options)


def test_lr_of_two_elements_is_refused():
    with pytest.raises(ValueError, match="Adam: got lr of 2 elements"):
        amity.optim.Adam([parameter()], lr=amity.ones(2))


def test_betas_are_both_floats_or_both_tensors():
    with pytest.raises(ValueError, match="both floats or both Tensors"):
        amity.optim.Adam([parameter()], betas=(amity.tensor(0.9), 0.99))
    p = parameter(1.0)
    amity.optim.Adam([p], lr=0.5, betas=(amity.tensor(0.9), amity.tensor(0.99))).step()
    np.testing.assert_allclose(p.item(), 0.5, rtol=1e-6)


# --- parameters and groups ---


@pytest.mark.parametrize(
    ("make_params", "error", "says"),
    [
        (lambda: parameter(), TypeError, "one tensor"),
        (list, ValueError, "empty parameter list"),
        (lambda: [1.0], TypeError, "float"),
        (lambda: {"params": 1}, TypeError, "str"),
        (lambda: [parameter() * 2], ValueError, "non-leaf"),
        (lambda: [{"params": {parameter()}}], TypeError, "a set"),
        (lambda: [("weight", parameter()), parameter()], ValueError, "names"),
    ],
)
def test_wrong_parameters_are_refused(make_params, error, says):
    with pytest.raises(error, match=says):
        amity.optim.SGD(make_params())


def test_non_leaf_that_retains_its_gradient_may_be_optimized():
    p = parameter() * 2
    p.retain_grad()
    (p * 3).sum().backward()
    amity.optim.SGD([p], lr=0.5).step()
    assert p.tolist() == [0.5, 2.5]


def test_parameter_in_two_groups_is_refused():
    p = parameter()
    with pytest.raises(ValueError, match="add_param_group: got a parameter of another group"):
        amity.optim.SGD([{"params": [p]}, {"params": [p]}])


def test_parameter_twice_in_a_group_warns():
    p = parameter()
    with pytest.warns(UserWarning, match="stands twice"):
        amity.optim.SGD([p, p])


def test_required_option_must_be_given():
    class Needy(amity.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"speed": optimizer_module.required})

    with pytest.raises(ValueError, match="no speed"):
        Needy([parameter()])
    assert Needy([{"params": parameter(), "speed": 2}]).param_groups[0]["speed"] == 2


def test_add_param_group_takes_defaults_and_one_tensor():
    optimizer = amity.optim.SGD([parameter()], lr=0.5, momentum=0.9)
    late = parameter(3.0)
    optimizer.add_param_group({"params": late, "lr": 0.25})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    assert optimizer.param_groups[1]["momentum"] == 0.9
    optimizer.step()
    assert late.item() == 2.75
    with pytest.raises(TypeError, match="add_param_group: got list"):
        optimizer.add_param_group([late])


def test_names_are_kept_and_saved():
    a, b, c = parameter(), parameter(), parameter()
    optimizer = amity.optim.SGD([("a", a), ("b", b)])
    assert optimizer.param_groups[0]["params"][1] is b
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["a", "b"]
    with pytest.raises(ValueError, match="all groups with names"):
        optimizer.add_param_group({"params": [c]})
    optimizer.add_param_group({"params": [("c", c)]})
    optimizer.step()
    assert c.tolist() == pytest.approx([0.999, 1.999])


def test_repr_is_pytorchs():
    torch = pytest.importorskip("torch")
    ours = amity.optim.AdamW([{"params": parameter(), "lr": 1}, {"params": parameter()}])
    p, q = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    assert repr(ours) == repr(torch.optim.AdamW([{"params": p, "lr": 1}, {"params": q}]))


# --- gradients ---


def test_zero_grad_forgets_or_fills():
    p, q = parameter(), parameter()
    q.grad = None
    optimizer = amity.optim.SGD([p, q])
    grad = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad and p.grad.tolist() == [0.0, 0.0] and q.grad is None
    optimizer.zero_grad()
    assert p.grad is None


def test_zero_grad_cuts_a_gradient_from_its_graph():
    p = parameter()
    p.grad = p * 3
    amity.optim.SGD([p]).zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0] and not p.grad.requires_grad


def test_step_keeps_the_parameter_a_leaf_and_the_gradient_untouched():
    p = parameter()
    before = p.data_ptr()
    amity.optim.Adam([p], weight_decay=0.1, maximize=True).step()
    assert p.is_leaf and p.requires_grad and p.data_ptr() == before
    assert p.grad.tolist() == [1.0, 1.0]


def test_step_counts_as_an_in_place_change():
    p = parameter()
    version = p._version
    amity.optim.SGD([p]).step()
    assert p._version > version
    loss = (p * p).sum()
    amity.optim.SGD([p]).step()
    with pytest.raises(RuntimeError, match="modified by an in-?place operation"):
        loss.backward()


def test_training_by_backward_reaches_the_minimum():
    p = amity.tensor([5.0, -3.0], requires_grad=True)
    optimizer = amity.optim.Adam([p], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = ((p - amity.tensor([1.0, 2.0])) ** 2).sum()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [1.0, 2.0], atol=1e-3)


@pytest.mark.parametrize("name", SIMPLE)
def test_closure_runs_with_gradients_and_its_loss_comes_back(name):
    p = parameter(2.0)
    optimizer = getattr(amity.optim, name)([p], lr=0.1)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        seen.append(amity.is_grad_enabled())
        return loss

    with amity.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert seen == [True] and p.item() < 2.0


def test_optimizer_of_ones_own_needs_only_a_step():
    class SignDescent(amity.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            with amity.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.add_(p.grad.sign(), alpha=-group["lr"])

    p = parameter()
    SignDescent([p], lr=0.5).step()
    assert p.tolist() == [0.5, 1.5]
    with pytest.raises(NotImplementedError):
        amity.optim.Optimizer([p], {}).step()


# --- hooks ---


def test_step_hooks_run_in_order_and_can_be_removed():
    p, seen = parameter(), []
    optimizer = amity.optim.SGD([p])

    def note(text):
        return lambda opt, args, kwargs: seen.append((text, opt is optimizer))

    handles = [
        optimizer_module.register_optimizer_step_pre_hook(note("every pre")),
        optimizer_module.register_optimizer_step_post_hook(note("every post")),
        optimizer.register_step_pre_hook(note("pre")),
        optimizer.register_step_post_hook(note("post")),
    ]
    optimizer.step()
    assert seen == [(t, True) for t in ("every pre", "pre", "post", "every post")]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(seen) == 4


def test_step_pre_hook_may_change_the_arguments():
    p, calls = parameter(), []
    optimizer = amity.optim.SGD([p])
    closure = lambda: calls.append(1)  # noqa: E731
    with optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((), {"closure": closure})):
        optimizer.step()
    assert calls == [1]
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: 5)
    with pytest.raises(RuntimeError, match="step_pre_hook: got 5"):
        optimizer.step()


def test_hooks_run_once_where_a_step_calls_its_parents():
    class Loud(amity.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    optimizer, seen = Loud([parameter()]), []
    optimizer.register_step_post_hook(lambda *args: seen.append(1))
    optimizer.step()
    assert seen == [1]


def test_state_dict_hooks_see_and_replace():
    optimizer, seen = amity.optim.SGD([parameter()]), []
    optimizer.register_state_dict_pre_hook(lambda opt: seen.append("pre"))
    optimizer.register_state_dict_post_hook(lambda opt, d: {**d, "note": 1})
    optimizer.register_state_dict_post_hook(lambda opt, d: seen.append(dict(d)), prepend=True)
    saved = optimizer.state_dict()
    assert saved["note"] == 1 and seen[0] == "pre" and "note" not in seen[1]

    optimizer.register_load_state_dict_pre_hook(lambda opt, d: {**d, "param_groups": faster})
    optimizer.register_load_state_dict_post_hook(lambda opt: seen.append("loaded"))
    faster = copy.deepcopy(saved["param_groups"])
    faster[0]["lr"] = 7
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 7 and seen[-1] == "loaded"


# --- saving ---


def test_loaded_state_is_a_copy():
    p = parameter()
    one = amity.optim.SGD([p], momentum=0.9)
    one.step()
    two = amity.optim.SGD([p], momentum=0.9)
    two.load_state_dict(one.state_dict())
    two.step()
    assert one.state[p]["momentum_buffer"].tolist() == [1.0, 1.0]
    assert two.state[p]["momentum_buffer"].tolist() == pytest.approx([1.9, 1.9])


def test_loaded_state_takes_the_parameters_dtype_but_for_step():
    p = parameter()
    saved = amity.optim.Adam([p])
    saved.step()
    half = amity.zeros(2, dtype=amity.bfloat16, requires_grad=True)
    optimizer = amity.optim.Adam([half])
    optimizer.load_state_dict(saved.state_dict())
    state = optimizer.state_dict()["state"][0]
    assert state["exp_avg"].dtype is amity.bfloat16
    assert state["step"].dtype is amity.float32 and state["step"].item() == 1.0


def test_old_state_without_new_options_and_with_a_number_as_step_loads():
    p = parameter()
    optimizer = amity.optim.Adam([p])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = 1
    for name in ("foreach", "maximize", "decoupled_weight_decay"):
        del saved["param_groups"][0][name]
    again = amity.optim.Adam([p])
    again.load_state_dict(saved)
    again.step()
    assert again.state_dict()["state"][0]["step"].item() == 2.0


def test_steps_are_counted_beyond_what_the_parameters_dtype_can():
    p = amity.zeros(1, dtype=amity.bfloat16, requires_grad=True)
    p.grad = amity.zeros(1, dtype=amity.bfloat16)
    for name in ("NAdam", "Adam"):
        optimizer = getattr(amity.optim, name)([p])
        optimizer.step()
        saved = optimizer.state_dict()
        saved["state"][0]["step"] = amity.tensor(1001.0)
        optimizer.load_state_dict(saved)
        optimizer.step()
        assert optimizer.state_dict()["state"][0]["step"].item() == 1002.0


@pytest.mark.parametrize("name", SIMPLE)
def test_saved_state_goes_on_exactly_alike(name):
    p, q = parameter(0.3, -0.7), parameter(0.3, -0.7)
    straight, saved = getattr(amity.optim, name)([p]), getattr(amity.optim, name)([q])
    for step in range(6):
        p.grad = amity.tensor([0.1 * step - 0.2, 0.3])
        q.grad = p.grad.clone()
        straight.step()
        saved.step()
        again = getattr(amity.optim, name)([q])
        again.load_state_dict(saved.state_dict())
        saved = again
    assert p.tolist() == q.tolist()


@pytest.mark.parametrize(
    ("groups", "says"),
    [([{"params": [0]}, {"params": [1]}], r"\[1, 1\]"), ([{"params": [0, 1, 2]}], r"\[3\]")],
)
def test_state_of_other_groups_is_refused(groups, says):
    optimizer = amity.optim.SGD([parameter(), parameter()])
    with pytest.raises(ValueError, match=f"load_state_dict: got groups of {says}.*expected"):
        optimizer.load_state_dict({"state": {}, "param_groups": groups})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("name", SIMPLE)
def test_copy_and_pickle_go_on_alike(name, copied):
    p = parameter()
    optimizer = getattr(amity.optim, name)([p])
    optimizer.step()
    twin = copied(optimizer)
    q = twin.param_groups[0]["params"][0]
    assert q is not p and repr(twin) == repr(optimizer)
    q.grad = amity.ones(2)
    optimizer.step()
    twin.step()
    assert p.tolist() == q.tolist()


# --- differentiable ---


@pytest.mark.parametrize("name", SIMPLE)
def test_differentiable_step_equals_the_plain_one(name):
    start, grads = [0.5, -1.5, 2.0], [[1.0, -2.0, 0.5], [0.3, 0.1, -0.7]]
    results = []
    for differentiable in (False, True):
        p = amity.tensor(start, dtype=amity.float64, requires_grad=True)
        if differentiable:
            p = p.clone()
        optimizer = getattr(amity.optim, name)([p], differentiable=differentiable)
        for grad in grads:
            p.grad = amity.tensor(grad, dtype=amity.float64)
            optimizer.step()
        results.append(p.detach().numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_gradient_flows_to_the_learning_rate():
    lr = amity.tensor(0.1, requires_grad=True)
    p = amity.tensor([1.0, 2.0], requires_grad=True).clone()
    p.grad = amity.tensor([3.0, 4.0])
    amity.optim.SGD([p], lr=lr, differentiable=True).step()
    p.sum().backward()
    assert lr.grad.item() == pytest.approx(-7.0)


def test_gradient_flows_through_two_adam_steps():
    def end(start, scale):
        p = start.clone()
        optimizer = amity.optim.Adam([p], lr=0.1, weight_decay=0.1, differentiable=True)
        for _ in range(2):
            p.grad = scale * p.clone()
            optimizer.step()
        return p

    start = amity.tensor([1.0, -2.0, 0.5], dtype=amity.float64, requires_grad=True)
    scale = amity.tensor(1.5, dtype=amity.float64, requires_grad=True)
    assert amity.autograd.gradcheck(end, (start, scale))
