"""Tensors made of numbers that a file fixes, and types of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def full(shape: Sequence[int], value: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """One number everywhere."""
    return torch.full(tuple(shape), value, dtype=dtype)


def arange(start: float, stop: float, step: float, repeat: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers from ``start`` up to and without ``stop``, each ``repeat`` times."""
    return torch.arange(start, stop, step, dtype=dtype).repeat_interleave(repeat)


def eye(rows: int, columns: int, diagonal: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """1 on a diagonal, 0 elsewhere."""
    places = torch.arange(columns).unsqueeze(0) - torch.arange(rows).unsqueeze(1)
    return places.eq(diagonal).to(dtype)


def arange_like(x: Tensor, axis: int | None = None, start: float = 0.0, step: float = 1.0, repeat: int = 1) -> Tensor:
    """Numbers for every place of an axis, or in the shape of ``x``."""
    count = x.numel() if axis is None else x.shape[axis]
    kind = x.dtype if x.is_floating_point() else torch.float32
    steps = torch.arange(-(-count // repeat), dtype=kind, device=x.device) * step + start
    numbers = steps.repeat_interleave(repeat)[:count] if repeat > 1 else steps
    return numbers.reshape(x.shape) if axis is None else numbers


def shape_of(x: Tensor) -> Tensor:
    """The lengths of the axes."""
    return torch.tensor(x.shape, dtype=torch.int64, device=x.device)


def size_of(x: Tensor) -> Tensor:
    """The number of elements, in shape (1,)."""
    return torch.tensor([x.numel()], dtype=torch.int64, device=x.device)


def identity(x: Tensor) -> Tensor:
    """``x`` itself."""
    return x


def to_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` in another type of whole numbers or truth values."""
    return x.to(dtype)


class ToFloating(nn.Module):
    """Whole numbers in the floating type that the model computes in; floating ones stay as they are."""

    like: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` as floating numbers."""
        return x if x.is_floating_point() else x.to(self.like.dtype)


class OneHot(ToFloating):
    """For every index a row with ``on`` at its place and ``off`` elsewhere; none is on where it lies outside."""

    def __init__(self, depth: int, on: float = 1.0, off: float = 0.0) -> None:
        super().__init__()
        self.depth, self.on, self.off = depth, on, off

    def forward(self, indices: Tensor) -> Tensor:
        """(..., depth) from (...)."""
        places = torch.arange(self.depth, device=indices.device)
        hot = (indices.long().unsqueeze(-1) == places).to(self.like.dtype)
        return hot * (self.on - self.off) + self.off

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self.depth}, on={self.on}, off={self.off}"
