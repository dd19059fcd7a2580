"""matplotlib plots of every form of relevance."""

from __future__ import annotations

import sys

import pytest
import torch

from pellucid.errors import InputError, MissingDependencyError
from pellucid.explanation import Explanation
from pellucid.show.colours import NOT_FINITE, hexadecimal
from pellucid.show.plot import plot


def row(relevance, *, output=2.0, **fields):
    relevance = torch.as_tensor(relevance, dtype=torch.float32)[None]
    values = {"target": ("price",), "method": "lrp"}
    return Explanation(relevance=relevance, output=torch.tensor([output]), **(values | fields))


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_picture_has_a_colour_bar_with_unit_and_scale(pyplot, image):
    ax = image().plot(scale=0.02)
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "share of the output per pixel"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["-2 %", "-1 %", "0 %", "1 %", "2 %"]
    assert ax.get_title(loc="left") == "tabby~rest = 4"
    assert "channels summed" in ax.get_xlabel()
    ax.figure.canvas.draw()


def test_samples_share_one_scale(pyplot, image):
    relevance = torch.cat([torch.ones(1, 1, 4, 4), torch.full((1, 1, 4, 4), 3.0)])
    axes = image(relevance).plot()
    assert len(axes) == 2
    assert all("full colour at 75 %" in ax.get_xlabel() for ax in axes)


def test_it_draws_on_the_axes_given(pyplot, image):
    _, ax = pyplot.subplots()
    assert image().plot(ax=ax) is ax
    with pytest.raises(InputError, match="a single sample on the axes given; got 2"):
        image(torch.ones(2, 3, 4, 4)).plot(ax=ax)
    with pytest.raises(InputError, match="up to 8 samples; got 9"):
        image(torch.ones(9, 3, 4, 4)).plot()
    assert len(pyplot.get_fignums()) == 1


def test_few_values_are_bars_with_names(pyplot):
    ax = row([1.0, -0.5, float("nan")]).plot(labels=["age", "income", "$rooms$"])
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["age", "income"]
    assert [patch.get_width() for patch in ax.patches] == [0.5, -0.25, 0.0]
    assert [list(line.get_ydata()) for line in ax.lines if line.get_marker() == "x"] == [[2]]
    assert "1 value is NaN" in ax.get_xlabel()
    assert "share of the output per value" in ax.get_xlabel()


def test_a_given_scale_is_the_reach_of_the_bars(pyplot):
    assert row([1.0, -0.5]).plot(scale=2.0).get_xlim() == pytest.approx((-2.1, 2.1))


def test_many_values_are_a_line(pyplot):
    ax = row(torch.linspace(-1, 1, 100)).plot()
    assert ax.get_ylabel() == "share of the output per value"
    assert len(ax.collections) == 2


def test_tokens_are_coloured_words(pyplot):
    words = ["not", "$bad$", "<at all>"]
    ax = row([1.0, -2.0, float("nan")], input=torch.tensor([[5, 6, 7]])).plot(labels=words)
    assert texts(ax) == words
    faces = [text.get_bbox_patch().get_facecolor()[:3] for text in ax.texts]
    assert faces[0][0] > faces[0][2]
    assert faces[1][2] > faces[1][0]
    lost = tuple(round(255 * part) for part in faces[2])
    assert hexadecimal(lost) == hexadecimal(NOT_FINITE)
    ax.figure.canvas.draw()


def test_the_kind_can_be_chosen(pyplot):
    explanation = row([1.0, -2.0])
    assert texts(plot(explanation, kind="words")) == ["0", "1"]
    assert len(plot(explanation, kind="line").collections) == 2
    with pytest.raises(InputError, match="kind must be 'words', 'bars' or 'line'"):
        plot(explanation, kind="pie")


def test_labels_must_name_every_value(pyplot, image):
    with pytest.raises(InputError, match="labels must name every position"):
        row([1.0, 2.0]).plot(labels=["a"])
    with pytest.raises(InputError, match="Pictures take no labels"):
        image().plot(labels=["a"])
    with pytest.raises(InputError, match="a picture cannot be drawn as 'bars'"):
        plot(image(), kind="bars")


def test_an_unknown_map_is_refused_before_a_figure_is_made(pyplot, image):
    with pytest.raises(InputError, match="no colour map 'jet'"):
        image().plot(cmap="jet")
    assert pyplot.get_fignums() == []


def test_all_zero_relevance_is_drawn(pyplot, image):
    assert "all values are zero" in image(torch.zeros(1, 3, 4, 4)).plot().get_xlabel()
    row(torch.zeros(5)).plot().figure.canvas.draw()


def test_a_missing_matplotlib_is_told(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"Explanation.plot needs .* pip install 'pellucid\[plot\]'"):
        image().plot()
