"""Recurrent layers against forwards written by hand: gates are constants, tanh passes relevance, sums share it.

The gradient of each forward below is the density of that rule, as in `tests.oracles.attention`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pellucid.engine import shadow
from tests.oracles.attention import quotient
from tests.rules.helpers import explained

pytestmark = pytest.mark.core

F64 = torch.float64
Step = Callable[[Tensor, tuple[Tensor, ...], list[Tensor]], tuple[Tensor, ...]]


def _lstm(x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
    h, c = state
    w, u, b, d = weights
    i, f, g, o = (x @ w.T + h @ u.T + b + d).chunk(4, -1)
    c = f.sigmoid().detach() * c + i.sigmoid().detach() * quotient(g, torch.tanh)
    return o.sigmoid().detach() * quotient(c, torch.tanh), c


def _gru(x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
    (h,) = state
    w, u, b, d = weights
    r, z, n = (x @ w.T + b).chunk(3, -1)
    from_r, from_z, from_n = (h @ u.T + d).chunk(3, -1)
    r, z = (r + from_r).sigmoid().detach(), (z + from_z).sigmoid().detach()
    return ((1 - z) * quotient(n + r * from_n, torch.tanh) + z * h,)


def _rnn(activation: Callable[[Tensor], Tensor]) -> Step:
    def step(x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
        (h,) = state
        w, u, b, d = weights
        return (quotient(x @ w.T + h @ u.T + b + d, activation),)

    return step


def _layers(x: Tensor, net: nn.RNNBase, step: Step, states: int) -> Tensor:
    """All states (N, T, directions * hidden) of a stack, batch first."""
    for layer in range(net.num_layers):
        outputs = []
        for suffix in ("", "_reverse") if net.bidirectional else ("",):
            weights = [
                getattr(net, f"{kind}_l{layer}{suffix}").detach()
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            state = tuple(x.new_zeros(len(x), net.hidden_size) for _ in range(states))
            steps = range(x.shape[1])
            found: dict[int, Tensor] = {}
            for t in reversed(steps) if suffix else steps:
                state = step(x[:, t], state, weights)
                found[t] = state[0]
            outputs.append(torch.stack([found[t] for t in steps], 1))
        x = torch.cat(outputs, -1)
    return x


class States(nn.Module):
    """All states of a recurrent layer."""

    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: Tensor) -> Tensor:
        return self.recurrent(x)[0]


CASES: dict[str, tuple[Callable[[], nn.RNNBase], Step, int]] = {
    "lstm": (lambda: nn.LSTM(3, 4, batch_first=True), _lstm, 2),
    "lstm-two-layers": (lambda: nn.LSTM(3, 4, num_layers=2, batch_first=True), _lstm, 2),
    "lstm-both-ways": (lambda: nn.LSTM(3, 4, bidirectional=True, batch_first=True), _lstm, 2),
    "gru": (lambda: nn.GRU(3, 4, num_layers=2, batch_first=True), _gru, 1),
    "gru-both-ways": (lambda: nn.GRU(3, 4, bidirectional=True, batch_first=True), _gru, 1),
    "rnn-tanh": (lambda: nn.RNN(3, 4, num_layers=2, batch_first=True), _rnn(torch.tanh), 1),
    "rnn-relu": (lambda: nn.RNN(3, 4, nonlinearity="relu", batch_first=True), _rnn(torch.relu), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_forward_by_hand(name: str) -> None:
    """The GRU's reset gate acts on a bias alone at the first step, which is no signal it could gate: that bias is 0."""
    make, step, states = CASES[name]
    torch.manual_seed(0)
    recurrent = make().double()
    if isinstance(recurrent, nn.GRU):
        with torch.no_grad():
            for key, parameter in recurrent.named_parameters():
                if key.startswith("bias_hh"):
                    parameter[-recurrent.hidden_size :] = 0.0
    x = torch.randn(2, 5, 3, dtype=F64)
    leaf = x.clone().requires_grad_()
    y = _layers(leaf, recurrent, step, states)
    torch.testing.assert_close(y, recurrent(x)[0])
    density = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((y * density).sum(), leaf)
    torch.testing.assert_close(explained(States(recurrent), x, density).relevance, x * gradient, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ["lstm", "lstm-both-ways", "gru", "rnn-tanh"])
def test_the_way_that_devices_with_fused_cells_take(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's decompositions in Python give the same; on a GPU they stand in for kernels that hide the gates."""
    make, _, _ = CASES[name]
    torch.manual_seed(0)
    recurrent = make().double()
    x = torch.randn(2, 5, 3, dtype=F64)
    with torch.no_grad():
        density = torch.randn_like(recurrent(x)[0])
    expected = explained(States(recurrent), x, density).relevance
    monkeypatch.setattr(shadow, "_has_fused_cells", lambda _: True)
    torch.testing.assert_close(explained(States(recurrent), x, density).relevance, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn-tanh"])
def test_cells(name: str) -> None:
    """A loop over cells is the same computation."""
    make, _, states = CASES[name]
    torch.manual_seed(0)
    recurrent = make().double()
    if recurrent.num_layers > 1:
        recurrent = type(recurrent)(3, 4, batch_first=True).double()
    kinds: dict[type, type] = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}
    cell = kinds[type(recurrent)](3, 4).double()
    with torch.no_grad():
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            source = getattr(recurrent, f"{kind}_l0")
            if kind == "bias_hh" and name == "gru":
                source[-4:] = 0.0
            getattr(cell, kind).copy_(source)

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: Tensor) -> Tensor:
            zeros = x.new_zeros(len(x), 4)
            state: object = (zeros, zeros) if states == 2 else zeros
            found = []
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], state)
                found.append(state[0] if isinstance(state, tuple) else state)
            return torch.stack(found, 1)

    x = torch.randn(2, 5, 3, dtype=F64)
    density = torch.randn(2, 5, 4, dtype=F64)
    ours = explained(Loop(), x, density).relevance
    torch.testing.assert_close(ours, explained(States(recurrent), x, density).relevance, atol=1e-10, rtol=1e-10)
