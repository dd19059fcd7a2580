"""Random masks over features: coarse grids stretched over positions, or every feature on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Free", "Kind", "RandomMasks", "Smooth"]

_CELLS = 49
"""In all, of a grid where no number is given."""


@dataclass(frozen=True)
class Free:
    """Features that are shown or not, each on its own.

    Args:
        count: how many.
    """

    count: int


@dataclass(frozen=True)
class Smooth:
    """Positions under a grid of cells that is stretched over them linearly, at a random shift within a cell.

    Args:
        sizes: of the axes of positions.
        cells: of the grid along each axis; None: about 49 in all.
    """

    sizes: tuple[int, ...]
    cells: int | None = None

    @property
    def count(self) -> int:
        """How many positions there are."""
        return math.prod(self.sizes)

    @property
    def grid(self) -> tuple[int, ...]:
        """Cells along each axis."""
        cells = self.cells or max(1, round(_CELLS ** (1 / len(self.sizes))))
        return tuple(min(cells, size) for size in self.sizes)

    @property
    def steps(self) -> tuple[int, ...]:
        """Positions of a cell along each axis."""
        return tuple(-(-size // cells) for size, cells in zip(self.sizes, self.grid, strict=True))


Kind = Free | Smooth


class RandomMasks:
    """Masks, drawn as bits now and made when their turn comes.

    Args:
        kinds: one after the other over all features.
        count: how many masks.
        shown: the probability that a feature or cell is.
        generator: of the random numbers.
    """

    def __init__(self, kinds: Sequence[Kind], count: int, shown: float, generator: torch.Generator) -> None:
        self._kinds = kinds
        self._bits: list[Tensor] = []
        self._shifts: list[list[Tensor]] = []
        for kind in kinds:
            width = kind.count if isinstance(kind, Free) else math.prod(kind.grid)
            parts = [
                torch.rand(len(part), width, generator=generator) < shown
                for part in torch.split(torch.arange(count), max(1, 2**20 // width))
            ]
            self._bits.append(torch.cat(parts))
            steps = () if isinstance(kind, Free) else kind.steps
            self._shifts.append([torch.randint(step, (count,), generator=generator) for step in steps])

    def made(self, numbers: Tensor, dtype: torch.dtype) -> Tensor:
        """(n, F) in 0..1: the masks with these numbers (n,), on their device."""
        parts = []
        for kind, bits, shifts in zip(self._kinds, self._bits, self._shifts, strict=True):
            chosen = bits[numbers.to(bits.device)].to(device=numbers.device, dtype=dtype)
            if isinstance(kind, Smooth):
                here = [shift[numbers.to(shift.device)].to(numbers.device) for shift in shifts]
                chosen = _stretched(chosen.reshape(-1, *kind.grid), kind, here).flatten(1)
            parts.append(chosen)
        return torch.cat(parts, 1)


def _stretched(masks: Tensor, kind: Smooth, shifts: Sequence[Tensor]) -> Tensor:
    """(n, *grid) to (n, *sizes): linear interpolation along one axis after the other, from each mask's shift on."""
    for axis, (size, step, shift) in enumerate(zip(kind.sizes, kind.steps, shifts, strict=True), start=1):
        cells = masks.shape[axis]
        length = (cells + 1) * step
        places = torch.arange(size, device=masks.device) + shift[:, None] + 0.5
        places = (places * (cells / length) - 0.5).clamp(0, cells - 1).to(masks.dtype)
        weights = (1 - (places[..., None] - torch.arange(cells, device=masks.device)).abs()).clamp(min=0)
        moved = masks.movedim(axis, 1)
        stretched = torch.bmm(weights, moved.reshape(*moved.shape[:2], -1))
        masks = stretched.reshape(len(moved), size, *moved.shape[2:]).movedim(1, axis)
    return masks
