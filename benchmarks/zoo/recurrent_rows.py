"""Recurrent forms, and models that reach the library scripted, traced or exported."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.zoo.registry import Inputs, Row

FEATURES, HIDDEN, STEPS, CLASSES = 6, 16, 10, 5


class LastState(nn.Module):
    """A recurrent module and a linear read-out of its last step. Shape: (1, steps, features) -> (1, classes)."""

    def __init__(self, recurrent: nn.Module, width: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states = self.recurrent(x)[0]
        return self.head(states[:, -1])


class CellLoop(nn.Module):
    """An LSTM cell in a loop of the user's own. Shape: (1, steps, features) -> (1, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        memory = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        for step in range(x.shape[1]):
            hidden, memory = self.cell(x[:, step], (hidden, memory))
        return self.head(hidden)


class Words(nn.Module):
    """A bidirectional LSTM over embedded words, mean of its states. Shape: ids (1, steps) -> (1, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, FEATURES)
        self.recurrent = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        states, _ = self.recurrent(self.embedding(ids))
        return self.head(states.mean(1))


class Encoder(nn.Module):
    """A small transformer encoder with a class read-out. Shape: (1, steps, features) -> (1, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(FEATURES, HIDDEN)
        layer = nn.TransformerEncoderLayer(HIDDEN, 4, 2 * HIDDEN, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.project(x)).mean(1))


class Gated(nn.Module):
    """A perceptron with a gated hidden layer. Shape: (1, features) -> (1, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(FEATURES, HIDDEN), nn.Linear(FEATURES, HIDDEN)
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.value(x) * torch.sigmoid(self.gate(x))
        return self.head(torch.relu(self.hidden(mixed)) + mixed)


def _series(build: Callable[[], nn.Module]) -> tuple[nn.Module, Inputs]:
    return build(), torch.randn(1, STEPS, FEATURES)


def _last(kind: type[nn.Module], **settings: Any) -> tuple[nn.Module, Inputs]:
    width = HIDDEN * (2 if settings.get("bidirectional") else 1)
    return LastState(kind(FEATURES, HIDDEN, batch_first=True, **settings), width), torch.randn(1, STEPS, FEATURES)


def _words() -> tuple[nn.Module, Inputs]:
    return Words(), torch.randint(0, 32, (1, STEPS))


def _gated() -> tuple[nn.Module, Inputs]:
    return Gated(), torch.randn(1, FEATURES)


def _vision(name: str) -> tuple[nn.Module, Inputs]:
    return torchvision.models.get_model(name, weights=None), torch.randn(1, 3, 64, 64)


def _script(model: nn.Module, x: Inputs) -> nn.Module:  # noqa: ARG001 - scripting needs no example
    return torch.jit.script(model)


def _trace(model: nn.Module, x: Inputs) -> nn.Module:
    return torch.jit.trace(model, x, check_trace=False)  # its check compares with the fused inference path


def _export(model: nn.Module, x: Inputs) -> nn.Module:
    return torch.export.export(copy.deepcopy(model), (x,)).module()


RECURRENT = {
    "LSTM": partial(_last, nn.LSTM),
    "GRU": partial(_last, nn.GRU),
    "RNN tanh": partial(_last, nn.RNN),
    "RNN relu": partial(_last, nn.RNN, nonlinearity="relu"),
    "LSTM bidirectional": partial(_last, nn.LSTM, bidirectional=True),
    "LSTM stacked": partial(_last, nn.LSTM, num_layers=2),
    "LSTM cell loop": partial(_series, CellLoop),
}
SCRIPTED = {
    "resnet18 scripted": (partial(_vision, "resnet18"), _script),
    "mobilenet_v3_small traced": (partial(_vision, "mobilenet_v3_small"), _trace),
    "LSTM scripted": (partial(_last, nn.LSTM), _script),
    "gated perceptron scripted": (_gated, _script),
    "transformer encoder traced": (partial(_series, Encoder), _trace),
}
EXPORTED = {
    "resnet18 exported": (partial(_vision, "resnet18"), _export),
    "mobilenet_v3_small exported": (partial(_vision, "mobilenet_v3_small"), _export),
    "LSTM over words exported": (_words, _export),
    "gated perceptron exported": (_gated, _export),
    "transformer encoder exported": (partial(_series, Encoder), _export),
}


def rows() -> list[Row]:
    """The rows of the sets "rnn", "torchscript" and "export"."""
    found = [
        Row(name=name, set="rnn", family="recurrent", kind="recurrent", make=make) for name, make in RECURRENT.items()
    ]
    for set_name, table in (("torchscript", SCRIPTED), ("export", EXPORTED)):
        found += [
            Row(name=name, set=set_name, family=set_name, kind=set_name, make=make, convert=convert)
            for name, (make, convert) in table.items()
        ]
    return found
