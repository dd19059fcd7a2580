"""Explanations as HTML that needs nothing else: a fragment for notebooks and pages, or a full report in one file.

No script, no link, no font from elsewhere; everything that comes from outside is escaped by the templates.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import jinja2
import torch
from PIL import Image

from pellucid.archive import replace_file
from pellucid.engine.ledger import number_text
from pellucid.errors import InputError
from pellucid.show.colours import DEFAULT_MAP
from pellucid.show.figures import Fields, Look, figure, layer_rows, ledger_rows
from pellucid.show.shares import digits, elsewhere_line, share_line

if TYPE_CHECKING:
    from pellucid.explanation import Explanation, Pooling

T = TypeVar("T")
FRAGMENT_SAMPLES = 4
REPORT_SAMPLES = 24


def to_html(
    explanation: Explanation,
    *,
    names: Sequence[str] | None = None,
    images: Sequence[Image.Image | None] | None = None,
    labels: Sequence[Sequence[str] | None] | None = None,
    predictions: Sequence[Sequence[tuple[str, float]]] | None = None,
    scale: float | None = None,
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
    cmap: str = DEFAULT_MAP,
    limit: int = FRAGMENT_SAMPLES,
) -> str:
    """A self-contained fragment (one ``div``) that takes its text colour from the page around it.

    Args:
        explanation: of any number of samples; the first ``limit`` are drawn.
        names: as in :func:`report`, like all that follow.
    """
    look = Look(scale, pool, smooth, block, cmap)
    view = _views([explanation], look, limit, names=names, images=images, labels=labels, predictions=predictions)
    return templates().get_template("fragment.html.j2").render(views=view)


def report(
    explanations: Explanation | Sequence[Explanation],
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    images: Sequence[Image.Image | None] | None = None,
    labels: Sequence[Sequence[str] | None] | None = None,
    predictions: Sequence[Sequence[tuple[str, float]]] | None = None,
    title: str = "Pellucid report",
    scale: float | None = None,
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
    cmap: str = DEFAULT_MAP,
    limit: int = REPORT_SAMPLES,
) -> Path:
    """Write one HTML file that holds all it shows.

    What is given per sample counts the samples of all explanations in order; where every explanation has the same
    samples (several targets, several methods), it may be given once.

    Args:
        explanations: one or several.
        path: the file; an existing one is replaced.
        names: of the samples, such as file names.
        images: what the model saw of each sample (``Preprocessing.display``); None where there is no picture.
        labels: of tokens, features or steps, for each sample.
        predictions: the model's top classes for each sample: (class name, probability 0 to 1).
        title: of the page.
        scale: the magnitude of the full colour for every picture, as a fraction of the output; None: each its own.
        pool: over the channels, as in :meth:`Explanation.pool`.
        smooth: as in :func:`pellucid.show.heatmap.heatmap`.
        block: as in :func:`pellucid.show.heatmap.heatmap`.
        cmap: a name in :data:`pellucid.show.colours.MAPS`.
        limit: samples drawn in all; the page says how many it leaves out.

    Returns:
        The path written.

    Raises:
        InputError: what is given per sample does not fit the samples, or the scale or colour map cannot be used.
        FileError: the file cannot be written.
    """
    given = list(explanations) if isinstance(explanations, list | tuple) else [cast("Explanation", explanations)]
    look = Look(scale, pool, smooth, block, cmap)
    views = _views(given, look, limit, names=names, images=images, labels=labels, predictions=predictions)
    page = templates().get_template("report.html.j2").render(title=title, views=views, versions=versions())
    target = Path(path)
    replace_file(target, page.encode(errors="replace"))
    return target


def _views(
    explanations: Sequence[Explanation],
    look: Look,
    limit: int,
    *,
    names: Sequence[str] | None,
    images: Sequence[Image.Image | None] | None,
    labels: Sequence[Sequence[str] | None] | None,
    predictions: Sequence[Sequence[tuple[str, float]]] | None,
) -> list[Fields]:
    if limit < 0:
        raise InputError(f"limit, the number of samples drawn, must be at least 0; got {limit}.")
    sizes = [len(explanation) for explanation in explanations]
    all_names = per_sample(names, sizes, "names")
    all_images = per_sample(images, sizes, "images")
    all_labels = per_sample(labels, sizes, "labels")
    all_predictions = per_sample(predictions, sizes, "predictions")
    views, start = [], 0
    for explanation, size in zip(explanations, sizes, strict=True):
        drawn = max(0, min(size, limit - start))
        samples = []
        for place in range(drawn):
            here, sample = start + place, explanation[place]
            samples.append(
                {
                    "name": all_names[here],
                    "target": sample.target[0],
                    "output": float(sample.output[0]),
                    "line": share_line(sample),
                    "figures": [
                        figure(sample, name, all_images[here], all_labels[here], look) for name in sample.named()
                    ],
                    "predictions": all_predictions[here] or (),
                }
            )
        views.append(_view(explanation, samples, look))
        start += size
    return views


def _view(explanation: Explanation, samples: list[Fields], look: Look) -> Fields:
    """What the templates show of one explanation."""
    ledger = explanation.ledger
    tolerance = tolerance_of(explanation)
    layers, more = layer_rows(ledger) if ledger is not None else ([], 0)
    return {
        "method": explanation.method,
        "composite": explanation.settings.get("composite"),
        "samples": samples,
        "size": len(explanation),
        "closed": ledger is not None and ledger.closed(tolerance),
        "tolerance": f"{100 * tolerance:g} %",
        "total": number_text(ledger.total) if ledger is not None else "",
        "scalar": ledger.scalar if ledger is not None else "",
        "elsewhere": elsewhere_line(ledger),
        "ledger_rows": ledger_rows(ledger, look.cmap) if ledger is not None else [],
        "layers": layers,
        "more_layers": more,
        "settings": {name: setting_text(value) for name, value in explanation.settings.items()},
        "warnings": explanation.warnings,
        "citation": explanation.citation,
    }


def per_sample(given: Sequence[T] | None, sizes: list[int], what: str) -> Sequence[T | None]:
    """What was given, once for every sample of every explanation."""
    total = sum(sizes)
    if given is None:
        return [None] * total
    if len(given) == total:
        return list(given)
    if len(set(sizes)) == 1 and len(given) == sizes[0]:
        return list(given) * len(sizes)
    raise InputError(
        f"{what} must be given once for each of the {total} samples, or of the samples that all explanations share; "
        f"got {len(given)}."
    )


def tolerance_of(explanation: Explanation) -> float:
    """What rounding alone may leave unaccounted, by the coarsest number type of the relevance."""
    sizes = {tensor.dtype.itemsize for tensor in explanation.named().values()}
    return {2: 5e-2, 4: 1e-4, 8: 1e-6}.get(min(sizes, default=4), 1e-4)


def setting_text(value: object) -> str:
    """A setting as a page shows it."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def versions() -> str:
    """What a page was made with."""
    from pellucid import __version__

    return f"Pellucid {__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}"


def _probability(value: float) -> str:
    return f"{100 * value:.1f} %"


@cache
def templates() -> jinja2.Environment:
    """The templates of pages and fragments, which escape what they show."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pellucid.show"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"digits": digits, "probability": _probability}
    environment.filters.update(filters)
    return environment
