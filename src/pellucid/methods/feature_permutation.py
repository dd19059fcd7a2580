"""Feature permutation: what the output loses when a feature comes from another sample (Breiman 2001, Fisher 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point, Values
from pellucid.errors import InputError
from pellucid.methods.background import background_at
from pellucid.methods.completeness import check_tolerance
from pellucid.methods.feature_ablation import ablated
from pellucid.methods.features import Features, features_at
from pellucid.methods.game import Game, whole_game
from pellucid.methods.perturbation import Board, Estimate, ScoreMethod
from pellucid.methods.replacing import Replacing
from pellucid.methods.study import late_samples

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["FeaturePermutation"]

_CITATION = """@article{breiman2001,
  author = {Breiman, Leo},
  title = {Random Forests},
  journal = {Machine Learning}, volume = {45}, pages = {5--32}, year = {2001}
}

@article{fisher2019,
  author = {Fisher, Aaron and Rudin, Cynthia and Dominici, Francesca},
  title = {All Models are Wrong, but Many are Useful: Learning a Variable's Importance by Studying an Entire Class of
    Prediction Models Simultaneously},
  journal = {Journal of Machine Learning Research}, volume = {20}, number = {177}, year = {2019}
}"""


@dataclass(frozen=True)
class FeaturePermutation(ScoreMethod):
    """``f(x) - f(x with a feature of another sample)``, averaged over other samples (Fisher 2019, eq. 3).

    The other samples are those of the batch, so that, other than with every other method, a sample's result depends on
    its batch mates; or those of a ``background``. With as many ``permutations`` as there are other samples, all are
    used and the mean over them is exact; with fewer, others are drawn without putting back. A background is a draw
    from your data. ``details["standard error"]`` tells the error.

    Args:
        features: what is exchanged together; see ``pellucid.methods.Features``.
        permutations: how many other samples lend their features to each.
        background: who lends: None: the batch mates; samples (size, ...) of the input, of several inputs a dict of them
            by name, of token ids other ids; or baselines (see ``pellucid.methods.Baseline``), one or a list of several.
        tolerance: double the permutations until every score's standard error is at most this share of the range of the
            values that the output took, or until all others have lent.
        most_permutations: do not go beyond.

    Raises:
        InputError: a setting is out of range, or there is one sample only and no background.
    """

    features: Any = None
    permutations: int = 10
    background: Any = None
    tolerance: float | None = None
    most_permutations: int = 1000

    name: ClassVar[str] = "feature-permutation"
    cost: ClassVar[str] = "permutations x a forward per feature"
    needs: ClassVar[str] = "a batch of samples that are alike, or a background"
    advice: ClassVar[str] = "Which columns matter on data, with values that do occur instead of a baseline."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.permutations, int) or self.permutations < 1:
            raise InputError(f"Expected permutations as a whole number of 1 or more, got {self.permutations!r}.")
        check_tolerance(self.tolerance, self.permutations, self.most_permutations, what="permutations")

    def unfit(self, call: Call) -> str | None:
        """A lone sample has nobody to exchange with."""
        return self._alone(call) or super().unfit(call)

    def _alone(self, call: Call) -> str | None:
        if call.batch > 1 or self.background is not None:
            return None
        return (
            "feature-permutation takes features from other samples of the batch, and there is one sample only. Give "
            "several, or background= samples, or use method='feature-ablation' with a baseline."
        )

    def forwards(self, count: int) -> int | None:
        """Of one sample."""
        return count * self.permutations if self.tolerance is None else None

    def features_of(self, call: Call, points: Mapping[Point, Tensor]) -> Features:
        """See the base class."""
        return features_at(call, points, self.features, caller=f"the method {self.name!r}")

    def games_of(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], features: Features
    ) -> Iterator[Game]:
        """One, whose baselines are those who lend.

        Raises:
            InputError: there is one sample only.
        """
        alone = self._alone(call)
        if alone is not None:
            raise InputError(alone)
        most = self.permutations if self.tolerance is None else self.most_permutations
        yield whole_game(Replacing(call, scalar, points, _Lenders(call, points, self.background, most)), features)

    def play(self, game: Game, board: Board) -> None:
        """One who lends after the other."""
        lenders, others = game.replacing.baselines, board.call.batch - 1 if self.background is None else None
        found: list[Tensor] = []
        wanted = min(self.permutations, len(lenders))
        while True:
            for values in (lenders[number] for number in range(len(found), wanted)):
                found.append([*ablated(game.against([values]))][-1])
                board.offer(game, partial(_mean, tuple(found), others))
            estimate = _mean(found, others)
            board.put(game, estimate)
            if self.tolerance is None or len(found) == others:
                return
            late = late_samples(estimate, _range(found), self.tolerance)
            if not len(late):
                return
            if wanted == len(lenders):
                board.missed(len(late), self.tolerance, wanted, what="permutations")
                return
            game, found = game.narrow(late), [losses[late] for losses in found]
            board.call.progress.expect_more(game.count * len(late) * min(wanted, len(lenders) - wanted))
            wanted = min(2 * wanted, len(lenders))


class _Lenders(Sequence[Values]):
    """Others for every sample, in random order, made when their turn comes.

    Args:
        call: what is explained.
        points: with their values.
        background: who lends; None: the batch mates.
        most: no more than these.
    """

    def __init__(self, call: Call, points: Mapping[Point, Tensor], background: Any, most: int) -> None:
        self._points = points
        self._rows = torch.arange(call.batch, device=next(iter(points.values())).device)
        self._background = None if background is None else background_at(call, points, background)
        if self._background is None:
            self._ring = torch.randperm(call.batch, generator=call.generator())
            self._order = torch.randperm(call.batch - 1, generator=call.generator(1))[:most] + 1
        else:
            self._order = torch.randperm(self._background.size, generator=call.generator())[:most]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> Values:  # type: ignore[override]
        place = self._order[number]
        if self._background is not None:
            return self._background.at(place.to(self._rows.device).expand(len(self._rows)), self._rows)
        lender = self._ring[(self._ring.argsort() + place) % len(self._ring)]
        return {point: value[lender.to(value.device)] for point, value in self._points.items()}


def _mean(found: Sequence[Tensor], others: int | None) -> Estimate:
    """Over those who lent, drawn without putting back from ``others`` samples; None: from more data than is known."""
    scores = torch.stack(tuple(found))
    count = len(scores)
    if count == others or count < 2:
        return Estimate(scores.mean(0), settings={"lenders": count})
    left = 1.0 if others is None else (others - count) / others
    errors = scores.std(0) / count**0.5 * left**0.5
    return Estimate(scores.mean(0), errors, settings={"lenders": count})


def _range(losses: Sequence[Tensor]) -> Tensor:
    """(M,) of the values that the output took, from what it lost."""
    every = torch.stack([losses.amax(1) for losses in losses]), torch.stack([losses.amin(1) for losses in losses])
    return every[0].amax(0).clamp(min=0) - every[1].amin(0).clamp(max=0)
