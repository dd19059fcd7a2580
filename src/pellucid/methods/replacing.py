"""The model with parts of its points replaced by a baseline: many masks at once, built on the device.

At a layer, what lies before it is run once for many variants of a sample, wherever the rest can be run on more rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Kind, Point, Values
from pellucid.methods.positions.behind import FACTORS, agrees_behind, run_behind

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Masks", "Replacing"]

Masks = Callable[[Tensor], Mapping[Point, Tensor]]
"""``masks(numbers)``: by point, (n, 1 or M, ...) that broadcasts to n variants of M samples; boolean (True: the value
stays) or floating (1: it stays, 0: the baseline is there, between: a mixture)."""


class Replacing:
    """Values of the explained scalar while parts are replaced.

    Args:
        call: what is explained.
        scalar: what is computed.
        points: with their values, (N, ...).
        baselines: what stands there instead, each by point; of several the mean of the scalars is taken.
        samples: (M,) which samples; None: all.
    """

    def __init__(
        self,
        call: Call,
        scalar: Scalar,
        points: Values,
        baselines: Sequence[Values],
        samples: Tensor | None = None,
    ) -> None:
        self.call = call
        self.scalar = scalar
        self.points = points
        self.baselines = baselines
        device = scalar.output.device
        self.samples = torch.arange(call.batch, device=device) if samples is None else samples.to(device)
        self._given = samples
        self._all = samples is None
        self._place = torch.zeros(call.batch, dtype=torch.int64, device=device)
        self._place[self.samples] = torch.arange(len(self.samples), device=device)

    @property
    def width(self) -> int:
        """M, the number of samples."""
        return len(self.samples)

    @property
    def full(self) -> Tensor:
        """(M,), float64: the scalar with nothing replaced."""
        return self.scalar.output[self.samples].double()

    def against(self, baselines: Sequence[Values]) -> Replacing:
        """The same with other baselines."""
        return Replacing(self.call, self.scalar, self.points, baselines, self._given)

    def blocks(self, steps: int) -> Iterator[Tensor]:
        """The numbers of ``steps`` variants in runs that fit in one pass, or of which one fits in several."""
        size = self.call.function.most if self._onward else max(1, self.call.function.most // self.width)
        numbers = torch.arange(steps, device=self.samples.device)
        yield from torch.split(numbers, size) if steps else ()

    def values(self, count: int, masks: Masks) -> Tensor:
        """(M, count), float64: the scalar for ``count`` variants of every sample.

        Args:
            count: those of a block.
            masks: what stays, by their numbers from 0 on.
        """
        if self._onward:
            return self._values_behind(count, masks)
        total = torch.zeros(self.width, count, dtype=torch.float64, device=self.samples.device)
        for baseline in self.baselines:

            def make(steps: Tensor, rows: Tensor, baseline: Values = baseline) -> Values:
                whole = len(rows) % self.width == 0
                kept = masks(steps[:: self.width] if whole else steps[:1])
                return {
                    p: self._mixed(v, baseline[p], kept[p], None if whole else rows) for p, v in self.points.items()
                }

            chunks = self.call.function.scalars(count, make, self.scalar, samples=None if self._all else self.samples)
            total += torch.cat([chunk.scalars for chunk in chunks]).reshape(-1, self.width).T
        return total / len(self.baselines)

    @cached_property
    def _onward(self) -> bool:
        """Whether what lies before the point need not be run for every variant; tried once for a model."""
        point, value = next(iter(self.points.items()))
        if len(self.points) > 1 or point.kind is not Kind.LAYER:
            return False
        key = ("onward", point, self.scalar.layers, tuple(value.shape[1:]))
        findings = self.call.shadow.findings
        if key not in findings:
            factors = torch.tensor(FACTORS, dtype=value.dtype, device=value.device)
            values = value[:1] * factors.view(-1, *[1] * (value.ndim - 1))
            findings[key] = agrees_behind(self.call, self.scalar, point, values, lambda made, part: made[part])
        return bool(findings[key])

    def _values_behind(self, count: int, masks: Masks) -> Tensor:
        [(point, value)] = self.points.items()
        kept = masks(torch.arange(count, device=self.samples.device))[point]
        total = torch.zeros(self.width, count, dtype=torch.float64, device=self.samples.device)
        for place, sample in enumerate(self.samples.tolist()):
            own = kept[:, place if kept.shape[1] > 1 else 0]
            rows = torch.full((count,), sample, device=self.samples.device)
            for baseline in self.baselines:
                mixed = _between(value[sample], baseline[point][sample], own)
                done = run_behind(self.call, self.scalar, point, mixed, sample)
                total[place] += self.scalar.of(done, rows)
                self.call.progress.advance(count - 1)
        return total / len(self.baselines)

    def _mixed(self, value: Tensor, baseline: Tensor, kept: Tensor, rows: Tensor | None) -> Tensor:
        """Values of some rows: whole variants (``rows`` None), or one variant of some samples."""
        if rows is None:
            rows = self.samples
        elif kept.shape[1] > 1:
            kept = kept[:, self._place[rows]]
        if len(rows) < len(value) or not self._all:
            value, baseline = value[rows], baseline[rows]
        return _between(value, baseline, kept).flatten(0, 1)


def _between(value: Tensor, baseline: Tensor, kept: Tensor) -> Tensor:
    """The value where it is kept, the baseline where not."""
    if kept.dtype == torch.bool:
        return torch.where(kept, value, baseline)
    return torch.lerp(baseline, value, kept.to(value.dtype))
