"""What Captum, zennit, SHAP and LIME made, taken in as explanations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.trace.models import convolutional, dense, numbers
from torch import nn

import pellucid as pl
from pellucid.errors import InputError

pytestmark = pytest.mark.core

take = pl.Explanation.from_attribution


def test_captums_tensor_is_what_we_make_ourselves():
    captum = pytest.importorskip("captum.attr")
    model, x = convolutional(), numbers(2, 3, 8, 8)
    theirs = captum.IntegratedGradients(model).attribute(x, target=1, n_steps=20)
    method = pl.methods.IntegratedGradients(steps=20)
    ours = pl.explain(model, x, target=1, method=method)
    taken = take(theirs, x, output=model(x)[:, 1], target="second", method="captum-ig")
    assert torch.allclose(taken.relevance, ours.relevance.to(taken.relevance.dtype), atol=1e-5)
    assert torch.allclose(taken.share, ours.share, atol=1e-4)
    assert (taken.method, taken.target, taken.warnings) == ("captum-ig", ("second",) * 2, ())
    assert not taken.relevance.requires_grad
    taken.to_html()


def test_zennits_relevance_and_its_pair():
    pytest.importorskip("zennit")
    from zennit.attribution import Gradient as ZennitGradient
    from zennit.composites import EpsilonPlusFlat

    model, x = convolutional(), numbers(2, 3, 8, 8)
    with ZennitGradient(model=model, composite=EpsilonPlusFlat()) as attributor:
        pair = attributor(x, torch.eye(3)[[0, 1]])
    taken = take(pair[1], x, output=pair[0].gather(1, torch.tensor([[0], [1]])), target=[0, 1])
    assert torch.equal(taken.relevance, pair[1])
    assert taken.target == ("0", "1")
    with pytest.raises(InputError, match=r"zennit's pair \(output, relevance\)"):
        take(pair, x)


def test_captums_pair_with_the_delta_is_named():
    captum = pytest.importorskip("captum.attr")
    model, x = dense(), numbers(4, 6)
    pair = captum.IntegratedGradients(model).attribute(x, target=1, return_convergence_delta=True)
    with pytest.raises(InputError, match="convergence delta"):
        take(pair, x)


def test_several_inputs_keep_their_form():
    x = (numbers(2, 3), torch.tensor([[1, 2], [3, 4]]))
    taken = take((numbers(2, 3), torch.ones(2, 2, 5)), x, output=[1.0, 2.0])
    assert taken.relevance[1].tolist() == [[5.0, 5.0], [5.0, 5.0]], "vectors of tokens are summed"
    named = take({"a": np.ones((2, 3))}, {"a": numbers(2, 3), "b": x[1]}, output=torch.ones(2))
    assert named.relevance["a"].dtype == torch.float64
    assert take((numbers(2, 3), None), x).relevance[1] is None
    for attribution, given, text in [
        ((numbers(2, 3),), x, "has 1 parts, the input 2"),
        ({"c": numbers(2, 3)}, {"a": numbers(2, 3)}, r"names \['c'\]"),
        (numbers(2, 3), x, "The attribution is a Tensor, the input a tuple"),
    ]:
        with pytest.raises(InputError, match=text):
            take(attribution, given)


def test_channels_last_and_maps_for_all_channels():
    x, value = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5, seed=2)
    assert torch.equal(take(value.movedim(1, -1).numpy(), x).relevance, value)
    one_map = take(value[:, :1], x)
    assert torch.allclose(one_map.pool("sum"), value[:, 0])
    assert "shared out equally" in one_map.warnings[0]
    assert torch.equal(take(value[0], x[:1]).relevance, value[:1])
    with pytest.raises(InputError, match=r"LayerAttribution\.interpolate"):
        take(value[:, :1, :2, :2], x)
    with pytest.raises(InputError, match=r"has shape \(2, 9\), the input \(2, 3, 4, 5\)"):
        take(numbers(2, 9), x)


def test_the_output_may_be_unknown():
    taken = take(numbers(2, 3))
    assert bool(taken.output.isnan().all())
    assert "was not given" in taken.warnings[0]
    taken.to_html()
    assert take(numbers(1, 3), output=2.5).output.tolist() == [2.5]


@pytest.mark.parametrize(
    ("attribution", "more", "text"),
    [
        ([numbers(2, 3)], {}, "list is ambiguous"),
        ("text", {}, "cannot be used: expected a tensor"),
        (np.array(["a"]), {}, "made of numbers"),
        (torch.ones(2, 3, dtype=torch.complex64), {}, "real, dense numbers"),
        (numbers(2, 3), {"output": [1.0]}, "one scalar per sample, 2 in all"),
        (numbers(2, 3), {"target": ["a"]}, "one per sample, 2 in all; got 1"),
        ((numbers(2, 3), numbers(3, 3)), {}, "same first dimension"),
        (torch.tensor(3.0), {}, "same first dimension"),
    ],
)
def test_what_cannot_be_used_is_told(attribution, more, text):
    with pytest.raises(InputError, match=text):
        take(attribution, **more)


# -- SHAP: objects with the attributes of shap.Explanation ------------------------------------------------------------


def shap(values, base, data=None, **more):
    return SimpleNamespace(values=np.asarray(values), base_values=np.asarray(base), data=data, **more)


VALUES = np.arange(24.0).reshape(2, 4, 3)
BASE = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
NAMES = {"output_names": ["cat", "dog", "owl"], "feature_names": ["a", "b", "c", "d"]}


def test_shap_of_several_outputs_needs_the_one_that_is_meant():
    found = shap(VALUES, BASE, np.ones((2, 4)), **NAMES)
    taken = take(found, target="dog")
    assert torch.equal(taken.relevance, torch.tensor(VALUES[..., 1]))
    assert taken.output.tolist() == [(BASE[:, 1] + VALUES[..., 1].sum(1))[k] for k in range(2)]
    assert taken.target == ("dog", "dog")
    assert taken.settings["feature names"] == ["a", "b", "c", "d"]
    assert torch.equal(taken.input, torch.ones(2, 4, dtype=torch.float64))
    assert torch.equal(take(found, target=2).relevance, torch.tensor(VALUES[..., 2]))
    each = take(found, target=["owl", "cat"])
    assert torch.equal(each.relevance, torch.tensor(np.stack([VALUES[0, :, 2], VALUES[1, :, 0]])))
    assert each.settings["base values"] == [3.0, 4.0]
    for target in (None, "horse", 3):
        with pytest.raises(InputError, match="3 outputs were explained: say which with target=, one of cat, dog, owl"):
            take(found, target=target)


def test_shap_with_an_output_has_a_ledger():
    found = shap(VALUES[..., 0], BASE[:, 0], np.ones((2, 4)))
    taken = take(found, output=[20.0, 60.0])
    assert taken.ledger.amounts["baseline"] == 5.0
    assert taken.ledger.inputs == VALUES[..., 0].sum()
    assert taken.ledger.unaccounted == 80.0 - 5.0 - VALUES[..., 0].sum()
    assert take(found).ledger is None
    assert "base value plus the sum" in take(found).warnings[0]


def test_one_sample_of_shap_and_one_base_for_all():
    assert take(shap(VALUES[0, :, 0], 1.0, np.ones(4))).relevance.shape == (1, 4)
    alone = take(shap(VALUES[0], BASE[0], np.ones(4), **NAMES), target="owl")
    assert alone.relevance.tolist() == [VALUES[0, :, 2].tolist()]
    assert alone.settings["base values"] == [3.0]
    assert take(shap(VALUES[..., 0], np.array([1.0, 1.0]))).settings["base values"] == [1.0, 1.0]


def test_shap_of_pictures_gets_channels_first():
    values = np.random.default_rng(0).normal(size=(1, 8, 6, 3, 2))
    taken = take(shap(values, np.zeros((1, 2)), np.ones((1, 8, 6, 3))), target=1)
    assert torch.equal(taken.relevance, torch.tensor(values[..., 1]).movedim(-1, 1))
    assert taken.input.shape == (1, 3, 8, 6)
    x = torch.rand(1, 3, 8, 6)
    assert torch.equal(take(shap(values, np.zeros((1, 2))), x, target=1).relevance, taken.relevance)


def test_shap_of_texts_of_several_lengths_is_told():
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.ones(3), np.ones(5)]
    with pytest.raises(InputError, match="give one sample"):
        take(shap(ragged, np.zeros(2)))
    text = take(shap(np.ones((3, 2)), np.zeros(2), np.array(["a ", "good ", "film"], dtype=object)), target=1)
    assert text.relevance.shape == (1, 3)
    assert text.input is None


# -- LIME: objects with the attributes of lime.explanation.Explanation and lime.lime_image.ImageExplanation -----------


def lime(**more):
    fields = {
        "local_exp": {0: [(2, 0.5), (1, -0.25)], 2: [(0, 1.0)]},
        "intercept": {0: 0.1, 2: 0.2},
        "score": 0.9,
        "mode": "classification",
        "class_names": ["cat", "dog", "owl"],
        "predict_proba": np.array([0.2, 0.3, 0.5]),
        "domain_mapper": SimpleNamespace(exp_feature_names=["a", "b", "c", "d"]),
    }
    return SimpleNamespace(**(fields | more))


def test_lime_of_a_row():
    taken = take(lime(), target="cat")
    assert taken.relevance.tolist() == [[0.0, -0.25, 0.5, 0.0]]
    assert taken.output.item() == pytest.approx(0.2)
    assert taken.target == ("cat",)
    assert taken.settings == {"feature names": ["a", "b", "c", "d"], "intercept": 0.1, "score": 0.9}
    assert take(lime(), target=2).relevance.tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert take(lime(domain_mapper=None), numbers(1, 5), target=0).relevance.shape == (1, 5)
    assert take(lime(local_exp={1: [(0, 1.0)]}, intercept={1: 0.0})).target == ("dog",)


def test_lime_of_a_regression_takes_the_label_that_is_not_negated():
    both = {0: [(0, -1.0)], 1: [(0, 1.0)]}
    taken = take(lime(local_exp=both, mode="regression", dummy_label=1, predicted_value=7.0, intercept={1: 2.0}))
    assert taken.relevance[0, 0] == 1.0
    assert taken.output.item() == 7.0
    assert taken.target == ("prediction",)


def test_lime_of_a_text_names_its_words():
    words = SimpleNamespace(num_words=lambda: 3, word=lambda k: ["good", "film", "not"][k])
    taken = take(lime(domain_mapper=SimpleNamespace(indexed_string=words)), target=0)
    assert taken.settings["feature names"] == ["good", "film", "not"]
    assert taken.relevance.tolist() == [[0.0, -0.25, 0.5]]


def test_lime_of_a_picture_shares_each_weight_among_its_pixels():
    segments = np.array([[0, 0, 1], [2, 2, 1]])
    found = SimpleNamespace(segments=segments, local_exp={5: [(0, 1.0), (2, -3.0)]}, intercept={5: 0.5}, score=0.3)
    taken = take(found, torch.rand(1, 3, 2, 3), output=0.8)
    assert torch.allclose(taken.pool("sum")[0], torch.tensor([[0.5, 0.5, 0.0], [-1.5, -1.5, 0.0]]).double())
    assert taken.details["feature scores"].tolist() == [[1.0, 0.0, -3.0]]
    assert taken.target == ("5",)
    assert take(found).relevance.shape == (1, 1, 2, 3)


def test_lime_without_its_label_is_told():
    for target, text in [
        (None, r"several labels: say which with target=, one of \[0, 2\]"),
        (1, r"LIME explained the labels \[0, 2\], not 1"),
        ("dog", "not 1"),
        ("horse", r"No label is called 'horse'. LIME explained \['cat', 'owl'\]"),
    ]:
        with pytest.raises(InputError, match=text):
            take(lime(), target=target)
    with pytest.raises(InputError, match="weighs feature 2, and the input has 2"):
        take(lime(), numbers(1, 2), target=0)
    with pytest.raises(InputError, match=r"segments as \(height, width\)"):
        take(lime(segments=np.zeros(3)), target=0)


def test_taken_in_it_is_drawn_saved_and_compared(tmp_path):
    model, x = nn.Sequential(nn.Linear(4, 3)).eval(), numbers(2, 4)
    ours = pl.explain(model, x, target=0, composite="epsilon")
    theirs = take(ours.relevance.numpy(), x, output=ours.output, target=ours.target, method="other")
    theirs.save(tmp_path / "a.pellucid")
    assert torch.equal(pl.load(tmp_path / "a.pellucid").relevance, ours.relevance)
    spent = pl.comparison.Spent(1.0)
    together = pl.Comparison({"lrp": ours, "other": theirs}, {"lrp": spent, "other": spent})
    assert together.agreement()[0, 1] == pytest.approx(1)
