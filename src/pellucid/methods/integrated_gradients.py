"""Integrated gradients (Sundararajan 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point
from pellucid.methods.base import Cost, Family
from pellucid.methods.baselines import baselines_at
from pellucid.methods.completeness import check_tolerance, completeness_ledger, missed, missed_note, scalar_at
from pellucid.methods.path import PathMean
from pellucid.methods.points import AtPoints, PointMethod
from pellucid.methods.quadrature import Quadrature, quadrature

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

        def integral(steps: int, samples: Tensor | None) -> PathMean:
            rule = quadrature(self.quadrature, steps)
            return PathMean(call, scalar, points, baselines, rule, samples=samples, times_way=True)

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
