"""Activations, softmax and dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family

FAMILY = family()

for _name, _kind in {
    "Relu": nn.ReLU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Softplus": nn.Softplus,
    "Softsign": nn.Softsign,
    "Mish": nn.Mish,
    "HardSwish": nn.Hardswish,
}.items():
    FAMILY.same(_name, layers.module(_kind))


@FAMILY.add("LeakyRelu")
def _leaky(call: Call, a: Attributes) -> Value:
    slope = a.number("alpha", 0.01)
    return call.layer(lambda: nn.LeakyReLU(slope), call.input(0))


@FAMILY.add("Elu")
def _elu(call: Call, a: Attributes) -> Value:
    alpha = a.number("alpha", 1.0)
    return call.layer(lambda: nn.ELU(alpha), call.input(0))


@FAMILY.add("Celu")
def _celu(call: Call, a: Attributes) -> Value:
    alpha = a.number("alpha", 1.0)
    return call.layer(lambda: nn.CELU(alpha), call.input(0))


@FAMILY.add("Selu")
def _selu(call: Call, a: Attributes) -> Value:
    """torch's own where the numbers are those of the paper."""
    alpha, gamma = a.number("alpha", 1.6732632), a.number("gamma", 1.050701)
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.050701) < 1e-6:
        return call.layer(nn.SELU, call.input(0))
    return call.apply(selu, call.input(0), alpha=alpha, gamma=gamma)


def selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """A scaled ELU."""
    return gamma * F.elu(x, alpha)


@FAMILY.add("Gelu")
def _gelu(call: Call, a: Attributes) -> Value:
    form = a.choice("approximate", ("none", "tanh"), "none")
    return call.layer(lambda: nn.GELU(form), call.input(0))


@FAMILY.add("HardSigmoid")
def _hard_sigmoid(call: Call, a: Attributes) -> Value:
    alpha, beta = a.number("alpha", 0.2), a.number("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return call.layer(nn.Hardsigmoid, call.input(0))
    return call.apply(hard_sigmoid, call.input(0), alpha=alpha, beta=beta)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """A straight line from 0 to 1."""
    return (alpha * x + beta).clamp(0, 1)


@FAMILY.add("Swish")
def _swish(call: Call, a: Attributes) -> Value:
    alpha = a.number("alpha", 1.0)
    return call.layer(nn.SiLU, call.input(0)) if alpha == 1.0 else call.apply(swish, call.input(0), alpha=alpha)


def swish(x: Tensor, alpha: float) -> Tensor:
    """``x`` times the sigmoid of ``alpha * x``."""
    return x * torch.sigmoid(alpha * x)


@FAMILY.add("SwiGLU")
def _gated(call: Call, a: Attributes) -> Value:
    gate = call.apply(swish, call.input(0), alpha=a.number("alpha", 1.0), label="gate")
    return call.apply(torch.mul, gate, call.input(1))


@FAMILY.add("ThresholdedRelu")
def _thresholded(call: Call, a: Attributes) -> Value:
    alpha = a.number("alpha", 1.0)
    return call.layer(lambda: nn.Threshold(alpha, 0.0), call.input(0))


@FAMILY.add("Shrink")
def _shrink(call: Call, a: Attributes) -> Value:
    return call.apply(shrink, call.input(0), bias=a.number("bias", 0.0), threshold=a.number("lambd", 0.5))


def shrink(x: Tensor, bias: float, threshold: float) -> Tensor:
    """``x`` drawn ``bias`` towards 0, and 0 within the threshold."""
    return torch.where(x > threshold, x - bias, torch.where(x < -threshold, x + bias, torch.zeros_like(x)))


@FAMILY.plain("PRelu")
def _prelu(call: Call) -> Value:
    """torch's own where there is one slope a channel, or one for all."""
    slope = call.input(1)
    if slope.tensor is not None:
        shape = tuple(slope.tensor.shape)
        if slope.tensor.numel() == 1 or (len(shape) > 1 and shape[0] == slope.tensor.numel()):
            return layers.prelu(call, call.input(0), slope)
    return call.apply(prelu, call.input(0), slope)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """A leaky ReLU whose slopes are stretched to the shape of ``x`` from its last axis on."""
    return torch.where(x < 0, x * slope, x)


@FAMILY.add("Softmax LogSoftmax")
def _softmax(call: Call, a: Attributes) -> Value:
    """Before version 13 all axes from one on count as a single one."""
    log = call.node.op == "LogSoftmax"
    if a.version >= 13 or a.integer("axis", 1) == -1:
        axis = a.integer("axis", -1)
        return call.layer(lambda: nn.LogSoftmax(axis) if log else nn.Softmax(axis), call.input(0))
    return call.apply(softmax_from, call.input(0), axis=a.integer("axis", 1), log=log)


def softmax_from(x: Tensor, axis: int, log: bool) -> Tensor:
    """Softmax over all axes from one on."""
    axis = axis % x.ndim if axis < x.ndim else axis
    function = torch.log_softmax if log else torch.softmax
    return function(x, axis) if axis == x.ndim - 1 else function(x.flatten(axis), axis).reshape(x.shape)


@FAMILY.add("Hardmax")
def _hardmax(call: Call, a: Attributes) -> Value:
    return call.apply(
        hardmax, call.input(0), axis=a.integer("axis", -1 if a.version >= 13 else 1), single=a.version >= 13
    )


def hardmax(x: Tensor, axis: int, single: bool) -> Tensor:
    """1 at the first largest place of an axis (or of all axes from it on), else 0."""
    flat = x if single else x.flatten(axis)
    hot = torch.zeros_like(flat).scatter(axis, flat.argmax(axis, keepdim=True), 1.0)
    return hot.reshape(x.shape)


@FAMILY.add("Dropout")
def _dropout(call: Call, a: Attributes) -> list[Value]:
    """The second output is the mask, which in inference keeps all."""
    x, share, training = call.input(0), call.optional(1), call.optional(2)
    if training is not None and (training.tensor is None or bool(training.tensor)):
        return call.apply_many(dropped, x, share, training, outputs=2)
    ratio = a.number("ratio", 0.5) if share is None or share.tensor is None else float(share.tensor)
    made = [call.layer(lambda: nn.Dropout(ratio), x)]
    if call.node.outputs > 1:
        made.append(call.apply(torch.ones_like, x, dtype=torch.bool, label="mask"))
    return made


def dropped(x: Tensor, share: Tensor | None, training: Tensor) -> tuple[Tensor, Tensor]:
    """Dropout that goes on in inference, where ``training`` says so, and its mask."""
    ratio = (0.5 if share is None else float(share)) if bool(training) else 0.0
    if not ratio:
        return x, torch.ones_like(x, dtype=torch.bool)
    mask = torch.rand_like(x) >= ratio
    return x * mask / (1 - ratio), mask
