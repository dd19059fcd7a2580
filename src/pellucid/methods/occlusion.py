"""Occlusion: what the output loses when a window hides a part (Zeiler 2014, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point
from pellucid.methods.baselines import baselines_at
from pellucid.methods.citations import ZEILER
from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate, ScoreMethod
from pellucid.methods.replacing import Replacing
from pellucid.methods.windows import Windows, windows_at

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Occlusion"]


@dataclass(frozen=True)
class Occlusion(ScoreMethod):
    """``f(x) - f(x with a window hidden)``, for windows that slide over the positions (Zeiler 2014, section 4.2).

    A window's score is spread equally over its values, and where windows overlap the mean of theirs is taken. The
    scores themselves are in ``details["feature scores"]`` (N, windows), of several inputs one after the other.

    Args:
        window: size along each axis of positions (of tokens and columns: along them): a number for all axes, one for
            each, or one for each dimension but the first; a dict gives it by input. None: an eighth of the positions,
            one token, one column.
        stride: in the same forms, how far a window is from the next; None: half a window.
        baseline: what stands in a window, see ``pellucid.methods.Baseline``; a list averages over several.
    """

    window: Any = None
    stride: Any = None
    baseline: Any = "zero"

    name: ClassVar[str] = "occlusion"
    cost: ClassVar[str] = "a forward per window"
    advice: ClassVar[str] = "Simple and hard to misread: what happens when this part is hidden."
    citation: ClassVar[str] = ZEILER

    def features_of(self, call: Call, points: Mapping[Point, Tensor]) -> Windows:
        """The windows."""
        return windows_at(call, points, self.window, self.stride)

    def games_of(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], features: Windows) -> Iterator[Game]:
        """One of all samples."""
        replacing = Replacing(call, scalar, points, baselines_at(call, points, self.baseline))
        own = torch.arange(features.count, device=features.sizes.device).expand(features.sizes.shape)
        yield Game(replacing, features.count, {}, own)

    def forwards(self, count: int) -> int:
        """One a window."""
        return count * (len(self.baseline) if isinstance(self.baseline, (list, tuple)) else 1)

    def play(self, game: Game, board: Board) -> None:
        """See the class."""
        windows, replacing = board.features, game.replacing
        assert isinstance(windows, Windows)
        scores = torch.zeros_like(windows.sizes)
        for numbers in replacing.blocks(windows.count):
            kept = partial(windows.kept, points=replacing.points, among=numbers)
            values = replacing.values(len(numbers), kept)
            scores[:, numbers] = game.full[:, None] - values
            board.offer(game, lambda: Estimate(scores))
        board.put(game, Estimate(scores))
