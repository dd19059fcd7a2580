"""Lists of tensors as values of a graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorList:
    """Tensors in order, as one value."""

    items: tuple[Tensor, ...]


def construct(*items: Tensor) -> TensorList:
    """A list of these tensors."""
    return TensorList(items)


def insert(given: TensorList, item: Tensor, place: Tensor | None = None) -> TensorList:
    """With one more tensor, at a place or at the end."""
    at = len(given.items) if place is None else int(place)
    at = at + len(given.items) if at < 0 else at
    return TensorList((*given.items[:at], item, *given.items[at:]))


def erase(given: TensorList, place: Tensor | None = None) -> TensorList:
    """Without the tensor at a place, or without the last."""
    at = range(len(given.items))[-1 if place is None else int(place)]
    return TensorList((*given.items[:at], *given.items[at + 1 :]))


def at(given: TensorList, place: Tensor) -> Tensor:
    """The tensor at a place."""
    return given.items[int(place)]


def length(given: TensorList) -> Tensor:
    """How many there are."""
    return torch.tensor(len(given.items))


def join(given: TensorList, axis: int, new: bool) -> Tensor:
    """All of them along an axis that there is, or a new one."""
    return torch.stack(given.items, axis) if new else torch.cat(given.items, axis)


def split(x: Tensor, lengths: Tensor | None = None, axis: int = 0, keep: bool = True) -> TensorList:
    """Parts of one length (the last may be shorter) or of given ones; without either single places along the axis."""
    if lengths is None:
        parts = torch.split(x, 1, axis)
        return TensorList(parts if keep else tuple(part.squeeze(axis) for part in parts))
    return TensorList(torch.split(x, lengths.tolist() if lengths.ndim else int(lengths), axis))
