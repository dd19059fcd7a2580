"""HSIC: how strongly the output depends on whether a feature is there (Novello 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate
from pellucid.methods.study import SamplingMethod, Study

__all__ = ["HSIC"]

_CITATION = """@inproceedings{novello2022,
  author = {Novello, Paul and Fel, Thomas and Vigouroux, David},
  title = {Making Sense of Dependence: Efficient Black-Box Explanations Using Dependence Measure},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2022}
}

@article{daveiga2015,
  author = {Da Veiga, S{\\'e}bastien},
  title = {Global Sensitivity Analysis with Dependence Measures},
  journal = {Journal of Statistical Computation and Simulation}, volume = {85}, pages = {1283--1305}, year = {2015}
}"""
_ROWS = 1024  # of a kernel matrix at once
_PAIRED = 1000  # values whose distances give the width of the kernel


@dataclass(frozen=True)
class HSIC(SamplingMethod):
    """Dependence between a feature's being there and the output, as the norm of their cross-covariance.

    Every feature is there with probability 1/2. ``HSIC_i = tr(K_i H L H) / n^2`` (Novello 2022, eq. 5): ``K_i`` is 1
    for coalitions that agree about feature i and 0 for others, L a Gaussian kernel of the output whose width is the
    median distance, and H centring. It is divided by ``sqrt(HSIC(i, i) HSIC(f, f))`` (Da Veiga 2015), so that it lies
    in 0..1. The standard errors come from the first-order term of its expansion, in which the width is held.

    Args:
        features: what is taken away together; see ``pellucid.methods.Features``.
        baseline: what stands there instead, see ``pellucid.methods.Baseline``; a list averages over several.
        samples: evaluations of every sample at first.
        tolerance: double the samples until every score's standard error is at most this.
        most_samples: do not go beyond.
    """

    samples: int = 1500
    most_samples: int = 24000

    name: ClassVar[str] = "hsic"
    cost: ClassVar[str] = "samples forwards"
    advice: ClassVar[str] = "Which features matter at all, from few evaluations; it has no sign."
    citation: ClassVar[str] = _CITATION
    unit: ClassVar[str] = "dependence"
    patches: ClassVar[int] = 64

    def play(self, game: Game, board: Board) -> None:
        """See the class."""
        self.run(_Study(game), board)


class _Study(Study):
    def __init__(self, game: Game) -> None:
        super().__init__(game)
        self._drawn = torch.zeros(0, game.count, dtype=torch.bool)

    @property
    def ready(self) -> bool:
        """Whether anything can depend on anything."""
        return self.done > 1

    @property
    def scale(self) -> Tensor:
        """Scores lie in 0..1."""
        return torch.ones_like(self.game.full)

    def extend(self, generator: torch.Generator, evaluations: int) -> Iterator[None]:
        """See the base class."""
        shape = (evaluations, self.game.count)
        drawn = torch.randint(0, 2, shape, generator=generator, dtype=torch.uint8) == 1
        self._drawn = torch.cat([self._drawn, drawn])
        yield from self.play(self.game.play(drawn.to(self.game.own.device)))

    def estimate(self) -> Estimate:
        """With signs s = -1, 1 for absent and there, K = (1 + s s') / 2, so that ``tr(K H L H) = s' H L H s / 2``."""
        signs = self._drawn[: self.done].to(self.values) * 2 - 1
        signs = signs - signs.mean(0)
        found = [_dependence(signs, values) for values in self.values]
        return Estimate(torch.stack([one for one, _ in found]), torch.stack([error for _, error in found]))


def _dependence(signs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and errors (F,) of a sample, from centred signs (S, F) and its values (S,)."""
    count = len(values)
    width = torch.pdist(values[:_PAIRED, None]).median()
    if not bool(width > 0):
        width = values.std()
    if not bool(width > 0):
        return torch.zeros_like(signs[0]), torch.zeros_like(signs[0])
    across, squares, sums = [], values.new_zeros(()), []
    for part in torch.split(values, _ROWS):
        kernel = torch.exp(-(((part[:, None] - values) / width) ** 2) / 2)
        across.append(kernel @ signs)
        squares = squares + (kernel**2).sum()
        sums.append(kernel.sum(1))
    rows = torch.cat(sums)
    own = squares - 2 / count * (rows**2).sum() + rows.sum() ** 2 / count**2  # |H L H|^2
    along = torch.cat(across)
    each = signs * (along - along.mean(0)) / (2 * count)  # a coalition's part in the mean
    norm = ((signs**2).sum(0) / 2 * own.clamp(min=0).sqrt()) / count**2
    norm = torch.where(norm > 0, norm, torch.inf)
    return each.mean(0) / norm, 2 * each.std(0) / count**0.5 / norm
