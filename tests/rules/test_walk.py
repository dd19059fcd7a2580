"""What the walk reads on its way: relevance at layers, kept units, output gates, several targets, single precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.rules import Zero
from tests.oracles import conditioned
from tests.rules.helpers import one_rule

pytestmark = pytest.mark.core


def _parts(net: nn.Module, x: Tensor, at: int, unit: int) -> tuple[Tensor, Tensor, Any]:
    """The value after layer `at` of a sequence, the gradient of logit `unit` there, and the layers up to it."""
    before, after = net[: at + 1], net[at + 1 :]  # type: ignore[index]
    with torch.no_grad():
        value = before(x)
    leaf = value.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(after(leaf.clone())[:, unit].sum(), leaf)
    return value, gradient, before


@pytest.mark.parametrize("at", [0, 1, 4, 7, 9])
def test_relevance_at_a_layer(at: int) -> None:
    """For LRP-0 on a ReLU net it is value times gradient there, and with the biases above it adds up to the logit."""
    net, x = conditioned.model("small-cnn"), conditioned.images(2, 32)
    value, gradient, _ = _parts(net, x, at, 2)
    result = pl.explain(net, x, target=2, composite=one_rule(Zero()), layer=[str(at)])
    torch.testing.assert_close(result.layers[str(at)], value * gradient, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("at", [2, 5, 9])
def test_kept_units(at: int) -> None:
    """Only what passes the kept channels arrives; the rest is booked."""
    net, x = conditioned.model("small-cnn"), conditioned.images(2, 32)
    value, gradient, before = _parts(net, x, at, 2)
    keep = torch.zeros(value.shape[1], dtype=x.dtype)
    keep[[1, 3]] = 1.0
    kept = gradient * keep.reshape(1, -1, *[1] * (value.dim() - 2))
    leaf = x.clone().requires_grad_()
    (at_input,) = torch.autograd.grad(before(leaf), leaf, grad_outputs=kept)
    result = pl.explain(net, x, target=2, composite=one_rule(Zero()), keep={str(at): [1, 3]})
    torch.testing.assert_close(result.relevance, x * at_input, atol=1e-12, rtol=1e-9)
    assert result.ledger is not None
    assert result.ledger.closed(1e-10)
    assert result.ledger.amounts["not kept"] == pytest.approx(float((value * (gradient - kept)).sum()), abs=1e-9)


@pytest.mark.parametrize(
    "gate", [nn.Softmax(-1), nn.LogSoftmax(-1), nn.Sigmoid()], ids=lambda gate: type(gate).__name__
)
def test_output_gate(gate: nn.Module) -> None:
    """Behind an output softmax or sigmoid the logit is explained."""
    net, x = conditioned.model("small-cnn"), conditioned.images(2, 32)
    plain = pl.explain(net, x, target=2, composite="epsilon-plus")
    gated = pl.explain(nn.Sequential(net, gate).eval(), x, target=2, composite="epsilon-plus")
    torch.testing.assert_close(gated.relevance, plain.relevance)
    torch.testing.assert_close(gated.output, plain.output)


def test_several_targets_from_one_forward() -> None:
    net, x = conditioned.model("resnet18"), conditioned.images(2, 32)
    together = pl.explain(net, x, targets=[1, 4, [0, 3]], composite="epsilon-plus-flat")
    for spec, result in zip([1, 4, [0, 3]], together, strict=True):
        alone = pl.explain(net, x, target=spec, composite="epsilon-plus-flat")
        torch.testing.assert_close(result.relevance, alone.relevance, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("name", ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "epsilon-gamma-box", "auto"])
def test_single_precision(name: str) -> None:
    """A few thousandths at worst: deep nets of random weights amplify rounding."""
    net, x = conditioned.model("resnet18"), conditioned.images(2, 32)
    exact = pl.explain(net, x, target=2, composite=name)
    rounded = pl.explain(net.float(), x.float(), target=2, composite=name)
    difference = (rounded.relevance.double() - exact.relevance).abs().max() / exact.relevance.abs().max()
    assert float(difference) < 2e-3
    assert rounded.ledger is not None
    assert rounded.ledger.closed(1e-4), str(rounded.ledger)
