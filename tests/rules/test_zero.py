"""LRP-0 equals gradient times input wherever every activation is a ReLU, with or without biases."""

from __future__ import annotations

import pytest
import torch

import pellucid as pl
from pellucid.rules import Zero
from tests.oracles import conditioned
from tests.rules.helpers import one_rule

pytestmark = pytest.mark.core

SIZES = {"small-cnn": 32, "vgg11": 32, "squeezenet": 64, "resnet18": 64}


@pytest.mark.parametrize("bias", [0.1, 0.0])
@pytest.mark.parametrize("name", SIZES)
def test_equals_gradient_times_input(name: str, bias: float) -> None:
    net = conditioned.model(name, bias=bias)
    x = conditioned.images(2, SIZES[name])
    leaf = x.clone().requires_grad_()
    y = net(leaf)[:, 3]
    (gradient,) = torch.autograd.grad(y.sum(), leaf)
    result = pl.explain(net, x, target=3, composite=one_rule(Zero()))
    scale = float((x * gradient).abs().max())
    torch.testing.assert_close(result.relevance, x * gradient, atol=1e-10 * scale, rtol=1e-10)
    torch.testing.assert_close(result.output, y.detach())
    assert result.ledger is not None
    assert result.ledger.closed(1e-10), str(result.ledger)
    if bias == 0.0 and name == "small-cnn":
        assert result.ledger.inputs == pytest.approx(float(y.detach().sum()), rel=1e-10)
