"""What methods that draw random numbers share: draws that are the same for every sample, means and their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.passes import Chunk

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["BlockMeans", "Draws", "Moments"]

_NUMBERS = 2**18
"""Numbers that are drawn at once: few enough for the caches, enough that small inputs need no generator per draw."""


class Draws:
    """Random tensors by the number of their draw, whichever are asked for together.

    Args:
        call: its seed decides; see ``Call.generator``.
        shape: of one draw.
        stream: another one for every kind of number that a method draws, below 64.
        make: ``make(shape, generator)``, such as a normal distribution (the default).
    """

    def __init__(
        self,
        call: Call,
        shape: Sequence[int],
        *,
        stream: int = 0,
        make: Callable[[tuple[int, ...], torch.Generator], Tensor] | None = None,
    ) -> None:
        self._call, self._shape, self._stream = call, tuple(shape), stream
        self._make = make or (lambda size, generator: torch.randn(size, generator=generator))
        self._at_once = max(1, _NUMBERS // max(1, math.prod(self._shape)))
        self._kept: tuple[int, Tensor] | None = None

    def of(self, numbers: Tensor) -> Tensor:
        """(n, *shape): the draws with these ``numbers`` (n,)."""
        first, last = (int(bound) // self._at_once for bound in torch.aminmax(numbers))
        blocks = torch.cat([self._block(block, numbers.device) for block in range(first, last + 1)])
        return blocks[numbers - first * self._at_once]

    def _block(self, block: int, device: torch.device) -> Tensor:
        if self._kept is None or self._kept[0] != block:
            generator = self._call.generator(64 * block + self._stream)
            self._kept = block, self._make((self._at_once, *self._shape), generator).to(device)
        return self._kept[1]


class Moments:
    """Mean and central moments of tensors that come one by one or in chunks (Chan 1979, Pebay 2008).

    Args:
        like: (M, ...) one value per sample.
        order: the highest moment, 2 to 4.
    """

    def __init__(self, like: Tensor, *, order: int = 2) -> None:
        self.mean = torch.zeros_like(like, dtype=accumulation_dtype(like.dtype))
        self._powers = [torch.zeros_like(self.mean) for _ in range(order - 1)]  # sums of powers of the distance from it
        self._counts = torch.zeros(len(like), dtype=torch.float64)

    @property
    def count(self) -> int:
        """How many values every sample has at least."""
        return int(self._counts.min())

    def add_chunk(self, chunk: Chunk, values: Tensor) -> None:
        """Add ``values`` (n, ...), one for every row of the chunk."""
        parts, samples = chunk.split(values)
        self.add(parts, samples)

    def add(self, values: Tensor, samples: slice = slice(None)) -> None:
        """Add ``values`` (k, m, ...): k values of each of the ``samples``, which have had equally many so far."""
        values = values.to(self.mean.dtype)
        if len(values) == 1:
            self._merge(samples, 1, values[0], None)
            return
        mean = values.mean(0)
        distance = values - mean
        powers = [distance.pow(exponent).sum(0) for exponent in range(2, len(self._powers) + 2)]
        self._merge(samples, len(values), mean, powers)

    def merge(self, other: Moments, samples: Tensor) -> None:
        """Add all that ``other`` holds of ``samples`` (m,), which have had equally many so far."""
        part = Moments(self.mean[samples], order=len(self._powers) + 1)
        part._counts = self._counts[samples.cpu()]
        part.mean = self.mean[samples]
        part._powers = [power[samples] for power in self._powers]
        part._merge(slice(None), other.count, other.mean, other._powers)
        self.mean.index_copy_(0, samples, part.mean)
        for power, new in zip(self._powers, part._powers, strict=True):
            power.index_copy_(0, samples, new)
        self._counts[samples.cpu()] = part._counts

    def _merge(self, samples: slice, new: int, mean: Tensor, powers: list[Tensor] | None) -> None:
        """``new`` values with this mean and these powers, None for a lone value, which has none."""
        old = float(self._counts[samples][0])
        count = old + new
        step = mean - self.mean[samples]
        mine = [power[samples] for power in self._powers]
        other: list[Tensor | float] = [0.0] * len(mine) if powers is None else list(powers)
        if len(mine) > 2:
            mine[2] += other[2] + 4 * step * (old * other[1] - new * mine[1]) / count
            mine[2] += 6 * step**2 * (old**2 * other[0] + new**2 * mine[0]) / count**2
            mine[2] += step**4 * (old * new * (old**2 - old * new + new**2) / count**3)
        if len(mine) > 1:
            mine[1] += other[1] + 3 * step * (old * other[0] - new * mine[0]) / count
            mine[1] += step**3 * (old * new * (old - new) / count**2)
        if powers is not None:
            mine[0] += powers[0]
        mine[0].addcmul_(step, step, value=old * new / count)
        self.mean[samples].add_(step, alpha=new / count)
        self._counts[samples] = count

    def error(self) -> Tensor | None:
        """The standard error of the mean; None where a sample has fewer than two values."""
        count = self._shaped()
        return (self._powers[0] / (count * (count - 1))).sqrt() if self.count > 1 else None

    def variance(self) -> Tensor:
        """The unbiased variance, of two values or more; 0 of one."""
        return self._powers[0] / (self._shaped() - 1).clamp(min=1)

    def variance_error(self) -> Tensor | None:
        """The standard error of the variance, from the fourth moment; None where a sample has fewer than four."""
        count = self._shaped()
        if self.count < 4:
            return None
        left = self._powers[2] / count - self.variance() ** 2 * ((count - 3) / (count - 1))
        return (left.clamp(min=0) / count).sqrt()

    def _shaped(self) -> Tensor:
        counts = self._counts.to(device=self.mean.device, dtype=self.mean.dtype)
        return counts.view(-1, *[1] * (self.mean.ndim - 1))


class BlockMeans:
    """Moments of the means over blocks of draws, for draws that are independent only from block to block.

    Args:
        like: (M, ...) one value per sample.
        size: of a block.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self.moments = Moments(like)
        self._size = size
        self._sum = torch.zeros_like(self.moments.mean)

    def add_chunk(self, chunk: Chunk, values: Tensor) -> None:
        """Add ``values`` (n, ...), one for every row of the chunk; draws come in the order of their numbers."""
        parts, samples = chunk.split(values)
        if self._size == 1:
            self.moments.add(parts, samples)
            return
        place, done = int(chunk.steps[0]) % self._size, 0
        while done < len(parts):
            here = parts[done : done + self._size - place]
            self._sum[samples] += here.sum(0, dtype=self._sum.dtype)
            done, place = done + len(here), place + len(here)
            if place == self._size:
                self.moments.add(self._sum[samples][None] / self._size, samples)
                self._sum[samples] = 0
                place = 0
