"""Expected gradients and GradientSHAP: exact where the model is linear, else against Captum and exact means."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import ExpectedGradients, GradientSHAP, IntegratedGradients, Token
from tests.methods.watching import Stop, Watched
from tests.trace.models import Made, numbers, seeded


def wavy() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))).double()


def background(size: int = 5) -> Tensor:
    return numbers(size, 6, seed=8).double()


def exact(model: nn.Module, x: Tensor, target: int, samples: Tensor) -> Tensor:
    """Integrated gradients to rounding, averaged over the background."""
    peer = captum.IntegratedGradients(model)
    ways = [peer.attribute(x, b.expand_as(x), target=target, n_steps=40) for b in samples]
    return torch.stack(ways).mean(0)


@pytest.mark.parametrize("method", [ExpectedGradients, GradientSHAP])
def test_it_tends_to_integrated_gradients_over_the_background(method: Any) -> None:
    model, x, samples = wavy(), numbers(3, 6).double(), background()
    truth = exact(model, x, 1, samples)
    coarse = pl.explain(model, x, target=1, method=method(samples=40, background=samples))
    fine = pl.explain(model, x, target=1, method=method(samples=4000, background=samples))
    for found in (coarse, fine):
        error = found.details["standard error"]
        assert bool(((found.relevance - truth).abs() < 8 * error).all())  # of eight blocks only
        assert found.ledger is not None
    assert float(fine.details["standard error"].mean()) < 0.12 * float(coarse.details["standard error"].mean())
    assert float((fine.relevance - truth).norm() / truth.norm()) < 0.01
    assert fine.ledger is not None
    assert fine.ledger.closed(5e-3)
    mean = model(samples)[:, 1].mean().detach()
    assert fine.ledger.amounts["baseline"] == pytest.approx(3 * float(mean), rel=1e-9)


def test_captum_tends_to_the_same() -> None:
    model, x, samples = wavy(), numbers(2, 6).double(), background()
    np.random.seed(0)
    theirs = captum.GradientShap(model).attribute(x, samples, target=1, n_samples=20_000, stdevs=0.2)
    ours = pl.explain(
        model, x, target=1, method=GradientSHAP(samples=4000, background=samples, noise=0.2, relative=False)
    )
    error = ours.details["standard error"]
    assert bool(((ours.relevance - theirs).abs() < 5 * error + 0.01 * theirs.abs().max()).all())
    assert float((ours.relevance - theirs).norm() / theirs.norm()) < 0.03


def test_noise_is_relative_to_the_range_unless_told() -> None:
    model, x = wavy(), numbers(2, 6).double()
    spans = x.amax(1) - x.amin(1)
    for i in range(2):
        one = x[i : i + 1]
        relative = pl.explain(model, one, target=0, method=GradientSHAP(samples=10, noise=0.3))
        absolute = GradientSHAP(samples=10, noise=0.3 * float(spans[i]), relative=False)
        assert torch.allclose(relative.relevance, pl.explain(model, one, target=0, method=absolute).relevance)


@pytest.mark.parametrize("samples", [5, 10, 40])
def test_of_a_linear_model_it_is_exact_as_soon_as_every_background_sample_was_drawn(samples: int) -> None:
    model, x, others = nn.Linear(6, 3).double(), numbers(3, 6).double(), background()
    found = pl.explain(model, x, target=2, method=ExpectedGradients(samples=samples, background=others))
    assert found.ledger is not None
    assert found.ledger.closed(1e-12)
    if samples == 40:  # blocks of five
        assert torch.allclose(found.relevance, model.weight[2] * (x - others.mean(0)), atol=1e-12)


def test_the_standard_error_is_that_of_other_seeds() -> None:
    model, x, samples = wavy(), numbers(1, 6).double() * 2, background(7)
    method = ExpectedGradients(samples=48, background=samples)
    runs = [pl.explain(model, x, target=1, method=method, seed=seed) for seed in range(80)]
    found = torch.stack([run.relevance[0] for run in runs])
    told = torch.stack([run.details["standard error"][0] for run in runs])
    ratio = told.square().mean(0).sqrt() / found.std(0)
    assert 0.8 < float(ratio.mean()) < 1.25
    truth = exact(model, x, 1, samples)[0]
    assert bool(((found.mean(0) - truth).abs() < 4 * found.std(0) / 80**0.5).all())


def test_stratified_draws_are_surer_than_independent_ones() -> None:
    model, x, samples = wavy(), numbers(1, 6).double(), background()
    stratified, independent = (
        pl.explain(model, x, target=1, method=ExpectedGradients(samples=n, background=samples)) for n in (40, 41)
    )  # 41 is a prime: no blocks
    ratio = independent.details["standard error"] / stratified.details["standard error"]
    assert float(ratio.median()) > 2


def test_a_tolerance_is_met_by_more_samples_or_missed_aloud() -> None:
    model, x, samples = wavy(), numbers(4, 6).double(), background()
    method = ExpectedGradients(samples=40, background=samples, tolerance=0.005, most_samples=40_000)
    found = pl.explain(model, x, target=0, method=method)
    floors = torch.stack([model(b.expand_as(x))[:, 0] for b in samples])
    taken = found.settings["samples taken"]
    assert isinstance(taken, int)
    assert 40 < taken <= 40_000
    assert taken % 5 == 0  # so that all background samples were drawn equally often
    difference = model(x)[:, 0] - floors.mean(0)
    gap = (found.relevance.sum(1) - difference).abs()
    assert bool((gap <= 0.0050001 * difference.abs()).all())
    assert not found.warnings
    for i in range(4):
        alone = pl.explain(model, x[i : i + 1], target=0, method=method)
        assert torch.allclose(found.relevance[i : i + 1], alone.relevance, atol=1e-12)
    method = ExpectedGradients(samples=40, background=samples, tolerance=1e-7, most_samples=100)
    late = pl.explain(model, x, target=0, method=method)
    assert "4 of 4 samples did not meet tolerance=1e-07 within 100 samples: see the ledger's gap" in late.warnings[0]


def test_named_baselines_and_tokens_are_a_background_too() -> None:
    model, x = nn.Linear(6, 3).double(), numbers(3, 6).double()
    method = ExpectedGradients(samples=40, background=["zero", "mean", 0.5, x.flip(0), lambda value: -value])
    found = pl.explain(model, x, target=1, method=method)
    means = torch.stack(
        [torch.zeros_like(x), x.mean(1, keepdim=True).expand_as(x), torch.full_like(x, 0.5), x.flip(0), -x]
    ).mean(0)
    assert torch.allclose(found.relevance, model.weight[1] * (x - means), atol=1e-12)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 6), nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(ids)).sum(1))


def test_the_background_of_token_ids_is_other_ids() -> None:
    model = seeded(Words).double()
    ids, others = torch.tensor([[1, 2, 3, 4], [5, 5, 1, 0]]), torch.tensor([[7, 7, 7, 7], [1, 2, 3, 0], [9, 8, 7, 6]])
    base = captum.LayerIntegratedGradients(model, model.table)  # type: ignore[arg-type]
    ways = [base.attribute(ids, other.expand_as(ids), target=1, n_steps=40).sum(-1) for other in others]
    found = pl.explain(model, ids, target=1, method=ExpectedGradients(samples=3000, background=others))
    error = found.details["standard error"]
    assert error.shape == ids.shape
    assert bool(((found.relevance - torch.stack(ways).mean(0)).abs() < 5 * error + 1e-6).all())
    padded = pl.explain(model, ids, target=1, method=ExpectedGradients(samples=3000, background=Token(7)))
    assert bool(((padded.relevance - ways[0]).abs() < 5 * padded.details["standard error"] + 1e-6).all())


def test_inputs_that_are_not_explained_stay_those_of_their_sample() -> None:
    def forward(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(torch.tanh(x) * mask)

    model = seeded(lambda: Made(forward, head=nn.Linear(6, 3))).double()
    x, mask = numbers(3, 6).double(), (numbers(3, 6, seed=3) > 0).double()
    samples = background()
    method = ExpectedGradients(samples=2000, background={"x": samples})
    found = pl.explain(model, {"x": x, "mask": mask}, target=0, method=method)
    for i in range(3):
        truth = exact(Made(lambda _, v, i=i: model(v, mask[i])), x[i : i + 1], 0, samples)
        assert float((found.relevance["x"][i] - truth[0]).norm() / truth.norm()) < 0.02
    assert found.ledger is not None
    assert found.ledger.closed(0.02)
    floor = float(sum(model(b.expand_as(x), mask)[:, 0].sum().detach() for b in samples)) / 5
    assert found.ledger.amounts["baseline"] == pytest.approx(floor)


def test_several_inputs_take_their_background_together() -> None:
    def forward(self: Any, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([a, b], 1))

    model = seeded(lambda: Made(forward, head=nn.Linear(9, 3))).double()
    x = {"a": numbers(2, 6).double(), "b": numbers(2, 3, seed=2).double()}
    others = {"a": background(4), "b": background(4)[:, :3] + 1}
    found = pl.explain(model, x, target=0, method=ExpectedGradients(samples=32, background=others))
    weight = model.head.weight[0]  # type: ignore[union-attr]
    assert torch.allclose(found.relevance["a"], weight[:6] * (x["a"] - others["a"].mean(0)), atol=1e-12)  # type: ignore[index]
    assert torch.allclose(found.relevance["b"], weight[6:] * (x["b"] - others["b"].mean(0)), atol=1e-12)  # type: ignore[index]


def test_at_a_layer_shares_sum_to_the_difference_where_captums_do_not() -> None:
    """Captum goes along inputs and multiplies by the way of the layer; that sums to nothing in particular."""
    model, x, samples = seeded(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    ).double(), 3 * numbers(2, 6).double(), background(3)  # fmt: skip
    difference = (model(x) - model(samples).mean(0))[:, 1].detach()
    method = ExpectedGradients(samples=3000, background=samples)
    ours = pl.explain(model, x, target=1, method=method, layer="1").layers["1"]
    assert float((ours.sum(1) - difference).abs().max()) < 0.005 * float(difference.abs().max())
    there = [model[:2](b.expand_as(x)) for b in samples]  # type: ignore[index]
    tail = model[2:]  # type: ignore[index]
    peer = captum.IntegratedGradients(tail)
    ways = [peer.attribute(model[:2](x), b, target=1, n_steps=40) for b in there]  # type: ignore[index]
    assert torch.allclose(ours, torch.stack(ways).mean(0), atol=0.01 * float(ours.abs().max()))
    np.random.seed(0)
    theirs = captum.LayerGradientShap(model, model[1]).attribute(x, samples, target=1, n_samples=4000)  # type: ignore[index]
    assert float((theirs.sum(1) - difference).abs().max()) > 0.02 * float(difference.abs().max())


def test_a_neuron_is_a_target() -> None:
    model, x, samples = wavy(), numbers(2, 6).double(), background()
    found = pl.explain(model, x, target="1:4", method=ExpectedGradients(samples=2000, background=samples))
    truth = exact(nn.Sequential(*model[:2]), x, 4, samples)  # type: ignore[index]
    assert float((found.relevance - truth).norm() / truth.norm()) < 0.01


def test_ctrl_c_gives_the_blocks_so_far() -> None:
    x, samples = numbers(2, 6).double(), background()
    method = ExpectedGradients(samples=800, background=samples)
    truth = exact(wavy(), x, 0, samples)
    with pytest.raises(pl.Interrupted) as caught:
        pl.explain(Watched(wavy(), Stop(200)), x, target=0, method=method, memory=3000)
    partial = caught.value.partial
    taken = partial.settings["samples taken"]
    assert isinstance(taken, int)
    assert 100 <= taken < 800
    assert bool(((partial.relevance - truth).abs() < 6 * partial.details["standard error"] + 0.01).all())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(4, 5), r"must be samples like it, of shape \(samples, 6\), got shape \(4, 5\)"),
        (torch.zeros(6), r"must be samples like it, of shape \(samples, 6\), got shape \(6,\)"),
        (torch.zeros(0, 6), r"of shape \(samples, 6\), got shape \(0, 6\)"),
        (torch.zeros(4, 6, dtype=torch.long), "has dtype torch.int64, but the input has torch.float64"),
        (torch.full((2, 6), torch.nan), "holds values that are NaN or infinite"),
        ({"y": torch.zeros(4, 6)}, r"background= has samples of \['y'\], but the explained inputs are \['x'\]"),
        ("black", "No baseline is called 'black'"),
        ([], "an empty list"),
    ],
)
def test_a_background_that_does_not_fit_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pl.explain(wavy(), numbers(2, 6).double(), target=0, method=ExpectedGradients(background=given))


def test_one_background_for_several_inputs_is_refused() -> None:
    model = Made(lambda _, a, b: a + b).eval()
    x = (numbers(2, 6), numbers(2, 6))
    method = ExpectedGradients(background=torch.zeros(3, 6))
    with pytest.raises(InputError, match=r"several inputs are explained: give a dict with \['0', '1'\]"):
        pl.explain(model, x, target=0, method=method)
    method = ExpectedGradients(background={"0": torch.zeros(3, 6), "1": torch.zeros(2, 6)})
    with pytest.raises(InputError, match="equally many samples of every input"):
        pl.explain(model, x, target=0, method=method)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "Expected samples as a whole number of 1 or more, got 0"),
        ({"tolerance": 0.0}, "Expected tolerance > 0, or None for a fixed number of samples"),
        ({"noise": -1}, "Expected noise as a number of 0 or more, got -1"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GradientSHAP(**settings)


def test_a_lone_baseline_is_integrated_gradients_by_chance() -> None:
    model, x = wavy(), numbers(2, 6).double()
    truth = pl.explain(model, x, target=0, method=IntegratedGradients(steps=60, baseline="mean")).relevance
    found = pl.explain(model, x, target=0, method=ExpectedGradients(samples=2000, background="mean"))
    assert float((found.relevance - truth).norm() / truth.norm()) < 0.01
