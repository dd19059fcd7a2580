"""HiResCAM (Draelos 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.methods.activation.base import GradientMap, Map
from pellucid.methods.activation.gradient_x_activation import with_ledger
from pellucid.methods.positions.choice import Site

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["HiResCAM"]

_CITATION = """@article{draelos2020,
  author = {Draelos, Rachel Lea and Carin, Lawrence},
  title = {Use HiResCAM Instead of Grad-CAM for Faithful Explanations of Convolutional Neural Networks},
  journal = {arXiv preprint arXiv:2011.08891}, year = {2020}
}"""


@dataclass(frozen=True)
class HiResCAM(GradientMap):
    """HiResCAM: gradient times activation, added over channels (Draelos 2020, equation 3): ``sum_k dy/dA_k A_k``.

    Its values are shares of the explained scalar, and where everything behind the layer is affine (the last
    convolutional layer before pooling and one linear layer) they sum to it but for the biases: the ledger shows it.

    Args:
        relu: show only what speaks for the explained scalar. The paper applies none.
    """

    relu: bool = False

    name: ClassVar[str] = "hires-cam"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    advice: ClassVar[str] = "Where a class is seen, provably what the model used where the rest of it is affine."
    citation: ClassVar[str] = _CITATION
    unit: ClassVar[str] = ""
    shares: ClassVar[bool] = True

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """Their product."""
        values = (value * gradient).sum(1)
        return Map(values.clamp(min=0) if self.relu else values)

    def audited(self, call: Call, scalar: Scalar, site: Site, found: Map, value: Tensor) -> Map:
        """With the ledger, where all is shown and the rest of the model is affine."""
        return found if self.relu else with_ledger(call, scalar, site, found, value)
