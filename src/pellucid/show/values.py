"""From an explanation to the numbers of one picture: which input, which pooling, in which unit, on which scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pellucid.errors import InputError
from pellucid.show.colours import Array, check_scale
from pellucid.show.shares import PERCENT, Parts, digits, parts_of
from pellucid.structures import as_float, named_tensors

if TYPE_CHECKING:
    from pellucid.explanation import Explanation, Pooling

PERCENTILE = 99.5
SMOOTHED_FROM = 100
LARGEST = "the largest magnitude"
ZERO = "all values are zero"
CHANNELS = {"sum": "channels summed", "abs": "magnitudes of the channels summed", "positive": "positive parts summed"}


@dataclass(frozen=True)
class Values:
    """What one picture draws.

    Args:
        values: (H, W) of a picture, (L,) of tokens, features or steps; in ``unit``.
        unit: of every value, for the colour bar: "share of the output per pixel".
        percent: whether a value of 1 means 100 % (a share).
        notes: what was done to the relevance on the way.
        parts: of a share, what labels count in, see :func:`measured`.
    """

    values: Array
    unit: str
    percent: bool
    notes: tuple[str, ...]
    parts: Parts = PERCENT

    def label(self, value: float) -> str:
        """A value with its unit's sign, in three digits: "0.052 %"."""
        if not math.isfinite(value):
            return str(value)
        return f"{digits(value / self.parts.size)} {self.parts.sign}" if self.percent else digits(value)


@dataclass(frozen=True)
class Scale:
    """The magnitude of the full colour, and in words where it comes from."""

    limit: float
    reason: str


def sample_values(
    explanation: Explanation,
    *,
    index: int = 0,
    input: str | int | None = None,
    pool: Pooling = "sum",
    smooth: float | None = None,
    block: int = 1,
) -> Values:
    """The pooled relevance of one sample as a share of its output.

    Where the output is negative the share is of its magnitude, so that a positive value always speaks for a higher
    output. Where it is 0 or not finite, and where the method's unit is another (``settings["unit"]``), the relevance
    is left as it is and the unit says so.

    Args:
        explanation: of one or more samples.
        index: which sample.
        input: name of the input, as in :meth:`Explanation.named`; may be left out where there is one, or one picture.
        pool: over the channels, as in :meth:`Explanation.pool`.
        smooth: standard deviation in pixels of a Gaussian that spreads the relevance for display, its total kept;
            0 for none. None: 1 for pictures of 100 pixels and more, where single pixels are not seen, else 0.
        block: side in pixels of square blocks that relevance is summed over for display; 1 for none.

    Raises:
        InputError: no such sample, input, pooling, or the relevance has no form that can be drawn.
    """
    if not -len(explanation) <= index < len(explanation):
        raise InputError(f"there is no sample {index} in an explanation of {len(explanation)} samples.")
    sample = explanation[index]
    name = choose_input(sample, input)
    pooled = sample.pool(pool)
    if isinstance(pooled, dict):
        tensor = pooled[name]
    else:
        tensor = pooled if isinstance(pooled, torch.Tensor) else pooled[int(name)]  # type: ignore[assignment]
    before = sample.named()[name]
    values: Array = as_float(tensor)[0].numpy() if tensor.ndim > 1 else as_float(tensor).numpy()
    notes = [CHANNELS[pool]] if before.ndim > 2 and before.shape[-1 if before.ndim == 3 else 1] > 1 else []
    if not notes and pool != "sum":
        notes.append({"abs": "magnitudes", "positive": "positive part"}[pool])
    if values.ndim == 3:
        notes.append(f"summed over {len(values)} frames or slices")
        values = values.sum(0)
    if values.ndim > 2 or values.size == 0:
        raise InputError(
            f"relevance of shape {tuple(before.shape)} of input {name!r} cannot be drawn. Draw one that is, with its "
            "batch dimension, a picture, a volume, a sequence or a row of features."
        )
    place = "per pixel" if values.ndim == 2 else "per token" if is_text(sample, name) else "per value"
    if values.ndim == 2:
        values, spread = _for_display(values, smooth=smooth, block=block)
        notes += spread
        place = place if block == 1 else f"per {block} x {block} pixels"
    output = float(as_float(sample.output)[0])
    if "unit" in sample.settings:
        return Values(values, f"{sample.settings['unit']}, {place}", False, tuple(notes))
    if output == 0 or not math.isfinite(output):
        return Values(values, f"relevance {place} (the output is {output:g})", False, tuple(notes))
    whole = "the output" if output > 0 else "the output's magnitude"
    return Values(values / abs(output), f"share of {whole} {place}", True, tuple(notes))


def measured(values: Values, scale: Scale) -> Values:
    """``values`` with labels in a unit in which the full colour is a number that reads well: %, ppm, ppb.

    A share of a photo's pixel is rarely more than a few millionths.
    """
    if not values.percent:
        return values
    parts = parts_of(scale.limit)
    return replace(values, parts=parts, unit=values.unit.replace(values.parts.words, parts.words, 1))


