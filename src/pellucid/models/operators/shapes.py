"""Reshaping, slicing, joining and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` in another shape; one length may be -1."""
    return x.reshape(tuple(shape))


def flatten(x: Tensor, axis: int = 1) -> Tensor:
    """Two axes: all before ``axis`` as one, and all from it on (from the end where negative)."""
    kept = x.shape[:axis]
    return x.reshape(math.prod(kept), -1) if x.numel() else x.reshape(math.prod(kept), math.prod(x.shape[axis:]))


def concat(*parts: Tensor, dim: int) -> Tensor:
    """Joined along an axis that there is."""
    return torch.cat(parts, dim)


def stack(*parts: Tensor, dim: int) -> Tensor:
    """Joined along an axis that there was not."""
    return torch.stack(parts, dim)


def transpose(x: Tensor, axes: Sequence[int] = ()) -> Tensor:
    """Axes in another order; without ``axes`` in reverse order."""
    return x.permute(tuple(axes) or tuple(reversed(range(x.ndim))))


def squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Without the axes of length 1 that are named, or without all of them."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    """With new axes of length 1, at these places of the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def strided_slice(
    x: Tensor,
    begin: Sequence[int | None],
    end: Sequence[int | None],
    step: Sequence[int | None] = (),
    axes: Sequence[int] | None = None,
) -> Tensor:
    """What Python's ``x[begin:end:step, ...]`` means, steps backwards included."""
    for place, axis in enumerate(range(len(begin)) if axes is None else axes):
        stride = (step[place] if place < len(step) else None) or 1
        start, stop, _ = slice(begin[place], end[place], stride).indices(x.shape[axis])
        if stride < 0:
            length = len(range(start, stop, stride))
            x, start, stride = x.flip(axis), x.shape[axis] - 1 - start, -stride
            stop = start + length * stride
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, max(start, stop), stride),)]
    return x


def slice_axis(x: Tensor, axis: int, begin: int, end: int | None) -> Tensor:
    """A range of one axis."""
    return strided_slice(x, (begin,), (end,), axes=(axis,))


def slice_like(x: Tensor, like: Tensor, axes: Sequence[int] = ()) -> Tensor:
    """``x`` cut at its ends to the lengths of ``like``, on these axes or on all."""
    for axis in axes or range(x.ndim):
        x = x.narrow(axis, 0, like.shape[axis])
    return x


def crop(x: Tensor, like: Tensor | None, size: Sequence[int], offset: Sequence[int], center: bool) -> Tensor:
    """A window of an image (N, C, H, W), of a given size or of that of ``like``."""
    rows, columns = size if like is None else like.shape[2:]
    top, left = ((x.shape[2] - rows) // 2, (x.shape[3] - columns) // 2) if center else offset
    return x.narrow(2, top, rows).narrow(3, left, columns)


def split_even(x: Tensor, parts: int, axis: int, squeeze: bool = False) -> tuple[Tensor, ...]:
    """Equal parts along an axis; with ``squeeze`` without that axis, whose length must then be ``parts``."""
    if squeeze:
        return x.unbind(axis)
    return torch.split(x, x.shape[axis] // parts, axis)


def split_at(x: Tensor, starts: Sequence[int], axis: int, squeeze: bool = False) -> tuple[Tensor, ...]:
    """Parts that begin at 0 and at ``starts``."""
    bounds = [0, *starts, x.shape[axis]]
    lengths = [end - begin for begin, end in pairwise(bounds)]
    parts = torch.split(x, lengths, axis)
    return tuple(part.squeeze(axis) for part in parts) if squeeze else parts


def repeat(x: Tensor, repeats: int, axis: int | None = None) -> Tensor:
    """Every element several times in a row; without an axis, of the flattened tensor."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis %= x.ndim
    spread = x.unsqueeze(axis + 1).expand(*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])
    return spread.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


def tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    """The whole several times along each axis."""
    return x.tile(tuple(repeats))


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` in a shape that it broadcasts to; 0 keeps a length."""
    kept = (*(1,) * (len(shape) - x.ndim), *x.shape)
    return x.expand(tuple(length or own for length, own in zip(shape, kept, strict=True)))


def broadcast_axes(x: Tensor, axes: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Axes of length 1 stretched to these lengths."""
    shape = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return x.expand(tuple(shape))


def broadcast_like(
    x: Tensor, like: Tensor, axes: Sequence[int] | None = None, like_axes: Sequence[int] | None = None
) -> Tensor:
    """``x`` stretched to the shape of ``like``, or on some axes to the lengths of some of ``like``."""
    if axes is None or like_axes is None:
        return x.expand(like.shape)
    return broadcast_axes(x, axes, [like.shape[axis] for axis in like_axes])


def reshape_like(
    x: Tensor,
    like: Tensor,
    begin: int | None = None,
    end: int | None = None,
    like_begin: int | None = None,
    like_end: int | None = None,
) -> Tensor:
    """``x`` with the axes ``begin:end`` in the shape of ``like``'s axes ``like_begin:like_end``."""
    taken = range(x.ndim)[begin:end]
    first = taken.start if len(taken) else slice(begin, end).indices(x.ndim)[0]
    return x.reshape(*x.shape[:first], *like.shape[like_begin:like_end], *x.shape[first + len(taken) :])


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Wider on both sides of every axis; negative widths cut.

    Args:
        before: one width an axis, from the first axis on.
        after: likewise.
        mode: ``constant`` (``value``), ``reflect`` (without the edge itself), ``replicate`` or ``circular``.
        value: what is filled in.
    """
    widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    if mode == "constant":
        return F.pad(x, widths, value=value)
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        if left or right:
            x = x.index_select(axis, _mirrored(x.shape[axis], left, right, mode).to(x.device))
    return x


def _mirrored(length: int, before: int, after: int, mode: str) -> Tensor:
    """For every place of the padded axis the place that it copies."""
    places = torch.arange(-before, length + after)
    if mode == "replicate":
        return places.clamp(0, length - 1)
    if mode == "circular":
        return places % length
    period = max(2 * (length - 1), 1)
    places = places % period
    return torch.where(places < length, places, period - places)


def depth_to_space(x: Tensor, block: int, columns_first: bool = False) -> Tensor:
    """Channels (N, C, H, W) moved to blocks of pixels; the blocks' places count first or last among the channels."""
    n, c, h, w = x.shape
    depth = c // block**2
    if columns_first:
        parts = x.reshape(n, depth, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(n, block, block, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, depth, h * block, w * block)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Blocks of pixels (N, C, H, W) moved to channels, the blocks' places counting first."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)
