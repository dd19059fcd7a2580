"""Places on the way of a walk where relevance is read, or let through only in part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.engine.book import Book
from pellucid.engine.graph import Edge, Graph
from pellucid.engine.numerics import inner
from pellucid.engine.record import ModuleOutput
from pellucid.engine.values import Values
from pellucid.errors import InputError, ModelError

__all__ = ["Mask", "Tap", "outputs_on"]


def outputs_on(graph: Graph, outputs: Mapping[str, Sequence[ModuleOutput]], name: str) -> list[ModuleOutput]:
    """What a module gave on paths to the explained scalar, once for every run.

    Raises:
        InputError: it did not run there, or what it gave in several runs has different shapes.
    """
    found = [made for made in outputs.get(name, ()) if made.node in graph.index]
    shapes = {tuple(made.value.shape) for made in found}
    if not found:
        raise InputError(
            f"The module {name!r} did not run on a path to the explained scalar, or returned no tensor. Names are "
            "those of model.named_modules()."
        )
    if len(shapes) > 1:
        raise InputError(
            f"The module {name!r} runs {len(found)} times in one forward and gives outputs of different shapes, "
            f"{', '.join(map(str, sorted(shapes)))}, which cannot be added up. Name a module inside or around it that "
            "runs once."
        )
    return found


@dataclass(frozen=True, slots=True)
class Tap:
    """Relevance is read at ``edge``, whose forward value is ``value``; or the density there, where it is a gradient."""

    name: str
    edge: Edge
    value: Tensor
    gradient: bool = False

    def read(
        self,
        densities: Sequence[Tensor | None] | None,
        relevances: Sequence[Tensor | None] | None,
        into: dict[str, Tensor],
    ) -> None:
        """Add what arrived at the node of the edge to ``into``, by name."""
        density, relevance = (None if arrived is None else arrived[self.edge[1]] for arrived in (densities, relevances))
        total = torch.zeros_like(self.value)
        if density is not None:
            total = total + (density if self.gradient else self.value * density)
        if relevance is not None:
            total = total + relevance
        present = into.get(self.name)
        into[self.name] = total if present is None else present + total


@dataclass(frozen=True, slots=True)
class Mask:
    """Only the part ``keep`` (1 and 0, broadcastable) of what arrives at ``edge`` is walked on."""

    name: str
    edge: Edge
    keep: Tensor
    value: Tensor | None = None
    """The forward value on the edge; None: it is looked up."""

    def apply(
        self,
        densities: list[Tensor | None] | None,
        relevances: list[Tensor | None] | None,
        book: Book,
        values: Values,
    ) -> None:
        """Take the rest out of what arrived at the node of the edge, and book it.

        Raises:
            ModelError: the value on the edge is needed and nothing holds it.
        """
        output = self.edge[1]
        for arrived, as_density in ((densities, True), (relevances, False)):
            whole = None if arrived is None else arrived[output]
            if arrived is None or whole is None:
                continue
            kept = whole * self.keep.to(whole)
            rest = whole - kept
            book.add(
                "not kept", self.name, inner(self._value(values).to(whole.dtype), rest) if as_density else rest.sum()
            )
            arrived[output] = kept

    def _value(self, values: Values) -> Tensor:
        value = values.of(self.edge) if self.value is None else self.value
        if value is None:
            raise ModelError(
                f"keep= at the module {self.name!r} needs a value that was changed in place or not kept. Replace the "
                "in-place operation that follows it."
            )
        return value
