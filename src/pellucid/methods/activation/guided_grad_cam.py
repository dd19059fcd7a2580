"""Guided Grad-CAM (Selvaraju 2017, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pellucid.engine.passes import Scalar
from pellucid.methods.activation.base import Map
from pellucid.methods.activation.grad_cam import GradCAM
from pellucid.methods.base import Attribution, Cost
from pellucid.methods.named import GuidedBackprop
from pellucid.methods.positions.choice import Sites

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["GuidedGradCAM"]


@dataclass(frozen=True)
class GuidedGradCAM(GradCAM):
    """Guided Grad-CAM: guided backprop (Springenberg 2015) times the Grad-CAM map, resized to the input.

    Every value of the input is multiplied by the map at its position. ``layers`` holds the Grad-CAM map.

    Args:
        relu: of Grad-CAM.
    """

    name: ClassVar[str] = "guided-grad-cam"
    cost: ClassVar[str] = "2 forwards + gradient"
    needs: ClassVar[str] = "ReLU, and a layer with positions; elsewhere it is the plain gradient times the map"
    advice: ClassVar[str] = "Crisp edges where a class is seen; the edges hardly depend on the class."
    unit: ClassVar[str] = "gradient x activation"
    divided: ClassVar[bool] = False

    def dressed(self, call: Call, scalar: Scalar, sites: Sites, maps: Sequence[Map]) -> Attribution:
        """The map at the input times guided backprop there."""
        heights = super().dressed(call, scalar, sites, maps)
        guided = GuidedBackprop().attribute(call, scalar.target)
        relevance = {name: guided.relevance[name] * height for name, height in heights.relevance.items()}
        return replace(heights, relevance=relevance, notes=(*heights.notes, *guided.notes))

    def unfit(self, call: Call) -> str | None:
        """There is no layer for the map, or guided backprop does not fit."""
        return super().unfit(call) or GuidedBackprop().unfit(call)

    def remark(self, call: Call) -> str | None:
        """That of guided backprop."""
        return GuidedBackprop().remark(call)

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One for the map, one for guided backprop."""
        return Cost(0, 2)
