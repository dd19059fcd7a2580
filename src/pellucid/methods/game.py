"""The explained scalar as a cooperative game: its value when only some features are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pellucid.engine.point import Point, Values
from pellucid.methods.features import Features
from pellucid.methods.replacing import Replacing

__all__ = ["Game", "games", "whole_game"]


class Game:
    """What the scalar is for coalitions of features, for samples that have equally many.

    A feature whose every value equals its baseline changes nothing: it is no player, and its score is 0 exactly.

    Args:
        replacing: runs the model on these M samples.
        count: F, number of players.
        maps: by point, (1 or M, ...) numbers of the players; ``count`` for what is never taken away.
        own: (M, F), which feature each player is.
    """

    def __init__(self, replacing: Replacing, count: int, maps: Mapping[Point, Tensor], own: Tensor) -> None:
        self.replacing = replacing
        self.count = count
        self.maps = maps
        self.own = own
        self.full = replacing.full
        """(M,), float64: the scalar with everything there."""
        self._empty: Tensor | None = None

    @property
    def width(self) -> int:
        """M, the number of samples."""
        return self.replacing.width

    @property
    def empty(self) -> Tensor:
        """(M,), float64: the scalar with no feature there."""
        if self._empty is None:
            none = torch.zeros(1, self.count, dtype=torch.bool, device=self.own.device)
            self._empty = torch.cat(list(self.play(none)), 1)[:, 0]
        return self._empty

    def play(self, present: Tensor) -> Iterator[Tensor]:
        """Values of coalitions, (M, n) float64 for as many at a time as are run at once.

        Args:
            present: (S, F) boolean, which features are there; or floating, how much of each.
        """
        yield from self.play_made(len(present), lambda numbers: present[numbers.to(present.device)])

    def play_made(self, steps: int, made: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """As :meth:`play` for coalitions that are made when their turn comes, from their numbers."""
        for numbers in self.replacing.blocks(steps):
            yield self.value(made(numbers))

    def value(self, present: Tensor) -> Tensor:
        """Values (M, n), float64, of coalitions (n, F) that are run at once."""
        present = present.to(self.own.device)
        table = torch.cat([present, torch.ones_like(present[:, :1])], 1)  # the last: what always stays

        def masks(chosen: Tensor) -> dict[Point, Tensor]:
            rows = table if len(chosen) == len(table) else table[chosen]
            return {point: _looked_up(rows, places) for point, places in self.maps.items()}

        return self.replacing.values(len(present), masks)

    def against(self, baselines: Sequence[Values]) -> Game:
        """The same game with other values where features are absent."""
        whole = self.replacing
        return Game(whole.against(baselines), self.count, self.maps, self.own)

    def narrow(self, which: Tensor) -> Game:
        """The same game of some of the samples, by their places among these."""
        whole = self.replacing
        part = Replacing(whole.call, whole.scalar, whole.points, whole.baselines, whole.samples[which])
        maps = {point: places if len(places) == 1 else places[which] for point, places in self.maps.items()}
        game = Game(part, self.count, maps, self.own[which])
        game._empty = None if self._empty is None else self._empty[which]
        return game


def games(replacing: Replacing, features: Features) -> Iterator[Game]:
    """One game for all samples that have equally many features."""
    varying = _varying(features, replacing.points, replacing.baselines)
    counts = varying.sum(1)
    if bool(varying.all()):
        yield whole_game(replacing, features)
        return
    players = torch.where(varying, varying.cumsum(1) - 1, counts[:, None])
    players = torch.cat([players, counts[:, None]], 1)  # where -1 looks
    order = torch.argsort(~varying, dim=1, stable=True)  # the features that vary first, in their order
    for count in torch.unique(counts).tolist():
        if count == 0:
            continue
        samples = (counts == count).nonzero()[:, 0]
        maps = {p: _renumbered(m, players, samples) for p, m in features.maps.items()}
        whole = len(samples) == replacing.width
        part = replacing if whole else _part(replacing, samples)
        yield Game(part, count, maps, order[samples, :count])


def whole_game(replacing: Replacing, features: Features) -> Game:
    """One game of all samples, in which every feature is a player."""
    own = torch.arange(features.count, device=features.sizes.device).expand(features.sizes.shape)
    maps = {point: torch.where(places < 0, features.count, places) for point, places in features.maps.items()}
    return Game(replacing, features.count, maps, own)


def _part(replacing: Replacing, samples: Tensor) -> Replacing:
    return Replacing(replacing.call, replacing.scalar, replacing.points, replacing.baselines, samples)


def _renumbered(places: Tensor, players: Tensor, samples: Tensor) -> Tensor:
    chosen = players[samples]
    places = places.expand(len(players), *places.shape[1:])[samples]
    found = chosen.gather(1, places.flatten(1) % chosen.shape[1]).reshape(places.shape)
    return found[:1] if bool((found == found[:1]).all()) else found


def _varying(features: Features, points: Values, baselines: Sequence[Values]) -> Tensor:
    """(N, F), which features have a value that differs from a baseline's."""
    batch, count = features.sizes.shape
    found = torch.zeros(batch, count + 1, dtype=torch.bool, device=features.sizes.device)
    for point, places in features.maps.items():
        differs = torch.zeros_like(points[point], dtype=torch.bool)
        for baseline in baselines:
            differs |= baseline[point] != points[point]
        for dim in range(1, differs.ndim):
            if places.shape[dim] == 1:
                differs = differs.any(dim, keepdim=True)
        numbers = places.expand(batch, *places.shape[1:]).flatten(1) % (count + 1)
        counted = torch.zeros(batch, count + 1, dtype=torch.int32, device=found.device)
        found |= counted.scatter_add_(1, numbers, differs.flatten(1).int()) > 0
    return found[:, :count]


def _looked_up(table: Tensor, places: Tensor) -> Tensor:
    """(n, F + 1) entries at (1 or M, ...) places: (n, 1 or M, ...)."""
    return table.index_select(1, places.reshape(-1)).reshape(len(table), *places.shape)
