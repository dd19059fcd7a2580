"""Shapley values by sampling orders of the features (Strumbelj 2014, Mitchell 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.methods.game import Game
from pellucid.methods.orders import OrderMethod, OrderStudy
from pellucid.methods.perturbation import Board
from pellucid.methods.shapley import enumerate_all, fits

__all__ = ["PermutationShapley"]

_CITATION = """@article{strumbelj2014,
  author = {Štrumbelj, Erik and Kononenko, Igor},
  title = {Explaining Prediction Models and Individual Predictions with Feature Contributions},
  journal = {Knowledge and Information Systems}, volume = {41}, pages = {647--665}, year = {2014}
}

@article{mitchell2022,
  author = {Mitchell, Rory and Cooper, Joshua and Frank, Eibe and Holmes, Geoffrey},
  title = {Sampling Permutations for {Shapley} Value Estimation},
  journal = {Journal of Machine Learning Research}, volume = {23}, number = {43}, year = {2022}
}"""


@dataclass(frozen=True)
class PermutationShapley(OrderMethod):
    """Shapley values from random orders, each also played backwards: the mean gain when a feature comes.

    Unbiased (Strumbelj 2014, algorithm 1); the reverse of an order is its antithetic partner (Mitchell 2022, section
    3.3), which makes the scores exact for models with interactions of two features only. Every order's gains sum to
    ``f(x) - f(baseline)``, which the ledger shows. Exact where all coalitions fit in ``samples``.

    The libraries shap and shapiq were judged for this and for KernelSHAP: both draw coalitions one by one in Python,
    for one sample at a time, and give no standard errors, so nothing of them is used.

    Args:
        features: what is taken away together; see ``pellucid.methods.Features``.
        baseline: what stands there instead, see ``pellucid.methods.Baseline``; a list averages over several.
        samples: evaluations of every sample at first, cut to whole pairs of orders, two at least.
        tolerance: double the samples until every score's standard error is at most this share of the range of the
            values that the output took.
        most_samples: do not go beyond.
    """

    name: ClassVar[str] = "permutation-shapley"
    cost: ClassVar[str] = "samples forwards; 4 x features at least"
    advice: ClassVar[str] = "Fair shares of many features, with honest error bars; interactions are split evenly."
    citation: ClassVar[str] = _CITATION

    def play(self, game: Game, board: Board) -> None:
        """Sample orders, or enumerate all coalitions where that is cheaper."""
        if fits(game.count, self.samples):
            board.put(game, enumerate_all(game, board))
        else:
            self.run(_Study(game), board)


class _Study(OrderStudy):
    def draw(self, generator: torch.Generator, count: int) -> Tensor:
        return torch.rand(count, self.game.count, generator=generator, dtype=torch.float64).argsort(1)
