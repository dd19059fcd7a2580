"""RISE, LIME, Sobol and HSIC: against peers, against known truths, and against their formulas written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.linear_model import Lasso, LinearRegression, Ridge
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import HSIC, LIME, RISE, Method, Sobol
from tests.methods.watching import Given, Watched
from tests.trace.models import Made, numbers, seeded


def wavy(width: int = 6) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(width, 12), nn.Tanh(), nn.Linear(12, 2))).double()


def played(method: Method, x: Tensor, count: int) -> tuple[pl.Explanation, Tensor, Tensor]:
    """The explanation of one sample, with the last ``count`` coalitions that the model saw and their values."""
    model, given = wavy(x.shape[1]), Given()
    found = pl.explain(Watched(model, given).eval(), x, target=1, method=method)
    rows = given.rows()[-count:]
    with torch.no_grad():
        return found, rows != 0, model(rows)[:, 1]


def test_lime_is_the_weighted_ridge_regression_of_the_paper() -> None:
    x = numbers(1, 6).double()
    found, present, values = played(LIME(samples=300), x, 300)
    there = torch.cat([torch.ones(1, 6, dtype=torch.bool), present]).double()
    y = torch.cat([wavy()(x)[:, 1].detach(), values])
    # pi_x(z) = exp(-D^2 / (2 width^2)), D the cosine distance to the full coalition (Ribeiro 2016, section 3.4).
    cosine = there.sum(1) / (there.norm(dim=1) * math.sqrt(6)).clamp(min=1e-12)
    weights = torch.exp(-((1 - cosine) ** 2) / (2 * 0.25**2))
    mean_x = (weights[:, None] * there).sum(0) / weights.sum()
    mean_y = (weights * y).sum() / weights.sum()
    z, t = there - mean_x, y - mean_y
    expected = torch.linalg.solve(z.T @ (weights[:, None] * z) + torch.eye(6), z.T @ (weights * t))
    assert torch.allclose(found.relevance[0], expected.double(), atol=1e-9)
    residual = t - z @ expected
    r2 = 1 - float((weights * residual**2).sum() / (weights * t**2).sum())
    assert float(found.details["weighted R2"][0]) == pytest.approx(r2, abs=1e-9)


@pytest.mark.parametrize(("regression", "peer"), [("lasso", Lasso(alpha=0.01)), ("linear", LinearRegression())])
def test_lime_takes_scikit_learns_regressions(regression: str, peer: Any) -> None:
    x = numbers(1, 6).double()
    named = pl.explain(wavy(), x, target=1, method=LIME(samples=300, regression=regression))
    given = pl.explain(wavy(), x, target=1, method=LIME(samples=300, regression=peer))
    assert torch.allclose(named.relevance, given.relevance)
    assert bool((named.details["score errors"] >= 0).all())


def test_lime_keeps_the_strongest_only() -> None:
    x = numbers(2, 6).double()
    found = pl.explain(wavy(), x, target=1, method=LIME(samples=300, strongest=2))
    assert (found.relevance != 0).sum(1).tolist() == [2, 2]


def test_lime_of_a_linear_model_is_its_coefficients_and_fits_fully() -> None:
    model, x = seeded(lambda: nn.Linear(12, 2)).double(), numbers(2, 12).double()
    found = pl.explain(model, x, target=1, method=LIME(samples=400, regression="linear"))
    assert torch.allclose(found.relevance, x * model.weight[1], atol=1e-9)  # type: ignore[operator,index]
    assert torch.allclose(found.details["weighted R2"], torch.ones(2, dtype=torch.float64))


def test_a_batch_of_one_may_use_any_regression() -> None:
    x = numbers(1, 6).double()
    for regression in ("ridge", "linear", "lasso", Ridge(alpha=0.1)):
        assert (
            pl.explain(wavy(), x, target=1, method=LIME(samples=50, regression=regression)).relevance.shape == x.shape
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIME(width=0), "width > 0 for lime, got 0"),
        (lambda: LIME(regression="forest"), "'ridge', 'lasso', 'linear' or a regression of scikit-learn"),
        (lambda: LIME(strongest=0), "strongest as a whole number"),
        (lambda: LIME(samples=1), "samples as a whole number of 2 or more for lime, got 1"),
        (lambda: RISE(probability=1.0), "probability between 0 and 1"),
        (lambda: RISE(cells=0), "cells as a whole number"),
        (lambda: Sobol(order="second"), "'total' or 'first'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], Method], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_rise_is_the_mean_over_masks_written_out() -> None:
    x = numbers(1, 6).double()
    found, present, values = played(RISE(samples=400), x, 400)
    masks = present.double()
    expected = ((values - values.mean())[:, None] * masks).mean(0) / 0.5
    assert torch.allclose(found.relevance[0], expected, atol=1e-9)
    plain, present, values = played(RISE(samples=400, centred=False), x, 400)
    assert torch.allclose(plain.relevance[0], (values[:, None] * present.double()).mean(0) / 0.5, atol=1e-9)


def test_rise_finds_the_square_that_counts() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return x[:, :, 8:16, 16:24].mean((1, 2, 3))[:, None]

    x = torch.ones(1, 3, 32, 32)
    found = pl.explain(Made(forward).eval(), x, target=0, method=RISE(samples=3000))
    heat = found.pool("sum")[0]
    inside = heat[8:16, 16:24]
    outside = heat.clone()
    outside[4:20, 12:28] = 0
    assert float(inside.min()) > 2 * float(outside.abs().max())
    assert float(found.details["standard error"].max()) < 0.1 * float(heat.max())


def test_rises_errors_are_honest() -> None:
    model, x = wavy(), numbers(1, 6).double()
    runs = torch.stack(
        [pl.explain(model, x, target=1, method=RISE(samples=100), seed=seed).relevance[0] for seed in range(60)]
    )
    told = pl.explain(model, x, target=1, method=RISE(samples=100)).details["standard error"][0]
    assert torch.allclose(runs.std(0), told, rtol=0.45)


class Additive(nn.Module):
    """``a u0 + b u1 + c u2 u3`` of shares u: its Sobol indices are known."""

    a, b, c = 1.0, 2.0, 3.0

    def forward(self, u: Tensor) -> Tensor:
        return (self.a * u[:, 0] + self.b * u[:, 1] + self.c * u[:, 2] * u[:, 3] + 0 * u[:, 4])[:, None]


def test_sobol_indices_of_a_known_function() -> None:
    x = torch.ones(1, 5, dtype=torch.float64)
    total = pl.explain(Additive(), x, target=0, method=Sobol(samples=30_000))
    # var u = 1/12; var(u2 u3) = 7/144, of which each alone explains 1/48 and both together 1/144.
    variances = torch.tensor([1 / 12, 4 / 12, 9 / 48, 9 / 48, 0], dtype=torch.float64)
    both = 9 / 144
    whole = float(variances.sum()) + both
    first = variances / whole
    expected = first + torch.tensor([0, 0, both, both, 0], dtype=torch.float64) / whole
    assert torch.allclose(total.details["total order"][0], expected, atol=0.02)
    assert torch.allclose(total.details["first order"][0], first, atol=0.02)
    assert torch.equal(total.relevance[0], total.details["total order"][0])
    assert bool((total.details["standard error"] < 0.02).all())


def test_hsic_is_the_trace_formula_written_out() -> None:
    x = numbers(1, 5).double()
    found, present, values = played(HSIC(samples=120), x, 120)
    n = 120
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    width = torch.pdist(values[:, None]).median()
    outputs = torch.exp(-(((values[:, None] - values) / width) ** 2) / 2)

    def hsic(k: Tensor, other: Tensor) -> float:
        return float(torch.trace(k @ centring @ other @ centring)) / n**2

    for i in range(5):
        same = (present[:, None, i] == present[:, i]).double()
        expected = hsic(same, outputs) / math.sqrt(hsic(same, same) * hsic(outputs, outputs))
        assert float(found.relevance[0, i]) == pytest.approx(expected, abs=1e-9)


def test_hsic_of_what_does_nothing_is_near_nothing() -> None:
    x = torch.ones(1, 5, dtype=torch.float64)
    found = pl.explain(Additive(), x, target=0, method=HSIC(samples=1000)).relevance[0]
    assert float(found[4]) < 0.01
    assert float(found[1]) > 0.1


@pytest.mark.parametrize("method", [LIME(samples=80), RISE(samples=80), HSIC(samples=80), Sobol(samples=80)])
def test_a_constant_output_gives_nothing_and_no_nan(method: Method) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * x[:, :1] + 3

    found = pl.explain(Constant(), torch.ones(1, 4), target=0, method=method)
    assert torch.allclose(found.relevance, torch.zeros(1, 4), atol=1e-6)


def test_both_orders_of_sobol_are_told_by_feature() -> None:
    """Also of a sample that has fewer features than others, as one of its values is the baseline's."""
    x = numbers(2, 6).double()
    x[0, 1] = 0
    found = pl.explain(wavy(), x, target=1, method=Sobol(samples=200))
    assert torch.equal(found.details["total order"], found.details["feature scores"])
    assert (found.details["total order"] == 0).tolist() == [[False, True, *[False] * 4], [False] * 6]
    alone = pl.explain(wavy(), x[:1], target=1, method=Sobol(samples=200))
    assert torch.equal(alone.details["first order"], found.details["first order"][:1])
