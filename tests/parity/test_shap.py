"""Shapley and Owen values, DeepSHAP and expected gradients against the package shap, and where that is wrong."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import (
    DeepSHAP,
    ExactShapley,
    ExpectedGradients,
    GradientSHAP,
    KernelSHAP,
    OwenValues,
    PermutationShapley,
)
from tests.peers import shap_or_skip
from tests.trace.models import Made, numbers, seeded

pytestmark = pytest.mark.filterwarnings("ignore")  # shap's own


@pytest.fixture(scope="module")
def shap() -> Any:
    return shap_or_skip()


def wavy(width: int) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Linear(width, 12), nn.Tanh(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2))
    ).double()


def row(width: int, seed: int = 1) -> Tensor:
    return numbers(1, width, seed=seed).double()


def exact(model: nn.Module, x: Tensor) -> np.ndarray[Any, Any]:
    """Shapley values of the first sample for class 1 and the baseline 0, by enumeration."""
    found = pl.explain(model, x[:1], target=1, method=ExactShapley()).relevance[0].numpy()
    return np.asarray(found)


def test_exact_shapley_values_and_their_base_equal_shap(shap: Any) -> None:
    model, x, background = wavy(7), numbers(3, 7).double(), numbers(4, 7, seed=5).double()
    explainer = shap.explainers.ExactExplainer(pl.as_function(model, 1), shap.maskers.Independent(background.numpy()))
    theirs = explainer(x.numpy())
    ours = pl.explain(model, x, target=1, method=ExactShapley(baseline=[part[None] for part in background]))
    np.testing.assert_allclose(ours.relevance, theirs.values, atol=1e-12)
    assert ours.ledger is not None
    assert ours.ledger.amounts["baseline"] == pytest.approx(theirs.base_values.sum(), abs=1e-12)


def test_one_pair_of_orders_is_exact_for_interactions_of_two_features_in_both(shap: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        both = (self.mix(x) * x).sum(1) + x.sum(1)
        return torch.stack([both, 1 + 2 * both], 1)

    model, x = seeded(lambda: Made(forward, mix=nn.Linear(9, 9))).double(), row(9)
    truth = exact(model, x)
    explainer = shap.explainers.PermutationExplainer(pl.as_function(model, 1), np.zeros((1, 9)), seed=0)
    theirs = explainer(x.numpy(), max_evals=2 * 9 + 1, silent=True).values[0]
    ours = pl.explain(model, x, target=1, method=PermutationShapley(samples=32)).relevance[0]
    np.testing.assert_allclose(theirs, truth, atol=1e-12)
    np.testing.assert_allclose(ours, truth, atol=1e-12)


def test_permutations_tend_to_the_same_and_only_our_errors_are_those_of_the_mean(shap: Any) -> None:
    """shap's ``error_std`` is how far single orders lie apart: it does not shrink with their number."""
    model, x, width, pairs = wavy(10), row(10), 10, 8
    truth = exact(model, x)
    explainer = shap.explainers.PermutationExplainer(pl.as_function(model, 1), np.zeros((1, width)), seed=0)
    found = [explainer(x.numpy(), max_evals=pairs * (2 * width + 1), error_bounds=True, silent=True) for _ in range(40)]
    theirs = np.stack([one.values[0] for one in found])
    told = np.stack([one.error_std[0] for one in found]).mean(0)
    method = PermutationShapley(samples=pairs * 2 * (width - 1))
    runs = [pl.explain(model, x, target=1, method=method, seed=seed) for seed in range(40)]
    ours = np.stack([run.relevance[0].numpy() for run in runs])
    errors = np.stack([run.details["standard error"][0].numpy() for run in runs]).mean(0)
    for values in (theirs, ours):
        assert np.abs((values.mean(0) - truth) / (values.std(0) / 40**0.5)).max() < 4
    assert 0.8 < (ours.std(0) / theirs.std(0)).mean() < 1.25
    assert 0.8 < (errors / ours.std(0)).mean() < 1.25
    assert (told / theirs.std(0)).min() > 2


