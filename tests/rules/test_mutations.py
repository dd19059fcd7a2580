"""The ledger catches a broken engine: whatever rule is dropped, swapped, doubled or scaled by 1.01, it turns red."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import native_gradient
from pellucid.engine.ops import Op
from pellucid.engine.registry import overlay, registered
from pellucid.engine.step import Fresh, Relevance
from pellucid.rules import Zero
from tests.rules.helpers import one_rule, weighted

TOLERANCE = 1e-6
Rule = Callable[[Any, Any], Sequence[Any]]


class Convolutional(nn.Module):
    """Batch-norm, pools, a residual sum, a squeeze-and-excite gate, group norm, several activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.outer = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.group = nn.GroupNorm(2, 6)
        self.squeeze = nn.Linear(6, 6)
        self.first, self.second = nn.Linear(6 * 4 + 6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = x + F.leaky_relu(self.outer(F.gelu(self.inner(x))), 0.1)
        x = F.silu(self.group(x))
        x = x * torch.sigmoid(self.squeeze(x.mean((2, 3))))[:, :, None, None]
        peak = F.hardswish(x).amax((2, 3))
        x = torch.cat([F.avg_pool2d(x, 2).flatten(1), peak], 1)
        return self.second(torch.tanh(self.first(x)))


class Attentive(nn.Module):
    """A block of attention and of gated units, with positions, a learned token, layer and RMS norms."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.before, self.after = nn.LayerNorm(8), nn.RMSNorm(8, eps=1e-6)
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        h = self.before(x)
        q, k, v = (layer(h).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v
        x = x + mixed.transpose(1, 2).flatten(2)
        h = self.after(x)
        x = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return self.head(x[:, 0])


class Recurrent(nn.Module):
    """An LSTM and a GRU, read at the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(4, 5, batch_first=True), nn.GRU(5, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


class Regions(nn.Module):
    """Elementwise functions of several operations, and a sum of squares with a division."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(x * torch.sigmoid(x)) + F.softplus(x) - 0.5 * x.clamp(-0.4, 0.6)
        return self.head(x / x.norm(dim=-1, keepdim=True))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutional": (Convolutional, (2, 3, 8, 8)),
    "attention": (lambda: Attentive(fused=False), (2, 4, 8)),
    "fused-attention": (lambda: Attentive(fused=True), (2, 4, 8)),
    "recurrent": (Recurrent, (2, 5, 4)),
    "regions": (Regions, (2, 6)),
}


@cache
def _case(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    make, shape = NETS[name]
    net = make().double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net, torch.randn(shape, dtype=torch.float64), torch.randn(shape[0], 4, dtype=torch.float64)


def _ledger(name: str, rules: dict[Op | str, Rule]) -> pl.Ledger:
    net, x, density = _case(name)
    with overlay(rules):
        ledger = pl.explain(net, x, target=weighted(density), composite=one_rule(Zero())).ledger
    assert ledger is not None
    return ledger


def _base(key: Op | str) -> Rule:
    return Zero() if key in (Op.LINEAR, Op.CONVOLUTION) else registered()[key]


def _changed(key: Op | str, change: Callable[[int, Tensor], Tensor | None]) -> dict[Op | str, Rule]:
    """The rule of `key`, each message `m` of operand `k` replaced by `change(k, m)`."""
    base = _base(key)

    def rule(step: Any, densities: Any) -> Sequence[Any]:
        out: list[Any] = []
        for k, message in enumerate(base(step, densities)):
            if isinstance(message, (Fresh, Relevance)):
                changed = change(k, message.value)
                out.append(None if changed is None else type(message)(changed))
            else:
                out.append(None if message is None else change(k, message))
        return out

    return {key: rule}


@cache
def _carriers(name: str) -> tuple[Op | str, ...]:
    """What carries relevance somewhere in the net."""
    seen: set[Op | str] = set()

    def spy(key: Op | str) -> Callable[[int, Tensor], Tensor]:
        def note(_: int, message: Tensor) -> Tensor:
            if bool((message != 0).any()):
                seen.add(key)
            return message

        return note

    rules: dict[Op | str, Rule] = {}
    for key in registered():
        rules |= _changed(key, spy(key))
    ledger = _ledger(name, rules)
    assert ledger.closed(1e-10), str(ledger)
    return tuple(sorted(seen, key=str))


EXPECTED: dict[str, set[Op | str]] = {
    "convolutional": {
        *(Op.CONVOLUTION, Op.LINEAR, Op.BATCH_NORM, Op.RELU, Op.MAX_POOL, Op.ADD, Op.GELU, Op.LEAKY_RELU),
        *(Op.GROUP_NORM, Op.SILU, Op.PRODUCT, Op.ACTIVATION, Op.MAX, Op.AVERAGE_POOL, Op.JOIN, Op.FUNCTION, Op.RESHAPE),
    },
    "attention": {
        Op.JOIN,
        Op.ADD,
        Op.LAYER_NORM,
        Op.LINEAR,
        Op.RESHAPE,
        Op.MATMUL,
        Op.SOFTMAX,
        Op.DIVISION,
        Op.PRODUCT,
    },
    "fused-attention": {Op.JOIN, Op.ADD, Op.LAYER_NORM, Op.LINEAR, Op.ATTENTION, Op.PRODUCT, Op.SILU, Op.SELECT},
    "recurrent": {Op.LINEAR, Op.ADD, Op.PRODUCT, Op.FUNCTION},
    "regions": {Op.LINEAR, Op.ADD, Op.ACTIVATION, Op.DIVISION, "elementwise region"},
}


@pytest.mark.parametrize("name", NETS)
def test_unbroken(name: str) -> None:
    """Without a mutation the ledger closes, and the nets hold what the mutations below need."""
    assert _ledger(name, {}).closed(1e-10)
    assert EXPECTED[name] <= set(_carriers(name))


@pytest.mark.parametrize("name", NETS)
def test_scaled_density(name: str) -> None:
    for key in _carriers(name):
        ledger = _ledger(name, _changed(key, lambda _, m: 1.01 * m))
        assert not ledger.closed(TOLERANCE), f"{key} scaled by 1.01 went unnoticed\n{ledger}"


@pytest.mark.parametrize("name", NETS)
def test_dropped_relevance(name: str) -> None:
    for key in _carriers(name):
        ledger = _ledger(name, _changed(key, lambda _, m: torch.zeros_like(m)))
        assert not ledger.closed(TOLERANCE), f"{key} dropped went unnoticed\n{ledger}"


@pytest.mark.parametrize("name", NETS)
def test_doubled_edge(name: str) -> None:
    """One operand's message counts twice, each operand in turn."""
    for key in _carriers(name):
        met: set[int] = set()

        def note(k: int, message: Tensor, met: set[int] = met) -> Tensor:
            if bool((message != 0).any()):
                met.add(k)
            return message

        _ledger(name, _changed(key, note))
        for operand in met:
            ledger = _ledger(name, _changed(key, lambda k, m, operand=operand: 2 * m if k == operand else m))
            assert not ledger.closed(TOLERANCE), f"{key}: operand {operand} doubled went unnoticed\n{ledger}"


NOT_THEIR_GRADIENT = {
    "convolutional": (Op.GELU, Op.SILU, Op.ACTIVATION, Op.FUNCTION, Op.GROUP_NORM),
    "attention": (Op.MATMUL, Op.LAYER_NORM, Op.SILU),
    "fused-attention": (Op.ATTENTION, Op.LAYER_NORM, Op.PRODUCT),
    "recurrent": (Op.FUNCTION,),
    "regions": (Op.ACTIVATION, "elementwise region"),
}


@pytest.mark.parametrize("name", NETS)
def test_missing_rule_replaced_by_the_gradient(name: str) -> None:
    """The mistake this library exists to avoid: the plain derivative where a rule belongs."""
    for key in NOT_THEIR_GRADIENT[name]:
        if key == "elementwise region":
            continue
        ledger = _ledger(name, {key: native_gradient})
        assert not ledger.closed(TOLERANCE), f"{key} by its gradient went unnoticed\n{ledger}"


SWAPPED: list[tuple[str, Op | str, Op | str]] = [
    ("convolutional", Op.GELU, Op.RELU),
    ("convolutional", Op.GELU, Op.SILU),
    ("convolutional", Op.SILU, Op.GELU),
    ("convolutional", Op.FUNCTION, Op.RELU),
    ("convolutional", Op.ACTIVATION, Op.SILU),
    ("attention", Op.SILU, Op.GELU),
    ("fused-attention", Op.SILU, Op.GELU),
    ("regions", Op.ACTIVATION, Op.RELU),
]


@pytest.mark.parametrize(("name", "key", "other"), SWAPPED)
def test_swapped_rule(name: str, key: Op | str, other: Op | str) -> None:
    ledger = _ledger(name, {key: _base(other)})
    assert not ledger.closed(TOLERANCE), f"{key} with the rule of {other} went unnoticed\n{ledger}"
