"""One node of the walk as its rule sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from pellucid.engine.numerics import inner, reduce_to
from pellucid.engine.ops import Op
from pellucid.engine.private import OPERANDS, SPLITS, field, metadata, saved
from pellucid.engine.record import Record
from pellucid.errors import ModelError

if TYPE_CHECKING:
    from pellucid.engine.walk import Walk

__all__ = ["Fresh", "Relevance", "Step"]


@dataclass(frozen=True, slots=True)
class Relevance:
    """A message that is relevance itself and not its density, from rules that ignore the value (w2, flat, box)."""

    value: Tensor


@dataclass(frozen=True, slots=True)
class Fresh:
    """A density in a tensor that the rule has made and keeps no hold of, so that the next rule may write into it.

    Large tensors are dear to get: on a CPU a new one costs more than a pass over it.
    """

    value: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """What a rule may ask about the node it is applied to."""

    walk: Walk
    index: int
    owned: bool = False
    """Whether the first density that arrives may be overwritten."""
    converted: bool = False
    """Whether relevance arrived that is no density, and so may lie where a ReLU lets none through."""

    def room(self, density: Tensor, like: Tensor) -> Tensor:
        """A tensor for a result in the shape of ``like``: that of ``density`` itself where it may be overwritten."""
        fits = self.owned and density.shape == like.shape and density.dtype == like.dtype and density.is_contiguous()
        return density if fits else torch.empty_like(like, memory_format=torch.contiguous_format)

    @property
    def node(self) -> Node:
        """The autograd node."""
        return self.walk.graph.nodes[self.index]

    def field(self, name: str) -> Any:
        """The node's saved field ``_saved_<name>``, of any type.

        Raises:
            AttributeError: this node has no such field.
        """
        return field(self.node, name)

    @property
    def op(self) -> Op | None:
        """The canonical operation, as the plan reads it (a product with a weight is linear)."""
        return self.walk.plan.ops[self.index]

    @property
    def record(self) -> Record | None:
        """What the observer saw, if it saw this operation."""
        return self.walk.observer.records.get(self.walk.graph.sequence(self.index))

    @property
    def live(self) -> tuple[bool, ...]:
        """Per operand: may relevance go there?"""
        return self.walk.plan.live[self.index]

    @property
    def module(self) -> str:
        """Path of the module that ran this operation."""
        return self.walk.plan.modules[self.index]

    def shape(self, k: int) -> torch.Size:
        """Shape of operand ``k``."""
        return self.walk.graph.shape(self.walk.graph.edges[self.index][k])

    def native(self, densities: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The node's own backward: one density per operand, None where it has none."""
        node: Any = self.node
        outputs = metadata(node)
        if len(outputs) > 1 and self.walk.graph.names[self.index] not in SPLITS:
            densities = [
                torch.zeros(tuple(meta.shape), dtype=meta.dtype, device=meta.device) if density is None else density
                for density, meta in zip(densities, outputs, strict=True)
            ]
        call: Any = getattr(node, "apply", None) if isinstance(node, BackwardCFunction) else node
        result = call(*densities)
        found = result if isinstance(result, tuple) else (result,)
        edges = self.walk.graph.edges[self.index]
        if len(found) != len(edges):
            # A Python function answers for every argument, the graph has edges for tensors only.
            answers = iter([r for r, needed in zip(found, node.needs_input_grad, strict=False) if needed])
            found = tuple(next(answers, None) if edge[0] >= 0 else None for edge in edges)
        return [self._fitted(density, edge) for density, edge in zip(found, edges, strict=True)]

    def _fitted(self, density: Tensor | None, edge: tuple[int, int]) -> Tensor | None:
        """What the autograd engine does between nodes: sum over broadcast dimensions, cast to the operand's dtype."""
        if density is None or edge[0] < 0:
            return density
        meta = metadata(self.walk.graph.nodes[edge[0]])[edge[1]]
        if density.shape != meta.shape:
            density = reduce_to(density, tuple(meta.shape))
        if density.dtype != meta.dtype:
            density = (
                density.real.to(meta.dtype)
                if density.is_complex() and not meta.dtype.is_complex
                else density.to(meta.dtype)
            )
        return density

    def keep_live(self, densities: Sequence[Tensor | None]) -> list[Tensor | None]:
        """``densities`` with those of operands where no relevance may go taken out."""
        return [density if live else None for density, live in zip(densities, self.live, strict=True)]

    def operand(self, k: int) -> Tensor:
        """The forward value of operand ``k``.

        Raises:
            ModelError: nothing holds it and it cannot be computed again.
        """
        name = OPERANDS.get(self.walk.graph.names[self.index], {}).get(k)
        value = saved(self.node, name) if name else None
        if value is None:
            value = self._observed(k)
        if value is None:
            value = self.walk.values.of(self.walk.graph.edges[self.index][k])
        if value is None:
            raise ModelError(
                f"The rule at {self.describe()} needs the value of operand {k}, which was changed in place or not "
                "kept. "
                f"Replace the in-place operation that follows it, or give this operation another rule."
            )
        return value.detach()

    def _observed(self, k: int) -> Tensor | None:
        record = self.record
        if record is None or not record.inputs:
            return None
        reached = self.walk.plan.reached[self.index]
        position = sum(reached[:k])
        return record.inputs[position] if reached[k] and position < len(record.inputs) else None

    def output(self) -> Tensor | None:
        """The node's first output, or None where nothing holds it; never computed again."""
        return self.walk.values.kept((self.index, 0))

    def book(self, source: str, amount: Tensor, module: str | None = None) -> None:
        """Write relevance that leaves the walk here into the ledger."""
        self.walk.book.add(source, self.module if module is None else module, amount)

    def dead_part(self, density: Tensor) -> Tensor | None:
        """What the dead operands of an affine operation brought: the operation with its live operands at zero.

        In the shape of ``density``, which arrives at the result; None where the operation was not seen.
        """
        record = self.record
        if record is None:
            return None
        graph = self.walk.graph
        zeros = [
            torch.zeros(graph.shape(edge), dtype=density.dtype, device=density.device)
            for edge, reached in zip(graph.edges[self.index], self.walk.plan.reached[self.index], strict=True)
            if reached
        ]
        if record.view is not None:
            base = record.base.clone() if record.base is not None else torch.zeros_like(density)
            rest = record.call_on_base(base, *zeros)
        else:
            rest = record.call(*zeros)
        if rest.shape != density.shape:
            rest = rest.expand(density.shape)
        if not bool(torch.isfinite(rest).all()):
            rest = torch.where(density == 0, 0, rest)  # a mask of -inf whose softmax let nothing through
        part: Tensor = rest.to(density.dtype)
        return part

    def book_dead(self, densities: Sequence[Tensor | None]) -> None:
        """Book what the dead operands of an affine operation brought."""
        record, density = self.record, densities[0]
        part = None if density is None else self.dead_part(density)
        if record is None or density is None or part is None:
            return
        source, module = self.walk.plan.origin(record, self.module)
        self.book(source, inner(part, density), module)

    def describe(self) -> str:
        """The operation and where it ran, for error texts."""
        return f"{self.walk.graph.names[self.index]} in module {self.module or '(the model itself)'!r}"
