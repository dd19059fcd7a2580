"""Integrated gradients (Sundararajan 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.engine.ledger import Entry, Ledger
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point, Values
from pellucid.errors import InputError
from pellucid.methods.base import Cost, Family, per_sample_sum
from pellucid.methods.baselines import baselines_at
from pellucid.methods.points import AtPoints, PointMethod

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["IntegratedGradients", "Quadrature", "completeness_ledger", "quadrature"]

_CITATION = """@inproceedings{sundararajan2017,
  author = {Sundararajan, Mukund and Taly, Ankur and Yan, Qiqi},
  title = {Axiomatic Attribution for Deep Networks},
  booktitle = {International Conference on Machine Learning}, year = {2017}
}"""

Quadrature = Literal["gauss-legendre", "trapezoid", "midpoint", "left", "right"]


def quadrature(rule: str, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes in [0, 1] and weights that sum to 1, both (steps,), float64.

    Raises:
        InputError: no such rule, or too few steps for it.
    """
    least = 2 if rule == "trapezoid" else 1
    if not isinstance(steps, int) or steps < least:
        raise InputError(f"Expected steps as a whole number of {least} or more for the rule {rule!r}, got {steps!r}.")
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    even = torch.arange(steps, dtype=torch.float64)
    if rule == "trapezoid":
        ends = torch.full((steps,), 1 / (steps - 1), dtype=torch.float64)
        ends[[0, -1]] /= 2
        return even / (steps - 1), ends
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}
    if rule not in shift:
        raise InputError(
            f"No quadrature rule is called {rule!r}. Expected one of: gauss-legendre, trapezoid, {', '.join(shift)}."
        )
    return (even + shift[rule]) / steps, torch.full((steps,), 1 / steps, dtype=torch.float64)


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
        """Check the settings.

        Raises:
            InputError: one of them is out of range.
        """
        quadrature(self.quadrature, self.steps)
        if self.tolerance is not None and not self.tolerance > 0:
            raise InputError(f"Expected tolerance > 0, or None for a fixed number of steps, got {self.tolerance}.")

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """The steps, once per baseline."""
        several = len(self.baseline) if isinstance(self.baseline, (list, tuple)) else 1
        return Cost(1 + several, self.steps * several if self.tolerance is None else None)

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        baselines = baselines_at(call, points, self.baseline)
        call.progress.expect((self.steps + 1) * call.batch * len(baselines))
        total = {point: torch.zeros_like(value) for point, value in points.items()}
        floor = torch.zeros_like(scalar.output, dtype=torch.float64)
        missed, most = torch.zeros(call.batch, dtype=torch.bool), self.steps
        for baseline in baselines:
            reference = _value(call, scalar, baseline)
            floor += reference.double()
            found, steps, late = self._refined(call, scalar, points, baseline, scalar.output - reference)
            for point, value in found.items():
                total[point] += value
            missed |= late.cpu()
            most = max(most, steps)
        values = {point: value / len(baselines) for point, value in total.items()}
        notes = []
        if bool(missed.any()):
            notes.append(
                f"{int(missed.sum())} of {call.batch} samples did not meet tolerance={self.tolerance:g} within "
                f"{most} steps: see the ledger's gap."
            )
        ledger = completeness_ledger(scalar.output, floor / len(baselines), values)
        return AtPoints(values, ledger, notes=tuple(notes), settings={"steps taken": most})

    def _refined(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], baseline: Values, difference: Tensor
    ) -> tuple[dict[Point, Tensor], int, Tensor]:
        """The attribution, the most steps that a sample took, and which samples missed the tolerance."""
        steps = self.steps
        found = self._integral(call, scalar, points, baseline, steps, None)
        late = torch.zeros_like(difference, dtype=torch.bool)
        if self.tolerance is None:
            return found, steps, late
        while True:
            gap = (per_sample_sum(found) - difference.double()).abs()
            late = gap > self.tolerance * difference.double().abs()
            if not bool(late.any()) or steps * 2 > self.most_steps:
                return found, steps, late
            steps *= 2
            again = late.nonzero()[:, 0]
            better = self._integral(call, scalar, points, baseline, steps, again)
            for point, value in better.items():
                found[point][again] = value

    def _integral(
        self,
        call: Call,
        scalar: Scalar,
        points: Mapping[Point, Tensor],
        baseline: Values,
        steps: int,
        samples: Tensor | None,
    ) -> dict[Point, Tensor]:
        nodes, weights = (part.to(scalar.output.device) for part in quadrature(self.quadrature, steps))

        def make(numbers: Tensor, rows: Tensor) -> Values:
            return {
                point: torch.lerp(baseline[point][rows], value[rows], _shaped(nodes[numbers], value).to(value.dtype))
                for point, value in points.items()
            }

        chosen = {point: value if samples is None else value[samples] for point, value in points.items()}
        sums = {point: torch.zeros_like(value) for point, value in chosen.items()}
        for chunk in call.function.gradients(steps, make, scalar, list(points), samples=samples):
            for point, gradient in chunk.gradients.items():
                chunk.add(sums[point], gradient * _shaped(weights[chunk.steps], gradient).to(gradient.dtype))
        where = slice(None) if samples is None else samples
        return {point: sums[point] * (value - baseline[point][where]) for point, value in chosen.items()}


def _shaped(factors: Tensor, like: Tensor) -> Tensor:
    """(n,) so that it broadcasts along the other dimensions of ``like``."""
    return factors.view(-1, *[1] * (like.ndim - 1))


def _value(call: Call, scalar: Scalar, values: Values) -> Tensor:
    """The scalar (N,) with ``values`` at their points."""
    parts = list(call.function.scalars(1, lambda _, rows: {p: v[rows] for p, v in values.items()}, scalar))
    return torch.cat([part.scalars for part in parts])


def completeness_ledger(output: Tensor, baseline: Tensor, values: Mapping[Point, Tensor]) -> Ledger:
    """``f(x) = f(baseline) + what the inputs got + gap`` over the batch; the gap is what ``unaccounted`` shows."""
    entries = [Entry("baseline", "", math.fsum(baseline.double().tolist()))]
    entries += [Entry("input", point.name, float(value.sum(dtype=torch.float64))) for point, value in values.items()]
    return Ledger(math.fsum(output.double().tolist()), tuple(entries))
