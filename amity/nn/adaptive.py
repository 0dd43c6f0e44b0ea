"""A softmax over very many classes, in clusters by frequency."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence

from amity import ops
from amity.core.errors import fail
from amity.frontend.tensor import Tensor
from amity.nn.container import ModuleList, Sequential
from amity.nn.linear import Linear
from amity.nn.module import Module

ASMoutput = namedtuple("ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log softmax whose rare classes stand in clusters with small projections.

    shape:  x[N, in_features] or x[in_features], target[N] or [] -> output like target, loss []
    source: Grave et al. 2016, arXiv:1609.04309
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        is_ordered = cutoffs == sorted(set(cutoffs)) and min(cutoffs) > 0
        if not is_ordered or max(cutoffs) > n_classes - 1 or any(int(c) != c for c in cutoffs):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an "
                "increasing order, where each value is between 1 and n_classes-1"
            )
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        options = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **options)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            hidden = int(in_features // div_value ** (i + 1))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(
                Sequential(
                    Linear(in_features, hidden, bias=False, **options),
                    Linear(hidden, size, bias=False, **options),
                )
            )

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.head.reset_parameters()
        for project, out in self.tail:
            project.reset_parameters()
            out.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> ASMoutput:
        self._check(input_, target_)
        is_batched = target_.dim() > 0
        input = input_ if is_batched else input_.unsqueeze(0)
        target = target_ if is_batched else target_.unsqueeze(0)
        if target.numel() and not (0 <= int(target.min()) and int(target.max()) < self.n_classes):
            got = f"values in range [{int(target.min())}, {int(target.max())}]"
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but {got} were found. "
            )
        output = self._head_log_prob(input, target)
        for i, tail in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            if rows.numel():
                tail_log_prob = ops.log_softmax(tail(input.index_select(0, rows)), dim=1)
                places = (target.index_select(0, rows) - low).unsqueeze(1)
                output = output.index_add(0, rows, tail_log_prob.gather(1, places).squeeze(1))
        loss = (-output).mean()
        return ASMoutput(output if is_batched else output.squeeze(0), loss)

    def _check(self, input: Tensor, target: Tensor) -> None:
        if target.dim() not in (0, 1):
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if input.dim() != target.dim() + 1:
            raise RuntimeError(
                f"{target.dim()}D target tensor expects {target.dim() + 1}D input tensors, "
                f"but found inputs with sizes {tuple(input.shape)}."
            )
        if target.dim() == 1 and input.shape[0] != target.shape[0]:
            got = f"{input.shape[0]} inputs and {target.shape[0]} targets"
            raise fail(RuntimeError, "AdaptiveLogSoftmaxWithLoss", got, "the same number")

    def _head_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        """Log probability, by the head, of the target or of the cluster that holds it."""
        place = target
        for i in range(self.n_clusters):
            is_here = (target >= self.cutoffs[i]) & (target < self.cutoffs[i + 1])
            place = ops.where(is_here, self.shortlist_size + i, place)
        head = ops.log_softmax(self.head(input), dim=1)
        return head.gather(1, place.unsqueeze(1)).squeeze(1)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log probabilities of all classes.

        shape: x[N, in_features] -> [N, n_classes]
        """
        head = ops.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            cluster = head[:, self.shortlist_size + i].unsqueeze(1)
            parts.append(ops.log_softmax(tail(input), dim=1) + cluster)
        return ops.cat(parts, dim=1)

    def predict(self, input: Tensor) -> Tensor:
        """The class of the highest log probability.

        shape: x[N, in_features] -> [N]
        """
        return ops.argmax(self.log_prob(input), dim=1)
