"""Objects that SHAP and LIME really make, where they are installed, from the plain functions that we give them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.peers import shap_or_skip
from tests.trace.models import numbers, seeded
from torch import nn

import pellucid as pl

pytestmark = pytest.mark.filterwarnings("ignore")


def linear() -> nn.Module:
    return seeded(lambda: nn.Linear(4, 3))


def test_shapley_values_of_a_linear_model() -> None:
    shap = shap_or_skip()
    model, background, x = linear(), numbers(20, 4), numbers(3, 4, seed=2)
    found = shap.explainers.Exact(pl.as_function(model), background.numpy())(x.numpy())
    taken = pl.Explanation.from_attribution(found, x, output=model(x)[:, 1], target=1)
    expected = model.weight[1] * (x - background.mean(0))
    assert torch.allclose(taken.relevance, expected.to(taken.relevance.dtype), atol=1e-5)
    assert taken.ledger is not None
    assert taken.ledger.closed(1e-5)
    one = pl.Explanation.from_attribution(found[0], target=1)
    assert torch.allclose(one.relevance, taken.relevance[:1])


def test_shap_of_a_picture() -> None:
    shap = shap_or_skip()
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)))
    picture = np.random.default_rng(0).random((1, 8, 8, 3))
    explainer = shap.Explainer(pl.as_function(model, channels_last=True), shap.maskers.Image("blur(3,3)", (8, 8, 3)))
    found = explainer(picture, max_evals=60, batch_size=20, outputs=[0, 1], silent=True)
    x = torch.tensor(picture).movedim(-1, 1).float()
    taken = pl.Explanation.from_attribution(found, x, output=model(x)[:, 1], target=1)
    assert taken.relevance.shape == x.shape
    assert taken.ledger is not None
    assert taken.ledger.closed(1e-3)


def test_lime_of_a_row_finds_the_weights_signs() -> None:
    tabular = pytest.importorskip("lime.lime_tabular")
    model, data = linear(), numbers(200, 4)
    explainer = tabular.LimeTabularExplainer(
        data.numpy(), mode="regression", discretize_continuous=False, random_state=0, feature_names=list("abcd")
    )
    found = explainer.explain_instance(data[0].numpy(), pl.as_function(model, target=2), num_samples=2000)
    taken = pl.Explanation.from_attribution(found, data[:1], target=2)
    assert taken.settings["feature names"] == list("abcd")
    assert float(taken.output[0].detach()) == pytest.approx(float(model(data[:1])[0, 2]), abs=1e-5)
    assert torch.equal(taken.relevance[0].sign(), model.weight[2].sign().to(taken.relevance.dtype))


def test_lime_of_a_picture_and_of_several_classes() -> None:
    image = pytest.importorskip("lime.lime_image")
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 3)))
    picture = np.random.default_rng(0).random((16, 16, 3))
    segments = np.arange(16)[:, None] // 8 * 2 + np.arange(16)[None] // 8
    found = image.LimeImageExplainer(random_state=0).explain_instance(
        picture, pl.as_function(model, probabilities=True, channels_last=True), top_labels=2, num_samples=60,
        segmentation_fn=lambda _: segments,
    )  # fmt: skip
    x = torch.tensor(picture).movedim(-1, 0)[None].float()
    label = int(found.top_labels[0])
    taken = pl.Explanation.from_attribution(found, x, output=model(x).softmax(1)[:, label], target=label)
    weights = dict(found.local_exp[label])
    sums = [float(taken.pool("sum")[0][torch.tensor(segments == k)].sum()) for k in range(4)]
    assert sums == pytest.approx([weights[k] for k in range(4)], rel=1e-4)
    with pytest.raises(pl.InputError, match="several labels"):
        pl.Explanation.from_attribution(found, x)
