"""The colour maps: neutral zero, signs that everybody can tell apart, NaN outside the map."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.errors import InputError
from pellucid.show.colours import MAPS, NEUTRAL, NOT_FINITE, colours, ink

pytestmark = pytest.mark.core

# Simulation of full dichromacy on linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(pixels):
    values = np.asarray(pixels, dtype=np.float64) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(light):
    to_cone = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(np.clip(light, 0, None) @ np.transpose(to_cone)) @ np.transpose(to_lab)


@pytest.mark.parametrize("cmap", MAPS)
def test_zero_is_a_neutral_grey(cmap):
    red, green, blue = colours(0.0, scale=1.0, cmap=cmap)
    assert red == green == blue
    assert tuple(colours(-0.0, scale=3.0, cmap=cmap)) == NEUTRAL


@pytest.mark.parametrize("cmap", MAPS)
def test_equal_magnitudes_have_equal_lightness_that_falls_with_the_magnitude(cmap):
    steps = np.linspace(0, 1, 9)
    plus = oklab(linear(colours(steps, scale=1.0, cmap=cmap)))[:, 0]
    minus = oklab(linear(colours(-steps, scale=1.0, cmap=cmap)))[:, 0]
    assert np.abs(plus - minus).max() < 0.02
    assert (np.diff(plus) < -0.02).all()


@pytest.mark.parametrize("cmap", MAPS)
@pytest.mark.parametrize("kind", DICHROMATS)
def test_signs_stay_apart_for_the_colour_blind(cmap, kind):
    magnitudes = np.array([0.25, 0.5, 0.75, 1.0])
    seen = [
        oklab(linear(colours(sign * magnitudes, scale=1.0, cmap=cmap)) @ np.transpose(DICHROMATS[kind]))
        for sign in (1, -1)
    ]
    assert np.linalg.norm(seen[0] - seen[1], axis=-1).min() > 0.05


def test_the_scale_is_where_the_colour_is_full():
    table = MAPS["blue-orange"]
    assert tuple(colours(0.2, scale=0.2)) == tuple(colours(5.0, scale=0.2)) == table[-1]
    assert tuple(colours(-0.2, scale=0.2)) == tuple(colours(-5.0, scale=0.2)) == table[0]
    assert np.array_equal(colours([0.1, -0.3], scale=1.0), colours([0.01, -0.03], scale=0.1))


@pytest.mark.parametrize("cmap", MAPS)
def test_what_is_not_finite_has_a_colour_of_its_own(cmap):
    pixels = colours([[np.nan, np.inf], [-np.inf, 0.0]], scale=1.0, cmap=cmap)
    assert pixels.shape == (2, 2, 3)
    assert (pixels.reshape(4, 3)[:3] == NOT_FINITE).all()
    values = colours(np.linspace(-1, 1, 2001), scale=1.0, cmap=cmap).astype(int)
    assert np.abs(values - NOT_FINITE).sum(-1).min() > 100


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), "1", None])
def test_a_senseless_scale_is_refused(scale):
    with pytest.raises(InputError, match="scale must be a positive finite number"):
        colours(1.0, scale=scale)


def test_an_unknown_map_lists_the_choices():
    with pytest.raises(InputError, match="no colour map 'jet'; choose one of 'blue-orange', 'purple-green'"):
        colours(1.0, scale=1.0, cmap="jet")


def test_ink_reads_on_every_colour():
    assert (ink((255, 255, 255)), ink((0, 0, 0)), ink((3, 63, 178)), ink(NEUTRAL)) == (
        "#000000",
        "#ffffff",
        "#ffffff",
        "#000000",
    )
