"""XRAI: the greedy ranking written out, sums kept, regions of every kind of input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import XRAI, IntegratedGradients
from tests.trace.models import Made, numbers, seeded

pytestmark = pytest.mark.core


def model() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, 2))).double()


def test_regions_are_taken_by_the_mean_of_what_is_left() -> None:
    x = numbers(1, 8).double()
    fine, coarse = torch.arange(8) // 2, torch.arange(8) // 3
    found = pl.explain(model(), x, target=1, method=XRAI(regions=[fine, coarse], baseline="zero"))
    gradients = pl.explain(model(), x, target=1, method=IntegratedGradients(steps=50, baseline="zero")).relevance[0]
    regions = [part == k for part in (fine, coarse) for k in part.unique()]
    taken = torch.zeros(8, dtype=torch.bool)
    expected = torch.zeros(8, dtype=torch.float64)
    while not bool(taken.all()):
        best = max(
            (region & ~taken for region in regions if bool((region & ~taken).any())),
            key=lambda left: float(gradients[left].mean()),
        )
        expected[best] = gradients[best].mean()
        taken |= best
    assert torch.allclose(found.relevance[0], expected, atol=1e-12)
    assert float(found.relevance.sum()) == pytest.approx(float(gradients.sum()), rel=1e-9)
    assert found.ledger is not None
    assert found.ledger.closed(1e-3)


def test_the_region_that_counts_comes_first() -> None:
    pytest.importorskip("skimage")

    def forward(self: Any, x: Tensor) -> Tensor:
        return x[:, 0, 8:16, 8:16].sum((1, 2))[:, None]

    x = torch.zeros(1, 3, 32, 32)
    x[:, :, 8:16, 8:16] = torch.tensor([1.0, 0.2, 0.1])[:, None, None]
    found = pl.explain(Made(forward).eval(), x, target=0, method=XRAI(steps=5))
    rank = found.details["region rank"][0].squeeze()
    assert float(rank[8:16, 8:16].max()) < float(rank[0, 0])
    assert float(found.relevance[:, :, 6:18, 6:18].sum() / found.relevance.sum()) > 0.99


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="steps as a whole number of 1 or more for xrai, got 0"):
        XRAI(steps=0)
    with pytest.raises(InputError, match="nonsense"):
        pl.explain(model(), numbers(1, 8).double(), target=0, method=XRAI(regions="nonsense"))
