"""LIME against the package lime and Captum: one regression of the same coalitions, and where they ask otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr as captum
import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import LIME
from tests.methods.watching import Given, Watched
from tests.trace.models import numbers, seeded

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

SAMPLES = 300


class Dealt(np.random.RandomState):
    """Deals lime the coalitions that were ours, (samples, features) with the full one first."""

    def __init__(self, coalitions: Tensor, values: Tensor | None = None) -> None:
        super().__init__(0)
        self.coalitions = coalitions.numpy()
        self.columns = iter(torch.where(coalitions, values, 0.0).T.numpy() if values is not None else ())

    def randint(self, low: Any, high: Any = None, size: Any = None, dtype: Any = int) -> Any:
        return self.coalitions.astype(int).ravel()

    def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
        return next(self.columns)


def ours(
    model: nn.Module, x: Tensor, read: Callable[[Tensor], Tensor], **settings: Any
) -> tuple[pl.Explanation, Tensor]:
    """What we find of class 1, and the coalitions that it was found from, the full one first."""
    given = Given()
    method = LIME(samples=SAMPLES, **settings)
    found = pl.explain(Watched(model, given).eval(), x, target=1, method=method)
    coalitions = read(given.rows()[-SAMPLES:]) != 0
    return found, torch.cat([torch.ones(1, coalitions.shape[1], dtype=torch.bool), coalitions])


def table() -> tuple[nn.Module, Tensor]:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))).double()
    return model, torch.tensor([[2.0, -1.0, 1.0, 3.0, -2.0, 1.0]]).double()


def test_of_a_picture_it_is_limes_regression() -> None:
    image = pytest.importorskip("lime.lime_image")
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 12), nn.Tanh(), nn.Linear(12, 3))).double()
    picture = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1
    segments = torch.arange(8)[:, None] // 3 * 3 + torch.arange(8) // 3
    corners = [(int(i), int(j)) for i, j in (torch.stack([(segments == k).nonzero()[0] for k in range(9)]))]

    def read(rows: Tensor) -> Tensor:
        return torch.stack([rows[:, 0, i, j] for i, j in corners], 1)

    found, coalitions = ours(model, picture, read, features=segments)
    explainer = image.LimeImageExplainer(kernel_width=0.25, feature_selection="none", random_state=Dealt(coalitions))
    theirs = explainer.explain_instance(
        picture[0].movedim(0, -1).numpy(),
        pl.as_function(model, channels_last=True),
        labels=(1,),
        top_labels=None,
        hide_color=0,
        num_samples=SAMPLES + 1,
        segmentation_fn=lambda _: segments.numpy(),
        random_seed=0,
    )
    weights = dict(theirs.local_exp[1])
    np.testing.assert_allclose(found.details["feature scores"][0], [weights[k] for k in range(9)], atol=1e-12)
    assert float(found.details["weighted R2"][0]) == pytest.approx(theirs.score, abs=1e-12)


def tabular(model: nn.Module, x: Tensor, coalitions: Tensor) -> Any:
    """lime's own fit of columns that are either the value of ``x`` or 0, half and half."""
    lime_tabular = pytest.importorskip("lime.lime_tabular")
    explainer = lime_tabular.LimeTabularExplainer(
        np.concatenate([np.zeros((50, 6)), x.numpy().repeat(50, 0)]),
        mode="regression",
        categorical_features=list(range(6)),
        kernel_width=0.25,
        feature_selection="none",
        discretize_continuous=False,
        random_state=Dealt(coalitions, x[0]),
    )
    function = pl.as_function(model, 1)
    return explainer.explain_instance(x[0].numpy(), function, num_samples=len(coalitions), distance_metric="cosine")


def test_of_columns_that_are_there_or_not_it_is_limes_regression() -> None:
    model, x = table()
    found, coalitions = ours(model, x, lambda rows: rows)
    theirs = tabular(model, x, coalitions)
    weights = dict(theirs.local_exp[1])
    np.testing.assert_allclose(found.relevance[0], [weights[k] for k in range(6)], atol=1e-12)
    assert float(found.details["weighted R2"][0]) == pytest.approx(theirs.score, abs=1e-12)


def test_of_numeric_columns_lime_tells_slopes_and_we_what_a_value_brings() -> None:
    """Of ``w x`` lime's is ``w sd(x)``, whatever x is; ours is ``w x``, which sums to what the output gained."""
    lime_tabular = pytest.importorskip("lime.lime_tabular")
    model, data = (
        seeded(lambda: nn.Linear(4, 2)).double(),
        numbers(200, 4).double() * torch.tensor([1.0, 2.0, 0.5, 3.0]),
    )
    weight, x = model.weight[1].detach().numpy(), data[:1]  # type: ignore[index]
    explainer = lime_tabular.LimeTabularExplainer(
        data.numpy(), mode="regression", discretize_continuous=False, feature_selection="none", random_state=0
    )
    theirs = dict(explainer.explain_instance(x[0].numpy(), pl.as_function(model, 1), num_samples=2000).local_exp[1])
    np.testing.assert_allclose([theirs[k] for k in range(4)], weight * data.numpy().std(0), rtol=0.02)
    found = pl.explain(model, x, target=1, method=LIME(samples=2000, regression="linear")).relevance[0]
    np.testing.assert_allclose(found, weight * x[0].numpy(), atol=1e-9)


def nearness(_: Tensor, __: Tensor, coalition: Tensor, **___: Any) -> Tensor:
    """The kernel of Ribeiro 2016 on coalitions (1, features), as ours."""
    distance = 1 - coalition.double().mean().sqrt()
    return torch.exp(-((distance / 0.25) ** 2) / 2)


def captums(x: Tensor, samples: int, perturb: Any = None) -> Tensor:
    model, _ = table()
    peer = captum.Lime(
        model,
        interpretable_model=SkLearnRidge(alpha=1.0),
        similarity_func=nearness,
        perturb_func=perturb,
    )
    values: Tensor = peer.attribute(x, target=1, n_samples=samples)
    return values[0].double()


def test_captum_fits_the_same_to_the_same_coalitions() -> None:
    model, x = table()
    found, coalitions = ours(model, x, lambda rows: rows)

    def perturb(_: Tensor, **__: Any) -> Any:
        yield from (coalition[None].double() for coalition in coalitions)

    theirs = captums(x, len(coalitions), perturb)
    assert torch.allclose(found.relevance[0], theirs, atol=1e-6)  # Captum fits in single precision


def test_captums_own_coalitions_tend_to_the_same() -> None:
    model, x = table()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        runs = torch.stack([captums(x, 200) for _ in range(12)])
    found = pl.explain(model, x, target=1, method=LIME(samples=200))
    error = found.details["standard error"][0]
    away = runs.mean(0) - torch.stack(
        [pl.explain(model, x, target=1, method=LIME(samples=200), seed=seed).relevance[0] for seed in range(12)]
    ).mean(0)
    assert float((away / (error * (2 / 12) ** 0.5)).abs().max()) < 4
    assert 0.6 < float((error / runs.std(0)).mean()) < 1.6
