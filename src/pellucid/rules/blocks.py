"""Elementwise work on large tensors in blocks that stay in the processor's cache.

A rule makes about ten passes over every activation. On a CPU each of them would wait for memory, and on networks with
cheap layers that costs more than the layers; in blocks only the first and the last pass do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["Rows", "by_sign", "rows_per_block"]

_BLOCK = 1 << 16
"""Elements per block: a quarter MiB of float32, several of which fit in a core's second-level cache."""


def rows_per_block(tensor: Tensor, width: int) -> int:
    """How many rows of ``width`` elements make a block; all of them where there is no cache to keep them in."""
    return max(1, _BLOCK // max(width, 1)) if tensor.device.type == "cpu" else max(1, tensor.numel())


class Rows:
    """Tensors of one shape, cut into blocks of rows along which a bias is constant or repeats.

    Args:
        tensors: all of the same shape: (N, C, ...) for convolutions, (..., C) for dense layers.
        bias: broadcastable to them along the channels, or None.
    """

    def __init__(self, tensors: Sequence[Tensor], bias: Tensor | None) -> None:
        first = tensors[0]
        cut = first.device.type == "cpu" and all(t.is_contiguous() and t.dtype == first.dtype for t in tensors)
        self._whole = list(tensors) if not cut or first.numel() <= _BLOCK else None
        self._bias = bias
        if self._whole is not None:
            return
        dense = (
            bias is not None
            and bias.ndim <= 2
            and bias.shape[-1] == first.shape[-1]
            and bias.numel() == first.shape[-1]
        )
        width = first.shape[-1] if dense or first.ndim < 3 else first.shape[2:].numel()
        self._tables = [tensor.view(-1, width) for tensor in tensors]
        self._step = rows_per_block(first, width)
        if bias is not None and not dense:
            self._bias = bias.expand(first.shape[:2] + (1,) * (first.ndim - 2)).reshape(-1, 1)
        self._per_row = bias is not None and not dense

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """Views of the tensors, block by block, and the bias that belongs to them."""
        if self._whole is not None:
            yield self._whole, self._bias
            return
        for start in range(0, self._tables[0].shape[0], self._step):
            rows = slice(start, start + self._step)
            bias = self._bias[rows] if self._per_row and self._bias is not None else self._bias
            yield [table[rows] for table in self._tables], bias


def by_sign(base: Tensor, other: Tensor, x: Tensor, factor: float) -> Tensor:
    """``base + factor * sign(x) * other``, written into ``base``."""
    for (into, extra, value), _ in Rows([base, other, x], None):
        into.add_(torch.sign(value).mul_(extra), alpha=factor)
    return base