def binned(values: Values, most: int) -> Values:
    """At most ``most`` values of a row: neighbours are summed where there are more, and the unit and notes say so."""
    row = values.values
    width = -(-len(row) // most)
    if width == 1:
        return values
    sums = np.pad(row, (0, -len(row) % width)).reshape(-1, width).sum(1)
    unit = values.unit.replace("per value", f"per {width} values")
    return replace(values, values=sums, unit=unit, notes=(*values.notes, f"summed over {width} neighbours"))


def choose_input(explanation: Explanation, name: str | int | None) -> str:
    """The input to draw: the one named, else the only one, else the only picture.

    Raises:
        InputError: there is no such input, or the choice is open.
    """
    named = explanation.named()
    listed = ", ".join(f"{key!r} {tuple(tensor.shape)}" for key, tensor in named.items())
    if name is not None:
        if str(name) not in named:
            raise InputError(f"there is no explained input {name!r}; there is {listed}.")
        return str(name)
    pictures = [key for key, tensor in named.items() if tensor.ndim in (4, 5)]
    for choice in (list(named), pictures):
        if len(choice) == 1:
            return choice[0]
    raise InputError(f"several inputs were explained; name the one to draw with input=: {listed}.")


def is_text(sample: Explanation, name: str) -> bool:
    """Whether an input is a sequence of token ids or of embeddings, as far as the explanation tells."""
    held = named_tensors(sample.input).get(name)
    return (held is not None and not held.is_floating_point()) or sample.named()[name].ndim == 3


def robust_scale(drawn: Iterable[Values]) -> Scale:
    """One scale for all of ``drawn``: the 99.5th percentile of the finite magnitudes, not bent by a few outliers.

    Where that is 0 (nearly all values are) it is the maximum; where all are 0 it is 1.
    """
    magnitudes = np.concatenate([np.abs(item.values[np.isfinite(item.values)]).ravel() for item in drawn])
    # Few values have no tail to be robust against: tokens and features get their largest.
    if magnitudes.size >= 1000:
        limit = float(np.percentile(magnitudes, PERCENTILE))
        if limit > 0:
            return Scale(limit, f"{PERCENTILE}th percentile of the magnitudes")
    limit = float(magnitudes.max(initial=0.0))
    return Scale(limit, LARGEST) if limit > 0 else Scale(1.0, ZERO)


def scale_of(scale: float | None, drawn: Sequence[Values]) -> Scale:
    """The scale that the caller gave, else the robust one of ``drawn``.

    Raises:
        InputError: the scale given is not a positive finite number.
    """
    if scale is None:
        return robust_scale(drawn)
    check_scale(scale)
    return Scale(float(scale), "given")


def shared_scale(explanations: Iterable[Explanation], **options: object) -> float:
    """One scale for the pictures of all samples of several explanations, for ``scale=`` of what draws them.

    Args:
        explanations: their samples' values are put together.
        options: input, pool, smooth, block, as in :func:`sample_values`.
    """
    drawn = [
        sample_values(explanation, index=index, **options)  # type: ignore[arg-type]
        for explanation in explanations
        for index in range(len(explanation))
    ]
    return robust_scale(drawn).limit


def check_display(smooth: float | None, block: int) -> None:
    """Refuse what pictures cannot be smoothed or summed by.

    Raises:
        InputError: ``smooth`` is negative or not finite, or ``block`` is no whole number from 1.
    """
    if not (smooth is None or (smooth >= 0 and math.isfinite(smooth))):
        raise InputError(f"smooth must be a number of pixels, at least 0; got {smooth!r}.")
    if not (isinstance(block, int) and block >= 1):
        raise InputError(f"block must be a whole number of pixels from 1; got {block!r}.")


def scale_lines(values: Values, scale: Scale) -> list[str]:
    """What the colours mean: the full colour and its reason, what lies beyond, what is not finite."""
    finite = values.values[np.isfinite(values.values)]
    beyond = int((np.abs(finite) > scale.limit * (1 + 1e-9)).sum())
    text = f"full colour at {values.label(scale.limit)} ({scale.reason})"
    if beyond:
        text += f"; {digits(100 * beyond / finite.size)} % of the values lie beyond"
    return [text, *lost_lines(values)]


def reach_text(values: Values, scale: Scale) -> str:
    """What the full colour stands for: "1 = 0.052 % of the output per pixel"."""
    if scale.reason == ZERO:
        return ZERO
    values = measured(values, scale)
    unit = values.unit.removeprefix(f"{values.parts.words} ") if values.percent else values.unit
    return f"1 = {values.label(scale.limit)} {unit}"


def lost_lines(values: Values) -> list[str]:
    """How many values are not finite, if any are."""
    lost = int((~np.isfinite(values.values)).sum())
    return [f"{lost} {'value is' if lost == 1 else 'values are'} NaN or infinite (magenta)"] if lost else []


def _for_display(values: Array, *, smooth: float | None, block: int) -> tuple[Array, list[str]]:
    """Blocks summed, then smoothed with the total kept; what is not finite stays so and spreads to nobody."""
    check_display(smooth, block)
    if smooth is None:
        smooth = 1.0 if block == 1 and min(values.shape) >= SMOOTHED_FROM else 0.0
    notes = []
    if block > 1:
        height, width = values.shape
        padded = np.pad(values, ((0, -height % block), (0, -width % block)))
        values = padded.reshape(len(padded) // block, block, -1, block).sum((1, 3))
        notes.append(f"summed over blocks of {block} x {block} pixels")
    if smooth:
        finite = np.isfinite(values)
        spread = np.where(finite, values, 0.0)
        for axis, length in enumerate(values.shape):
            spread = np.tensordot(_gaussian(length, smooth), spread, axes=(1, axis))
            spread = np.moveaxis(spread, 0, axis)
        values = np.where(finite, spread, values)
        notes.append(f"smoothed, sigma {smooth:g} {'pixel' if block == 1 else 'block'}{'' if smooth == 1 else 's'}")
    return values, notes


def _gaussian(length: int, sigma: float) -> Array:
    """Matrix (to, from) whose columns sum to 1: every value keeps its total, at the border too."""
    places = np.arange(length, dtype=np.float64)
    weights = np.exp(-((places[:, None] - places[None, :]) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(0, keepdims=True))
