"""The picture: neutral where nothing is, coloured where relevance is, NaN marked, everything said."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.engine.ledger import Entry, Ledger
from pellucid.errors import InputError
from pellucid.show import heatmap as module
from pellucid.show.colours import MAPS, NEUTRAL, NOT_FINITE
from pellucid.show.heatmap import heatmap, overlay, photo_from_input

pytestmark = pytest.mark.core


def pixels(picture):
    return np.asarray(picture).astype(int)


def test_no_relevance_leaves_the_grey_photo(photo):
    values = np.zeros((20, 30))
    plain = pixels(overlay(values, photo, scale=1.0, size=1))
    assert plain.shape == (20, 30, 3)
    assert (plain.max(-1) == plain.min(-1)).all()
    values[5, 10], values[12, 20] = 1.0, -1.0
    marked = pixels(overlay(values, photo, scale=1.0, size=1))
    changed = (marked != plain).any(-1)
    assert changed.sum() == 2
    assert tuple(marked[5, 10]) == MAPS["blue-orange"][-1]
    assert tuple(marked[12, 20]) == MAPS["blue-orange"][0]


def test_weak_relevance_never_lightens_the_photo(photo):
    plain = pixels(overlay(np.zeros((20, 30)), photo, scale=1.0, size=1))
    for value in (0.02, -0.02):
        assert (pixels(overlay(np.full((20, 30), value), photo, scale=1.0, size=1)) <= plain + 1).all()


def test_from_half_the_scale_on_the_photo_does_not_show(photo):
    for value in (0.5, 0.8, -0.6):
        marked = pixels(overlay(np.full((20, 30), value), photo, scale=1.0, size=1))
        assert (marked == marked[0, 0]).all()


def test_paper_is_neutral_without_a_photo():
    assert (pixels(overlay(np.zeros((4, 4)), None, scale=1.0)) == NEUTRAL[0]).all()


def test_every_value_becomes_a_square_of_whole_pixels():
    values = np.arange(12.0).reshape(3, 4)
    picture = pixels(overlay(values, None, scale=12.0, size=40))
    assert picture.shape == (30, 40, 3)
    assert (picture[10:20, 20:30] == picture[10, 20]).all()
    assert (picture[10, 20] != picture[10, 30]).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_magenta_check(bad, photo):
    values = np.zeros((20, 30))
    values[2:8, 2:8] = bad
    picture = pixels(overlay(values, photo, scale=1.0, size=1))
    patch = picture[2:8, 2:8].reshape(-1, 3)
    assert {tuple(colour) for colour in patch} == {NOT_FINITE, (30, 30, 30)}
    assert (picture[10:] == pixels(overlay(np.zeros((20, 30)), photo, scale=1.0, size=1))[10:]).all()


def test_equal_scales_give_equal_values_equal_colours():
    first, second = np.zeros((2, 2)), np.full((2, 2), 0.9)
    first[0, 0] = second[0, 0] = 0.3
    assert tuple(pixels(overlay(first, None, scale=1.0))[0, 0]) == tuple(pixels(overlay(second, None, scale=1.0))[0, 0])
    assert tuple(pixels(overlay(first, None, scale=0.5))[0, 0]) != tuple(pixels(overlay(first, None, scale=1.0))[0, 0])


def test_a_photo_of_another_aspect_is_refused(image):
    with pytest.raises(InputError, match=r"photo is 451 x 300 pixels.*cropped as it was \(Preprocessing.display\)"):
        heatmap(image(torch.ones(1, 3, 224, 224)), photo=Image.new("RGB", (451, 300)))


def test_relevance_of_a_row_is_no_heatmap(image):
    with pytest.raises(InputError, match="needs relevance of a picture"):
        heatmap(image(torch.ones(1, 7)))


def test_the_photo_comes_from_the_input_where_none_is_given(image):
    relevance = torch.zeros(1, 3, 20, 30)
    held = image(relevance, input=torch.linspace(-2, 2, 1800).reshape(1, 3, 20, 30))
    made = photo_from_input(held, "x", (20, 30))
    assert made.size == (30, 20)
    assert (np.asarray(made).min(), np.asarray(made).max()) == (0, 255)
    assert photo_from_input(image(relevance), "x", (20, 30)) is None
    assert photo_from_input(image(relevance, input=torch.ones(1, 5, 20, 30)), "x", (20, 30)) is None
    flat = photo_from_input(image(relevance, input=torch.ones(1, 1, 20, 30)), "x", (20, 30))
    assert len(np.unique(np.asarray(flat))) == 1
    assert photo_from_input(image(relevance, input=torch.full((1, 3, 20, 30), torch.nan)), "x", (20, 30)) is None
    assert heatmap(held).width > heatmap(image(relevance)).width + 400


@pytest.fixture
def written(monkeypatch):
    """All that is written on a picture, as one text."""
    texts = []
    draw = module.ImageDraw.ImageDraw.text

    def text(self, xy, words, *args, **options):
        texts.append(words)
        return draw(self, xy, words, *args, **options)

    monkeypatch.setattr(module.ImageDraw.ImageDraw, "text", text)
    return texts


def test_the_picture_says_scalar_method_unit_pooling_and_scale(image, photo, written):
    picture = heatmap(image(), photo=photo, smooth=2.0)
    assert picture.mode == "RGB"
    everything = " | ".join(written)
    assert "tabby~rest = 4" in everything
    assert "lrp (auto); the relevance sums to 15 % of the output" in everything
    assert "share of the output per pixel" in everything
    assert "channels summed; smoothed, sigma 2 pixels" in everything
    assert "full colour at" in everything
    assert "the largest magnitude" in everything
    assert "0 %" in written


def test_the_picture_says_where_most_relevance_ended(image, written):
    ledger = Ledger(4.0, (Entry("input", "x", 0.0004), Entry("bias", "fc", 3.9996)))
    relevance = torch.full((1, 3, 20, 30), 0.0004 / 1800)
    heatmap(image(relevance, output=4.0, ledger=ledger))
    everything = " ".join(written)
    assert "the relevance sums to 0.01 % of the output" in everything
    assert "Most of the output (100 %) ended in biases, and 0.01 % in the input" in everything
    assert {"+0.167 ppm", "+0.0833 ppm", "0 ppm", "-0.167 ppm"} <= set(written)
    assert "parts per million of the output per pixel" in everything


def test_a_given_scale_stands_on_the_colour_bar(image, written):
    heatmap(image(), scale=0.02)
    assert {"+2 %", "+1 %", "0 %", "-1 %", "-2 %"} <= set(written)
    assert any("full colour at 2 % (given)" in text for text in written)


def test_the_unit_is_told_below_where_the_colour_bar_is_too_short_for_it(image, written):
    heatmap(image(torch.ones(1, 3, 4, 40)))
    assert "share of the output per pixel" not in written
    assert "the colours show the share of the output per pixel" in written


def test_a_map_of_zeros_and_one_of_nan_say_so(image, written):
    heatmap(image(torch.zeros(1, 3, 20, 30)))
    assert any("all values are zero" in text for text in written)
    heatmap(image(torch.full((1, 3, 20, 30), torch.nan)))
    assert any("600 values are NaN or infinite" in text for text in written)


def test_long_names_stay_on_the_picture(image, written):
    narrow = heatmap(image(target=("a very long class name " * 20 + "W" * 300,)))
    assert narrow.width < 700
    assert any(text.endswith("...") for text in written)


def test_the_title_can_be_given(image, written):
    heatmap(image(), title="My title")
    assert "My title" in written


def test_it_needs_no_matplotlib(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert heatmap(image()).width > 0


def test_without_the_usual_font_pillow_s_own_is_used(image, monkeypatch):
    def missing(*args, **options):
        raise OSError("cannot open resource")

    with monkeypatch.context() as patch:
        default = module.ImageFont.load_default
        patch.setattr(module.ImageFont, "truetype", missing)
        used = []
        patch.setattr(
            module.ImageFont, "load_default", lambda size: used.append(size) or _default(size, patch, default)
        )
        assert heatmap(image()).width > 0
    assert used


def _default(size, patch, default):
    # Pillow's own font is itself loaded by truetype.
    patch.undo()
    return default(size)
