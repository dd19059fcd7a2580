"""Where a recorded graph attends: fused kernels, and softmaxes whose result weighs the rows of another operand."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.engine.graph import Graph
from pellucid.engine.ops import Kind, Op
from pellucid.engine.private import BADDBMM, BMM, LOG_SOFTMAX, LOG_SUM_EXP

__all__ = ["Attending", "attending_nodes"]

_CARRIED = frozenset((Op.RESHAPE, Op.COPY, Op.SELECT))
_LONGEST = 8


@dataclass(frozen=True, slots=True)
class Attending:
    """One attention of the graph.

    Args:
        weights: node that makes the attention weights, or the fused one.
        product: node that weighs the values with them; the same where it is fused.
    """

    weights: int
    product: int

    @property
    def fused(self) -> bool:
        """Whether one kernel does all of it, so that the weights are nowhere."""
        return self.weights == self.product


def attending_nodes(graph: Graph) -> list[Attending]:
    """All attentions of the graph, in the order in which they ran."""
    found = [Attending(i, i) for i, op in enumerate(graph.ops) if op is Op.ATTENTION]
    for i, op in enumerate(graph.ops):
        if op is not None and op.kind is Kind.SOFTMAX and graph.names[i] not in (LOG_SOFTMAX, LOG_SUM_EXP):
            product = _weighing(graph, i)
            if product is not None:
                found.append(Attending(i, product))
    return sorted(found, key=lambda one: graph.sequence(one.weights))


def _weighing(graph: Graph, i: int) -> int | None:
    """The product of matrices whose first factor is the softmax, perhaps reshaped, cast or dropped out."""
    here = i
    for _ in range(_LONGEST):
        following = [(j, k) for j, k in graph.consumers[here] if graph.names[j] in (BMM, BADDBMM)]
        for j, k in following:
            if k == (0 if graph.names[j] == BMM else 1):
                return j
        onward = [j for j, k in graph.consumers[here] if graph.ops[j] in _CARRIED and k == 0]
        if len(onward) != 1:
            return None
        here = onward[0]
    return None
