"""Windows that slide over the positions of inputs: where they are, what they hide, how their scores become a map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pellucid.engine.point import Point
from pellucid.errors import InputError
from pellucid.methods.features import has_positions

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Slide", "Windows", "windows_at"]


@dataclass(frozen=True, eq=False)
class Slide:
    """The windows over one value.

    Args:
        axes: along which they slide; along others they cover everything.
        covers: for every axis (windows, size) boolean, what each covers.
    """

    axes: tuple[int, ...]
    covers: tuple[Tensor, ...]

    @property
    def count(self) -> int:
        """How many windows there are."""
        return math.prod(len(cover) for cover in self.covers)

    @property
    def places(self) -> int:
        """How many places they slide over."""
        return math.prod(cover.shape[1] for cover in self.covers)

    def hidden(self, numbers: Tensor, ndim: int) -> Tensor:
        """(n, 1, ...) boolean, with as many dimensions after the first as the value: what these windows cover."""
        found = torch.ones(len(numbers), *[1] * ndim, dtype=torch.bool, device=numbers.device)
        for axis, cover in zip(reversed(self.axes), reversed(self.covers), strict=True):
            rows = cover[numbers % len(cover)]
            numbers = numbers // len(cover)
            found = found & rows.view(len(rows), *[-1 if k == axis else 1 for k in range(ndim)])
        return found

    def summed(self, scores: Tensor) -> Tensor:
        """(N, windows) to (N, sizes): for every place the sum over the windows that cover it."""
        total = scores.reshape(len(scores), *(len(cover) for cover in self.covers))
        for axis, cover in enumerate(self.covers, start=1):
            total = torch.tensordot(total, cover.to(total.dtype), dims=([axis], [0])).movedim(-1, axis)
        return total

    def covered(self, like: Tensor) -> Tensor:
        """(windows,): how many places each covers."""
        found = like.new_ones(1)
        for cover in self.covers:
            found = (found[:, None] * cover.sum(1)).flatten()
        return found


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows over all inputs, one input after the other; look-ups of the same ids share theirs.

    Args:
        slides: by point.
        starts: number of each point's first window.
        sizes: (N, windows) ones: every sample has all.
    """

    slides: Mapping[Point, Slide]
    starts: Mapping[Point, int]
    sizes: Tensor

    names = ()
    told = True

    @property
    def count(self) -> int:
        """How many windows there are."""
        return self.sizes.shape[1]

    def kept(self, chosen: Tensor, *, among: Tensor, points: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
        """By point (n, 1, ...), what stays when the windows with the numbers ``among[chosen]`` (n,) hide something."""
        numbers = among[chosen]
        found = {}
        for point, slide in self.slides.items():
            own = numbers - self.starts[point]
            mine = (own >= 0) & (own < slide.count)
            hidden = slide.hidden(own.clamp(0, slide.count - 1), points[point].ndim)
            found[point] = ~(hidden & mine.view(-1, *[1] * points[point].ndim))
        return found

    def spread(self, scores: Tensor, points: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
        """(N, windows) scores as maps: the mean, over the windows that cover a value, of their score per value."""
        found = {}
        for point, value in points.items():
            slide = self.slides[point]
            each = sum(v[0].numel() for p, v in points.items() if _owner(p) == _owner(point)) // slide.places
            own = scores[:, self.starts[point] : self.starts[point] + slide.count]
            mean = slide.summed(own / slide.covered(own) / each) / slide.summed(torch.ones_like(own[:1]))
            shape = [size if axis in (0, *slide.axes) else 1 for axis, size in enumerate(value.shape)]
            found[point] = mean.reshape(shape).to(value.dtype).expand_as(value).contiguous()
        return found

    def tables(self) -> dict[str, Tensor]:
        """None: a place has several windows."""
        return {}


def windows_at(call: Call, points: Mapping[Point, Tensor], window: Any, stride: Any) -> Windows:
    """The windows that settings mean.

    Args:
        call: what is explained.
        points: with their values, (N, ...).
        window: size along each axis of positions (of tokens and columns: along them): a number for all axes, or one
            for each; or one for every dimension but the first, which then all are slid over. None: an eighth of the
            positions, one token, one column. Or one of these for every input by name.
        stride: in the same forms, how far a window is from the next; None: half a window.

    Raises:
        InputError: they do not fit, or windows would leave gaps.
    """
    slides: dict[Point, Slide] = {}
    starts: dict[Point, int] = {}
    count = 0
    for point, value in points.items():
        twin = next((other for other in slides if _owner(other) == _owner(point)), None)
        slides[point] = _slide(call, point, value, window, stride)
        starts[point] = count if twin is None else starts[twin]
        count += slides[point].count if twin is None else 0
    some = next(iter(points.values()))
    return Windows(slides, starts, torch.ones(len(some), count, dtype=torch.float64, device=some.device))


def _owner(point: Point) -> Point:
    return Point(point.kind, point.name)


def _slide(call: Call, point: Point, value: Tensor, window: Any, stride: Any) -> Slide:
    spatial = has_positions(call, point, value)
    axes = list(range(2, value.ndim)) if spatial else [1][: value.ndim - 1]
    given = window.get(point.name) if isinstance(window, Mapping) else window
    step = stride.get(point.name) if isinstance(stride, Mapping) else stride
    if isinstance(given, (tuple, list)) and len(given) == value.ndim - 1:
        axes = list(range(1, value.ndim))
    usual = [max(1, round(value.shape[axis] / 8)) if spatial else 1 for axis in axes]
    sizes = usual if given is None else _numbers("window", given, point, value, axes)
    steps = [max(1, size // 2) for size in sizes] if step is None else _numbers("stride", step, point, value, axes)
    covers = []
    for axis, size, gap in zip(axes, sizes, steps, strict=True):
        length = value.shape[axis]
        if gap > size and size < length:
            raise InputError(
                f"stride={gap} is more than window={size} along dimension {axis} of the {point}, so that values "
                "between windows would have no score. Give a stride of the window's size or less."
            )
        windows = 1 if size >= length else -(-(length - size) // gap) + 1
        begins = torch.arange(windows, device=value.device)[:, None] * gap
        along = torch.arange(length, device=value.device)
        covers.append((along >= begins) & (along < begins + size))
    return Slide(tuple(axes), tuple(covers))


def _numbers(name: str, given: Any, point: Point, value: Tensor, axes: Sequence[int]) -> list[int]:
    numbers = list(given) if isinstance(given, (tuple, list)) else [given] * len(axes)
    if len(numbers) != len(axes) or not all(isinstance(number, int) and number > 0 for number in numbers):
        raise InputError(
            f"Expected {name} of the {point} of shape {tuple(value.shape)} as a whole number of 1 or more, or one for "
            f"each of its {len(axes)} axes of positions, got {given!r}."
        )
    return numbers
