"""Fused attention taken apart: two matrix products by the rule of two factors, and the softmax between them.

The L x L matrices of both runs are made again, for a few heads at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.pair import Both
from pellucid.engine.private import saved
from pellucid.engine.record import Record
from pellucid.errors import ModelError
from pellucid.rules.difference.softmax import softmax_multiplier

__all__ = ["fused_attention"]

_AT_ONCE = 1 << 22
"""Attention weights that are held at once, per run."""


def fused_attention(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Attention in one node."""
    density = arrived[0]
    messages: list[Tensor | None] = [None] * len(both.live)
    if density is None:
        return messages
    record = both.records[0]
    settings = _settings(record)
    if settings.get("dropout_p"):
        raise ModelError(f"{both.here.describe()} drops attention at random. Call model.eval() first.")
    if any(both.live[3:]):
        raise both.refuse("its mask is behind the input.")
    here, there = (_operands(both, step) for step in (both.here, both.there))
    query, key = here[0], here[1]
    scale = settings.get("scale") or query.shape[-1] ** -0.5
    mask = settings.get("attn_mask")
    mask = settings.get("attn_bias") if mask is None else mask
    flat = _Heads(query, key, mask, causal=bool(settings.get("is_causal")))
    parts = [[flat.split(value) for value in run] for run in (here, there)]
    found = [torch.zeros_like(part, dtype=density.dtype) for part in parts[0]]
    arriving = flat.split(density)
    for heads in flat.blocks():
        (q, k, v), (q0, k0, v0) = ([part[heads] for part in run] for run in parts)
        m, bias = arriving[heads], flat.bias(heads, q)
        scores, scores0 = (torch.baddbmm(bias, a, b.mT, alpha=scale) for a, b in ((q, k), (q0, k0)))
        weights = torch.nan_to_num(scores.softmax(-1) + scores0.softmax(-1)) / 2
        found[2][heads] = weights.mT @ m
        inner = softmax_multiplier(m @ (v + v0).mT / 2, scores, scores0, -1) * (scale / 2)
        found[0][heads] = inner @ (k + k0)
        found[1][heads] = inner.mT @ (q + q0)
    for place, (part, value) in enumerate(zip(found, here, strict=True)):
        if both.live[place]:
            messages[place] = flat.join(part, value)
    return messages


def _settings(record: Record) -> dict[str, Any]:
    """What the kernel was called with, by name."""
    names = [argument.name for argument in record.func._schema.arguments]
    return {**dict(zip(names, record.args, strict=False)), **record.kwargs}


def _operands(both: Both, step: Any) -> list[Tensor]:
    found = [saved(step.node, name) for name in ("query", "key", "value")]
    if any(value is None for value in found):
        raise both.refuse("its operands were changed in place.")
    return [value.detach() for value in found if value is not None]


class _Heads:
    """All heads of all samples as one batch of matrices; of grouped keys and values every query head has its own."""

    def __init__(self, query: Tensor, key: Tensor, mask: Tensor | None, *, causal: bool) -> None:
        self._batch = tuple(query.shape[:-2])
        self._size = (query.shape[-2], key.shape[-2])
        self._mask = None if mask is None else mask.expand(*self._batch, *self._size).reshape(-1, *self._size)
        self._causal = causal

    def split(self, value: Tensor) -> Tensor:
        """(heads of all samples, L, features)."""
        repeated = self._batch[-1] // value.shape[-3]
        if repeated > 1:
            value = value.repeat_interleave(repeated, -3)
        return value.reshape(-1, *value.shape[-2:])

    def join(self, part: Tensor, like: Tensor) -> Tensor:
        """Back to the shape of ``like``; what several query heads sent to one key head is added."""
        if self._batch[-1] == like.shape[-3]:
            return part.view_as(like)
        return part.view(*like.shape[:-2], -1, *like.shape[-2:]).sum(-3)

    def blocks(self) -> list[slice]:
        """Heads that are worked on together."""
        count = 1
        for size in self._batch:
            count *= size
        step = max(1, _AT_ONCE // max(1, self._size[0] * self._size[1]))
        return [slice(start, start + step) for start in range(0, count, step)]

    def bias(self, heads: slice, like: Tensor) -> Tensor:
        """What is added to the scores of these heads."""
        bias = like.new_zeros(like.shape[0], *self._size)
        if self._mask is not None:
            mask = self._mask[heads]
            bias = torch.where(mask, 0.0, float("-inf")).to(bias) if mask.dtype == torch.bool else mask.to(bias)
        if self._causal:
            bias = bias + torch.full(self._size, float("-inf"), dtype=bias.dtype, device=bias.device).triu(1)
        return bias
