"""Images made larger or smaller, and sampled at given places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import require


def upsample_nearest(*images: Tensor, scale: int, together: str = "concat") -> Tensor:
    """Images (N, C, H, W) made ``scale`` times larger, all to the size of the first one's result, and joined."""
    rows, columns = (side * scale for side in images[0].shape[2:])
    grown = [F.interpolate(image, size=(rows, columns)) for image in images]
    if len(grown) == 1:
        return grown[0]
    return torch.cat(grown, 1) if together == "concat" else torch.stack(grown).sum(0)


def resize_bilinear(
    x: Tensor,
    like: Tensor | None = None,
    *,
    mode: str = "size",
    size: tuple[int, int] = (1, 1),
    scale: tuple[float | None, float | None] = (None, None),
    align_corners: bool = True,
) -> Tensor:
    """An image (N, C, H, W) resized as MXNet's BilinearResize2D words it.

    Args:
        like: gives the size in the mode ``like``.
        mode: ``size`` (``size``, or ``scale`` where it is given), ``like``, ``odd_scale``, ``to_even_down``,
            ``to_even_up``, ``to_odd_down`` or ``to_odd_up``.
        size: rows, columns.
        scale: factors of rows and columns.
        align_corners: whether the outermost pixels' centres keep their places.
    """
    if mode == "like" and like is not None:
        target = list(like.shape[2:])
    else:
        target = [_length(x.shape[2 + axis], mode, size[axis], scale[axis]) for axis in (0, 1)]
    if not align_corners:  # of an axis that shrinks to one place MXNet then takes the first pixel, torch the middle
        for axis in (2, 3):
            x = x.narrow(axis, 0, 1) if target[axis - 2] == 1 else x
    return F.interpolate(x, size=target, mode="bilinear", align_corners=align_corners)


def _length(length: int, mode: str, size: int, scale: float | None) -> int:
    odd = length % 2
    if mode == "to_even_down":
        return length - odd
    if mode == "to_even_up":
        return length + odd
    if mode == "to_odd_down":
        return length - 1 + odd
    if mode == "to_odd_up":
        return length + 1 - odd
    if scale is None:
        return size
    if mode == "odd_scale" and odd:
        return int((length - 1) * scale) + 1
    return int(length * scale)


def affine_grid(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Places (N, 2, H, W), x before y, in -1..1, from six numbers of an affine map for each sample."""
    rows, columns = size
    grid = F.affine_grid(theta.reshape(-1, 2, 3), [theta.shape[0], 1, rows, columns], align_corners=True)
    return grid.permute(0, 3, 1, 2)


def flow_grid(flow: Tensor) -> Tensor:
    """Places (N, 2, H, W) in -1..1 that lie ``flow`` pixels from each pixel's own place."""
    rows, columns = flow.shape[2:]
    x = torch.arange(columns, dtype=flow.dtype, device=flow.device).expand(rows, columns)
    y = torch.arange(rows, dtype=flow.dtype, device=flow.device).unsqueeze(1).expand(rows, columns)
    halves = torch.tensor([(columns - 1) / 2, (rows - 1) / 2], dtype=flow.dtype, device=flow.device)
    return (flow + torch.stack([x, y])) / halves.reshape(1, 2, 1, 1) - 1


def sample(x: Tensor, grid: Tensor) -> Tensor:
    """An image (N, C, H, W) at the places (N, 2, H', W'), bilinear, 0 outside."""
    return F.grid_sample(x, grid.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=True)


def transform(x: Tensor, theta: Tensor, size: tuple[int, int]) -> Tensor:
    """An image seen through an affine map."""
    return sample(x, affine_grid(theta, size))


def region_align(
    x: Tensor, regions: Tensor, size: tuple[int, int], scale: float, samples: int = -1, aligned: bool = False
) -> Tensor:
    """Means of regions (R, 5: image, left, top, right, bottom) in a grid, sampled bilinearly (torchvision's)."""
    pooled: Tensor = _regions().roi_align(x, regions, size, scale, samples, aligned)
    return pooled


def region_max(x: Tensor, regions: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """Maxima of regions (R, 5: image, left, top, right, bottom) in a grid (torchvision's)."""
    pooled: Tensor = _regions().roi_pool(x, regions, size, scale)
    return pooled


def _regions() -> Any:
    return require("torchvision.ops", extra="vision", caller="a model with region pooling")
