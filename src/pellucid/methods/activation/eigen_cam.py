"""Eigen-CAM (Muhammad 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.methods.activation.base import ActivationMap, Map
from pellucid.methods.base import Cost
from pellucid.methods.positions.choice import Site
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["MUHAMMAD", "EigenCAM", "principal_map"]

MUHAMMAD = """@inproceedings{muhammad2020,
  author = {Muhammad, Mohammed Bany and Yeasin, Mohammed},
  title = {Eigen-CAM: Class Activation Map using Principal Components},
  booktitle = {International Joint Conference on Neural Networks}, year = {2020}
}"""


def principal_map(features: Tensor, like: Tensor, *, centre: bool, relu: bool) -> Map:
    """Every position's features projected onto their first right singular vector.

    A singular vector has no sign of its own: it gets the one with which the map goes along with ``like``.

    Args:
        features: (N, channels, positions).
        like: (N, positions).
        centre: subtract from every channel its mean over positions first.
        relu: only what is above zero.
    """
    rows = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
    rows = rows.transpose(1, 2)
    if centre:
        rows = rows - rows.mean(1, keepdim=True)
    main = torch.linalg.svd(rows, full_matrices=False).Vh[:, 0]
    values = torch.einsum("npc,nc->np", rows, main)
    sign = torch.where((values * like).sum(1) < 0, -1.0, 1.0).to(values.dtype)
    values, main = values * sign[:, None], main * sign[:, None]
    return Map((values.clamp(min=0) if relu else values).to(features.dtype), main.to(features.dtype))


@dataclass(frozen=True)
class EigenCAM(ActivationMap):
    """Eigen-CAM: the first principal component of a layer's activations (Muhammad 2020, equation 5). Knows no class.

    The activations (positions x channels) are projected onto their first right singular vector, whose sign is taken so
    that strongly activated positions come out positive.

    Args:
        centre: subtract every channel's mean over positions first, as principal components do; the paper does not.
        relu: show only what is above zero.
    """

    centre: bool = False
    relu: bool = False

    name: ClassVar[str] = "eigen-cam"
    cost: ClassVar[str] = "1 forward"
    advice: ClassVar[str] = "What the layer sees, whatever the class: a baseline for the maps that know the class."
    citation: ClassVar[str] = MUHAMMAD

    def at(self, call: Call, target: Target, site: Site) -> tuple[Scalar, Map]:
        """One forward."""
        scalar, values = call.function.begin(target, [site.point])
        value = site.layout.unfold(values[site.point])
        strength = value.float().norm(dim=1)
        return scalar, principal_map(value, strength, centre=self.centre, relu=self.relu)

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One forward."""
        return Cost(1, 0)
