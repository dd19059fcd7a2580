"""Quotients of two signals, also where they are written as a product with a reciprocal.

With y = a / b, the product a = y b by the rule of two factors, solved for the difference of y, gives
``y - y0 = 2 / (b + b0) (a - a0) - (y + y0) / (b + b0) (b - b0)``. It is exact, as ``(1/b + 1/b0) / 2`` for a would be,
but stays as small as the greater divisor makes it: a norm at a baseline of zeros divides by next to nothing there, and
multipliers of thousands would cancel. Where the two divisors have different signs, the other form is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.engine.graph import Edge
from pellucid.engine.numerics import reduce_to
from pellucid.engine.ops import Kind
from pellucid.engine.pair import Both
from pellucid.engine.private import DIV, MUL, POWER_OF_NUMBER, RECIPROCALS, saved
from pellucid.rules.difference.linear import factors

__all__ = ["add_quotient", "divide", "product"]

_HOPS = 8


def divide(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """``a / b``."""
    if both.records[0].kwargs.get("rounding_mode") is not None:
        raise both.refuse("it rounds its result.")
    density = arrived[0]
    if density is None or not both.live[1]:
        return both.native(arrived)
    (a, b, *_), _ = both.records[0].arguments()
    (a0, b0, *_), _ = both.records[1].arguments()
    return _fitted(both, dict(enumerate(_divided(density, a, a0, b, b0))))


def add_quotient(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """``t + c a / b``."""
    density = arrived[0]
    if density is None:
        return [None] * len(both.live)
    (_, a, b), settings = both.records[0].arguments()
    (_, a0, b0), _ = both.records[1].arguments()
    numerator, divisor = _divided(density * settings.get("value", 1), a, a0, b, b0)
    return _fitted(both, {0: density, 1: numerator, 2: divisor})


def product(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """``a * b``; a quotient where one of them is a reciprocal."""
    density = arrived[0]
    found = [k for k in (0, 1) if both.live[k] and _is_reciprocal(both, both.here.walk.graph.edges[both.here.index][k])]
    if density is None or sum(both.live) < 2 or len(found) != 1:
        return factors(both, arrived)
    (k,) = found
    steps = both.here, both.there
    factor, factor0 = (saved(step.node, ("self", "other")[k]) for step in steps)
    signal, signal0 = (saved(step.node, ("other", "self")[k]) for step in steps)
    if factor is None or factor0 is None or signal is None or signal0 is None:
        return factors(both, arrived)
    alike = factor * factor0 > 0
    total = torch.where(alike, factor + factor0, 2)
    along = torch.where(alike, 2 * factor * factor0 / total, (factor + factor0) / 2)
    results = torch.where(alike, signal * factor + signal0 * factor0, signal + signal0)
    return _fitted(both, {1 - k: density * along, k: density * results / total})


def _divided(density: Tensor, a: Tensor | float, a0: Tensor | float, b: Tensor, b0: Tensor) -> tuple[Tensor, Tensor]:
    """What arrives at numerator and divisor."""
    alike = b * b0 > 0
    total = torch.where(alike, b + b0, 1)
    along = torch.where(alike, 2 / total, (1 / b + 1 / b0) / 2)
    against = torch.where(alike, (a / b + a0 / b0) / total, (a + a0) / (2 * b * b0))
    return density * along, -density * against


def _fitted(both: Both, messages: dict[int, Tensor]) -> list[Tensor | None]:
    return [
        reduce_to(messages[k], both.here.shape(k)).to(messages[k].dtype).detach() if live else None
        for k, live in enumerate(both.live)
    ]


def _is_reciprocal(both: Both, edge: Edge) -> bool:
    """Whether the value on ``edge`` is one over something, seen through views, casts and constant factors."""
    graph, plan = both.here.walk.graph, both.here.walk.plan
    for _ in range(_HOPS):
        i = edge[0]
        name, op = graph.names[i], graph.ops[i]
        if name in RECIPROCALS or (name == DIV and not plan.live[i][0]):
            return True
        if name == POWER_OF_NUMBER:
            record = both.here.walk.observer.records.get(graph.sequence(i))
            exponent = record.args[1] if record is not None and len(record.args) > 1 else None
            return isinstance(exponent, (int, float)) and exponent < 0
        live = [source for source, ok in zip(graph.edges[i], plan.live[i], strict=True) if ok]
        through = op is not None and (op.kind is Kind.MOVE or name == MUL) and len(live) == 1
        if not through or i in plan.sources:
            return False
        edge = live[0]
    return False
