"""Shapley and Owen values: every estimator against the definition, written out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import captum.attr as captum
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import ExactShapley, KernelSHAP, Method, OwenValues, PermutationShapley
from tests.trace.models import numbers, seeded


def wavy(width: int) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Linear(width, 12), nn.Tanh(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2))
    ).double()


def worth(model: nn.Module, x: Tensor, present: Sequence[int]) -> float:
    shown = torch.zeros_like(x)
    shown[list(present)] = x[list(present)]
    with torch.no_grad():
        return float(model(shown[None])[0, 1])


def over_orders(model: nn.Module, x: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """A player's mean gain: the definition."""
    value: dict[frozenset[int], float] = {}

    def of(players: Sequence[int]) -> float:
        key = frozenset(players)
        if key not in value:
            value[key] = worth(model, x, sorted(key))
        return value[key]

    gains = torch.zeros(len(x), dtype=torch.float64)
    for order in orders:
        for k, player in enumerate(order):
            gains[player] += of(order[: k + 1]) - of(order[:k])
    return gains / len(orders)


def by_subsets(model: nn.Module, x: Tensor) -> Tensor:
    n = len(x)
    values = {s: worth(model, x, s) for k in range(n + 1) for s in itertools.combinations(range(n), k)}
    found = torch.zeros(n, dtype=torch.float64)
    for s, value in values.items():
        for i in set(range(n)) - set(s):
            weight = math.factorial(len(s)) * math.factorial(n - len(s) - 1) / math.factorial(n)
            found[i] += weight * (values[tuple(sorted((*s, i)))] - value)
    return found


def test_both_definitions_agree() -> None:
    model, x = wavy(5), numbers(1, 5).double()[0]
    assert torch.allclose(by_subsets(model, x), over_orders(model, x, list(itertools.permutations(range(5)))))


@pytest.mark.parametrize(
    "method", [ExactShapley(), KernelSHAP(), PermutationShapley(), OwenValues(tree=list(range(10)))]
)
def test_ten_features_are_exact(method: Method) -> None:
    model, x = wavy(10), numbers(2, 10).double()
    found = pl.explain(model, x, target=1, method=method)
    for i in range(2):
        assert torch.allclose(found.relevance[i], by_subsets(model, x[i]), atol=1e-10)
    assert found.ledger is not None
    assert found.ledger.closed(1e-10)


@pytest.mark.parametrize("make", [KernelSHAP, PermutationShapley])
def test_samples_come_within_their_errors_and_errors_shrink(make: Callable[..., Method]) -> None:
    model, x = wavy(10), numbers(3, 10).double()
    truth = torch.stack([by_subsets(model, row) for row in x])
    last = math.inf
    for samples in (200, 900):
        found = pl.explain(model, x, target=1, method=make(samples=samples))
        error = found.details["standard error"]
        away = (found.relevance - truth).abs() / error
        assert float((away**2).mean()) < 2.5  # of honest errors about 1
        assert float((away**2).mean()) > 0.2
        assert float(error.mean()) < last
        last = float(error.mean())
        assert found.ledger is not None
        assert found.ledger.closed(1e-10)


@pytest.mark.parametrize("make", [KernelSHAP, PermutationShapley, OwenValues])
def test_of_a_linear_model_it_is_exact_at_once(make: Callable[..., Method]) -> None:
    model, x = seeded(lambda: nn.Linear(40, 3)).double(), numbers(2, 40).double()
    found = pl.explain(model, x, target=2, method=make(samples=300))
    assert torch.allclose(found.relevance, x * model.weight[2], atol=1e-9)  # type: ignore[operator,index]
    assert float(found.details["standard error"].max()) < 1e-9


def test_samples_too_few_for_errors_are_told() -> None:
    model, x = wavy(14), numbers(2, 14).double()
    found = pl.explain(model, x, target=1, method=KernelSHAP(samples=20))
    assert "standard error" not in found.details
    assert "20 coalitions are too few to tell the errors of 14 scores: more samples= do." in found.warnings
    found = pl.explain(model, x, target=1, method=KernelSHAP(samples=10))
    assert "10 coalitions are fewer than the 14 features: the fit is not the only one." in found.warnings
    found = pl.explain(model, x, target=1, method=KernelSHAP(samples=100))
    assert bool((found.details["standard error"] > 0).all())
    assert not found.warnings


def test_a_tolerance_is_met_or_it_says_that_it_is_not() -> None:
    model, x = wavy(14), numbers(2, 14).double()
    met = pl.explain(model, x, target=1, method=PermutationShapley(samples=200, tolerance=0.02))
    table = met.details["score errors"]
    assert bool((table.amax(1) > 0).all())
    assert not [note for note in met.warnings if "is above" in note]
    missed = pl.explain(model, x, target=1, method=PermutationShapley(samples=200, tolerance=1e-9, most_samples=400))
    assert any("is above tolerance=1e-09" in note for note in missed.warnings)


