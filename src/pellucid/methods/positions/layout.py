"""How a layer's output holds its positions: which dimensions, in which order, which input's, and which tokens are none.

Every output becomes (samples, channels, positions), where the positions are those of the inputs only: the class token
and registers are left out, grids that were flattened to tokens get their axes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

__all__ = ["Field", "InputShape", "Layout"]


@dataclass(frozen=True, slots=True)
class InputShape:
    """What is known of an explained input.

    Args:
        shape: with the batch; of ids their own.
        ids: whether it is token ids, each of which stands for a vector.
    """

    shape: tuple[int, ...]
    ids: bool


@dataclass(frozen=True, eq=False)
class Field:
    """Positions that form one grid: those of an image, or of a text.

    Args:
        grid: sizes of its axes.
        start: place of its first position among all of the layout.
        inputs: for every input that it shows, the dimension along which each axis runs; None for an axis along which
            the input has no positions.
    """

    grid: tuple[int, ...]
    start: int
    inputs: Mapping[str, tuple[int | None, ...]]

    @property
    def part(self) -> slice:
        """Its positions among all of the layout."""
        return slice(self.start, self.start + prod(self.grid))


@dataclass(frozen=True, eq=False)
class Layout:
    """Where positions, channels and samples are in a layer's output.

    Args:
        batch: dimension of the samples, features and positions: those of the others, once ``split`` is undone.
        split: None, or a dimension into which samples are folded with positions (frames) or features (heads), how many
            of these each sample has there, and whether the samples come first.
        kept: (P,) which of the flattened positions are those of an input, field by field; None: all, as they are.
        fields: grids that the positions form.
    """

    batch: int
    features: tuple[int, ...]
    positions: tuple[int, ...]
    split: tuple[int, int, bool] | None
    kept: Tensor | None
    fields: tuple[Field, ...]

    @property
    def count(self) -> int:
        """How many positions there are."""
        return sum(prod(field.grid) for field in self.fields)

    def unfold(self, value: Tensor) -> Tensor:
        """(samples, channels, positions) of a layer's output."""
        opened = self._opened(value)
        moved = opened.permute(self.batch, *self.features, *self.positions)
        count = prod(opened.shape[d] for d in self.features)
        flat = moved.reshape(opened.shape[self.batch], count, -1)
        return flat if self.kept is None else flat.index_select(2, self.kept.to(flat.device))

    def channels(self, shape: Sequence[int]) -> int:
        """How many channels a layer's output of this shape has."""
        opened = self._opened(torch.empty(tuple(shape), device="meta"))
        return prod(opened.shape[d] for d in self.features)

    def rows(self, value: Tensor, rows: Tensor) -> Tensor:
        """A layer's output for samples ``rows`` (n,), any of them as often as it is named."""
        return self._closed(self._opened(value).index_select(self.batch, rows))

    def over_channels(self, factors: Tensor, like: Tensor) -> Tensor:
        """Factors (n, channels) in a shape that multiplies a layer's output ``like`` of n samples."""
        opened = self._opened(like)
        sizes = [opened.shape[d] for d in self.features]
        order = [self.batch, *self.features, *self.positions]
        shaped = factors.reshape(len(factors), *sizes, *[1] * len(self.positions))
        shaped = shaped.permute(*[order.index(d) for d in range(opened.ndim)])
        return shaped if self.split is None else self._closed(shaped.expand(opened.shape))

    def _opened(self, value: Tensor) -> Tensor:
        if self.split is None:
            return value
        dim, count, first = self.split
        sizes = (-1, count) if first else (count, -1)
        return value.reshape(*value.shape[:dim], *sizes, *value.shape[dim + 1 :])

    def _closed(self, value: Tensor) -> Tensor:
        return value if self.split is None else value.flatten(self.split[0], self.split[0] + 1)
