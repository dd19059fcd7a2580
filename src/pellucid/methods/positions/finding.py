"""Finding the layout of a layer's output: lines of elements are followed back, then one element of each position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.engine.graph import Edge
from pellucid.methods.positions.layout import Field, InputShape, Layout
from pellucid.methods.positions.origins import Arrival, Origins

__all__ = ["layout_of"]


class _Places(NamedTuple):
    """For followed elements: which group of places each stands in (-1: none), whose sample, where, which channel.

    Args:
        group: (k,).
        sample: (k, 1).
        axes: (k, most axes of a group).
        channel: (k, 1).
    """

    group: Tensor
    sample: Tensor
    axes: Tensor
    channel: Tensor

    def part(self, which: slice) -> _Places:
        """Some of the elements."""
        return _Places(*(values[which] for values in self))


def layout_of(origins: Origins, edge: Edge, batch: int, inputs: Mapping[str, InputShape]) -> Layout | None:
    """The layout of the value on ``edge``.

    Args:
        origins: of the graph.
        edge: the layer's output.
        batch: number of samples that the graph was recorded with; from two on their dimension shows itself.
        inputs: the explained ones.

    Returns:
        None where it has no positions, or they cannot be followed.
    """
    shape = origins.graph.shape(edge)
    groups = _Groups(origins, edge, batch, inputs)
    lines = _Lines(shape)
    places = groups.places(lines.index)
    if places is None:
        return None
    samples = [d for d in range(len(shape)) if lines.vary(places.group, places.sample, d)]
    samples = [0] if batch == 1 and shape[0] == 1 else samples  # a lone sample varies along none
    positions = [d for d in range(len(shape)) if lines.vary(places.group, places.axes, d)]
    if len(samples) != 1 or not positions or any(lines.vary(places.group, places.channel, d) for d in positions):
        return None  # or positions and channels are folded into one dimension
    split = None
    if samples[0] in positions or shape[samples[0]] != batch:
        split = _split(lines, places, samples[0], shape[samples[0]] // batch, batch)
        if split is None:
            return None  # or every sample has its positions in an order of its own
    features = [d for d in range(len(shape)) if d not in positions and d != samples[0]]
    return _numbered(groups, shape, _Roles(samples[0], positions, features, split), batch)


class _Roles(NamedTuple):
    """What each dimension is; see :class:`Layout`."""

    batch: int
    positions: list[int]
    features: list[int]
    split: tuple[int, int, bool] | None

    def opened(self, shape: Sequence[int], batch: int) -> tuple[list[int], _Roles]:
        """Sizes and roles of the dimensions once samples and positions are apart."""
        if self.split is None:
            return list(shape), self
        dim, count, first = self.split
        sizes = [*shape[:dim], *((batch, count) if first else (count, batch)), *shape[dim + 1 :]]
        here, other = (dim, dim + 1) if first else (dim + 1, dim)
        moved = {d: other if d == dim else d + (d > dim) for d in range(len(shape))}
        positions, features = [moved[d] for d in self.positions], [moved[d] for d in self.features]
        features += [] if dim in self.positions else [other]  # heads
        return sizes, _Roles(here, sorted(positions), sorted(features), self.split)


def _numbered(groups: _Groups, shape: Sequence[int], roles: _Roles, batch: int) -> Layout | None:
    """Follow one element of each position, and put the positions in the order of their grids."""
    sizes, roles = roles.opened(shape, batch)
    strides = [prod(sizes[d + 1 :]) for d in range(len(sizes))]
    index = torch.zeros(1, dtype=torch.long)
    for d in roles.positions:
        index = (index[:, None] + torch.arange(sizes[d]) * strides[d]).reshape(-1)
    channels = [sum(round(share * (sizes[d] - 1)) * strides[d] for d in roles.features) for share in _SHARES]
    places = groups.places((index + torch.tensor(sorted(set(channels)))[:, None]).reshape(-1))
    if places is None:
        return None
    fields: list[Field] = []
    kept: list[Tensor] = []
    for number, group in enumerate(groups.known):
        cells = _cells(places, number, [sizes[d] for d in roles.positions], len(group.axes))
        if cells is None:
            return None
        grid, order = cells
        along = group.inputs(groups.origins, groups.inputs)
        axes = [k for k, size in enumerate(grid) if size > 1 or any(dims[k] is not None for dims in along.values())]
        fields.append(
            Field(
                tuple(grid[k] for k in axes),
                sum(len(one) for one in kept),
                {name: tuple(dims[k] for k in axes) for name, dims in along.items()},
            )
        )
        kept.append(order)
    every = torch.cat(kept)
    whole = len(every) == len(index) and bool((every == torch.arange(len(index))).all())
    return Layout(
        roles.batch,
        tuple(roles.features),
        tuple(roles.positions),
        roles.split,
        None if whole else every,
        tuple(fields),
    )


_SHARES = (0.0, 0.5, 1.0)
"""Where along the other dimensions lines are looked at: what is joined of several parts differs there."""


class _Lines:
    """Elements of a value along each of its dimensions, from its first, middle and last element."""

    def __init__(self, shape: Sequence[int]) -> None:
        strides = [prod(shape[d + 1 :]) for d in range(len(shape))]
        pieces: list[Tensor] = []
        self._parts: dict[int, list[slice]] = {}
        start = 0
        for share in _SHARES:
            base = [round(share * (size - 1)) for size in shape]
            for d, size in enumerate(shape):
                others = sum(
                    place * stride for k, (place, stride) in enumerate(zip(base, strides, strict=True)) if k != d
                )
                pieces.append(others + torch.arange(size) * strides[d])
                self._parts.setdefault(d, []).append(slice(start, start + size))
                start += size
        self.index = torch.cat(pieces)

    def along(self, dim: int) -> list[slice]:
        """Where the lines along a dimension are among all."""
        return self._parts[dim]

    def vary(self, group: Tensor, values: Tensor, dim: int) -> bool:
        """Whether neighbours on a line along ``dim`` differ where both stand somewhere; values (k, coordinates)."""
        return any(_varies(values[part], group[part] >= 0, 0) for part in self._parts[dim])


class _Group:
    """Places of one kind: the results of spatial operations of one size and the same inputs, or one input itself."""

    def __init__(self, arrival: Arrival, axes: tuple[int, ...], frames: int, source: str | None) -> None:
        self.node, self.shape, self.frames, self.source = arrival.node, arrival.shape, frames, source
        self.dims = axes
        self.axes = (0, *axes) if frames > 1 else axes
        """Dimensions that its axes run along; 0 for positions that are folded into the batch."""

    def coordinates(self, arrival: Arrival) -> tuple[Tensor, list[Tensor], Tensor]:
        """The sample of each element, its place along every axis, and its channel."""
        where = torch.unravel_index(arrival.index, arrival.shape)
        frames = [where[0] % self.frames] if self.frames > 1 else []
        channel = torch.zeros_like(arrival.index)
        for d in range(1, len(arrival.shape)):
            if d not in self.dims:
                channel = channel * arrival.shape[d] + where[d]
        return where[0] // self.frames, [*frames, *(where[d] for d in self.dims)], channel

    def inputs(self, origins: Origins, known: Mapping[str, InputShape]) -> dict[str, tuple[int | None, ...]]:
        """For every input that reaches it, the dimension along which each axis runs."""
        return {name: self._along(origins, name, known[name]) for name in sorted(origins.reaches[self.node])}

    def _along(self, origins: Origins, name: str, given: InputShape) -> tuple[int | None, ...]:
        if self.source is not None:
            return tuple(d if d < len(given.shape) else None for d in self.axes)
        steps = [self.shape[d] if d else self.frames for d in self.axes]
        ends = [0, *((size - 1) * prod(self.shape[d + 1 :]) for d, size in zip(self.axes, steps, strict=True))]
        arrival = origins.at_input((self.node, 0), torch.tensor(ends), name)
        if arrival is None:
            return _by_convention(len(self.axes), given)
        where = torch.stack(torch.unravel_index(arrival.index[arrival.elements.argsort()], arrival.shape), 1)
        moved = [(end != where[0]).nonzero()[:, 0].tolist() for end in where[1:]]
        if any(len(dims) != 1 or dims == [0] for dims, size in zip(moved, steps, strict=True) if size > 1):
            return _by_convention(len(self.axes), given)
        found = [dims[0] if dims and dims[0] < len(given.shape) else None for dims in moved]
        usual = _by_convention(len(self.axes), given)
        for axis, size in enumerate(steps):
            if size == 1 and len(given.shape) > len(steps) + 1 and usual[axis] not in found:
                found[axis] = usual[axis]  # nothing moves along it
        return tuple(found)


def _by_convention(axes: int, given: InputShape) -> tuple[int | None, ...]:
    """The axes are the input's last dimensions, as of (N, C, H, W); of ids and of vectors (N, L, E) those after N."""
    if given.ids or len(given.shape) == axes + 1:
        return tuple(range(1, axes + 1))
    return tuple(range(len(given.shape) - axes, len(given.shape)))


