"""Convolutions whose places of sampling are moved by learned offsets (Dai 2017, Zhu 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def deformable_convolution(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    offset_groups: int = 1,
    sharp_border: bool = False,
) -> Tensor:
    """Convolve samples taken at moved places.

    Args:
        x: (N, C, H, W).
        offset: (N, offset_groups * 2 * kh * kw, H', W'): rows before columns.
        mask: (N, offset_groups * kh * kw, H', W') scales each sample, or None.
        weight: (O, C / groups, kh, kw).
        bias: (O,), or None.
        stride: per axis, as the next ones.
        sharp_border: take nothing outside 0..H-1, and between the last two pixels the last one, as MXNet 1's
            unmodulated layer does; else pixels fade out over one place beyond the border.
    """
    n, _, rows, columns = offset.shape
    out, each, kh, kw = weight.shape
    shifts = offset.reshape(n, offset_groups, kh * kw, 2, rows, columns)
    y = _places(rows, kh, stride[0], padding[0], dilation[0], x).reshape(kh, 1, rows, 1)
    z = _places(columns, kw, stride[1], padding[1], dilation[1], x).reshape(1, kw, 1, columns)
    base_y, base_x = (part.expand(kh, kw, rows, columns).reshape(kh * kw, rows, columns) for part in (y, z))
    sampled = _bilinear(x, base_y + shifts[:, :, :, 0], base_x + shifts[:, :, :, 1], sharp_border)
    if mask is not None:
        sampled = sampled * mask.reshape(n, offset_groups, 1, kh * kw, rows, columns)
    patches = sampled.reshape(n, groups, each * kh * kw, rows * columns)
    result = weight.reshape(groups, out // groups, each * kh * kw) @ patches
    result = result.reshape(n, out, rows, columns)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)


def _places(length: int, kernel: int, stride: int, padding: int, dilation: int, like: Tensor) -> Tensor:
    """Where an ordinary convolution samples one axis: (kernel, length)."""
    starts = torch.arange(length, dtype=like.dtype, device=like.device) * stride - padding
    return starts + torch.arange(kernel, dtype=like.dtype, device=like.device).unsqueeze(1) * dilation


def _bilinear(x: Tensor, y: Tensor, z: Tensor, sharp: bool) -> Tensor:
    """Values (N, G, C / G, K, H', W') of ``x`` at the places (N, G, K, H', W')."""
    n, channels, height, width = x.shape
    groups = y.shape[1]
    flat = x.reshape(n, groups, channels // groups, height * width)
    top, left = y.detach().floor(), z.detach().floor()
    inside = (y >= 0) & (z >= 0) & (y < height) & (z < width)
    total = None
    for down in (0, 1):
        for right in (0, 1):
            rows, columns = top + down, left + right
            share = (1 - (y - rows).abs()) * (1 - (z - columns).abs())
            within = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
            seen = inside if sharp else within
            places = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).long()
            index = places.reshape(n, groups, 1, -1).expand(-1, -1, flat.shape[2], -1)
            corner = flat.gather(3, index).reshape(n, groups, -1, *y.shape[2:])
            part = corner * (share * seen.to(x.dtype)).unsqueeze(2)
            total = part if total is None else total + part
    assert total is not None
    return total
