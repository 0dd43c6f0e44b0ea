"""Averaged weights: equal to PyTorch's averages, BatchNorm statistics and learning rates."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import amity
from amity.optim import swa_utils as ours

torch = pytest.importorskip("torch")
theirs = torch.optim.swa_utils


def models():
    """The same small model in both libraries."""
    pair = []
    for library in (amity, torch):
        nn = library.nn
        pair.append(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)))
    amity_model, torch_model = pair
    state = {key: amity.from_numpy(v.numpy().copy()) for key, v in torch_model.state_dict().items()}
    amity_model.load_state_dict(state)
    return pair


def change(model, library, seed):
    random = np.random.default_rng(seed)
    with library.no_grad():
        for p in model.parameters():
            p.copy_(library.from_numpy(np.asarray(random.normal(size=tuple(p.shape)), np.float32)))
        for b in model.buffers():
            b.add_(seed)


RULES = {
    "default": lambda s: {},
    "ema": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.7)},
    "swa": lambda s: {"multi_avg_fn": s.get_swa_multi_avg_fn()},
    "ema_single": lambda s: {"avg_fn": s.get_ema_avg_fn(0.7)},
    "swa_single": lambda s: {"avg_fn": s.get_swa_avg_fn()},
    "own": lambda s: {"avg_fn": lambda averaged, current, count: (averaged + current) / 2 + count},
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("use_buffers", [False, True])
def test_average_equals_pytorch(rule, use_buffers):
    model, torch_model = models()
    one = ours.AveragedModel(model, use_buffers=use_buffers, **rule(ours))
    # PyTorch's own get_swa_multi_avg_fn fails on integer buffers; its default is the same average.
    torch_rule = RULES["default"] if rule is RULES["swa"] else rule
    two = theirs.AveragedModel(torch_model, use_buffers=use_buffers, **torch_rule(theirs))
    for seed in range(4):
        change(model, amity, seed)
        change(torch_model, torch, seed)
        one.update_parameters(model)
        two.update_parameters(torch_model)
    assert one.state_dict().keys() == two.state_dict().keys()
    for key, value in two.state_dict().items():
        np.testing.assert_allclose(
            one.state_dict()[key].numpy(), value.numpy(), rtol=1e-5, atol=1e-6, err_msg=key
        )
    assert all(p.requires_grad and p.is_leaf for p in one.parameters())


def test_first_update_copies_and_forward_uses_the_average():
    model, _ = models()
    averaged = ours.AveragedModel(model).eval()
    change(model, amity, 1)
    x = amity.ones(2, 3)
    assert averaged(x).tolist() != model.eval()(x).tolist()
    averaged.update_parameters(model)
    assert averaged(x).tolist() == model(x).tolist() and averaged.n_averaged.item() == 1


def test_two_rules_are_refused_and_so_is_a_decay_above_one():
    with pytest.raises(ValueError, match="AveragedModel: got avg_fn and multi_avg_fn"):
        ours.AveragedModel(
            models()[0], avg_fn=ours.get_swa_avg_fn(), multi_avg_fn=ours.get_swa_multi_avg_fn()
        )
    for make in (ours.get_ema_avg_fn, ours.get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match=f"{make.__name__}: got decay=1.5"):
            make(1.5)


@pytest.mark.parametrize("wrapped", [False, True])
def test_update_bn_equals_pytorch(wrapped):
    model, torch_model = models()
    model[1].momentum = torch_model[1].momentum = 0.3
    batches = [np.random.default_rng(i).normal(size=(5, 3)).astype(np.float32) for i in range(3)]
    model.eval()
    torch_model.eval()
    for library, net, update in ((amity, model, ours), (torch, torch_model, theirs)):
        loader = [library.from_numpy(b) for b in batches]
        update.update_bn([(x, "label") for x in loader] if wrapped else loader, net)
        assert not net.training and net[1].momentum == 0.3
    for a, b in zip(model.buffers(), torch_model.buffers()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"anneal_epochs": 4, "anneal_strategy": "linear"},
        {"anneal_epochs": 0},
    ],
)
def test_swalr_equals_pytorch_and_goes_on(options):
    def run(library, utils, restored):
        p, q = library.ones(1, requires_grad=True), library.ones(1, requires_grad=True)
        optimizer = library.optim.SGD([{"params": p, "lr": 0.1}, {"params": q, "lr": 0.3}])
        make = lambda: utils.SWALR(optimizer, [0.05, 0.5], **options)  # noqa: E731
        scheduler, seen = make(), []
        for epoch in range(20):
            seen.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
            if restored and epoch == 2:
                saved = copy.deepcopy(scheduler.state_dict())
                lrs = [group["lr"] for group in optimizer.param_groups]
                scheduler = make()
                scheduler.load_state_dict(saved)
                for group, lr in zip(optimizer.param_groups, lrs):
                    group["lr"] = lr
                optimizer.step()
        return seen, set(scheduler.state_dict())

    (seen, keys), (torch_seen, torch_keys) = run(amity, ours, True), run(torch, theirs, False)
    np.testing.assert_allclose(seen, torch_seen, rtol=1e-12)
    assert keys == torch_keys and seen[-1] == pytest.approx([0.05, 0.5])


@pytest.mark.parametrize(
    "options", [{"anneal_strategy": "square"}, {"anneal_epochs": -1}, {"anneal_epochs": 1.5}]
)
def test_swalr_refuses_wrong_options(options):
    optimizer = amity.optim.SGD([amity.ones(1, requires_grad=True)])
    with pytest.raises(ValueError, match=f"SWALR: got {next(iter(options))}="):
        ours.SWALR(optimizer, 0.1, **options)
