"""Activations, softmax, and the losses that saved graphs end in."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators.arithmetic import divide_by
from pellucid.models.operators.sequences import softmax_within
from pellucid.models.operators.shapes import flatten

FAMILY = family()
ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softrelu": nn.Softplus,
    "softsign": nn.Softsign,
    "log_sigmoid": nn.LogSigmoid,
    "mish": nn.Mish,
}

FAMILY.same("relu _sparse_relu _npx_relu", layers.module(nn.ReLU))
FAMILY.same("sigmoid _sparse_sigmoid _npx_sigmoid", layers.module(nn.Sigmoid))
FAMILY.same("tanh _sparse_tanh _npi_tanh", layers.module(nn.Tanh))
FAMILY.same("softsign", layers.module(nn.Softsign))
FAMILY.same("log_sigmoid", layers.module(nn.LogSigmoid))
FAMILY.same("mish", layers.module(nn.Mish))


@FAMILY.add("Activation _npx_activation")
def _activation(call: Call, a: Attributes) -> Value:
    kind = ACTIVATIONS[a.choice("act_type", tuple(ACTIVATIONS), "")]
    return call.layer(kind, call.input(0))


@FAMILY.add("LeakyReLU _npx_leaky_relu")
def _leaky(call: Call, a: Attributes) -> list[Value]:
    """The slope is 0.25 where nothing is said, of ELU too; the second output is a mask that only training has."""
    x = call.input(0)
    kind = a.choice("act_type", ("leaky", "prelu", "elu", "selu", "gelu", "rrelu"), "leaky")
    slope = a.number("slope", 0.25)
    if kind == "prelu":
        return [layers.prelu(call, x, call.input(1)) if call.input(1).tensor is not None else _live_prelu(call)]
    if kind == "rrelu":
        slope = (a.number("lower_bound", 0.125) + a.number("upper_bound", 0.333999991)) / 2
    made = {
        "leaky": lambda: nn.LeakyReLU(slope),
        "rrelu": lambda: nn.LeakyReLU(slope),
        "elu": lambda: nn.ELU(slope),
        "selu": nn.SELU,
        "gelu": nn.GELU,
    }[kind]
    rectified = call.layer(made, x)
    if kind != "rrelu":
        return [rectified]
    return [rectified, call.apply(torch.ones_like, x, label="mask")]


def _live_prelu(call: Call) -> Value:
    slopes = call.apply(torch.flatten, call.input(1), label="slope")
    return call.apply(torch.prelu, call.input(0), slopes)


@FAMILY.add("hard_sigmoid")
def _hard_sigmoid(call: Call, a: Attributes) -> Value:
    return call.apply(hard_sigmoid, call.input(0), alpha=a.number("alpha", 0.2), beta=a.number("beta", 0.5))


def hard_sigmoid(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """A straight line from 0 to 1."""
    return (alpha * x + beta).clamp(0, 1)


@FAMILY.add("Dropout _npx_dropout")
def _dropout(call: Call, a: Attributes) -> list[Value]:
    """The second output is the mask, of which inference uses nothing."""
    x = call.input(0)
    p = a.number("p", 0.5)
    if a.text("mode", "training") == "always":
        return [call.apply(nn.functional.dropout, x, p=p, training=True)]
    return [call.layer(lambda: nn.Dropout(p), x), x]


@FAMILY.add("softmax _npx_softmax log_softmax _npx_log_softmax softmin")
def _softmax(call: Call, a: Attributes) -> Value:
    x = call.input(0)
    axis, temperature, log = a.integer("axis", -1), a.number("temperature", 1.0), "log_softmax" in call.node.op
    if a.flag("use_length"):
        lengths = call.input(1)
        return call.apply(softmax_within, x, lengths, axis=axis, temperature=temperature, log=log)
    if call.node.op == "softmin":
        x = call.apply(torch.neg, x, label="negative")
    if temperature != 1.0:
        x = call.apply(divide_by, x, scalar=temperature, label="scaled")
    return call.layer(lambda: nn.LogSoftmax(axis) if log else nn.Softmax(axis), x)


@FAMILY.add("SoftmaxActivation")
def _softmax_activation(call: Call, a: Attributes) -> Value:
    axis = 1 if a.choice("mode", ("instance", "channel"), "instance") == "channel" else -1
    return call.layer(lambda: nn.Softmax(axis), call.input(0))


@FAMILY.add("SoftmaxOutput Softmax")
def _softmax_output(call: Call, a: Attributes) -> Value:
    """A loss in training; what it computes in inference is the softmax of its first input."""
    axis = 1 if a.flag("multi_output") else -1
    return call.layer(lambda: nn.Softmax(axis), call.input(0))


FAMILY.same("LogisticRegressionOutput _sparse_LogisticRegressionOutput", layers.module(nn.Sigmoid))
FAMILY.same(
    "LinearRegressionOutput _sparse_LinearRegressionOutput MAERegressionOutput _sparse_MAERegressionOutput SVMOutput "
    "MakeLoss make_loss _sparse_make_loss IdentityAttachKLSparseReg",
    layers.unchanged,
)
FAMILY.same("_copy identity _copyto _npi_copyto _np_copy _CrossDeviceCopy cast_storage", layers.unchanged)
FAMILY.same("BlockGrad stop_gradient _sparse_stop_gradient", layers.function(torch.detach))
FAMILY.same("Flatten flatten _npx_batch_flatten", layers.function(flatten))
