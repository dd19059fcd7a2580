"""Pictures, plots and pages of comparisons, of every form of relevance."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pellucid.comparison import Comparison, Spent
from pellucid.errors import InputError
from pellucid.explanation import Explanation
from pellucid.show.comparison_html import report, to_html
from pellucid.show.comparison_plot import plot
from pellucid.show.side_by_side import panels, picture

pytestmark = pytest.mark.core


def made(*maps, warnings=(), left_out=None, **fields):
    names = ["lrp", "gradient", "occlusion", "rise"][: len(maps)]
    units = {"gradient": {"unit": "gradient"}}
    explanations = {
        name: Explanation(
            relevance=relevance,
            output=torch.full((len(relevance),), 4.0),
            target=("tabby~rest",) * len(relevance),
            method=name,
            settings=units.get(name, {}),
            **fields,
        )
        for name, relevance in zip(names, maps, strict=True)
    }
    costs = {name: Spent(0.25, 3, 0) for name in names}
    return Comparison(explanations, costs, {} if left_out is None else left_out, warnings)


def pictures(count=3, size=20, **fields):
    torch.manual_seed(0)
    return made(*(torch.randn(1, 3, size, size) * 10.0**k for k in range(count)), **fields)


@pytest.fixture
def written(monkeypatch):
    """Every text that Pillow draws."""
    texts = []
    real = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, at, text, **more: (texts.append(text), real(self, at, text, **more))[1],
    )
    return texts


def test_every_map_is_divided_by_its_own_statistic():
    small, large = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    found = panels(made(small, 1000 * large))
    for panel, relevance in zip(found, (small / 4, 1000 * large), strict=True):  # a share of the output 4; a gradient
        limit = float(relevance.max())
        assert np.allclose(panel.values.values, relevance[0, 0].double() / limit)
        assert panel.statistic == "the largest magnitude"
    assert found[0].reach.endswith("% of the output per pixel")
    assert found[1].reach.endswith(" gradient, per pixel")
    many = panels(pictures(2, size=200), smooth=0)
    assert all(panel.statistic == "99.5th percentile of the magnitudes" for panel in many)
    assert all(np.percentile(np.abs(panel.values.values), 99.5) == pytest.approx(1) for panel in many)


def test_scaling_a_method_changes_nothing_in_its_picture():
    one, other = torch.randn(1, 3, 20, 20), torch.randn(1, 3, 20, 20)
    first, second = (picture(made(one, factor * other), size=40) for factor in (1.0, 512.0))
    difference = np.abs(np.asarray(first).astype(int) - np.asarray(second)).sum(2) > 0
    assert difference.mean() < 0.01, "only the words below it differ"


def test_a_picture_names_methods_costs_and_what_one_stands_for(written):
    comparison = pictures(left_out={"cam": "no pooling"}, warnings=("Interrupted: not all were run.",))
    image = picture(comparison, photo=Image.new("RGB", (20, 20), "red"), size=200)
    assert image.width > 4 * 200
    for text in ("tabby~rest = 4", "the input", "lrp", "gradient", "occlusion", "+1", "left out: cam"):
        assert text in written
    joined = " ".join(written)
    assert "0.25 s, 3 forwards" in joined.replace("\n", " ")
    assert "every map is divided by its own largest magnitude" in joined
    assert "Interrupted: not all were run." in joined


def test_the_grid_has_the_columns_asked_for():
    one, two = (picture(pictures(4), size=40, columns=columns) for columns in (1, 4))
    assert one.height > two.height
    assert one.width < two.width
    with pytest.raises(InputError, match="columns"):
        picture(pictures(), columns=0)


def test_a_map_of_zeros_is_told(written):
    picture(made(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)), size=200)
    assert "all values are zero" in written
    assert "every map is divided by its own largest magnitude" in written


def test_text_is_no_picture():
    with pytest.raises(InputError, match="a heatmap needs relevance of a picture"):
        picture(made(torch.ones(1, 5)))


def test_plot_draws_every_map_and_the_matrix(pyplot):
    comparison = pictures()
    axes = comparison.plot()
    assert len(axes) == 4
    assert [axis.get_title(loc="left") for axis in axes[:3]] == ["lrp", "gradient", "occlusion"]
    assert "0.25 s, 3 forwards" in axes[0].get_xlabel()
    assert "Spearman" in axes[3].get_title(loc="left")
    numbers = [text.get_text() for text in axes[3].texts]
    assert numbers[0] == numbers[4] == numbers[8] == "1.00"
    axes[0].figure.figure.canvas.draw()


def test_plot_of_words_bars_and_lines(pyplot):
    ids = torch.tensor([[5, 6, 7]])
    words = plot(made(torch.randn(1, 3), torch.randn(1, 3), input=ids), labels=["not", "$bad$", "at"])
    assert [text.get_text() for text in words[0].texts] == ["not", "$bad$", "at"]
    bars = plot(made(torch.tensor([[1.0, -0.5]]), torch.tensor([[4.0, 2.0]])), labels=["age", "income"])
    assert [patch.get_width() for patch in bars[0].patches] == [1.0, -0.5]
    assert [patch.get_width() for patch in bars[1].patches] == [1.0, 0.5]
    lines = plot(made(torch.randn(1, 100), torch.randn(1, 100)))
    assert lines[0].get_ylim() == pytest.approx((-1.05, 1.05))
    for axes in (words, bars, lines):
        axes[0].figure.figure.canvas.draw()
    with pytest.raises(InputError, match="labels must name every position"):
        plot(made(torch.ones(1, 3)), labels=["a"])
    with pytest.raises(InputError, match="no colour map"):
        plot(pictures(), cmap="jet")


def test_the_fragment_has_maps_matrices_costs_and_reasons(photo):
    comparison = pictures(left_out={"<cam>": "no <b>pooling</b>"}, warnings=("take <care>",), citation="@misc{someone}")
    page = to_html(comparison, images=[photo.resize((20, 20))], names=["a<b>.png"], predictions=[[("cat", 0.5)]])
    assert page.count("data:image/png") == 4
    assert page.count('class="cell"') == 2 * 9
    for text in (
        "a&lt;b&gt;.png",
        "no &lt;b&gt;pooling",
        "take &lt;care&gt;",
        "cat 50.0 %",
        "0.25 s",
        "@misc{someone}",
    ):
        assert text in page
    assert "1 = " in page
    assert "<script" not in page
    assert comparison._repr_html_() == comparison.to_html()


@pytest.mark.parametrize(
    ("maps", "kind"),
    [
        ((torch.randn(1, 5), torch.randn(1, 5)), "<svg"),
        ((torch.randn(1, 500), torch.randn(1, 500)), 'class="strip"'),
        ((torch.randn(1, 5, 3), torch.randn(1, 5, 3)), 'class="words"'),
        ((torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8)), "data:image"),
    ],
    ids=["table", "series", "text", "picture"],
)
def test_the_fragment_shows_every_form(maps, kind):
    page = to_html(made(*maps))
    assert page.count(kind) >= 2


def test_methods_that_explain_other_inputs_are_shown_where_they_do():
    both = {"x": torch.ones(1, 4), "y": torch.ones(1, 3)}
    explanations = {
        "lrp": Explanation(both, torch.ones(1), ("a",), "lrp"),
        "occlusion": Explanation({"x": both["x"]}, torch.ones(1), ("a",), "occlusion"),
    }
    page = to_html(Comparison(explanations, {name: Spent(1.0) for name in explanations}))
    shown = re.findall(r"<figcaption><b>(\w+)</b>", page)
    assert shown == ["lrp", "occlusion", "lrp"]


def test_what_cannot_be_drawn_says_so():
    page = to_html(made(torch.ones(1, 2, 2, 2, 2, 2)))
    assert "cannot be drawn" in page


def test_report_is_one_page_that_counts_its_samples(tmp_path):
    comparison = made(torch.randn(3, 5), torch.randn(3, 5))
    path = report(comparison, tmp_path / "c.html", limit=2, title="One & all")
    page = path.read_text(encoding="utf-8")
    assert "<title>One &amp; all</title>" in page
    assert "2 of 3 samples are drawn here" in page
    assert "mean of 3 samples" in page
    assert "http" not in page.split("<body>")[1].split("<footer")[0]
    with pytest.raises(InputError, match="limit"):
        to_html(comparison, limit=-1)
    with pytest.raises(InputError, match="names must be given once"):
        to_html(comparison, names=["a"])
