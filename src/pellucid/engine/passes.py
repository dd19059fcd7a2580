"""A forward of the model as a function, the scalar that is made from it, and rows of many forwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.point import Kind, Point, Values
from pellucid.errors import InputError
from pellucid.outputs import main_output
from pellucid.targets import Target
from pellucid.targets.base import of_sample, of_samples, per_sample, weighted_sum

__all__ = ["Chunk", "Make", "Pass", "Scalar", "joined", "may_be_gated", "of_all"]

Make = Callable[[Tensor, Tensor], Values]
"""``make(steps, rows)``: values at points for n rows, given the number of the variant and the sample of each."""


@dataclass(slots=True)
class Pass:
    """One forward.

    Args:
        raw: what the model returned.
        gated: the input of a softmax, log-softmax or sigmoid in which the model ends, else None.
        values: what was at the points that were asked for, each the tensor that gradients are taken at.
    """

    raw: Any
    gated: Tensor | None
    values: dict[Point, Tensor]

    @property
    def logits(self) -> Tensor:
        """The output that class targets refer to: the logits, also where the model ends in their softmax."""
        if self.gated is not None:
            return self.gated
        return main_output(self.raw)[0]

    def activations(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of the modules ``names``, which must have been asked for."""
        return {name: self.values[Point(Kind.LAYER, name)] for name in names}


def may_be_gated(raw: Any) -> bool:
    """Whether a softmax, log-softmax or sigmoid can have made these numbers; to see it run costs more."""
    try:
        output, _ = main_output(raw)
    except InputError:
        return True
    if not output.is_floating_point() or output.numel() == 0:
        return True
    low, high = (float(bound) for bound in torch.aminmax(output.detach()))
    return (low >= 0 and high <= 1) or high <= 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """The explained scalar, with all that depends on the output held as it is at the explained input.

    Args:
        target: fixed.
        weights: (N, ...) in the shape of the logits where the target is linear in them, else None.
        output: (N,), its value at the explained input.
    """

    target: Target
    weights: Tensor | None
    output: Tensor

    @property
    def layers(self) -> tuple[str, ...]:
        """Modules whose outputs the scalar is made from."""
        return self.target.layers()

    def of(self, done: Pass, rows: Tensor | None = None) -> Tensor:
        """The scalar of every row: (n,).

        Args:
            done: a forward of n rows.
            rows: (n,) the sample that each row belongs to; None: row i is sample i.
        """
        if self.weights is not None:
            weights = self.weights if rows is None else self.weights.index_select(0, rows)
            return weighted_sum(done.logits, weights)
        target = self.target if rows is None else of_samples(self.target, rows)
        return target.scalar(done.raw if target.takes_raw else done.logits, done.activations(self.layers))


def of_all(parts: Sequence[Scalar]) -> Scalar:
    """The scalar of all samples, from those of parts of them in their order."""
    if len(parts) == 1:
        return parts[0]
    targets = [of_sample(part.target, row) for part in parts for row in range(len(part.output))]
    weights = [part.weights for part in parts if part.weights is not None]
    return Scalar(
        per_sample(targets),
        torch.cat(weights) if len(weights) == len(parts) else None,
        torch.cat([part.output for part in parts]),
    )


def joined(parts: Sequence[Values]) -> dict[Point, Tensor]:
    """Values of all samples, from those of parts of them in their order.

    Raises:
        InputError: the output of a module has not one part for each sample.
    """
    if len(parts) == 1:
        return dict(parts[0])
    sizes = [max(len(value) for value in part.values()) if part else 0 for part in parts]
    for part, size in zip(parts, sizes, strict=True):
        for point, value in part.items():
            if len(value) != size:
                raise InputError(
                    f"The {point} has shape {tuple(value.shape)}, whose first dimension is not the samples, so that it "
                    "cannot be read in parts. Give more memory=, or fewer samples."
                )
    return {point: torch.cat([part[point] for part in parts]) for point in parts[0]}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows: variants of samples, and what they gave.

    Args:
        steps: (n,) number of the variant of each row.
        rows: (n,) its sample.
        start: place of the first row's sample among those that are run.
        width: how many samples are run.
        scalars: (n,).
        gradients: (n, ...) by point.
        values: (n, ...) what was at those of the points at which nothing was put.
    """

    steps: Tensor
    rows: Tensor
    start: int
    width: int
    scalars: Tensor = field(default_factory=lambda: torch.empty(0))
    gradients: Mapping[Point, Tensor] = field(default_factory=dict)
    values: Mapping[Point, Tensor] = field(default_factory=dict)

    def with_results(
        self, scalars: Tensor, gradients: Mapping[Point, Tensor], values: Mapping[Point, Tensor] | None = None
    ) -> Chunk:
        """The same rows with what they gave."""
        return replace(self, scalars=scalars, gradients=gradients, values=values or {})

    def split(self, values: Tensor) -> tuple[Tensor, slice]:
        """``values`` (n, ...) as (steps, samples, ...), and which of the samples that are run these are."""
        if len(values) % self.width == 0:
            return values.reshape(-1, self.width, *values.shape[1:]), slice(0, self.width)
        return values[None], slice(self.start, self.start + len(values))

    def add(self, total: Tensor, values: Tensor) -> None:
        """Add ``values`` (n, ...) to ``total`` (width, ...), every row to its sample, in the same order always."""
        parts, samples = self.split(values)
        total[samples] += parts.sum(0, dtype=total.dtype)
