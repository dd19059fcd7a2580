"""Smooth Grad-CAM++ (Omeiza 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Values
from pellucid.errors import InputError
from pellucid.methods.activation.base import ActivationMap, Map, jackknife, weighted
from pellucid.methods.activation.grad_cam_plusplus import positive_weights
from pellucid.methods.base import Cost
from pellucid.methods.completeness import check_tolerance, missed_note
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
        tolerance: double the copies until the standard error is at most this share of the map, both as Euclidean norms
            over the layer's positions.
        most_samples: do not go beyond.

    Raises:
        InputError: a setting is out of range.
    """

    samples: int = 20
    noise: float = 0.15
    relative: bool = True
    relu: bool = True
    tolerance: float | None = None
    most_samples: int = 1000

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
        check_tolerance(self.tolerance, self.samples, self.most_samples, what="samples")

    def at(self, call: Call, target: Target, site: Site) -> tuple[Scalar, Map]:
        """In a few parts of the copies, whose spread gives the error."""
        scalar, values = call.function.begin(target, [site.point])
        noise = Noise(call, call.function.inputs, self.noise, relative=self.relative)
        copies = _Copies(self, site, site.layout.unfold(values[site.point]))
        taken, late = 0, torch.ones_like(scalar.output, dtype=torch.bool)

        def found() -> Map:
            missed = late if taken == copies.most and self.tolerance is not None else torch.zeros_like(late)
            note = missed_note(missed, self.tolerance, taken, what="samples", see="the standard error")
            return replace(copies.found(), notes=(*noise.notes(), *note), settings={"samples taken": copies.most})

        while bool(late.any()) and taken < (self.samples if self.tolerance is None else self.most_samples):
            more = self.samples if not taken else min(taken, self.most_samples - taken)
            again = late.nonzero()[:, 0]
            call.progress.expect_more(more * len(again))
            for _ in copies.draw(call, scalar, noise, range(taken, taken + more), again):
                self.offer(call, target, scalar, site, found)
            taken += more
            if self.tolerance is not None:
                late = copies.late(self.tolerance)
        return scalar, found()

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One forward, and a gradient for each copy."""
        return Cost(1, self.samples if self.tolerance is None else None)


class _Copies:
    """Powers of the gradients at noisy copies, summed in parts of the copies.

    Args:
        method: its settings.
        site: the layer.
        value: of the layer for the input itself, (N, channels, positions).
    """

    def __init__(self, method: SmoothGradCAMPlusPlus, site: Site, value: Tensor) -> None:
        self._method, self._site, self._value = method, site, value
        self._parts = min(_PARTS, method.samples)
        self._sums = torch.zeros(self._parts, 3, *value.shape, dtype=value.dtype, device=value.device)
        self._counts = torch.zeros(self._parts, len(value), dtype=value.dtype, device=value.device)

    @property
    def most(self) -> int:
        """The most copies that a sample had."""
        return int(self._counts.sum(0).max())

    def draw(self, call: Call, scalar: Scalar, noise: Noise, copies: range, samples: Tensor) -> Iterator[None]:
        """Add these copies of ``samples`` (M,); comes by when every sample has had one."""
        for part, numbers in enumerate(torch.arange(copies.start, copies.stop).tensor_split(self._parts)):
            if not len(numbers):
                continue
            make = partial(_later, noise, int(numbers[0]))
            passes = call.function.gradients(len(numbers), make, scalar, [self._site.point], samples=samples)
            for chunk in passes:
                gradients, place = chunk.split(self._site.layout.unfold(chunk.gradients[self._site.point]))
                where = samples[place]
                for total, power in zip(self._sums[part], (1, 2, 3), strict=True):
                    total[where] += (gradients**power).sum(0, dtype=total.dtype)
                self._counts[part, where] += len(gradients)
                if bool(self._counts.sum(0).all()):
                    yield

    def found(self) -> Map:
        """The map, with those that leave out one part each, where there are two or more."""
        sums, counts = self._sums.sum(0), self._counts.sum(0)
        begun = [part for part in range(self._parts) if bool(self._counts[part].all())]
        whole = self._map(sums, counts)
        if len(begun) < 2:
            return whole
        left_out = [self._map(sums - self._sums[part], counts - self._counts[part]).values for part in begun]
        return replace(whole, replicates=torch.stack(left_out))

    def late(self, tolerance: float) -> Tensor:
        """(N,) which samples do not meet the tolerance."""
        found = self.found()
        if found.replicates is None:
            return torch.ones(len(self._value), dtype=torch.bool, device=self._value.device)
        errors, values = (torch.linalg.vector_norm(v, dim=1) for v in (jackknife(found.replicates), found.values))
        late: Tensor = errors > tolerance * values
        return late

    def _map(self, sums: Tensor, counts: Tensor) -> Map:
        weights = positive_weights(self._value, *(sums / counts[:, None, None]))
        return weighted(weights, self._value, relu=self._method.relu)


def _later(noise: Noise, first: int, copies: Tensor, rows: Tensor) -> Values:
    """Noisy copies of some rows, counted from copy ``first``."""
    return noise.around(first + copies, rows)
