"""The model as a function: passes leave the shadow as walks need it, and output gates are found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from tests.trace.models import Made, convolutional, numbers

pytestmark = pytest.mark.core


def test_a_walk_after_passes_still_knows_its_modules() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    alone = pl.explain(convolutional(), x, target=0, layer="1")
    pl.explain(model, x, target=0, method="gradient")
    with pytest.raises(InputError):
        pl.explain(model, x[:, :1], target=0, method="gradient")
    after = pl.explain(model, x, target=0, layer="1")
    assert torch.equal(after.layers["1"], alone.layers["1"])


class Gated(nn.Module):
    def __init__(self, gate: Any) -> None:
        super().__init__()
        self.inner, self.gate = convolutional(), gate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.inner(x))


@pytest.mark.parametrize("gate", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), torch.sigmoid])
def test_a_gate_at_the_output_is_seen_by_what_the_first_pass_gives(gate: Any) -> None:
    model, x = Gated(gate).eval(), numbers(2, 3, 8, 8)
    logits = model.inner(x).detach()
    for method in ("gradient", "integrated-gradients"):
        result = pl.explain(model, x, target=1, method=method)
        assert torch.allclose(result.output, logits[:, 1], atol=1e-6)
        assert "made from its input, the logits" in result.warnings[0]


def test_outputs_between_0_and_1_that_no_gate_made_are_taken_as_they_are() -> None:
    runs = []

    def forward(self: Any, x: Tensor) -> Tensor:
        runs.append(1)
        return torch.softmax(x, 1).cumsum(1)

    model, x = Made(forward).eval(), numbers(2, 3)
    result = pl.explain(model, x, target=1, method="gradient")
    assert len(runs) == 2  # once more to see what made it
    assert torch.allclose(result.output, torch.softmax(x, 1)[:, :2].sum(1), atol=1e-6)
    assert not result.warnings
    pl.explain(model, 9 * x, target=1, method="integrated-gradients")


def test_a_model_without_a_gate_runs_once_for_a_gradient() -> None:
    runs = []

    def forward(self: Any, x: Tensor) -> Tensor:
        runs.append(1)
        return 10 * x

    pl.explain(Made(forward).eval(), numbers(2, 3), target=1, method="gradient")
    assert len(runs) == 1