def test_kernel_shap_with_all_coalitions_equals_shap(shap: Any) -> None:
    model, x, background = wavy(10), row(10), numbers(3, 10, seed=5).double()
    explainer = shap.KernelExplainer(pl.as_function(model, 1), background.numpy())
    theirs = explainer.shap_values(x.numpy(), nsamples=2**10, l1_reg=False, silent=True)
    baselines = [part[None] for part in background]
    ours = pl.explain(model, x, target=1, method=KernelSHAP(baseline=baselines)).relevance
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_sampled_kernel_shap_is_at_least_as_near_as_shaps(shap: Any) -> None:
    model, x, samples = wavy(10), row(10), 300
    truth = exact(model, x)
    explainer = shap.KernelExplainer(pl.as_function(model, 1), np.zeros((1, 10)))
    theirs, ours = [], []
    np.random.seed(0)
    for seed in range(30):
        theirs.append(explainer.shap_values(x.numpy(), nsamples=samples, l1_reg=False, silent=True)[0] - truth)
        found = pl.explain(model, x, target=1, method=KernelSHAP(samples=samples), seed=seed)
        ours.append(found.relevance[0].numpy() - truth)
    for away in map(np.stack, (theirs, ours)):
        assert np.abs(away.mean(0) / (away.std(0) / 30**0.5)).max() < 4
    assert np.square(ours).mean() < 1.1 * np.square(theirs).mean()


def test_shaps_kernel_explainer_drops_features_unless_told_not_to(shap: Any) -> None:
    """Its default keeps ten features only, so that two of twelve get 0 and the others what is theirs."""
    model, x = wavy(12), row(12)
    truth = exact(model, x)
    assert np.abs(truth).min() > 1e-4
    explainer = shap.KernelExplainer(pl.as_function(model, 1), np.zeros((1, 12)))
    usual = explainer.shap_values(x.numpy(), nsamples=2**12, silent=True)[0]
    assert (usual == 0).sum() == 2
    assert usual.sum() == pytest.approx(truth.sum())
    assert np.abs(usual - truth).max() > 1e-4
    whole = explainer.shap_values(x.numpy(), nsamples=2**12, l1_reg=False, silent=True)[0]
    np.testing.assert_allclose(whole, truth, atol=1e-9)
    ours = pl.explain(model, x, target=1, method=KernelSHAP(samples=2**12)).relevance[0]
    np.testing.assert_allclose(ours, truth, atol=1e-9)


def linkage(tree: Any, width: int) -> np.ndarray[Any, Any]:
    """A tree of pairs as scipy writes it: two branches, their distance and the leaves below, from the leaves up."""
    rows: list[list[float]] = []

    def walk(node: Any) -> tuple[int, int]:
        if isinstance(node, int):
            return node, 1
        (left, many), (right, more) = map(walk, node)
        rows.append([left, right, len(rows) + 1.0, many + more])
        return width + len(rows) - 1, many + more

    walk(tree)
    return np.array(rows)


TREES: list[Any] = [[[0, 1], [2, [3, 4]]], [[[[0, 1], 2], 3], 4], [[[4, 0], 2], [1, 3]]]


@pytest.mark.parametrize("tree", TREES)
def test_owen_values_equal_shaps_partition_and_exact_explainers(shap: Any, tree: Any) -> None:
    model, x, background = wavy(5), numbers(2, 5).double(), numbers(3, 5, seed=5).double()
    ours = pl.explain(
        model, x, target=1, method=OwenValues(tree=tree, baseline=[part[None] for part in background])
    ).relevance
    masker = shap.maskers.Partition(background.numpy(), clustering=linkage(tree, 5))
    function = pl.as_function(model, 1)
    partition = shap.explainers.PartitionExplainer(function, masker)(x.numpy(), max_evals=1000, silent=True)
    np.testing.assert_allclose(ours, partition.values, atol=1e-12)
    enumerated = shap.explainers.ExactExplainer(function, masker)(x.numpy())
    np.testing.assert_allclose(ours, enumerated.values, atol=1e-12)


