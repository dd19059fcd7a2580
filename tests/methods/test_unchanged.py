"""Perturbations at a layer run what lies before it once for many variants, wherever that gives the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import method_named, replacing
from tests.methods.watching import Watched
from tests.trace.models import Made, numbers, seeded

METHODS: dict[str, dict[str, Any]] = {
    "occlusion": {"baseline": ["zero", "mean"]},
    "feature-ablation": {},
    "rise": {"samples": 30},
    "lime": {"samples": 30},
    "permutation-shapley": {"samples": 40},
    "feature-permutation": {"permutations": 2},
}


class Count:
    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x: Tensor) -> None:
        self.rows += len(x)

    def __deepcopy__(self, _: object) -> Count:
        return self


def parted(before: Count, behind: Count) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.rest(self.first(x)) + x.mean((1, 2, 3))[:, None]

    def build() -> nn.Module:
        rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.Tanh(), nn.Linear(8, 3))
        return Made(forward, first=Watched(nn.Conv2d(3, 4, 3), before), rest=Watched(rest, behind))

    return seeded(build)


@pytest.mark.parametrize("name", METHODS)
def test_what_lies_before_a_layer_is_run_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, behind = Count(), Count()
    model, x = parted(before, behind), numbers(3, 3, 8, 8)
    method = method_named(name).with_settings(**METHODS[name])
    pl.explain(model, x, target=0, method=method)
    alone = before.rows
    before.rows = behind.rows = 0
    found = pl.explain(model, x, target=0, method=method, layer="first")
    assert before.rows - alone <= 30  # the layer's own value, the trial, and once for every sample and baseline or so
    assert behind.rows - alone >= 10
    monkeypatch.setattr(replacing, "agrees_behind", lambda *_: False)
    before.rows = behind.rows = 0
    plain = pl.explain(parted(before, behind), x, target=0, method=method, layer="first")
    assert before.rows == behind.rows
    assert torch.allclose(found.layers["first"], plain.layers["first"], rtol=1e-4, atol=1e-6)
    assert torch.equal(found.relevance, plain.relevance)


def test_a_model_that_noted_its_batch_is_run_as_a_whole() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.rest(self.first(x).reshape(len(x), -1))

    model = seeded(lambda: Made(forward, first=nn.Conv2d(3, 4, 3), rest=nn.Linear(144, 3)))
    x = numbers(2, 3, 8, 8)
    found = pl.explain(model, x, target=0, method="feature-ablation", layer="first")
    value, without = model.first(x), model.first(torch.zeros_like(x))
    for channel in range(4):
        less = value.clone()
        less[:, channel] = without[:, channel]
        lost = (model.rest(value.flatten(1)) - model.rest(less.flatten(1)))[:, 0]
        assert torch.allclose(found.layers["first"][:, channel].sum((1, 2)), lost, atol=1e-5)
