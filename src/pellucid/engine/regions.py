"""Elementwise regions: several nodes that together are one elementwise function of one signal.

``0.5 * x * (1 + tanh(...))`` is a GELU and ``x * relu6(x + 3) / 6`` a hard-swish, however they are written. A product
whose factors all come from the same value through elementwise nodes is such a function; it is replayed from what the
observer saw and gets the elementwise rule as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pellucid.engine.graph import Edge, Graph
from pellucid.engine.observer import Observer
from pellucid.engine.ops import Kind, Op
from pellucid.engine.private import SUMMING_PRODUCTS

__all__ = ["Region", "find_region"]

_LIMIT = 40
_KINDS = frozenset((Kind.ELEMENTWISE, Kind.GATE, Kind.PRODUCT, Kind.DIVISION))
_OPS = frozenset((Op.ADD, Op.SCALE, Op.COPY))
_NOT = frozenset((Op.STATISTIC, Op.MATMUL))


@dataclass(frozen=True, slots=True)
class Region:
    """``nodes`` in the order in which they ran; the last one's output is the function of the value on ``source``."""

    source: Edge
    nodes: tuple[int, ...]

    def replay(self, graph: Graph, observer: Observer, x: Tensor) -> Tensor:
        """The function at ``x``."""
        results: dict[Edge, Tensor] = {self.source: x}
        for i in self.nodes:
            record = observer.records[graph.sequence(i)]
            live = [results[edge] for edge in graph.edges[i] if edge in results]
            results[i, 0] = record.first(*live)
        return results[self.nodes[-1], 0]


def find_region(
    graph: Graph, ops: Sequence[Op | None], exit_node: int, reached: Sequence[tuple[bool, ...]], observer: Observer
) -> Region | None:
    """The smallest elementwise region that ends in ``exit_node``, or None."""
    members: set[int] = set()
    frontier: set[Edge] = set()

    def take(i: int) -> bool:
        if not _elementwise(graph, ops, i, observer, reached[i]):
            return False
        members.add(i)
        frontier.update(edge for edge, ok in zip(graph.edges[i], reached[i], strict=True) if ok)
        return True

    if not take(exit_node):
        return None
    shape = graph.shape((exit_node, 0))
    while len(frontier) > 1:
        # The consumer-most node first: what it is made from may already be on the frontier.
        deepest = min(frontier)
        if len(members) >= _LIMIT or deepest[1] != 0:
            return None
        frontier.discard(deepest)
        if deepest[0] in members:
            continue
        if not take(deepest[0]):
            return None
        frontier = {edge for edge in frontier if edge[0] not in members}
    if len(frontier) != 1:
        return None
    source = next(iter(frontier))
    if graph.shape(source) != shape:
        return None
    return Region(source, tuple(sorted(members, reverse=True)))


def _elementwise(graph: Graph, ops: Sequence[Op | None], i: int, observer: Observer, reached: tuple[bool, ...]) -> bool:
    op = ops[i]
    if op is None or op in _NOT or not (op.kind in _KINDS or op in _OPS) or graph.outputs(i) != 1:
        return False
    record = observer.records.get(graph.sequence(i))
    if record is None or record.base is not None or record.view is not None:
        return False
    return graph.names[i] not in SUMMING_PRODUCTS and any(reached)
