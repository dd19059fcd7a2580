"""Values picked by place."""

from __future__ import annotations

import torch
from torch import Tensor


def take(x: Tensor, indices: Tensor, axis: int = 0, mode: str = "clip") -> Tensor:
    """Slices of one axis by place, in the shape of ``indices``.

    Args:
        mode: what a place outside means: the nearest one (``clip``), counted around (``wrap``), or from the end for
            negative ones (``negative``).
    """
    axis %= x.ndim
    places = _inside(indices.long(), x.shape[axis], mode)
    if not places.ndim:
        return x.select(axis, int(places))
    picked = x.index_select(axis, places.reshape(-1))
    return picked.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def pick(x: Tensor, indices: Tensor, axis: int | None = -1, keepdim: bool = False, mode: str = "clip") -> Tensor:
    """One value along an axis for every other place."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis %= x.ndim
    places = _inside(indices.long(), x.shape[axis], mode)
    if places.ndim < x.ndim:
        places = places.reshape(*x.shape[:axis], 1, *x.shape[axis + 1 :])
    picked = x.gather(axis, places)
    return picked if keepdim else picked.squeeze(axis)


def gather_nd(x: Tensor, indices: Tensor) -> Tensor:
    """Values (or slices) at coordinates, which lie along the first axis of ``indices``."""
    return x[tuple(_inside(row.long(), x.shape[axis], "negative") for axis, row in enumerate(indices))]


def scatter_nd(values: Tensor, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros with ``values`` at coordinates, which lie along the first axis of ``indices``."""
    zeros = torch.zeros(shape, dtype=values.dtype, device=values.device)
    return zeros.index_put(tuple(row.long() for row in indices), values)


def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``x`` where the condition is not 0, else ``y``; a condition for rows alone picks whole rows."""
    chosen = condition != 0
    if chosen.ndim == 1 and x.ndim > 1:
        chosen = chosen.reshape(-1, *(1,) * (x.ndim - 1))
    return torch.where(chosen, x, y)


def _inside(places: Tensor, length: int, mode: str) -> Tensor:
    if mode == "negative":
        return torch.where(places < 0, places + length, places)
    return places % length if mode == "wrap" else places.clamp(0, length - 1)
