"""Sums, means, extremes and orders along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def reduce(
    x: Tensor,
    kind: str,
    axes: Sequence[int] | None = None,
    *,
    keepdim: bool = False,
    exclude: bool = False,
    at_least_1d: bool = False,
) -> Tensor:
    """One number for all places along some axes.

    Args:
        kind: ``sum``, ``mean``, ``max``, ``min``, ``prod``, ``l1``, ``l2``, ``logsumexp``, ``logsum``, ``sumsquare``,
            ``var`` or ``std`` (both of the population).
        axes: which; None or empty: all.
        keepdim: keep them with length 1.
        exclude: reduce all but these axes.
        at_least_1d: give shape (1,) where no axis is left.
    """
    chosen = {axis % x.ndim for axis in axes or ()} if x.ndim else set()
    if exclude:
        chosen = set(range(x.ndim)) - chosen if chosen else set()
        if not chosen and axes:
            return x
    dims = tuple(sorted(chosen)) or tuple(range(x.ndim))
    result = _reduced(x, kind, dims, keepdim) if x.ndim else _reduced(x.reshape(1), kind, (0,), False)
    return result.reshape(1) if at_least_1d and not result.ndim else result


def _reduced(x: Tensor, kind: str, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    if kind == "sum":
        return x.sum(dims, keepdim=keepdim, dtype=x.dtype)
    if kind == "mean":
        if x.is_floating_point():
            return x.mean(dims, keepdim=keepdim)
        return x.sum(dims, keepdim=keepdim, dtype=x.dtype) // max(1, math.prod(x.shape[dim] for dim in dims))
    if kind in ("max", "min"):
        return _extreme(x, kind, dims, keepdim)
    if kind == "prod":
        for dim in reversed(dims):
            x = x.prod(dim, keepdim=keepdim, dtype=x.dtype)
        return x
    if kind == "l1":
        return x.abs().sum(dims, keepdim=keepdim, dtype=x.dtype)
    if kind == "sumsquare":
        return (x * x).sum(dims, keepdim=keepdim, dtype=x.dtype)
    if kind == "l2":
        return (x * x).sum(dims, keepdim=keepdim).sqrt()
    if kind == "logsumexp":
        return x.logsumexp(dims, keepdim=keepdim)
    if kind == "logsum":
        return x.sum(dims, keepdim=keepdim).log()
    return getattr(torch, kind)(x, dims, correction=0, keepdim=keepdim)  # type: ignore[no-any-return]


def _extreme(x: Tensor, kind: str, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """Winner takes all where one place wins: a maximum over several axes at once would share among ties."""
    if len(dims) == 1 and x.shape[dims[0]]:
        values: Tensor = getattr(x, kind)(dims[0], keepdim=keepdim).values
        return values
    return x.amax(dims, keepdim=keepdim) if kind == "max" else x.amin(dims, keepdim=keepdim)


def argument(x: Tensor, largest: bool, axis: int | None, keepdim: bool = False, last: bool = False) -> Tensor:
    """The place of the largest or smallest value, the first or the last one of equals; without an axis, of all."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    if last:
        x = x.flip(axis)
    found = x.argmax(axis, keepdim=keepdim) if largest else x.argmin(axis, keepdim=keepdim)
    return x.shape[axis] - 1 - found if last else found


def as_numbers(places: Tensor, like: Tensor) -> Tensor:
    """Places as numbers of the floating type of ``like``, float32 where that has none."""
    return places.to(like.dtype if like.is_floating_point() else torch.float32)


def cumulate(x: Tensor, axis: int | None, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sums along an axis; without one, of the flattened tensor."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    if reverse:
        x = x.flip(axis)
    sums = x.cumsum(axis, dtype=x.dtype)
    if exclusive:
        sums = sums - x
    return sums.flip(axis) if reverse else sums


def top_values(x: Tensor, count: int, axis: int | None, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The ``count`` largest (or smallest) values along an axis in order, and their places; ties in order of place."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    values, places = x.sort(dim=axis, descending=largest, stable=True)
    count = min(count, x.shape[axis]) if count > 0 else x.shape[axis]
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def top_mask(x: Tensor, count: int, axis: int | None, largest: bool = True) -> Tensor:
    """1 where a value is among the ``count`` largest (or smallest), else 0."""
    shape = x.shape
    if axis is None:
        x, axis = x.reshape(-1), 0
    places = top_values(x, count, axis, largest)[1]
    return torch.zeros_like(x).scatter(axis, places, 1.0).reshape(shape)
