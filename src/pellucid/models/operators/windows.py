"""Padding and cropping whose widths follow from the size of what flows in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.models.operators.pooling import pool
from pellucid.models.operators.shapes import pad


def same_padding(
    lengths: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], lower: bool
) -> tuple[list[int], list[int]]:
    """Widths before and after each axis with which windows give ``ceil(length / stride)`` results.

    Args:
        lower: whether an odd place goes before the axis, else after it.
    """
    before, after = [], []
    for length, k, s, d in zip(lengths, kernel, stride, dilation, strict=True):
        total = max(0, (-(-length // s) - 1) * s + d * (k - 1) + 1 - length)
        less, more = total // 2, total - total // 2
        before.append(more if lower else less)
        after.append(less if lower else more)
    return before, after


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], lower: bool) -> Tensor:
    """(N, C, ...) with zeros around it; see :func:`same_padding`."""
    before, after = same_padding(x.shape[2:], kernel, stride, dilation, lower)
    return pad(x, (0, 0, *before), (0, 0, *after))


def pool_same(
    x: Tensor,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    lower: bool,
    count_padding: bool = True,
    power: int = 2,
) -> Tensor:
    """Pool with the padding of :func:`same_padding`."""
    before, after = same_padding(x.shape[2:], kernel, stride, dilation, lower)
    return pool(x, kind, kernel, stride, before, after, dilation=dilation, count_padding=count_padding, power=power)


def average_dilated(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    ceil: bool,
    count_padding: bool,
) -> Tensor:
    """Means over windows with gaps, of (N, C, ...)."""
    lengths = x.shape[2:]
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    ends = []
    for length, b, a, span, s in zip(lengths, before, after, spans, stride, strict=True):
        steps = (length + b + a - span + (s - 1 if ceil else 0)) // s
        steps -= int(ceil and steps * s >= length + b)  # a window must begin inside
        ends.append(max(0, steps * s + span - length - b))
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]

    def sums(values: Tensor) -> Tensor:
        flat = values.reshape(-1, 1, *values.shape[2:])
        made = convolve(flat, ones, None, tuple(stride), 0, tuple(dilation))
        return made.reshape(*values.shape[:2], *made.shape[2:])

    inside = torch.ones(1, 1, *lengths, dtype=x.dtype, device=x.device)
    if count_padding:
        inside = pad(inside, (0, 0, *before), (0, 0, *after), value=1.0)
        extra = [end - a for end, a in zip(ends, after, strict=True)]
        inside = pad(inside, (0,) * x.ndim, (0, 0, *extra))
    else:
        inside = pad(inside, (0, 0, *before), (0, 0, *ends))
    return sums(pad(x, (0, 0, *before), (0, 0, *ends))) / sums(inside)


def crop_to(x: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """(N, C, ...) without so many places at both ends of each axis."""
    return pad(x, (0, 0, *(-width for width in before)), (0, 0, *(-width for width in after)))


def crop_to_shape(x: Tensor, shape: Sequence[int], more_before: bool) -> Tensor:
    """(N, C, ...) cut to a size, an odd place before or after."""
    surplus = [length - wanted for length, wanted in zip(x.shape[2:], shape, strict=True)]
    before = [(width + 1) // 2 if more_before else width // 2 for width in surplus]
    return crop_to(x, before, [width - b for width, b in zip(surplus, before, strict=True)])


def max_places(x: Tensor, kernel: Sequence[int], by_columns: bool, **settings: Any) -> tuple[Tensor, Tensor]:
    """Maxima of windows of (N, C, ...), and their places counted through the whole tensor.

    Args:
        by_columns: whether the first of the spatial axes counts fastest, else the last.
        settings: of ``F.max_pool2d`` and its kin.
    """
    function: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    values, places = function(x, tuple(kernel), return_indices=True, **settings)
    lengths = x.shape[2:]
    if by_columns:
        parts = []
        for length in reversed(lengths):
            parts.append(places % length)
            places = places // length
        places, factor = torch.zeros_like(places), 1
        for part, length in zip(reversed(parts), lengths, strict=True):
            places, factor = places + part * factor, factor * length
    maps = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *(1 for _ in lengths))
    return values, places + maps * lengths.numel()
