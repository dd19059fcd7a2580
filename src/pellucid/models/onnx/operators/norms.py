"""Norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import ModelError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.operators import normalization

FAMILY = family()


@FAMILY.add("BatchNormalization")
def _batch_norm(call: Call, a: Attributes) -> Value | list[Value]:
    """The further outputs are the statistics, which in inference stay as they are."""
    x, weight, bias, mean, var = (call.input(index) for index in range(5))
    eps, momentum = a.number("epsilon", 1e-5), 1 - a.number("momentum", 0.9)
    if a.version < 9 and not a.flag("spatial", default=True):
        raise ModelError(f"{call.where} norms every place by itself (spatial=0), which is not known here.")
    if a.flag("training_mode"):
        settings: dict[str, Any] = {"eps": eps, "momentum": momentum}
        return call.apply_many(batch_norm_training, x, weight, bias, mean, var, outputs=3, **settings)
    if any(value.tensor is None for value in (weight, bias, mean, var)):
        made = call.apply(normalization.batch_norm, x, weight, bias, mean, var, eps=eps)
    else:
        made = layers.batch_norm(call, x, weight, bias, mean, var, eps=eps, momentum=momentum)
    return [made, mean, var, mean, var]


def batch_norm_training(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, momentum: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Norm by the batch's own statistics, and the running statistics after it."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    own_var, own_mean = torch.var_mean(x, axes, correction=0)
    made = normalization.batch_norm(x, weight, bias, own_mean, own_var, eps)
    return made, mean + momentum * (own_mean - mean), var + momentum * (own_var - var)


@FAMILY.add("LayerNormalization")
def _layer_norm(call: Call, a: Attributes) -> Value | list[Value]:
    """A layer where the norm runs over the axes that scale and shift have; the further outputs are its statistics."""
    x, weight, bias = call.input(0), call.input(1), call.optional(2)
    axis, eps = a.integer("axis", -1), a.number("epsilon", 1e-5)
    shape = None if weight.tensor is None else weight.tensor.shape
    shifted = bias is None or (bias.tensor is not None and bias.tensor.shape == shape)
    if call.node.outputs == 1 and shape is not None and len(shape) == -axis and shifted:
        return layers.layer_norm(call, x, weight, bias, shape, eps=eps)
    return call.apply_many(layer_norm, x, weight, bias, axis=axis, eps=eps, outputs=3)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, axis: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Norm over all axes from one on; the mean and the inverse of the deviation come with it."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    inverse = (var + eps).rsqrt()
    made = (x - mean) * inverse * weight
    return (made if bias is None else made + bias), mean, inverse


@FAMILY.add("RMSNormalization")
def _rms_norm(call: Call, a: Attributes) -> Value:
    x, weight = call.input(0), call.input(1)
    return call.apply(rms_norm, x, weight, axis=a.integer("axis", -1), eps=a.number("epsilon", 1e-5))


def rms_norm(x: Tensor, weight: Tensor, axis: int, eps: float) -> Tensor:
    """``x`` over the root of the mean of its squares, over all axes from one on."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    return x * ((x * x).mean(axes, keepdim=True) + eps).rsqrt() * weight


@FAMILY.add("InstanceNormalization")
def _instance_norm(call: Call, a: Attributes) -> Value:
    x, weight, bias = (call.input(index) for index in range(3))
    eps = a.number("epsilon", 1e-5)
    if weight.tensor is None or bias.tensor is None:
        return call.apply(instance_norm, x, weight, bias, eps=eps)
    return layers.group_norm(call, x, weight, bias, 0, eps=eps)


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Norm of every map."""
    return F.instance_norm(x, weight=weight, bias=bias, eps=eps)


@FAMILY.add("GroupNormalization")
def _group_norm(call: Call, a: Attributes) -> Value:
    """Before version 21 scale and shift hold one number a group."""
    x, weight, bias = (call.input(index) for index in range(3))
    groups, eps = a.integer("num_groups", 1), a.number("epsilon", 1e-5)
    if a.version < 21:
        return call.apply(normalization.group_norm, x, weight, bias, groups=groups, eps=eps)
    if weight.tensor is None or bias.tensor is None:
        return call.apply(group_norm, x, weight, bias, groups=groups, eps=eps)
    return layers.group_norm(call, x, weight, bias, groups, eps=eps)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Norm of every group of channels, with a scale and shift for each channel."""
    return torch.group_norm(x, groups, weight, bias, eps)


@FAMILY.add("LRN")
def _local_response(call: Call, a: Attributes) -> Value:
    size = a.integer("size", 1)
    alpha, beta, offset = a.number("alpha", 1e-4), a.number("beta", 0.75), a.number("bias", 1.0)
    if size % 2 == 0:  # torch's window lies one place further to the left
        return call.apply(local_response, call.input(0), size=size, alpha=alpha, beta=beta, offset=offset)
    return call.layer(lambda: nn.LocalResponseNorm(size, alpha, beta, offset), call.input(0))


def local_response(x: Tensor, size: int, alpha: float, beta: float, offset: float) -> Tensor:
    """Norm by the channels around each, one more of them behind it than before."""
    before = (size - 1) // 2
    squares = F.pad((x * x).flatten(2).transpose(1, 2), (before, size - 1 - before))
    sums = squares.unfold(2, size, 1).sum(-1).transpose(1, 2).reshape(x.shape)
    return x / (offset + alpha / size * sums) ** beta


@FAMILY.add("LpNormalization")
def _lp_norm(call: Call, a: Attributes) -> Value:
    return call.apply(lp_normalize, call.input(0), axis=a.integer("axis", -1), p=a.integer("p", 2))


def lp_normalize(x: Tensor, axis: int, p: int) -> Tensor:
    """``x`` over its norm along an axis; 0 where that is 0."""
    length = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return x / torch.where(length == 0, 1.0, length)


@FAMILY.add("MeanVarianceNormalization")
def _mean_variance(call: Call, a: Attributes) -> Value:
    return call.apply(mean_variance, call.input(0), axes=a.integers("axes", (0, 2, 3)))


def mean_variance(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """``x`` with mean 0 and variance 1 over axes."""
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) / (var.sqrt() + 1e-9)
