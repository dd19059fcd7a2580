"""Elementwise functions: density (f(x) - f(0)) / x however they are written, exact near zero, f(0) in the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.helpers import Headed, explained

pytestmark = pytest.mark.core

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """`written` as a model writes it, `truth` by another route, the slope of f at zero from the right and left."""

    written: Function
    truth: Function
    slope: tuple[float, float]


def _phi(x: Tensor) -> Tensor:
    return 0.5 * torch.special.erfc(-x / math.sqrt(2))


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def _tanh_gelu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def _selu(x: Tensor) -> Tensor:
    return 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (torch.exp(x) - 1))


MISH = math.tanh(math.log(2))
CASES: dict[str, Case] = {
    "gelu": Case(F.gelu, lambda x: x * _phi(x), (0.5, 0.5)),
    "gelu-tanh": Case(lambda x: F.gelu(x, approximate="tanh"), _tanh_gelu, (0.5, 0.5)),
    "gelu-tanh-in-full": Case(
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), _tanh_gelu, (0.5, 0.5)
    ),
    "gelu-erf-in-full": Case(lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), lambda x: x * _phi(x), (0.5, 0.5)),
    "quick-gelu": Case(lambda x: x * torch.sigmoid(1.702 * x), lambda x: x * _sigmoid(1.702 * x), (0.5, 0.5)),
    "silu": Case(F.silu, lambda x: x * _sigmoid(x), (0.5, 0.5)),
    "silu-in-full": Case(lambda x: x * torch.sigmoid(x), lambda x: x * _sigmoid(x), (0.5, 0.5)),
    "tanh": Case(torch.tanh, lambda x: torch.expm1(2 * x) / (torch.expm1(2 * x) + 2), (1.0, 1.0)),
    "elu": Case(nn.ELU(0.7), lambda x: torch.where(x > 0, x, 0.7 * torch.expm1(x)), (1.0, 0.7)),
    "celu": Case(nn.CELU(1.3), lambda x: torch.where(x > 0, x, 1.3 * torch.expm1(x / 1.3)), (1.0, 1.0)),
    "selu": Case(F.selu, _selu, (1.0507009873554805, 1.0507009873554805 * 1.6732632423543772)),
    "softplus": Case(F.softplus, _softplus, (0.5, 0.5)),
    "softsign": Case(F.softsign, lambda x: x / (1 + x.abs()), (1.0, 1.0)),
    "hardswish": Case(F.hardswish, lambda x: x * ((x + 3).clamp(0, 6) / 6), (0.5, 0.5)),
    "hardswish-in-full": Case(lambda x: x * F.relu6(x + 3) / 6, lambda x: x * ((x + 3).clamp(0, 6) / 6), (0.5, 0.5)),
    "relu": Case(F.relu, lambda x: x.clamp(min=0), (1.0, 0.0)),
    "leaky-relu": Case(lambda x: F.leaky_relu(x, 0.2), lambda x: torch.where(x > 0, x, 0.2 * x), (1.0, 0.2)),
    "relu6": Case(F.relu6, lambda x: x.clamp(0, 6), (1.0, 0.0)),
    "hardtanh": Case(F.hardtanh, lambda x: x.clamp(-1, 1), (1.0, 1.0)),
    "clamp": Case(lambda x: x.clamp(-2.0, 1.5), lambda x: x.maximum(-2 + 0 * x).minimum(1.5 + 0 * x), (1.0, 1.0)),
    "mish": Case(F.mish, lambda x: x * torch.tanh(_softplus(x)), (MISH, MISH)),
    "mish-in-full": Case(lambda x: x * torch.tanh(F.softplus(x)), lambda x: x * torch.tanh(_softplus(x)), (MISH, MISH)),
    "sigmoid": Case(torch.sigmoid, _sigmoid, (0.25, 0.25)),
    "hardsigmoid": Case(F.hardsigmoid, lambda x: ((x + 3) / 6).clamp(0, 1), (1 / 6, 1 / 6)),
    "logsigmoid": Case(F.logsigmoid, lambda x: -_softplus(-x), (0.5, 0.5)),
    "prelu": Case(
        lambda x: F.prelu(x, torch.tensor(0.3, dtype=x.dtype)), lambda x: torch.where(x > 0, x, 0.3 * x), (1.0, 0.3)
    ),
    "threshold": Case(
        lambda x: F.threshold(x, -1.0, 2.0), lambda x: torch.where(x > -1, x, torch.full_like(x, 2.0)), (1.0, 1.0)
    ),
    "softshrink": Case(F.softshrink, lambda x: (x.abs() - 0.5).clamp(min=0) * x.sign(), (0.0, 0.0)),
    "tanhshrink": Case(F.tanhshrink, lambda x: x - torch.tanh(x), (0.0, 0.0)),
    "square-of-relu": Case(lambda x: F.relu(x).square(), lambda x: x.clamp(min=0) ** 2, (0.0, 0.0)),
    "cube": Case(lambda x: x**3, lambda x: x * x * x, (0.0, 0.0)),
    "exponential": Case(lambda x: torch.exp(0.3 * x), lambda x: torch.exp(0.3 * x), (0.3, 0.3)),
    "absolute": Case(torch.abs, lambda x: x * x.sign(), (1.0, -1.0)),
    "square": Case(lambda x: x * x, lambda x: x**2, (0.0, 0.0)),
    "sine": Case(torch.sin, lambda x: torch.cos(x - math.pi / 2), (1.0, 1.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_quotient(name: str) -> None:
    case = CASES[name]
    x = torch.linspace(-8, 8, 2 * 9 + 2, dtype=torch.float64).reshape(2, 10)
    net = Headed(case.written, 10).double()
    density = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    result = explained(net, x, density)
    upstream = density @ net.head.weight.detach()
    offset = case.truth(torch.zeros_like(x))
    torch.testing.assert_close(result.relevance, (case.truth(x) - offset) * upstream, atol=1e-10, rtol=1e-8)
    assert result.ledger is not None
    assert result.ledger.amounts.get("offset", 0.0) == pytest.approx(float((offset * upstream).sum()), abs=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_small_inputs_in_single_precision(name: str) -> None:
    """The plain quotient of softplus at 1e-6 gives 0.477; the truth is 0.5."""
    case = CASES[name]
    size = torch.tensor([1e-30, 1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.5])
    x = torch.stack([size, -0.7 * size])
    net = Headed(case.written, len(size))
    density = torch.ones(2, 3)
    upstream = (density @ net.head.weight.detach()).double()
    exact = x.double()
    slopes = (case.truth(exact) - case.truth(torch.zeros_like(exact))) / exact
    limits = torch.tensor(case.slope, dtype=torch.float64)[:, None].expand_as(slopes)
    slopes = torch.where(exact.abs() < 1e-5, limits, slopes)
    ours = explained(net, x, density).relevance.double() / exact / upstream
    torch.testing.assert_close(ours, slopes, atol=3e-5, rtol=3e-4)


def test_zero_itself_is_finite() -> None:
    x = torch.zeros(1, 4)
    for case in CASES.values():
        result = explained(Headed(case.written, 4), x, torch.ones(1, 3))
        assert float(result.relevance.abs().sum()) == 0.0


def test_in_place_forms() -> None:
    """In-place activations keep the value before, or only the result: the density is the same."""
    x = torch.linspace(-4, 7, 10, dtype=torch.float64).reshape(1, 10)
    density = torch.ones(1, 3, dtype=torch.float64)
    for module, truth in [
        (nn.ReLU(inplace=True), CASES["relu"].truth),
        (nn.ReLU6(inplace=True), CASES["relu6"].truth),
        (nn.SiLU(inplace=True), CASES["silu"].truth),
        (nn.Hardswish(inplace=True), CASES["hardswish"].truth),
        (nn.ELU(0.7, inplace=True), CASES["elu"].truth),
        (nn.LeakyReLU(0.2, inplace=True), CASES["leaky-relu"].truth),
        (nn.Mish(inplace=True), CASES["mish"].truth),
        (nn.Hardtanh(inplace=True), CASES["hardtanh"].truth),
    ]:
        first = nn.Linear(10, 10, bias=False).double()
        with torch.no_grad():
            first.weight.copy_(torch.eye(10) * 2)
        net = Headed(nn.Sequential(first, module), 10).double()
        upstream = density @ net.head.weight.detach()
        result = explained(net, x, density)
        torch.testing.assert_close(result.relevance, truth(2 * x) * upstream, atol=1e-10, rtol=1e-8)
