"""Nets that between them hold every operation there is a rule for, and how to break the rule of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import Composite
from pellucid.engine.ops import Op
from pellucid.engine.registry import overlay, registered
from pellucid.engine.step import Fresh, Relevance
from pellucid.rules import Zero
from tests.rules.helpers import one_rule, weighted

Rule = Callable[[Any, Any], Sequence[Any]]
Change = Callable[[int, Tensor], Tensor | None]


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


class Spectral(nn.Module):
    """A filter in frequencies, resampling, padding, a mask, a write in place, and what only moves or sums values."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.filter = nn.Conv2d(3, 4, 3, padding=1), nn.Parameter(torch.randn(4, 8, 5, 2))
        self.head = nn.Linear(4, 4)
        self.register_buffer("mask", torch.rand(17, 17) > 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.fft.irfft2(torch.fft.rfft2(x) * torch.view_as_complex(self.filter))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = torch.where(self.mask, F.pad(x, (1, 0, 0, 1), value=0.5), 0.3)
        rows = torch.full_like(x, 0.1)
        rows[..., ::2, :] = -x[..., ::2, :]
        return self.head(rows.clone().sum((2, 3)) / 40)


class Alone(nn.Module):
    """What elsewhere is a gate, here on a path of its own, where it passes relevance on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 12), nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = self.first(x).split(3, -1)
        root = F.softplus(c).sqrt()
        return self.head(torch.cat([torch.sigmoid(a), torch.exp(b), root, d, d.norm(dim=-1, keepdim=True)], -1))


class FusedNorm(nn.Module):
    """An RMS norm in one node, as a GPU runs it: see :func:`fused_norms`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.ops.aten._fused_rms_norm(self.first(x), [6], self.weight, 1e-6)[0])


@contextmanager
def fused_norms() -> Iterator[None]:
    """Give the CPU the kernel of the fused RMS norm, which torch has for GPUs only, so that its node is made."""

    def kernel(x: Tensor, shape: list[int], weight: Tensor | None, eps: float | None) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + (eps or 0))
        return x * scale * (1 if weight is None else weight), scale

    library = torch.library.Library("aten", "IMPL")
    library.impl("_fused_rms_norm", kernel, "CPU")
    try:
        yield
    finally:
        library._destroy()


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutional": (Convolutional, (2, 3, 8, 8)),
    "attention": (lambda: Attentive(fused=False), (2, 4, 8)),
    "fused-attention": (lambda: Attentive(fused=True), (2, 4, 8)),
    "recurrent": (Recurrent, (2, 5, 4)),
    "regions": (Regions, (2, 6)),
    "spectral": (Spectral, (2, 3, 8, 8)),
    "alone": (Alone, (2, 6)),
    "fused-norm": (FusedNorm, (2, 6)),
}


@cache
def case(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """The net, in float64 and with nothing at zero; its input; the density that its output is explained with."""
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


def ledger_of(name: str, rules: dict[Op | str, Rule], composite: Composite | None = None) -> pl.Ledger:
    """The ledger of the net with ``rules`` in the place of their own; by LRP-0 unless said."""
    net, x, density = case(name)
    with overlay(rules):
        rules_of_layers = one_rule(Zero()) if composite is None else composite
        ledger = pl.explain(net, x, target=weighted(density), composite=rules_of_layers).ledger
    assert ledger is not None
    return ledger


def base(key: Op | str) -> Rule:
    """The rule that an operation has."""
    return Zero() if key in (Op.LINEAR, Op.CONVOLUTION) else registered()[key]


def changed(rule: Rule, change: Change) -> Rule:
    """The rule with each message ``m`` of operand ``k`` replaced by ``change(k, m)``."""

    def broken(step: Any, densities: Any) -> Sequence[Any]:
        out: list[Any] = []
        for k, message in enumerate(rule(step, densities)):
            if isinstance(message, (Fresh, Relevance)):
                value = change(k, message.value)
                out.append(None if value is None else type(message)(value))
            else:
                out.append(None if message is None else change(k, message))
        return out

    return broken


@cache
def carriers(name: str) -> tuple[Op | str, ...]:
    """What carries relevance somewhere in the net."""
    seen: set[Op | str] = set()

    def spy(key: Op | str) -> Change:
        def note(_: int, message: Tensor) -> Tensor:
            if bool((message != 0).any()):
                seen.add(key)
            return message

        return note

    ledger = ledger_of(name, {key: changed(base(key), spy(key)) for key in registered()})
    assert ledger.closed(1e-10), str(ledger)
    return tuple(sorted(seen, key=str))
