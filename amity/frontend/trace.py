"""Tracing: tensors that stand for nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from amity.core.device import CPU
from amity.core.dtype import DType
from amity.core.shape import Shape, Size, contiguous_strides, numel
from amity.ir.graph import Graph, Node, Spec

_made: dict[str, Callable] = {}


class Symbol:
    """The layout of a traced tensor: what is known of it, and its node. Never a key of plans."""

    __slots__ = ("dtype", "is_weak", "ndim", "node", "shape")
    device = CPU
    is_contiguous = is_dense = True

    def __init__(self, node: Node) -> None:
        spec = node.spec
        self.node, self.dtype, self.shape = node, spec.dtype, Size.of(spec.shape)
        self.ndim, self.is_weak = len(spec.shape), spec.is_weak

    @property
    def numel(self) -> int:
        return numel(self.shape)

    @property
    def strides(self) -> Shape:
        return contiguous_strides(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def detached(self) -> Symbol:
        return Symbol(self.node)

    def item(self) -> Any:
        raise RuntimeError("item: got a traced tensor; its value is not known yet")

    def storage_offset(self) -> int:
        raise self.no_data("storage_offset")

    def no_data(self, op: str) -> Exception:
        return RuntimeError(
            f"{op}: got a traced tensor, which has no data; expected a tensor with memory"
        )

    def __repr__(self) -> str:
        return f"Symbol({self.node!r})"


def traced(node: Node) -> Any:
    """A tensor that stands for a node."""
    return _made["tensor"](node)


def install(make: Callable[[Node], Any]) -> None:
    """Say how a traced tensor is made."""
    _made["tensor"] = make


def input_node(dtype: DType, shape: Sequence[int], is_weak: bool = False) -> Node:
    return Node(None, (), Spec(tuple(shape), dtype, is_weak))


def is_traced(value: Any) -> bool:
    return type(getattr(value, "layout", None)) is Symbol


def graph_of(inputs: Sequence[Node], results: Sequence[Any]) -> Graph:
    """The graph from input nodes to traced results."""
    return Graph(list(inputs), [r.layout.node for r in results])
