"""Grad-CAM (Selvaraju 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pellucid.methods.activation.base import GradientMap, Map, weighted

__all__ = ["SELVARAJU", "GradCAM"]

SELVARAJU = """@inproceedings{selvaraju2017,
  author = {Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and Vedantam, Ramakrishna and Parikh, Devi
            and Batra, Dhruv},
  title = {Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization},
  booktitle = {IEEE International Conference on Computer Vision}, year = {2017}
}"""


@dataclass(frozen=True)
class GradCAM(GradientMap):
    """Grad-CAM: channels weighed by their mean gradient (Selvaraju 2017, equations 1 and 2).

    ``ReLU(sum_k alpha_k A_k)`` with ``alpha_k = 1/Z sum_ij dy/dA_k_ij``. ``details["channel weights"]`` holds alpha,
    (N, channels).

    Args:
        relu: show only what speaks for the explained scalar, as in the paper; otherwise the map is signed.
    """

    relu: bool = True

    name: ClassVar[str] = "grad-cam"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    advice: ClassVar[str] = "Where a class is seen: coarse, cheap, robust; for any network with feature maps or tokens."
    citation: ClassVar[str] = SELVARAJU

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """Weights are means over positions."""
        return weighted(gradient.mean(2), value, relu=self.relu)