def halved(numbers: list[int]) -> Any:
    half = len(numbers) // 2
    return numbers[0] if len(numbers) == 1 else [halved(numbers[:half]), halved(numbers[half:])]


def test_with_too_few_evaluations_shap_shares_equally_and_we_sample(shap: Any) -> None:
    """What is cut off below a branch it spreads over its leaves, the same error in every run and not told."""
    model, x, tree = wavy(16), row(16), halved(list(range(16)))
    truth = pl.explain(model, x, target=1, method=OwenValues(tree=tree, samples=1000)).relevance[0].numpy()
    masker = shap.maskers.Partition(np.zeros((1, 16)), clustering=linkage(tree, 16))
    explainer = shap.explainers.PartitionExplainer(pl.as_function(model, 1), masker)
    np.testing.assert_allclose(explainer(x.numpy(), max_evals=1000, silent=True).values[0], truth, atol=1e-12)
    short = [explainer(x.numpy(), max_evals=60, batch_size=1, silent=True).values[0] for _ in range(3)]
    assert np.ptp(short, axis=0).max() < 1e-12
    assert np.abs(short[0] - truth).max() > 0.02 * np.abs(truth).max()
    method = OwenValues(tree=tree, samples=60)
    runs = [pl.explain(model, x, target=1, method=method, seed=seed) for seed in range(40)]
    ours = np.stack([run.relevance[0].numpy() for run in runs])
    assert np.abs((ours.mean(0) - truth) / (ours.std(0) / 40**0.5)).max() < 4
    assert all("standard error" in run.details for run in runs)


def dense(activation: type[nn.Module]) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3))
    ).double()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.GELU, nn.Softplus])
def test_deep_shap_equals_shap(shap: Any, activation: type[nn.Module]) -> None:
    model, x, background = dense(activation), numbers(3, 6).double(), numbers(5, 6, seed=6).double()
    theirs = shap.DeepExplainer(model, background).shap_values(x)
    for target in range(3):
        ours = pl.explain(model, x, target=target, method=DeepSHAP(background=background)).relevance
        np.testing.assert_allclose(ours, theirs[..., target], atol=1e-9)


@pytest.mark.parametrize("pool", [nn.AvgPool2d, nn.MaxPool2d])
def test_deep_shap_of_convolutions_and_pooling_equals_shap(shap: Any, pool: type[nn.Module]) -> None:
    def build() -> nn.Module:
        layers = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pool(2), nn.Flatten(), nn.Linear(36, 3))
        return nn.Sequential(*layers)

    model = seeded(build).double()
    x, background = numbers(2, 2, 8, 8).double(), numbers(3, 2, 8, 8, seed=6).double()
    theirs = shap.DeepExplainer(model, background).shap_values(x)
    ours = pl.explain(model, x, target=2, method=DeepSHAP(background=background)).relevance
    np.testing.assert_allclose(ours, theirs[..., 2], atol=1e-9)


def forwards() -> dict[str, tuple[Any, dict[str, nn.Module]]]:
    a, b, c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
    return {
        "residual add": (lambda self, x: self.c(self.act(self.b(x) + x)), {"b": b, "c": c}),
        "functional ReLU": (lambda self, x: self.c(F.relu(self.a(x))), {"a": a, "c": c}),
        "reused ReLU": (lambda self, x: self.c(self.act(self.b(self.act(self.a(x))))), {"a": a, "b": b, "c": c}),
        "gate": (lambda self, x: self.c(self.act(self.b(x)) * self.a(x)), {"a": a, "b": b, "c": c}),
    }


