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
    eq. 3). Draws are stratified: they come in about eight blocks, in each of which t falls once into every part of
    [0, 1] of equal length, and background samples come equally often as far as possible. Blocks are independent, so
    that their spread gives the standard error, in ``details["standard error"]``. All samples share the draws. The
    ledger compares with the mean over the background samples that were drawn.

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
        shape = (background.size, len(scalar.output))
        self._floors = torch.full(shape, torch.nan, dtype=torch.float64, device=scalar.output.device)
        self._drawn = torch.zeros_like(self._floors)
        self._means: dict[Point, Tensor] = {}
        self._squared: dict[Point, Tensor] = {}
        """Squared standard errors, where there are blocks enough to tell."""
        self.taken = 0
        """The most draws that a sample had."""

    def begin(self) -> Iterator[None]:
        """The first draws of all samples; comes by when something is known of every sample."""
        size = _block_size(self._samples, self._background.size)
        numbers, places = self._plan(range(self._samples), size)
        blocks = self._blocks(slice(None), size)
        for _ in self._run(numbers, places, 0, None, blocks):
            done = min(means.moments.count for means in blocks.values())
            if done * size > self.taken:
                self.taken = done * size
                self._drawn[:] = torch.bincount(numbers[: self.taken], minlength=len(self._drawn))[:, None]
                self._means, self._squared = _results(blocks)
                yield

    def more(self, samples: Tensor, most: int) -> bool:
        """As many draws again of ``samples`` (M,), or as many as are left; False if none are."""
        count = min(self.taken, most - self.taken)
        if not count:
            return False
        size = _block_size(count, self._background.size)
        numbers, places = self._plan(range(self.taken, self.taken + count), size)
        blocks = self._blocks(samples, size)
        for _ in self._run(numbers, places, self.taken, samples, blocks):
            pass
        means, squared = _results(blocks)
        old = self.taken / (self.taken + count)
        self._means = {
            point: mean.index_copy(0, samples, old * mean[samples] + (1 - old) * means[point])
            for point, mean in self._means.items()
        }
        self._squared = {
            point: known.index_copy(0, samples, old**2 * known[samples] + (1 - old) ** 2 * squared[point])
            for point, known in self._squared.items()
            if point in squared
        }
        self._drawn[:, samples] += torch.bincount(numbers, minlength=len(self._drawn))[:, None]
        self.taken += count
        return True

    def values(self) -> dict[Point, Tensor]:
        """The shares."""
        return {point: mean.to(self._points[point].dtype) for point, mean in self._means.items()}

    def errors(self) -> dict[str, dict[Point, Tensor]]:
        """Their standard errors, where there are blocks enough to tell."""
        known = {point: value.sqrt().to(self._points[point].dtype) for point, value in self._squared.items()}
        return {"standard error": known} if known else {}

    def floor(self) -> Tensor:
        """(N,), float64: the mean scalar of the background samples that were drawn."""
        return (self._drawn * self._floors.nan_to_num()).sum(0) / self._drawn.sum(0)

    def _blocks(self, samples: slice | Tensor, size: int) -> dict[Point, BlockMeans]:
        return {point: BlockMeans(by_token(point, value[samples]), size) for point, value in self._points.items()}

    def _plan(self, draws: range, size: int) -> tuple[Tensor, Tensor]:
        """Which background sample (n,) and which place in [0, 1] (n,) each draw takes, block by block.

        A block is a Latin hypercube; where every background sample comes equally often, the places of each are
        stratified as well.
        """
        generator = self._call.generator(64 * draws.start + 63)
        many = self._background.size
        rounds = -(-size // many)
        shape = (len(draws) // size, rounds, many)
        order = torch.rand(shape, generator=generator).argsort(2)
        if size == rounds * many:
            numbers, within, strata = torch.arange(many).expand(shape), order, rounds
            parts = torch.arange(rounds).view(1, -1, 1).expand(shape)
        else:
            numbers = order.flatten(1)[:, :size]
            within, strata = torch.zeros_like(numbers), size
            parts = torch.rand(numbers.shape, generator=generator).argsort(1)
            many = 1
        jitter = torch.rand(numbers.shape, generator=generator, dtype=torch.float64)
        places = (parts + (within + jitter) / many) / strata
        device = self._scalar.output.device
        return numbers.reshape(-1).to(device), places.reshape(-1).to(device)

    def _run(
        self, numbers: Tensor, places: Tensor, before: int, samples: Tensor | None, blocks: Mapping[Point, BlockMeans]
    ) -> Iterator[None]:
        """Make the draws; comes by after every pass."""
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


def _results(blocks: Mapping[Point, BlockMeans]) -> tuple[dict[Point, Tensor], dict[Point, Tensor]]:
    """Means and squared standard errors, these where they are known."""
    errors = {point: means.moments.error() for point, means in blocks.items()}
    squared = {point: error.square() for point, error in errors.items() if error is not None}
    return {point: means.moments.mean.clone() for point, means in blocks.items()}, squared


def _block_size(samples: int, background: int) -> int:
    """Draws in a block: eight blocks or more, all of one size, every background sample equally often if possible."""
    sizes = [size for size in range(1, samples // 8 + 1) if samples % size == 0]
    return max(sizes, key=lambda size: (size % background == 0, size), default=1)
