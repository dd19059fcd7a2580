"""DeepLIFT (Shrikumar 2017) with the rescale rule, over any recorded graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.point import Point
from pellucid.methods.background import Background
from pellucid.methods.baselines import baselines_at
from pellucid.methods.citations import SHRIKUMAR
from pellucid.methods.differences import DifferenceMethod

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["DeepLIFT"]


@dataclass(frozen=True)
class DeepLIFT(DifferenceMethod):
    """DeepLIFT (Shrikumar 2017) with the rescale rule: sums to ``f(x) - f(baseline)``.

    The model runs at the input and at the baseline, and multipliers walk back over both graphs in step. Linear maps
    pass them on as they are, an elementwise function multiplies them by the slope of its secant
    ``(y - y0) / (x - x0)``, the product of two signals by the mean of the other factor in both runs, and of a maximum
    the winner takes all; softmax, norms and attention are taken apart into these. So the shares sum to the difference
    on any architecture, whatever its modules are and however often they run.

    Args:
        baseline: see ``pellucid.methods.Baseline``; a list averages over several.
    """

    baseline: Any = "zero"

    name: ClassVar[str] = "deeplift"
    cost: ClassVar[str] = "2 forwards + walk per baseline (about 1.5 gradients)"
    needs: ClassVar[str] = "a model that takes the same way for input and baseline"
    advice: ClassVar[str] = "Shares that sum to the difference from a baseline, at a fraction of the cost of a path."
    citation: ClassVar[str] = SHRIKUMAR

    def background_of(self, call: Call, points: Mapping[Point, Tensor]) -> Background:
        """The baselines, of which each may be another one for every sample."""
        many = baselines_at(call, points, self.baseline)
        return Background(call, {point: torch.stack([values[point] for values in many]) for point in points})
