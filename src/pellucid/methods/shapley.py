"""Shapley values by enumeration of all coalitions (Shapley 1953)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate, FeatureMethod

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["ExactShapley", "additive_fit", "enumerate_all", "fits", "kernel_weights", "play_all"]

SHAPLEY = """@incollection{shapley1953,
  author = {Shapley, Lloyd S.},
  title = {A Value for n-Person Games},
  booktitle = {Contributions to the Theory of Games}, volume = {2}, pages = {307--317}, year = {1953}
}"""


def fits(count: int, samples: int) -> bool:
    """Whether all coalitions of ``count`` players can be played in ``samples`` evaluations."""
    return count <= 30 and 2**count - 2 <= samples


def enumerate_all(game: Game, board: Board) -> Estimate:
    """Shapley values from every coalition.

    ``phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))``
    """
    bits = torch.arange(game.count, device=game.own.device)

    def made(numbers: Tensor) -> Tensor:
        return ((numbers[:, None] + 1) >> bits) % 2 == 1  # from 1 on: the empty coalition is known

    played = play_all(game, board, 2**game.count - 2, made)
    values = torch.cat([game.empty[:, None], played, game.full[:, None]], 1)
    return Estimate(values @ _weights(game.count).to(values.device))


def play_all(game: Game, board: Board, count: int, made: Callable[[Tensor], Tensor]) -> Tensor:
    """(M, count) float64: the values of coalitions that are all to be played, and are neither empty nor full.

    They are played in a mixed order, so that Ctrl-C on the way gives what an additive function makes of those played.
    The order is always the same, as nothing of the result depends on it.

    Args:
        game: whose.
        board: is offered the estimate so far.
        count: how many.
        made: gives coalitions (n, F) from their numbers (n,).
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(game.own.device)
    played = torch.empty(game.width, count, dtype=torch.float64, device=game.own.device)
    done = 0

    def so_far() -> Estimate:
        present = made(order[:done]).to(played)
        solver, share = additive_fit(present, kernel_weights(present.sum(1), game.count))
        gains = played[:, order[:done]] - game.empty[:, None]
        scores = gains @ solver.T + torch.outer(game.full - game.empty, share)
        return Estimate(scores, notes=(f"Of {count} coalitions {done} were played: an additive function fits them.",))

    for values in game.play_made(count, lambda numbers: made(order[numbers])):
        played[:, order[done : done + values.shape[1]]] = values
        done += values.shape[1]
        if done >= game.count:
            board.offer(game, so_far)
    return played


def kernel_weights(sizes: Tensor, count: int) -> Tensor:
    """(S,) what coalitions of ``sizes`` (S,) weigh: ``(n - 1) / (C(n, k) k (n - k))`` (Lundberg 2017, theorem 2)."""
    each = [(count - 1) / (math.comb(count, k) * k * (count - k)) for k in range(1, count)]
    return torch.tensor([0.0, *each, 0.0], dtype=torch.float64, device=sizes.device)[sizes.long()]


def additive_fit(present: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted least-squares fit of an additive function whose scores sum to the gain of the full coalition.

    With ``A = Z' W Z`` and u all ones: ``phi = A^-1 (Z' W y - u (u' A^-1 Z' W y - gain) / (u' A^-1 u))``.

    Args:
        present: (S, F) coalitions Z.
        weights: (S,), the diagonal of W.

    Returns:
        (F, S) and (F,): what the scores take of the coalitions' gains y, and of the full gain.
    """
    inverse = torch.linalg.pinv((present * weights[:, None]).T @ present, hermitian=True)
    ones = inverse.sum(1)
    projected = inverse - torch.outer(ones, ones) / ones.sum()
    return projected @ (present * weights[:, None]).T, ones / ones.sum()


def _weights(count: int) -> Tensor:
    """(2^F, F), float64: what the value of every coalition counts for every player."""
    numbers = torch.arange(2**count)
    inside = (numbers[:, None] >> torch.arange(count)) % 2 == 1
    size = inside.sum(1)
    each = torch.tensor([1 / (count * math.comb(count - 1, k)) for k in range(count)], dtype=torch.float64)
    joins = each[(size - 1).clamp(min=0)]  # the coalition was one smaller before the player came
    stays = each[size.clamp(max=count - 1)]
    return torch.where(inside, joins[:, None], -stays[:, None])


@dataclass(frozen=True)
class ExactShapley(FeatureMethod):
    """Shapley values by enumeration: a feature's mean gain over all orders in which features can come (Shapley 1953).

    The scores sum to ``f(x) - f(baseline)``, which the ledger shows.

    Args:
        features: what is taken away together; see ``pellucid.methods.Features``.
        baseline: what stands there instead, see ``pellucid.methods.Baseline``; a list averages over several.
        most_samples: do not begin where more coalitions than these would have to be played.
    """

    most_samples: int = 2**16

    name: ClassVar[str] = "exact-shapley"
    cost: ClassVar[str] = "2^features forwards"
    needs: ClassVar[str] = "few features: up to about 16"
    advice: ClassVar[str] = "Fair shares without sampling error, where all subsets of the features can be tried."
    citation: ClassVar[str] = SHAPLEY
    conserves: ClassVar[bool] = True

    def forwards(self, count: int) -> int | None:
        """All coalitions but the full one."""
        return (2**count - 1) * self.times if count <= 60 else None

    def unfit(self, call: Call) -> str | None:
        """Too many features."""
        why = super().unfit(call)
        if why is not None:
            return why
        places = [call.function.inputs, *(call.function.read([call.function.layer(name)]) for name in call.layers)]
        count = max(self.features_of(call, points).count for points in places)
        return None if fits(count, self.most_samples) else self._too_many(count)

    def play(self, game: Game, board: Board) -> None:
        """See the class.

        Raises:
            InputError: there are too many features.
        """
        if not fits(game.count, self.most_samples):
            raise InputError(self._too_many(game.count))
        board.put(game, enumerate_all(game, board))

    def _too_many(self, count: int) -> str:
        return (
            f"{count} features have 2^{count} coalitions, more than most_samples={self.most_samples}. Give fewer "
            "features=, or use method='permutation-shapley' or 'kernel-shap', which sample."
        )
