"""Methods that are names for LRP with a composite; guided backprop and deconvnet against Captum."""

from __future__ import annotations

import warnings
from typing import Any

import captum.attr as captum
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from tests.trace.models import MODELS, Made, numbers, seeded

NAMED = {
    "deep-taylor": "convolutional",
    "excitation-bp": "convolutional",
    "guided-backprop": "convolutional",
    "deconvnet": "convolutional",
    "attn-lrp": "transformer",
    "cp-lrp": "transformer",
}
PEERS = [("guided-backprop", captum.GuidedBackprop), ("deconvnet", captum.Deconvolution)]


@pytest.mark.parametrize("name", sorted(NAMED))
def test_the_name_is_lrp_with_the_composite(name: str) -> None:
    build, shape = MODELS[NAMED[name]]
    model, x = build().double(), numbers(*shape).double().clamp(-1, 1)
    named = pl.explain(model, x, target=1, method=name)
    composed = pl.explain(model, x, target=1, method="lrp", composite=name)
    assert torch.equal(named.relevance, composed.relevance)
    other = pl.explain(model, x, target=1, method="lrp", composite="epsilon")
    assert not torch.allclose(named.relevance, other.relevance, atol=1e-6)
    assert named.method == name
    assert composed.method == "lrp"


def relus() -> nn.Module:
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 2), nn.ReLU(), nn.Flatten())
    return seeded(lambda: nn.Sequential(*layers, nn.Linear(20, 3))).double()


@pytest.mark.parametrize(("name", "peer"), PEERS)
def test_backprop_through_relus_equals_captum(name: str, peer: Any) -> None:
    model, x = relus(), numbers(2, 3, 8, 8).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer(model).attribute(x.clone().requires_grad_(), target=1)
    ours = pl.explain(model, x, target=1, method=name).relevance
    assert torch.allclose(ours, theirs, atol=1e-12)
    assert float(ours.abs().max()) > 0


class Rule(torch.autograd.Function):
    """ReLU with the backward pass of Springenberg 2015, figure 1: guided backprop, or the deconvnet's."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, guided: bool) -> Tensor:
        ctx.save_for_backward(value)
        ctx.guided = guided
        return value.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        return gradient.clamp(min=0) * ((value > 0) if ctx.guided else 1), None


def chain(self: Any, x: Tensor, first: Any, second: Any) -> Tensor:
    return self.head(second(self.b(first(self.a(x)))))


def added(self: Any, x: Tensor, first: Any, second: Any) -> Tensor:
    h = first(self.a(x))
    return self.head(second(self.b(h) + h))


def shared(self: Any, x: Tensor, first: Any, second: Any) -> Tensor:
    return self.head(second(self.b(first(self.b(x)))))


ONCE = (lambda self: self.one, lambda self: self.two)
AGAIN = (lambda self: self.one, lambda self: self.one)
FUNCTION = (lambda self: self.one, lambda self: F.relu)
IN_PLACE = (lambda self: F.relu_, lambda self: lambda value: value.relu_())
SINGLED_OUT: dict[str, tuple[Any, Any, bool]] = {
    "a ReLU module that runs again": (chain, AGAIN, True),
    "a linear module that runs again": (shared, ONCE, True),
    "a residual add": (added, ONCE, True),
    "a functional ReLU": (chain, FUNCTION, False),
    "functional ReLUs in place": (chain, IN_PLACE, False),
    "all together": (lambda self, x, *relus: added(self, self.b(x), *relus), (*AGAIN[:1], *FUNCTION[1:]), False),
}
"""The forward, its ReLUs, and whether Captum gets it right: it hooks modules, so that a function is plain gradient."""


def gradient(output: Tensor, leaf: Tensor) -> Tensor:
    found: Tensor = torch.autograd.grad(output[:, 1].sum(), leaf)[0]
    return found


@pytest.mark.parametrize("case", sorted(SINGLED_OUT))
@pytest.mark.parametrize(("name", "peer"), PEERS)
def test_functions_reused_modules_and_residual_adds_follow_the_rule(name: str, peer: Any, case: str) -> None:
    forward, relus, known_to_captum = SINGLED_OUT[case]

    def run(self: Any, x: Tensor) -> Tensor:
        out: Tensor = forward(self, x, *(relu(self) for relu in relus))
        return out

    def build() -> nn.Module:
        linear = {"a": nn.Linear(6, 6), "b": nn.Linear(6, 6), "head": nn.Linear(6, 3)}
        return Made(run, one=nn.ReLU(), two=nn.ReLU(), **linear)

    model, x = seeded(build).double(), 2 * numbers(3, 6).double()
    leaf = x.clone().requires_grad_()
    plain = gradient(model(leaf), leaf)
    rule = lambda value: Rule.apply(value, name == "guided-backprop")  # noqa: E731
    expected = gradient(forward(model, leaf, rule, rule), leaf)
    assert float((expected - plain).abs().max()) > 0.01
    assert torch.allclose(pl.explain(model, x, target=1, method=name).relevance, expected, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer(model).attribute(x.clone().requires_grad_(), target=1)
    if known_to_captum:
        assert torch.allclose(theirs, expected, atol=1e-12)
        return
    assert float((theirs - expected).abs().max()) > 0.1 * float(expected.abs().max())
    if case == "functional ReLUs in place":  # there is no module to hook at all
        assert torch.equal(theirs, plain)
