"""Gradient x activation at a layer (Shrikumar 2017), as a map and as one score for each channel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.ledger import Entry, Ledger
from pellucid.engine.passes import Scalar
from pellucid.methods.activation.base import GradientMap, Map
from pellucid.methods.citations import SHRIKUMAR
from pellucid.methods.positions.choice import Site

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["GradientTimesActivation", "with_ledger"]


@dataclass(frozen=True)
class GradientTimesActivation(GradientMap):
    """The gradient of a layer's activations times these (Shrikumar 2017, section 3.1, at a layer).

    The map is ``sum_i dy/dA_ijk A_ijk`` at every position jk. ``details["channel scores"]`` holds one score for each
    channel, ``H_i = 1/Z sum_jk dy/dA_ijk A_ijk`` over the Z positions, (N, channels).
    """

    name: ClassVar[str] = "gradient-x-activation"
    cost: ClassVar[str] = "1 forward + gradient down to the layer"
    advice: ClassVar[str] = "Which positions and which channels of a layer the output was made from, signed."
    citation: ClassVar[str] = SHRIKUMAR
    unit: ClassVar[str] = ""
    shares: ClassVar[bool] = True
    channel_detail: ClassVar[str] = "channel scores"

    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """Their product, added over channels, and averaged over positions."""
        products = value * gradient
        return Map(products.sum(1), products.mean(2))

    def audited(self, call: Call, scalar: Scalar, site: Site, found: Map, value: Tensor) -> Map:
        """With the ledger."""
        return with_ledger(call, scalar, site, found, value)


def with_ledger(call: Call, scalar: Scalar, site: Site, found: Map, value: Tensor) -> Map:
    """A map of shares with the ledger ``f(A) = sum of the map + f(0)``, where the rest of the model is affine in A.

    ``f(0)`` is what the model gives with zeros at the layer: what its biases bring. Without one where the map leaves
    tokens out, as these have shares of their own.
    """
    if site.blame is not None or site.layout.kept is not None or not site.whole:
        return found
    done = call.function.run(
        {site.point: torch.zeros_like(value)}, read=[call.function.layer(name) for name in scalar.layers]
    )
    with torch.no_grad():
        rest = scalar.of(done)
    name = ", ".join(name for grid in site.layout.fields for name in grid.inputs)
    entries = (
        Entry("input", name, float(found.values.sum(dtype=torch.float64))),
        Entry("bias", f"behind {site.name}", math.fsum(rest.double().tolist())),
    )
    return replace(found, ledger=Ledger(math.fsum(scalar.output.double().tolist()), entries))