class _Groups:
    """The groups of places that elements of one value come from."""

    def __init__(self, origins: Origins, edge: Edge, batch: int, inputs: Mapping[str, InputShape]) -> None:
        self.origins, self.edge, self.batch, self.inputs = origins, edge, batch, inputs
        self.known: list[_Group] = []
        self._numbers: dict[object, int] = {}

    def places(self, index: Tensor) -> _Places | None:
        """Where the elements ``index`` (k,) stand; None where none of them does, or it cannot be told."""
        arrivals = self.origins.nearest(self.edge, index)
        pieces = []
        for arrival in arrivals or ():
            number = self._number(arrival)
            if number is None:
                return None
            pieces.append((number, arrival.elements, *self.known[number].coordinates(arrival)))
        most = max((len(axes) for _, _, _, axes, _ in pieces), default=0)
        if not most:
            return None
        group = torch.full((len(index),), -1)
        sample, channel = (torch.zeros(len(index), 1, dtype=torch.long) for _ in range(2))
        where = torch.zeros(len(index), most, dtype=torch.long)
        for number, elements, samples, axes, channels in pieces:
            group[elements], sample[elements, 0], channel[elements, 0] = number, samples, channels
            for k, along in enumerate(axes):
                where[elements, k] = along
        return _Places(group, sample, where, channel)

    def _number(self, arrival: Arrival) -> int | None:
        source = self.origins.sources.get(arrival.node)
        frames, rest = divmod(arrival.shape[0], self.batch)
        if rest or not frames:
            return None
        same = (arrival.shape[2:], self.origins.reaches[arrival.node]) if source is None else arrival.node
        if same not in self._numbers:
            axes = tuple(range(2, len(arrival.shape))) if source is None else self._axes_of(arrival, source)
            self._numbers[same] = len(self.known)
            self.known.append(_Group(arrival, axes, frames, source))
        return self._numbers[same]

    def _axes_of(self, arrival: Arrival, source: str) -> tuple[int, ...]:
        """The dimensions of an input that are positions."""
        given, ndim = self.inputs[source], len(arrival.shape)
        if given.ids:
            return tuple(range(1, len(given.shape)))
        where = torch.unravel_index(arrival.index, arrival.shape)
        moving = [d for d in range(1, ndim) if bool((where[d] != where[d][0]).any())]
        if any(arrival.shape[d] > 1 and d not in moving for d in range(1, ndim)):
            return tuple(moving)  # the others were mixed into features
        if ndim == 2:
            return (1,) if len(self.origins.graph.shape(self.edge)) > 2 else ()
        return (1,) if ndim == 3 else tuple(range(2, ndim))


