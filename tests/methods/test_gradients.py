"""The gradient family against Captum and against exact values."""

from __future__ import annotations

import captum.attr as captum
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import IntegratedGradients, Token
from tests.trace.models import MODELS, Made, convolutional, numbers, seeded

TARGETS = [0, 1, 2, 1]


def given(name: str) -> tuple[nn.Module, Tensor, list[int]]:
    build, shape = MODELS[name]
    x = numbers(*shape).double()
    return build().double(), x, TARGETS[: len(x)]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_gradient_is_captums(name: str) -> None:
    model, x, targets = given(name)
    theirs = captum.Saliency(model).attribute(x.clone().requires_grad_(), target=targets, abs=False)
    assert torch.allclose(pl.explain(model, x, target=targets, method="gradient").relevance, theirs, atol=1e-12)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_gradient_times_input_is_captums(name: str) -> None:
    model, x, targets = given(name)
    theirs = captum.InputXGradient(model).attribute(x.clone().requires_grad_(), target=targets)
    ours = pl.explain(model, x, target=targets, method="gradient-x-input").relevance
    assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("gauss-legendre", "gausslegendre"),
        ("left", "riemann_left"),
        ("right", "riemann_right"),
        ("midpoint", "riemann_middle"),
    ],
)
def test_integrated_gradients_are_captums(name: str, ours: str, theirs: str) -> None:
    model, x, targets = given(name)
    expected = captum.IntegratedGradients(model).attribute(x, 0.3, target=targets, n_steps=12, method=theirs)
    method = IntegratedGradients(steps=12, quadrature=ours, baseline=0.3)  # type: ignore[arg-type]
    assert torch.allclose(pl.explain(model, x, target=targets, method=method).relevance, expected, atol=1e-11)


def test_the_trapezoid_is_exact_for_a_square_in_two_steps() -> None:
    model = Made(lambda self, x: (x**2).sum(1, keepdim=True)).eval()
    x = numbers(3, 4).double()
    method = IntegratedGradients(steps=2, quadrature="trapezoid")
    assert torch.allclose(pl.explain(model, x, method=method).relevance, x**2, atol=1e-14)


def test_at_a_layer_it_is_captums_layer_form() -> None:
    model, x, targets = given("convolutional")
    theirs = captum.LayerIntegratedGradients(model, model[2]).attribute(x, target=targets, n_steps=10)  # type: ignore[index]
    ours = pl.explain(model, x, target=targets, method=IntegratedGradients(steps=10), layer="2").layers["2"]
    assert torch.allclose(ours, theirs, atol=1e-11)
    activation = captum.LayerGradientXActivation(model, model[2])  # type: ignore[index]
    products = activation.attribute(x.clone().requires_grad_(), target=targets)
    ours = pl.explain(model, x, target=targets, method="gradient-x-input", layer="2").layers["2"]
    assert torch.allclose(ours, products, atol=1e-12)


def test_the_ledger_shows_the_gap_and_the_tolerance_closes_it() -> None:
    model, x = convolutional(), numbers(4, 3, 8, 8)
    coarse = pl.explain(model, x, target=0, method=IntegratedGradients(steps=1, quadrature="left")).ledger
    assert coarse is not None
    zero = float(model(torch.zeros_like(x))[:, 0].sum().detach())
    assert coarse.amounts["baseline"] == pytest.approx(zero, rel=1e-5)
    assert not coarse.closed(1e-2)
    found = pl.explain(model, x, target=0, method=IntegratedGradients(steps=2, tolerance=0.01, most_steps=4096))
    gap = found.relevance.flatten(1).sum(1) - (model(x) - model(torch.zeros_like(x)))[:, 0]
    difference = (model(x) - model(torch.zeros_like(x)))[:, 0]
    assert bool((gap.abs() <= 0.0101 * difference.abs()).all())
    assert not found.warnings
    late = pl.explain(
        model, x, target=0, method=IntegratedGradients(steps=1, quadrature="left", tolerance=1e-9, most_steps=2)
    )
    assert "did not meet tolerance=1e-09 within 2 steps" in late.warnings[0]


def test_a_sample_stops_refining_on_its_own() -> None:
    model, x = convolutional(), numbers(4, 3, 8, 8)
    method = IntegratedGradients(steps=2, tolerance=0.02, most_steps=512)
    together = pl.explain(model, x, target=0, method=method).relevance
    for i in range(len(x)):
        alone = pl.explain(model, x[i : i + 1], target=0, method=method).relevance
        assert torch.allclose(together[i : i + 1], alone, rtol=1e-4, atol=1e-6)


def test_several_baselines_are_averaged() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    one, two, both = (
        pl.explain(model, x, target=0, method=IntegratedGradients(steps=6, baseline=b)).relevance
        for b in ("zero", "blur", ["zero", "blur"])
    )
    assert torch.allclose(both, (one + two) / 2, atol=1e-6)


def test_token_ids_start_from_a_token_or_from_nothing() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(10, 6), nn.Linear(6, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.tanh(self.table(ids)).sum(1))

    model = seeded(Words)
    ids = torch.tensor([[1, 2, 3, 4]])
    base = captum.LayerIntegratedGradients(model, model.table)  # type: ignore[arg-type]
    for baseline, theirs in ((Token(7), torch.full_like(ids, 7)),):
        expected = base.attribute(ids, baselines=theirs, target=1, n_steps=9).sum(-1)
        ours = pl.explain(model, ids, target=1, method=IntegratedGradients(steps=9, baseline=baseline))
        assert torch.allclose(ours.relevance, expected.to(ours.relevance.dtype), atol=1e-6)


def test_a_model_that_ends_in_softmax_is_explained_at_its_logits() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    gated = nn.Sequential(model, nn.Softmax(1)).eval()
    for method in ("gradient", "integrated-gradients"):
        plain = pl.explain(model, x, target="1~rest", method=method)
        behind = pl.explain(gated, x, target="1~rest", method=method)
        assert torch.allclose(plain.relevance, behind.relevance, atol=1e-6)
        assert torch.allclose(plain.output, behind.output, atol=1e-5)
        assert any("ends in softmax" in warning for warning in behind.warnings)
