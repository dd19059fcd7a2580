"""Regions of several sizes in inputs, and their ranking by the attribution that they gain."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pellucid.engine.point import Kind, Point
from pellucid.errors import require
from pellucid.methods.features import features_at, has_positions
from pellucid.methods.superpixels import pictures
from pellucid.structures import as_float

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Regions", "check_regions", "regions_at"]

_SCALES = (50, 100, 150, 250, 500, 1200)
"""Of segments, for pictures of 224 x 224; the authors' choice, as are the next two."""
_LEAST = 150 / 224**2
"""Of a segment, as a share of the picture."""
_GROWN = 5 / 224
"""How far segments are grown, as a share of the shorter side."""

Bits = np.ndarray[Any, np.dtype[np.bool_]]
Array = np.ndarray[Any, np.dtype[np.float64]]
Turns = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class Regions:
    """Candidate regions of every sample, which may overlap.

    Args:
        shapes: by point, the shape of a sample's places: that of the value, 1 along the dimensions that go together.
        members: for every sample and point (regions, places).
    """

    shapes: Mapping[Point, tuple[int, ...]]
    members: Sequence[Mapping[Point, Bits]]

    def ranked(self, values: Mapping[Point, Tensor]) -> tuple[dict[Point, Tensor], dict[Point, Tensor]]:
        """Means over regions in the shape of ``values``, and (N, ...) int32 turns by place."""
        places = {point: _by_place(value, self.shapes[point]) for point, value in values.items()}
        means = {point: torch.zeros_like(place) for point, place in places.items()}
        turns = {point: torch.zeros(place.shape, dtype=torch.int32) for point, place in places.items()}
        for i, members in enumerate(self.members):
            ends = np.cumsum([part.shape[1] for part in members.values()])[:-1]
            found = _greedy(_stacked(list(members.values())), np.concatenate([places[p][i].numpy() for p in members]))
            for point, mean, turn in zip(members, *(np.split(part, ends) for part in found), strict=True):
                means[point][i], turns[point][i] = torch.from_numpy(mean), torch.from_numpy(turn)
        spread = {}
        for point, value in values.items():
            shape = (len(value), *self.shapes[point])
            each = means[point].reshape(shape) / (value[0].numel() // math.prod(self.shapes[point]))
            spread[point] = each.to(value).expand_as(value).contiguous()
        ranks = {}
        for point, turn in turns.items():
            rank = turn.reshape(len(turn), *self.shapes[point]).to(values[point].device)
            ranks[point] = rank.squeeze(-1) if point.kind is Kind.LOOK_UP else rank
        return spread, ranks


def regions_at(call: Call, points: Mapping[Point, Tensor], spec: Any, *, caller: str) -> Regions:
    """The regions that ``regions=`` means.

    Args:
        call: what is explained.
        points: with their values.
        spec: forms of features, one or a list; None: by the shape of each value.
        caller: the method, for errors.

    Raises:
        InputError: a form means nothing here. MissingDependencyError: scikit-image is not installed.
    """
    batch = len(next(iter(points.values())))
    shapes: dict[Point, tuple[int, ...]] = {}
    members: list[dict[Point, Bits]] = [{} for _ in range(batch)]
    for point, value in points.items():
        maps = _maps(call, point, value, spec, caller)
        shapes[point] = tuple(np.broadcast_shapes(*(tuple(numbers.shape[1:]) for numbers in maps)))
        grown = spec is None and value.ndim == 4 and len(maps) == len(_SCALES)
        for i, found in enumerate(members):
            own = [numbers[i if len(numbers) > 1 else 0].expand(shapes[point]) for numbers in maps]
            parts = [_indicators(numbers, grown=grown) for numbers in own]
            found[point] = np.concatenate(parts)
    return Regions(shapes, members)


def check_regions(call: Call, points: Mapping[Point, Tensor], spec: Any, *, caller: str) -> None:
    """Refuse what :func:`regions_at` would, without looking for segments."""
    for point, value in points.items():
        if spec is None and value.ndim == 4 and has_positions(call, point, value):
            require("skimage.segmentation", extra="perturbation", caller=caller)
        else:
            _maps(call, point, value, spec, caller)


def _maps(call: Call, point: Point, value: Tensor, spec: Any, caller: str) -> list[Tensor]:
    """Maps of numbers (1 or N, ...), one for every size of region."""
    positions = has_positions(call, point, value)
    if spec is None and positions and value.ndim == 4:
        return _segments(value, caller)
    several = isinstance(spec, (list, tuple)) and not any(isinstance(form, int) for form in spec)
    forms = list(spec) if several else [spec]
    if spec is None and positions and value.ndim == 5:
        forms = ["superpixels:16", "superpixels:64", "superpixels:256"]
    elif spec is None and value.ndim > 2:
        length = value.shape[2 if positions else 1]
        sizes = sorted({max(1, length // parts) for parts in (4, 16, 64)})
        forms = [f"{'patches' if positions else 'tokens'}:{size}" for size in sizes]
    elif spec is None:
        forms = ["elements"]
    return [features_at(call, {point: value}, {point.name: form}, caller=caller).maps[point] for form in forms]


def _segments(value: Tensor, caller: str) -> list[Tensor]:
    """Segments of pictures (Felzenszwalb 2004) at every scale, each (N, 1, H, W)."""
    segmentation = require("skimage.segmentation", extra="perturbation", caller=caller)
    share = value[0, 0].numel() / 224**2
    found: list[list[Tensor]] = [[] for _ in _SCALES]
    for picture in pictures(value, [2, 3], "Segments"):
        for maps, scale in zip(found, _SCALES, strict=True):
            least = max(1, round(_LEAST * value[0, 0].numel()))
            with warnings.catch_warnings():  # that many channels may be meant as slices
                warnings.simplefilter("ignore", RuntimeWarning)
                segments = segmentation.felzenszwalb(picture * 2 - 1, scale=scale * share, sigma=0.8, min_size=least)
            maps.append(torch.from_numpy(segments)[None])
    return [torch.stack(maps).long() for maps in found]


def _indicators(numbers: Tensor, *, grown: bool) -> Bits:
    """(regions, places): which places have each number."""
    present = torch.unique(numbers)
    bits = numbers.cpu() == present[present >= 0].cpu().view(-1, *[1] * numbers.ndim)
    if grown:
        reach = round(_GROWN * min(numbers.shape[-2:]))
        bits = torch.nn.functional.max_pool2d(bits.float(), 2 * reach + 1, 1, reach) > 0
    result: Bits = bits.flatten(1).numpy()
    return result


def _by_place(value: Tensor, shape: Sequence[int]) -> Tensor:
    """(N, places), float64 on the CPU: the sum over what goes together."""
    total = as_float(value)
    for axis, size in enumerate(shape, start=1):
        if size == 1:
            total = total.sum(axis, keepdim=True)
    return total.flatten(1)


def _stacked(parts: Sequence[Bits]) -> Bits:
    """Regions of several inputs over all of their places."""
    rows, places = sum(len(part) for part in parts), sum(part.shape[1] for part in parts)
    bits = np.zeros((rows, places), dtype=bool)
    row = place = 0
    for part in parts:
        bits[row : row + len(part), place : place + part.shape[1]] = part
        row, place = row + len(part), place + part.shape[1]
    return bits


def _greedy(members: Bits, attribution: Array) -> tuple[Array, Turns]:
    """Mean attribution of its region and the region's turn, for every place.

    Every turn takes the region whose places not yet taken have the largest mean. Sums are kept up to date by what is
    taken, so that the whole costs one pass over the regions.
    """
    mean, turn = np.zeros_like(attribution), np.zeros(len(attribution), dtype=np.int32)
    left = np.ones(len(attribution), dtype=bool)
    sums, sizes = members @ attribution, members.sum(1)
    rank = 0
    while left.any():
        rank += 1
        if (sizes > 0).any():
            density = np.divide(sums, sizes, out=np.full(len(sums), -np.inf), where=sizes > 0)
            taken = members[density.argmax()] & left
        else:
            taken = left.copy()
        mean[taken], turn[taken] = attribution[taken].mean(), rank
        left &= ~taken
        part = members[:, taken]
        sums, sizes = sums - part @ attribution[taken], sizes - part.sum(1)
    return mean, turn
