"""Types of numbers, and tensors made of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family, numbers
from pellucid.models.onnx.tensors import type_of
from pellucid.models.operators.constants import ToFloating, to_type

FAMILY = family()


@FAMILY.add("Cast")
def _cast(call: Call, a: Attributes) -> Value:
    return _to(call, type_of(a.integer("to", 1), call.where))


def _to(call: Call, dtype: torch.dtype) -> Value:
    """In another type; all floating types are one, that in which the model computes."""
    x = call.input(0)
    if not dtype.is_floating_point:
        return call.apply(to_type, x, dtype=dtype)
    if x.tensor is None:
        return call.layer(ToFloating, x)
    return x if x.tensor.is_floating_point() else call.apply(to_type, x, dtype=torch.float32)


@FAMILY.plain("CastLike")
def _cast_like(call: Call) -> Value:
    return call.apply(cast_like, call.input(0), call.input(1))


def cast_like(x: Tensor, like: Tensor) -> Tensor:
    """``x`` in the type of another tensor."""
    return x.to(like.dtype)


@FAMILY.add("ConstantOfShape")
def _full(call: Call, a: Attributes) -> Value:
    """The number becomes a buffer, so that its type follows that of the model."""
    value = a.tensor("value")
    filled = Value(f"{call.node.name}_value", torch.zeros(()) if value is None else value.reshape(()))
    shape = numbers(call, 0)
    if shape is None:
        return call.apply(full_live, call.input(0), filled)
    return call.apply(full, filled, shape=shape)


def full(value: Tensor, shape: Sequence[int]) -> Tensor:
    """One number everywhere."""
    return value.expand(tuple(shape)).clone()


def full_live(shape: Tensor, value: Tensor) -> Tensor:
    """See :func:`full`."""
    return full(value, shape.tolist())


@FAMILY.plain("Range")
def _range(call: Call) -> Value:
    values = [call.input(index) for index in range(3)]
    if all(value.tensor is not None for value in values):
        start, stop, step = (call.known(index).item() for index in range(3))
        return call.apply(arange, start=start, stop=stop, step=step, dtype=call.known(0).dtype)
    return call.apply(arange_live, *values)


def arange(start: float, stop: float, step: float, dtype: torch.dtype) -> Tensor:
    """Numbers from ``start`` up to and without ``stop``."""
    return torch.arange(start, stop, step, dtype=dtype)


def arange_live(start: Tensor, stop: Tensor, step: Tensor) -> Tensor:
    """See :func:`arange`."""
    return torch.arange(start.item(), stop.item(), step.item(), dtype=start.dtype, device=start.device)


@FAMILY.add("OneHot")
def _one_hot(call: Call, a: Attributes) -> Value:
    axis, depth = a.integer("axis", -1), numbers(call, 1)
    if depth is None:
        return call.apply(one_hot_live, call.input(0), call.input(1), call.input(2), axis=axis)
    return call.apply(one_hot, call.input(0), call.input(2), depth=depth[0], axis=axis)


def one_hot(indices: Tensor, values: Tensor, depth: int, axis: int) -> Tensor:
    """On the axis that is added, the second value at each index, the first one elsewhere (everywhere if outside)."""
    places = torch.arange(depth, device=indices.device)
    ids = indices.long()
    hot = torch.where(ids < 0, ids + depth, ids).unsqueeze(-1) == places
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


def one_hot_live(indices: Tensor, depth: Tensor, values: Tensor, axis: int) -> Tensor:
    """See :func:`one_hot`."""
    return one_hot(indices, values, int(depth), axis)


@FAMILY.add("EyeLike")
def _eye(call: Call, a: Attributes) -> Value:
    kind = a.integer("dtype")
    dtype = None if kind is None else type_of(kind, call.where)
    floating = dtype is not None and dtype.is_floating_point
    return call.apply(eye_like, call.input(0), diagonal=a.integer("k", 0), dtype=torch.float32 if floating else dtype)


def eye_like(x: Tensor, diagonal: int, dtype: torch.dtype | None) -> Tensor:
    """1 on a diagonal, 0 elsewhere, in the shape of ``x``."""
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return (torch.arange(x.shape[1], device=x.device) - rows == diagonal).to(dtype or x.dtype)


@FAMILY.add("HannWindow HammingWindow BlackmanWindow")
def _window(call: Call, a: Attributes) -> Value:
    shares = {
        "HannWindow": (0.5, 0.5, 0.0),
        "HammingWindow": (25 / 46, 21 / 46, 0.0),
        "BlackmanWindow": (0.42, 0.5, 0.08),
    }
    return call.apply(window, call.input(0), shares=shares[call.node.op], periodic=a.flag("periodic", True))


def window(size: Tensor, shares: tuple[float, float, float], periodic: bool) -> Tensor:
    """A window of a constant and two cosines."""
    length = int(size)
    angle = torch.arange(length, device=size.device) * (2 * torch.pi / (length if periodic else max(length - 1, 1)))
    return shares[0] - shares[1] * angle.cos() + shares[2] * (2 * angle).cos()


def nonzero(x: Tensor) -> Tensor:
    """The coordinates of what is not 0, one axis a row."""
    return torch.nonzero(x).t()


FAMILY.same("NonZero", layers.function(nonzero))
