"""Parts of a program that keep nothing for their backward pass: they run again when it comes.

The part runs and is recorded as ever. Then its nodes of the tape give up what they kept, for a note
of where to get it: the first node that a gradient reaches runs the part again, and each takes from
the new nodes what it had. So closures, parameters, hooks and gradients of gradients need nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from amity.core.tree import flatten

from .autocast import autocast, get_autocast_dtype, is_autocast_enabled
from .fused import CompositeRule
from .grad_mode import enable_grad
from .random import default_generator
from .rules import OpRule, version_of
from .tape import EDGES, RULE, SAVED, SEQ, VERSIONS, modes, next_seq
from .tensor import Tensor

CHECKS = ("default", "none")


class CheckpointError(RuntimeError):
    """A part that did something else when it ran again."""


def noop_context_fn() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts for the first run and the second: none."""
    return nullcontext(), nullcontext()


class Given:
    """What a node kept, given up: the `index`-th of a part."""

    __slots__ = ("index", "part")

    def __init__(self, part: Part, index: int) -> None:
        self.part, self.index = part, index

    def recalled(self) -> tuple[Sequence[Any], Sequence[int]]:
        """The values and their versions, made again."""
        return self.part.take(self.index)


class Part:
    """A call that is to run again."""

    def __init__(
        self, function: Callable, args: Sequence[Any], kwargs: dict[str, Any], preserves: bool,
        context_fn: Callable, is_checked: bool,
    ) -> None:  # fmt: skip
        self.function, self.args, self.kwargs = function, args, kwargs
        self.is_checked = is_checked
        self.first_context, self.context = context_fn()
        self.random = default_generator.place() if preserves else None
        self.casts = is_autocast_enabled("cpu"), get_autocast_dtype("cpu")
        self.versions = self._versions()
        self.held: dict[int, tuple[Sequence[Any], Sequence[int]]] = {}

    def _versions(self) -> list[int]:
        return [version_of(x) for x in flatten((self.args, self.kwargs))[0]]

    def run(self) -> Any:
        """The first run."""
        since = next_seq()
        with self.first_context:
            out = self.function(*self.args, **self.kwargs)
        if modes.grad:
            nodes = _nodes(out, since)
            self.kept = [_signature(n) for n in nodes]
            for i, node in enumerate(nodes):
                node[SAVED], node[VERSIONS] = Given(self, i), ()
        return out

    def take(self, index: int) -> tuple[Sequence[Any], Sequence[int]]:
        """What the node of a number kept; it is held for one asking."""
        if index not in self.held:
            self._run_again()
        return self.held.pop(index)

    def _run_again(self) -> None:
        if self._versions() != self.versions:
            raise CheckpointError(
                "checkpoint: one of the arguments has been modified by an inplace operation since; "
                "expected them as they were, for the function to run again"
            )
        is_on, dtype = self.casts
        since = next_seq()
        with enable_grad(), autocast("cpu", dtype, is_on), self._replayed(), self.context:
            out = self.function(*self.args, **self.kwargs)
            nodes = _nodes(out, since)
        self._check([_signature(n) for n in nodes])
        self.held = {i: (n[SAVED], n[VERSIONS]) for i, n in enumerate(nodes)}

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        """The random numbers of the first run; afterwards the stream goes on as if there were none."""
        if self.random is None:
            yield
            return
        here = default_generator.place()
        default_generator.move(self.random)
        try:
            yield
        finally:
            default_generator.move(here)

    def _check(self, made: list[tuple]) -> None:
        if len(made) != len(self.kept):
            raise CheckpointError(
                "checkpoint: A different number of tensors was saved during the original forward and "
                f"recomputation: got {len(made)} ops that keep some; expected {len(self.kept)}"
            )
        for new, old in zip(made, self.kept, strict=True):
            if new != old and (self.is_checked or new[0] != old[0]):
                raise CheckpointError(
                    "checkpoint: Recomputed values for the following tensors have different metadata "
                    f"than during the forward pass: got {new}; expected {old}"
                )


def _nodes(out: Any, since: int) -> list[list]:
    """The nodes made after `since` that results lead to and that keep something, in order."""
    seen: dict[int, list] = {}
    stack = [t.tape for t in flatten(out)[0] if isinstance(t, Tensor)]
    while stack:
        node = stack.pop()
        if node is not None and node[SEQ] < since and id(node) not in seen:
            seen[id(node)] = node
            stack.extend(node[EDGES])
    kept = (n for n in seen.values() if isinstance(n[RULE], (OpRule, CompositeRule)) and n[SAVED])
    return sorted(kept, key=lambda n: -n[SEQ])


def _signature(node: list) -> tuple:
    """A node's name, and the shapes and dtypes of what it keeps."""
    if not isinstance(node[SAVED], tuple):  # a part within this part
        return (node[RULE].name,)
    kinds = [
        (tuple(s.shape), s.dtype.name) if isinstance(s, Tensor) else type(s).__name__
        for s in node[SAVED]
    ]
    return (node[RULE].name, *kinds)


def checkpoint(
    function: Callable, *args: Any, use_reentrant: bool | None = None, context_fn: Callable = noop_context_fn,
    determinism_check: str = "default", debug: bool = False, early_stop: bool = True, **kwargs: Any,
) -> Any:  # fmt: skip
    """`function(*args, **kwargs)`, keeping only its arguments: what its backward pass needs is made
    again when it comes, with the same random numbers (unless `preserve_rng_state=False`).

    There is one way of doing so, that of PyTorch's `use_reentrant=False`, whatever that argument
    says; `debug` and `early_stop` change nothing either.

    errors: CheckpointError in the backward pass, if the function then does something else

    >>> import amity
    >>> x = amity.ones(2, requires_grad=True)
    >>> checkpoint(lambda x: (x * x).exp(), x).sum().backward()
    >>> x.grad
    tensor([5.4366, 5.4366])
    """
    preserves = kwargs.pop("preserve_rng_state", True)
    if determinism_check not in CHECKS:
        raise ValueError(
            f"determinism_check should be one of {list(CHECKS)}, but got: {determinism_check}"
        )
    part = Part(function, args, kwargs, preserves, context_fn, determinism_check == "default")
    return part.run()


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """Functions one after the other, in so many parts of which all but the last are checkpointed."""
    functions = list(functions.children() if hasattr(functions, "children") else functions)
    preserves = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))

    def chain(start: int, end: int) -> Callable:
        def call(x: Any) -> Any:
            for f in functions[start:end]:
                x = f(x)
            return x

        return call

    size, start = len(functions) // segments, 0
    for _ in range(segments - 1):
        part = chain(start, start + size)
        input = checkpoint(part, input, use_reentrant=use_reentrant, preserve_rng_state=preserves)
        start += size
    return chain(start, len(functions))(input)
