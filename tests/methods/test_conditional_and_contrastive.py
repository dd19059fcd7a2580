"""CRP and CLRP against their formulas, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError, ModelError
from pellucid.methods import CLRP, CRP
from tests.trace.models import Made, numbers, seeded

pytestmark = pytest.mark.core


def dense() -> nn.Sequential:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 24, bias=False), nn.ReLU(), nn.Linear(24, 3, bias=False))).double()  # type: ignore[return-value]


def pictures() -> tuple[nn.Module, Tensor]:
    layers = (nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    return seeded(lambda: nn.Sequential(*layers)).double(), numbers(2, 3, 8, 8).double()


def test_units_share_what_lrp_gives() -> None:
    """The maps of all units sum to the whole map, and every unit's score is what its map starts from."""
    model, x = pictures()
    whole = pl.explain(model, x, target=1, method="lrp", composite="epsilon", layer="1")
    parts = [pl.explain(model, x, target=1, method=CRP("epsilon", at="1", units=k)) for k in range(5)]
    assert torch.allclose(sum(part.relevance for part in parts), whole.relevance, atol=1e-9)
    expected = whole.layers["1"].sum((2, 3))
    assert torch.allclose(parts[0].details["unit scores"], expected, atol=1e-9)
    kept = pl.explain(model, x, target=1, composite="epsilon", keep={"1": [3]})
    assert torch.allclose(parts[3].relevance, kept.relevance, atol=1e-12)


def test_a_unit_of_a_dense_layer_is_the_formula() -> None:
    model, x = dense(), numbers(1, 6).double()
    found = pl.explain(model, x, target=2, method=CRP("epsilon", at="1", units=4)).relevance
    hidden = torch.relu(model[0](x))
    through = hidden[0, 4] * model[2].weight[2, 4] * (hidden[0, 4] > 0)
    expected = x * model[0].weight[4] / (x * model[0].weight[4]).sum() * through
    assert torch.allclose(found, expected.detach(), atol=1e-5)


def test_every_sample_has_its_own_strongest_units() -> None:
    model, x = pictures()
    found = pl.explain(model, x, target=[0, 2], method=CRP("epsilon", at="1", units="top:2"))
    scores = found.details["unit scores"]
    chosen = found.settings["units of each sample"]
    for i in range(2):
        assert set(chosen[i]) == set(scores[i].topk(2).indices.tolist())
        alone = pl.explain(model, x[i : i + 1], target=[0, 2][i], composite="epsilon", keep={"1": chosen[i]})
        assert torch.allclose(found.relevance[i], alone.relevance[0], atol=1e-12)
    assert found.ledger is not None
    assert any(entry.source == "not kept" for entry in found.ledger.entries)


def test_the_layer_chosen_runs_once() -> None:
    """An activation that several layers share has no one output whose units could be chosen from."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        first = self.shared(self.first(x))
        return self.head(self.shared(self.second(first)).mean((2, 3)))

    def build() -> nn.Module:
        parts = {
            "first": nn.Conv2d(3, 5, 3),
            "second": nn.Conv2d(5, 4, 3),
            "shared": nn.ReLU(),
            "head": nn.Linear(4, 3),
        }
        return Made(forward, **parts)

    model, x = seeded(build).double(), numbers(2, 3, 8, 8).double()
    found = pl.explain(model, x, target=1, method="crp")
    assert found.settings["layer"] == "second"
    assert found.details["unit scores"].shape == (2, 4)
    assert next(row for row in pl.check(model, x).methods if row.method == "crp").fits


def test_channels_of_a_series_are_second_and_features_of_tokens_last() -> None:
    series = seeded(lambda: nn.Sequential(nn.Conv1d(2, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(28, 2)))
    found = pl.explain(series, numbers(2, 2, 6), target=0, method=CRP("epsilon", at="1", units="top:3"))
    assert found.details["unit scores"].shape == (2, 7)
    tokens = seeded(lambda: nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)))
    found = pl.explain(tokens, numbers(2, 4, 5), target=0, method=CRP("epsilon", at="1", units="top:3"))
    assert found.details["unit scores"].shape == (2, 9)


def zplus(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    parts = (x[:, None] * weight).clamp(min=0)
    return (parts / parts.sum(2, keepdim=True).clamp(min=1e-300) * relevance[:, :, None]).sum(1)


def test_contrastive_relevance_is_the_formula() -> None:
    model, x = dense(), numbers(2, 6).double().abs()
    with torch.no_grad():
        hidden, output = torch.relu(model[0](x)), model(x)
        own = torch.zeros_like(output)
        own[:, 1] = output[:, 1]
        dual = output[:, 1:2].expand_as(output) / 2 * (torch.arange(3) != 1)
        back = [zplus(model[0].weight, x, zplus(model[2].weight, hidden, start)) for start in (own, dual)]
        expected = back[0] - back[1]
    signed = pl.explain(model, x, target=1, method=CLRP("excitation-bp", relu=False))
    assert torch.allclose(signed.relevance, expected, atol=1e-5 * float(expected.abs().max()))
    cut = pl.explain(model, x, target=1, method=CLRP("excitation-bp"))
    assert torch.equal(cut.relevance, signed.relevance.clamp(min=0))
    assert torch.allclose(cut.output, output[:, 1])
    maps = [pl.explain(model, x, target=k, method=CLRP("excitation-bp", relu=False)).relevance for k in range(3)]
    assert any(bool((one < 0).any()) for one in maps)


@pytest.mark.parametrize("units", ["top:0", "best", 1.5, ["a"]])
def test_units_that_mean_nothing_are_refused(units: object) -> None:
    with pytest.raises(InputError, match="Expected units of crp as 'top'"):
        CRP(units=units)  # type: ignore[arg-type]


def test_what_does_not_fit_is_told() -> None:
    model, x = pictures()
    with pytest.raises(InputError, match=r"has the units 0 to 4, got \[9\]"):
        pl.explain(model, x, target=0, method=CRP(at="1", units=9))
    with pytest.raises(InputError, match="has no module 'nowhere'"):
        pl.explain(model, x, target=0, method=CRP(at="nowhere"))
    with pytest.raises(ModelError, match="positions"):
        pl.explain(dense(), numbers(1, 6).double(), target=0, method="crp")
    single = seeded(lambda: nn.Sequential(nn.Linear(6, 1))).double()
    with pytest.raises(InputError, match="clrp compares a class with others"):
        pl.explain(single, numbers(1, 6).double(), target=0, method=CLRP("excitation-bp"))
