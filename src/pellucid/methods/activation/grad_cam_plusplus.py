"""Grad-CAM++ (Chattopadhay 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.methods.activation.base import GradientMap, Map, weighted

__all__ = ["GradCAMPlusPlus", "positive_weights"]

_CITATION = """@inproceedings{chattopadhay2018,
  author = {Chattopadhay, Aditya and Sarkar, Anirban and Howlader, Prantik and Balasubramanian, Vineeth N.},
  title = {Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks},
  booktitle = {IEEE Winter Conference on Applications of Computer Vision}, year = {2018}
}"""


def positive_weights(value: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """``w_k = sum_ij alpha_k_ij ReLU(d1)`` with ``alpha = d2 / (2 d2 + sum_ab A_k_ab d3)``, 0 where that is 0/0.

    Args:
        value: A, (N, channels, positions).
        first, second, third: derivatives d1, d2 and d3 of every unit, like it.

    Returns:
        (N, channels).
    """
    below = 2 * second + value.sum(2, keepdim=True) * third
    alpha = torch.where(below == 0, 0, second / below)
    return (alpha * first.clamp(min=0)).sum(2)


@dataclass(frozen=True)
class GradCAMPlusPlus(GradientMap):
    """Grad-CAM++: channels weighed by their positive gradients, positions by their curvature (Chattopadhay 2018).

    Equations 5 and 19 of the paper. With ``Y = exp(S)``, as there, the second and third derivatives are the square and
    the cube of the gradient of ``S``; the common factor ``exp(S)`` is left out, which scales a sample's whole map.

    Args:
        relu: show only what is above zero, as in the paper.
    """

    relu: bool = True

    name: ClassVar[str] = "grad-cam++"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    advice: ClassVar[str] = "As grad-cam, where several objects of the class are in the picture."
    citation: ClassVar[str] = _CITATION

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """See :func:`positive_weights`."""
        weights = positive_weights(value, gradient, gradient**2, gradient**3)
        return weighted(weights, value, relu=self.relu)
