"""Operations that choose: maxima, pools, sorts.

A maximum that grew did so through its winner now, whose value before was not above the maximum before; one that shrank,
through its winner before. That one takes all, ``m (y - y0) / (x - x0)`` with a quotient between 0 and 1, window by
window, so that it sums exactly where windows overlap too (the form of Lundberg 2017's implementation for max-pools).

Where the values of a window were equal up to rounding, as they are everywhere for a baseline of one colour, each of
them was a winner, and the one that wins now as well takes all: which of them came first does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pellucid.engine.ops import Op
from pellucid.engine.pair import Both
from pellucid.engine.private import MINIMA, PLACED_EXTREMA, POOLS_3D

__all__ = ["ranked", "winner"]

_TIE = 64  # roundings


def winner(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The greatest or least of several values."""
    density = arrived[0]
    if density is None:
        return [None] * len(both.live)
    here, there = both.records
    now, then = here.call(*here.inputs), there.call(*there.inputs)
    read = _reader(both)
    if read is None:
        return _by_elements(both, density, *(value.detach() for value in (_first(now), _first(then))))
    (y, place), (y0, place0) = now[:2], then[:2]
    x, x0 = both.inputs()
    sign = -1 if both.name in MINIMA else 1
    shares = _shares(*(sign * value for value in (y, y0, read(x0, place), read(x, place0))))
    rest = [None] * (len(arrived) - 1)
    return both.natives(*([density * share, *rest] for share in shares))


def _shares(y: Tensor, y0: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Quotients for the winner now and the winner then, one of which is 0.

    Args:
        y: the maximum.
        y0: the maximum at the baseline.
        first: the baseline's value at the winner now.
        second: the input's value at the winner then.
    """
    tie = _TIE * torch.finfo(y.dtype).eps * torch.maximum(y.abs(), y0.abs())
    apart = (y - y0).abs() > 2 * tie
    grew = y > y0
    now = torch.where(apart, grew & (second < y - tie) | ~grew & (first >= y0 - tie), y >= y0)
    unmoved, unmoved0 = y == first, second == y0
    quotient = torch.where(unmoved, 1, (y - y0) / torch.where(unmoved, 1, y - first))
    quotient0 = torch.where(unmoved0, 1, (y - y0) / torch.where(unmoved0, 1, second - y0))
    return quotient * now, quotient0 * ~now


def _reader(both: Both) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Reads values at the places that the operation chose, where it tells them."""
    if both.here.walk.graph.ops[both.here.index] is Op.MAX_POOL:
        dims = 3 if both.name in POOLS_3D else 2
        return lambda value, place: value.flatten(-dims).gather(-1, place.flatten(-dims)).view_as(place)
    if both.name not in PLACED_EXTREMA:
        return None
    dim = int(both.records[0].args[1])

    def along(value: Tensor, place: Tensor) -> Tensor:
        if place.ndim == value.ndim:
            return value.gather(dim, place)
        return value.gather(dim, place.unsqueeze(dim)).squeeze(dim)

    return along


def _first(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


def _by_elements(both: Both, density: Tensor, y: Tensor, y0: Tensor) -> list[Tensor | None]:
    """Where the places are not told: shares by the native backward, over the difference of every element."""
    here, there = both.records
    grew = (y > y0) != (both.name in MINIMA)
    rest: list[Tensor | None] = [None] * (both.here.walk.graph.outputs(both.here.index) - 1)
    shares = both.natives([density * (y - y0) * grew, *rest], [density * (y - y0) * ~grew, *rest])
    limits = both.native([density, *rest])
    operands = iter(zip(here.inputs, there.inputs, strict=True))
    messages: list[Tensor | None] = []
    for live, share, limit in zip(both.live, shares, limits, strict=True):
        if not live or share is None or limit is None:
            messages.append(None)
            continue
        x, x0 = next(operands)
        difference = (x - x0).detach()
        messages.append(torch.where(difference == 0, limit, share / difference))
    return messages


def ranked(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Values by rank: a change of place where the order is the same, else refused.

    Raises:
        UnknownOpError: the order differs; a second-greatest value may change without any value in that place changing.
    """
    orders = [one.call(*one.inputs)[1] for one in both.records]
    if not torch.equal(*orders):
        raise both.refuse("it chooses by rank, and the ranks for the baseline are others than those for the input.")
    return both.native(arrived)