@pytest.mark.parametrize("case", ["residual add", "functional ReLU", "reused ReLU", "gate"])
def test_deep_explainer_works_on_single_modules_only_where_our_books_close(shap: Any, case: str) -> None:
    """It hooks modules: what a function or a second run does it misses, which its own check of the sum finds."""

    def build() -> nn.Module:
        forward, parts = forwards()[case]
        return Made(forward, act=nn.ReLU(), **parts)

    model, x, background = seeded(build).double(), 2 * numbers(3, 6).double(), numbers(5, 6, seed=6).double()
    ours = pl.explain(model, x, target=1, method=DeepSHAP(background=background)).relevance
    due = (model(x) - model(background).mean(0))[:, 1].detach()
    assert torch.allclose(ours.sum(1), due, atol=1e-12)
    explainer = shap.DeepExplainer(model, background)
    if case == "residual add":
        np.testing.assert_allclose(ours, explainer.shap_values(x)[..., 1], atol=1e-12)
        return
    with pytest.raises(AssertionError, match="do not sum up to the model's output"):
        explainer.shap_values(x)
    theirs = explainer.shap_values(x, check_additivity=False)[..., 1]
    assert np.abs(theirs.sum(1) - due.numpy()).max() > 0.1 * float(due.abs().max())


def test_softmax_is_not_a_function_of_single_values(shap: Any) -> None:
    """shap and Captum give what a unit's softmax gained to that unit's own input, though every input moves it.

    shap's sum closes all the same, so that nothing tells: its values lie ten times their own size from the Shapley
    values, ours within a tenth.
    """
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Softmax(1), nn.Linear(8, 3))).double()
    x, background = 2 * numbers(3, 6).double(), numbers(1, 6, seed=6).double()
    truth = pl.explain(model, x, target=1, method=ExactShapley(baseline=background)).relevance.numpy()
    ours = pl.explain(model, x, target=1, method=DeepSHAP(background=background)).relevance.numpy()
    theirs = shap.DeepExplainer(model, background).shap_values(x)[..., 1]
    captums = captum.DeepLift(model).attribute(x, background, target=1).detach().numpy()
    size = np.linalg.norm(truth)
    np.testing.assert_allclose(theirs.sum(1), truth.sum(1), atol=1e-12)
    assert np.linalg.norm(ours - truth) < 0.1 * size
    assert np.linalg.norm(theirs - truth) > size
    assert np.linalg.norm(captums - truth) > size


def expected(shap: Any, noise: float, method: Any) -> None:
    """Both within three per cent of each other, as their standard errors allow."""
    count = 3000
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2)))
    x, background = 2 * numbers(2, 6), numbers(5, 6, seed=6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs, spread = shap.GradientExplainer(model, background, local_smoothing=noise).shap_values(
            x, nsamples=count, rseed=0, return_variances=True
        )
    error = (np.stack(spread, -1)[..., 1] / count**0.5) ** 0.5  # it tells the variance of a draw over sqrt(count)
    ours = pl.explain(model, x, target=1, method=method(samples=count, background=background))
    error = np.hypot(error, ours.details["standard error"].numpy())
    away = theirs[..., 1] - ours.relevance.numpy()
    assert np.abs(away / error).max() < 4
    assert np.linalg.norm(away) < 0.05 * np.linalg.norm(theirs[..., 1])


def test_expected_gradients_equal_shap_within_the_error_of_sampling(shap: Any) -> None:
    expected(shap, 0.0, ExpectedGradients)


def test_noisy_gradient_shap_equals_shap_within_the_error_of_sampling(shap: Any) -> None:
    expected(shap, 0.3, lambda **settings: GradientSHAP(noise=0.3, relative=False, **settings))


def test_at_a_layer_shaps_gradient_explainer_forgets_the_background(shap: Any) -> None:
    """It multiplies by what the layer gave on the way, not by how far that is from the background's."""
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 2)))
    x, background = 2 * numbers(2, 6), numbers(5, 6, seed=6)
    theirs = shap.GradientExplainer((model, model[2]), background).shap_values(x, nsamples=300, rseed=0)[..., 1]  # type: ignore[index]
    ours = pl.explain(
        model, x, target=1, method=ExpectedGradients(samples=500, background=background), layer="1"
    ).layers["1"]
    due = (model(x) - model(background).mean(0))[:, 1].detach()
    assert float((ours.sum(1) - due).abs().max()) < 0.02 * float(due.abs().max())
    assert np.abs(theirs.sum(1) - due.numpy()).max() > 0.5 * float(due.abs().max())
