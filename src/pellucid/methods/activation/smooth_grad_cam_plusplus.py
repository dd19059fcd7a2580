"""Smooth Grad-CAM++ (Omeiza 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Values
from pellucid.errors import InputError
from pellucid.methods.activation.base import ActivationMap, Map, weighted
from pellucid.methods.activation.grad_cam_plusplus import positive_weights
from pellucid.methods.base import Cost
from pellucid.methods.noise import Noise, check_noise
from pellucid.methods.positions.choice import Site
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["SmoothGradCAMPlusPlus"]

_CITATION = """@article{omeiza2019,
  author = {Omeiza, Daniel and Speakman, Skyler and Cintas, Celia and Weldermariam, Komminist},
  title = {Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique for Deep Convolutional Neural Network
           Models},
  journal = {arXiv preprint arXiv:1908.01224}, year = {2019}
}"""
_PARTS = 5


@dataclass(frozen=True)
class SmoothGradCAMPlusPlus(ActivationMap):
    """Grad-CAM++ with derivatives that are averaged over noisy copies of the input (Omeiza 2019, equations 7 and 8).

    The activations are those of the input itself. As in Grad-CAM++, the numerator of alpha is the second derivative;
    equation 8 has the first there. ``details["standard error"]`` tells, by the jackknife over parts of the copies, how
    far the map may be from that of infinitely many.

    Args:
        samples: noisy copies.
        noise: their noise, relative to the range of the sample.
        relative: False: ``noise`` is in units of the input.
        relu: show only what is above zero.
    """

    samples: int = 20
    noise: float = 0.15
    relative: bool = True
    relu: bool = True

    name: ClassVar[str] = "smooth-grad-cam++"
    cost: ClassVar[str] = "1 forward + samples x (forward + gradient down to the layer)"
    advice: ClassVar[str] = "As grad-cam++, where its map changes with small changes of the input."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: one of them is out of range.
        """
        if not isinstance(self.samples, int) or self.samples < 2:
            raise InputError(f"Expected samples as a whole number of 2 or more, got {self.samples!r}.")
        check_noise(self.noise)

    def at(self, call: Call, target: Target, site: Site) -> tuple[Scalar, Map]:
        """In a few parts of the copies, whose spread gives the error."""
        function = call.function
        scalar, done = function.begin(target, [site.point])
        value = site.layout.unfold(done.values[site.point])
        call.progress.expect_more(self.samples * call.batch)
        noise = Noise(call, function.inputs, self.noise, relative=self.relative)
        parts = torch.arange(self.samples).tensor_split(min(_PARTS, self.samples))
        sums = torch.zeros(len(parts), 3, *value.shape, dtype=value.dtype, device=value.device)
        for part, copies in zip(sums, parts, strict=True):
            make = partial(_later, noise, int(copies[0]))
            for chunk in function.gradients(len(copies), make, scalar, [site.point]):
                gradient = site.layout.unfold(chunk.gradients[site.point])
                for total, power in zip(part, (1, 2, 3), strict=True):
                    chunk.add(total, gradient**power)

        def estimate(derivatives: Tensor, count: int) -> Map:
            weights = positive_weights(value, *(derivatives / count))
            return weighted(weights, value, relu=self.relu)

        whole = sums.sum(0)
        left_out = [
            estimate(whole - part, self.samples - len(copies)).values
            for part, copies in zip(sums, parts, strict=True)
        ]  # fmt: skip
        found = estimate(whole, self.samples)
        return scalar, Map(found.values, found.channels, torch.stack(left_out), notes=noise.notes())

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One forward, and a gradient for each copy."""
        return Cost(1, self.samples)


def _later(noise: Noise, first: int, copies: Tensor, rows: Tensor) -> Values:
    """Noisy copies of some rows, counted from copy ``first``."""
    return noise.around(first + copies, rows)
