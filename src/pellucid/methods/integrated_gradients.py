"""Integrated gradients (Sundararajan 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point, Values
from pellucid.methods.base import Cost, Family
from pellucid.methods.baselines import baselines_at
from pellucid.methods.completeness import check_tolerance, completeness_ledger, missed, missed_note, scalar_at
from pellucid.methods.points import AtPoints, PointMethod, shaped
from pellucid.methods.quadrature import Quadrature, quadrature, spread

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["IntegratedGradients", "completeness_ledger"]

_CITATION = """@inproceedings{sundararajan2017,
  author = {Sundararajan, Mukund and Taly, Ankur and Yan, Qiqi},
  title = {Axiomatic Attribution for Deep Networks},
  booktitle = {International Conference on Machine Learning}, year = {2017}
}"""


@dataclass(frozen=True)
class IntegratedGradients(PointMethod):
    """The gradient averaged along the straight path from a baseline, times the way: sums to ``f(x) - f(baseline)``.

    ``(x_i - b_i) integral_0^1 df/dx_i (b + t (x - b)) dt`` (Sundararajan 2017, eq. 1). At a layer, the path runs from
    what the layer gives for the baseline to what it gives for the input.

    Args:
        steps: evaluations along the path.
        quadrature: the rule for the integral.
        baseline: see ``pellucid.methods.Baseline``; a list averages over several.
        tolerance: double the steps until ``|sum - (f(x) - f(b))| <= tolerance |f(x) - f(b)|`` for every sample.
        most_steps: do not go beyond.

    Raises:
        InputError: a setting is out of range, or the baseline does not fit the input.
    """

    steps: int = 50
    quadrature: Quadrature = "gauss-legendre"
    baseline: Any = "zero"
    tolerance: float | None = None
    most_steps: int = 1000

    name: ClassVar[str] = "integrated-gradients"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "steps x (forward + gradient)"
    advice: ClassVar[str] = "Shares that sum to the difference from a baseline which means something for your data."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        quadrature(self.quadrature, self.steps)
        check_tolerance(self.tolerance, self.steps, self.most_steps, what="steps")

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """The steps, once per baseline."""
        several = len(self.baseline) if isinstance(self.baseline, (list, tuple)) else 1
        return Cost(1 + several, self.steps * several if self.tolerance is None else None)

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        baselines = baselines_at(call, points, self.baseline)
        call.progress.expect_more((self.steps + 1) * call.batch * len(baselines))
        floors = torch.stack([scalar_at(call, scalar, baseline).double() for baseline in baselines])
        differences = scalar.output.double() - floors

        def found(values: Mapping[Point, Tensor], late: Tensor, steps: int) -> AtPoints:
            return AtPoints(
                values,
                completeness_ledger(scalar.output, floors.mean(0), values),
                notes=missed_note(late, self.tolerance, steps, what="steps"),
                settings={"steps taken": steps},
            )

        def integral(steps: int, samples: Tensor | None) -> _Integral:
            return _Integral(call, scalar, points, baselines, quadrature(self.quadrature, steps), samples)

        nobody = torch.zeros(call.batch, dtype=torch.bool, device=floors.device)
        first = integral(self.steps, None)
        for _ in first:
            self.offer(call, scalar, points, lambda: found(first.values(), nobody, first.taken))
        values = first.values()
        if self.tolerance is None:
            return found(values, nobody, self.steps)
        steps, late = self.steps, missed(values, differences, self.tolerance)
        while bool(late.any()) and steps < self.most_steps:
            self.offer(call, scalar, points, partial(found, values, nobody, steps))
            steps = min(2 * steps, self.most_steps)
            again = late.nonzero()[:, 0]
            call.progress.expect_more(steps * len(again) * len(baselines))
            better = integral(steps, again)
            for _ in better:
                pass
            values = {point: value.index_copy(0, again, better.values()[point]) for point, value in values.items()}
            late = missed(values, differences, self.tolerance)
        return found(values, late, steps)


class _Integral:
    """The mean over straight paths from several baselines, growing with every pass.

    Args:
        call: runs the model.
        scalar: what is explained.
        points: the ends of the paths, each (N, ...).
        baselines: their beginnings, likewise.
        rule: nodes and weights of the quadrature, (steps,).
        samples: (M,) which samples; None: all.
    """

    def __init__(
        self,
        call: Call,
        scalar: Scalar,
        points: Mapping[Point, Tensor],
        baselines: Sequence[Values],
        rule: tuple[Tensor, Tensor],
        samples: Tensor | None,
    ) -> None:
        device = scalar.output.device
        order = spread(len(rule[0]))
        self._nodes, self._weights = (part[order].to(device) for part in rule)
        self._call, self._scalar, self._points, self._samples = call, scalar, points, samples
        self._several = len(baselines)
        self._origins = {point: torch.stack([baseline[point] for baseline in baselines]) for point in points}
        chosen = {point: value if samples is None else value[samples] for point, value in points.items()}
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
            return {
                point: torch.lerp(
                    self._origins[point][numbers % several, rows],
                    value[rows],
                    shaped(self._nodes[numbers // several].to(value.dtype), value),
                )
                for point, value in self._points.items()
            }

        passes = self._call.function.gradients(
            len(self._nodes) * several, make, self._scalar, list(self._points), samples=self._samples
        )
        for chunk in passes:
            weights = self._weights[chunk.steps // several]
            for point, gradient in chunk.gradients.items():
                way = self._points[point][chunk.rows] - self._origins[point][chunk.steps % several, chunk.rows]
                share = way.mul_(gradient).mul_(shaped(weights.to(way.dtype), way))
                chunk.add(self._sums[point], share)
            chunk.add(self._done, weights)
            self.taken = int(chunk.steps[-1]) // several + 1
            if bool((self._done > 0).all()):
                yield

    def values(self) -> dict[Point, Tensor]:
        """The shares, each (M, ...), by the steps done so far."""
        return {
            point: (total / shaped(self._done.to(total.dtype), total)).to(self._points[point].dtype)
            for point, total in self._sums.items()
        }
