"""Pooling beyond what torch's layers do: sums, powers, uneven padding, windows that lie outside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LOWEST = torch.finfo(torch.float32).min
_MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


def global_pool(x: Tensor, kind: str, power: int = 2) -> Tensor:
    """All positions of (N, C, ...) as one: ``max``, ``avg``, ``sum`` or ``lp`` (the root of the sum of powers)."""
    axes = tuple(range(2, x.ndim))
    if kind == "max":
        return x.flatten(2).max(2).values.reshape(*x.shape[:2], *(1 for _ in axes))
    if kind == "avg":
        return x.mean(axes, keepdim=True)
    if kind == "sum":
        return x.sum(axes, keepdim=True)
    return _root(x.pow(power).sum(axes, keepdim=True), power)


def pool(
    x: Tensor,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    *,
    dilation: Sequence[int] = (),
    ceil: bool = False,
    count_padding: bool = True,
    power: int = 2,
) -> Tensor:
    """Pool windows of (N, C, ...) with any padding.

    Args:
        kind: ``max``, ``avg``, ``sum`` or ``lp``.
        kernel: the window.
        stride: from window to window.
        before: padding before the first place of each axis.
        after: and after the last.
        dilation: from place to place in the window, for ``max``.
        ceil: whether windows that lie only partly, or not at all, inside count too. One that lies outside gives 0, with
            ``max`` the lowest float32.
        count_padding: whether averages divide by padded places too; never by those that only ``ceil`` adds.
        power: of ``lp``.
    """
    lengths = x.shape[2:]
    dilation = tuple(dilation) or (1,) * len(kernel)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    inner = [length + b + a - span for length, b, a, span in zip(lengths, before, after, spans, strict=True)]
    steps = [(math.ceil(i / s) if ceil else i // s) for i, s in zip(inner, stride, strict=True)]
    extra = [
        max(0, step * s + span - length - b - a)
        for step, s, span, length, b, a in zip(steps, stride, spans, lengths, before, after, strict=True)
    ]
    widths = [[b, a + e] for b, a, e in zip(before, after, extra, strict=True)]
    padding = [width for pair in reversed(widths) for width in pair]
    if kind == "max":
        padded = F.pad(x, padding, value=LOWEST) if any(padding) else x
        return _MAX[len(kernel) - 1](padded, tuple(kernel), tuple(stride), 0, dilation)
    if kind == "lp":
        return _root(_sums(F.pad(x.pow(power), padding), kernel, stride), power)
    sums = _sums(F.pad(x, padding), kernel, stride)
    if kind == "sum":
        return sums
    counted = [
        _counts(length, k, s, b, a, step + 1, count_padding)
        for length, k, s, b, a, step in zip(lengths, kernel, stride, before, after, steps, strict=True)
    ]
    counts = torch.ones((), dtype=x.dtype, device=x.device)
    for places in counted:
        counts = counts.unsqueeze(-1) * places.to(x)
    return sums / counts.clamp(min=1)


def _root(x: Tensor, power: int) -> Tensor:
    """The real root; of odd powers also of negative numbers."""
    return x.sign() * x.abs().pow(1 / power) if power % 2 else x.pow(1 / power)


def _sums(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Sums over windows without padding."""
    if len(kernel) == 1:
        return F.avg_pool2d(x.unsqueeze(-2), (1, *kernel), (1, *stride), divisor_override=1).squeeze(-2)
    average = F.avg_pool2d if len(kernel) == 2 else F.avg_pool3d
    return average(x, tuple(kernel), tuple(stride), divisor_override=1)


def _counts(length: int, kernel: int, stride: int, before: int, after: int, windows: int, padded: bool) -> Tensor:
    """How many places of one axis each window averages over."""
    starts = torch.arange(windows) * stride - before
    ends = starts + kernel
    low, high = (-before, length + after) if padded else (0, length)
    return (ends.clamp(max=high) - starts.clamp(min=low)).clamp(min=0)
