"""Scores from random orders in which players come, each followed by its reverse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.methods.game import Game
from pellucid.methods.perturbation import Estimate
from pellucid.methods.shapley import fits
from pellucid.methods.study import SamplingMethod, Study

__all__ = ["OrderMethod", "OrderStudy"]


class OrderStudy(Study):
    """A player's score is its mean gain over orders; an order and its reverse (antithetic) make one independent draw.

    Args:
        game: whose.
    """

    def __init__(self, game: Game) -> None:
        super().__init__(game)
        self._orders: list[Tensor] = []

    @abstractmethod
    def draw(self, generator: torch.Generator, count: int) -> Tensor:
        """(count, F) orders: the players as they come."""

    @property
    def per_pair(self) -> int:
        """Evaluations that a pair takes: the coalitions of neither none nor all, in both directions."""
        return 2 * (self.game.count - 1)

    @property
    def ready(self) -> bool:
        """Whether a pair is complete."""
        return self.done >= self.per_pair

    def extend(self, generator: torch.Generator, evaluations: int) -> Iterator[None]:
        """See the base class; the error needs two pairs, so at least two are played at first."""
        if self.game.count == 1:
            self.exact = True
            return
        pairs = max(1 if self._orders else 2, evaluations // self.per_pair)
        orders = self.draw(generator, pairs)
        self._orders.append(orders)
        ranks = orders.argsort(1).to(self.game.own.device)
        length = self.game.count - 1

        def made(numbers: Tensor) -> Tensor:
            pair, place = numbers // self.per_pair, numbers % self.per_pair
            early = ranks[pair] <= (place % length)[:, None]
            late = ranks[pair] >= length - (place % length)[:, None]
            return torch.where((place < length)[:, None], early, late)

        yield from self.play(self.game.play_made(pairs * self.per_pair, made))

    def estimate(self) -> Estimate:
        """The means over complete pairs; ``sd / sqrt(pairs)`` is their standard error."""
        game = self.game
        if game.count == 1:
            return Estimate((game.full - game.empty)[:, None])
        pairs = self.done // self.per_pair
        values = self.values[:, : pairs * self.per_pair].reshape(game.width, pairs, 2, game.count - 1)
        ends = (end[:, None, None, None].expand(-1, pairs, 2, 1) for end in (game.empty, game.full))
        first, last = ends
        gains = torch.cat([first, values, last], 3).diff(dim=3)
        orders = torch.cat(self._orders)[:pairs].to(gains.device)
        order = torch.stack([orders, orders.flip(1)], 1).expand(game.width, -1, -1, -1)
        scores = torch.zeros_like(gains).scatter_(3, order, gains).mean(2)
        errors = scores.std(1) / pairs**0.5 if pairs > 1 else None
        return Estimate(scores.mean(1), errors, settings={"orders": 2 * pairs})

    @property
    def scale(self) -> Tensor:
        """See the base class."""
        if self.game.count == 1:
            return (self.game.full - self.game.empty).abs()
        return super().scale


@dataclass(frozen=True)
class OrderMethod(SamplingMethod):
    """A method that averages gains over orders."""

    conserves: ClassVar[bool] = True

    def evaluations(self, count: int) -> int:
        """The samples in whole pairs of orders, two at least; all coalitions where those are fewer."""
        if fits(count, self.samples):
            return int(2**count) - 2
        return max(2, self.samples // (2 * (count - 1))) * 2 * (count - 1)
