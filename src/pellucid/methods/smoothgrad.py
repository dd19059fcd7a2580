"""SmoothGrad (Smilkov 2017), SmoothGrad squared (Hooker 2019) and VarGrad (Adebayo 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Kind, Point
from pellucid.errors import InputError
from pellucid.methods.base import Cost, Family, per_sample_sum
from pellucid.methods.completeness import check_tolerance, missed_note
from pellucid.methods.noise import Noise, check_noise
from pellucid.methods.points import AtPoints, JointMethod, by_token
from pellucid.methods.sampling import Moments

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["SmoothGrad", "SmoothGradSquared", "VarGrad"]

_SMILKOV = """@article{smilkov2017,
  author = {Smilkov, Daniel and Thorat, Nikhil and Kim, Been and Viegas, Fernanda and Wattenberg, Martin},
  title = {SmoothGrad: Removing Noise by Adding Noise},
  journal = {arXiv:1706.03825}, year = {2017}
}"""
_HOOKER = """@inproceedings{hooker2019,
  author = {Hooker, Sara and Erhan, Dumitru and Kindermans, Pieter-Jan and Kim, Been},
  title = {A Benchmark for Interpretability Methods in Deep Neural Networks},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2019}
}"""
_ADEBAYO = """@inproceedings{adebayo2018,
  author = {Adebayo, Julius and Gilmer, Justin and Goodfellow, Ian and Kim, Been},
  title = {Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values},
  booktitle = {International Conference on Learning Representations, Workshop Track}, year = {2018}
}"""


@dataclass(frozen=True)
class SmoothGrad(JointMethod):
    """The mean of the gradients at noisy copies of the input: ``1/n sum_k dy/dx (x + e_k)`` (Smilkov 2017, eq. 1).

    ``e_k`` is normal, with a standard deviation of ``noise`` times the range (highest less lowest value) of each
    sample; the same draws serve all samples. For token ids noise is added to the vectors that they are looked up as,
    and what is averaged is their gradient summed over the features. At a layer it is the mean of the gradients there,
    the noise being that of the inputs. The standard error of the mean is in ``details["standard error"]``.

    Args:
        samples: noisy copies of the input.
        noise: their noise, relative to the range of the sample; 0.1 to 0.2 is usual for images.
        relative: False: ``noise`` is in units of the input.
        multiply_by_input: multiply every gradient by the input (without noise).
        tolerance: double the samples until the standard error is at most this share of the relevance, both as
            Euclidean norms over the sample.
        most_samples: do not go beyond.

    Raises:
        InputError: a setting is out of range.
    """

    samples: int = 50
    noise: float = 0.15
    relative: bool = True
    multiply_by_input: bool = False
    tolerance: float | None = None
    most_samples: int = 1000

    name: ClassVar[str] = "smoothgrad"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "samples x (forward + gradient)"
    advice: ClassVar[str] = "The gradient without most of its noise; says how sure it is."
    citation: ClassVar[str] = _SMILKOV

    order: ClassVar[int] = 2
    """The highest moment that is needed."""
    degree: ClassVar[int] = 1
    """The power of the gradient that it is made of."""
    squares: ClassVar[bool] = False
    """Whether every gradient is squared."""
    least: ClassVar[int] = 1
    """The fewest samples that it is defined for."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.samples, int) or self.samples < self.least:
            raise InputError(
                f"Expected samples as a whole number of {self.least} or more for {self.name}, got {self.samples!r}."
            )
        check_noise(self.noise)
        check_tolerance(self.tolerance, self.samples, self.most_samples, what="samples")

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """The samples, and a forward to see what is explained."""
        return Cost(1, self.samples if self.tolerance is None else None)

    def through(
        self, call: Call, scalar: Scalar, inputs: Mapping[Point, Tensor], layers: Mapping[Point, Tensor]
    ) -> AtPoints:
        """See the class."""
        noise = Noise(call, inputs, self.noise, relative=self.relative)
        points = {**inputs, **layers}
        moments = {point: Moments(by_token(point, value), order=self.order) for point, value in points.items()}
        taken = self.samples

        def found(late: Tensor | None = None) -> AtPoints:
            late = torch.zeros(0) if late is None else late
            note = missed_note(late, self.tolerance, taken, what="samples", see="the standard error")
            return self._found(points, moments, taken, (*noise.notes(), *note))

        call.progress.expect_more(self.samples * call.batch)
        for _ in self._drawn(call, scalar, points, noise, moments, range(self.samples), None):
            self.offer(call, scalar, inputs, found)
        late = self._late(inputs, moments)
        while bool(late.any()) and taken < self.most_samples:
            again = late.nonzero()[:, 0]
            more = range(taken, min(2 * taken, self.most_samples))
            call.progress.expect_more(len(more) * len(again))
            fresh = {point: Moments(moments[point].mean[again], order=self.order) for point in points}
            for _ in self._drawn(call, scalar, points, noise, fresh, more, again):
                pass
            for point, parts in fresh.items():
                moments[point].merge(parts, again)
            taken, late = more.stop, self._late(inputs, moments)
        return found(late)

    def _drawn(
        self,
        call: Call,
        scalar: Scalar,
        points: Mapping[Point, Tensor],
        noise: Noise,
        moments: Mapping[Point, Moments],
        draws: range,
        samples: Tensor | None,
    ) -> Iterator[None]:
        """Add these draws of all samples, or of ``samples``; comes by when every sample has had one."""
        inputs = [point for point in points if point.kind is not Kind.LAYER]
        passes = call.function.gradients(
            len(draws),
            lambda numbers, rows: noise.around(numbers + draws.start, rows),
            scalar,
            inputs,
            samples=samples,
            beside=[point for point in points if point.kind is Kind.LAYER],
        )
        for chunk in passes:
            for point, gradient in chunk.gradients.items():
                share = points[point][chunk.rows].mul_(gradient) if self.multiply_by_input else gradient
                share = by_token(point, share)
                moments[point].add_chunk(chunk, share * share if self.squares else share)
            if all(parts.count for parts in moments.values()):
                yield

    def result(self, moments: Moments) -> tuple[Tensor, Tensor | None]:
        """The relevance and its standard error."""
        return moments.mean, moments.error()

    def _found(
        self, points: Mapping[Point, Tensor], moments: Mapping[Point, Moments], taken: int, notes: tuple[str, ...]
    ) -> AtPoints:
        results = {point: self.result(parts) for point, parts in moments.items()}
        errors = {point: error.to(points[point].dtype) for point, (_, error) in results.items() if error is not None}
        unit = ("output" if self.multiply_by_input else "gradient") + (" squared" if self.degree == 2 else "")
        return AtPoints(
            {point: value.to(points[point].dtype) for point, (value, _) in results.items()},
            details={"standard error": errors} if errors else {},
            notes=notes,
            settings={"samples taken": taken, **({"unit": unit} if unit != "output" else {})},
        )

    def _late(self, inputs: Mapping[Point, Tensor], moments: Mapping[Point, Moments]) -> Tensor:
        """(N,) which samples do not meet the tolerance."""
        results = [self.result(moments[point]) for point in inputs]
        size = per_sample_sum({point: value.square() for point, (value, _) in zip(inputs, results, strict=True)})
        if self.tolerance is None:
            return torch.zeros_like(size, dtype=torch.bool)
        errors = {point: error.square() for point, (_, error) in zip(inputs, results, strict=True) if error is not None}
        if not errors:
            return torch.ones_like(size, dtype=torch.bool)
        return per_sample_sum(errors) > self.tolerance**2 * size


