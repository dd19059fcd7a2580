"""Recurrent layers step by step, where torch's own differ: other activations, peepholes, live weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.models.operators.sequences import sequence_reverse

ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "relu": lambda x, _, __: x.relu(),
    "tanh": lambda x, _, __: x.tanh(),
    "sigmoid": lambda x, _, __: x.sigmoid(),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, _: F.leaky_relu(x, a),
    "thresholdedrelu": lambda x, a, _: F.threshold(x, a, 0.0),
    "scaledtanh": lambda x, a, b: a * (b * x).tanh(),
    "hardsigmoid": lambda x, a, b: (a * x + b).clamp(0, 1),
    "elu": lambda x, a, _: F.elu(x, a),
    "softsign": lambda x, _, __: F.softsign(x),
    "softplus": lambda x, _, __: F.softplus(x),
}
Activation = tuple[str, float, float]


def recurrent_steps(
    x: Tensor,
    weight: Tensor,
    recurrent: Tensor,
    bias: Tensor | None,
    lengths: Tensor | None,
    state: Tensor | None,
    cell: Tensor | None,
    peepholes: Tensor | None,
    *,
    kind: str,
    activations: Sequence[Activation],
    reverse: Sequence[bool],
    clip: float | None = None,
    reset_after: bool = False,
    coupled: bool = False,
) -> tuple[Tensor, ...]:
    """One layer of one or two directions, as ONNX defines it.

    Args:
        x: (T, N, C).
        weight: (D, gates * H, C); gates in ONNX's order: input, output, forget, cell; update, reset, hidden.
        recurrent: (D, gates * H, H).
        bias: (D, 2 * gates * H), of the input and of the state.
        lengths: (N,); steps beyond give 0.
        state: (D, N, H), or zeros.
        cell: likewise.
        peepholes: (D, 3 * H) of an LSTM: input, output, forget.
        kind: ``lstm``, ``gru`` or ``rnn``.
        activations: names and their two numbers, one to three a direction.
        reverse: for each direction whether it runs backwards.
        clip: bound of the gates' sums before their activations.
        reset_after: whether a GRU resets what the state gives rather than the state.
        coupled: whether an LSTM's forget gate is one minus its input gate.

    Returns:
        (T, D, N, H), then (D, N, H) of the last states, and of an LSTM of the last cells.
    """
    each = len(activations) // len(reverse)
    # What bounds is the sums of the gates; the cell itself onnxruntime leaves as it is.
    functions = [_bounded(activation, clip if k % each < 2 else None) for k, activation in enumerate(activations)]

    def direction(place: int, sequence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w, r, gates = weight[place], recurrent[place], functions[place * each : (place + 1) * each]
        of_input, of_state = (None, None) if bias is None else bias[place].chunk(2)
        reach = None if peepholes is None else peepholes[place]
        h = x.new_zeros(x.shape[1], r.shape[1]) if state is None else state[place]
        c = torch.zeros_like(h) if cell is None else cell[place]
        steps = []
        for step, given in enumerate(F.linear(sequence, w, of_input)):
            if kind == "gru":
                new, new_c = _gru(given, h, r, of_state, gates, reset_after), c
            elif kind == "rnn":
                new, new_c = gates[0](given + F.linear(h, r, of_state)), c
            else:
                new, new_c = _lstm(given + F.linear(h, r, of_state), c, reach, gates, coupled)
            if lengths is not None:
                inside = (lengths > step).unsqueeze(1)
                h, c = torch.where(inside, new, h), torch.where(inside, new_c, c)
                steps.append(torch.where(inside, new, torch.zeros_like(new)))
            else:
                h, c = new, new_c
                steps.append(new)
        return torch.stack(steps), h, c

    outs, ends, cells = [], [], []
    for place, backwards in enumerate(reverse):
        out, end, last = direction(place, sequence_reverse(x, lengths) if backwards else x)
        outs.append(sequence_reverse(out, lengths) if backwards else out)
        ends.append(end)
        cells.append(last)
    made = torch.stack(outs, 1), torch.stack(ends)
    return (*made, torch.stack(cells)) if kind == "lstm" else made


def _bounded(activation: Activation, clip: float | None) -> Callable[[Tensor], Tensor]:
    name, alpha, beta = activation
    function = ACTIVATIONS[name]
    return lambda x: function(x if clip is None else x.clamp(-clip, clip), alpha, beta)


def _lstm(
    given: Tensor, c: Tensor, peepholes: Tensor | None, functions: Sequence[Callable[[Tensor], Tensor]], coupled: bool
) -> tuple[Tensor, Tensor]:
    gate, squash, shape = functions
    i, o, f, g = given.chunk(4, 1)
    to_i, to_o, to_f = (0.0, 0.0, 0.0) if peepholes is None else peepholes.chunk(3)
    i = gate(i + to_i * c)
    f = 1 - i if coupled else gate(f + to_f * c)
    c = f * c + i * squash(g)
    return gate(o + to_o * c) * shape(c), c


def _gru(
    given: Tensor,
    h: Tensor,
    recurrent: Tensor,
    bias: Tensor | None,
    functions: Sequence[Callable[[Tensor], Tensor]],
    reset_after: bool,
) -> Tensor:
    gate, squash = functions
    width = h.shape[1]
    z, r, new = given.chunk(3, 1)
    parts = (None, None) if bias is None else (bias[: 2 * width], bias[2 * width :])
    to_z, to_r = F.linear(h, recurrent[: 2 * width], parts[0]).chunk(2, 1)
    z, r = gate(z + to_z), gate(r + to_r)
    if reset_after:
        new = squash(new + r * F.linear(h, recurrent[2 * width :], parts[1]))
    else:
        new = squash(new + F.linear(r * h, recurrent[2 * width :], parts[1]))
    return (1 - z) * new + z * h
