"""Ablation-CAM (Desai 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.methods.activation.base import ChannelMap, Map, weighted
from pellucid.methods.positions.behind import scalars_behind
from pellucid.methods.positions.choice import Site
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["AblationCAM"]

_CITATION = """@inproceedings{desai2020,
  author = {Desai, Saurabh and Ramaswamy, Harish G.},
  title = {Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization},
  booktitle = {IEEE Winter Conference on Applications of Computer Vision}, year = {2020}
}"""


@dataclass(frozen=True)
class AblationCAM(ChannelMap):
    """Ablation-CAM: channels weighed by what the score loses without them (Desai 2020, equations 3 and 4).

    ``ReLU(sum_k w_k A_k)`` with ``w_k = (y - y_k) / |y|``, where ``y_k`` is the score with channel k set to zero at
    all of its positions. The paper divides by y, which turns the sign of the map where the score is negative.

    What lies before the layer is run once per sample, wherever the rest of the model can be run on more rows alone.

    Args:
        relu: show only what speaks for the explained scalar, as in the paper.
    """

    relu: bool = True

    name: ClassVar[str] = "ablation-cam"
    cost: ClassVar[str] = "1 forward + channels forwards from the layer on"
    advice: ClassVar[str] = "What a channel is worth by taking it away, where gradients saturate."
    citation: ClassVar[str] = _CITATION

    def at(self, call: Call, target: Target, site: Site) -> tuple[Scalar, Map]:
        """As many ablated channels at once as memory allows."""
        scalar, values = call.function.begin(target, [site.point])
        output = values[site.point]
        value = site.layout.unfold(output)
        count = value.shape[1]
        left = scalar.output[:, None].repeat(1, count)
        size = torch.where(scalar.output == 0, 1, scalar.output.abs())[:, None]

        def without(rows: Tensor, channels: Tensor) -> Tensor:
            kept = torch.ones(len(channels), count, dtype=output.dtype, device=output.device)
            kept.scatter_(1, channels[:, None], 0)
            return rows * site.layout.over_channels(kept, rows)

        def estimate() -> Map:
            return weighted(((scalar.output[:, None] - left) / size).to(value.dtype), value, relu=self.relu)

        for chunk in scalars_behind(call, scalar, site, output, count, without):
            left[chunk.rows, chunk.steps] = chunk.scalars
            self.offer(call, target, scalar, site, estimate)
        return scalar, estimate()
