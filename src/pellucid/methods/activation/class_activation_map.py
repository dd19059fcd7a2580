"""Class activation mapping (Zhou 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from pellucid.errors import ModelError, PellucidError, reason
from pellucid.methods.activation.base import GradientMap, Map, weighted
from pellucid.methods.positions.choice import Sites
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["CAM"]

_CITATION = """@inproceedings{zhou2016,
  author = {Zhou, Bolei and Khosla, Aditya and Lapedriza, Agata and Oliva, Aude and Torralba, Antonio},
  title = {Learning Deep Features for Discriminative Localization},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition}, year = {2016}
}"""


@dataclass(frozen=True)
class CAM(GradientMap):
    """Class activation mapping: the weights of the linear layer behind global average pooling, applied before it.

    ``M_c = sum_k w_k^c A_k`` (Zhou 2016, equation 2), of which the mean over positions is the explained scalar but for
    the bias. The weights are read from the gradient, so that it does not matter how the layers are written.

    Args:
        relu: show only what speaks for the explained scalar. The paper applies none.
    """

    relu: bool = False

    name: ClassVar[str] = "cam"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    needs: ClassVar[str] = "global average pooling and one linear layer behind the feature map"
    advice: ClassVar[str] = "The exact score of every position, where a network ends in pooling and one linear layer."
    citation: ClassVar[str] = _CITATION

    def sites(self, call: Call, target: Target) -> Sites:
        """Layers behind which everything is affine."""
        found = super().sites(call, target)
        for site in found.sites:
            if site.blame is not None:
                raise ModelError(
                    f"cam needs global average pooling and one linear layer behind {site.name!r}, but there is "
                    f"{site.blame}. Use grad-cam, which is the same map where cam is defined."
                )
        return found

    def unfit(self, call: Call) -> str | None:
        """No linear layer, or no pooling, behind the layer."""
        why = super().unfit(call)
        if why is not None:
            return why
        small = call.small
        try:
            for site in self.sites(small, small.target).sites:
                self.at(small, small.target, site)
        except PellucidError as error:
            return reason(error)
        return None

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """The weights of the linear layer are what the gradient of a channel sums to."""
        mean = gradient.mean(2, keepdim=True)
        if bool(((gradient - mean).abs() > 1e-3 * mean.abs().amax(1, keepdim=True)).any()):
            raise ModelError(
                "cam needs global average pooling behind the layer, but its positions count differently: they are "
                "flattened, or pooled with weights. Use hires-cam, which is exact there too."
            )
        return weighted(gradient.sum(2), value, relu=self.relu)
