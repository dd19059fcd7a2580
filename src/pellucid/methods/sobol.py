"""Sobol indices: the share of the output's variance that a feature brings (Fel 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate
from pellucid.methods.study import SamplingMethod, Study

__all__ = ["Sobol"]

_CITATION = """@inproceedings{fel2021,
  author = {Fel, Thomas and Cad{\\`e}ne, R{\\'e}mi and Chalvidal, Mathieu and Cord, Matthieu and Vigouroux, David
    and Serre, Thomas},
  title = {Look at the Variance! Efficient Black-Box Explanations with {Sobol}-Based Sensitivity Analysis},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2021}
}

@article{jansen1999,
  author = {Jansen, Michiel J. W.},
  title = {Analysis of Variance Designs for Model Output},
  journal = {Computer Physics Communications}, volume = {117}, pages = {35--43}, year = {1999}
}"""
_MOST_DIMENSIONS = 21201  # of torch's Sobol sequence


@dataclass(frozen=True)
class Sobol(SamplingMethod):
    """Sobol indices of masks that let each feature through by a share that is uniform in [0, 1] (Fel 2021).

    The total index of a feature is the share of the output's variance that vanishes when the feature alone is held,
    all its interactions included: ``mean (f(A) - f(C_i))^2 / (2 var f)``, where ``C_i`` is the mask A with column i
    from another mask B (Jansen 1999). The first-order index, ``1 - mean (f(B) - f(C_i))^2 / (2 var f)``, leaves
    interactions out. Masks come from a scrambled Sobol sequence; the standard errors are those of independent masks
    and so on the safe side. Both indices are in ``details["total order"]`` and ``details["first order"]``.

    Args:
        features: what is masked together; see ``pellucid.methods.Features``.
        baseline: what shines through, see ``pellucid.methods.Baseline``; a list averages over several.
        samples: evaluations of every sample at first, cut to whole designs of ``features + 2``, four at least.
        tolerance: double the samples until every index's standard error is at most this.
        most_samples: do not go beyond.
        order: which index is the relevance, "total" or "first".

    Raises:
        InputError: a setting is out of range.
    """

    samples: int = 4000
    most_samples: int = 64000
    order: Literal["total", "first"] = "total"

    name: ClassVar[str] = "sobol"
    cost: ClassVar[str] = "samples forwards; 4 x (features + 2) at least"
    advice: ClassVar[str] = "Where the output reacts to anything at all, interactions included; it has no sign."
    citation: ClassVar[str] = _CITATION
    unit: ClassVar[str] = "share of the variance"
    patches: ClassVar[int] = 121

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.order not in ("total", "first"):
            raise InputError(f"Expected order as 'total' or 'first' for sobol, got {self.order!r}.")

    def evaluations(self, count: int) -> int:
        """Whole designs."""
        return max(4, self.samples // (count + 2)) * (count + 2)

    def play(self, game: Game, board: Board) -> None:
        """See the class."""
        self.run(_Study(game, self.order), board)


class _Study(Study):
    """Designs: a mask A, a mask B, and A with each column from B.

    Args:
        game: whose.
        order: which index is the score.
    """

    def __init__(self, game: Game, order: str) -> None:
        super().__init__(game)
        self._order = order

    @property
    def ready(self) -> bool:
        """Whether there is a variance."""
        return self.done >= 2 * (self.game.count + 2)

    @property
    def scale(self) -> Tensor:
        """Indices are shares already."""
        return torch.ones_like(self.game.full)

    def extend(self, generator: torch.Generator, evaluations: int) -> Iterator[None]:
        """See the base class."""
        count, size = self.game.count, self.game.count + 2
        designs = max(1, evaluations // size)
        table = _uniform(generator, designs, 2 * count).to(self.game.full.device)

        def made(numbers: Tensor) -> Tensor:
            own = table[numbers // size]
            place = (numbers % size)[:, None] - 2  # -2: A, -1: B, from 0 on: A with that column of B
            other = (place == -1) | (place == torch.arange(count, device=own.device))
            return torch.where(other, own[:, count:], own[:, :count])

        yield from self.play(self.game.play_made(designs * size, made))

    def estimate(self) -> Estimate:
        """The indices over complete designs."""
        size = self.game.count + 2
        designs = self.done // size
        values = self.values[:, : designs * size].reshape(-1, designs, size)
        a, b, mixed = values[..., :1], values[..., 1:2], values[..., 2:]
        centre = values[..., :2].mean((1, 2), keepdim=True)
        spread = ((a - centre) ** 2 + (b - centre) ** 2) / 2
        variance = spread.mean(1, keepdim=True)
        known = variance > 0
        variance = torch.where(known, variance, 1.0)
        found = {}
        for name, other in (("total", a), ("first", b)):
            halves = (other - mixed) ** 2 / 2
            ratio = halves.mean(1, keepdim=True) / variance
            error = ((halves - ratio * spread) / variance).std(1) / designs**0.5
            index = ratio if name == "total" else torch.where(known, 1 - ratio, 0.0)
            found[name] = index[:, 0], error
        scores, errors = found[self._order]
        orders = {f"{name} order": index for name, (index, _) in found.items()}
        return Estimate(scores, errors, by_feature=orders, settings={"designs": designs})


def _uniform(generator: torch.Generator, count: int, dimensions: int) -> Tensor:
    """(count, dimensions) numbers that fill the unit cube evenly."""
    if dimensions > _MOST_DIMENSIONS:
        return torch.rand(count, dimensions, generator=generator)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    return engine.draw(count)
