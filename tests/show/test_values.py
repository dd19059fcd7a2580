"""What a picture draws: unit, pooling, display options and scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.engine.ledger import SOURCES, UNACCOUNTED, Entry, Ledger
from pellucid.errors import InputError
from pellucid.explanation import Explanation
from pellucid.show.shares import ENDS, elsewhere_line
from pellucid.show.values import (
    measured,
    reach_text,
    robust_scale,
    sample_values,
    scale_lines,
    scale_of,
    shared_scale,
)

pytestmark = pytest.mark.core


def test_the_unit_is_the_share_of_the_output(image):
    values = sample_values(image())
    assert values.values[5, 10] == pytest.approx(0.3)
    assert values.unit == "share of the output per pixel"
    assert values.notes == ("channels summed",)
    assert values.label(values.values[5, 10]) == "30 %"


def test_a_negative_output_does_not_turn_the_signs(image):
    values = sample_values(image(output=-4.0))
    assert values.values[5, 10] == pytest.approx(0.3)
    assert values.unit == "share of the output's magnitude per pixel"


@pytest.mark.parametrize("output", [0.0, float("nan"), float("inf")])
def test_without_a_usable_output_the_relevance_stays_as_it_is(image, output):
    values = sample_values(image(output=output))
    assert values.values[5, 10] == pytest.approx(1.2)
    assert values.unit.startswith("relevance per pixel (the output is")
    assert not values.percent


def test_another_unit_of_the_method_is_told(image):
    values = sample_values(image(method="gradient", settings={"unit": "output per unit of input"}))
    assert values.values[5, 10] == pytest.approx(1.2)
    assert values.unit == "output per unit of input, per pixel"


@pytest.mark.parametrize(
    ("pool", "value", "note"),
    [("sum", -1.5, "channels summed"), ("abs", 4.5, "magnitudes"), ("positive", 1.5, "positive")],
)
def test_the_pooling_is_applied_and_told(image, pool, value, note):
    values = sample_values(image(torch.tensor([1.0, -3.0, 0.5]).reshape(1, 3, 1, 1), output=1.0), pool=pool)
    assert values.values.item() == value
    assert note in values.notes[0]


def test_every_sample_is_drawn_by_its_own_output():
    explanation = Explanation(torch.ones(2, 1, 2, 2), torch.tensor([2.0, 4.0]), ("a", "b"), "lrp")
    assert sample_values(explanation, index=0).values[0, 0] == 0.5
    assert sample_values(explanation, index=-1).values[0, 0] == 0.25
    with pytest.raises(InputError, match="no sample 2"):
        sample_values(explanation, index=2)


def test_smoothing_and_blocks_keep_the_total_and_are_told(image):
    relevance = torch.rand(1, 1, 21, 30, generator=torch.Generator().manual_seed(0))
    plain = sample_values(image(relevance))
    smooth = sample_values(image(relevance), smooth=2.5)
    blocks = sample_values(image(relevance), block=4)
    assert smooth.values.sum() == pytest.approx(plain.values.sum())
    assert blocks.values.sum() == pytest.approx(plain.values.sum())
    assert smooth.values.std() < 0.3 * plain.values.std()
    assert blocks.values.shape == (6, 8)
    assert blocks.values[0, 0] == pytest.approx(plain.values[:4, :4].sum())
    assert smooth.notes == ("smoothed, sigma 2.5 pixels",)
    assert blocks.notes == ("summed over blocks of 4 x 4 pixels",)
    assert blocks.unit == "share of the output per 4 x 4 pixels"


def test_large_pictures_are_smoothed_by_one_pixel_unless_told_otherwise(image):
    relevance = torch.zeros(1, 1, 100, 120)
    relevance[0, 0, 50, 50] = 4.0
    assert sample_values(image(relevance)).notes == ("smoothed, sigma 1 pixel",)
    assert sample_values(image(relevance)).values[50, 50] == pytest.approx(0.159, abs=1e-3)
    assert sample_values(image(relevance), smooth=0).values[50, 50] == 1.0
    assert sample_values(image(relevance[:, :, 1:])).notes == ()


def test_what_is_not_finite_spreads_to_no_neighbour_by_smoothing(image):
    relevance = torch.ones(1, 1, 9, 9)
    relevance[0, 0, 4, 4] = float("nan")
    values = sample_values(image(relevance), smooth=1.0).values
    assert np.isnan(values[4, 4])
    assert np.isfinite(values).sum() == 80


@pytest.mark.parametrize(
    "options", [{"smooth": -1}, {"smooth": float("nan")}, {"block": 0}, {"block": 1.5}, {"pool": "max"}]
)
def test_senseless_display_options_are_refused(image, options):
    with pytest.raises(InputError, match="must be"):
        sample_values(image(), **options)


def test_the_scale_ignores_a_few_outliers(image):
    relevance = torch.ones(1, 1, 50, 50)
    relevance[0, 0, 0, :3] = 1000.0
    scale = robust_scale([sample_values(image(relevance))])
    assert scale.limit == pytest.approx(0.25)
    assert scale.reason == "99.5th percentile of the magnitudes"
    assert "0.12 % of the values lie beyond" in scale_lines(sample_values(image(relevance)), scale)[0]


def test_the_scale_of_a_map_of_few_values_is_its_largest(image):
    scale = robust_scale([sample_values(image(torch.tensor([1.0, -8.0]).reshape(1, 1, 1, 2)))])
    assert (scale.limit, scale.reason) == (2.0, "the largest magnitude")


def test_a_map_that_is_zero_nearly_everywhere_has_a_scale(image):
    relevance = torch.zeros(1, 1, 50, 50)
    relevance[0, 0, 3, 3] = 4.0
    assert robust_scale([sample_values(image(relevance))]).limit == 1.0
    empty = robust_scale([sample_values(image(torch.zeros(1, 1, 50, 50)))])
    assert (empty.limit, empty.reason) == (1.0, "all values are zero")
    lost = robust_scale([sample_values(image(torch.full((1, 1, 50, 50), float("nan"))))])
    assert lost.limit == 1.0


def test_the_scale_given_is_taken(image):
    assert scale_of(0.25, [sample_values(image())]).limit == 0.25
    with pytest.raises(InputError, match="scale must be"):
        scale_of(-1.0, [sample_values(image())])


def test_a_shared_scale_covers_all_samples(image):
    small, large = image(torch.full((2, 1, 4, 4), 0.1)), image(torch.full((1, 1, 4, 4), -2.0))
    assert shared_scale([small]) == pytest.approx(0.025)
    assert shared_scale([small, large]) == pytest.approx(0.5)


def test_the_input_must_be_named_where_several_could_be_meant():
    fields = {"output": torch.ones(1), "target": ("a",), "method": "lrp"}
    two = Explanation(relevance={"a": torch.ones(1, 3), "b": torch.ones(1, 4)}, **fields)
    with pytest.raises(InputError, match=r"name the one to draw with input=: 'a' \(1, 3\), 'b' \(1, 4\)"):
        sample_values(two)
    assert sample_values(two, input="b").values.shape == (4,)
    with pytest.raises(InputError, match="no explained input 'c'"):
        sample_values(two, input="c")
    pictured = Explanation(relevance=(torch.ones(1, 3), None, torch.ones(1, 1, 2, 2)), **fields)
    assert sample_values(pictured).values.shape == (2, 2)
    assert sample_values(pictured, input=0).values.shape == (3,)


def test_volumes_are_summed_over_their_slices_and_say_so(image):
    values = sample_values(image(torch.ones(1, 2, 5, 4, 3), output=10.0))
    assert values.values.shape == (4, 3)
    assert values.values[0, 0] == 1.0
    assert values.notes == ("channels summed", "summed over 5 frames or slices")


def test_relevance_without_a_picture_s_form_is_refused(image):
    with pytest.raises(InputError, match="cannot be drawn"):
        sample_values(image(torch.ones(1, 1, 2, 2, 2, 2)))
    with pytest.raises(InputError, match="cannot be drawn"):
        sample_values(image(torch.ones(1, 0)))


def test_one_value_a_sample_is_drawn(image):
    assert sample_values(image(torch.tensor([2.0]))).values.tolist() == [0.5]


@pytest.mark.parametrize(
    ("limit", "label", "unit"),
    [
        (0.5, "50 %", "share of the output per pixel"),
        (0.0005, "0.05 %", "share of the output per pixel"),
        (2.6e-5, "26 ppm", "parts per million of the output per pixel"),
        (1e-7, "0.1 ppm", "parts per million of the output per pixel"),
        (2.6e-8, "26 ppb", "parts per billion of the output per pixel"),
        (4e-12, "4 ppt", "parts per trillion of the output per pixel"),
    ],
)
def test_small_shares_are_told_in_units_that_read_well(image, limit, label, unit):
    relevance = torch.full((1, 1, 20, 30), 4.0 * limit, dtype=torch.float64)
    values = sample_values(image(relevance))
    scale = robust_scale([values])
    told = measured(values, scale)
    assert told.label(scale.limit) == label
    assert told.unit == unit
    assert measured(told, scale) == told
    assert scale_lines(told, scale)[0].startswith(f"full colour at {label} (")
    assert reach_text(values, scale) == f"1 = {label} of the output per pixel"
    assert told.label(0.0).startswith("0 ")


def test_what_is_no_share_keeps_its_unit(image):
    values = sample_values(image(1e-7 * torch.ones(1, 1, 20, 30), settings={"unit": "output per unit of input"}))
    assert measured(values, robust_scale([values])) is values


@pytest.mark.parametrize(
    ("amounts", "text"),
    [
        ({"input": 9.0, "bias": 1.0}, ""),
        ({"input": 0.001, "bias": 10.2, "stabiliser": -0.201}, "(102 %) ended in biases, and 0.01 % in the input"),
        ({"input": -1e-5, "learned token": 10.0}, "(100 %) ended in learned tokens, and -1 ppm in the input"),
        ({"input": 4.0, "bias": 3.0, "constant": 3.0}, ""),
        ({"input": 0.0, "softmax": 0.1}, "(99 %) ended in nothing that is accounted for, and 0 % in the input"),
    ],
)
def test_where_most_ended_elsewhere_it_is_said(amounts, text):
    for sign in (1, -1):
        entries = tuple(Entry(source, "m", sign * amount) for source, amount in amounts.items())
        line = elsewhere_line(Ledger(10.0 * sign, entries))
        assert text in line
        assert bool(line) == bool(text)
    assert elsewhere_line(None) == elsewhere_line(Ledger(0.0, ())) == elsewhere_line(Ledger(float("nan"), ())) == ""


def test_every_source_of_a_ledger_has_its_words():
    assert {*SOURCES, UNACCOUNTED} - {"input"} == set(ENDS)
