"""Elementwise work on large tensors in blocks that stay in the processor's cache.

A rule makes several passes over every activation. On a CPU each of them would wait for memory, and on networks with
cheap layers that costs more than the layers; in blocks only the first and the last pass do. Choices between two values
are made by functions that PyTorch has vectorised: ``where`` and ``masked_fill`` cost twenty times as much on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["Rows", "by_sign", "keep_above", "rows_per_block"]

_BLOCK = 1 << 18
"""Elements per block: a MiB of float32. Smaller blocks pay more for calls than they gain from the nearer cache."""

aten = torch.ops.aten


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
        self._whole = list(tensors) if not cut or first.ndim < 2 or first.numel() == 0 else None
        self._bias = bias
        self._scratch: list[Tensor] = []
        if self._whole is not None:
            return
        dense = (
            bias is not None
            and bias.ndim <= 2
            and bias.shape[-1] == first.shape[-1]
            and bias.numel() == first.shape[-1]
        )
        channels = bias is not None and not dense and bias.shape[1:2] == first.shape[1:2]
        channels = channels and bias is not None and bias.numel() == first.shape[1]
        if bias is not None and not dense and not channels:
            self._whole = list(tensors)
            return
        width = first.shape[-1] if dense or first.ndim < 3 else first.shape[2:].numel()
        self._tables = [tensor.view(-1, width) for tensor in tensors]
        self._step = rows_per_block(first, width)
        if bias is not None and channels:
            self._bias = bias.reshape(1, -1).expand(first.shape[:2]).reshape(-1, 1)
        self._per_row = channels

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """Views of the tensors, block by block, and the bias that belongs to them."""
        if self._whole is not None:
            yield self._whole, self._bias
            return
        for start in range(0, self._tables[0].shape[0], self._step):
            rows = slice(start, start + self._step)
            bias = self._bias[rows] if self._per_row and self._bias is not None else self._bias
            yield [table[rows] for table in self._tables], bias

    def scratch(self, like: Tensor, k: int = 0) -> Tensor:
        """Room for an intermediate result in the shape of a block, number ``k``, used again for the next block."""
        while len(self._scratch) <= k:
            self._scratch.append(torch.empty_like(like, memory_format=torch.preserve_format))
        kept = self._scratch[k]
        if kept.shape == like.shape:
            return kept
        if kept.ndim == like.ndim and kept.shape[1:] == like.shape[1:] and len(kept) > len(like):
            return kept[: len(like)]
        self._scratch[k] = torch.empty_like(like)
        return self._scratch[k]


def keep_above(values: Tensor, by: Tensor) -> Tensor:
    """``values`` where ``by > 0``, else 0, written into ``values``."""
    if values.dtype == by.dtype:
        aten.threshold_backward.grad_input(values, by, 0, grad_input=values)
        return values
    return values.mul_(by > 0)


def by_sign(base: Tensor, other: Tensor, x: Tensor) -> Tensor:
    """``base + sign(x) * other``, written into ``base``."""
    rows = Rows([base, other, x], None)
    for (into, extra, value), _ in rows:
        into.addcmul_(torch.sign(value, out=rows.scratch(value)), extra)
    return base