def owen_orders(tree: Any) -> list[tuple[int, ...]]:
    """Every order that keeps the groups of a tree together."""
    if isinstance(tree, int):
        return [(tree,)]
    found = []
    for children in itertools.permutations(tree):
        for parts in itertools.product(*map(owen_orders, children)):
            found.append(tuple(itertools.chain(*parts)))
    return found


@pytest.mark.parametrize("tree", [[[0, 1], [2, [3, 4]]], [[0, 1, 2], 3, 4], [[[[0, 1], 2], 3], 4]])
def test_owen_values_are_means_over_the_orders_of_the_tree(tree: Any) -> None:
    model, x = wavy(5), numbers(1, 5).double()
    found = pl.explain(model, x, target=1, method=OwenValues(tree=tree))
    assert torch.allclose(found.relevance[0], over_orders(model, x[0], owen_orders(tree)), atol=1e-10)


def test_sampled_owen_values_come_within_their_errors() -> None:
    tree = [list(range(k, k + 6)) for k in (0, 6, 12)]
    model, x = wavy(18), numbers(1, 18).double()
    exact = pl.explain(model, x, target=1, method=OwenValues(tree=tree, samples=5000))
    assert "standard error" not in exact.details
    drawn = pl.explain(model, x, target=1, method=OwenValues(tree=tree, samples=600))
    away = (drawn.relevance - exact.relevance).abs() / drawn.details["standard error"]
    assert float(away.max()) < 4.5
    assert float(away.mean()) > 0.1


@pytest.mark.parametrize(
    ("tree", "message"),
    [([[0, 1], [2, 3]], "missing: .4."), ([0, 1, 2, 3, 4, 4], "twice: .4."), ([0, 1, 2, 3, 4, 9], "unknown: .9.")],
)
def test_a_tree_that_does_not_hold_every_feature_once_is_refused(tree: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pl.explain(wavy(5), numbers(1, 5).double(), target=1, method=OwenValues(tree=tree))


def test_too_many_features_for_all_coalitions_say_what_to_do() -> None:
    with pytest.raises(InputError, match=r"40 features have 2\^40 coalitions.*permutation-shapley"):
        pl.explain(seeded(lambda: nn.Linear(40, 2)), numbers(1, 40), target=0, method="exact-shapley")


def mean_of_runs(peer: Any, x: Tensor, runs: int, samples: int) -> tuple[Tensor, Tensor]:
    """Captum's estimate for class 1, (features,), and its standard error as the runs show it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = torch.cat([peer.attribute(x, target=1, n_samples=samples).detach().double() for _ in range(runs)])
    return found.mean(0), found.std(0) / runs**0.5


def test_captums_kernel_shap_tends_to_the_same() -> None:
    model, x = wavy(6), numbers(1, 6).double()
    theirs, error = mean_of_runs(captum.KernelShap(model), x, 8, 250)
    ours = pl.explain(model, x, target=1, method=KernelSHAP())
    assert float(((ours.relevance[0] - theirs) / error).abs().max()) < 4
    assert float((ours.relevance[0] - theirs).norm() / theirs.norm()) < 0.1


def test_captums_sampled_shapley_values_tend_to_the_same_and_single_orders_are_less_sure() -> None:
    """Ours plays every order backwards as well, so that the same evaluations tell more."""
    model, x = wavy(10), numbers(1, 10).double()
    theirs, error = mean_of_runs(captum.ShapleyValueSampling(model), x, 16, 20)  # 20 orders of 10 evaluations
    ours = pl.explain(model, x, target=1, method=PermutationShapley(samples=200), seed=1)
    told = ours.details["standard error"][0]
    assert float(((ours.relevance[0] - theirs) / (error**2 + told**2).sqrt()).abs().max()) < 4
    truth = by_subsets(model, x[0])
    assert float(((theirs - truth) / error).abs().max()) < 4
    assert float((told / (4 * error)).mean()) < 0.8


def test_captums_shapley_values_tend_to_the_same() -> None:
    model, x = wavy(6), numbers(1, 6).double()
    theirs = captum.ShapleyValues(model).attribute(x, target=1)
    ours = pl.explain(model, x, target=1, method=ExactShapley())
    assert torch.allclose(ours.relevance, theirs.double(), atol=1e-6)  # Captum answers in single precision


@pytest.mark.parametrize(
    "method", [ExactShapley(), KernelSHAP(samples=60), PermutationShapley(samples=60), OwenValues(samples=60)]
)
def test_axioms(method: Method) -> None:
    """Dummy: what changes nothing gets 0. Symmetry: equals get equal, where nothing is sampled."""

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x[:, 0] * x[:, 1] + x[:, 2])[:, None] + 0 * x[:, 3:4]

    x = torch.tensor([[2.0, 2.0, 1.0, 5.0]])
    found = pl.explain(Product(), x, target=0, method=method).relevance[0]
    assert torch.allclose(found, torch.tensor([2.0, 2.0, 1.0, 0.0]), atol=1e-6)
