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


@pytest.mark.parametrize(
    ("name", "peer"), [("guided-backprop", captum.GuidedBackprop), ("deconvnet", captum.Deconvolution)]
)
def test_backprop_through_relus_equals_captum(name: str, peer: Any) -> None:
    model, x = relus(), numbers(2, 3, 8, 8).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer(model).attribute(x.clone().requires_grad_(), target=1)
    ours = pl.explain(model, x, target=1, method=name).relevance
    assert torch.allclose(ours, theirs, atol=1e-12)
    assert float(ours.abs().max()) > 0


def again(self: Any, x: Tensor) -> Tensor:
    x = F.relu(self.a(x))
    x = self.act(self.b(x) + x)
    return self.head(self.act(self.b(x) - 0.1))


def by_hand(model: Any, x: Tensor, *, guided: bool) -> Tensor:
    """The rule of Springenberg 2015, figure 1, written as an autograd function."""

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            ctx.save_for_backward(value)
            return value.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (value,) = ctx.saved_tensors
            return gradient.clamp(min=0) * ((value > 0) if guided else 1)

    leaf = x.clone().requires_grad_()
    relu = Relu.apply
    h = relu(model.a(leaf))
    h = relu(model.b(h) + h)
    out = model.head(relu(model.b(h) - 0.1))
    gradient: Tensor = torch.autograd.grad(out[:, 1].sum(), leaf)[0]
    return gradient


@pytest.mark.parametrize(
    ("name", "peer"), [("guided-backprop", captum.GuidedBackprop), ("deconvnet", captum.Deconvolution)]
)
def test_functions_and_reused_modules_count_where_captum_misses_them(name: str, peer: Any) -> None:
    def build() -> nn.Module:
        return Made(again, a=nn.Linear(6, 8), b=nn.Linear(8, 8), act=nn.ReLU(), head=nn.Linear(8, 3))

    model, x = seeded(build).double(), numbers(3, 6).double()
    expected = by_hand(model, x, guided=name == "guided-backprop")
    assert torch.allclose(pl.explain(model, x, target=1, method=name).relevance, expected, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer(model).attribute(x.clone().requires_grad_(), target=1)
    assert not torch.allclose(theirs, expected, atol=1e-3)  # the function's ReLU got a plain gradient
