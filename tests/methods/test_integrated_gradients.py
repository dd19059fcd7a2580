"""Integrated gradients: several baselines, tolerance, interruption, progress, memory."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import IntegratedGradients
from pellucid.methods.quadrature import quadrature, spread
from tests.methods.watching import Stop, Watched
from tests.trace.models import Made, convolutional, numbers, seeded

RULES = ["gauss-legendre", "trapezoid", "midpoint", "left", "right"]


def wavy() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))).double()


@pytest.mark.parametrize("rule", RULES)
def test_weights_are_those_of_a_mean(rule: str) -> None:
    for steps in (2, 7, 32):
        nodes, weights = quadrature(rule, steps)
        assert float(weights.sum()) == pytest.approx(1)
        assert float(nodes.min()) >= 0
        assert float(nodes.max()) <= 1
        if rule not in ("left", "right"):
            assert float(weights @ nodes) == pytest.approx(0.5)
    nodes, weights = quadrature("gauss-legendre", 5)
    for power in range(10):
        assert float(weights @ nodes**power) == pytest.approx(1 / (power + 1))


def test_the_beginnings_of_the_order_lie_evenly() -> None:
    assert spread(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    for count in (1, 2, 3, 50, 1000):
        order = spread(count)
        assert sorted(order.tolist()) == list(range(count))
        for part in (4, 16, 64):
            begun = order[:part].sort().values
            gaps = torch.diff(torch.cat([torch.tensor([0]), begun, torch.tensor([count])]))
            if len(begun) == part:
                assert float(gaps.max()) <= 2.1 * count / part


def test_several_baselines_are_captums_averaged() -> None:
    model, x, targets = wavy(), numbers(4, 6).double(), [0, 1, 2, 1]
    baselines = [0.0, x.flip(0), x.mean(1, keepdim=True).expand_as(x)]
    peer = captum.IntegratedGradients(model)
    theirs = torch.stack([peer.attribute(x, b, target=targets, n_steps=9) for b in baselines]).mean(0)
    ours = pl.explain(model, x, target=targets, method=IntegratedGradients(steps=9, baseline=[0.0, x.flip(0), "mean"]))
    assert torch.allclose(ours.relevance, theirs, atol=1e-8)  # Captum's nodes are made in single precision
    alone = pl.explain(model, x[1:2], target=1, method=IntegratedGradients(steps=9, baseline=[0.0, x[2:3], "mean"]))
    assert torch.allclose(ours.relevance[1], alone.relevance[0], atol=1e-14)
    assert ours.ledger is not None
    floors = [model(torch.as_tensor(b, dtype=x.dtype).expand_as(x)).gather(1, _column(targets)) for b in baselines]
    assert ours.ledger.amounts["baseline"] == pytest.approx(float(torch.stack(floors).sum().detach()) / 3)
    assert ours.ledger.closed(1e-4)


def _column(targets: list[int]) -> Tensor:
    return torch.tensor(targets)[:, None]


@pytest.mark.parametrize("baseline", ["zero", ["zero", "mean"]])
def test_a_tolerance_holds_for_every_sample(baseline: Any) -> None:
    model, x = convolutional().double(), numbers(4, 3, 8, 8).double()
    method = IntegratedGradients(steps=2, quadrature="left", baseline=baseline, tolerance=0.02, most_steps=512)
    found = pl.explain(model, x, target=0, method=method)
    baselines = [torch.zeros_like(x), x.mean((2, 3), keepdim=True).expand_as(x)][
        : len(baseline) if baseline != "zero" else 1
    ]
    differences = torch.stack([(model(x) - model(b))[:, 0] for b in baselines])
    gap = found.relevance.flatten(1).sum(1) - differences.mean(0)
    assert bool((gap.abs() <= 0.0200001 * differences.abs().mean(0)).all())
    assert not found.warnings
    exact = IntegratedGradients(steps=2, quadrature="left", baseline=baseline, tolerance=1e-9, most_steps=5)
    late = pl.explain(model, x, target=0, method=exact)
    assert late.settings["steps taken"] == 5  # no step that is allowed is left out
    assert "4 of 4 samples did not meet tolerance=1e-09 within 5 steps: see the ledger's gap" in late.warnings[0]


def test_ctrl_c_gives_an_integral_from_the_steps_so_far() -> None:
    x = numbers(3, 6).double() * 3
    method = IntegratedGradients(steps=256)
    exact = pl.explain(wavy(), x, target=0, method=method).relevance
    with pytest.raises(pl.Interrupted) as caught:
        pl.explain(Watched(wavy(), Stop(12)), x, target=0, method=method, memory=3000)
    partial = caught.value.partial
    assert partial.settings["partial"] is True
    assert 8 < partial.settings["steps taken"] < 64
    assert partial.warnings[0] == "Interrupted: this is the estimate so far, not the final one."
    assert float((partial.relevance - exact).norm() / exact.norm()) < 0.05
    assert partial.ledger is not None
    assert partial.ledger.closed(0.1)
    assert not partial.ledger.closed(1e-9)


def test_ctrl_c_at_a_layer_gives_the_inputs_that_are_done() -> None:
    x, passes = numbers(2, 6).double(), [0]
    model = Watched(wavy(), lambda _: passes.__setitem__(0, passes[0] + 1))
    whole = pl.explain(model, x, target=0, method="integrated-gradients", layer="model.0")
    alone = pl.explain(wavy(), x, target=0, method="integrated-gradients")
    total = passes[0]
    with pytest.raises(pl.Interrupted) as caught:
        pl.explain(Watched(wavy(), Stop(total - 1)), x, target=0, method="integrated-gradients", layer="model.0")
    assert torch.equal(caught.value.partial.relevance, whole.relevance)
    assert torch.allclose(whole.relevance, alone.relevance)
    assert not caught.value.partial.layers


def test_ctrl_c_before_anything_is_known_is_a_plain_one() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        pl.explain(Watched(wavy(), Stop(0)), numbers(2, 6).double(), target=0, method="integrated-gradients")
    assert not isinstance(caught.value, pl.Interrupted)


@pytest.mark.parametrize("tolerance", [None, 1e-7])
def test_progress_ends_at_its_total(tolerance: float | None) -> None:
    told: list[tuple[int, int | None, float | None]] = []
    method = IntegratedGradients(steps=8, quadrature="midpoint", tolerance=tolerance, most_steps=64)
    pl.explain(
        convolutional(), numbers(4, 3, 8, 8), target=0, method=method, layer="2", memory=100_000,
        progress=lambda *report: told.append(report),
    )  # fmt: skip
    done = [report[0] for report in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1]
    assert told[-1][2] == 0


def test_a_thousand_steps_need_no_more_memory_than_fifty() -> None:
    largest: list[int] = []
    for steps in (50, 1000):
        rows: list[int] = []
        model = Watched(convolutional(), lambda x, rows=rows: rows.append(len(x)))
        pl.explain(model, numbers(4, 3, 8, 8), target=0, method=IntegratedGradients(steps=steps), memory=400_000)
        largest.append(max(rows))
        assert sum(rows) >= 4 * steps
    assert largest[0] == largest[1] > 4


def test_the_baseline_of_several_inputs_is_given_by_name() -> None:
    def forward(self: Any, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.tanh(a) * b)

    model = seeded(lambda: Made(forward, head=nn.Linear(6, 3))).double()
    x = {"a": numbers(2, 6).double(), "b": numbers(2, 6, seed=2).double()}
    method = IntegratedGradients(steps=20, baseline={"a": 0.5, "b": "mean"})
    found = pl.explain(model, x, target=0, method=method)
    base = (torch.full_like(x["a"], 0.5), x["b"].mean(1, keepdim=True).expand_as(x["b"]))
    theirs = captum.IntegratedGradients(model).attribute((x["a"], x["b"]), base, target=0, n_steps=20)
    assert torch.allclose(found.relevance["a"], theirs[0], atol=1e-8)
    assert torch.allclose(found.relevance["b"], theirs[1], atol=1e-8)
    assert found.ledger is not None
    assert found.ledger.closed(1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "Expected steps as a whole number of 1 or more for the rule 'gauss-legendre', got 0"),
        ({"steps": 1, "quadrature": "trapezoid"}, "2 or more for the rule 'trapezoid', got 1"),
        ({"quadrature": "simpson"}, "No quadrature rule is called 'simpson'. Expected one of: gauss-legendre"),
        ({"tolerance": -1.0}, "Expected tolerance > 0, or None for a fixed number of steps, got -1.0"),
        ({"tolerance": 0.1, "most_steps": 20}, r"Expected most_steps >= steps \(50\) where a tolerance is set, got 20"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        IntegratedGradients(**settings)


def test_baselines_that_do_not_fit_are_refused() -> None:
    model, x = wavy(), numbers(2, 6).double()
    for baseline, message in (
        ([], "baseline= is an empty list"),
        (torch.zeros(5), r"must be a number or broadcast to its shape \(2, 6\); got \(5,\)"),
        ("black", "No baseline is called 'black'"),
        ({"y": 0.0}, r"baseline= names \['y'\], which are no explained inputs"),
    ):
        with pytest.raises(InputError, match=message):
            pl.explain(model, x, target=0, method=IntegratedGradients(baseline=baseline))
