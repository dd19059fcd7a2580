"""Normal noise around explained values, of a strength relative to the range of each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from pellucid.engine.point import Point
from pellucid.errors import InputError
from pellucid.methods.points import shaped
from pellucid.methods.sampling import Draws

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Noise", "check_noise"]


def check_noise(noise: float) -> None:
    """Refuse a strength that is none.

    Raises:
        InputError: ``noise`` is negative or no number.
    """
    if not (isinstance(noise, (int, float)) and 0 <= noise < math.inf):
        raise InputError(f"Expected noise as a number of 0 or more, got {noise!r}.")


class Noise:
    """Values with noise added, the same noise for every sample but for its strength.

    Args:
        call: its seed decides.
        points: the explained values, each (N, ...).
        strength: the standard deviation, in units of the range (highest less lowest value) of each sample at each
            point, or in the units of the values.
        relative: which of the two.
    """

    def __init__(self, call: Call, points: Mapping[Point, Tensor], strength: float, *, relative: bool) -> None:
        self._points, self._strength = points, strength
        self._draws = {point: Draws(call, value.shape[1:], stream=k) for k, (point, value) in enumerate(points.items())}
        self._spread = {
            point: _range(value) * strength if relative else value.new_full((len(value),), strength)
            for point, value in points.items()
        }

    def around(self, numbers: Tensor, rows: Tensor) -> dict[Point, Tensor]:
        """(n, ...) the values of the samples ``rows`` (n,), each with the draw of its number (n,)."""
        if not self._strength:
            return {point: value[rows] for point, value in self._points.items()}
        made = {}
        for point, value in self._points.items():
            noise = self._draws[point].of(numbers).to(value.dtype)
            made[point] = noise.mul_(shaped(self._spread[point][rows], noise)).add_(value[rows])
        return made

    def notes(self) -> tuple[str, ...]:
        """What to say of samples without a range, which get no noise."""
        flat = [str(point) for point, spread in self._spread.items() if self._strength and bool((spread == 0).any())]
        if not flat:
            return ()
        return (
            f"All values of a sample are equal at the {', '.join(flat)}, so noise relative to their range is none: "
            "give noise= in their units, with relative=False.",
        )


def _range(value: Tensor) -> Tensor:
    flat = value.reshape(len(value), -1)
    return flat.amax(1) - flat.amin(1)
