"""How relevance that is no density crosses a node: rules such as flat, w2 and box send it, as they ignore the value.

It moves with the elements of views, slices and joins, passes elementwise functions, norms and operations by a constant,
and has to be turned into a density (G = relevance / value) anywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.engine.ops import Kind, Op
from pellucid.engine.private import CONSTANT_PAD
from pellucid.engine.step import Step
from pellucid.errors import ModelError

__all__ = ["carry", "to_density"]

_MOVES = (Kind.MOVE, Kind.WINNER)
_PASSES = (Kind.ELEMENTWISE, Kind.NORM, Kind.GATE)
_BY_A_CONSTANT = (Kind.DIVISION, Kind.PRODUCT)


def carry(step: Step, relevances: Sequence[Tensor | None]) -> list[Tensor | None] | None:
    """Relevance per operand, or None where it cannot cross without a density."""
    op = step.op
    kind = op.kind if op is not None else None
    plan = step.walk.plan
    if step.index in plan.fold_into:
        return None
    if kind in _MOVES:
        return step.keep_live(step.native(relevances))
    if op is Op.JOIN or step.walk.graph.names[step.index] == CONSTANT_PAD:
        return _join(step, relevances)
    if step.index in plan.regions:
        return [relevances[0]]
    if (kind in _PASSES and op is not Op.STATISTIC) or _meets_constant(step, op, kind, relevances[0]):
        return [relevances[0] if ok else None for ok in step.live]
    return None


def _meets_constant(step: Step, op: Op | None, kind: Kind | None, relevance: Tensor | None) -> bool:
    """x + c, c - x, x * c, x / c with one live operand of the result's own shape: the constant takes nothing."""
    if relevance is None or sum(step.live) != 1 or step.shape(step.live.index(True)) != relevance.shape:
        return False
    return op is Op.ADD or (kind in _BY_A_CONSTANT and op is not Op.MATMUL)


def _join(step: Step, relevances: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Every part takes what lies on it; what lies on dead parts (a learned token, padding) is booked."""
    relevance, record = relevances[0], step.record
    assert relevance is not None
    if record is not None and not (all(step.live) and step.op is Op.JOIN):
        ones = [torch.ones(step.shape(k), dtype=relevance.dtype) for k, ok in enumerate(step.live) if ok]
        on_live = record.without_dead().first(*[one.to(relevance.device) for one in ones])
        source, module = step.walk.plan.origin(record, step.module)
        step.book(source, torch.where(on_live == 0, relevance, 0).sum(), module)
    return step.keep_live(step.native(relevances))


def to_density(step: Step, relevances: Sequence[Tensor | None]) -> list[Tensor | None]:
    """``relevance / value`` per output; relevance at a value of zero is booked as lost.

    Raises:
        ModelError: nothing holds the value.
    """
    densities: list[Tensor | None] = [None] * len(relevances)
    for output, relevance in enumerate(relevances):
        if relevance is None:
            continue
        value = step.walk.values.of((step.index, output))
        if value is None:
            raise ModelError(
                f"Relevance that does not depend on the value (from rules such as flat, w2, box or pass) arrives at "
                f"{step.describe()}, whose value is not kept. Use those rules at the first layer only."
            )
        zero = value == 0
        step.book("lost at zero", torch.where(zero, relevance, 0).sum())
        densities[output] = torch.where(zero, 0, relevance / torch.where(zero, 1, value))
    return densities
