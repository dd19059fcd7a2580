"""Resizing along any axes by sampling at computed places (ONNX's Resize)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_TORCH = {3: "linear", 4: "bilinear", 5: "trilinear"}


def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    axes: Sequence[int] | None = None,
    mode: str = "nearest",
    places: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    cubic: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
    outside: float = 0.0,
    policy: str = "stretch",
) -> Tensor:
    """``x`` larger or smaller along axes.

    Args:
        roi: the part of each axis that is taken, all starts before all ends, where ``places`` is
            ``tf_crop_and_resize``.
        scales: factors of the axes.
        sizes: their lengths, instead.
        axes: which; None: all.
        mode: ``nearest``, ``linear`` or ``cubic``.
        places: how a place of the result maps to one of ``x``.
        rounding: how a place becomes the nearest one.
        cubic: the coefficient a of Keys' cubic convolution.
        exclude_outside: whether places outside have no weight; else they hold the values of the edge.
        antialias: whether windows grow where ``x`` shrinks.
        outside: the value outside of the part that is taken.
        policy: whether sizes are those to stretch to, or the largest (``not_larger``) or smallest (``not_smaller``)
            with which all axes keep their proportions.
    """
    chosen = [axis % x.ndim for axis in (range(x.ndim) if axes is None else axes)]
    before = [x.shape[axis] for axis in chosen]
    if sizes is not None and sizes.numel():
        after = [int(size) for size in sizes.tolist()]
        factors = [size / length for size, length in zip(after, before, strict=True)]
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(factors)
            after = [math.floor(factor * length + 0.5) for length in before]
    else:
        assert scales is not None
        factors = [float(f"{factor:.7g}") for factor in scales.tolist()]  # 0.6, not the float32 next to it
        after = [math.floor(length * factor + 1e-6) for length, factor in zip(before, factors, strict=True)]
    cropped = places == "tf_crop_and_resize"
    parts = [(0.0, 1.0)] * len(chosen)
    if cropped and roi is not None:
        half = len(chosen)
        parts = list(zip(roi.tolist()[:half], roi.tolist()[half:], strict=True))
    moving = [k for k in range(len(chosen)) if after[k] != before[k] or cropped or factors[k] != 1.0]
    native = _by_torch(x, [chosen[k] for k in moving], [after[k] for k in moving], [factors[k] for k in moving], mode)
    if native is not None and not antialias and not exclude_outside and cubic == -0.75:
        target, exact = native
        corners = places == "align_corners"
        half_pixel = places == "half_pixel" or (places == "pytorch_half_pixel" and min(target) > 1)
        if corners or (half_pixel and exact):
            kind = "bicubic" if mode == "cubic" else _TORCH[x.ndim]
            return F.interpolate(x, size=target, mode=kind, align_corners=corners)
    for k in moving:
        at = _coordinates(after[k], before[k], factors[k], places, parts[k]).to(x.device)
        if mode == "nearest":
            sampled = x.index_select(chosen[k], _rounded(at, rounding).clamp(0, before[k] - 1))
        else:
            shrink = min(factors[k], 1.0) if antialias else 1.0
            index, weight = _taps(at, before[k], mode, cubic, shrink, exclude_outside, antialias)
            sampled = _weighted(x, chosen[k], index, weight)
        if cropped:
            beyond = (at < 0) | (at > before[k] - 1)
            shape = [-1 if axis == chosen[k] else 1 for axis in range(x.ndim)]
            sampled = sampled.masked_fill(beyond.reshape(shape), outside)
        x = sampled
    return x


def _by_torch(
    x: Tensor, axes: Sequence[int], sizes: Sequence[int], factors: Sequence[float], mode: str
) -> tuple[list[int], bool] | None:
    """The sizes of all spatial axes, and whether the factors fit them exactly, where torch's own can do it."""
    if not axes or min(axes) < 2 or x.ndim not in ((4,) if mode == "cubic" else (3, 4, 5)) or mode == "nearest":
        return None
    target = list(x.shape[2:])
    exact = True
    for axis, size, factor in zip(axes, sizes, factors, strict=True):
        target[axis - 2] = size
        exact = exact and abs(x.shape[axis] * factor - size) < 1e-4
    return target, exact and x.is_floating_point()


def _coordinates(after: int, before: int, factor: float, places: str, part: tuple[float, float]) -> Tensor:
    """For every place of the result its place in the source."""
    index = torch.arange(after, dtype=torch.float64)
    if places == "asymmetric":
        return index / factor
    if places == "align_corners":
        return index * ((before - 1) / (after - 1) if after > 1 else 0.0)
    if places == "tf_crop_and_resize":
        start, end = part
        if after > 1:
            return start * (before - 1) + index * (end - start) * (before - 1) / (after - 1)
        return torch.full_like(index, 0.5 * (start + end) * (before - 1))
    if places == "pytorch_half_pixel" and after == 1:
        return torch.zeros_like(index)
    half = (index + 0.5) / factor - 0.5
    if places == "half_pixel_symmetric":
        return half + before / 2 * (1 - after / (factor * before))
    return half


def _rounded(at: Tensor, rounding: str) -> Tensor:
    if rounding == "floor":
        return at.floor().long()
    if rounding == "ceil":
        return at.ceil().long()
    return ((at - 0.5).ceil() if rounding == "round_prefer_floor" else (at + 0.5).floor()).long()


def _taps(
    at: Tensor, length: int, mode: str, cubic: float, shrink: float, exclude_outside: bool, normalise: bool
) -> tuple[Tensor, Tensor]:
    """Indices and weights (places, taps) of what each place is made of."""
    reach = 1 if mode == "linear" else 2
    start = math.floor(-reach / shrink) + 1
    offsets = torch.arange(start, 2 - start if shrink < 1 else reach + 1, device=at.device)
    index = at.floor().long().unsqueeze(1) + offsets
    distance = (index - at.unsqueeze(1)).abs() * shrink
    curve: Callable[[Tensor], Tensor] = _triangle if mode == "linear" else lambda t: _keys(t, cubic)
    weight = curve(distance)
    if exclude_outside:
        weight = torch.where((index >= 0) & (index < length), weight, 0.0)
    if exclude_outside or normalise:
        weight = weight / weight.sum(1, keepdim=True)
    return index.clamp(0, length - 1), weight


def _triangle(t: Tensor) -> Tensor:
    return (1 - t).clamp(min=0)


def _keys(t: Tensor, a: float) -> Tensor:
    """Keys' kernel of cubic convolution (1981)."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def _weighted(x: Tensor, axis: int, index: Tensor, weight: Tensor) -> Tensor:
    total = None
    shape = [-1 if other == axis else 1 for other in range(x.ndim)]
    for tap in range(index.shape[1]):
        part = x.index_select(axis, index[:, tap]) * weight[:, tap].to(x.dtype).reshape(shape)
        total = part if total is None else total + part
    assert total is not None
    return total