@dataclass(frozen=True)
class SmoothGradSquared(SmoothGrad):
    """The mean of the squared gradients at noisy copies of the input: ``1/n sum_k (dy/dx (x + e_k))^2`` (Hooker 2019).

    Where the gradient is strong, of whatever sign; everything else is as for ``smoothgrad``, products with the input
    being squared as a whole.
    """

    name: ClassVar[str] = "smoothgrad-squared"
    advice: ClassVar[str] = "Where the output is sensitive, without a sign; ranks pixels better than smoothgrad."
    citation: ClassVar[str] = _HOOKER
    degree: ClassVar[int] = 2
    squares: ClassVar[bool] = True


@dataclass(frozen=True)
class VarGrad(SmoothGrad):
    """The variance of the gradients at noisy copies of the input: ``V_k[dy/dx (x + e_k)]`` (Adebayo 2018, sec. 2).

    Unbiased, over ``samples - 1``; everything else is as for ``smoothgrad``. Its standard error, from the fourth
    moment, needs four samples.
    """

    name: ClassVar[str] = "vargrad"
    advice: ClassVar[str] = "Where the gradient changes near the input; sees edges of decisions, no direction."
    citation: ClassVar[str] = _ADEBAYO
    order: ClassVar[int] = 4
    degree: ClassVar[int] = 2
    least: ClassVar[int] = 2

    def result(self, moments: Moments) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        return moments.variance(), moments.variance_error()
