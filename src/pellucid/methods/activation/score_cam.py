"""Score-CAM (Wang 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point, Values
from pellucid.methods.activation.base import ChannelMap, Map, weighted
from pellucid.methods.positions.choice import Site
from pellucid.methods.positions.layout import InputShape
from pellucid.methods.positions.resize import brought
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["ScoreCAM"]

_CITATION = """@inproceedings{wang2020,
  author = {Wang, Haofan and Wang, Zifan and Du, Mengnan and Yang, Fan and Zhang, Zijian and Ding, Sirui and
            Mardziel, Piotr and Hu, Xia},
  title = {Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks},
  booktitle = {CVPR Workshop on Fair, Data Efficient and Trusted Computer Vision}, year = {2020}
}"""


@dataclass(frozen=True)
class ScoreCAM(ChannelMap):
    """Score-CAM: channels weighed by the score of the input seen through them, without gradients (Wang 2020).

    Each channel, resized to the input and scaled to [0, 1], masks the input; the scores of the masked inputs, through
    a softmax over the channels, are the weights (algorithm 1). A baseline, the same for all channels, cancels in it.

    Args:
        relu: show only what is above zero, as in the paper.
    """

    relu: bool = True

    name: ClassVar[str] = "score-cam"
    cost: ClassVar[str] = "1 + channels forwards"
    advice: ClassVar[str] = "Smooth maps without gradients, where these saturate; costs a forward for every channel."
    citation: ClassVar[str] = _CITATION

    def at(self, call: Call, target: Target, site: Site) -> tuple[Scalar, Map]:
        """As many masked inputs at once as memory allows."""
        function = call.function
        scalar, values = function.begin(target, [site.point])
        value = site.layout.unfold(values[site.point])
        scores = torch.full(value.shape[:2], -torch.inf, dtype=scalar.output.dtype, device=value.device)
        call.progress.expect_more(value.shape[1] * call.batch)
        masked = _Masked(function.inputs, site, self.sites(call, target).inputs, value)

        def estimate() -> Map:
            return weighted(scores.softmax(1).nan_to_num().to(value.dtype), value, relu=self.relu)

        for chunk in function.scalars(value.shape[1], masked.make, scalar):
            scores[chunk.rows, chunk.steps] = chunk.scalars
            self.offer(call, target, scalar, site, estimate)
        return scalar, estimate()


class _Masked:
    """Inputs seen through channels.

    Args:
        inputs: the explained ones, (N, ...) each.
        site: the layer.
        known: what is known of the inputs.
        value: of the layer, (N, channels, positions).
    """

    def __init__(self, inputs: Values, site: Site, known: Mapping[str, InputShape], value: Tensor) -> None:
        self._inputs, self._site, self._known, self._value = inputs, site, known, value

    def make(self, channels: Tensor, rows: Tensor) -> Values:
        """The masked inputs of some rows, from the channel and the sample of each."""
        maps = self._value[rows, channels]
        masks = {
            name: _to_unit(brought(maps[:, field.part].reshape(-1, *field.grid), field, name, self._known[name]))
            for field in self._site.layout.fields
            for name in field.inputs
        }
        return {point: self._through(point, rows, masks) for point in self._inputs if point.name in masks}

    def _through(self, point: Point, rows: Tensor, masks: dict[str, Tensor]) -> Tensor:
        value, mask = self._inputs[point][rows], masks[point.name]
        return value * mask.reshape(*mask.shape, *[1] * (value.ndim - mask.ndim)).to(value.dtype)


def _to_unit(maps: Tensor) -> Tensor:
    """Every map scaled to [0, 1]; zeros where it is the same everywhere."""
    dims = tuple(range(1, maps.ndim))
    low, high = maps.amin(dims, keepdim=True), maps.amax(dims, keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), 0)
