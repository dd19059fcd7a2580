"""Eigen-Grad-CAM: Eigen-CAM (Muhammad 2020) of gradient times activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pellucid.methods.activation.base import GradientMap, Map
from pellucid.methods.activation.eigen_cam import MUHAMMAD, principal_map

__all__ = ["EigenGradCAM"]


@dataclass(frozen=True)
class EigenGradCAM(GradientMap):
    """The first principal component of gradient times activation: Eigen-CAM (Muhammad 2020) that knows the class.

    Its sign is taken so that it goes along with the products' sum over channels.

    Args:
        centre: subtract every channel's mean over positions first.
        relu: show only what is above zero.
    """

    centre: bool = True
    relu: bool = True

    name: ClassVar[str] = "eigen-grad-cam"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    advice: ClassVar[str] = "Cleaner maps than hires-cam where many channels add noise."
    citation: ClassVar[str] = MUHAMMAD

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """See the class."""
        products = value * gradient
        return principal_map(products, products.sum(1), centre=self.centre, relu=self.relu)