def _split(lines: _Lines, places: _Places, dim: int, count: int, batch: int) -> tuple[int, int, bool] | None:
    """How a dimension folds samples and positions together; None where it does not."""
    if count < 2:
        return None
    line = max((places.part(part) for part in lines.along(dim)), key=lambda one: int((one.group >= 0).sum()))
    live, found = line.group >= 0, line.sample[:, 0]
    orders = {True: torch.arange(batch).repeat_interleave(count), False: torch.arange(batch).repeat(count)}
    for first, expected in orders.items():
        if len(expected) == len(found) and bool((found == expected)[live].all()):
            return dim, count, first
    return None


def _varies(values: Tensor, live: Tensor, dim: int) -> bool:
    """Whether neighbours along ``dim`` differ anywhere, where both stand somewhere; values (..., coordinates)."""
    size = live.shape[dim] - 1
    if size < 1:
        return False
    differ = (values.narrow(dim, 1, size) != values.narrow(dim, 0, size)).any(-1)
    return bool((differ & live.narrow(dim, 1, size) & live.narrow(dim, 0, size)).any())


def _cells(places: _Places, group: int, sizes: Sequence[int], axes: int) -> tuple[tuple[int, ...], Tensor] | None:
    """The grid that a group's positions form, and which flattened position is in each of its cells, row by row."""
    mine = (places.group == group).reshape(-1, prod(sizes))  # of each channel looked at
    there = mine.any(0).nonzero()[:, 0]
    where = places.axes.reshape(*mine.shape, -1)[mine[:, there].int().argmax(0), there][:, :axes]
    values = [torch.unique(column, return_inverse=True) for column in where.unbind(1)]
    grid = tuple(len(known) for known, _ in values)
    number = torch.zeros(len(there), dtype=torch.long)
    for known, inverse in values:
        number = number * len(known) + inverse
    if len(there) == prod(grid) and len(torch.unique(number)) == len(there):
        return grid, there[number.argsort()]
    return _as_it_is(where, sizes, grid) if len(there) == prod(sizes) else None


def _as_it_is(where: Tensor, sizes: Sequence[int], grid: Sequence[int]) -> tuple[tuple[int, ...], Tensor] | None:
    """Positions that were repeated on the way, each dimension along one axis: the dimensions are the grid."""
    shaped = where.reshape(*sizes, -1)
    long = [axis for axis, size in enumerate(grid) if size > 1]
    alive = torch.ones(*sizes, dtype=torch.bool)
    along = [[d for d in range(len(sizes)) if _varies(shaped[..., axis : axis + 1], alive, d)] for axis in long]
    if len(long) != len(sizes) or sorted(d for dims in along for d in dims) != list(range(len(sizes))):
        return None
    order = [dims[0] for dims in along]
    whole = [1] * len(grid)
    for axis, d in zip(long, order, strict=True):
        whole[axis] = sizes[d]
    return tuple(whole), torch.arange(prod(sizes)).reshape(*sizes).permute(*order).reshape(-1)
