"""HTML that holds all it shows, escapes all it is given, and runs nothing."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from pellucid.engine.ledger import Entry, Ledger
from pellucid.errors import FileError, InputError
from pellucid.explanation import Explanation
from pellucid.show.html import report, to_html

pytestmark = pytest.mark.core

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
VOID = {"img", "meta", "br", "rect"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture
def full(image):
    ledger = Ledger(
        4.0,
        (Entry("input", "x", 3.0), Entry("bias", EVIL, 0.9), Entry("bias", "fc", -0.1), Entry("offset", "act", 0.2)),
    )
    return image(ledger=ledger, warnings=("first warning",), citation="@article{bach2015, title={A & B}}")


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_the_report_shows_everything(full, photo, tmp_path):
    path = report(
        full,
        tmp_path / "report.html",
        names=["cat.png"],
        images=[photo],
        predictions=[[("tabby", 0.7512), ("tiger cat", 0.2)]],
        title="Cats",
    )
    page = read(path)
    for words in (
        "Cats",
        "lrp (auto)",
        "cat.png",
        "tabby~rest = 4",
        "the relevance sums to 15 % of the output",
        "share of the output per pixel",
        "channels summed",
        "full colour at 30 % (the largest magnitude)",
        "75.1 %",
        "tiger cat",
        "first warning",
        "@article{bach2015, title={A & B}}",
        "composite",
        "unaccounted",
        "closed",
        "Pellucid 0.",
        "PyTorch",
    ):
        assert words in page.text, words
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(pictures) == 2
    for uri in pictures:
        kind, data = uri.split(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (450, 300)


def test_nothing_is_loaded_and_nothing_runs(full, photo, tmp_path):
    text = report(full, tmp_path / "report.html", images=[photo]).read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert all(value.startswith("data:") for _, name, value in page.attributes if name in ("src", "href"))
    assert not re.search(r"https?://|@import|url\(", text)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "default-src 'none'" in text


def test_everything_given_is_escaped(tmp_path):
    explanation = Explanation(
        relevance={EVIL: torch.ones(1, 2), "tokens": torch.ones(1, 2)},
        output=torch.ones(1),
        target=(EVIL,),
        method=EVIL,
        settings={"composite": EVIL, EVIL: [EVIL]},
        citation=EVIL,
        warnings=(EVIL,),
        input={EVIL: torch.ones(1, 2), "tokens": torch.tensor([[1, 2]])},
        ledger=Ledger(1.0, (Entry("input", EVIL, 0.5), Entry("bias", EVIL, 0.5))),
    )
    path = report(
        explanation, tmp_path / "a.html", names=[EVIL], labels=[[EVIL, EVIL]], predictions=[[(EVIL, 1.0)]], title=EVIL
    )
    for text in (path.read_text(encoding="utf-8"), to_html(explanation, labels=[[EVIL, EVIL]])):
        page = Page(text)
        assert "script" not in page.tags
        assert "img" not in page.tags
        assert "onerror" not in {name for _, name, _ in page.attributes}
        assert page.text.count("<script>") >= 8


def test_the_fragment_is_one_div(full):
    page = Page(full.to_html())
    assert page.tags[0] == "div"
    assert "html" not in page.tags
    assert full._repr_html_() == full.to_html()


def test_the_ledger_is_a_table_with_bars_and_its_state(full, image):
    page = Page(full.to_html())
    assert page.tags.count("svg") == 4
    widths = [
        float(value) for tag, name, value in page.attributes if (tag, name) == ("rect", "width") if value != "0.6"
    ]
    assert widths == [50.0, 13.333, 3.333, 0.0]
    assert "closed" in page.text
    assert "not closed" not in page.text
    opened = image(ledger=Ledger(4.0, (Entry("input", "x", 3.9),)))
    assert "not closed" in Page(opened.to_html()).text
    half = image(torch.ones(1, 3, 4, 4).bfloat16(), ledger=opened.ledger)
    assert "no more than 5 % of the output" in Page(half.to_html()).text
    assert "not closed" not in Page(half.to_html()).text
    nan = image(ledger=Ledger(float("nan"), (Entry("input", "x", float("inf")),)))
    assert "not closed" in Page(nan.to_html()).text
    assert "Ledger" not in Page(image().to_html()).text


def test_the_ledger_of_a_batch_says_that_it_is_a_total(image):
    relevance = torch.ones(3, 1, 2, 2)
    assert "over the batch of 3 samples" in Page(image(relevance, ledger=Ledger(12.0, ())).to_html()).text


def test_many_modules_are_cut_with_a_note(image):
    ledger = Ledger(4.0, tuple(Entry("bias", f"layer{number}", 0.1) for number in range(45)))
    assert "15 smaller lines are left out" in Page(image(ledger=ledger).to_html()).text


def test_large_batches_are_limited_with_a_note(image, tmp_path):
    page = read(report(image(torch.ones(30, 1, 2, 2)), tmp_path / "a.html"))
    assert page.tags.count("article") == 24
    assert "24 of 30 samples are drawn here" in page.text
    two = read(report([image(torch.ones(3, 1, 2, 2))] * 2, tmp_path / "b.html", limit=4))
    assert two.tags.count("article") == 4
    assert "1 of 3 samples are drawn here" in two.text


def test_tokens_are_coloured_words_with_their_values():
    explanation = Explanation(
        torch.tensor([[1.0, -2.0, float("nan")]]),
        torch.tensor([4.0]),
        ("positive",),
        "lrp",
        input=torch.tensor([[7, 8, 9]]),
    )
    page = Page(to_html(explanation, labels=[["not", "bad", "?"]]))
    spans = [(name, value) for tag, name, value in page.attributes if tag == "span" and name in ("style", "title")]
    assert spans[0] == ("style", "background:#e67e01;color:#000000")
    assert spans[2] == ("style", "background:#033fb2;color:#ffffff")
    assert spans[4][1].startswith("background:#d60093")
    assert [value for name, value in spans if name == "title"] == ["25 %", "-50 %", "nan"]
    assert "not bad ?" in page.text
    assert "share of the output per token" in page.text


def test_features_are_bars_and_series_a_strip(image):
    features = Page(to_html(image(torch.tensor([[1.0, float("nan"), -4.0]])), labels=[["age", "rooms", "sea"]]))
    widths = [value for tag, name, value in features.attributes if (tag, name) == ("rect", "width") if value != "0.6"]
    assert widths == ["12.5", "100.0", "50.0"]
    assert "1 value is NaN or infinite" in features.text


def test_a_series_is_a_strip_and_a_long_one_is_summed(image):
    def strip(count):
        page = Page(to_html(image(torch.ones(1, count))))
        (uri,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
        return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))), page.text

    picture, text = strip(64)
    assert picture.size == (64, 1)
    assert "share of the output per value" in text
    picture, text = strip(4000)
    assert picture.size == (1334, 1)
    assert "share of the output per 3 values" in text
    assert "summed over 3 neighbours" in text
    assert "full colour at 75 %" in text


def test_what_cannot_be_drawn_says_why_and_the_rest_stays(image):
    page = Page(to_html(image(torch.ones(1, 1, 2, 2, 2, 2), warnings=("still here",))))
    assert "cannot be drawn" in page.text
    assert "still here" in page.text
    wrong = Page(to_html(image(), images=[Image.new("RGB", (30, 90))]))
    assert "the photo is 30 x 90 pixels" in wrong.text


def test_what_is_given_per_sample_must_fit(image, tmp_path):
    batch = image(torch.ones(3, 1, 2, 2))
    with pytest.raises(InputError, match=r"names must be given once for each of the 3 samples.*got 2"):
        report(batch, tmp_path / "a.html", names=["a", "b"])
    page = read(report([batch, batch], tmp_path / "b.html", names=["one", "two", "three"]))
    assert page.text.count("three") == 2
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize(
    "options", [{"scale": 0.0}, {"cmap": "jet"}, {"pool": "max"}, {"smooth": -1}, {"block": 0}, {"limit": -1}]
)
def test_senseless_options_are_refused_not_drawn(image, tmp_path, options):
    with pytest.raises(InputError):
        report(image(), tmp_path / "a.html", **options)
    assert not (tmp_path / "a.html").exists()


def test_an_unwritable_path_is_a_file_error(image, tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        report(image(), tmp_path / "missing" / "a.html")


def test_all_zero_and_all_nan_relevance_have_a_page(image):
    assert "all values are zero" in Page(to_html(image(torch.zeros(1, 3, 4, 4)))).text
    assert "16 values are NaN or infinite" in Page(to_html(image(torch.full((1, 3, 4, 4), torch.nan)))).text


def test_an_explanation_of_no_samples_has_a_page():
    empty = Explanation(torch.ones(0, 3, 4, 4), torch.ones(0), (), "lrp")
    assert Page(to_html(empty)).tags[0] == "div"
