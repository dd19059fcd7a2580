"""Methods whose shares sum to the difference from a baseline: the ledger of that sum, and the tolerance for its gap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.engine.ledger import Entry, Ledger
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point, Values
from pellucid.errors import InputError
from pellucid.methods.base import per_sample_sum

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["check_tolerance", "completeness_ledger", "missed", "missed_note", "scalar_at"]


def completeness_ledger(output: Tensor, baseline: Tensor, values: Mapping[Point, Tensor]) -> Ledger:
    """``f(x) = f(baseline) + what the inputs got + gap`` over the batch; the gap is what ``unaccounted`` shows."""
    entries = [Entry("baseline", "", math.fsum(baseline.double().tolist()))]
    entries += [Entry("input", point.name, float(value.sum(dtype=torch.float64))) for point, value in values.items()]
    return Ledger(math.fsum(output.double().tolist()), tuple(entries))


def scalar_at(call: Call, scalar: Scalar, values: Values) -> Tensor:
    """The scalar (N,) of every sample with ``values`` (N, ...) at their points."""
    parts = call.function.scalars(1, lambda _, rows: {point: value[rows] for point, value in values.items()}, scalar)
    return torch.cat([part.scalars for part in parts])


def check_tolerance(tolerance: float | None, start: int, most: int, *, what: str) -> None:
    """Refuse a tolerance that cannot be met, and a limit below where the work starts.

    Args:
        tolerance: as it was set.
        start: how many ``what`` are done before the tolerance is looked at.
        most: how many are done at most.
        what: "steps", "samples".

    Raises:
        InputError: says what was expected.
    """
    if tolerance is None:
        return
    if not tolerance > 0:
        raise InputError(f"Expected tolerance > 0, or None for a fixed number of {what}, got {tolerance}.")
    if most < start:
        raise InputError(f"Expected most_{what} >= {what} ({start}) where a tolerance is set, got {most}.")


def missed(values: Mapping[Point, Tensor], differences: Tensor, tolerance: float) -> Tensor:
    """(N,) which samples do not meet ``|sum - difference| <= tolerance |difference|``.

    Args:
        values: the shares, each (N, ...).
        differences: (N,) or (baselines, N), float64: ``f(x) - f(baseline)``. Of several baselines the sum is compared
            with the mean, and the gap with the mean size.
    """
    differences = differences.reshape(-1, differences.shape[-1])
    gap = (per_sample_sum(values) - differences.mean(0)).abs()
    return gap > tolerance * differences.abs().mean(0)


def missed_note(
    late: Tensor, tolerance: float | None, most: int, *, what: str, see: str = "the ledger's gap"
) -> tuple[str, ...]:
    """What to say of the samples ``late`` (N,) that did not meet the tolerance; nothing if there are none."""
    count = int(late.sum())
    if not count or tolerance is None:
        return ()
    return (f"{count} of {len(late)} samples did not meet tolerance={tolerance:g} within {most} {what}: see {see}.",)
