"""How the operators of a program become layers: torch's own where they hold weights, else the operator itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from pellucid.errors import ModelError
from pellucid.models.exported.operation import (
    Inline,
    Operation,
    Slot,
    WithoutGradient,
    allowed,
    expect_shape,
    leaves,
)
from pellucid.models.exported.program import EXPECT
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Build, Call
from pellucid.models.graph.nodes import Value
from pellucid.models.graph.recurrent import recurrent

ATEN = "torch.ops.aten."
GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
AUTOCAST = "torch.ops.higher_order.wrap_with_autocast"


class Arguments:
    """What an operator is called with, by the names of its schema.

    Args:
        call: the node.
    """

    def __init__(self, call: Call) -> None:
        settings = call.node.attributes
        self._call = call
        self.named: dict[str, Any] = {
            **dict(zip(settings["labels"], settings["arguments"], strict=True)),
            **settings["keywords"],
        }

    def value(self, name: str) -> Value | None:
        """A computed value or a weight, None where it is left out."""
        slot = self.named.get(name)
        return self._call.inputs[slot.index] if isinstance(slot, Slot) else None

    def values(self, name: str) -> list[Value]:
        """A list of them, also of one alone."""
        found = [self._call.inputs[slot.index] for slot in leaves(self.named.get(name)) if isinstance(slot, Slot)]
        return [value for value in found if value is not None]

    def literal(self, name: str, default: Any) -> Any:
        """A setting."""
        found = self.named.get(name)
        return default if found is None else found

    def fixed(self, *names: str) -> bool:
        """Whether none of these settings is computed."""
        return not any("Slot(" in repr(self.named.get(name)) for name in names)

    def weights(self, *names: str) -> bool:
        """Whether these are weights of the model, or left out."""
        given = [self.value(name) for name in names]
        return all(value is None or value.learned for value in given)


def generic(call: Call) -> Sequence[Value]:
    """The operator itself, as a layer."""
    settings = call.node.attributes
    return call.layer_many(
        lambda: Operation(call.node.op, settings["arguments"], settings["keywords"]),
        *call.inputs,
        outputs=settings["outputs"],
    )


def _convolution(axes: int, *, transposed: bool = False) -> Build:
    def build(call: Call) -> Value | Sequence[Value]:
        given = Arguments(call)
        x, weight = given.value("input"), given.value("weight")
        names = ("stride", "padding", "dilation", "output_padding", "groups")
        text = isinstance(given.named.get("padding"), str)
        if x is None or weight is None or text or not given.weights("weight", "bias") or not given.fixed(*names):
            return generic(call)

        def each(name: str, default: int) -> tuple[int, ...]:
            found = given.literal(name, [default])
            return tuple(found) * axes if len(found) == 1 else tuple(found)

        return layers.convolution(
            call,
            x,
            weight,
            given.value("bias"),
            stride=each("stride", 1),
            padding=each("padding", 0),
            dilation=each("dilation", 1),
            groups=given.literal("groups", 1),
            transposed=transposed,
            output_padding=each("output_padding", 0) if transposed else (),
        )

    return build


def _linear(call: Call) -> Value | Sequence[Value]:
    given = Arguments(call)
    x, weight = given.value("input"), given.value("weight")
    flat = weight is not None and weight.tensor is not None and weight.tensor.ndim == 2
    if x is None or weight is None or not flat or not given.weights("weight", "bias"):
        return generic(call)
    return layers.linear(call, x, weight, given.value("bias"))


def _embedding(call: Call) -> Value | Sequence[Value]:
    given = Arguments(call)
    ids, weight = given.value("indices"), given.value("weight")
    plain = not given.literal("scale_grad_by_freq", False) and not given.literal("sparse", False)
    if ids is None or weight is None or not plain or not given.weights("weight"):
        return generic(call)
    table = weight.tensor
    if table is None or table.ndim != 2:
        return generic(call)

    def make() -> nn.Module:
        layer = nn.Embedding(table.shape[0], table.shape[1], _weight=table)  # draws no numbers
        layer.weight = layers.weight_of(call, weight)
        return layer

    return call.layer(make, ids, key=(nn.Embedding, weight))


def _batch_norm(call: Call) -> Value | Sequence[Value]:
    given = Arguments(call)
    x, weight, bias, mean, var = map(given.value, ("input", "weight", "bias", "running_mean", "running_var"))
    known = all(value is not None and value.tensor is not None for value in (weight, bias, mean, var))
    if x is None or bias is None or mean is None or var is None or not known or not given.weights("weight", "bias"):
        return generic(call)
    eps, momentum = given.literal("eps", 1e-5), given.literal("momentum", 0.1)
    return layers.batch_norm(call, x, weight, bias, mean, var, eps=eps, momentum=momentum)


def _layer_norm(call: Call) -> Value | Sequence[Value]:
    given = Arguments(call)
    x, shape = given.value("input"), given.literal("normalized_shape", ())
    if x is None or not given.fixed("normalized_shape") or not given.weights("weight", "bias"):
        return generic(call)
    eps = given.literal("eps", 1e-5)
    return layers.layer_norm(call, x, given.value("weight"), given.value("bias"), shape, eps=eps)


def _group_norm(call: Call) -> Value | Sequence[Value]:
    given = Arguments(call)
    x, weight, bias = map(given.value, ("input", "weight", "bias"))
    if x is None or weight is None or bias is None or not given.weights("weight", "bias"):
        return generic(call)
    return layers.group_norm(call, x, weight, bias, given.literal("num_groups", 1), eps=given.literal("eps", 1e-5))


def _dropout(call: Call) -> Value:
    return call.layer(lambda: nn.Dropout(Arguments(call).literal("p", 0.5)), call.input(0))


def _recurrent(mode: str) -> Build:
    def build(call: Call) -> Sequence[Value]:
        given = Arguments(call)
        x, states, flat = given.value("input"), given.values("hx"), given.values("params")
        shapes = [value.tensor.shape for value in flat if value.learned and value.tensor is not None]
        layers_, both = given.literal("num_layers", 1), given.literal("bidirectional", False)
        runs = layers_ * (2 if both else 1)
        projected = mode == "lstm" and len(flat) == 5 * runs
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *(["weight_hr"] if projected else []))
        whole = len(shapes) == len(flat) == len(names) * runs > 0
        if x is None or not whole or not given.literal("has_biases", False):
            return generic(call)
        first = given.literal("batch_first", False)
        if first:
            x = call.apply(_swap, x, label="time_first")
        weights = [dict(zip(names, flat[k : k + len(names)], strict=True)) for k in range(0, len(flat), len(names))]
        state, cell = (*states, None, None)[:2]
        made = recurrent(
            call,
            x,
            state,
            cell,
            None,
            weights,
            mode=mode,
            width=shapes[0][1],
            hidden=shapes[0][0] // {"lstm": 4, "gru": 3}.get(mode, 1),
            bidirectional=both,
            projection=shapes[4][0] if projected else 0,
            dropout=given.literal("dropout", 0.0),
        )
        return [call.apply(_swap, made[0], label="batch_first"), *made[1:]] if first else made

    return build


def _swap(x: Any) -> Any:
    return x.transpose(0, 1)


def _without_gradient(call: Call) -> Sequence[Value]:
    kind = Inline if call.node.attributes["arguments"][:1] == (True,) else WithoutGradient
    return call.layer_many(lambda: kind(call.body(0)), *call.inputs, outputs=call.node.attributes["outputs"])


def _in_context(call: Call) -> Sequence[Value]:
    if call.node.attributes["arguments"][2:3] != (False,):
        raise ModelError(f"{call.where} computes in mixed precision (autocast); export the model without it.")
    return call.layer_many(lambda: Inline(call.body(0)), *call.inputs, outputs=call.node.attributes["outputs"])


def _expect_shape(call: Call) -> Value:
    return call.apply(expect_shape, call.input(0), **call.node.attributes)


OPERATORS: dict[str, Build] = {
    EXPECT: _expect_shape,
    GRAD: _without_gradient,
    AUTOCAST: _in_context,
    ATEN + "linear.default": _linear,
    ATEN + "embedding.default": _embedding,
    ATEN + "batch_norm.default": _batch_norm,
    ATEN + "layer_norm.default": _layer_norm,
    ATEN + "group_norm.default": _group_norm,
    ATEN + "dropout.default": _dropout,
    ATEN + "feature_dropout.default": _dropout,
    ATEN + "lstm.input": _recurrent("lstm"),
    ATEN + "gru.input": _recurrent("gru"),
    ATEN + "rnn_tanh.input": _recurrent("rnn_tanh"),
    ATEN + "rnn_relu.input": _recurrent("rnn_relu"),
    **{f"{ATEN}conv{axes}d.default": _convolution(axes) for axes in (1, 2, 3)},
    ATEN + "conv_transpose1d.default": _convolution(1, transposed=True),
    ATEN + "conv_transpose2d.input": _convolution(2, transposed=True),
    ATEN + "conv_transpose3d.input": _convolution(3, transposed=True),
}
"""Operators that become something else than themselves. Users' own are added by
:func:`pellucid.models.register_operator`."""


def table_for(targets: Iterable[str]) -> Mapping[str, Build]:
    """How to build each of these, as far as a program may name them."""
    return {target: OPERATORS.get(target, generic) for target in targets if target in OPERATORS or allowed(target)}
