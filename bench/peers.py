"""What each library makes of a workload: a call that does the work once, and the numbers it gives.

All start from the same weights. A library is imported only where it is asked for, so that a process
can hold one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import functional
from .models import MODELS
from .workloads import MOMENTUM, Workload

Weights = dict[str, np.ndarray]


@dataclass
class Job:
    """One mode's work: `call` returns when it is done, `numbers` reads what it gave."""

    call: Callable[[], Any]
    numbers: Callable[[Any], list[np.ndarray]]


def flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


# -- amity and PyTorch: the same code


def libraries(lib: Any, work: Workload, weights: Weights, **options: Any) -> tuple[Any, Callable]:
    """A model and its forward function, or its loss and the rest of a training step."""
    model = MODELS[work.model](lib, **work.config)
    model.load_state_dict({n: lib.from_numpy(np.array(a)) for n, a in weights.items()})
    inputs = [lib.from_numpy(x) for x in work.inputs()]
    lib.set_grad_enabled(work.is_training)
    if not work.is_training:
        model.eval()
        if not work.is_mixed:
            return model, lambda f: lambda: f(*inputs)

        def mixed(*inputs: Any) -> Any:
            with lib.autocast("cpu", dtype=lib.bfloat16):
                return model(*inputs).float()

        return mixed, lambda f: lambda: f(*inputs)
    labels = lib.from_numpy(work.labels()).flatten()
    options = {"lr": work.lr, **options}
    if work.optimizer == "SGD":
        options["momentum"] = MOMENTUM
    update = getattr(lib.optim, work.optimizer)(model.parameters(), **options)

    def loss_of() -> Any:
        with lib.autocast("cpu", dtype=lib.bfloat16, enabled=work.is_mixed):
            logits = model(*inputs)
        return lib.nn.functional.cross_entropy(logits.float().flatten(0, -2), labels)

    def stepping(loss_of: Callable) -> Callable:
        def step() -> Any:
            loss = loss_of()
            update.zero_grad()
            loss.backward()
            if work.clip:
                lib.nn.utils.clip_grad_norm_(model.parameters(), work.clip)
            update.step()
            return loss

        return step

    return loss_of, stepping


def tensors(result: Any) -> list[np.ndarray]:
    return [t.detach().numpy() for t in flat(result)]


def amity_job(work: Workload, weights: Weights, threads: int, is_compiled: bool) -> Job:
    import amity  # lazy: a process may hold another library alone

    amity.set_num_threads(threads)
    part, whole = libraries(amity, work, weights)
    if not is_compiled:
        return Job(whole(part), tensors)
    call = amity.compile(whole(part)) if work.is_training else whole(amity.compile(part))
    return Job(call, tensors)


def torch_job(work: Workload, weights: Weights, threads: int, is_compiled: bool) -> Job:
    import torch  # lazy: a process may hold another library alone

    torch.set_num_threads(threads)
    part, whole = libraries(torch, work, weights, **({"fused": True} if work.optimizer else {}))
    return Job(whole(torch.compile(part, dynamic=False) if is_compiled else part), tensors)


# -- JAX


def arrays(result: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in flat(result)]


