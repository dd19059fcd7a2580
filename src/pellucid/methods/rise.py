"""RISE: the output averaged over random masks (Petsiuk 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point
from pellucid.errors import InputError
from pellucid.methods.baselines import baselines_at
from pellucid.methods.features import Features, features_at, has_positions
from pellucid.methods.game import Game, whole_game
from pellucid.methods.perturbation import Board, Estimate
from pellucid.methods.random_masks import Free, Kind, RandomMasks, Smooth
from pellucid.methods.replacing import Replacing
from pellucid.methods.study import SamplingMethod, Study

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["RISE"]

_CITATION = """@inproceedings{petsiuk2018,
  author = {Petsiuk, Vitali and Das, Abir and Saenko, Kate},
  title = {{RISE}: Randomized Input Sampling for Explanation of Black-box Models},
  booktitle = {British Machine Vision Conference}, year = {2018}
}"""


@dataclass(frozen=True)
class RISE(SamplingMethod):
    """The mean output over random masks that show a position, less the mean over all masks (Petsiuk 2018, eq. 6).

    ``1 / (n p) sum_k (f(x * M_k) - mean f) M_k``. Without ``centred``, the mean is not taken off, as in the paper; both
    differ by about a constant. In series, pictures and volumes, masks are coarse grids of zeros and ones, stretched
    linearly over the positions at a random shift (section 3.2); elsewhere, or where ``features`` are given, features
    are shown or not, each on its own. Masks are made on the device when their turn comes; all samples share them.

    Args:
        features: what is masked together, see ``pellucid.methods.Features``; None: smooth masks where there are
            positions.
        baseline: what stands where a mask is 0, see ``pellucid.methods.Baseline``; a list averages over several.
        samples: masks at first.
        tolerance: double the samples until every score's standard error is at most this share of the range of the
            values that the output took.
        most_samples: do not go beyond.
        probability: that a cell of a grid, or a feature, is shown.
        cells: of the grid along each axis of positions; None: about 49 in all.
        centred: take the mean output off.

    Raises:
        InputError: a setting is out of range.
    """

    probability: float = 0.5
    cells: int | None = None
    centred: bool = True

    name: ClassVar[str] = "rise"
    cost: ClassVar[str] = "samples forwards"
    advice: ClassVar[str] = "Smooth maps of where objects are, from the output alone; needs thousands of forwards."
    citation: ClassVar[str] = _CITATION
    unit: ClassVar[str] = "mean output where it is seen"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if not 0 < self.probability < 1:
            raise InputError(f"Expected probability between 0 and 1 for rise, got {self.probability!r}.")
        if self.cells is not None and (not isinstance(self.cells, int) or self.cells < 1):
            raise InputError(f"Expected cells as a whole number of 1 or more, or None, for rise, got {self.cells!r}.")

    def features_of(self, call: Call, points: Mapping[Point, Tensor]) -> Features:
        """Every position of its own where masks are smooth."""
        if not self.smooth_at(call, points):
            return super().features_of(call, points)
        spec = {point.name: "pixels" if has_positions(call, point, value) else None for point, value in points.items()}
        return replace(features_at(call, points, spec, caller=f"the method {self.name!r}"), told=False)

    def smooth_at(self, call: Call, points: Mapping[Point, Tensor]) -> bool:
        """Whether there are positions, and no features for them."""
        return self.features is None and any(has_positions(call, point, value) for point, value in points.items())

    def games_of(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], features: Features
    ) -> Iterator[Game]:
        """Where masks are smooth, every position takes part, whether its value differs from the baseline or not."""
        if self.smooth_at(call, points):
            baselines = baselines_at(call, points, self.baseline)
            yield whole_game(Replacing(call, scalar, points, baselines), features)
        else:
            yield from super().games_of(call, scalar, points, features)

    def play(self, game: Game, board: Board) -> None:
        """See the class."""
        points = game.replacing.points
        kinds: list[Kind] = [Free(game.count)]
        if self.smooth_at(board.call, points):
            sizes = {
                point.name: Smooth(tuple(value.shape[2:]), self.cells)
                if has_positions(board.call, point, value)
                else None
                for point, value in points.items()
            }
            counts = {point.name: int(places.max() - places.min()) + 1 for point, places in game.maps.items()}
            kinds = [kind or Free(counts[name]) for name, kind in sizes.items()]
        self.run(_Study(game, self, kinds), board)


class _Study(Study):
    """Sums over masks.

    Args:
        game: whose.
        method: its settings.
        kinds: of masks, one after the other over all features.
    """

    def __init__(self, game: Game, method: RISE, kinds: Sequence[Kind]) -> None:
        super().__init__(game)
        self._method, self._kinds = method, kinds
        dtype = game.replacing.scalar.output.dtype
        self._dtype = dtype if dtype == torch.float64 else torch.float32
        self._sums = {
            name: torch.zeros_like(game.own, dtype=torch.float64) for name in ("m", "mm", "fm", "fmm", "ffm", "ffmm")
        }

    def extend(self, generator: torch.Generator, evaluations: int) -> Iterator[None]:
        """See the base class."""
        masks = RandomMasks(self._kinds, evaluations, self._method.probability, generator)
        for numbers in self.game.replacing.blocks(evaluations):
            shown = masks.made(numbers, self._dtype)
            values = self.game.value(shown)
            self._add(values, shown)
            yield from self.play(iter([values]))

    def _add(self, values: Tensor, shown: Tensor) -> None:
        far = (values - self.game.full[:, None]).to(shown.dtype)  # distances from the output keep the sums small
        squares = shown**2
        self._sums["m"] += shown.sum(0)
        self._sums["mm"] += squares.sum(0)
        self._sums["fm"] += far @ shown
        self._sums["fmm"] += far @ squares
        self._sums["ffm"] += far**2 @ shown
        self._sums["ffmm"] += far**2 @ squares

    def narrow(self, which: Tensor) -> None:
        """See the base class."""
        super().narrow(which)
        self._sums = {name: value[which] for name, value in self._sums.items()}

    def estimate(self) -> Estimate:
        """Means over masks of ``(f - c) M / p``, c being the mean of f or 0, and their standard errors.

        As c is estimated too, a mask adds ``(f - c) (M - mean M) / p`` to the error of the mean.
        """
        shown = self._method.probability
        mean = {name: value / self.done for name, value in self._sums.items()}
        full = self.game.full[:, None]
        off, middle = -full, torch.zeros_like(mean["m"])
        far = self.values - full
        if self._method.centred:
            off, middle = far.mean(1, keepdim=True), mean["m"]
        scores = mean["fm"] - off * mean["m"]
        square, of_mask = (
            ((far - off) ** 2).mean(1, keepdim=True),
            mean["ffm"] - 2 * off * mean["fm"] + off**2 * mean["m"],
        )
        of_both = mean["ffmm"] - 2 * off * mean["fmm"] + off**2 * mean["mm"]
        spread = of_both - 2 * middle * of_mask + middle**2 * square
        away = scores - middle * (far - off).mean(1, keepdim=True)
        errors = ((spread - away**2).clamp(min=0) / (self.done - 1)).sqrt() / shown if self.done > 1 else None
        return Estimate(scores / shown, errors)
