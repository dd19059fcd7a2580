"""KernelSHAP: Shapley values by weighted regression (Lundberg 2017)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate
from pellucid.methods.shapley import additive_fit, enumerate_all, fits
from pellucid.methods.study import SamplingMethod, Study

__all__ = ["KernelSHAP"]

_CITATION = """@inproceedings{lundberg2017,
  author = {Lundberg, Scott M. and Lee, Su-In},
  title = {A Unified Approach to Interpreting Model Predictions},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2017}
}

@inproceedings{covert2021,
  author = {Covert, Ian and Lee, Su-In},
  title = {Improving {KernelSHAP}: Practical {Shapley} Value Estimation via Linear Regression},
  booktitle = {International Conference on Artificial Intelligence and Statistics}, year = {2021}
}"""


@dataclass(frozen=True)
class KernelSHAP(SamplingMethod):
    """Shapley values as the weighted least-squares fit of an additive model to coalitions (Lundberg 2017, theorem 2).

    Coalitions of size k weigh ``(n - 1) / (C(n, k) k (n - k))``. Sizes that fit in ``samples`` as a whole are
    enumerated, from the outside in; the rest is sampled in pairs of a coalition and its complement (Covert 2021). The
    constraint that the scores sum to ``f(x) - f(baseline)`` is held exactly. Exact on additive models, and where all
    coalitions fit in ``samples``. The standard errors are the regression's, robust to unequal residuals, for pairs as
    draws; enumerated coalitions add none.

    Args:
        features: what is taken away together; see ``pellucid.methods.Features``.
        baseline: what stands there instead, see ``pellucid.methods.Baseline``; a list averages over several.
        samples: evaluations of every sample at first.
        tolerance: double the samples until every score's standard error is at most this share of the range of the
            values that the output took.
        most_samples: do not go beyond.
    """

    name: ClassVar[str] = "kernel-shap"
    cost: ClassVar[str] = "samples forwards"
    advice: ClassVar[str] = "Fair shares of some dozens of features, from fewer evaluations than orders need."
    citation: ClassVar[str] = _CITATION
    conserves: ClassVar[bool] = True

    def evaluations(self, count: int) -> int:
        """The samples, or all coalitions where those are fewer."""
        return 2**count - 2 if fits(count, self.samples) else self.samples

    def play(self, game: Game, board: Board) -> None:
        """Sample, or enumerate where that is cheaper."""
        if fits(game.count, self.samples):
            board.put(game, enumerate_all(game, board))
        else:
            self.run(_Study(game, self.samples), board)


class _Study(Study):
    """The coalitions played, with their weights.

    Args:
        game: whose.
        samples: decides which sizes are enumerated.
    """

    def __init__(self, game: Game, samples: int) -> None:
        super().__init__(game)
        count = game.count
        self._left, budget = set(range(1, count)), samples
        self._enumerated = torch.zeros(0, count, dtype=torch.bool)
        self._pairs = torch.zeros(0, 2, count, dtype=torch.bool)
        for size in range(1, count // 2 + 1):
            sizes = {size, count - size}
            share = sum(map(self._weight, sizes)) / sum(map(self._weight, self._left))
            wanted = len(sizes) * math.comb(count, size)
            if wanted > budget * share + 1e-9:
                break
            budget -= wanted
            self._left -= sizes
            self._enumerated = torch.cat([self._enumerated, *(_all_of(count, each) for each in sorted(sizes))])

    def _weight(self, size: int) -> float:
        """Of all coalitions of a size together."""
        count = self.game.count
        return (count - 1) / (size * (count - size))

    def extend(self, generator: torch.Generator, evaluations: int) -> Iterator[None]:
        """The enumerated coalitions first, then pairs."""
        new = [] if self.done else [self._enumerated]
        pairs = self._draw(generator, max(1, (evaluations - (0 if self.done else len(self._enumerated))) // 2))
        self._pairs = torch.cat([self._pairs, pairs])
        present = torch.cat([*new, pairs.flatten(0, 1)])
        yield from self.play(self.game.play(present.to(self.game.own.device)))

    def _draw(self, generator: torch.Generator, pairs: int) -> Tensor:
        """(pairs, 2, F): coalitions of the sizes that are left, each with its complement."""
        count = self.game.count
        sizes = torch.tensor(sorted(self._left))
        weights = torch.tensor([self._weight(int(size)) for size in sizes], dtype=torch.float64)
        drawn = sizes[torch.multinomial(weights, pairs, replacement=True, generator=generator)]
        present = torch.empty(pairs, count, dtype=torch.bool)
        for part in torch.split(torch.arange(pairs), max(1, 2**18 // count)):
            ranks = torch.rand(len(part), count, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
            present[part] = ranks < drawn[part, None]
        return torch.stack([present, ~present], 1)

    @property
    def ready(self) -> bool:
        """Whether the regression has as many coalitions as players."""
        return self.done - len(self._enumerated) >= 2 and self.done >= self.game.count

    def estimate(self) -> Estimate:
        """The constrained regression on what was played, in closed form."""
        game, known = self.game, len(self._enumerated)
        drawn = (self.done - known) // 2 * 2
        present = torch.cat([self._enumerated, self._pairs.flatten(0, 1)[:drawn]]).to(self.values)
        weights = self._weights(drawn).to(present)
        solver, share = additive_fit(present, weights)
        gains = self.values[:, : known + drawn] - game.empty[:, None]
        scores = gains @ solver.T + torch.outer(game.full - game.empty, share)
        # A pair's columns of the solver are each other's negatives, so that a pair counts by its difference alone.
        first, columns = present[known::2], solver[:, known::2]
        residuals = (gains - scores @ present.T)[:, known:].reshape(len(gains), -1, 2).diff(dim=2)[..., 0]
        left = 1 - ((2 * first - 1) * columns.T).sum(1)  # the share of a residual that the fit did not take up (HC2)
        enough = bool((left > 1e-6).all())
        errors = (residuals**2 / left @ (columns**2).T).sqrt() if enough else None
        notes = []
        if known + drawn < game.count:
            notes = [
                f"{known + drawn} coalitions are fewer than the {game.count} features: the fit is not the only one."
            ]
        elif errors is None:
            notes = [
                f"{known + drawn} coalitions are too few to tell the errors of {game.count} scores: more samples= do."
            ]
        return Estimate(scores, errors, notes=tuple(notes))

    def _weights(self, drawn: int) -> Tensor:
        sizes = self._enumerated.sum(1).tolist()
        each = [self._weight(size) / math.comb(self.game.count, size) for size in sizes]
        left = sum(self._weight(size) for size in self._left)
        return torch.tensor([*each, *[left / max(drawn, 1)] * drawn], dtype=torch.float64)


def _all_of(count: int, size: int) -> Tensor:
    """Every coalition of a size."""
    places = torch.tensor(list(itertools.combinations(range(count), size)))
    return torch.zeros(len(places), count, dtype=torch.bool).scatter_(1, places, True)
