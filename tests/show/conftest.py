"""Explanations to draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.explanation import Explanation


def _image(relevance=None, *, output=4.0, **fields):
    if relevance is None:
        relevance = torch.zeros(1, 3, 20, 30)
        relevance[0, :, 5, 10] = 0.4
        relevance[0, :, 12, 20] = -0.2
    values = {"target": ("tabby~rest",) * len(relevance), "method": "lrp", "settings": {"composite": "auto"}}
    return Explanation(relevance=relevance, output=torch.full((len(relevance),), output), **(values | fields))


@pytest.fixture
def image():
    """Makes an explanation of pictures: (N, C, H, W) relevance, one output for all."""
    return _image


@pytest.fixture
def photo():
    """A coloured ramp of 30 x 20 pixels."""
    ramp = np.linspace(0, 255, 30, dtype=np.uint8)[None].repeat(20, axis=0)
    return Image.fromarray(np.stack([ramp, ramp[:, ::-1], ramp // 2], axis=-1))


@pytest.fixture
def pyplot():
    """matplotlib.pyplot without a screen; its figures are closed afterwards."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    yield pyplot
    pyplot.close("all")
