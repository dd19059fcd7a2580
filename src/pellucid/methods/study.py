"""Sampling of coalitions, round by round, until the scores are as sure as wished."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.methods.completeness import check_tolerance
from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate, FeatureMethod

__all__ = ["SamplingMethod", "Study", "late_samples"]


class Study(ABC):
    """Evaluations of a game, and what they say of its players.

    Args:
        game: whose; :meth:`narrow` goes on with fewer of its samples.
    """

    exact = False
    """Whether more evaluations would change nothing."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.done = 0
        """Evaluations of every sample so far."""
        self.played: list[Tensor] = []
        """Their values, (M, n) each."""

    @abstractmethod
    def extend(self, generator: torch.Generator, evaluations: int) -> Iterator[None]:
        """Play about as many more; comes by after every pass of the model."""

    @abstractmethod
    def estimate(self) -> Estimate:
        """From the evaluations so far."""

    @property
    def ready(self) -> bool:
        """Whether there are enough for an estimate."""
        return self.done > 0

    def play(self, values: Iterator[Tensor]) -> Iterator[None]:
        """Take in what a game gives."""
        for part in values:
            self.played.append(part)
            self.done += part.shape[1]
            yield

    @property
    def values(self) -> Tensor:
        """(M, done), float64: all values so far."""
        if len(self.played) > 1:
            self.played = [torch.cat(self.played, 1)]
        return self.played[0]

    @property
    def scale(self) -> Tensor:
        """(M,), what a tolerance is relative to: the range of the values that the scalar took."""
        low, high = self.values.aminmax(dim=1)
        full = self.game.full
        return torch.maximum(high, full) - torch.minimum(low, full)

    def narrow(self, which: Tensor) -> None:
        """Go on with some of the samples, by their places among these."""
        self.game = self.game.narrow(which)
        self.played = [self.values[which]]


@dataclass(frozen=True)
class SamplingMethod(FeatureMethod):
    """A method that samples coalitions of features; all samples share the draws.

    ``details["standard error"]`` holds the Monte-Carlo standard errors in the shape of the relevance,
    ``details["score errors"]`` those of the feature scores.
    """

    samples: int = 2000
    tolerance: float | None = None
    most_samples: int = 32000

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: one is out of range.
        """
        if not isinstance(self.samples, int) or self.samples < 2:
            raise InputError(f"Expected samples as a whole number of 2 or more for {self.name}, got {self.samples!r}.")
        check_tolerance(self.tolerance, self.samples, self.most_samples, what="samples")

    def forwards(self, count: int) -> int | None:
        """The samples, and one with no feature there where the scores sum to the distance from that."""
        empty = 1 if self.conserves else 0
        return (self.evaluations(count) + empty) * self.times if self.tolerance is None else None

    def evaluations(self, count: int) -> int:  # noqa: ARG002
        """How many coalitions of ``count`` features are played at first."""
        return self.samples

    def run(self, study: Study, board: Board) -> None:
        """Let a study grow until its errors are within the tolerance, and put what it found on the board."""
        more, rounds = self.evaluations(study.game.count), 0
        while True:
            for _ in study.extend(board.call.generator(rounds), more):
                if study.ready:
                    board.offer(study.game, study.estimate)
            estimate = study.estimate()
            board.put(study.game, estimate)
            if self.tolerance is None or study.exact:
                return
            late = late_samples(estimate, study.scale, self.tolerance)
            if not len(late):
                return
            if study.done * 2 > self.most_samples:
                board.missed(len(late), self.tolerance, study.done, what="samples")
                return
            study.narrow(late)
            more, rounds = study.done, rounds + 1
            board.call.progress.expect_more(more * self.times * len(late))


def late_samples(estimate: Estimate, scale: Tensor, tolerance: float) -> Tensor:
    """Places of the samples whose standard errors are above the tolerance, or are not known."""
    if estimate.errors is None:
        return torch.arange(len(scale), device=scale.device)
    sure = estimate.errors.amax(1) <= tolerance * scale
    return (~sure).nonzero()[:, 0]
