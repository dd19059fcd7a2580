"""Explanations on matplotlib axes: pictures, coloured words, bars or a line, as the relevance's shape asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from pellucid.errors import InputError, require
from pellucid.show.colours import DEFAULT_MAP, Array, colour_table, colours, hexadecimal, ink
from pellucid.show.heatmap import overlay, photo_from_input, scalar_line
from pellucid.show.values import (
    Scale,
    Values,
    choose_input,
    is_text,
    lost_lines,
    measured,
    sample_values,
    scale_lines,
    scale_of,
)

if TYPE_CHECKING:
    from pellucid.explanation import Explanation, Pooling

Photo = Image.Image | None
Kind = Literal["picture", "words", "bars", "line"]
MOST_SAMPLES = 8
MOST_BARS = 40


def plot(
    explanation: Explanation,
    *,
    scale: float | None = None,
    cmap: str = DEFAULT_MAP,
    ax: Any = None,
    pool: Pooling = "sum",
    labels: Sequence[str] | None = None,
    input: str | int | None = None,
    smooth: float | None = None,
    block: int = 1,
    kind: Kind | None = None,
) -> Any:
    """Draw the relevance of one sample, or of several beside each other on one scale.

    Args:
        explanation: up to 8 samples.
        scale: the magnitude of the full colour, as a fraction of the output (0.01 is 1 %); None: one robust scale for
            all samples drawn.
        cmap: a name in :data:`pellucid.show.colours.MAPS`.
        ax: the axes to draw on, for a single sample; None: a new figure of ``matplotlib.pyplot``.
        pool: over the channels, as in :meth:`Explanation.pool`.
        labels: names of the tokens, features or steps.
        input: which explained input, where there are several.
        smooth: as in :func:`pellucid.show.heatmap.heatmap`; pictures only.
        block: as in :func:`pellucid.show.heatmap.heatmap`; pictures only.
        kind: how to draw what is no picture. None: "words" for token ids and embeddings with labels, "bars" for up to
            40 values, else "line".

    Returns:
        The axes drawn on: one for one sample, a list for several.

    Raises:
        InputError: too many samples, ``ax`` for several, labels that do not fit, or see :func:`sample_values`.
        MissingDependencyError: matplotlib is not installed.
    """
    samples = list(explanation)
    if len(samples) > MOST_SAMPLES or not samples or (ax is not None and len(samples) > 1):
        limit = f"up to {MOST_SAMPLES} samples" if ax is None else "a single sample on the axes given"
        raise InputError(f"plot draws {limit}; got {len(samples)}. Index the explanation first: explanation[0].plot().")
    drawn = [sample_values(item, input=input, pool=pool, smooth=smooth, block=block) for item in samples]
    for values in drawn:
        if labels is not None and (values.values.ndim != 1 or len(labels) != len(values.values)):
            raise InputError(
                f"labels must name every position, {values.values.shape} in all; got {len(labels)} labels. "
                "Pictures take no labels."
            )
    chosen = scale_of(scale, drawn)
    drawn = [measured(values, chosen) for values in drawn]
    colour_table(cmap)
    caller = "Explanation.plot"
    require("matplotlib", extra="plot", caller=caller)
    axes = [ax]
    if ax is None:
        pyplot = require("matplotlib.pyplot", extra="plot", caller=caller)
        wide = 4.6 if drawn[0].values.ndim == 2 else 6.0
        _, grid = pyplot.subplots(
            1, len(samples), figsize=(wide * len(samples), 4.2), squeeze=False, layout="constrained"
        )
        axes = list(grid[0])
    for axis, sample, values in zip(axes, samples, drawn, strict=True):
        form = kind_of(sample, values, labels, kind, input)
        photo = photo_from_input(sample, choose_input(sample, input), values.values.shape)
        DRAW[form](axis, values, chosen, cmap, labels, photo)
        if form in ("picture", "words"):
            colour_bar(axis, values, chosen, cmap)
        axis.set_title(scalar_line(sample), fontsize="medium", loc="left", parse_math=False)
        notes = [f"{sample.method}, " + "; ".join(values.notes) if values.notes else sample.method]
        if form in ("picture", "words"):
            notes += scale_lines(values, chosen)
        else:
            notes = [*([values.unit] if form == "bars" else []), *notes, *lost_lines(values)]
            if scale is not None or len(samples) > 1:
                reach = 1.05 * (scale if scale is not None else _largest(drawn))
                (axis.set_xlim if form == "bars" else axis.set_ylim)(-reach, reach)
        axis.set_xlabel("\n".join(notes), fontsize="x-small", loc="left", parse_math=False)
    return axes[0] if len(axes) == 1 else axes


def kind_of(
    sample: Explanation, values: Values, labels: Sequence[str] | None, kind: Kind | None, input: str | int | None
) -> Kind:
    """How to draw the values of a sample, see ``kind`` of :func:`plot`."""
    if values.values.ndim == 2:
        if kind not in (None, "picture"):
            raise InputError(f"a picture cannot be drawn as {kind!r}; leave kind out.")
        return "picture"
    if kind is not None:
        if kind not in ("words", "bars", "line"):
            raise InputError(f"kind must be 'words', 'bars' or 'line' for relevance of one row; got {kind!r}.")
        return kind
    if labels is not None and is_text(sample, choose_input(sample, input)):
        return "words"
    return "bars" if len(values.values) <= MOST_BARS else "line"


def colour_bar(axis: Any, values: Values, scale: Scale, cmap: str, *, beside: Any = None) -> None:
    """The colours from -scale to +scale, beside ``axis`` or all the axes ``beside``."""
    matplotlib = require("matplotlib", extra="plot", caller="Explanation.plot")
    table = require("matplotlib.colors", extra="plot", caller="Explanation.plot").LinearSegmentedColormap.from_list(
        cmap, colour_table(cmap) / 255
    )
    norm = matplotlib.colors.Normalize(-scale.limit, scale.limit)
    mappable = require("matplotlib.cm", extra="plot", caller="Explanation.plot").ScalarMappable(norm, table)
    bar = axis.figure.colorbar(
        mappable, ax=axis if beside is None else beside, label=values.unit, shrink=0.85, extend="both"
    )
    ticks = [scale.limit * part for part in (-1, -0.5, 0, 0.5, 1)]
    bar.set_ticks(ticks, labels=[values.label(tick) for tick in ticks])


def _picture(axis: Any, values: Values, scale: Scale, cmap: str, labels: Sequence[str] | None, photo: Photo) -> None:
    del labels
    axis.imshow(
        np.asarray(overlay(values.values, photo, scale=scale.limit, cmap=cmap, size=1)), interpolation="nearest"
    )
    axis.set_xticks([])
    axis.set_yticks([])


def _words(axis: Any, values: Values, scale: Scale, cmap: str, labels: Sequence[str] | None, photo: Photo) -> None:
    del photo
    axis.set_axis_on()
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    renderer = axis.figure.canvas.get_renderer()
    width = axis.get_window_extent(renderer).width * 0.72
    left, row, rows = 0.0, 0, []
    shown = labels if labels is not None else [str(place) for place in range(len(values.values))]
    pixels = colours(values.values, scale=scale.limit, cmap=cmap)
    for word, colour in zip(shown, pixels, strict=True):
        box = {"facecolor": hexadecimal(colour), "edgecolor": "none", "pad": 2.5}
        text = axis.text(
            0, 0, word, bbox=box, color=ink(colour), va="top", transform=axis.transAxes, parse_math=False, fontsize=11
        )
        extent = text.get_window_extent(renderer)
        length = extent.width / width + 0.02
        if left + length > 1 and left > 0:
            left, row = 0.0, row + 1
        rows.append((text, left, row))
        left += length
    for text, start, line in rows:
        text.set_position((start, 1 - (line + 0.4) / max(6, row + 1)))


def _bars(axis: Any, values: Values, scale: Scale, cmap: str, labels: Sequence[str] | None, photo: Photo) -> None:
    del scale, photo
    places = np.arange(len(values.values))
    axis.barh(places, _heights(values.values), color=_sign_colours(values.values, cmap))
    axis.axvline(0, color="0.4", linewidth=0.8)
    _mark_lost(axis, values.values, upright=False)
    axis.set_yticks(places, labels=list(labels) if labels is not None else [str(place) for place in places])
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(lambda value, _: values.label(value))
    axis.tick_params(axis="x", labelsize="small")
    _plain_frame(axis)


def _line(axis: Any, values: Values, scale: Scale, cmap: str, labels: Sequence[str] | None, photo: Photo) -> None:
    del scale, photo
    places = np.arange(len(values.values))
    heights = _heights(values.values)
    table = colour_table(cmap)
    for part, row in ((np.maximum(heights, 0), -2), (np.minimum(heights, 0), 1)):
        axis.fill_between(places, part, step="mid", color=hexadecimal(table[row]), linewidth=0)
    axis.axhline(0, color="0.4", linewidth=0.8)
    _mark_lost(axis, values.values, upright=True)
    if labels is not None:
        every = max(1, len(places) // 12)
        axis.set_xticks(places[::every], labels=[labels[place] for place in places[::every]], rotation=45, ha="right")
    axis.yaxis.set_major_formatter(lambda value, _: values.label(value))
    axis.set_ylabel(values.unit, fontsize="small")
    axis.margins(x=0)
    _plain_frame(axis)


def _largest(drawn: Sequence[Values]) -> float:
    return max(float(np.abs(_heights(values.values)).max()) for values in drawn) or 1.0


def _heights(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)


def _sign_colours(values: Array, cmap: str) -> list[str]:
    """Length tells the magnitude, so the colour tells the sign alone."""
    return [hexadecimal(colour) for colour in colours(np.sign(_heights(values)) * 0.7, scale=1.0, cmap=cmap)]


def _mark_lost(axis: Any, values: Array, *, upright: bool) -> None:
    """Magenta crosses on the zero line where a value is NaN or infinite."""
    lost = np.flatnonzero(~np.isfinite(values))
    zeros = np.zeros(len(lost))
    first, second = (lost, zeros) if upright else (zeros, lost)
    axis.plot(first, second, linestyle="none", marker="x", color=hexadecimal(colours(np.nan, scale=1.0)))


def _plain_frame(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)


DRAW = {"picture": _picture, "words": _words, "bars": _bars, "line": _line}
