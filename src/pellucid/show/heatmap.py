"""Signed relevance over a grey photo, with a colour bar and words, as one Pillow picture. Needs no matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pellucid.errors import InputError
from pellucid.show.colours import DEFAULT_MAP, NEUTRAL, NOT_FINITE, Array, Pixels, colours
from pellucid.show.shares import digits, elsewhere_line, share_line
from pellucid.show.values import Scale, Values, choose_input, measured, sample_values, scale_lines, scale_of
from pellucid.structures import as_float, named_tensors

if TYPE_CHECKING:
    from pellucid.explanation import Explanation, Pooling

Face = ImageFont.FreeTypeFont | ImageFont.ImageFont
PAPER, INK, QUIET = (255, 255, 255), (24, 24, 27), (95, 95, 103)
MARGIN = 18
BAR = 16
ASPECT = 0.02
"""By how much a photo's aspect may differ from its relevance's before it cannot be what the model saw."""


def heatmap(
    explanation: Explanation,
    *,
    photo: Image.Image | None = None,
    index: int = 0,
    input: str | int | None = None,
    scale: float | None = None,
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
    cmap: str = DEFAULT_MAP,
    title: str | None = None,
    size: int = 448,
) -> Image.Image:
    """The picture of one sample: the photo, the relevance over it in grey, the colour bar, and what was done.

    Args:
        explanation: with relevance of a picture, (N, C, H, W), or a volume, whose slices are summed.
        photo: what the model saw, cropped as it was (``Preprocessing.display``). None: made from the explanation's
            input where it holds one, else plain paper.
        index: which sample.
        input: which explained input, where there are several pictures.
        scale: the magnitude of the full colour, in the unit of the colour bar as a fraction (0.01 is 1 % of the
            output); give the same to pictures that are to be compared. None: the 99.5th percentile of this one.
        pool: over the channels, as in :meth:`Explanation.pool`.
        smooth: standard deviation in pixels of a Gaussian for display, total kept; 0 shows every pixel's own value.
            None: 1 for pictures of 100 pixels and more, else 0.
        block: side of square blocks of pixels to sum over for display.
        cmap: a name in :data:`pellucid.show.colours.MAPS`.
        title: a line on top. None: the explained scalar and its value.
        size: least length in pixels of the longer side of the map; whole multiples of the relevance are drawn.

    Raises:
        InputError: there is no such sample or input, the relevance is no picture, or the photo has another aspect.
    """
    values = sample_values(explanation, index=index, input=input, pool=pool, smooth=smooth, block=block)
    sample = explanation[index]
    photo = photo if photo is not None else photo_from_input(sample, choose_input(sample, input), values.values.shape)
    chosen = scale_of(scale, [values])
    values = measured(values, chosen)
    panel = overlay(values.values, photo, scale=chosen.limit, cmap=cmap, size=size)
    panels = [panel] if photo is None else [photo.convert("RGB").resize(panel.size, Image.Resampling.LANCZOS), panel]
    notes = ["; ".join(values.notes)] if values.notes else []
    heading = title if title is not None else scalar_line(sample)
    lines = [method_line(sample), *filter(None, [elsewhere_line(sample.ledger)]), *notes, *scale_lines(values, chosen)]
    return _compose(panels, heading, lines, values, chosen, cmap)


def overlay(
    values: Array, photo: Image.Image | None, *, scale: float, cmap: str = DEFAULT_MAP, size: int = 448
) -> Image.Image:
    """The map alone: relevance as ink on a pale grey photo. No relevance leaves the photo as it is.

    Args:
        values: (H, W). NaN and infinities become a magenta check.
        photo: any size, of the same aspect as ``values``; None for plain paper.
        scale: the magnitude of the full colour.
        cmap: a name in :data:`pellucid.show.colours.MAPS`.
        size: least length of the longer side; every value becomes a square of whole pixels.

    Raises:
        InputError: ``values`` is no picture, the photo has another aspect, or the scale or map cannot be used.
    """
    if values.ndim != 2:
        raise InputError(f"a heatmap needs relevance of a picture, (H, W) after pooling; got shape {values.shape}.")
    height, width = values.shape
    factor = max(1, -(-size // max(height, width)))
    large = values.repeat(factor, axis=0).repeat(factor, axis=1)
    ink: Array = colours(large, scale=scale, cmap=cmap).astype(np.float64)
    finite = np.isfinite(large)
    # Weak relevance tints the photo (a product, so that it never lightens it); from half the scale on the ink covers,
    # so that the upper half of the colour bar reads without the photo's greys.
    cover = np.clip(2 * np.abs(np.where(finite, large, 0.0)) / scale, 0, 1)[..., None] ** 2
    tinted = _pale(photo, (width * factor, height * factor)) * ink / np.asarray(NEUTRAL)
    pixels = (1 - cover) * tinted + cover * ink
    pixels[~finite] = _check(large.shape)[~finite]
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def photo_from_input(sample: Explanation, name: str, shape: tuple[int, ...]) -> Image.Image | None:
    """A picture of the explained input, its range stretched to black and white; None where it holds no such input."""
    tensor = named_tensors(sample.input).get(name)
    if tensor is None or tensor.ndim != 4 or tensor.shape[1] not in (1, 3) or tuple(tensor.shape[2:]) != tuple(shape):
        return None
    array = as_float(tensor)[0].numpy()
    if not np.isfinite(array).all():
        return None
    low, high = array.min(), array.max()
    stretched = (array - low) / (high - low) if high > low else np.full_like(array, 0.5)
    pixels = (255 * stretched).round().astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")


def scalar_line(sample: Explanation) -> str:
    """ "tabby~rest = 12.3": the explained scalar of a single sample and its value."""
    return f"{sample.target[0]} = {digits(float(sample.output[0]))}"


def method_line(sample: Explanation) -> str:
    """ "lrp (epsilon-plus); the relevance sums to 98.2 % of the output"."""
    composite = sample.settings.get("composite")
    method = f"{sample.method} ({composite})" if composite else sample.method
    so_far = "interrupted: the estimate so far" if sample.settings.get("partial") else ""
    return "; ".join(filter(None, [method, so_far, share_line(sample)]))


def font(size: int, *, bold: bool = False) -> Face:
    """DejaVu where it is installed, since it knows most letters, else the font that Pillow brings."""
    try:
        return ImageFont.truetype(f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def _pale(photo: Image.Image | None, size: tuple[int, int]) -> Array:
    """The photo in pale greys, (H, W, 3), or the map's neutral colour."""
    if photo is None:
        return np.broadcast_to(np.asarray(NEUTRAL, dtype=np.float64), (size[1], size[0], 3))
    if abs(photo.width * size[1] / (photo.height * size[0]) - 1) > ASPECT:
        raise InputError(
            f"the photo is {photo.width} x {photo.height} pixels, the relevance has the aspect {size[0]} x {size[1]}: "
            "give the picture that the model saw, cropped as it was (Preprocessing.display)."
        )
    grey = np.asarray(photo.convert("L").resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    return np.repeat((110 + grey * 145 / 255)[..., None], 3, axis=-1)


def _check(shape: tuple[int, ...], *, side: int = 3) -> Pixels:
    rows, columns = np.indices(shape[:2])
    dark = ((rows // side + columns // side) % 2).astype(bool)
    return np.where(dark[..., None], np.uint8(30), np.asarray(NOT_FINITE, dtype=np.uint8))


def _compose(
    panels: list[Image.Image], heading: str, lines: list[str], values: Values, scale: Scale, cmap: str
) -> Image.Image:
    """Panels side by side, the colour bar at their right, the heading above, the lines below."""
    title_font, small = font(20, bold=True), font(14)
    width, height = panels[0].size
    labels = [values.label(scale.limit * part) for part in (1, 0.5, 0, -0.5, -1)]
    labels = [f"+{label}" if number < 2 else label for number, label in enumerate(labels)]
    beside = BAR + 10 + int(max(small.getlength(label) for label in labels)) + 26
    total = MARGIN + (width + MARGIN) * len(panels) + beside + MARGIN
    fits = small.getlength(values.unit) <= height
    lines = lines if fits else [lines[0], f"the colours show the {values.unit}", *lines[1:]]
    inks = [INK] + [QUIET] * (len(lines) - 1)
    written = [
        (part, ink) for line, ink in zip(lines, inks, strict=True) for part in wrap(line, small, total - 2 * MARGIN)
    ]
    titles = wrap(heading, title_font, total - 2 * MARGIN)
    top = MARGIN + 26 * len(titles) + 8
    canvas = Image.new("RGB", (total, top + height + 12 + 20 * len(written) + MARGIN - 4), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(titles):
        draw.text((MARGIN, MARGIN + 26 * number - 4), line, fill=INK, font=title_font)
    left = MARGIN
    for panel in panels:
        canvas.paste(panel, (left, top))
        left += width + MARGIN
    draw_bar(canvas, (left, top), height, labels, cmap)
    if fits:
        upright(canvas, values.unit, small, right=total - MARGIN, middle=top + height // 2)
    for number, (line, ink) in enumerate(written):
        draw.text((MARGIN, top + height + 12 + 20 * number), line, fill=ink, font=small)
    return canvas


def draw_bar(canvas: Image.Image, corner: tuple[int, int], height: int, labels: list[str], cmap: str) -> None:
    """An upright colour bar, the highest value on top, with labels at equal steps from top to bottom."""
    left, top = corner
    draw, small = ImageDraw.Draw(canvas), font(14)
    strip = np.linspace(1.0, -1.0, height)[:, None].repeat(BAR, axis=1)
    canvas.paste(Image.fromarray(colours(strip, scale=1.0, cmap=cmap)), corner)
    draw.rectangle((left, top, left + BAR - 1, top + height - 1), outline=QUIET)
    for number, label in enumerate(labels):
        y = top + round(number * (height - 1) / (len(labels) - 1))
        draw.line((left + BAR, y, left + BAR + 4, y), fill=QUIET)
        anchor = "lt" if number == 0 else "lb" if number == len(labels) - 1 else "lm"
        draw.text((left + BAR + 8, y), label, fill=INK, font=small, anchor=anchor)


def upright(canvas: Image.Image, text: str, face: Face, *, right: int, middle: int) -> None:
    """Write ``text`` turned by a quarter, ending at ``right``."""
    label = Image.new("RGB", (int(face.getlength(text)) + 2, 20), PAPER)
    ImageDraw.Draw(label).text((1, 1), text, fill=QUIET, font=face)
    label = label.rotate(90, expand=True)
    canvas.paste(label, (right - label.width, middle - label.height // 2))


def wrap(text: str, face: Face, width: int) -> list[str]:
    """Lines that fit ``width`` pixels; a single word that does not is cut and marked."""
    lines = [""]
    for word in " ".join(text.split()).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    for number, line in enumerate(lines):
        if face.getlength(line) > width:
            while line and face.getlength(line + "...") > width:
                line = line[:-1]
            lines[number] = line + "..."
    return lines
