"""The walk: the second pass over the autograd graph, with rules in the place of derivatives.

Nodes are visited outputs first. Each edge carries a density G, with relevance = value * G; rules that ignore the value
send relevance itself, which moves through views, passes elementwise functions and norms, and is turned into a density
(G = relevance / value) anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.engine.book import Book
from pellucid.engine.carry import carry, to_density
from pellucid.engine.graph import Edge, Graph
from pellucid.engine.observer import Observer
from pellucid.engine.plan import Plan
from pellucid.engine.step import Fresh, Relevance, Step
from pellucid.engine.taps import Mask, Tap
from pellucid.engine.values import Values, due
from pellucid.errors import ModelError

__all__ = ["Walk", "Walked"]


@dataclass(slots=True)
class Walked:
    """What a walk brings home."""

    densities: dict[int, Tensor] = field(default_factory=dict)
    """Density at each explained leaf or look-up, by node index."""
    relevances: dict[int, Tensor] = field(default_factory=dict)
    """Relevance that arrived there as such."""
    taps: dict[str, Tensor] = field(default_factory=dict)


class Walk:
    """One pass; holds what steps may ask for.

    With ``consume`` it lets go of nodes as it leaves them behind, as PyTorch's own backward does: no other walk can
    follow on this graph, and memory falls where it would only rise.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        observer: Observer,
        book: Book,
        *,
        taps: Sequence[Tap] = (),
        masks: Sequence[Mask] = (),
        consume: bool = False,
    ) -> None:
        self._due = due(graph, plan.fold_into, plan.sources) if consume else {}
        self.graph = graph
        self.plan = plan
        self.observer = observer
        self.book = book
        self.values = Values(graph, observer, plan.reached)
        self.samples = 0
        """How many samples are walked at once; known from the start on."""
        self._taps: dict[int, list[Tap]] = {}
        self._masks: dict[int, list[Mask]] = {}
        for tap in taps:
            self._taps.setdefault(tap.edge[0], []).append(tap)
        for mask in masks:
            self._masks.setdefault(mask.edge[0], []).append(mask)
        self._density: dict[int, list[Tensor | None]] = {}
        self._relevance: dict[int, list[Tensor | None]] = {}
        self._fresh: set[Edge] = set()
        self._converted: set[int] = set()

    def run(self, start: Mapping[Edge, Tensor]) -> Walked:
        """Walk from ``start``: a density for every edge at which the explained scalar is read."""
        walked = Walked()
        self.samples = next(len(density) for density in start.values())
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            for edge, density in start.items():
                self._send(edge, density)
            for i in range(len(self.graph.nodes)):
                if i in self._density or i in self._relevance:
                    self._visit(i, walked)
                for k in self._due.pop(i, ()):
                    self.observer.records.pop(self.graph.sequence(k), None)
                    self.graph.release(k)
        return walked

    def _visit(self, i: int, walked: Walked) -> None:
        densities = self._density.pop(i, None)
        relevances = self._relevance.pop(i, None)
        owned = (i, 0) in self._fresh and self.graph.outputs(i) == 1
        self._fresh.discard((i, 0))
        for mask in self._masks.get(i, ()):
            mask.apply(densities, relevances, self.book, self.values)
        for tap in self._taps.get(i, ()):
            tap.read(densities, relevances, walked.taps)
        if i in self.plan.sources:
            if densities is not None and densities[0] is not None:
                walked.densities[i] = densities[0]
            if relevances is not None and relevances[0] is not None:
                walked.relevances[i] = relevances[0]
            return
        converted = relevances is not None or i in self._converted
        step = Step(self, i, owned and relevances is None, converted)
        if relevances is not None:
            moved = carry(step, relevances)
            if moved is None:
                densities = _added(densities, to_density(step, relevances))
            else:
                self._send_all(i, [None if part is None else Relevance(part) for part in moved])
        if densities is None:
            return
        if i in self.plan.fold_into:  # the convolution below carries this batch-norm in its weights
            whole = densities[0]
            if converted:
                self._converted.add(self.plan.fold_into[i])
            self._send((self.plan.fold_into[i], 0), Fresh(whole) if owned and whole is not None else whole)
            return
        rule = self.plan.rules[i]
        if rule is None:
            raise ModelError(f"No rule for {step.describe()}.")
        self._send_all(i, rule(step, densities))

    def _send_all(self, i: int, messages: Sequence[Tensor | Fresh | Relevance | None]) -> None:
        for edge, message in zip(self.plan.targets[i], messages, strict=True):
            if message is not None and edge[0] >= 0:
                self._send(edge, message)

    def _send(self, edge: Edge, message: Tensor | Fresh | Relevance | None) -> None:
        if message is None:
            return
        i, output = edge
        box = self._relevance if isinstance(message, Relevance) else self._density
        value = message if isinstance(message, Tensor) else message.value
        slots = box.get(i)
        if slots is None:
            slots = box[i] = [None] * self.graph.outputs(i)
        present = slots[output]
        if isinstance(message, Relevance):
            slots[output] = value if present is None else present + value
        elif present is None:
            slots[output] = value
            if isinstance(message, Fresh):
                self._fresh.add(edge)
        elif edge in self._fresh and present.dtype == value.dtype:
            present.add_(value)
        else:
            slots[output] = present + value
            self._fresh.add(edge)


def _added(one: Sequence[Tensor | None] | None, other: Sequence[Tensor | None]) -> list[Tensor | None]:
    if one is None:
        return list(other)
    return [b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True)]