def jax_job(work: Workload, weights: Weights, threads: int) -> Job:
    import jax  # lazy: an optional peer

    from . import ops_jax as ops  # lazy: imports JAX

    params, stats = functional.converted(weights)
    params, stats = jax.device_put((params, stats))
    inputs = jax.device_put(functional.batch(work.inputs()))
    if not work.is_training:

        @jax.jit
        def infer(params: Any, stats: Any, inputs: Any) -> Any:
            return functional.run(ops, work, params, stats, inputs)

        return Job(lambda: jax.block_until_ready(infer(params, stats, inputs)), arrays)
    [labels] = jax.device_put(functional.batch([work.labels()]))

    def loss_of(params: Any, stats: Any, inputs: Any) -> tuple[Any, Any]:
        stats = dict(stats)
        logits = functional.run(ops, work, params, stats, inputs)
        return ops.cross_entropy(logits, labels), stats

    @partial(jax.jit, donate_argnums=(0, 1, 2, 3))
    def step(params: Any, stats: Any, states: Any, t: Any, inputs: Any) -> tuple:
        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params, stats, inputs)
        grads, new, kept = functional.clipped(ops, grads, work.clip), {}, {}
        for n, p in params.items():
            new[n], kept[n] = functional.updated(
                ops, work.optimizer, work.lr, p, grads[n], states[n], t
            )
        return loss, (new, stats, kept, t + 1)

    slots = range(functional.STATES[work.optimizer])
    states = {n: tuple(ops.zeros(p.shape) for _ in slots) for n, p in params.items()}
    held = [(params, stats, states, jax.device_put(np.float32(1)))]

    def call() -> Any:
        loss, held[0] = step(*held[0], inputs)
        jax.block_until_ready(held[0])
        return loss

    return Job(call, arrays)


# -- TensorFlow


def tensorflow_job(work: Workload, weights: Weights, threads: int, is_xla: bool) -> Job:
    import tensorflow as tf  # lazy: an optional peer

    from . import ops_tensorflow as ops  # lazy: imports TensorFlow

    if tf.config.threading.get_intra_op_parallelism_threads() != threads:  # only before any work
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    compiled = tf.function(jit_compile=True) if is_xla else tf.function
    params, stats = functional.converted(weights)
    inputs = [tf.constant(x) for x in functional.batch(work.inputs())]
    if not work.is_training:
        params, stats = ({n: tf.constant(a) for n, a in d.items()} for d in (params, stats))

        @compiled
        def infer(*inputs: Any) -> Any:
            return functional.run(ops, work, params, stats, list(inputs))

        return Job(lambda: infer(*inputs), arrays)
    labels = tf.constant(functional.batch([work.labels()])[0])
    params, stats = ({n: tf.Variable(a) for n, a in d.items()} for d in (params, stats))
    slots = range(functional.STATES[work.optimizer])
    states = {n: [tf.Variable(ops.zeros(p.shape)) for _ in slots] for n, p in params.items()}
    t = tf.Variable(1.0)

    @compiled
    def step(*inputs: Any) -> Any:
        new_stats = dict(stats)
        with tf.GradientTape() as tape:
            logits = functional.run(ops, work, params, new_stats, list(inputs))
            loss = ops.cross_entropy(logits, labels)
        grads = tape.gradient(loss, list(params.values()))
        grads = dict(zip(params, map(tf.convert_to_tensor, grads), strict=True))
        grads = functional.clipped(ops, grads, work.clip)
        for n, p in params.items():
            value, kept = functional.updated(
                ops, work.optimizer, work.lr, p, grads[n], states[n], t
            )
            p.assign(value)
            for variable, x in zip(states[n], kept, strict=True):
                variable.assign(x)
        for n, variable in stats.items():
            variable.assign(new_stats[n])
        t.assign_add(1.0)
        return loss

    return Job(lambda: step(*inputs), arrays)


# -- modes, by library

OURS = ("amity eager", "amity compiled")
COMPILED = OURS[1]
REFERENCE = "PyTorch eager"

PEERS: dict[str, dict[str, Callable[[Workload, Weights, int], Job]]] = {
    "amity": {
        OURS[0]: partial(amity_job, is_compiled=False),
        COMPILED: partial(amity_job, is_compiled=True),
    },
    "torch": {
        REFERENCE: partial(torch_job, is_compiled=False),
        "torch.compile": partial(torch_job, is_compiled=True),
    },
    "jax": {"jax.jit": jax_job},
    "tensorflow": {
        "tf.function": partial(tensorflow_job, is_xla=False),
        "tf.function XLA": partial(tensorflow_job, is_xla=True),
    },
}
MODES = {name: make for modes in PEERS.values() for name, make in modes.items()}
LIBRARY = {name: library for library, modes in PEERS.items() for name in modes}
