"""Every gradient method at a layer and for a neuron, against Captum's classes for these."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import ExpectedGradients, IntegratedGradients
from tests.trace.models import MODELS, Made, numbers, seeded

LAYERS = {"dense": ["0", "1"], "convolutional": ["0", "2", "5"], "transformer": ["0.linear2", "0.norm2", "0.self_attn"]}
CASES = [(name, layer) for name, layers in LAYERS.items() for layer in layers]
UNITS: list[tuple[str, str, str, Any]] = [
    ("dense", "1", "1:4", 4),
    ("convolutional", "5", "5:1", 1),
    ("transformer", "2", "2:2", 2),
    ("recurrent", "head", "head:1", 1),
]
"""Model, layer, target, and the same neuron as Captum has it."""


def given(name: str) -> tuple[nn.Module, Tensor, list[int]]:
    build, shape = MODELS[name]
    x = numbers(*shape).double()
    return build().double(), x, [0, 1, 2, 1][: len(x)]


def part(model: nn.Module, layer: str) -> nn.Module:
    return dict(model.named_modules())[layer]


def tensor(found: Any) -> Tensor:
    """Captum gives a tuple where a module returns one."""
    return (found[0] if isinstance(found, tuple) else found).detach()


@pytest.mark.parametrize(("name", "layer"), [case for case in CASES if case[1] != "0.self_attn"])
def test_gradients_at_layers(name: str, layer: str) -> None:
    model, x, targets = given(name)
    peer = captum.LayerGradientXActivation(model, part(model, layer), multiply_by_inputs=False)
    ours = pl.explain(model, x, target=targets, method="gradient", layer=layer).layers[layer]
    assert torch.allclose(ours, tensor(peer.attribute(x, target=targets)), atol=1e-12)
    peer = captum.LayerGradientXActivation(model, part(model, layer))
    ours = pl.explain(model, x, target=targets, method="gradient-x-input", layer=layer).layers[layer]
    assert torch.allclose(ours, tensor(peer.attribute(x, target=targets)), atol=1e-12)


@pytest.mark.parametrize(("name", "layer"), [case for case in CASES if case[1] != "0.self_attn"])
def test_integrated_gradients_at_layers(name: str, layer: str) -> None:
    model, x, targets = given(name)
    peer = captum.LayerIntegratedGradients(model, part(model, layer))
    theirs = tensor(peer.attribute(x, 0.2, target=targets, n_steps=9))
    method = IntegratedGradients(steps=9, baseline=0.2)
    assert torch.allclose(
        pl.explain(model, x, target=targets, method=method, layer=layer).layers[layer], theirs, atol=1e-7
    )


def test_a_layer_that_returns_several_is_read_at_its_first() -> None:
    model, x, targets = given("transformer")
    ours = pl.explain(model, x, target=targets, method="gradient", layer="0.self_attn").layers["0.self_attn"]
    inner = pl.explain(model, x, target=targets, method="gradient", layer="0.dropout1").layers["0.dropout1"]
    assert torch.allclose(ours, inner, atol=1e-14)  # dropout that does nothing follows it


@pytest.mark.parametrize(("name", "layer", "target", "neuron"), UNITS)
def test_gradients_of_neurons(name: str, layer: str, target: str, neuron: Any) -> None:
    model, x, _ = given(name)
    theirs = captum.NeuronGradient(model, part(model, layer)).attribute(x.clone().requires_grad_(), neuron)
    assert torch.allclose(pl.explain(model, x, target=target, method="gradient").relevance, tensor(theirs), atol=1e-12)


@pytest.mark.parametrize(("name", "layer", "target", "neuron"), UNITS)
def test_integrated_gradients_of_neurons(name: str, layer: str, target: str, neuron: Any) -> None:
    model, x, _ = given(name)
    peer = captum.NeuronIntegratedGradients(model, part(model, layer))
    theirs = tensor(peer.attribute(x, neuron, baselines=0.2, n_steps=9))
    found = pl.explain(model, x, target=target, method=IntegratedGradients(steps=9, baseline=0.2))
    assert torch.allclose(found.relevance, theirs, atol=1e-7)


@pytest.mark.parametrize(("name", "layer", "target", "neuron"), UNITS[:2])
def test_expected_gradients_of_neurons(name: str, layer: str, target: str, neuron: Any) -> None:
    model, x, _ = given(name)
    samples = numbers(4, *x.shape[1:], seed=9).double()
    np.random.seed(0)
    peer = captum.NeuronGradientShap(model, part(model, layer))
    theirs = tensor(peer.attribute(x, neuron, baselines=samples, n_samples=4000))
    found = pl.explain(model, x, target=target, method=ExpectedGradients(samples=800, background=samples))
    assert float((found.relevance - theirs).norm() / theirs.norm()) < 0.05


def test_a_channel_of_a_feature_map_is_a_neuron_too() -> None:
    """Captum wants one place or a function; a channel here is its mean over all places."""
    model, x, _ = given("convolutional")
    ours = pl.explain(model, x, target="0:3", method="gradient").relevance
    peer = captum.NeuronGradient(model, part(model, "0"))
    theirs = peer.attribute(x.clone().requires_grad_(), lambda maps: maps[:, 3].mean((1, 2)))
    scale = float(ours.norm() / tensor(theirs).norm())
    assert torch.allclose(ours, tensor(theirs) * scale, atol=1e-12)


def test_a_neuron_at_a_layer_before_it() -> None:
    model, x, _ = given("convolutional")
    found = pl.explain(model, x, target="5:1", method=IntegratedGradients(steps=20), layer="1")
    tail = nn.Sequential(*list(model)[2:])  # type: ignore[call-overload]
    head = nn.Sequential(*list(model)[:2])  # type: ignore[call-overload]
    peer = captum.IntegratedGradients(tail)
    theirs = peer.attribute(head(x), head(torch.zeros_like(x)), target=1, n_steps=20)
    assert torch.allclose(found.layers["1"], theirs.detach(), atol=1e-7)


def test_a_layer_beside_the_explained_inputs_has_a_gradient_too() -> None:
    """What a layer makes of inputs that are not explained moves the output all the same."""

    def forward(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(torch.tanh(x) * self.gate(mask))

    model = seeded(lambda: Made(forward, gate=nn.Linear(6, 6), head=nn.Linear(6, 3))).double()
    x = {"x": numbers(2, 6).double(), "mask": numbers(2, 6, seed=2).double()}
    found = pl.explain(model, x, target=1, method="gradient", layer="gate").layers["gate"]
    assert torch.allclose(found, model.head.weight[1] * torch.tanh(x["x"]), atol=1e-12)  # type: ignore[union-attr, index]
