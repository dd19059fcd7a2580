"""check_rule passes what is right and catches what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pellucid.composites import guided_relu
from pellucid.engine.step import Relevance
from pellucid.errors import InputError
from pellucid.rules import (
    AlphaBeta,
    Box,
    Epsilon,
    Flat,
    Gamma,
    Gate,
    Half,
    LinearRule,
    Pass,
    SignalTakesAll,
    Taylor,
    WSquare,
    Zero,
    ZPlus,
)
from pellucid.rules.elementwise import ELEMENTWISE_DEFAULTS
from pellucid.rules.structural import native
from pellucid.selection import select
from pellucid.testing import check_rule
from tests.trace.models import Made, convolutional, dense, numbers, seeded

pytestmark = pytest.mark.core

RULES: list[LinearRule] = [
    Zero(), Epsilon(0.1), Epsilon(0.1, relative=True), Gamma(), AlphaBeta(), AlphaBeta(3, 2), ZPlus(), Flat(),
    WSquare(), Box(-5, 5),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("build", [convolutional, dense])
def test_rules_for_layers_are_sound(rule: LinearRule, build: Callable[[], nn.Module]) -> None:
    x = numbers(2, 3, 8, 8) if build is convolutional else numbers(4, 6)
    assert check_rule(rule, build(), x) == 2


def test_relevance_passed_on_is_sound() -> None:
    assert check_rule(Pass(), seeded(lambda: nn.Sequential(nn.Linear(6, 6))), numbers(4, 6)) == 1


def test_rules_for_products_and_softmax_are_sound() -> None:
    product = Made(lambda self, x: self.first(x) * self.second(x), first=nn.Linear(6, 4), second=nn.Linear(6, 4)).eval()
    assert check_rule(Half(), product, numbers(4, 6)) >= 1
    for rule in (SignalTakesAll(0), SignalTakesAll(1)):
        assert check_rule(rule, product, numbers(4, 6)) >= 1
    softmax = Made(lambda self, x: self.first(x).softmax(-1), first=nn.Linear(6, 4)).eval()
    assert check_rule(Taylor(), softmax, numbers(4, 6)) == 1
    assert check_rule(Gate(), softmax, numbers(4, 6)) == 1


@pytest.mark.parametrize("op", ["relu", "gelu", "silu", "leaky_relu", "activation"])
def test_elementwise_rules_are_sound(op: str) -> None:
    activations: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "gelu": nn.GELU(),
        "silu": nn.SiLU(),
        "leaky_relu": nn.LeakyReLU(),
        "activation": nn.Softplus(),
    }
    rule = next(rule for key, rule in ELEMENTWISE_DEFAULTS.items() if key.label == op)
    assert (
        check_rule(rule, seeded(lambda: nn.Sequential(nn.Linear(6, 6), activations[op])), numbers(4, 6), at=select(op))
        == 1
    )


def test_a_rule_that_is_no_relevance_propagation() -> None:
    model = dense()
    with pytest.raises(AssertionError, match="not linear in the density"):
        check_rule(guided_relu, model, numbers(4, 6), at=select("relu"), conserves=False)


@dataclass(frozen=True)
class Scaled(LinearRule):
    """1 % too much."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        return Zero().propagate(layer, density) * 1.01


@dataclass(frozen=True)
class Unbooked(LinearRule):
    """Forgets the bias."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        return layer.backward(density, layer.weight)


@dataclass(frozen=True)
class Unstabilised(LinearRule):
    """Epsilon that does not book what it absorbs."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        scaled = density * layer.output / (layer.output + 0.1 * layer.output.sign())
        layer.book_bias(scaled)
        return layer.backward(scaled, layer.weight)


@dataclass(frozen=True)
class BookedTwice(LinearRule):
    """Writes the bias into the book two times."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        layer.book_bias(density)
        return Zero().propagate(layer, density)


@dataclass(frozen=True)
class Clipped(LinearRule):
    """Only positive densities."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        return Zero().propagate(layer, density.clamp(min=0))


class Restless(LinearRule):
    """Another answer each time."""

    calls = 0

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        Restless.calls += 1
        return Zero().propagate(layer, density) * (1 + Restless.calls)


class Noisy(LinearRule):
    """Draws random numbers."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        torch.rand(1)
        return Zero().propagate(layer, density)


class Writing(LinearRule):
    """Scales the signal in place."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        message = Zero().propagate(layer, density)
        layer.x.mul_(2)
        return message


class WritingWeights(LinearRule):
    """Scales the weights in place."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor:
        message = Zero().propagate(layer, density)
        layer.weight.mul_(1.0)
        return message


class SharedEvenly(LinearRule):
    """Relevance sent as such, of which a tenth is lost."""

    def propagate(self, layer: Any, density: Tensor) -> Relevance:
        whole = (layer.output * density).flatten(1).sum(1)
        share = 0.9 * whole.view(-1, *[1] * (layer.x.ndim - 1)) / layer.x[0].numel()
        return Relevance(share.expand(layer.x.shape))


WRONG = [
    (Scaled(), "does not conserve relevance"),
    (Unbooked(), "does not conserve relevance"),
    (Unstabilised(), "does not conserve relevance"),
    (BookedTwice(), "does not conserve relevance"),
    (SharedEvenly(), "does not conserve relevance"),
    (Clipped(), "is not linear in the density"),
    (Restless(), "another message when called twice"),
    (Noisy(), "changed what it should have left as it was: the random state of torch"),
    (Writing(), "changed the value of operand"),
]


@pytest.mark.parametrize(("rule", "fault"), WRONG, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("build", [convolutional, dense])
def test_wrong_rules_are_caught(rule: LinearRule, fault: str, build: Callable[[], nn.Module]) -> None:
    x = numbers(2, 3, 8, 8) if build is convolutional else numbers(4, 6)
    with pytest.raises(AssertionError, match=fault):
        check_rule(rule, build(), x)


def test_a_rule_that_is_never_asked() -> None:
    with pytest.raises(
        InputError, match="was never asked: no operation of Sequential on a path from the input fits it"
    ):
        check_rule(Taylor(), dense(), numbers(4, 6))


def test_a_wrong_number_of_messages_and_a_wrong_shape() -> None:
    model, x = dense(), numbers(4, 6)

    def short(step: Any, densities: Any) -> Any:
        return native(step, densities)[:1]

    def broad(step: Any, densities: Any) -> Any:
        return [None if message is None else message.sum(0, keepdim=True) for message in native(step, densities)]

    with pytest.raises(AssertionError, match=r"sent 1 messages to 3 operands; send None where nothing goes"):
        check_rule(short, model, x)
    with pytest.raises(AssertionError, match=r"a message of shape \(1, 8\), expected \(4, 8\)"):
        check_rule(broad, model, x)


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


def test_a_rule_of_ones_own_for_a_function_of_ones_own() -> None:
    model = Made(lambda self, x: Doubling.apply(self.layer(x)), layer=nn.Linear(6, 3)).eval()

    def wrong(step: Any, densities: Any) -> Any:
        return [densities[0]]

    for name in ("DoublingBackward", f"{__name__}.Doubling"):
        assert check_rule(native, model, numbers(4, 6), at=name) == 1
    with pytest.raises(AssertionError, match="does not conserve relevance"):
        check_rule(wrong, model, numbers(4, 6), at="DoublingBackward")
