"""Feature ablation: what the output loses without a feature (Zeiler 2014, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.methods.citations import ZEILER
from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate, FeatureMethod

__all__ = ["FeatureAblation", "ablated"]


@dataclass(frozen=True)
class FeatureAblation(FeatureMethod):
    """``f(x) - f(x without the feature)``, one feature at a time (Zeiler 2014, section 4.2).

    Args:
        features: what is taken away together; see ``pellucid.methods.Features``.
        baseline: what stands there instead, see ``pellucid.methods.Baseline``; a list averages over several.
    """

    name: ClassVar[str] = "feature-ablation"
    cost: ClassVar[str] = "a forward per feature"
    advice: ClassVar[str] = "What each feature alone is needed for; blind where one feature can stand in for another."
    citation: ClassVar[str] = ZEILER

    def forwards(self, count: int) -> int:
        """One a feature."""
        return count * self.times

    def play(self, game: Game, board: Board) -> None:
        """See the class."""
        for scores in ablated(game):
            board.offer(game, lambda scores=scores: Estimate(scores))  # type: ignore[misc]
        board.put(game, Estimate(scores))


def ablated(game: Game) -> Iterator[Tensor]:
    """(M, F) what the scalar loses without each player; 0 for those not yet tried. Comes by after every pass."""
    scores = torch.zeros_like(game.own, dtype=torch.float64)
    players = torch.arange(game.count, device=scores.device)
    done = 0
    for values in game.play_made(game.count, lambda numbers: numbers[:, None] != players):
        scores[:, done : done + values.shape[1]] = game.full[:, None] - values
        done += values.shape[1]
        yield scores
