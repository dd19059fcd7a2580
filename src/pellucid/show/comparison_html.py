"""A comparison as HTML that needs nothing else: a fragment for notebooks and pages, or a page of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from pellucid.archive import replace_file
from pellucid.comparison import correlation_text, seconds_text
from pellucid.errors import InputError
from pellucid.show.colours import DEFAULT_MAP, colours, hexadecimal, ink
from pellucid.show.figures import Fields, Look, figure, photo_uri
from pellucid.show.heatmap import photo_from_input
from pellucid.show.html import per_sample, setting_text, templates, versions
from pellucid.show.shares import share_line
from pellucid.show.side_by_side import statistic_line

if TYPE_CHECKING:
    from pellucid.comparison import Comparison
    from pellucid.explanation import Explanation, Pooling

FRAGMENT_SAMPLES, REPORT_SAMPLES = 2, 12
SIZE = 224
"""Pixels of the longer side of a map, at least: many stand beside each other."""


def to_html(
    comparison: Comparison,
    *,
    names: Sequence[str] | None = None,
    images: Sequence[Image.Image | None] | None = None,
    labels: Sequence[Sequence[str] | None] | None = None,
    predictions: Sequence[Sequence[tuple[str, float]]] | None = None,
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
    cmap: str = DEFAULT_MAP,
    limit: int = FRAGMENT_SAMPLES,
) -> str:
    """A self-contained fragment (one ``div``) that takes its text colour from the page around it.

    Args:
        comparison: of any number of samples; the first ``limit`` are drawn, the matrices are of all.
        names: as in :func:`pellucid.show.html.report`, like all that follow.
    """
    look = Look(None, pool, smooth, block, cmap, size=SIZE, photo=False)
    view = _view(comparison, look, limit, names=names, images=images, labels=labels, predictions=predictions)
    return templates().get_template("comparison_fragment.html.j2").render(view=view)


def report(
    comparison: Comparison,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    images: Sequence[Image.Image | None] | None = None,
    labels: Sequence[Sequence[str] | None] | None = None,
    predictions: Sequence[Sequence[tuple[str, float]]] | None = None,
    title: str = "Pellucid comparison",
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
    cmap: str = DEFAULT_MAP,
    limit: int = REPORT_SAMPLES,
) -> Path:
    """Write one HTML file that holds all it shows; arguments as of :func:`pellucid.show.html.report`.

    Returns:
        The path written.

    Raises:
        InputError: what is given per sample does not fit the samples, or the colour map cannot be used.
        FileError: the file cannot be written.
    """
    look = Look(None, pool, smooth, block, cmap, size=SIZE, photo=False)
    view = _view(comparison, look, limit, names=names, images=images, labels=labels, predictions=predictions)
    page = templates().get_template("comparison_report.html.j2").render(title=title, view=view, versions=versions())
    target = Path(path)
    replace_file(target, page.encode(errors="replace"))
    return target


def _view(
    comparison: Comparison,
    look: Look,
    limit: int,
    *,
    names: Sequence[str] | None,
    images: Sequence[Image.Image | None] | None,
    labels: Sequence[Sequence[str] | None] | None,
    predictions: Sequence[Sequence[tuple[str, float]]] | None,
) -> Fields:
    """What the templates show."""
    if limit < 0:
        raise InputError(f"limit, the number of samples drawn, must be at least 0; got {limit}.")
    size = len(comparison.target)
    all_names = per_sample(names, [size], "names")
    all_images = per_sample(images, [size], "images")
    all_labels = per_sample(labels, [size], "labels")
    all_predictions = per_sample(predictions, [size], "predictions")
    samples = []
    for place in range(min(size, limit)):
        part = comparison.sample(place)
        samples.append(
            {
                "name": all_names[place],
                "target": part.target[0],
                "output": float(part.output[0]),
                "inputs": [
                    _tiles(part, name, all_images[place], all_labels[place], look) for name in _input_names(part)
                ],
                "predictions": all_predictions[place] or (),
            }
        )
    return {
        "samples": samples,
        "size": size,
        "averaged": f", mean of {size} samples" if size > 1 else "",
        "agreement": _matrix(comparison, comparison.agreement(look.pool), look.cmap),
        "overlap": _matrix(comparison, comparison.overlap(pool=look.pool), look.cmap),
        "methods": [_method(comparison, name, one) for name, one in comparison.explanations.items()],
        "left_out": dict(comparison.left_out),
        "warnings": comparison.warnings,
    }


def _input_names(part: Comparison) -> list[str]:
    """The inputs that any of the methods explains, in order."""
    return list(dict.fromkeys(name for one in part.explanations.values() for name in one.named()))


def _tiles(part: Comparison, name: str, photo: Image.Image | None, labels: Sequence[str] | None, look: Look) -> Fields:
    """One input of one sample by every method that explains it."""
    shown = {method: one for method, one in part.explanations.items() if name in one.named()}
    if photo is None:
        made = (photo_from_input(one, name, tuple(one.named()[name].shape[-2:])) for one in shown.values())
        photo = next((found for found in made if found is not None), None)
    tiles: list[Fields] = [
        {"method": method, "cost": str(part.costs[method]), "figure": figure(one, name, photo, labels, look)}
        for method, one in shown.items()
    ]
    first: Fields = tiles[0]["figure"]
    pictures = first["kind"] == "picture"
    statistics = {tile["method"]: tile["figure"]["statistic"] for tile in tiles if "statistic" in tile["figure"]}
    return {
        "name": name,
        "tiles": tiles,
        "pictures": pictures,
        "photo": photo_uri(photo, (SIZE, round(SIZE * photo.height / photo.width))) if photo and pictures else None,
        "bar": first["bar"]["gradient"] if first["kind"] in ("picture", "words", "strip") else None,
        "made": [statistic_line(statistics), *first["made"]] if statistics else first["made"],
    }


def _matrix(comparison: Comparison, values: Tensor, cmap: str) -> list[Fields]:
    """Rows of coloured cells."""
    array = values.numpy()
    pixels = colours(np.where(np.isfinite(array), array, 0.0), scale=1.0, cmap=cmap)
    methods = list(comparison)
    return [
        {
            "method": method,
            "cells": [
                {
                    "text": correlation_text(float(array[row, column])),
                    "background": hexadecimal(pixels[row, column]),
                    "ink": ink(pixels[row, column]),
                    "pair": f"{method}, {other}",
                }
                for column, other in enumerate(methods)
            ],
        }
        for row, method in enumerate(methods)
    ]


def _method(comparison: Comparison, name: str, one: Explanation) -> Fields:
    cost = comparison.costs[name]
    lines = {share_line(one[place]) for place in range(min(len(one), 1))}
    ledger = one.ledger
    if ledger is not None and not ledger.closed():
        lines.add("ledger not closed")
    unit = one.settings.get("unit")
    return {
        "name": name,
        "seconds": seconds_text(cost.seconds),
        "forwards": "-" if cost.forwards is None else cost.forwards,
        "gradients": "-" if cost.gradients is None else cost.gradients,
        "line": "; ".join(filter(None, sorted(lines))) or (f"no share: {unit}" if unit else ""),
        "warnings": one.warnings,
        "settings": {key: setting_text(value) for key, value in one.settings.items()},
        "citation": one.citation,
    }
