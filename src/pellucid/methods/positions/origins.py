"""What the elements of a value stand for: followed back through the recorded graph to where positions have names.

That is the result of the nearest convolution, pooling or resampling, whose dimensions are batch, channels and axes, or
the explained input itself. On the way the class token and registers show themselves: no operand of the join that put
them there has a path to the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, prod

import torch
from torch import Tensor

from pellucid.engine.graph import Edge, Graph
from pellucid.engine.observer import Observer
from pellucid.engine.private import ROI_ALIGN
from pellucid.methods.positions.steps import SPATIAL, Choice, Part, choices, part_of

__all__ = ["Arrival", "Origins"]

_SPATIAL = 0.01
"""How unsure the way through a spatial operation is, where more than its result is asked for."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Elements that were followed to one place.

    Args:
        node: where; what it made has ``shape``.
        shape: of that.
        elements: (k,) which of the followed elements.
        index: (k,) where each stands in it, flat.
    """

    node: int
    shape: torch.Size
    elements: Tensor
    index: Tensor


class Origins:
    """Follows elements back, each way at every node chosen once.

    Args:
        graph: recorded with frozen parameters, so that every edge has a path to an explained input.
        observer: what saw it.
        sources: nodes of the explained inputs by their names.
    """

    def __init__(self, graph: Graph, observer: Observer, sources: Mapping[int, str]) -> None:
        self.graph = graph
        self.observer = observer
        self.sources = sources
        self.reaches: list[frozenset[str]] = [frozenset()] * len(graph.nodes)
        for i in reversed(range(len(graph.nodes))):
            own = [self.reaches[source] for source, _ in graph.edges[i] if source >= 0]
            self.reaches[i] = frozenset([sources[i]]) if i in sources else frozenset().union(*own)
        self._costs: dict[str | None, list[float]] = {}
        self._choices: dict[int, list[Choice]] = {}

    def spatial(self, i: int) -> bool:
        """Whether the result of node ``i`` has batch, channels and axes."""
        op = self.graph.ops[i]
        return op in SPATIAL and len(self.graph.shape((i, 0))) >= 3 and self.graph.names[i] != ROI_ALIGN

    def nearest(self, edge: Edge, index: Tensor) -> list[Arrival] | None:
        """Elements ``index`` of the value on ``edge``, followed to the nearest place where positions have names.

        Returns:
            None where an operation on the way hides its positions. Elements that come from no input are missing.
        """
        return self._sweep(edge, index, None, lambda i: i in self.sources or self.spatial(i))

    def at_input(self, edge: Edge, index: Tensor, source: str) -> Arrival | None:
        """Elements ``index`` of the value on ``edge``, followed to the input ``source``, through what is spatial too.

        Returns:
            None where an operation on the way hides its positions, or not all of them arrive there.
        """
        found = self._sweep(edge, index, source, lambda i: self.sources.get(i) == source)
        return found[0] if found is not None and len(found) == 1 and len(found[0].elements) == len(index) else None

    def _ways(self, i: int) -> list[Choice]:
        if i not in self._choices:
            through = [Choice((0,), _SPATIAL)] if self.spatial(i) and self.graph.edges[i][0][0] >= 0 else []
            self._choices[i] = through or choices(self.graph, self.observer, i)
        return self._choices[i]

    def _cost(self, towards: str | None) -> list[float]:
        """For every node how unsure the best way from it is."""
        if towards not in self._costs:
            edges, costs = self.graph.edges, [inf] * len(self.graph.nodes)
            for i in reversed(range(len(costs))):
                if i in self.sources or (towards is None and self.spatial(i)):
                    costs[i] = 0.0 if towards in (None, self.sources.get(i)) else inf
                    continue
                costs[i] = min((self._along(costs, edges[i], way) for way in self._ways(i)), default=inf)
            self._costs[towards] = costs
        return self._costs[towards]

    def _along(self, costs: Sequence[float], edges: Sequence[Edge], way: Choice) -> float:
        """Of a way through a join the best part counts: what is joined to it may come from elsewhere."""
        return way.cost + min(costs[edges[k][0]] for k in way.operands)

    def _sweep(
        self, edge: Edge, index: Tensor, towards: str | None, ends: Callable[[int], bool]
    ) -> list[Arrival] | None:
        costs, graph = self._cost(towards), self.graph
        waiting: dict[Edge, list[tuple[Tensor, Tensor]]] = {edge: [(torch.arange(len(index)), index)]}
        due, arrived = [edge], []
        while due:  # nodes are numbered so that all that leads to one comes before it
            i, output = here = heappop(due)
            pieces = waiting.pop(here)
            elements, places = pieces[0] if len(pieces) == 1 else map(torch.cat, zip(*pieces, strict=True))
            if ends(i):
                arrived.append(Arrival(i, graph.shape(here), elements, places))
                continue
            if costs[i] == inf:
                return None
            parts = self._back(i, output, costs, places)
            if parts is None:
                return None
            for part in parts:
                following = graph.edges[i][part.operand]
                if costs[following[0]] == inf:
                    continue  # joined to what is followed, and from nowhere
                if following not in waiting:
                    heappush(due, following)
                mine = elements if part.chosen is None else elements[part.chosen]
                waiting.setdefault(following, []).append((mine, part.index))
        return arrived

    def _back(self, i: int, output: int, costs: Sequence[float], places: Tensor) -> list[Part] | None:
        if self.spatial(i):
            return self._through(i, places)
        best = min(self._ways(i), key=lambda way: self._along(costs, self.graph.edges[i], way))
        return part_of(self.graph, self.observer, i, output, best, places)

    def _through(self, i: int, places: Tensor) -> list[Part]:
        """Through a spatial operation, axis by axis: the first position is of the first, the last of the last."""
        after, before = self.graph.shape((i, 0)), self.graph.shape(self.graph.edges[i][0])
        coordinates = list(torch.unravel_index(places, after))
        flat = coordinates[0] * prod(before[1:])
        for axis in range(2, len(after)):
            stretch = (before[axis] - 1) / max(after[axis] - 1, 1)
            flat = flat + (coordinates[axis] * stretch).round().long() * prod(before[axis + 1 :])
        return [Part(0, None, flat)]
