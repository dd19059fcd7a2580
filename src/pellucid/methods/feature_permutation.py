"""Feature permutation: what the output loses when a feature comes from another sample (Breiman 2001, Fisher 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point
from pellucid.errors import InputError
from pellucid.methods.background import background_at
from pellucid.methods.feature_ablation import ablated
from pellucid.methods.features import Features, features_at
from pellucid.methods.game import Game, whole_game
from pellucid.methods.perturbation import Board, Estimate, ScoreMethod
from pellucid.methods.replacing import Replacing

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

    Raises:
        InputError: a setting is out of range, or there is one sample only and no background.
    """

    features: Any = None
    permutations: int = 10
    background: Any = None

    name: ClassVar[str] = "feature-permutation"
    cost: ClassVar[str] = "permutations x a forward per feature"
    needs: ClassVar[str] = "a batch of samples that are alike, or a background"
    advice: ClassVar[str] = "Which columns matter on data, with values that do occur instead of a baseline."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.permutations, int) or self.permutations < 1:
            raise InputError(f"Expected permutations as a whole number of 1 or more, got {self.permutations!r}.")

    def unfit(self, call: Call) -> str | None:
        """A lone sample has nobody to exchange with."""
        if call.batch > 1 or self.background is not None:
            return None
        return (
            "feature-permutation takes features from other samples of the batch, and there is one sample only. Give "
            "several, or background= samples, or use method='feature-ablation' with a baseline."
        )

    def forwards(self, count: int) -> int:
        """Of one sample."""
        return count * self.permutations

    def features_of(self, call: Call, points: Mapping[Point, Tensor]) -> Features:
        """See the base class."""
        return features_at(call, points, self.features, caller=f"the method {self.name!r}")

    def games_of(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], features: Features
    ) -> Iterator[Game]:
        """One, whose baselines are the lenders.

        Raises:
            InputError: there is one sample only.
        """
        unfit = self.unfit(call)
        if unfit is not None:
            raise InputError(unfit)
        values = self._of_mates(call, points) if self.background is None else self._of_background(call, points)
        yield whole_game(Replacing(call, scalar, points, values), features)

    def _of_mates(self, call: Call, points: Mapping[Point, Tensor]) -> list[dict[Point, Tensor]]:
        order = torch.randperm(call.batch, generator=call.generator())
        shifts = torch.randperm(call.batch - 1, generator=call.generator(1))[: self.permutations] + 1
        place = order.argsort()
        lenders = [order[(place + shift) % call.batch] for shift in shifts]
        return [{point: value[lender.to(value.device)] for point, value in points.items()} for lender in lenders]

    def _of_background(self, call: Call, points: Mapping[Point, Tensor]) -> list[dict[Point, Tensor]]:
        background = background_at(call, points, self.background)
        device = next(iter(points.values())).device
        rows = torch.arange(call.batch, device=device)
        lenders = torch.randperm(background.size, generator=call.generator())[: self.permutations].to(device)
        return [background.at(lender.expand(call.batch), rows) for lender in lenders]

    def play(self, game: Game, board: Board) -> None:
        """One lender after the other."""
        whole = game.replacing
        others = game.width - 1 if self.background is None else None
        found: list[Tensor] = []
        for values in whole.baselines:
            replacing = Replacing(whole.call, whole.scalar, whole.points, [values])
            found.append(list(ablated(Game(replacing, game.count, game.maps, game.own)))[-1])
            board.offer(game, lambda: _mean(found, others))
        board.put(game, _mean(found, others))


def _mean(found: list[Tensor], others: int | None) -> Estimate:
    """Over lenders drawn without putting back from ``others`` samples; None: from more data than is known."""
    scores = torch.stack(found)
    count = len(scores)
    if count == others or count < 2:
        return Estimate(scores.mean(0), settings={"lenders": count})
    left = 1.0 if others is None else (others - count) / others
    errors = scores.std(0) / count**0.5 * left**0.5
    return Estimate(scores.mean(0), errors, settings={"lenders": count})
