"""Expected gradients (Erion 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point, Values
from pellucid.errors import InputError
from pellucid.methods.background import Background, background_at
from pellucid.methods.base import Cost, Family
from pellucid.methods.completeness import check_tolerance, completeness_ledger, missed, missed_note
from pellucid.methods.noise import Noise
from pellucid.methods.points import AtPoints, PointMethod, by_token, shaped
from pellucid.methods.sampling import BlockMeans

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["ExpectedGradients"]

_CITATION = """@article{erion2021,
  author = {Erion, Gabriel and Janizek, Joseph D. and Sturmfels, Pascal and Lundberg, Scott M. and Lee, Su-In},
  title = {Improving Performance of Deep Learning Models with Axiomatic Attribution Priors and Expected Gradients},
  journal = {Nature Machine Intelligence}, volume = {3}, pages = {620--631}, year = {2021}
}"""


@dataclass(frozen=True)
class ExpectedGradients(PointMethod):
    """Integrated gradients averaged over a background, by sampling: sums to ``f(x) - mean f(background)``.

    ``E_{b, t} (x_i - b_i) df/dx_i (b + t (x - b))`` with b from the background and t uniform in [0, 1] (Erion 2021,
    eq. 3). Draws are stratified: they come in blocks, in each of which t falls once into every part of [0, 1] of equal
    length and background samples differ as long as there are others; blocks are independent, so that their spread
    gives the standard error, in ``details["standard error"]``. All samples share the draws. The ledger compares with
    the mean over the background samples that were drawn.

    Args:
        samples: draws of a background sample and a place on the way from it.
        background: samples (size, ...) of the input, of several inputs a dict of them by name, of token ids other ids;
            or baselines (see ``pellucid.methods.Baseline``), one or a list of several.
        tolerance: double the samples until ``|sum - (f(x) - mean f(b))|`` is at most this share of
            ``|f(x) - mean f(b)|``, for every sample.
        most_samples: do not go beyond.

    Raises:
        InputError: a setting is out of range, or the background does not fit the input.
    """

    samples: int = 50
    background: Any = "zero"
    tolerance: float | None = None
    most_samples: int = 1000

    name: ClassVar[str] = "expected-gradients"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "samples x (forward + gradient) + a forward per background sample"
    needs: ClassVar[str] = "any model; best with background samples of your data"
    advice: ClassVar[str] = (
        "Shares of the difference from your data's mean output, where no single baseline is neutral."
    )
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.samples, int) or self.samples < 1:
            raise InputError(f"Expected samples as a whole number of 1 or more, got {self.samples!r}.")
        check_tolerance(self.tolerance, self.samples, self.most_samples, what="samples")

    def passes(self, call: Call) -> Cost:
        """The samples, and a forward for every background sample."""
        size = background_at(call, call.function.inputs, self.background).size
        return Cost(1 + min(size, self.samples), self.samples if self.tolerance is None else None)

    def noise_around(self, call: Call, points: Mapping[Point, Tensor]) -> Noise:
        """The ends of the ways from the background."""
        return Noise(call, points, 0.0, relative=False)

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        noise = self.noise_around(call, points)
        sampling = _Sampling(call, scalar, points, background_at(call, points, self.background), noise, self.samples)

        def found(late: Tensor) -> AtPoints:
            values = sampling.values()
            return AtPoints(
                values,
                completeness_ledger(scalar.output, sampling.floor(), values),
                details=sampling.errors(),
                notes=(*noise.notes(), *missed_note(late, self.tolerance, sampling.taken, what="samples")),
                settings={"samples taken": sampling.taken},
            )

        nobody = torch.zeros(call.batch, dtype=torch.bool, device=scalar.output.device)
        for _ in sampling.begin():
            self.offer(call, scalar, points, lambda: found(nobody))
        if self.tolerance is None:
            return found(nobody)
        while True:
            late = missed(sampling.values(), scalar.output.double() - sampling.floor(), self.tolerance)
            if not bool(late.any()) or not sampling.more(late.nonzero()[:, 0], self.most_samples):
                return found(late)


class _Sampling:
    """The draws so far, and what they gave."""

    def __init__(
        self,
        call: Call,
        scalar: Scalar,
        points: Mapping[Point, Tensor],
        background: Background,
        noise: Noise,
        samples: int,
    ) -> None:
        self._call, self._scalar, self._points = call, scalar, points
        self._background, self._noise, self._samples = background, noise, samples
        self._size = _block_size(samples)
        self._blocks = self._fresh(slice(None))
        shape = (background.size, len(scalar.output))
        self._floors = torch.full(shape, torch.nan, dtype=torch.float64, device=scalar.output.device)
        self._drawn = torch.zeros_like(self._floors)
        self.taken = 0
        """The most draws that a sample had."""

    def begin(self) -> Iterator[None]:
        """The first draws of all samples; comes by when something is known of every sample."""
        numbers, places = self._plan(range(self._samples))
        for _ in self._run(numbers, places, 0, None, self._blocks):
            self.taken = self._size * min(blocks.moments.count for blocks in self._blocks.values())
            if self.taken:
                self._drawn[:] = torch.bincount(numbers[: self.taken], minlength=len(self._drawn))[:, None]
                yield

    def more(self, samples: Tensor, most: int) -> bool:
        """As many draws again of ``samples`` (M,), or as many as are left; False if none are."""
        count = min(self.taken, most - self.taken) // self._size * self._size
        if not count:
            return False
        numbers, places = self._plan(range(self.taken, self.taken + count))
        fresh = self._fresh(samples)
        for _ in self._run(numbers, places, self.taken, samples, fresh):
            pass
        for point, blocks in fresh.items():
            self._blocks[point].moments.merge(blocks.moments, samples)
        self._drawn[:, samples] += torch.bincount(numbers, minlength=len(self._drawn))[:, None]
        self.taken += count
        return True

    def values(self) -> dict[Point, Tensor]:
        """The shares."""
        return {point: blocks.moments.mean.to(self._points[point].dtype) for point, blocks in self._blocks.items()}

    def errors(self) -> dict[str, dict[Point, Tensor]]:
        """Their standard errors, where there are blocks enough to tell."""
        found = {point: blocks.moments.error() for point, blocks in self._blocks.items()}
        known = {point: error.to(self._points[point].dtype) for point, error in found.items() if error is not None}
        return {"standard error": known} if known else {}

    def floor(self) -> Tensor:
        """(N,), float64: the mean scalar of the background samples that were drawn."""
        return (self._drawn * self._floors.nan_to_num()).sum(0) / self._drawn.sum(0)

    def _fresh(self, samples: slice | Tensor) -> dict[Point, BlockMeans]:
        return {point: BlockMeans(by_token(point, value[samples]), self._size) for point, value in self._points.items()}

    def _plan(self, draws: range) -> tuple[Tensor, Tensor]:
        """Which background sample (n,) and which place in [0, 1] (n,) each draw takes, block by block."""
        generator = self._call.generator(64 * draws.start + 63)
        shape = (len(draws) // self._size, self._size)
        parts = torch.rand(shape, generator=generator).argsort(1)
        places = (parts + torch.rand(shape, generator=generator, dtype=torch.float64)) / self._size
        rounds = -(-self._size // self._background.size)
        order = torch.rand(shape[0], rounds, self._background.size, generator=generator).argsort(2)
        numbers = order.flatten(1)[:, : self._size]
        device = self._scalar.output.device
        return numbers.reshape(-1).to(device), places.reshape(-1).to(device)

    def _run(
        self, numbers: Tensor, places: Tensor, before: int, samples: Tensor | None, blocks: Mapping[Point, BlockMeans]
    ) -> Iterator[None]:
        used = torch.unique(numbers)
        used = used[self._floors[used].isnan().any(1)]
        forwards = len(used) * (1 if self._background.shared else self._call.batch)
        every = self._call.batch if samples is None else len(samples)
        self._call.progress.expect_more(forwards + len(numbers) * every)
        if len(used):
            self._floors[used] = self._background.scalars(self._scalar, used)
        ways: dict[Point, Tensor] = {}

        def make(steps: Tensor, rows: Tensor) -> Values:
            begins = self._background.at(numbers[steps], rows)
            for point, end in self._noise.around(steps + before, rows).items():
                ways[point] = end.sub_(begins[point])
            return {p: begins[p].addcmul(way, shaped(places[steps].to(way.dtype), way)) for p, way in ways.items()}

        passes = self._call.function.gradients(len(numbers), make, self._scalar, list(self._points), samples=samples)
        for chunk in passes:
            for point, gradient in chunk.gradients.items():
                blocks[point].add_chunk(chunk, by_token(point, ways[point].mul_(gradient)))
            yield


def _block_size(samples: int) -> int:
    """Draws in a block, so that there are about eight blocks of one size; 1 where no such division is even."""
    counts = [count for count in range(4, 17) if samples % count == 0]
    return samples // min(counts, key=lambda count: abs(count - 8)) if counts else 1
