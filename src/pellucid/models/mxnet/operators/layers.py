"""Layers with weights: convolutions, dense layers, embeddings."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.errors import FileError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators.deformable import deformable_convolution
from pellucid.models.operators.shapes import flatten

FAMILY = family()


@FAMILY.add("Convolution Convolution_v1 _npx_convolution")
def _convolution(call: Call, a: Attributes) -> Value:
    kernel = _kernel(a)
    x, weight, last = _channels_first(call, a, call.input(0), call.input(1))
    _fitting(call, a, weight, kernel, out_axis=0)
    bias = None if a.flag("no_bias") else call.input(2)
    made = layers.convolution(
        call,
        x,
        weight,
        bias,
        stride=_each(a, "stride", kernel, 1),
        padding=_each(a, "pad", kernel, 0),
        dilation=_each(a, "dilate", kernel, 1),
        groups=a.integer("num_group", 1),
        label="convolution" if last else "",
    )
    return call.apply(torch.movedim, made, source=1, destination=-1) if last else made


@FAMILY.add("Deconvolution _npx_deconvolution")
def _deconvolution(call: Call, a: Attributes) -> Value:
    kernel = _kernel(a)
    x, weight, last = _channels_first(call, a, call.input(0), call.input(1))
    stride, dilation = _each(a, "stride", kernel, 1), _each(a, "dilate", kernel, 1)
    groups = a.integer("num_group", 1)
    bias = None if a.flag("no_bias", default=True) else call.input(2)
    target = a.integers("target_shape") or ()
    label = "convolution" if last else ""
    if any(target):

        def make() -> nn.Module:
            parts = layers.weight_of(call, weight), None if bias is None else layers.weight_of(call, bias)
            return layers.ConvTransposeTo(*parts, target=target, stride=stride, dilation=dilation, groups=groups)

        made = call.layer(make, x, label=label)
    else:
        made = layers.convolution(
            call,
            x,
            weight,
            bias,
            stride=stride,
            padding=_each(a, "pad", kernel, 0),
            dilation=dilation,
            groups=groups,
            transposed=True,
            output_padding=_each(a, "adj", kernel, 0),
            label=label,
        )
    return call.apply(torch.movedim, made, source=1, destination=-1) if last else made


@FAMILY.add("FullyConnected _sparse_FullyConnected _npx_fully_connected")
def _dense(call: Call, a: Attributes) -> Value:
    x, weight = call.input(0), call.input(1)
    if a.flag("flatten", default=True):
        x = call.apply(flatten, x, label="flatten")
    bias = None if a.flag("no_bias") else call.input(2)
    units = a.integer("num_hidden")
    if weight.tensor is not None and units is not None and weight.tensor.shape[:1] != (units,):
        raise FileError(
            f"{call.where} must have {units} units, but its weight {weight.name!r} has the shape "
            f"{tuple(weight.tensor.shape)}."
        )
    return layers.linear(call, x, weight, bias)


FAMILY.same(
    "Embedding _sparse_Embedding _contrib_SparseEmbedding _npx_embedding",
    lambda call: layers.embedding(call, call.input(0), call.input(1)),
)


@FAMILY.add("_contrib_DeformableConvolution")
def _deformable(call: Call, a: Attributes) -> Value:
    return _deformed(call, a, masked=False)


@FAMILY.add("_contrib_ModulatedDeformableConvolution")
def _modulated(call: Call, a: Attributes) -> Value:
    return _deformed(call, a, masked=True)


def _deformed(call: Call, a: Attributes, *, masked: bool) -> Value:
    kernel = _kernel(a)
    x, offset, *rest = (call.input(index) for index in range(4 if masked else 3))
    bias = None if a.flag("no_bias") else call.input(4 if masked else 3)
    return call.apply(
        deformable_convolution,
        x,
        offset,
        rest[0] if masked else None,
        rest[-1],
        bias,
        stride=_each(a, "stride", kernel, 1),
        padding=_each(a, "pad", kernel, 0),
        dilation=_each(a, "dilate", kernel, 1),
        groups=a.integer("num_group", 1),
        offset_groups=a.integer("num_deformable_group", 1),
        sharp_border=not masked,
    )


def _kernel(a: Attributes) -> tuple[int, ...]:
    kernel = a.integers("kernel", ())
    if not 1 <= len(kernel) <= 3 or any(length < 1 for length in kernel):
        raise a.wrong("kernel", "one to three positive whole numbers")
    return kernel


def _each(a: Attributes, key: str, kernel: tuple[int, ...], default: int) -> tuple[int, ...]:
    """A setting with one number for each axis of the kernel."""
    values = a.integers(key) or (default,) * len(kernel)
    if len(values) != len(kernel) or any(value < default for value in values):
        raise a.wrong(key, f"{len(kernel)} whole numbers of at least {default}")
    return values


def _channels_first(call: Call, a: Attributes, x: Value, weight: Value) -> tuple[Value, Value, bool]:
    """Input and weight with channels on axis 1, and whether they came with channels last."""
    layout = a.text("layout", "NC")
    if layout.startswith("NC"):
        return x, weight, False
    first = call.apply(torch.movedim, x, source=-1, destination=1, label="channels_first")
    turned = call.apply(torch.movedim, weight, source=-1, destination=1, label="weight")
    return first, turned, True


def _fitting(call: Call, a: Attributes, weight: Value, kernel: tuple[int, ...], *, out_axis: int) -> None:
    """Refuse a weight of another size than the settings say."""
    filters = a.integer("num_filter")
    shape = None if weight.tensor is None else tuple(weight.tensor.shape)
    if shape is not None and (shape[2:] != kernel or (filters is not None and shape[out_axis] != filters)):
        raise FileError(
            f"{call.where} must have {filters} filters of {kernel}, but its weight {weight.name!r} has the shape "
            f"{shape}."
        )
