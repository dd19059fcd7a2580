"""XGrad-CAM (Fu 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.methods.activation.base import GradientMap, Map, weighted

__all__ = ["XGradCAM"]

_CITATION = """@inproceedings{fu2020,
  author = {Fu, Ruigang and Hu, Qingyong and Dong, Xiaohu and Guo, Yulan and Gao, Yinghui and Li, Biao},
  title = {Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs},
  booktitle = {British Machine Vision Conference}, year = {2020}
}"""


@dataclass(frozen=True)
class XGradCAM(GradientMap):
    """XGrad-CAM: channels weighed by their gradient where they are active (Fu 2020, equation 7).

    ``alpha_k = sum_ij A_k_ij / (sum_ab A_k_ab) dy/dA_k_ij``, 0 for a channel that sums to 0. Before the ReLU, the map
    of a channel sums to what gradient x activation gives it, so that on ReLU networks without biases behind the layer
    the whole sums to the output.

    Args:
        relu: show only what speaks for the explained scalar, as in the paper.
    """

    relu: bool = True

    name: ClassVar[str] = "xgrad-cam"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    advice: ClassVar[str] = "As grad-cam, with weights from axioms; the same where the gradient is constant."
    citation: ClassVar[str] = _CITATION

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """Weights are means of the gradient, weighed by the activation."""
        total = value.sum(2)
        products = (value * gradient).sum(2)
        return weighted(torch.where(total == 0, 0, products / total), value, relu=self.relu)
