"""The fused recurrent layer, whose weights lie in one vector."""

from __future__ import annotations

import torch

from pellucid.errors import FileError, ModelError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.graph.recurrent import recurrent
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family

FAMILY = family()
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@FAMILY.add("RNN _npx_rnn")
def _recurrent(call: Call, a: Attributes) -> list[Value]:
    """All weights lie first, layer by layer and direction by direction, then all biases; gates are in torch's order."""
    mode = a.choice("mode", tuple(GATES), "")
    if any(a.number(key) is not None for key in ("lstm_state_clip_min", "lstm_state_clip_max")):
        raise ModelError(f"{call.where} clips its cell states, which is not known here.")
    hidden, count = a.integer("state_size", 0), a.integer("num_layers", 0)
    projection, both = a.integer("projection_size", 0), a.flag("bidirectional")
    directions = 2 if both else 1
    if hidden < 1 or not 1 <= count <= 64:
        raise FileError(f"{call.where} must have a state and 1 to 64 layers, but has {hidden} units in {count} layers.")
    vector = layers.known(call, call.input(1))
    rows, out = GATES[mode] * hidden, projection or hidden
    width = _input_width(call, vector.numel(), rows, hidden, out, count, directions, projection)
    weights = _unpacked(call, vector, rows, hidden, out, width, count, directions, projection)
    states = [_state(call.optional(index)) for index in ((2, 3) if mode == "lstm" else (2,))]
    lengths = call.input(len(call.inputs) - 1) if a.flag("use_sequence_length") else None
    return recurrent(
        call,
        call.input(0),
        states[0],
        states[1] if mode == "lstm" else None,
        lengths,
        weights,
        mode=mode,
        width=width,
        hidden=hidden,
        bidirectional=both,
        projection=projection,
        dropout=a.number("p", 0.0),
    )


def _state(value: Value | None) -> Value | None:
    """A begin state; zeros, as graphs mostly have it, is what a layer starts from by itself."""
    zeros = value is not None and value.tensor is not None and not value.tensor.any()
    return None if zeros else value


def _input_width(
    call: Call, total: int, rows: int, hidden: int, out: int, count: int, directions: int, projection: int
) -> int:
    """The width of the input, from the length of the vector: everything else in it is known."""
    inner = rows * (out * directions + out + 2) + hidden * projection
    first = rows * (out + 2) + hidden * projection
    width, remainder = divmod(total - directions * (first + (count - 1) * inner), directions * rows)
    if remainder or width < 1:
        raise FileError(f"{call.where}: its {total:,} weights do not fit {count} layers of {hidden} units.")
    return width


def _unpacked(
    call: Call,
    vector: torch.Tensor,
    rows: int,
    hidden: int,
    out: int,
    width: int,
    count: int,
    directions: int,
    projection: int,
) -> list[dict[str, Value]]:
    weights: list[dict[str, Value]] = []
    place = 0

    def cut(name: str, *shape: int) -> Value:
        nonlocal place
        size = torch.Size(shape).numel()
        part = vector.reshape(-1)[place : place + size].reshape(shape)
        place += size
        return Value(f"{call.node.name}_{name}", part, learned=True)

    for layer in range(count):
        for _ in range(directions):
            parts = {"weight_ih": cut("weight_ih", rows, out * directions if layer else width)}
            parts["weight_hh"] = cut("weight_hh", rows, out)
            if projection:
                parts["weight_hr"] = cut("weight_hr", projection, hidden)
            weights.append(parts)
    for parts in weights:
        parts["bias_ih"], parts["bias_hh"] = cut("bias_ih", rows), cut("bias_hh", rows)
    return weights
