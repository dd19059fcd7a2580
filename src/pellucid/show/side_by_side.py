"""The maps of a comparison on one scale, and one Pillow picture of them. Needs no matplotlib.

Methods differ in unit and size, so each map is divided by the same statistic of its own: the 99.5th percentile of its
magnitudes (for fewer than 1000 values the largest). The full colour stands for that in every map.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from pellucid.errors import InputError
from pellucid.show.colours import DEFAULT_MAP
from pellucid.show.heatmap import (
    BAR,
    INK,
    MARGIN,
    PAPER,
    QUIET,
    draw_bar,
    font,
    overlay,
    photo_from_input,
    scalar_line,
    upright,
    wrap,
)
from pellucid.show.values import (
    LARGEST,
    PERCENTILE,
    ZERO,
    Values,
    choose_input,
    reach_text,
    robust_scale,
    sample_values,
)

if TYPE_CHECKING:
    from pellucid.comparison import Comparison, Spent
    from pellucid.explanation import Explanation, Pooling

UNIT = "in units of each map's own"
LABELS = ["+1", "+0.5", "0", "-0.5", "-1"]


@dataclass(frozen=True)
class Panel:
    """One method's map.

    Args:
        method: its name in the comparison.
        sample: the explanation of the sample.
        input: which explained input.
        values: divided by the map's statistic, so that the full colour is at 1.
        reach: what 1 stands for, in words.
        statistic: what the map was divided by, in words.
        cost: of the method for the whole batch.
    """

    method: str
    sample: Explanation
    input: str
    values: Values
    reach: str
    statistic: str
    cost: Spent


def panels(
    comparison: Comparison,
    *,
    sample: int = 0,
    input: str | int | None = None,
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
) -> list[Panel]:
    """The maps of one sample, every one divided by its own statistic.

    Args:
        comparison: of one or more samples.
        sample: which.
        input: as in :func:`pellucid.show.values.sample_values`, like all that follow.

    Raises:
        InputError: no such sample or input, or its relevance cannot be drawn.
    """
    found = []
    for method, one in comparison.sample(sample).explanations.items():
        values = sample_values(one, input=input, pool=pool, smooth=smooth, block=block)
        scale = robust_scale([values])
        reach = reach_text(values, scale)
        relative = replace(values, values=values.values / scale.limit, unit=f"{UNIT} {scale.reason}", percent=False)
        found.append(
            Panel(method, one, choose_input(one, input), relative, reach, scale.reason, comparison.costs[method])
        )
    return found


def statistic_line(statistics: Mapping[str, str]) -> str:
    """ "every map is divided by the 99.5th percentile of its own magnitudes", and which maps are not.

    Args:
        statistics: by method, the reason of its scale.
    """
    divided = {method: reason for method, reason in statistics.items() if reason != ZERO}
    if not divided:
        return ZERO
    usual, _ = Counter(divided.values()).most_common(1)[0]
    robust = f"the {PERCENTILE}th percentile of its own magnitudes"
    text = f"every map is divided by {'its own largest magnitude' if usual == LARGEST else robust}"
    others = [f"{method}: {reason}" for method, reason in divided.items() if reason != usual]
    return f"{text} ({'; '.join(others)})" if others else text


def picture(
    comparison: Comparison,
    *,
    photo: Image.Image | None = None,
    sample: int = 0,
    input: str | int | None = None,
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
    cmap: str = DEFAULT_MAP,
    title: str | None = None,
    size: int = 224,
    columns: int | None = None,
) -> Image.Image:
    """The photo and all maps of one sample in a grid, in the order of the methods.

    Args:
        comparison: with relevance of pictures.
        photo: as in :func:`pellucid.show.heatmap.heatmap`, like all that follow but ``columns``.
        sample: which sample.
        input: which explained input, where there are several pictures.
        pool: over the channels.
        smooth: spread for display.
        block: blocks summed for display.
        cmap: a name in :data:`pellucid.show.colours.MAPS`.
        title: a line on top.
        size: least length in pixels of the longer side of every map.
        columns: tiles beside each other; None: as a picture of about the shape of a page.

    Raises:
        InputError: there is no such sample or input, or the relevance is no picture.
    """
    found = panels(comparison, sample=sample, input=input, pool=pool, smooth=smooth, block=block)
    first = found[0]
    photo = photo_of(found) if photo is None else photo
    tiles = [(panel.method, overlay(panel.values.values, photo, scale=1.0, cmap=cmap, size=size)) for panel in found]
    notes = [[str(panel.cost), panel.reach] for panel in found]
    if photo is not None:
        tiles.insert(0, ("the input", photo.convert("RGB").resize(tiles[0][1].size, Image.Resampling.LANCZOS)))
        notes.insert(0, [])
    if columns is None:
        columns = min(len(tiles), max(4, math.ceil(math.sqrt(1.6 * len(tiles)))))
    if columns < 1:
        raise InputError(f"columns must be a whole number from 1; got {columns}.")
    heading = title if title is not None else scalar_line(first.sample)
    lines = [
        statistic_line({panel.method: panel.statistic for panel in found}),
        *("; ".join(first.values.notes),) * bool(first.values.notes),
    ]
    if comparison.left_out:
        lines.append(f"left out: {', '.join(comparison.left_out)}")
    return _grid(tiles, notes, columns, heading, [*lines, *comparison.warnings], cmap)


def photo_of(found: list[Panel]) -> Image.Image | None:
    """A picture of the explained input, from the first explanation that holds it."""
    shown = (photo_from_input(panel.sample, panel.input, panel.values.values.shape) for panel in found)
    return next((photo for photo in shown if photo is not None), None)


def _grid(
    tiles: list[tuple[str, Image.Image]],
    notes: list[list[str]],
    columns: int,
    heading: str,
    lines: list[str],
    cmap: str,
) -> Image.Image:
    name_font, small, title_font = font(15, bold=True), font(12), font(20, bold=True)
    width, height = tiles[0][1].size
    wrapped = [[part for note in about for part in wrap(note, small, width)] for about in notes]
    names = [wrap(name, name_font, width) for name, _ in tiles]
    count = -(-len(tiles) // columns)
    rows = [range(row * columns, min((row + 1) * columns, len(tiles))) for row in range(count)]
    above = [20 * max(len(names[k]) for k in row) + 2 for row in rows]
    below = [16 * max(len(wrapped[k]) for k in row) + 14 for row in rows]
    beside = BAR + 8 + int(small.getlength("+0.5")) + 32
    total = MARGIN + (width + MARGIN) * columns + beside + MARGIN
    titles = wrap(heading, title_font, total - 2 * MARGIN)
    written = [part for line in lines for part in wrap(line, font(14), total - 2 * MARGIN)]
    top = MARGIN + 26 * len(titles) + 8
    tall = top + sum(above) + count * height + sum(below)
    canvas = Image.new("RGB", (total, tall + 20 * len(written) + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(titles):
        draw.text((MARGIN, MARGIN + 26 * number - 4), line, fill=INK, font=title_font)
    y = top
    for row, over, under in zip(rows, above, below, strict=True):
        for place, k in enumerate(row):
            left = MARGIN + place * (width + MARGIN)
            for number, line in enumerate(names[k]):
                draw.text((left, y + over - 20 * (len(names[k]) - number)), line, fill=INK, font=name_font)
            canvas.paste(tiles[k][1], (left, y + over))
            for number, line in enumerate(wrapped[k]):
                draw.text((left, y + over + height + 4 + 16 * number), line, fill=QUIET, font=small)
        y += over + height + under
    right = MARGIN + columns * (width + MARGIN)
    draw_bar(canvas, (right, top + above[0]), height, LABELS, cmap)
    upright(canvas, "relative relevance", small, right=total - MARGIN, middle=top + above[0] + height // 2)
    for number, line in enumerate(written):
        draw.text((MARGIN, tall + 20 * number), line, fill=INK if number == 0 else QUIET, font=font(14))
    return canvas
