"""Numbers stored or computed as small whole ones, with a scale and the number that stands for zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.errors import ModelError
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import Family
from pellucid.models.onnx.tensors import HALVES, TYPES, type_of

FAMILY = Family()


@FAMILY.add("DequantizeLinear")
def _dequantize(call: Call, a: Attributes) -> Value:
    """Of known numbers, as weights are, the result is a weight."""
    x, scale, zero = call.input(0), call.input(1), call.optional(2)
    settings: dict[str, Any] = {"axis": a.integer("axis", 1), "block": a.integer("block_size", 0)}
    made = call.apply(dequantize, x, scale, zero, **settings)
    if made.tensor is not None and made.tensor.ndim:
        made.learned = True
    return made


def dequantize(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int) -> Tensor:
    """``(x - zero) * scale``, with one scale for all, for each place of an axis, or for each block of it."""
    scale = _spread(scale, x, axis, block)
    numbers = x.to(scale.dtype)
    return (numbers if zero is None else numbers - _spread(zero, x, axis, block).to(scale.dtype)) * scale


@FAMILY.add("QuantizeLinear")
def _quantize(call: Call, a: Attributes) -> Value:
    """The result stays floating, so that it can be explained: rounding passes relevance on as it is."""
    kind = a.integer("output_dtype", 0)
    dtype = type_of(kind, call.where) if kind else None
    if dtype is not None and (dtype.is_floating_point or kind in HALVES or TYPES[kind] != dtype):
        raise ModelError(f"{call.where} quantises to ONNX's type {kind}, which is not known here.")
    settings: dict[str, Any] = {"axis": a.integer("axis", 1), "block": a.integer("block_size", 0), "dtype": dtype}
    return call.apply(quantize, *(call.optional(index) for index in range(3)), **settings)


def quantize(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int, dtype: torch.dtype | None) -> Tensor:
    """The whole numbers nearest to ``x / scale + zero``, as floating ones; gradients pass the rounding.

    Args:
        dtype: whose range they keep to; None: that of ``zero``, or of bytes.
    """
    steps = x / _spread(scale, x, axis, block)
    whole = steps + (steps.round() - steps).detach()
    moved = whole if zero is None else whole + _spread(zero, x, axis, block).to(whole.dtype)
    limits = torch.iinfo(dtype or (torch.uint8 if zero is None else zero.dtype))
    return moved.clamp(limits.min, limits.max)


def _spread(values: Tensor, like: Tensor, axis: int, block: int) -> Tensor:
    if not values.ndim or values.numel() == 1:
        return values.reshape(())
    if block:
        return values.repeat_interleave(block, axis)
    return values.reshape([-1 if place == axis % like.ndim else 1 for place in range(like.ndim)])
