"""Owen values: Shapley values of features that come in groups of groups (Owen 1977, Winter 1989)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.methods.features import Features
from pellucid.methods.game import Game
from pellucid.methods.orders import OrderMethod, OrderStudy
from pellucid.methods.partition import Tree, paths, pruned, tree_of
from pellucid.methods.perturbation import Board, Estimate
from pellucid.methods.shapley import play_all

__all__ = ["OwenValues"]

_CITATION = """@incollection{owen1977,
  author = {Owen, Guillermo},
  title = {Values of Games with a Priori Unions},
  booktitle = {Mathematical Economics and Game Theory}, pages = {76--88}, publisher = {Springer}, year = {1977}
}

@article{winter1989,
  author = {Winter, Eyal},
  title = {A Value for Cooperative Games with Levels Structure of Cooperation},
  journal = {International Journal of Game Theory}, volume = {18}, pages = {227--240}, year = {1989}
}"""


@dataclass(frozen=True)
class OwenValues(OrderMethod):
    """Shapley values over the orders that keep every group of a partition tree together (Owen 1977, Winter 1989).

    What is close in the tree shares its interactions first, and far fewer coalitions are to be tried: about the
    features squared for a tree that halves. A flat tree gives the Shapley values. Exact where the coalitions of the
    tree fit in ``samples``, otherwise from random orders of that kind, each also played backwards. Scores sum to
    ``f(x) - f(baseline)``, which the ledger shows.

    Args:
        features: what is taken away together; see ``pellucid.methods.Features``.
        baseline: what stands there instead, see ``pellucid.methods.Baseline``; a list averages over several.
        samples: evaluations of every sample at first, cut to whole pairs of orders, two at least.
        tolerance: double the samples until every score's standard error is at most this share of the range of the
            values that the output took.
        most_samples: do not go beyond.
        tree: nested lists of the features' numbers or names, each once: ``[[0, 1], [2, [3, 4]]]``. None: the inputs,
            each halved along its longer side again and again.

    Raises:
        InputError: a setting is out of range, or the tree does not hold every feature once.
    """

    tree: Any = None

    name: ClassVar[str] = "owen-values"
    cost: ClassVar[str] = "samples forwards; 4 x features at least"
    needs: ClassVar[str] = "any model; best with a tree of what belongs together"
    advice: ClassVar[str] = "Fair shares where features come in groups: parts of an object, phrases, related columns."
    citation: ClassVar[str] = _CITATION

    def play(self, game: Game, board: Board) -> None:
        """The samples that share their features together, others one by one, as each has a tree of its own."""
        features = board.features
        assert isinstance(features, Features)
        shared = all(len(places) == 1 for places in game.maps.values()) and bool((game.own == game.own[:1]).all())
        for part in [game] if shared else [game.narrow(torch.tensor([k])) for k in range(game.width)]:
            sample = int(part.replacing.samples[0])
            tree = pruned(tree_of(self.tree, features, sample), part.own[0].tolist())
            exact = paths(tree, part.count, most=self.samples)
            if exact is None:
                self.run(_Study(part, tree), board)
                continue
            coalitions = exact.coalitions.to(part.own.device)
            played = play_all(part, board, len(coalitions), lambda numbers, made=coalitions: made[numbers])  # type: ignore[misc]
            values = torch.cat([part.empty[:, None], part.full[:, None], played], 1)
            board.put(part, Estimate(values @ exact.weights.to(values.device)))


class _Study(OrderStudy):
    """Orders that keep groups together.

    Args:
        game: whose.
        tree: of its players.
    """

    def __init__(self, game: Game, tree: Tree) -> None:
        super().__init__(game)
        self._tree = tree

    def draw(self, generator: torch.Generator, count: int) -> Tensor:
        return _draws(self._tree, generator, count)


def _draws(tree: Tree, generator: torch.Generator, count: int) -> Tensor:
    """(count, leaves) random orders of the leaves below a node, its children in any order, each child's together."""
    if isinstance(tree, int):
        return torch.full((count, 1), tree)
    below = [_draws(child, generator, count) for child in tree]
    first = torch.rand(count, len(tree), generator=generator, dtype=torch.float64)
    keys = torch.cat([first[:, k : k + 1].expand(-1, part.shape[1]) for k, part in enumerate(below)], 1)
    return torch.cat(below, 1).gather(1, keys.argsort(dim=1, stable=True))
