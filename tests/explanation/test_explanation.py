"""What an explanation holds, how it is indexed, pooled, moved and printed."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
import torch

from pellucid.engine.ledger import Entry, Ledger
from pellucid.errors import InputError
from pellucid.explanation import Explanation

pytestmark = pytest.mark.core


def make(relevance, *, output=None, **fields):
    output = torch.tensor([2.0, -4.0]) if output is None else output
    values = {"target": tuple(f"class {index}" for index in range(len(output))), "method": "lrp"}
    return Explanation(relevance=relevance, output=output, **(values | fields))


@pytest.fixture
def images():
    relevance = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5) - 50
    ledger = Ledger(-2.0, (Entry("input", "x", -2.0),))
    return make(
        relevance, input=relevance + 1, ledger=ledger, layers={"conv": torch.ones(2, 7)}, settings={"composite": "auto"}
    )


def test_it_is_immutable(images):
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.method = "other"
    with pytest.raises(TypeError):
        images.settings["composite"] = "other"
    with pytest.raises(TypeError):
        images.layers["conv"] = torch.zeros(1)


def test_later_changes_of_what_was_given_do_not_reach_it():
    settings, relevance = {"composite": "auto"}, {"a": torch.ones(2, 3)}
    explanation = make(relevance, settings=settings)
    settings["composite"] = "other"
    relevance["b"] = torch.ones(2, 3)
    assert explanation.settings["composite"] == "auto"
    assert list(explanation.relevance) == ["a"]


def test_tensors_hold_no_graph():
    x = torch.ones(2, 3, requires_grad=True)
    explanation = make(x * 2, output=(x * 2).sum(1), input=x, layers={"fc": x * 3})
    assert not explanation.relevance.requires_grad
    assert not explanation.output.requires_grad
    assert not explanation.input.requires_grad
    assert not explanation.layers["fc"].requires_grad


def test_one_scalar_and_one_label_per_sample():
    with pytest.raises(InputError, match=r"shape \(batch,\); got shape \(2, 1\)"):
        make(torch.ones(2, 3), output=torch.ones(2, 1))
    with pytest.raises(InputError, match="one label per sample, 2 in all"):
        make(torch.ones(2, 3), target=("a",))
    with pytest.raises(InputError, match="one label per sample"):
        make(torch.ones(2, 3), target="ab")


def test_indexing_keeps_the_batch_dimension(images):
    second = images[1]
    assert len(second) == 1
    assert torch.equal(second.relevance, images.relevance[1:2])
    assert torch.equal(second.input, images.input[1:2])
    assert torch.equal(second.layers["conv"], images.layers["conv"][1:2])
    assert second.output.tolist() == [-4.0]
    assert second.target == ("class 1",)
    assert second.settings == images.settings
    assert torch.equal(images[-1].relevance, second.relevance)


def test_the_ledger_of_a_batch_is_no_sample_s_ledger(images):
    assert images[0].ledger is None
    assert images[0:1].ledger is None
    lone = make(torch.ones(1, 3), output=torch.tensor([3.0]), ledger=Ledger(3.0, ()))
    assert lone[0].ledger is lone.ledger
    assert images[:].ledger is images.ledger


def test_indexing_beyond_the_batch_ends_iteration(images):
    assert [len(sample) for sample in images] == [1, 1]
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"sample {index} of an explanation of 2 samples"):
            images[index]


def test_slices_are_explanations(images):
    assert len(images[1:]) == 1
    assert len(images[2:]) == 0
    assert images[::-1].target == ("class 1", "class 0")


def test_tuples_and_dicts_are_indexed_inside():
    pair = make((torch.ones(2, 3), None), input=(torch.ones(2, 3), None))
    assert pair[0].relevance[0].shape == (1, 3)
    assert pair[0].relevance[1] is None
    named = make({"a": torch.ones(2, 3)}, input={"a": torch.ones(2, 3), "flag": True, "shared": torch.ones(5)})
    assert named[1].relevance["a"].shape == (1, 3)
    assert named[1].input["flag"] is True
    assert named[1].input["shared"].shape == (5,)


def test_samples_that_cannot_be_told_apart_are_refused():
    explanation = make(torch.ones(7, 2, 3))
    with pytest.raises(
        InputError, match=r"input 'x' has shape \(7, 2, 3\), whose first dimension is not the batch of 2"
    ):
        explanation[0]
    assert torch.isnan(explanation.share).all()


def test_a_layer_without_a_batch_dimension_is_left_out_with_a_warning():
    explanation = make(torch.ones(2, 3), layers={"windows": torch.ones(8, 3), "fc": torch.ones(2, 3)})
    sample = explanation[0]
    assert list(sample.layers) == ["fc"]
    assert "'windows'" in sample.warnings[-1]


@pytest.mark.parametrize(
    ("shape", "pooled"),
    [((2, 3, 4, 5), (2, 4, 5)), ((2, 3, 4, 5, 6), (2, 4, 5, 6)), ((2, 7, 8), (2, 7)), ((2, 7), (2, 7)), ((2,), (2,))],
)
def test_pool_takes_the_channels_away(shape, pooled):
    relevance = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    explanation = make(relevance)
    assert explanation.pool().shape == pooled
    assert explanation.pool().sum() == pytest.approx(relevance.sum().item(), abs=1e-4)
    assert explanation.pool("abs").sum() == pytest.approx(relevance.abs().sum().item(), rel=1e-5)
    assert explanation.pool("positive").sum() == pytest.approx(relevance.clamp(min=0).sum().item(), rel=1e-5)


def test_pool_modes_differ_on_one_pixel():
    relevance = torch.tensor([1.0, -3.0, 0.5]).reshape(1, 3, 1, 1)
    explanation = make(relevance, output=torch.ones(1))
    assert [explanation.pool(mode).item() for mode in ("sum", "abs", "positive")] == [-1.5, 4.5, 1.5]
    with pytest.raises(InputError, match="'sum', 'abs', 'positive'; got 'mean'"):
        explanation.pool("mean")


def test_pool_keeps_the_form_and_adds_16_bit_floats_in_32():
    explanation = make({"a": torch.full((2, 300, 1, 1), 1.0, dtype=torch.bfloat16), "b": torch.ones(2, 4)})
    pooled = explanation.pool()
    assert pooled["a"].dtype == torch.float32
    assert pooled["a"].flatten().tolist() == [300.0, 300.0]
    assert pooled["b"].shape == (2, 4)
    pair = make((torch.ones(2, 3, 2, 2), None)).pool()
    assert pair[1] is None


def test_numpy_has_the_form_of_the_input():
    arrays = make({"a": torch.ones(2, 3, dtype=torch.bfloat16), "b": torch.ones(2, 3)}).numpy()
    assert arrays["a"].dtype == np.float32
    assert isinstance(arrays["b"], np.ndarray)
    pair = make((torch.ones(2, 3), None)).numpy()
    assert pair[1] is None


def test_to_moves_every_tensor(images):
    moved = images.to("meta")
    tensors = (moved.relevance, moved.output, moved.input, moved.layers["conv"])
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert images.relevance.device.type == "cpu"
    assert moved.ledger is images.ledger


def test_share_is_the_relevance_that_arrived():
    explanation = make({"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([[0.5, 0.5], [-1.0, -1.0]])})
    assert explanation.share.tolist() == [1.0, 0.0]
    assert math.isnan(make(torch.ones(1, 2), output=torch.zeros(1)).share.item())


def test_repr_names_method_scalar_value_and_share():
    explanation = make(torch.full((1, 4), 0.49), output=torch.tensor([2.0]), target=("tabby~rest",))
    assert repr(explanation) == "Explanation(lrp: tabby~rest = 2; 98 % of it arrived)"
    many = make(torch.ones(5, 1), output=torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert "(5 samples)" in repr(many)
    assert "20 % to 100 % of it arrived" in repr(many)
    gradient = make(torch.ones(2, 3), method="gradient", settings={"unit": "output per unit of input"})
    assert "arrived" not in repr(gradient)


def test_copies_and_pickles_are_equal(images):
    for twin in (copy.deepcopy(images), pickle.loads(pickle.dumps(images))):
        assert torch.equal(twin.relevance, images.relevance)
        assert twin.settings == images.settings
        assert twin.ledger == images.ledger
        with pytest.raises(TypeError):
            twin.settings["a"] = 1


def test_to_dict_is_json_and_tells_what_is_not_finite():
    relevance = torch.tensor([[1.0, math.nan], [math.inf, -3.0]])
    document = make(relevance, ledger=Ledger(math.nan, ())).to_dict()
    text = json.loads(json.dumps(document, allow_nan=False))
    assert text["relevance"]["x"] == {
        "shape": [2, 2],
        "dtype": "float32",
        "sum": None,
        "min": -3.0,
        "max": 1.0,
        "not_finite": 2,
    }
    assert text["target"] == ["class 0", "class 1"]
