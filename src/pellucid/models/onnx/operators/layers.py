"""Layers with weights: convolutions, dense layers, embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import FileError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call, as_parameter
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.onnx.operators.windows import padded, windows_of
from pellucid.models.operators.arithmetic import gemm, multiply_scalar
from pellucid.models.operators.indexing import take
from pellucid.models.operators.windows import crop_to, crop_to_shape

FAMILY = family()


class Embedding(nn.Embedding):
    """Looks up rows by whole numbers; negative ones count from the end, as in ONNX."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) from indices (...)."""
        ids = input.long()
        return F.embedding(torch.where(ids < 0, ids + self.num_embeddings, ids), self.weight)


@FAMILY.add("Conv")
def _convolution(call: Call, a: Attributes) -> Value:
    weight = call.input(1)
    w = windows_of(call, a, _kernel(call, a, weight))
    x, padding = padded(call, call.input(0), w)
    return layers.convolution(
        call,
        x,
        weight,
        call.optional(2),
        stride=w.stride,
        padding=padding,
        dilation=w.dilation,
        groups=a.integer("group", 1),
    )


@FAMILY.add("ConvTranspose")
def _transposed(call: Call, a: Attributes) -> Value:
    """Where padding differs at both ends, or follows from the size of the result, the full result is cut."""
    weight = call.input(1)
    kernel = _kernel(call, a, weight)
    w = windows_of(call, a, kernel)
    axes = len(w.kernel)
    added = a.integers("output_padding") or (0,) * axes
    target = a.integers("output_shape")
    auto = a.text("auto_pad", "NOTSET")
    target = None if target is None else target[-axes:]
    sized = target is not None or auto.startswith("SAME")
    plain = not sized and w.symmetric
    made = layers.convolution(
        call,
        call.input(0),
        weight,
        call.optional(2),
        stride=w.stride,
        padding=w.before if plain else (0,) * axes,
        dilation=w.dilation,
        groups=a.integer("group", 1),
        transposed=True,
        output_padding=added,
        label="" if plain else "whole",
    )
    if plain:
        return made
    upper = auto == "SAME_UPPER"
    if target is not None:
        return call.apply(crop_to_shape, made, shape=target, more_before=not upper)
    if sized:
        return call.apply(crop_to_multiple, made, call.input(0), stride=w.stride, more_before=not upper)
    return call.apply(crop_to, made, before=w.before, after=w.after)


def crop_to_multiple(x: Tensor, source: Tensor, stride: tuple[int, ...], more_before: bool) -> Tensor:
    """``x`` cut to ``stride`` times the size of ``source``."""
    shape = [length * step for length, step in zip(source.shape[2:], stride, strict=True)]
    return crop_to_shape(x, shape, more_before)


def _kernel(call: Call, a: Attributes, weight: Value) -> tuple[int, ...] | None:
    given = a.integers("kernel_shape")
    if weight.tensor is None:
        return given
    kernel = tuple(weight.tensor.shape[2:])
    if given is not None and given != kernel:
        raise FileError(
            f"{call.where}: kernel_shape is {given}, but the weight {weight.name!r} has kernels of {kernel}."
        )
    return kernel


@FAMILY.add("Gemm")
def _gemm(call: Call, a: Attributes) -> Value:
    """A dense layer where the second factor is a known matrix and the third, if any, a known vector."""
    x, factor, term = call.input(0), call.input(1), call.optional(2)
    alpha, beta = a.number("alpha", 1.0), a.number("beta", 1.0)
    turned, turned_x = a.flag("transB"), a.flag("transA")
    fitting = factor.tensor is not None and factor.tensor.ndim == 2
    if not fitting or turned_x or (term is not None and term.tensor is None):
        settings: dict[str, Any] = {"transpose_a": turned_x, "transpose_b": turned, "alpha": alpha, "beta": beta}
        return call.apply(gemm, x, factor, term, **settings)
    weight = factor if turned else call.apply(torch.t, factor, label="weight")
    if alpha != 1.0:
        weight = call.apply(multiply_scalar, weight, scalar=alpha, label="weight")
    if term is not None and beta != 1.0:
        term = call.apply(multiply_scalar, term, scalar=beta, label="bias")
    bias = None if term is None else _vector(call, term, layers.known(call, weight).shape[0])
    if term is not None and bias is None:
        made = layers.linear(call, x, weight, None, label="product")
        return call.apply(torch.add, made, term)
    return layers.linear(call, x, weight, bias)


def _vector(call: Call, term: Value, length: int) -> Value | None:
    """A known summand as a bias, where it is one."""
    shape = layers.known(call, term).shape
    if tuple(shape) == (length,):
        return term
    if shape.numel() == 1 or tuple(shape) == (1, length):
        return call.apply(spread, term, length=length, label="bias")
    return None


def spread(x: Tensor, length: int) -> Tensor:
    """A number or a row as a vector."""
    return x.reshape(-1).expand(length)


@FAMILY.plain("MatMul")
def _matmul(call: Call) -> Value:
    """A dense layer where the second factor is a known matrix."""
    x, factor = call.input(0), call.input(1)
    if x.tensor is not None or factor.tensor is None or factor.tensor.ndim != 2 or not factor.learned:
        return call.apply(torch.matmul, x, factor)
    return layers.linear(call, x, call.apply(torch.t, factor, label="weight"), None)


@FAMILY.add("Gather")
def _gather(call: Call, a: Attributes) -> Value:
    """An embedding where rows of a known matrix are looked up."""
    x, places = call.input(0), call.input(1)
    axis = a.integer("axis", 0)
    table = x.tensor
    if table is None or places.tensor is not None or table.ndim != 2 or axis not in (0, -2) or not x.learned:
        return call.apply(take, x, places, axis=axis, mode="negative")

    def make() -> nn.Module:
        layer = Embedding(table.shape[0], table.shape[1], _weight=table)
        layer.weight = as_parameter(x)
        return layer

    return call.layer(make, places, key=(Embedding, x))
