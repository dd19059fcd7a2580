"""The pictures of a page as plain values for its templates: data URIs, coloured words, bars, the ledger's rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pellucid.engine.ledger import Ledger, number_text, share_text
from pellucid.errors import InputError
from pellucid.show.colours import DEFAULT_MAP, NOT_FINITE, check_scale, colour_table, colours, hexadecimal, ink
from pellucid.show.heatmap import overlay, photo_from_input
from pellucid.show.values import (
    CHANNELS,
    Scale,
    Values,
    binned,
    check_display,
    is_text,
    lost_lines,
    measured,
    reach_text,
    sample_values,
    scale_lines,
    scale_of,
)

if TYPE_CHECKING:
    from pellucid.explanation import Explanation, Pooling

MOST_BARS = 40
MOST_STEPS = 1600
MOST_LAYERS = 30
Fields = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """How the pictures of a page are drawn; see :func:`pellucid.show.heatmap.heatmap` for the fields.

    Raises:
        InputError: a field cannot be used.
    """

    scale: float | None = None
    pool: Pooling = "sum"
    smooth: float | None = None
    block: int = 1
    cmap: str = DEFAULT_MAP
    size: int = 448
    photo: bool = True
    """Whether the photo stands beside its map."""

    def __post_init__(self) -> None:
        colour_table(self.cmap)
        check_display(self.smooth, self.block)
        if self.scale is not None:
            check_scale(self.scale)
        if self.pool not in CHANNELS:
            raise InputError(f"pool must be one of {', '.join(map(repr, CHANNELS))}; got {self.pool!r}.")


def figure(
    sample: Explanation, name: str, photo: Image.Image | None, labels: Sequence[str] | None, look: Look
) -> Fields:
    """One input of one sample: a picture, words, bars or a strip, with its colour bar and notes.

    What cannot be drawn becomes a figure of kind "none" whose note says why: the rest of the page stays.
    """
    try:
        values = sample_values(sample, input=name, pool=look.pool, smooth=look.smooth, block=look.block)
        if values.values.ndim == 1 and not is_text(sample, name):
            labels = labels if len(values.values) <= MOST_BARS else None
            values = binned(values, MOST_STEPS)
        scale = scale_of(look.scale, [values])
        values = measured(values, scale)
        if values.values.ndim == 2:
            body = _picture(sample, name, values, scale, photo, look)
        else:
            body = _row(sample, name, values, scale, labels, look)
    except InputError as error:
        return {"name": name, "kind": "none", "made": [], "notes": [str(error)], "lost": [], "reach": ""}
    told = [*(lost_lines(values) if body["kind"] == "bars" else scale_lines(values, scale)), *body.pop("notes", [])]
    made = ["; ".join(values.notes)] if values.notes else []
    reach = reach_text(values, scale)
    bar = colour_bar(values, scale, look.cmap)
    found = {"name": name, "unit": values.unit, "made": made, "notes": told, "bar": bar}
    return {**found, "lost": lost_lines(values), "reach": reach, "statistic": scale.reason, **body}


def colour_bar(values: Values, scale: Scale, cmap: str) -> Fields:
    """A CSS gradient and its labels at -scale, 0 and +scale."""
    stops = ", ".join(hexadecimal(colour) for colour in colour_table(cmap))
    ends = values.label(scale.limit)
    return {"gradient": f"linear-gradient(to right, {stops})", "labels": [f"-{ends}", "0", f"+{ends}"]}


def data_uri(picture: Image.Image) -> str:
    """The picture as PNG inside a link that needs no file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def photo_uri(photo: Image.Image, size: tuple[int, int]) -> str:
    """The photo in the size of the maps beside it, as a link that needs no file."""
    return data_uri(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def ledger_rows(ledger: Ledger, cmap: str) -> list[Fields]:
    """The ledger's lines, each with a bar from zero, all on the scale of the largest."""
    rows = ledger.rows()
    shown = [amount if np.isfinite(amount) else 0.0 for _, _, amount, _ in rows]
    largest = max(map(abs, shown), default=0.0) or 1.0
    return [
        {
            "source": source,
            "modules": words,
            "amount": number_text(amount),
            "share": share_text(share),
            **_bar(value / largest, cmap),
        }
        for (source, words, amount, share), value in zip(rows, shown, strict=True)
    ]


def layer_rows(ledger: Ledger) -> tuple[list[Fields], int]:
    """The modules where most relevance ended outside the inputs, and how many more there are."""
    ends = [
        (module or "(model)", source, amount)
        for module, sources in ledger.by_layer.items()
        for source, amount in sources.items()
        if source != "input"
    ]
    ends.sort(key=lambda end: -abs(end[2]) if np.isfinite(end[2]) else -np.inf)
    rows = [
        {"module": module, "source": source, "amount": number_text(amount), "share": share_text(ledger.share(amount))}
        for module, source, amount in ends[:MOST_LAYERS]
    ]
    return rows, len(ends) - len(rows)


def _picture(
    sample: Explanation, name: str, values: Values, scale: Scale, photo: Image.Image | None, look: Look
) -> Fields:
    notes = []
    if photo is None:
        photo = photo_from_input(sample, name, values.values.shape)
        notes = ["photo made from the input, its contrast stretched"] if photo is not None else []
    heat = overlay(values.values, photo, scale=scale.limit, cmap=look.cmap, size=look.size)
    shown = None if photo is None or not look.photo else photo_uri(photo, heat.size)
    return {"kind": "picture", "heat": data_uri(heat), "photo": shown, "notes": notes}


def _row(
    sample: Explanation, name: str, values: Values, scale: Scale, labels: Sequence[str] | None, look: Look
) -> Fields:
    count = len(values.values)
    if labels is not None and len(labels) != count and len(sample.named()) > 1:
        # The labels belong to another of the inputs.
        labels = None
    if labels is not None and len(labels) != count:
        raise InputError(f"{len(labels)} labels were given for the {count} values of input {name!r}.")
    if count > MOST_BARS and not is_text(sample, name):
        pixels = colours(values.values[None], scale=scale.limit, cmap=look.cmap)
        return {"kind": "strip", "strip": data_uri(Image.fromarray(pixels))}
    names = list(labels) if labels is not None else [str(place) for place in range(count)]
    cells: list[Fields] = []
    for word, value in zip(names, values.values.tolist(), strict=True):
        colour = colours(value, scale=scale.limit, cmap=look.cmap)
        cells.append(
            {"label": word, "value": values.label(value), "background": hexadecimal(colour), "ink": ink(colour)}
        )
    if is_text(sample, name):
        return {"kind": "words", "cells": cells}
    for cell, value in zip(cells, values.values.tolist(), strict=True):
        finite = bool(np.isfinite(value))
        cell |= _bar(float(np.clip(value / scale.limit, -1, 1)) if finite else 0.0, look.cmap)
        if not finite:
            cell |= {"left": 0.0, "width": 100.0, "colour": hexadecimal(NOT_FINITE)}
    beyond = int((np.abs(values.values) > scale.limit * (1 + 1e-9)).sum())
    return {"kind": "bars", "cells": cells, "notes": [f"{beyond} bars are cut at the scale"] if beyond else []}


def _bar(value: float, cmap: str) -> Fields:
    """A bar from the middle, for a value of -1 to 1: left edge and width in percent, and the colour of its sign."""
    colour = colours(np.sign(value) * 0.6, scale=1.0, cmap=cmap)
    return {"left": 50 + 50 * min(value, 0.0), "width": 50 * abs(value), "colour": hexadecimal(colour)}
