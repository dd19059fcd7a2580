"""A comparison with matplotlib: one sample's maps side by side, and the matrix of how far the methods agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.comparison import correlation_text
from pellucid.errors import InputError, require
from pellucid.show.colours import DEFAULT_MAP, colour_table, colours, ink
from pellucid.show.heatmap import scalar_line
from pellucid.show.plot import DRAW, colour_bar, kind_of
from pellucid.show.side_by_side import Panel, panels, photo_of, statistic_line
from pellucid.show.values import Scale

if TYPE_CHECKING:
    from pellucid.comparison import Comparison
    from pellucid.explanation import Pooling

CALLER = "Comparison.plot"
MOST_NUMBERED = 16
"""Methods up to which the matrix has room for its numbers."""


def plot(
    comparison: Comparison,
    *,
    cmap: str = DEFAULT_MAP,
    pool: Pooling = "sum",
    labels: Sequence[str] | None = None,
    input: str | int | None = None,
    sample: int = 0,
    smooth: float | None = None,
    block: int = 1,
) -> Any:
    """Draw the maps in the order of the methods, every one divided by its own statistic, then the agreement.

    Args:
        comparison: of one or more samples.
        cmap: a name in :data:`pellucid.show.colours.MAPS`.
        pool: over the channels, as in :meth:`Explanation.pool`; of the agreement too.
        labels: names of the tokens, features or steps.
        input: which explained input, where there are several.
        sample: which sample's maps; the agreement is the average over all.
        smooth: as in :func:`pellucid.show.heatmap.heatmap`; pictures only.
        block: as in :func:`pellucid.show.heatmap.heatmap`; pictures only.

    Returns:
        The axes drawn on: one for each method, then that of the matrix.

    Raises:
        InputError: no such sample or input, labels that do not fit, or relevance that cannot be drawn.
        MissingDependencyError: matplotlib is not installed.
    """
    found = panels(comparison, sample=sample, input=input, pool=pool, smooth=smooth, block=block)
    first = found[0]
    places = len(first.values.values)
    if labels is not None and (first.values.values.ndim != 1 or len(labels) != places):
        raise InputError(
            f"labels must name every position, {first.values.values.shape} in all; got {len(labels)} labels. "
            "Pictures take no labels."
        )
    colour_table(cmap)
    pyplot = require("matplotlib.pyplot", extra="plot", caller=CALLER)
    form = kind_of(first.sample, first.values, labels, None, input)
    columns, wide, high = {
        "picture": (min(5, len(found)), 2.6, 2.9),
        "bars": (min(4, len(found)), 3.0, 0.9 + 0.22 * places),
        "words": (1, 9.0, 1.3),
        "line": (1, 9.0, 1.6),
    }[form]
    rows = -(-len(found) // columns)
    side = min(10.0, 2.6 + 0.42 * len(found))
    figure = pyplot.figure(
        figsize=(max(wide * columns + 1.2, side + 1.2), rows * high + side + 0.8), layout="constrained"
    )
    figure.suptitle(scalar_line(first.sample), fontsize="large", x=0.01, ha="left", parse_math=False)
    upper, lower = figure.subfigures(2, 1, height_ratios=(rows * high + 0.4, side + 0.4))
    grid = upper.subplots(rows, columns, squeeze=False, sharey=form == "bars")
    axes = list(grid.flat)
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    axes = axes[: len(found)]
    photo = photo_of(found)
    for axis, panel in zip(axes, found, strict=True):
        _map(axis, panel, form, cmap, labels, photo=photo)
    if form in ("picture", "words"):
        colour_bar(axes[0], first.values, Scale(1.0, ""), cmap, beside=axes)
    notes = [statistic_line({panel.method: panel.statistic for panel in found}), *first.values.notes]
    upper.supxlabel("; ".join(notes), fontsize="x-small", x=0.01, ha="left", parse_math=False)
    matrix = lower.subplots()
    _matrix(matrix, comparison, pool, cmap)
    return [*axes, matrix]


def _map(axis: Any, panel: Panel, form: str, cmap: str, labels: Sequence[str] | None, *, photo: Any) -> None:
    scale = Scale(1.0, panel.statistic)
    DRAW[form](axis, panel.values, scale, cmap, labels, photo)
    axis.set_title(panel.method, fontsize="small", loc="left", parse_math=False)
    if form in ("bars", "line"):
        (axis.set_xlim if form == "bars" else axis.set_ylim)(-1.05, 1.05)
        axis.set_ylabel("")
    axis.set_xlabel(f"{panel.cost}\n{panel.reach}", fontsize="xx-small", loc="left", parse_math=False)


def _matrix(axis: Any, comparison: Comparison, pool: Pooling, cmap: str) -> None:
    """Spearman's correlations as coloured cells, with their numbers where there is room."""
    values = comparison.agreement(pool).numpy()
    names = list(comparison)
    pixels = colours(np.where(np.isfinite(values), values, 0.0), scale=1.0, cmap=cmap)
    axis.imshow(pixels, interpolation="nearest")
    ticks = range(len(names))
    axis.set_xticks(ticks, labels=names, rotation=45, ha="right", fontsize="x-small", parse_math=False)
    axis.set_yticks(ticks, labels=names, fontsize="x-small", parse_math=False)
    if len(names) <= MOST_NUMBERED:
        for (row, column), value in np.ndenumerate(values):
            text = correlation_text(float(value))
            axis.text(column, row, text, ha="center", va="center", fontsize="x-small", color=ink(pixels[row, column]))
    size = len(comparison.target)
    mean = f", mean of {size} samples" if size > 1 else ""
    lost = " (- : a map is constant or not finite)" if bool(np.isnan(values).any()) else ""
    axis.set_title(
        f"agreement: Spearman's rank correlation of the pooled maps{mean}{lost}", fontsize="small", loc="left"
    )
