"""From a map at a layer to the input: every axis linearly resized, and shared among what lies at one position."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from pellucid.errors import ModelError
from pellucid.methods.positions.layout import Field, InputShape

__all__ = ["brought", "resized", "spread"]


def spread(
    maps: Tensor, field: Field, name: str, given: InputShape, *, shares: bool = False, divided: bool = True
) -> Tensor:
    """A map in the shape of an input: resized along its axes, shared equally among the values at one position.

    Args:
        maps: (N, *grid).
        field: which positions they are.
        name: the input's.
        given: what is known of it.
        shares: keep the sum, not the height: a map of shares of the output.
        divided: False: every value at a position gets all of the map there.

    Returns:
        (N, ...) as the input.

    Raises:
        ModelError: as :func:`brought`.
    """
    result = brought(maps, field, name, given, shares=shares)
    others = prod(given.shape[1:]) // prod(result.shape[1:]) if divided else 1
    return (result / others).expand(len(result), *given.shape[1:]).contiguous()


def brought(maps: Tensor, field: Field, name: str, given: InputShape, *, shares: bool = False) -> Tensor:
    """A map resized along its axes, with 1 for every other dimension of an input; see :func:`spread`.

    Raises:
        ModelError: the axes do not run along dimensions of the input.
    """
    along = field.inputs[name]
    known = [d for d in along if d is not None]
    if not known or len(set(known)) < len(known):
        raise ModelError(
            f"The layer's positions form a grid of {field.grid}, but it is not clear along which dimensions of the "
            f"input {name!r} of shape {tuple(given.shape)} its axes run. Explain the part of the model behind the "
            "operation that rearranges them."
        )
    placed = _placed(maps, along, shares=shares)
    result = resized(placed, [given.shape[d] for d in sorted(known)], shares=shares)
    return result.reshape(len(result), *(size if d in known else 1 for d, size in enumerate(given.shape) if d))


def _placed(maps: Tensor, along: Sequence[int | None], *, shares: bool) -> Tensor:
    """The axes in the order of the input's dimensions; those along which it has no positions are summed or averaged."""
    gone = [axis + 1 for axis, d in enumerate(along) if d is None]
    if gone:
        maps = maps.sum(gone) if shares else maps.mean(gone)
    kept = [d for d in along if d is not None]
    order = sorted(range(len(kept)), key=kept.__getitem__)
    return maps.permute(0, *(axis + 1 for axis in order))


def resized(maps: Tensor, sizes: Sequence[int], *, shares: bool = False) -> Tensor:
    """Maps (N, *grid) linearly resized to (N, *sizes), axis by axis, corners not aligned.

    A larger size is ``torch.nn.functional.interpolate`` in its linear, bilinear or trilinear mode; a smaller one
    averages, with the same weights, over all that falls on a position.

    Args:
        maps: (N, ...).
        sizes: one for each axis.
        shares: keep the sum: every value is distributed, with weights that sum to 1.
    """
    narrow = maps.dtype in (torch.float16, torch.bfloat16)
    result = maps.float() if narrow else maps
    for axis, size in enumerate(sizes, 1):
        if result.shape[axis] != size:
            lines = result.movedim(axis, -1)
            made = _lines_resized(lines.reshape(-1, 1, lines.shape[-1]), size, shares=shares)
            result = made.reshape(*lines.shape[:-1], size).movedim(-1, axis)
    return result.to(maps.dtype) if narrow else result


def _lines_resized(lines: Tensor, size: int, *, shares: bool) -> Tensor:
    """(n, 1, before) to (n, 1, size)."""
    before = lines.shape[-1]
    totals = _transposed(lines.new_ones(1, 1, max(before, size)), min(before, size))
    if size > before:
        lines = lines / totals if shares else lines
        return torch.nn.functional.interpolate(lines, size=size, mode="linear", align_corners=False)
    gathered = _transposed(lines, size)
    return gathered if shares else gathered / totals


def _transposed(lines: Tensor, size: int) -> Tensor:
    """What linear resizing from ``size`` would have read from each position, given what was made of it."""
    back = torch.ops.aten.upsample_linear1d_backward.default
    return back(lines.contiguous(), [lines.shape[-1]], [len(lines), 1, size], False)  # type: ignore[no-any-return]
