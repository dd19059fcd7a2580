"""Random sequence nets: attention of several kinds, gated units, norms, recurrences, indexing and contractions.

Made as `test_random_nets` is: each operation as a model writes it, and again with the rule's gradient. Softmax is
either a signal (AttnLRP: its first-order expansion) or one more gate (CP-LRP), which `gates` says. A product with a
constant matrix is a linear map and follows the rule of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import Composite
from pellucid.rules import Gamma, Gate, Taylor, Zero, ZPlus
from pellucid.selection import select
from tests.oracles.attention import scaled_gradient
from tests.oracles.ruled import ruled
from tests.rules.helpers import weighted

pytestmark = pytest.mark.core

LENGTH, WIDTH, HEADS = 5, 8, 2
F64 = torch.float64
RULES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "0": (Zero(), ("0",)),
    "gamma": (Gamma(0.4), ("gamma", 0.4)),
    "z+": (ZPlus(), ("alpha-beta", 1.0, 0.0)),
}


def _quotient(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    held = x.detach()
    slope = (f(held) - f(torch.zeros_like(held))) / held
    return f(held) + (x - held) * slope


def _rotated(x: Tensor) -> Tensor:
    angle = torch.arange(LENGTH, dtype=x.dtype)[:, None] / 3
    left, right = x.chunk(2, -1)
    return torch.cat([left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()], -1)


def _contracted(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.einsum("nld,lm->nmd", x, matrix)


LINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "rolled": lambda x: x.roll(1, 1),
    "reversed": lambda x: x.flip(1),
    "summed-up": lambda x: x.cumsum(1) / LENGTH,
    "mean-added": lambda x: x + x.mean(1, keepdim=True),
    "best-added": lambda x: x + 0.5 * x.amax(1, keepdim=True),
    "gathered": lambda x: x[:, torch.tensor([0, 0, 3, 2, 4])],
    "selected": lambda x: x.index_select(1, torch.tensor([4, 3, 2, 2, 0])),
    "rotated": _rotated,
    "padded-and-unfolded": lambda x: F.pad(x, (0, 0, 1, 1)).unfold(1, 3, 1).sum(-1),
    "heads-swapped": lambda x: x.unflatten(-1, (HEADS, -1)).flip(2).flatten(2),
    "stacked": lambda x: torch.stack([x, -0.5 * x], -1).sum(-1),
    "in-place": lambda x: x.clone().mul_(0.5).add_(0.25),
    "top-three-doubled": lambda x: x.scatter_add(1, x.topk(3, 1).indices, x.topk(3, 1).values),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "silu": F.silu,
    "squared-relu": lambda x: F.relu(x).square(),
    "quick-gelu": lambda x: x * torch.sigmoid(1.702 * x),
}
ATTENTION = ("fused", "causal", "written-out", "masked", "linear-attention", "pooled")
GATED = ("glu", "swiglu", "geglu", "self-similarity")
NORMS = ("layer-norm", "rms-norm", "rms-in-full", "unit-length")
NAMES = ("contracted", *LINEAR, *ACTIVATIONS, *ATTENTION, *ATTENTION, *GATED, *GATED, *NORMS)


class RandomSequenceNet(nn.Module):
    """`steps` random operations in a residual stream (N, L, D), then a read-out of its mean."""

    def __init__(self, seed: int, steps: int = 5) -> None:
        super().__init__()
        self.reference, self.gates = False, False
        self.rule: tuple[Any, ...] = ("0",)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(0, len(NAMES), (steps,), generator=generator).tolist()
        self.steps = [NAMES[k] for k in chosen]
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4)) for _ in range(steps))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3)
        self.token = nn.Parameter(torch.randn(WIDTH))
        self.double().eval()

    def _linear(self, layer: nn.Module, x: Tensor) -> Tensor:
        return ruled(x, layer.weight, layer.bias, F.linear, self.rule) if self.reference else layer(x)

    def _half(self, y: Tensor) -> Tensor:
        return scaled_gradient(y, 0.5) if self.reference else y

    def _gate(self, y: Tensor) -> Tensor:
        return y.detach() if self.reference else y

    def _weigh(self, weights: Tensor, values: Tensor) -> Tensor:
        """Attention weights times values."""
        return self._gate(weights) @ values if self.gates else self._half(weights @ values)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token
        for name, layers in zip(self.steps, self.layers, strict=True):
            x = x + self._step(name, layers, x)
        return self._linear(self.head, x.mean(1))

    def _step(self, name: str, layers: nn.ModuleList, x: Tensor) -> Tensor:
        if name in NORMS:
            return self._norm(name, x)
        x = self._linear(layers[0], x)
        if name == "contracted":
            matrix = torch.linspace(-1, 1, LENGTH**2, dtype=x.dtype).reshape(LENGTH, LENGTH)
            return ruled(x, matrix, None, _contracted, self.rule) if self.reference else _contracted(x, matrix)
        if name in LINEAR:
            return LINEAR[name](x)
        if name in ACTIVATIONS:
            return _quotient(x, ACTIVATIONS[name]) if self.reference else ACTIVATIONS[name](x)
        a, b, c = (self._linear(layer, x) for layer in list(layers)[1:])
        if name in GATED:
            return self._gated(name, a, b)
        return self._attention(name, a, b, c)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        if name == "layer-norm":
            if not self.reference:
                return self.norm(x)
            x = x - x.mean(-1, keepdim=True)
            return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt().detach()
        if name == "rms-norm" and not self.reference:
            return F.rms_norm(x, (WIDTH,), eps=1e-5)
        if name == "unit-length":
            return x / self._gate(x.norm(dim=-1, keepdim=True)) if self.reference else F.normalize(x, dim=-1)
        return x * self._gate(torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))

    def _gated(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        if name == "glu":
            return a * torch.sigmoid(b).detach() if self.reference else F.glu(torch.cat([a, b], -1))
        if name == "self-similarity":
            return self._half(self._half(a @ b.transpose(1, 2)) @ a) / LENGTH
        function = F.silu if name == "swiglu" else F.gelu
        return self._half((_quotient(a, function) if self.reference else function(a)) * b)

    def _attention(self, name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if name == "pooled":  # one learned query's weights over the sequence
            weights = torch.softmax(q.mean(-1, keepdim=True), 1)
            return self._gate(weights) * v if self.gates else self._half(weights * v)
        if name == "linear-attention":
            return self._half(q @ self._half(k.transpose(1, 2) @ v)) / LENGTH
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        causal = name in ("causal", "masked")
        if name in ("fused", "causal") and not self.reference:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        else:
            scores = self._half(q @ k.transpose(-1, -2)) / math.sqrt(WIDTH // HEADS)
            if causal:
                scores = scores.masked_fill(~torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril(), -math.inf)
            out = self._weigh(torch.softmax(scores, -1), v)
        return out.transpose(1, 2).flatten(2)


def _check(seed: int, rule: str, gates: bool) -> None:
    ours, theirs = RULES[rule]
    net = RandomSequenceNet(seed)
    net.rule, net.gates = theirs, gates
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(2, LENGTH, WIDTH, dtype=F64, generator=generator)
    density = torch.randn(2, 3, dtype=F64, generator=generator)
    composite = Composite([(select(op="softmax"), Gate() if gates else Taylor()), (select(), ours)])
    result = pl.explain(net, x, target=weighted(density), composite=composite)
    net.reference = True
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((net(leaf) * density).sum(), leaf)
    expected = x * gradient
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        result.relevance, expected, atol=1e-9 * scale, rtol=1e-7, msg=lambda m: f"{seed} {net.steps}\n{m}"
    )
    assert result.ledger is not None
    assert result.ledger.closed(1e-9), f"{seed} {net.steps}\n{result.ledger}"


@pytest.mark.parametrize("gates", [False, True], ids=["first-order", "gates"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("start", range(0, 40, 10))
def test_random_sequence_nets(start: int, rule: str, gates: bool) -> None:
    for seed in range(start, start + 10):
        _check(seed, rule, gates)


@pytest.mark.slow
@pytest.mark.parametrize("gates", [False, True], ids=["first-order", "gates"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("hundred", range(1, 6))
def test_five_hundred_random_sequence_nets(hundred: int, rule: str, gates: bool) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        _check(seed, rule, gates)
