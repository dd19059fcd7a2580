"""Straight paths from baselines to explained values, and means of gradients along them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point, Values
from pellucid.methods.points import shaped
from pellucid.methods.quadrature import spread

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Lines", "PathMean"]


class Lines:
    """Straight lines ``b + t (x - b)`` from several baselines.

    Args:
        points: where they end, each (N, ...).
        baselines: where they begin, likewise.
    """

    def __init__(self, points: Mapping[Point, Tensor], baselines: Sequence[Values]) -> None:
        self._ends = points
        self._begins = {point: torch.stack([baseline[point] for baseline in baselines]) for point in points}

    def at(self, places: Tensor, numbers: Tensor, rows: Tensor) -> dict[Point, Tensor]:
        """(n, ...): at ``places`` (n,) in [0, 1] of the lines from baselines ``numbers`` (n,), of samples ``rows``."""
        return {
            point: torch.lerp(self._begins[point][numbers, rows], end[rows], shaped(places.to(end.dtype), end))
            for point, end in self._ends.items()
        }

    def way(self, point: Point, numbers: Tensor, rows: Tensor) -> Tensor:
        """(n, ...): ``x - b``, in a tensor of its own."""
        return self._ends[point][rows].sub_(self._begins[point][numbers, rows])


class PathMean:
    """The mean of gradients over straight paths from several baselines, better with every pass.

    Args:
        call: runs the model.
        scalar: what is explained.
        points: the ends of the paths, each (N, ...).
        baselines: their beginnings, likewise.
        rule: nodes and weights of the quadrature, (steps,).
        beside: further points on the way from these, at which gradients are averaged too, with their values.
        samples: (M,) which samples; None: all.
        times_way: multiply the gradients at ``points`` by the way from the baseline.
    """

    def __init__(
        self,
        call: Call,
        scalar: Scalar,
        points: Mapping[Point, Tensor],
        baselines: Sequence[Values],
        rule: tuple[Tensor, Tensor],
        *,
        beside: Mapping[Point, Tensor] | None = None,
        samples: Tensor | None = None,
        times_way: bool = False,
    ) -> None:
        device = scalar.output.device
        order = spread(len(rule[0]))
        self._nodes, self._weights = (part[order].to(device) for part in rule)
        self._lines, self._several = Lines(points, baselines), len(baselines)
        self._call, self._scalar, self._samples, self._times_way = call, scalar, samples, times_way
        self._points, self._beside = list(points), list(beside or {})
        values = {**points, **(beside or {})}
        chosen = {point: value if samples is None else value[samples] for point, value in values.items()}
        self._dtypes = {point: value.dtype for point, value in values.items()}
        self._sums = {
            point: torch.zeros_like(value, dtype=accumulation_dtype(value.dtype)) for point, value in chosen.items()
        }
        self._done = torch.zeros(len(next(iter(chosen.values()))), dtype=torch.float64, device=device)
        self.taken = 0
        """Steps done."""

    def __iter__(self) -> Iterator[None]:
        """Do the work; comes by when something is known of every sample."""
        several = self._several

        def make(numbers: Tensor, rows: Tensor) -> Values:
            return self._lines.at(self._nodes[numbers // several], numbers % several, rows)

        passes = self._call.function.gradients(
            len(self._nodes) * several, make, self._scalar, self._points, samples=self._samples, beside=self._beside
        )
        for chunk in passes:
            weights = self._weights[chunk.steps // several]
            for point, gradient in chunk.gradients.items():
                weight = shaped(weights.to(gradient.dtype), gradient)
                if self._times_way and point in self._points:
                    share = self._lines.way(point, chunk.steps % several, chunk.rows).mul_(gradient).mul_(weight)
                else:
                    share = gradient * weight
                chunk.add(self._sums[point], share)
            chunk.add(self._done, weights)
            self.taken = int(chunk.steps[-1]) // several + 1
            if bool((self._done > 0).all()):
                yield

    def values(self) -> dict[Point, Tensor]:
        """The means, each (M, ...), by the steps done so far."""
        return {
            point: (total / shaped(self._done.to(total.dtype), total)).to(self._dtypes[point])
            for point, total in self._sums.items()
        }
