"""Recurrent layers: torch's own, called with states and lengths in one flat order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pellucid.models.graph.assembly import Call, as_parameter
from pellucid.models.graph.layers import known
from pellucid.models.graph.nodes import Value


class _Flat:
    """The call of a recurrent layer as a graph makes it: (T, N, C), then states (L * D, N, H), then lengths (N,).

    States whose second axis is 1 serve every sample. Steps beyond a length give 0, and the last state is that of each
    sequence's own end.
    """

    def forward(
        self, x: Tensor, state: Tensor | None = None, cell: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The outputs of all steps (T, N, D * H), then the last states."""
        batch = x.shape[1]
        states = [given.expand(-1, batch, -1).contiguous() for given in (state, cell) if given is not None]
        start: Any = (tuple(states) if len(states) == 2 else states[0]) if states else None
        if lengths is None:
            out, end = super().forward(x, start)  # type: ignore[misc]
        else:
            packed = pack_padded_sequence(x, lengths.to("cpu", torch.int64), enforce_sorted=False)
            made, end = super().forward(packed, start)  # type: ignore[misc]
            out, _ = pad_packed_sequence(made, total_length=x.shape[0])
        return (out, *end) if isinstance(end, tuple) else (out, end)


class LSTM(_Flat, nn.LSTM):  # type: ignore[misc]
    """``nn.LSTM`` with states and lengths in order."""


class GRU(_Flat, nn.GRU):  # type: ignore[misc]
    """``nn.GRU`` with states and lengths in order."""


class RNN(_Flat, nn.RNN):  # type: ignore[misc]
    """``nn.RNN`` with states and lengths in order."""


KINDS: Mapping[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN, "rnn_relu": RNN}


def recurrent(
    call: Call,
    x: Value,
    state: Value | None,
    cell: Value | None,
    lengths: Value | None,
    weights: Sequence[Mapping[str, Value]],
    *,
    mode: str,
    width: int,
    hidden: int,
    bidirectional: bool,
    projection: int = 0,
    dropout: float = 0.0,
    label: str = "",
) -> list[Value]:
    """A recurrent layer of several layers and one or two directions.

    Args:
        x: (T, N, width).
        state: (L * D, N, H); None starts at 0.
        cell: likewise, of an LSTM.
        lengths: (N,), or None where all are T.
        weights: for every layer and direction, ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh`` and, with a
            projection, ``weight_hr``, in torch's order of gates.
        mode: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        projection: the size of an LSTM's projected output, or 0.
    """
    directions = 2 if bidirectional else 1
    layers = len(weights) // directions
    settings: dict[str, Any] = {"bidirectional": bidirectional, "bias": "bias_ih" in weights[0]}
    if mode == "lstm":
        settings["proj_size"] = projection
    elif mode.startswith("rnn"):
        settings["nonlinearity"] = mode.removeprefix("rnn_")

    def make() -> nn.Module:
        layer: nn.Module = KINDS[mode](
            width, hidden, layers, dropout=dropout if layers > 1 else 0.0, device="meta", **settings
        )
        for place, parts in enumerate(weights):
            suffix = f"_l{place // directions}{'_reverse' if place % directions else ''}"
            for name, value in parts.items():
                expected = getattr(layer, name + suffix).shape
                if known(call, value).shape != expected:
                    raise ValueError(f"{name} of shape {tuple(known(call, value).shape)} instead of {tuple(expected)}")
                setattr(layer, name + suffix, as_parameter(value))
        return layer

    return call.layer_many(make, x, state, cell, lengths, label=label, outputs=3 if mode == "lstm" else 2)
