"""Features: what perturbation methods take away together, numbered across all explained inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from pellucid.engine.point import Kind, Point
from pellucid.errors import InputError
from pellucid.methods.superpixels import superpixels
from pellucid.methods.words import words_at

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Features", "Parts", "features_at", "has_positions", "position_axes"]

_FORM = re.compile(r"(pixels|tokens|columns|channels|elements|patches|superpixels)(?::(\d+(?:x\d+)*))?")
_WORDS = re.compile(r"words(?::([1-9]\d*))?")
_SHARED_BY_KIND = "pixels, patches:16, patches:4x8, superpixels:60, tokens, words, columns, channels, elements"


class Parts(Protocol):
    """Whatever has scores."""

    @property
    def sizes(self) -> Tensor:
        """(N, F), how many values belong to each; 0 for one that a sample does not have."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parts, where the user named them."""

    @property
    def told(self) -> bool:
        """Whether details tell their scores."""

    def spread(self, scores: Tensor, points: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
        """(N, F) scores in the shape of the value at every point."""

    def tables(self) -> dict[str, Tensor]:
        """Where the parts are, as details."""


@dataclass(frozen=True)
class Features:
    """Which feature every value belongs to.

    Args:
        maps: by point, (N, ...) or (1, ...) where all samples share it, of as many dimensions as the value there and
            broadcastable to it; int64 numbers from 0 on, -1 for what is never taken away.
        sizes: (N, F), how many values belong to each; 0 for a feature that a sample does not have.
        names: of the features, where the user named them.
        told: whether details tell their scores; not where every position is one, which the relevance shows.
    """

    maps: Mapping[Point, Tensor]
    sizes: Tensor
    names: tuple[str, ...] = ()
    told: bool = True

    @property
    def count(self) -> int:
        """The largest number of features that a sample has."""
        return self.sizes.shape[1]

    def spread(self, scores: Tensor, points: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
        """(N, F) scores over the values at every point, equally within a feature, so that sums are kept."""
        each = torch.where(self.sizes > 0, scores / self.sizes.clamp(min=1), 0.0)
        each = torch.cat([each, torch.zeros_like(each[:, :1])], 1)  # where -1 looks
        found = {}
        for point, value in points.items():
            numbers = self.maps[point].expand(len(value), *self.maps[point].shape[1:]).flatten(1) % each.shape[1]
            part = each.gather(1, numbers).reshape(len(value), *self.maps[point].shape[1:])
            found[point] = part.to(value.dtype).expand_as(value).clone(memory_format=torch.contiguous_format)
        return found

    def tables(self) -> dict[str, Tensor]:
        """The maps as details: (N, ...), broadcastable to the relevance of the input; of token ids (N, L)."""
        found = {
            point.name: (numbers.squeeze(-1) if point.kind is Kind.LOOK_UP else numbers).to(torch.int32)
            for point, numbers in self.maps.items()
        }
        return {
            "feature map" if len(found) == 1 else f"feature map of {name}": numbers.repeat(
                len(self.sizes) // len(numbers), *[1] * (numbers.ndim - 1)
            )
            for name, numbers in found.items()
        }


def features_at(
    call: Call, points: Mapping[Point, Tensor], spec: Any = None, *, patches: int = 196, caller: str
) -> Features:
    """The features at ``points`` as a setting ``features=`` means them.

    Args:
        call: what is explained.
        points: with their values, (N, ...).
        spec: None: by the shape of each value: of pictures, volumes and series patches of positions, all channels
            together; of token ids and sequences of vectors the tokens; of tables the columns; of a layer's output its
            channels or units. Or a form: "pixels", "patches:16", "patches:4x8", "superpixels:60", "tokens", "tokens:3",
            "words" (tokens joined as the tokenizer of a LoadedModel writes them), "columns" (the last dimension),
            "channels" (the second), "elements". Or whole numbers that broadcast to a sample or to all samples, a tensor
            or lists, one for each group, -1 or None for what is never taken away: ``encoding.word_ids(0)`` of a
            tokenizer gives words. Or named groups: for each name a boolean mask that broadcasts to a sample, or places
            along the second dimension. Or one of all these for every input by name (and for layers by theirs), or a
            list of them, one for each of several inputs.
        patches: about how many patches the default makes.
        caller: the method, for errors.

    Raises:
        InputError: it means nothing here, or fits no shape. MissingDependencyError: superpixels need scikit-image.
    """
    owners = list(dict.fromkeys(_owner(point) for point in points))  # look-ups of the same ids are one input
    values = {owner: next(value for point, value in points.items() if _owner(point) == owner) for owner in owners}
    specs = {
        owner: _in_numbers(call, owner, values[owner], one) for owner, one in _per_owner(call, spec, owners).items()
    }
    named = [one for one in specs.values() if isinstance(one, Mapping)]
    if named:
        maps, names = _grouped({k: v for k, v in specs.items() if isinstance(v, Mapping)}, values)
    else:
        maps, names = {}, ()
    given = {owner: one for owner, one in specs.items() if isinstance(one, Tensor)}
    maps |= _numbered(given, values, first=len(names))
    for owner, value in values.items():
        if owner not in maps:
            local = _formed(call, owner, value, specs[owner], patches, caller)
            maps[owner] = _after(local, list(maps.values()))
    at = {point: maps[_owner(point)] for point in points}
    sizes = _sizes(at, points)
    if not bool((sizes > 0).any()):
        raise InputError(f"features= leaves nothing to take away at {', '.join(map(str, points))}.")
    return Features(at, sizes, names)


def position_axes(point: Point, ndim: int) -> list[int]:
    """The dimensions along which positions run: all but samples and channels."""
    return [1] if point.kind is Kind.LOOK_UP or ndim == 2 else list(range(2, ndim))


def has_positions(call: Call, point: Point, value: Tensor) -> bool:
    """Whether a value is a series, picture or volume (N, C, ...), at whose positions neighbours are alike."""
    return point.kind is not Kind.LOOK_UP and (value.ndim > 3 or (value.ndim == 3 and _channels_first(call, value)))


def _owner(point: Point) -> Point:
    return Point(point.kind, point.name)


def _per_owner(call: Call, spec: Any, owners: Sequence[Point]) -> dict[Point, Any]:
    """The setting of each input or layer."""
    layer = all(owner.kind is Kind.LAYER for owner in owners)
    if isinstance(spec, Mapping) and spec:
        keys = set(map(str, spec))
        places = {*call.prepared.values, *call.layers}
        settings = all(_is_setting(value) for value in spec.values())
        unknown = sorted(keys - places - set(call.shadow.modules)) if settings else []
        if unknown:
            raise InputError(
                f"features= names {unknown[0]!r}, which is no input or layer. The inputs are: "
                f"{', '.join(call.prepared.values)}. A named group is a boolean mask, or a list of places."
            )
        if settings or keys <= places:
            return {owner: spec.get(owner.name) for owner in owners}
    if layer:
        return dict.fromkeys(owners, None)  # a setting that does not name the layer is for the inputs
    if isinstance(spec, (tuple, list)) and (len(owners) > 1 or not _are_numbers(spec)):
        if len(spec) != len(owners):
            raise InputError(f"features= lists {len(spec)} settings for {len(owners)} explained inputs.")
        return dict(zip(owners, spec, strict=True))
    return dict.fromkeys(owners, spec)


def _is_setting(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, Tensor) and value.dtype != torch.bool)


def _are_numbers(spec: Any) -> bool:
    """Whether nested lists hold whole numbers, and None, alone."""
    if isinstance(spec, (tuple, list)):
        return bool(spec) and all(map(_are_numbers, spec))
    return spec is None or (isinstance(spec, int) and not isinstance(spec, bool))


def _in_numbers(call: Call, owner: Point, value: Tensor, spec: Any) -> Any:
    """Group numbers as a tensor, where the setting is words or lists of numbers; else the setting."""
    match = _WORDS.fullmatch(spec.strip().lower()) if isinstance(spec, str) else None
    if match is not None:
        numbers = words_at(call, owner, value)
        together = torch.where(numbers < 0, -1, numbers // int(match[1] or 1))
        return together if owner.kind is Kind.LOOK_UP else together.reshape(*together.shape, *[1] * (value.ndim - 2))
    if not isinstance(spec, (tuple, list)) or not _are_numbers(spec):
        return spec
    try:
        return torch.tensor(_filled(spec), dtype=torch.int64)
    except ValueError as error:
        raise InputError(f"The lists of numbers in features= for the {owner} must be equally long.") from error


def _filled(spec: Any) -> Any:
    if isinstance(spec, (tuple, list)):
        return [_filled(part) for part in spec]
    return -1 if spec is None else spec


def _formed(call: Call, owner: Point, value: Tensor, spec: Any, patches: int, caller: str) -> Tensor:
    """The map of a form in words, numbered from 0."""
    if spec is None:
        return _default(call, owner, value, patches)
    match = _FORM.fullmatch(spec.strip().lower()) if isinstance(spec, str) else None
    if match is None:
        raise InputError(
            f"No features are called {spec!r}. Expected one of: {_SHARED_BY_KIND}; or a tensor of group numbers, or "
            "named groups."
        )
    kind, numbers = match[1], [int(number) for number in (match[2] or "").split("x") if number]
    axes = position_axes(owner, value.ndim)
    if kind == "superpixels":
        return superpixels(value, axes, *(numbers or [60])[:1], caller=caller)
    sizes = numbers or ([1] if kind == "pixels" else [])
    if kind in ("tokens", "channels"):
        axes, sizes = [1], numbers or [1]
    elif kind == "columns":
        axes, sizes = [value.ndim - 1], numbers or [1]
    elif kind == "elements":
        axes, sizes = list(range(1, value.ndim)), numbers or [1]
    if (value.ndim < 2 and kind != "elements") or not sizes or 0 in sizes or len(sizes) not in (1, len(axes)):
        raise InputError(
            f"features={spec!r} does not fit the {owner} of shape {tuple(value.shape)}, which has "
            f"{len(axes) if value.ndim > 1 else 0} dimensions of positions. Give one size for all, or one for each."
        )
    return _grid(value, axes, sizes * len(axes) if len(sizes) == 1 else sizes)


def _default(call: Call, owner: Point, value: Tensor, patches: int) -> Tensor:
    ndim = value.ndim
    if ndim <= 2:
        return _grid(value, list(range(1, ndim)), [1] * (ndim - 1))
    if owner.kind is Kind.LOOK_UP:
        return _grid(value, [1], [1])
    if owner.kind is Kind.LAYER:
        return _grid(value, [1] if ndim > 3 or _channels_first(call, value) else [ndim - 1], [1])
    if not has_positions(call, owner, value):
        return _grid(value, [1], [1])
    axes = position_axes(owner, ndim)
    cells = torch.tensor([value.shape[axis] for axis in axes], dtype=torch.float64).prod().item() / patches
    return _grid(value, axes, [max(1, round(cells ** (1 / len(axes))))] * len(axes))


def _channels_first(call: Call, value: Tensor) -> bool:
    """Whether (N, A, B) is a series with its channels first: a 1-D layer of the model takes or makes A channels."""
    if value.shape[1] == 1:
        return True
    layers = (part for part in call.shadow.module.modules() if type(part).__name__.endswith("1d"))
    return any(
        value.shape[1] in (getattr(part, name, None) for name in ("in_channels", "out_channels", "num_features"))
        for part in layers
    )


def _grid(value: Tensor, axes: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Blocks of ``sizes`` along ``axes``, everything along other dimensions together."""
    numbers = torch.zeros([1] * value.ndim, dtype=torch.int64, device=value.device)
    for axis, size in zip(axes, sizes, strict=True):
        along = torch.arange(value.shape[axis], device=value.device) // size
        numbers = numbers * int(along[-1] + 1) + along.view([-1 if k == axis else 1 for k in range(value.ndim)])
    return numbers


def _frame(owner: Point, value: Tensor) -> tuple[int, ...]:
    """The shape that users see: of ids without the features of their vectors."""
    return tuple(value.shape[:2]) if owner.kind is Kind.LOOK_UP else tuple(value.shape)


def _fitted(owner: Point, value: Tensor, given: Tensor) -> Tensor:
    """A user's tensor with the dimensions of the value."""
    shape = _frame(owner, value)
    found = given.detach().to(value.device)
    found = found if found.ndim == len(shape) else found.unsqueeze(0)
    found = found.reshape(*found.shape[:1], *[1] * (len(shape) - found.ndim), *found.shape[1:])
    fits = found.ndim == len(shape) and all(a in (1, b) for a, b in zip(found.shape, shape, strict=True))
    if not fits:
        raise InputError(
            f"The features of the {owner} must broadcast to a sample of shape {shape[1:]}, or to the whole {shape}; "
            f"got {tuple(given.shape)}."
        )
    return found.unsqueeze(-1) if owner.kind is Kind.LOOK_UP else found


def _numbered(given: Mapping[Point, Tensor], values: Mapping[Point, Tensor], *, first: int) -> dict[Point, Tensor]:
    """Maps of numbers that users gave: the same number is the same feature, also in another input."""
    for owner, numbers in given.items():
        if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
            raise InputError(f"The features of the {owner} must be whole numbers, got {numbers.dtype}.")
    if not given:
        return {}
    every = torch.unique(torch.cat([numbers.reshape(-1).cpu().long() for numbers in given.values()]))
    every = every[every >= 0]
    found = {}
    for owner, numbers in given.items():
        fitted = _fitted(owner, values[owner], numbers).long()
        places = torch.searchsorted(every.to(fitted.device), fitted.contiguous()) + first
        found[owner] = torch.where(fitted < 0, -1, places)
    return found


def _grouped(
    specs: Mapping[Point, Mapping[str, Any]], values: Mapping[Point, Tensor]
) -> tuple[dict[Point, Tensor], tuple[str, ...]]:
    """Maps of named groups; what is in none is never taken away."""
    names = tuple(dict.fromkeys(str(name) for groups in specs.values() for name in groups))
    if not names:
        raise InputError("features= is an empty dict: expected at least one named group.")
    found = {}
    for owner, groups in specs.items():
        numbers = torch.full((1, *_frame(owner, values[owner])[1:]), -1, device=values[owner].device)
        for name, group in groups.items():
            member = group.get(owner.name) if isinstance(group, Mapping) else group
            if member is None:
                continue
            inside = _member(owner, values[owner], str(name), member)
            if bool((inside & (numbers >= 0)).any()):
                raise InputError(f"The group {str(name)!r} of features= overlaps another: every value has one feature.")
            numbers = torch.where(inside, names.index(str(name)), numbers)
        found[owner] = numbers.unsqueeze(-1) if owner.kind is Kind.LOOK_UP else numbers
    return found, names


def _member(owner: Point, value: Tensor, name: str, group: Any) -> Tensor:
    """A boolean mask, with the dimensions that users see, of a group's values."""
    shape = _frame(owner, value)
    try:
        chosen = torch.as_tensor(group)
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.empty(0)
    if chosen.dtype == torch.bool:
        mask = _fitted(owner, value, chosen)
        return mask.squeeze(-1) if owner.kind is Kind.LOOK_UP else mask
    chosen = chosen.reshape(-1).cpu()
    if chosen.is_floating_point() or chosen.is_complex():
        raise InputError(
            f"The group {name!r} of features= must be a boolean mask or places along the second dimension, got "
            f"{group!r}."
        )
    if len(shape) < 2 or bool((chosen >= shape[1]).any() | (chosen < -shape[1]).any()):
        raise InputError(
            f"The group {name!r} of features= has places {chosen.tolist()} outside the {owner} of shape {shape}."
        )
    mask = torch.zeros(shape[1], dtype=torch.bool)
    mask[chosen] = True
    return mask.to(value.device).view(1, -1, *[1] * (len(shape) - 2))


def _after(local: Tensor, others: Sequence[Tensor]) -> Tensor:
    """The same map with numbers that go on after those of ``others``, sample by sample."""
    if not others:
        return local
    most = [numbers.flatten(1).amax(1) for numbers in others]
    start = most[0]
    for other in most[1:]:
        start = torch.maximum(start, other)
    start = (start + 1).view(-1, *[1] * (local.ndim - 1))
    return torch.where(local < 0, -1, local + start)


def _sizes(maps: Mapping[Point, Tensor], points: Mapping[Point, Tensor]) -> Tensor:
    batch = len(next(iter(points.values())))
    device = next(iter(points.values())).device
    count = max(int(numbers.max()) for numbers in maps.values()) + 1
    sizes = torch.zeros(batch, count + 1, dtype=torch.float64, device=device)
    for point, numbers in maps.items():
        each = points[point][0].numel() // numbers[0].numel()  # values that share a place of the map
        places = numbers.expand(batch, *numbers.shape[1:]).flatten(1) % (count + 1)
        sizes.scatter_add_(1, places, torch.full_like(places, each, dtype=torch.float64))
    return sizes[:, :count]
