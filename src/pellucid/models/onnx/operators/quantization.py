"""Numbers stored or computed as small whole ones, with a scale and the number that stands for zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.errors import ModelError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.onnx.operators.windows import padded, windows_of
from pellucid.models.onnx.tensors import HALVES, TYPES, type_of

FAMILY = family()


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


@FAMILY.plain("DynamicQuantizeLinear")
def _dynamic(call: Call) -> list[Value]:
    return call.apply_many(quantize_dynamic, call.input(0), outputs=3)


def quantize_dynamic(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bytes as floating numbers, with the scale and the zero that fit the range of ``x``."""
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).round().clamp(0, 255).to(torch.uint8)
    return quantize(x, scale, zero, 1, 0, torch.uint8), scale, zero


@FAMILY.plain("MatMulInteger")
def _product(call: Call) -> Value:
    return call.apply(product, *(call.optional(index) for index in range(4)))


def product(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """The product of whole numbers less their zeros: of rows of the first, of columns of the second."""
    return _less(a, a_zero, -2) @ _less(b, b_zero, -1)


def _less(x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Whole numbers less what stands for zero, in a type in which products can be explained."""
    numbers = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if zero is None:
        return numbers
    moved = zero.to(numbers.dtype)
    return numbers - (moved.unsqueeze(-1) if moved.ndim and axis == -2 else moved)


@FAMILY.add("ConvInteger")
def _convolved(call: Call, a: Attributes) -> Value:
    weight = call.input(1)
    kernel = a.integers("kernel_shape") or (None if weight.tensor is None else tuple(weight.tensor.shape[2:]))
    zeros = [call.optional(2), call.optional(3)]
    x = call.apply(shifted, call.input(0), zeros[0], label="input")
    kernels = call.apply(shifted, weight, zeros[1], label="weight")
    w = windows_of(call, a, kernel)
    x, padding = padded(call, x, w)
    return layers.convolution(
        call,
        x,
        kernels,
        None,
        stride=w.stride,
        padding=padding,
        dilation=w.dilation,
        groups=a.integer("group", 1),
    )


def shifted(x: Tensor, zero: Tensor | None) -> Tensor:
    """Whole numbers as floating ones, less what stands for zero."""
    if zero is not None and zero.ndim and zero.numel() > 1:
        zero = zero.reshape(-1, *(1,) * (x.ndim - 1))
    return _less(x, zero, -1)


@FAMILY.plain("QLinearMatMul")
def _linear_product(call: Call) -> Value:
    """Both factors in floating numbers, their product in whole ones again."""
    a, b = (
        call.apply(dequantize_along, *(call.input(3 * k + j) for j in range(3)), axis=axis, label=f"factor_{k}")
        for k, axis in ((0, -2), (1, -1))
    )
    made = call.apply(torch.matmul, a, b, label="product")
    return call.apply(quantize, made, call.input(6), call.input(7), axis=-2, block=0, dtype=None)


def dequantize_along(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """``(x - zero) * scale``, with one of them for all or for each place of an axis."""
    return dequantize(x.to(scale.dtype), scale, zero.to(scale.dtype), axis, 0)


@FAMILY.add("QLinearConv")
def _linear_convolution(call: Call, a: Attributes) -> Value:
    """Input and kernels in floating numbers, their convolution in whole ones again."""
    weight = call.input(3)
    kernel = a.integers("kernel_shape") or (None if weight.tensor is None else tuple(weight.tensor.shape[2:]))
    plain = call.apply(dequantize_along, *(call.input(k) for k in range(3)), axis=1, label="input")
    kernels = call.apply(dequantize_along, *(call.input(k) for k in range(3, 6)), axis=0, label="weight")
    bias = call.optional(8)
    if bias is not None:
        bias = call.apply(scaled_bias, bias, call.input(1), call.input(4), label="bias")
    w = windows_of(call, a, kernel)
    x, padding = padded(call, plain, w)
    made = layers.convolution(
        call,
        x,
        kernels,
        bias,
        stride=w.stride,
        padding=padding,
        dilation=w.dilation,
        groups=a.integer("group", 1),
        label="convolution",
    )
    return call.apply(quantize, made, call.input(6), call.input(7), axis=1, block=0, dtype=None)


def scaled_bias(bias: Tensor, scale: Tensor, weight_scale: Tensor) -> Tensor:
    """A bias that counts in steps of both scales' product."""
    return bias.to(scale.dtype) * (scale * weight_scale)
