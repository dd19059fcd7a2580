"""Random nets of many operations against a forward whose plain gradient is the density of the rules.

Each operation is written twice: as a model writes it, and with the rule's gradient (statistics and gates detached,
quotients for activations, halves for products). Relevance must be input times that gradient, and the ledger must close.
A value's depth counts the gates on its way: in a product the shallower factor is the signal, equal ones share.
The linear maps follow each rule in turn, with a batch-norm that alone follows one folded into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.rules import AlphaBeta, Epsilon, Gamma, Zero, ZPlus
from tests.oracles.attention import scaled_gradient
from tests.oracles.ruled import ruled
from tests.rules.helpers import explained

pytestmark = pytest.mark.core

CHANNELS, SIZE = 4, 4
F64 = torch.float64


RULES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "0": (Zero(), ("0",)),
    "epsilon": (Epsilon(0.05), ("epsilon", 0.05)),
    "gamma": (Gamma(0.4), ("gamma", 0.4)),
    "z+": (ZPlus(), ("alpha-beta", 1.0, 0.0)),
    "alpha-beta": (AlphaBeta(1.25, 0.25), ("alpha-beta", 1.25, 0.25)),
}


@dataclass(frozen=True)
class Value:
    """A tensor (N, 4, 4, 4) and how many gates lie on its way."""

    tensor: Tensor
    depth: int = 0


def _quotient(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """f(x) with gradient (f(x) - f(0)) / x."""
    held = x.detach()
    slope = (f(held) - f(torch.zeros_like(held))) / held
    return f(held) + (x - held) * slope


def _norm(x: Tensor, dims: tuple[int, ...], *, centre: bool = True) -> Tensor:
    x = x - x.mean(dims, keepdim=True) if centre else x
    return x / (x.square().mean(dims, keepdim=True) + 1e-5).sqrt().detach()


def _hand_norm(x: Tensor) -> Tensor:
    x = x - x.mean((2, 3), keepdim=True)
    return x / torch.sqrt(x.pow(2).mean((2, 3), keepdim=True) + 1e-5)


def _hand_rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5)


def _overwritten(a: Tensor, b: Tensor) -> Tensor:
    out = a.clone()
    out[:, :2] = b[:, 2:]
    return out


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "elu": F.elu,
    "softplus": F.softplus,
    "leaky-relu": lambda x: F.leaky_relu(x, 0.2),
    "tanh-gelu": lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x.pow(3)))),
    "swish": lambda x: x * torch.sigmoid(x),
}
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu_": lambda x: F.relu(x, inplace=True),
    "hardswish_": lambda x: F.hardswish(x, inplace=True),
    "silu_": lambda x: F.silu(x, inplace=True),
    "elu_": lambda x: F.elu(x, inplace=True),
    "tanh_": torch.tanh_,
}
UNARY_LINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda x: x.flip(3),
    "permute": lambda x: x.permute(0, 1, 3, 2),
    "max-pool": lambda x: F.max_pool2d(x, 3, 1, 1),
    "average-pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "pad-and-slice": lambda x: F.pad(x, (2, 0, 1, 0))[:, :, :SIZE, :SIZE],
    "shift": lambda x: 0.7 * x + 0.3,
    "less-its-mean": lambda x: x - x.mean((2, 3), keepdim=True),
    "scaled-and-shuffled": lambda x: x.reshape(len(x), 2, 2, SIZE, SIZE).transpose(1, 2).flatten(1, 2) / 1.7,
    "interpolate": lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear"),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "masked": lambda x: x.masked_fill(torch.eye(SIZE, dtype=torch.bool), 0.25),
    "top": lambda x: x.sort(1).values,
}
NORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "layer-norm": (lambda x: F.layer_norm(x, x.shape[1:], eps=1e-5), lambda x: _norm(x, (1, 2, 3))),
    "instance-norm": (lambda x: F.instance_norm(x, eps=1e-5), lambda x: _norm(x, (2, 3))),
    "group-norm": (
        lambda x: F.group_norm(x, 2, eps=1e-5),
        lambda x: _norm(x.unflatten(1, (2, 2)), (2, 3, 4)).flatten(1, 2),
    ),
    "norm-in-full": (_hand_norm, lambda x: _norm(x, (2, 3))),
    "rms-in-full": (_hand_rms, lambda x: _norm(x, (1,), centre=False)),
}
BINARY = ("sum", "difference", "in-place-sum", "product", "product-in-place", "gate", "squeeze", "quotient", "joined")
BINARY += ("overwritten", "matmul", "maximum", "softmax-gate")


class RandomNet(nn.Module):
    """`steps` random operations on earlier values, then a read-out; `reference` for the rules' gradient."""

    def __init__(self, seed: int, steps: int = 7) -> None:
        super().__init__()
        self.reference = False
        self.rule: tuple[Any, ...] = ("0",)
        generator = torch.Generator().manual_seed(seed)

        def pick(count: int) -> int:
            return int(torch.randint(0, count, (1,), generator=generator))

        unary = [*ACTIVATIONS, *IN_PLACE, *UNARY_LINEAR, *NORMS, "sigmoid", "batch-norm"]
        self.steps: list[tuple[str, int, int]] = []
        for made in range(steps):
            names = unary if pick(2) else list(BINARY)
            self.steps.append((names[pick(len(names))], pick(made + 1), pick(made + 1)))
        torch.manual_seed(seed)
        self.left = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(steps))
        self.right = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(steps))
        self.norms = nn.ModuleList(nn.BatchNorm2d(CHANNELS) for _ in range(steps))
        self.join = nn.ModuleList(nn.Conv2d(2 * CHANNELS, CHANNELS, 1, groups=2) for _ in range(steps))
        self.head = nn.Linear(CHANNELS * SIZE * SIZE, 3)
        for norm in self.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        self.double().eval()

    def _convolved(self, layer: nn.Module, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """`layer`, and `norm` after it."""
        if not self.reference:
            return layer(x) if norm is None else norm(layer(x))
        weight, bias = layer.weight, layer.bias
        if norm is not None and self.rule != ("0",):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = weight * scale[:, None, None, None]
            bias = (bias - norm.running_mean) * scale + norm.bias

        def apply(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            return F.conv2d(a, w, b, padding=layer.padding, groups=layer.groups)

        out = ruled(x, weight, bias, apply, self.rule)
        return out if norm is None or self.rule != ("0",) else norm(out)

    def forward(self, x: Tensor) -> Tensor:
        values = [Value(x)]
        for k, (name, first, second) in enumerate(self.steps):
            a, b = values[first], values[second]
            a = Value(self._convolved(self.left[k], a.tensor, self.norms[k] if name == "batch-norm" else None), a.depth)
            b = Value(self._convolved(self.right[k], b.tensor), b.depth)
            made = self._binary(name, k, a, b) if name in BINARY else self._unary(name, k, a)
            # The earlier value stays in the sum, so that no choice of steps cuts the input off.
            values.append(Value(made.tensor + values[-1].tensor, min(made.depth, values[-1].depth)))
        last = values[-1].tensor.flatten(1)
        return ruled(last, self.head.weight, self.head.bias, F.linear, self.rule) if self.reference else self.head(last)

    def _unary(self, name: str, k: int, a: Value) -> Value:
        x = a.tensor
        if name == "batch-norm":
            return a
        if name in UNARY_LINEAR:
            return Value(UNARY_LINEAR[name](x), a.depth)
        if name in NORMS:
            return Value(NORMS[name][self.reference](x), a.depth)
        if name == "sigmoid":
            return Value(_quotient(x, torch.sigmoid) if self.reference else torch.sigmoid(x), a.depth + 1)
        if self.reference:
            plain = ACTIVATIONS.get(name) or ACTIVATIONS[name.removesuffix("_")]
            return Value(_quotient(x, plain), a.depth)
        return Value({**ACTIVATIONS, **IN_PLACE}[name](x), a.depth)

    def _binary(self, name: str, k: int, a: Value, b: Value) -> Value:
        x, y, least = a.tensor, b.tensor, min(a.depth, b.depth)
        if name == "sum":
            return Value(x + y, least)
        if name == "difference":
            return Value(x - 0.5 * y, least)
        if name == "in-place-sum":
            return Value(x.add_(y), least)
        if name == "joined":
            return Value(self._convolved(self.join[k], torch.cat([x, y], 1)), least)
        if name == "overwritten":
            return Value(_overwritten(x, y), least)
        if name == "maximum":
            return Value(torch.maximum(x, y), least)
        if name == "quotient":
            return Value(x / (1 + (y.square().detach() if self.reference else y.square())), a.depth)
        if name == "gate":
            return self._product(Value(x, a.depth), Value(torch.sigmoid(y), b.depth + 1), torch.mul)
        if name == "softmax-gate":  # a softmax is a signal of its own: first order, and an equal share of the product
            return self._product(a, Value(torch.softmax(y, 1), b.depth), torch.mul)
        if name == "squeeze":
            gate = F.hardsigmoid(self.norms[k](F.relu(y).mean((2, 3), keepdim=True)))
            return self._product(a, Value(gate, b.depth + 1), torch.mul)
        if name == "product-in-place":
            return self._product(a, b, torch.mul if self.reference else Tensor.mul_)
        return self._product(a, b, torch.matmul if name == "matmul" else torch.mul)

    def _product(self, a: Value, b: Value, multiply: Callable[[Tensor, Tensor], Tensor]) -> Value:
        least = min(a.depth, b.depth)
        if not self.reference:
            return Value(multiply(a.tensor, b.tensor), least)
        if a.depth == b.depth:
            return Value(scaled_gradient(multiply(a.tensor, b.tensor), 0.5), least)
        x = a.tensor if a.depth == least else a.tensor.detach()
        y = b.tensor if b.depth == least else b.tensor.detach()
        return Value(multiply(x, y), least)


def _check(seed: int, rule: str) -> None:
    ours, theirs = RULES[rule]
    net = RandomNet(seed)
    net.rule = theirs
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(2, CHANNELS, SIZE, SIZE, dtype=F64, generator=generator)
    density = torch.randn(2, 3, dtype=F64, generator=generator)
    relevance = explained(net, x, density, ours).relevance
    net.reference = True
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((net(leaf) * density).sum(), leaf)
    scale = float((x * gradient).abs().max())
    torch.testing.assert_close(relevance, x * gradient, atol=1e-9 * scale, rtol=1e-7, msg=lambda m: f"{net.steps}\n{m}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("start", range(0, 60, 5))
def test_random_nets(start: int, rule: str) -> None:
    for seed in range(start, start + 5):
        _check(seed, rule)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("hundred", range(1, 11))
def test_a_thousand_random_nets(hundred: int, rule: str) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        _check(seed, rule)
