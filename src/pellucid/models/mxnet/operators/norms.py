"""Norms."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators.normalization import batch_norm, group_norm, inverse_deviation, l2_normalize, moments

FAMILY = family()


@FAMILY.add("BatchNorm BatchNorm_v1 _contrib_SyncBatchNorm _contrib_BatchNormWithReLU _npx_batch_norm")
def _batch_norm(call: Call, a: Attributes) -> list[Value]:
    """Scale 1 whatever the file holds where ``fix_gamma`` is set, which it is where nothing is said."""
    x, gamma, beta, mean, var = (call.input(index) for index in range(5))
    eps, axis = a.number("eps", 1e-3), a.integer("axis", 1)
    rectified = call.node.op.endswith("WithReLU")
    fixed = a.flag("fix_gamma", default=True)
    last = "" if axis == 1 and not rectified else "norm"
    if axis != 1:
        x = call.apply(torch.movedim, x, source=axis, destination=1, label="channels_first")
    if beta.tensor is None or gamma.tensor is None:
        scale = call.apply(torch.ones_like, gamma, label="scale") if fixed else gamma
        made = call.apply(batch_norm, x, scale, beta, mean, var, eps=eps, label=last)
    else:
        momentum = 1 - a.number("momentum", 0.9)
        made = layers.batch_norm(
            call, x, None if fixed else gamma, beta, mean, var, eps=eps, momentum=momentum, label=last
        )
    if axis != 1:
        made = call.apply(torch.movedim, made, source=1, destination=axis, label=rectified * "moved")
    if rectified:
        made = call.layer(nn.ReLU, made)
    deviation = call.apply(inverse_deviation, x, var, eps=eps, label="inverse_deviation")
    return [made, mean, deviation]


@FAMILY.add("LayerNorm _npx_layer_norm")
def _layer_norm(call: Call, a: Attributes) -> Value:
    x, gamma, beta = (call.input(index) for index in range(3))
    axis = a.integer("axis", -1)
    size = layers.known(call, gamma).numel()
    if axis == -1:
        return layers.layer_norm(call, x, gamma, beta, (size,), eps=a.number("eps", 1e-5))
    moved = call.apply(torch.movedim, x, source=axis, destination=-1, label="moved")
    made = layers.layer_norm(call, moved, gamma, beta, (size,), eps=a.number("eps", 1e-5), label="norm")
    return call.apply(torch.movedim, made, source=-1, destination=axis)


@FAMILY.add("GroupNorm")
def _group_norm(call: Call, a: Attributes) -> Value:
    groups, eps = a.integer("num_groups", 1), a.number("eps", 1e-5)
    return call.apply(group_norm, *call.inputs, groups=groups, eps=eps)


@FAMILY.add("InstanceNorm")
def _instance_norm(call: Call, a: Attributes) -> Value:
    x, gamma, beta = (call.input(index) for index in range(3))
    layers.known(call, gamma)
    return layers.group_norm(call, x, gamma, beta, 0, eps=a.number("eps", 1e-3))


@FAMILY.add("L2Normalization")
def _l2(call: Call, a: Attributes) -> Value:
    mode = a.choice("mode", ("instance", "channel", "spatial"), "instance")
    return call.apply(l2_normalize, call.input(0), axes=mode, eps=a.number("eps", 1e-10))


@FAMILY.add("LRN")
def _local_response(call: Call, a: Attributes) -> Value:
    size = a.integer("nsize", 5)
    alpha, beta, offset = a.number("alpha", 1e-4), a.number("beta", 0.75), a.number("knorm", 2.0)
    return call.layer(lambda: nn.LocalResponseNorm(size, alpha, beta, offset), call.input(0))


@FAMILY.add("moments")
def _moments(call: Call, a: Attributes) -> list[Value]:
    axes, keepdim = a.integers("axes", ()), a.flag("keepdims")
    return call.apply_many(moments, call.input(0), axes=axes, keepdim=keepdim, outputs=2)
