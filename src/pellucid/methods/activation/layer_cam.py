"""LayerCAM (Jiang 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pellucid.methods.activation.base import GradientMap, Map

__all__ = ["LayerCAM"]

_CITATION = """@article{jiang2021,
  author = {Jiang, Peng-Tao and Zhang, Chang-Bin and Hou, Qibin and Cheng, Ming-Ming and Wei, Yunchao},
  title = {LayerCAM: Exploring Hierarchical Class Activation Maps for Localization},
  journal = {IEEE Transactions on Image Processing}, volume = {30}, year = {2021}
}"""


@dataclass(frozen=True)
class LayerCAM(GradientMap):
    """LayerCAM: every activation weighed by its own positive gradient (Jiang 2021, equations 6 and 7).

    ``ReLU(sum_k ReLU(dy/dA_k_ij) A_k_ij)``.

    Args:
        relu: show only what is above zero, as in the paper.
    """

    relu: bool = True

    name: ClassVar[str] = "layer-cam"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    advice: ClassVar[str] = "Finer maps from earlier layers, where one weight for a whole channel says too little."
    citation: ClassVar[str] = _CITATION

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """Weights are the positive gradients themselves."""
        values = (gradient.clamp(min=0) * value).sum(1)
        return Map(values.clamp(min=0) if self.relu else values)
