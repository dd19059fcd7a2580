"""Operations on sequences of different lengths."""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_mask(x: Tensor, lengths: Tensor | None, value: float = 0.0, axis: int = 0) -> Tensor:
    """``x`` with ``value`` from each sequence's end on; time is ``axis`` (0 or 1), sequences lie along the other."""
    if lengths is None:
        return x
    return x.masked_fill(_beyond(x, lengths, axis), value)


def sequence_last(x: Tensor, lengths: Tensor | None, axis: int = 0) -> Tensor:
    """Each sequence's last step."""
    if lengths is None:
        return x.select(axis, x.shape[axis] - 1)
    steps = lengths.long() - 1
    rows = torch.arange(len(steps), device=x.device)
    return x[(steps, rows) if axis == 0 else (rows, steps)]


def sequence_reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence backwards, what lies beyond its end untouched; time lies along the first axis."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    ends = lengths.long().unsqueeze(0)
    places = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(0, places.reshape(*places.shape, *(1,) * (x.ndim - 2)).expand(x.shape))


def softmax_within(x: Tensor, lengths: Tensor, axis: int = -1, temperature: float = 1.0, log: bool = False) -> Tensor:
    """Softmax over the places within each length, 0 beyond; ``lengths`` has the shape of ``x`` without the axis."""
    axis %= x.ndim
    places = torch.arange(x.shape[axis], device=x.device).reshape(-1, *(1,) * (x.ndim - 1 - axis))
    beyond = places >= lengths.unsqueeze(axis)
    scores = x.masked_fill(beyond, torch.finfo(x.dtype).min)
    scores = scores if temperature == 1.0 else scores / temperature
    return (scores.log_softmax(axis) if log else scores.softmax(axis)).masked_fill(beyond, 0.0)


def _beyond(x: Tensor, lengths: Tensor, axis: int) -> Tensor:
    steps = torch.arange(x.shape[axis], device=x.device)
    beyond = steps.unsqueeze(1) >= lengths.unsqueeze(0) if axis == 0 else steps.unsqueeze(0) >= lengths.unsqueeze(1)
    return beyond.reshape(*beyond.shape, *(1,) * (x.ndim - 2))
