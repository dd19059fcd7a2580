"""Recurrent layers: torch's own where they compute the same, else step by step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.errors import FileError
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.graph.recurrent import recurrent
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.operators.recurrence import ACTIVATIONS, Activation, recurrent_steps
from pellucid.models.operators.sequences import sequence_reverse

FAMILY = family()
USUAL = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}
ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}
"""torch's order of gates, as places in ONNX's."""
NUMBERS = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, 0.0),
    "thresholdedrelu": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
}
"""The two numbers of activations where the file does not say."""


@FAMILY.add("LSTM GRU RNN")
def _recurrent(call: Call, a: Attributes) -> list[Value]:
    kind = call.node.op.lower()
    reverse = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[
        a.choice("direction", ("forward", "reverse", "bidirectional"), "forward")
    ]
    x = call.input(0)
    weight, repeated, bias, lengths = call.input(1), call.input(2), call.optional(3), call.optional(4)
    states = [call.optional(5), call.optional(6) if kind == "lstm" else None]
    peepholes = call.optional(7) if kind == "lstm" else None
    activations = _activations(a, kind, len(reverse))
    first = a.flag("layout")
    if first:
        x = call.apply(torch.transpose, x, dim0=0, dim1=1, label="time_first")
        states = [
            None if state is None else call.apply(torch.transpose, state, dim0=0, dim1=1, label="state")
            for state in states
        ]
    if kind == "lstm" and (states[0] is None) != (states[1] is None):
        states = [state or call.apply(torch.zeros_like, states[0] or states[1], label="zeros") for state in states]
    mode = _mode(kind, activations, len(reverse))
    after, coupled = a.flag("linear_before_reset"), a.flag("input_forget")
    known = all(value is None or value.tensor is not None for value in (weight, repeated, bias))
    special = peepholes is not None or coupled or a.number("clip") is not None or (kind == "gru" and not after)
    if mode and known and not special:
        made = _layer(call, x, weight, repeated, bias, lengths, states, mode, kind, reverse)
    else:
        made = call.apply_many(
            recurrent_steps,
            *(x, weight, repeated, bias, lengths, *states, peepholes),
            label="steps" if first else "",
            kind=kind,
            activations=activations,
            reverse=reverse,
            clip=a.number("clip"),
            reset_after=after,
            coupled=coupled,
            outputs=3 if kind == "lstm" else 2,
        )
    if not first:
        return made
    turned = [call.apply(torch.permute, made[0], dims=(2, 0, 1, 3))]
    return turned + [call.apply(torch.transpose, end, dim0=0, dim1=1, label="end") for end in made[1:]]


def _activations(a: Attributes, kind: str, directions: int) -> tuple[Activation, ...]:
    names = a.words("activations", USUAL[kind] * directions)
    given = [list(a.numbers("activation_alpha")), list(a.numbers("activation_beta"))]
    found: list[Activation] = []
    for name in names:
        lowered = name.lower()
        if lowered not in ACTIVATIONS:
            raise a.wrong("activations", f"among {', '.join(ACTIVATIONS)}")
        usual = NUMBERS.get(lowered, (0.0, 0.0))
        takes = {"affine": 2, "scaledtanh": 2, "hardsigmoid": 2}.get(lowered, 1 if lowered in NUMBERS else 0)
        alpha, beta = (
            values.pop(0) if values and place < takes else usual[place] for place, values in enumerate(given)
        )
        found.append((lowered, alpha, beta))
    if len(found) != len(USUAL[kind]) * directions:
        raise a.wrong("activations", f"{len(USUAL[kind]) * directions} names")
    return tuple(found)


def _mode(kind: str, activations: tuple[Activation, ...], directions: int) -> str:
    """torch's name of the layer, or nothing where it has none with these activations."""
    names = tuple(name for name, _, _ in activations)
    if names == USUAL[kind] * directions:
        return "rnn_tanh" if kind == "rnn" else kind
    return "rnn_relu" if kind == "rnn" and set(names) == {"relu"} else ""


def _layer(
    call: Call,
    x: Value,
    weight: Value,
    repeated: Value,
    bias: Value | None,
    lengths: Value | None,
    states: list[Value | None],
    mode: str,
    kind: str,
    reverse: tuple[bool, ...],
) -> list[Value]:
    """torch's layer; one that runs backwards alone gets its input backwards."""
    shape = call.known(2).shape
    if len(shape) != 3 or shape[0] != len(reverse) or call.known(1).ndim != 3:
        raise FileError(f"{call.where} must have weights for {len(reverse)} directions, but has {tuple(shape)}.")
    hidden, width = shape[2], call.known(1).shape[2]
    backwards = reverse == (True,)
    weights = []
    for place in range(len(reverse)):
        settings: dict[str, Any] = {"order": ORDER[kind], "place": place}
        parts = {
            "weight_ih": call.apply(gates, weight, part=0, parts=1, label="weight_ih", **settings),
            "weight_hh": call.apply(gates, repeated, part=0, parts=1, label="weight_hh", **settings),
        }
        if bias is not None:
            parts["bias_ih"] = call.apply(gates, bias, part=0, parts=2, label="bias_ih", **settings)
            parts["bias_hh"] = call.apply(gates, bias, part=1, parts=2, label="bias_hh", **settings)
        weights.append(parts)
    if backwards:
        x = call.apply(sequence_reverse, x, lengths, label="backwards")
    made = recurrent(
        call,
        x,
        states[0],
        states[1],
        lengths,
        weights,
        mode=mode,
        width=width,
        hidden=hidden,
        bidirectional=len(reverse) == 2,
        label="layer",
    )
    out = made[0]
    if backwards:
        out = call.apply(sequence_reverse, out, lengths, label="forwards")
    return [call.apply(by_direction, out, directions=len(reverse)), *made[1:]]


def gates(x: Tensor, place: int, part: int, parts: int, order: tuple[int, ...]) -> Tensor:
    """One direction's weights, or one of the parts of its biases, in torch's order of gates."""
    whole = x[place].chunk(parts)[part].chunk(len(order))
    return torch.cat([whole[gate] for gate in order])


def by_direction(x: Tensor, directions: int) -> Tensor:
    """(T, N, D * H) as (T, D, N, H)."""
    return x.reshape(*x.shape[:2], directions, -1).transpose(1, 2)
