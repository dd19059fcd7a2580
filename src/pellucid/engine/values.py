"""Forward values that a rule needs: from what consumers saved, where that is exact, else computed again."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor

from pellucid.engine.graph import Edge, Graph
from pellucid.engine.observer import Observer
from pellucid.engine.private import OPERANDS, RESULTS, SAME_ELEMENTS, saved

__all__ = ["Values", "due"]

_HOPS = 12
"""How many operations back a value is computed again."""


class Values:
    """Looks up the value on an edge of the graph."""

    def __init__(self, graph: Graph, observer: Observer, reached: Sequence[tuple[bool, ...]]) -> None:
        self.graph = graph
        self.observer = observer
        self.reached = reached

    def of(self, edge: Edge, *, hops: int = 0) -> Tensor | None:
        """The value on ``edge``, or None where nothing holds it and it cannot be computed again."""
        source, output = edge
        if source < 0:
            return None
        value = self.kept(edge)
        return value if value is not None or hops >= _HOPS else self._again(source, output, hops)

    def kept(self, edge: Edge) -> Tensor | None:
        """The value on ``edge`` where something holds it."""
        source, output = edge
        variable = getattr(self.graph.nodes[source], "variable", None)
        if isinstance(variable, Tensor):
            return variable.detach()
        record = self.observer.records.get(self.graph.sequence(source))
        value = record.kept() if record is not None and output == 0 else None
        if value is None and output == 0 and self.graph.names[source] in RESULTS:
            value = saved(self.graph.nodes[source], RESULTS[self.graph.names[source]])
        if value is not None:
            return value.detach().reshape(self.graph.shape(edge))
        return self._from_consumers(edge, self.graph.shape(edge), 0)

    def _again(self, source: int, output: int, hops: int) -> Tensor | None:
        """Run the operation again on the values of its live operands."""
        record = self.observer.records.get(self.graph.sequence(source))
        if record is None or record.view is not None:
            return None
        live = []
        for edge, reached in zip(self.graph.edges[source], self.reached[source], strict=True):
            if reached:
                value = self.of(edge, hops=hops + 1)
                if value is None:
                    return None
                live.append(value)
        result = record.call(*live)
        made: Tensor = result[output] if isinstance(result, (tuple, list)) else result
        return made

    def _from_consumers(self, edge: Edge, shape: torch.Size, hops: int) -> Tensor | None:
        graph = self.graph
        for i, k in graph.consumers[edge[0]]:
            if graph.edges[i][k] != edge or graph.nodes[i] is None:
                continue
            name = graph.names[i]
            field = OPERANDS.get(name, {}).get(k)
            value = saved(graph.nodes[i], field) if field else None
            if value is None and name in SAME_ELEMENTS and hops < 3:
                value = self._from_consumers((i, 0), shape, hops + 1)
            if value is None:
                record = self.observer.records.get(graph.sequence(i))
                if (
                    record is not None
                    and k == 0
                    and len(record.inputs) == 1
                    and record.func._overloadpacket.__name__[-1] != "_"
                ):
                    value = record.inputs[0]
            if value is not None and value.numel() == shape.numel():
                return value.detach().reshape(shape)
        return None


def due(graph: Graph, fold_into: Mapping[int, int], keep: Container[int]) -> dict[int, list[int]]:
    """Node -> the nodes that nothing is read from any more once a walk has passed it.

    A node is read from at its own place, and for the values of its operands at those of its producers: through views,
    which hold nothing themselves, and for a folded batch-norm at its convolution.
    """
    reach = list(range(len(graph.nodes)))
    found: dict[int, list[int]] = {}
    for i in reversed(range(len(graph.nodes))):
        producers = [source for source, _ in graph.edges[i] if source >= 0]
        through = [reach[p] if graph.names[p] in SAME_ELEMENTS else fold_into.get(p, p) for p in producers]
        last = max([i, *through])
        if graph.names[i] in SAME_ELEMENTS:
            reach[i] = last
        if i not in keep:
            found.setdefault(last, []).append(i)
    return found
