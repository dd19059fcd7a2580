"""Colours for signed numbers: zero is a neutral grey, the two signs are safe for the colour-blind, NaN is no value.

Each map was made with arms of equal lightness at equal magnitude (OKLab), falling from near white at zero to dark at
the ends, with hues that stay apart under the three common kinds of colour blindness.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import InputError

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

MAPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "blue-orange": (
        (3, 63, 178),
        (23, 110, 224),
        (74, 159, 255),
        (157, 205, 254),
        (245, 245, 245),
        (244, 188, 129),
        (230, 126, 1),
        (180, 84, 2),
        (130, 46, 1),
    ),
    "purple-green": (
        (96, 34, 162),
        (139, 78, 205),
        (182, 126, 240),
        (218, 183, 251),
        (245, 245, 245),
        (159, 217, 169),
        (76, 182, 102),
        (1, 140, 57),
        (1, 94, 34),
    ),
}
"""Colours (red, green, blue; 0 to 255) at equal steps from -scale over 0 to +scale."""

DEFAULT_MAP = "blue-orange"
NEUTRAL = (245, 245, 245)
NOT_FINITE = (214, 0, 147)
"""Magenta: in no map, so what is NaN or infinite cannot be taken for a value."""


def colour_table(cmap: str) -> Array:
    """The rows of a map, shape (9, 3), 0 to 255.

    Raises:
        InputError: there is no such map.
    """
    if cmap not in MAPS:
        raise InputError(f"there is no colour map {cmap!r}; choose one of {', '.join(map(repr, MAPS))}.")
    return np.asarray(MAPS[cmap], dtype=np.float64)


def colours(values: Any, *, scale: float, cmap: str = DEFAULT_MAP) -> Pixels:
    """The colour of every value.

    Args:
        values: any shape.
        scale: the magnitude at which the colour is full; beyond it nothing changes. Positive and finite.
        cmap: a name in :data:`MAPS`.

    Returns:
        uint8, shape ``values.shape + (3,)``; :data:`NEUTRAL` at zero, :data:`NOT_FINITE` at NaN and infinities.

    Raises:
        InputError: ``scale`` is not a positive finite number, or there is no such map.
    """
    table = colour_table(cmap)
    check_scale(scale)
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    place = (np.clip(np.where(finite, values, 0.0) / scale, -1, 1) + 1) / 2 * (len(table) - 1)
    steps = np.arange(len(table))
    pixels = np.stack([np.interp(place, steps, table[:, channel]) for channel in range(3)], axis=-1)
    pixels[~finite] = NOT_FINITE
    return pixels.round().astype(np.uint8)


def check_scale(scale: float) -> None:
    """Refuse a scale that values cannot be divided by.

    Raises:
        InputError: ``scale`` is not a positive finite number.
    """
    if not (isinstance(scale, float | int | np.number) and np.isfinite(scale) and float(scale) > 0):
        raise InputError(f"scale must be a positive finite number, the magnitude of the full colour; got {scale!r}.")


def ink(background: Any) -> str:
    """ "#000000" or "#ffffff", whichever reads better on a colour (red, green, blue; 0 to 255)."""
    linear = [(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for v in np.asarray(background) / 255]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def hexadecimal(colour: Any) -> str:
    """ "#rrggbb" of (red, green, blue; 0 to 255)."""
    return "#" + "".join(f"{int(value):02x}" for value in colour)
