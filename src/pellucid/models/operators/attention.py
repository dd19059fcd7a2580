"""Attention on projections that lie interleaved, head by head (MXNet's ``interleaved_matmul``)."""

from __future__ import annotations

import math

from torch import Tensor


def self_scores(qkv: Tensor, heads: int) -> Tensor:
    """Scaled scores (N * heads, T, T) from queries, keys and values (T, N, heads * 3 * d)."""
    q, k, _ = _parts(qkv, heads, 3)
    return _scores(q, k)


def self_values(qkv: Tensor, attention: Tensor, heads: int) -> Tensor:
    """Attended values (T, N, heads * d)."""
    return _attended(_parts(qkv, heads, 3)[2], attention, heads)


def cross_scores(q: Tensor, kv: Tensor, heads: int) -> Tensor:
    """Scaled scores (N * heads, Tq, Tk) from queries (Tq, N, heads * d) and keys and values (Tk, N, heads * 2 * d)."""
    return _scores(_parts(q, heads, 1)[0], _parts(kv, heads, 2)[0])


def cross_values(kv: Tensor, attention: Tensor, heads: int) -> Tensor:
    """Attended values (Tq, N, heads * d)."""
    return _attended(_parts(kv, heads, 2)[1], attention, heads)


def divide_by_root(x: Tensor) -> Tensor:
    """``x`` over the square root of the length of its last axis."""
    return x / math.sqrt(x.shape[-1])


def _parts(x: Tensor, heads: int, count: int) -> list[Tensor]:
    """(T, N, heads * count * d) as ``count`` tensors (N * heads, T, d)."""
    steps, batch, width = x.shape
    spread = x.reshape(steps, batch * heads, count, width // (heads * count))
    return [spread.select(2, part).transpose(0, 1) for part in range(count)]


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return (q / math.sqrt(q.shape[-1])) @ k.mT


def _attended(v: Tensor, attention: Tensor, heads: int) -> Tensor:
    mixed = attention @ v
    parts, steps, width = mixed.shape
    return mixed.transpose(0, 1).reshape(steps, parts // heads, heads * width)
