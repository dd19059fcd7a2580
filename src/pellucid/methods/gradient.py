"""The gradient (Simonyan 2014) and gradient x input (Shrikumar 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from pellucid.engine.passes import Scalar, joined, of_all
from pellucid.engine.point import Kind, Point
from pellucid.methods.base import Attribution, Cost, Family
from pellucid.methods.citations import SHRIKUMAR, SIMONYAN
from pellucid.methods.points import AtPoints, PointMethod
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Gradient", "GradientTimesInput"]


@dataclass(frozen=True)
class Gradient(PointMethod):
    """The derivative of the explained scalar by every input feature: ``dy/dx`` (Simonyan 2014).

    For token ids it is summed over the features of their vectors.
    """

    name: ClassVar[str] = "gradient"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "1 forward + gradient"
    advice: ClassVar[str] = "How the output would move with small changes of the input; noisy, no share of the output."
    citation: ClassVar[str] = SIMONYAN
    unit: ClassVar[str] = "gradient"

    def attribute(self, call: Call, target: Target) -> Attribution:
        """Inputs and layers from one forward and one backward."""
        function = call.function
        target.check_layers(function.shadow.modules)
        wanted = [function.layer(name) for name in dict.fromkeys((*call.layers, *target.layers()))]
        asked = self.beside(call)
        scalars, shares = [], []
        for rows in function.parts():
            done = function.run({}, rows, read=wanted, leaves=function.points, differentiate=True)
            scalar = function.fix(target, done, rows)
            points = [point for point in done.values if point.kind is not Kind.LAYER]
            _, gradients = function.differentiate(scalar.of(done), done, points, beside=asked)
            scalars.append(scalar)
            shares.append({p: self.share(done.values[p].detach(), gradient) for p, gradient in gradients.items()})
        return self.dressed(call, of_all(scalars), AtPoints(joined(shares)))

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        _, gradients = call.function.gradient(points, None, scalar, list(points))
        return AtPoints({point: self.share(value, gradients[point]) for point, value in points.items()})

    def beside(self, call: Call) -> list[Point]:
        """All layers."""
        return [call.function.layer(name) for name in dict.fromkeys(call.layers)]

    def share(self, value: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """What a value gets, given its gradient."""
        return gradient

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One."""
        return Cost(0, 1)


@dataclass(frozen=True)
class GradientTimesInput(Gradient):
    """The gradient times the value it is taken at: ``x dy/dx`` (Shrikumar 2017, section 3.1).

    The first-order Taylor share of every feature; on ReLU networks without biases it sums to the output and is LRP-0.
    """

    name: ClassVar[str] = "gradient-x-input"
    advice: ClassVar[str] = "A first, cheap share of the output; exact where the model is linear."
    citation: ClassVar[str] = SHRIKUMAR
    unit: ClassVar[str] = ""

    def share(self, value: Tensor, gradient: Tensor) -> Tensor:
        """Their product."""
        return value * gradient
