"""The book in which a walk writes every amount of relevance that leaves it; closed, it is the ledger."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from pellucid.engine.ledger import Entry, Ledger

__all__ = ["Book"]


class Book:
    """Amounts by source and module, kept as 0-d tensors so that nothing waits for the device until the end."""

    def __init__(self) -> None:
        self._amounts: dict[tuple[str, str], list[Tensor]] = defaultdict(list)

    def add(self, source: str, module: str, amount: Tensor) -> None:
        """Write ``amount`` (0-d, real) under ``source`` at ``module``."""
        self._amounts[source, module].append(amount.detach())

    def close(self, total: Tensor) -> Ledger:
        """Sum up in float64 on the CPU; ``total`` is the explained scalar summed over the batch."""
        keys = [key for key, amounts in self._amounts.items() for _ in amounts]
        values = [amount.reshape(()) for amounts in self._amounts.values() for amount in amounts]
        numbers = _to_floats(values)
        sums: dict[tuple[str, str], float] = defaultdict(float)
        for key, number in zip(keys, numbers, strict=True):
            sums[key] += number
        entries = tuple(Entry(source, module, amount) for (source, module), amount in sums.items())
        return Ledger(total=float(total), entries=entries)


def _to_floats(values: list[Tensor]) -> list[float]:
    """One transfer per dtype and device instead of one per number."""
    groups: dict[tuple[torch.dtype, torch.device], list[int]] = defaultdict(list)
    for i, value in enumerate(values):
        groups[value.dtype, value.device].append(i)
    numbers = [0.0] * len(values)
    for members in groups.values():
        for i, number in zip(members, torch.stack([values[i] for i in members]).tolist(), strict=True):
            numbers[i] = number
    return numbers
