"""Internal influence (Leino 2018): the gradient at a layer, averaged along a path of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point
from pellucid.methods.base import Cost, Family
from pellucid.methods.baselines import baselines_at
from pellucid.methods.path import PathMean
from pellucid.methods.points import AtPoints, JointMethod
from pellucid.methods.quadrature import Quadrature, quadrature

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["InternalInfluence"]

_CITATION = """@inproceedings{leino2018,
  author = {Leino, Klas and Sen, Shayak and Datta, Anupam and Fredrikson, Matt and Li, Linyi},
  title = {Influence-Directed Explanations for Deep Convolutional Networks},
  booktitle = {IEEE International Test Conference}, year = {2018}
}"""


@dataclass(frozen=True)
class InternalInfluence(JointMethod):
    """The influence of the units of a layer: ``integral_0^1 dy/dz (z(b + t (x - b))) dt`` (Leino 2018, definition 1).

    The distribution of interest is the straight path of *inputs* from the baseline, and the slice of the network is
    at the layers that ``layer=`` names: their results are in ``layers``. The relevance of the input is the influence
    of the first slice, the input itself: the gradient averaged along the path, which integrated gradients multiply by
    the way.

    Args:
        steps: evaluations along the path.
        quadrature: the rule for the integral.
        baseline: see ``pellucid.methods.Baseline``; a list averages over several.

    Raises:
        InputError: a setting is out of range, or the baseline does not fit the input.
    """

    steps: int = 50
    quadrature: Quadrature = "gauss-legendre"
    baseline: Any = "zero"

    name: ClassVar[str] = "internal-influence"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "steps x (forward + gradient)"
    needs: ClassVar[str] = "any model; layer= names where"
    advice: ClassVar[str] = "Which units of a layer the output depends on, for inputs between a baseline and yours."
    citation: ClassVar[str] = _CITATION
    unit: ClassVar[str] = "gradient"

    def __post_init__(self) -> None:
        """Check the settings."""
        quadrature(self.quadrature, self.steps)

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """The steps, once per baseline, and a forward to see what is explained."""
        several = len(self.baseline) if isinstance(self.baseline, (list, tuple)) else 1
        return Cost(1, self.steps * several)

    def through(
        self, call: Call, scalar: Scalar, inputs: Mapping[Point, Tensor], layers: Mapping[Point, Tensor]
    ) -> AtPoints:
        """See the class."""
        baselines = baselines_at(call, inputs, self.baseline)
        call.progress.expect_more(self.steps * call.batch * len(baselines))
        mean = PathMean(call, scalar, inputs, baselines, quadrature(self.quadrature, self.steps), beside=layers)
        for _ in mean:
            self.offer(call, scalar, inputs, lambda: AtPoints(mean.values(), settings={"steps taken": mean.taken}))
        return AtPoints(mean.values())
