"""One step back through the recorded graph: which element of an operand stands where an element of the result stands.

Only positions matter. What moves elements (views, slices, joins, padding) is run again on their numbers, so that it is
followed exactly whatever it does. An element that several meet in stands at the first of them; which of several
operands is followed is the caller's choice, who knows how far each leads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.graph import Graph
from pellucid.engine.observer import Observer
from pellucid.engine.ops import Kind, Op
from pellucid.engine.private import (
    ADDMM,
    BADDBMM,
    BMM,
    CONSTANT_PAD,
    DENSE,
    FACTORS,
    GLU,
    GROWING,
    MM,
    MV,
    WHERE,
    metadata,
)
from pellucid.engine.record import Live, Record

__all__ = ["SPATIAL", "Choice", "Part", "choices", "part_of"]

SPATIAL = frozenset((Op.CONVOLUTION, Op.AVERAGE_POOL, Op.MAX_POOL, Op.RESAMPLE))
"""Operations whose result has batch, channels and then one dimension per axis."""

_HOP = 1e-3
_MIXED = 1.0
"""An operation in which positions stay apart by its own word only: a product of matrices."""
_LOST = 10.0
"""An operation through which positions are lost for a part of the operand: a mean, a stretched operand."""
_OPERANDS = {node: FACTORS[node] for node in (ADDMM, MM, DENSE, BMM, BADDBMM, MV)}
_IDENTITY = frozenset((Kind.ELEMENTWISE, Kind.GATE, Kind.NORM, Kind.SOFTMAX, Kind.PRODUCT, Kind.DIVISION, Kind.AFFINE))


@dataclass(frozen=True, slots=True)
class Choice:
    """Operands to follow: one of several choices, or several parts together where a join makes a whole of them.

    Args:
        operands: which.
        cost: how unsure this way is; the sum along a way is to be small.
    """

    operands: tuple[int, ...]
    cost: float


@dataclass(frozen=True, slots=True)
class Part:
    """Where followed elements stand in an operand.

    Args:
        operand: which.
        chosen: (k,) which of the followed elements came from it; None: all of them.
        index: (k,) where they stand in it, flat.
    """

    operand: int
    chosen: Tensor | None
    index: Tensor


def choices(graph: Graph, observer: Observer, i: int) -> list[Choice]:
    """The ways on from node ``i``; none where positions cannot be followed through it."""
    live = [k for k, (source, _) in enumerate(graph.edges[i]) if source >= 0]
    op, shape = graph.ops[i], graph.shape((i, 0))
    if not live:
        return []
    if op in (Op.RESHAPE, Op.SELECT, Op.JOIN) or graph.names[i] == CONSTANT_PAD:
        record = observer.records.get(graph.sequence(i))
        if record is None or record.view is not None:
            return []
        grown = graph.names[i] in GROWING and prod(shape) > prod(graph.shape(graph.edges[i][0]))
        return [Choice(tuple(live), _LOST if grown else _HOP)]
    if graph.names[i] == GLU:
        return [Choice((0,), _HOP)]
    if graph.names[i] in _OPERANDS:
        rows, columns = _OPERANDS[graph.names[i]]  # positions are rows, unless the first factor is a weight
        return [Choice((k,), cost) for k, cost in ((rows, _MIXED), (columns, 5 * _MIXED)) if k in live]
    if op is Op.ATTENTION:
        return [Choice((0,), _MIXED)] if 0 in live else []
    if op is Op.SUM or (op is not None and op.kind is Kind.WINNER and op is not Op.MAX_POOL):
        if shape == graph.shape(graph.edges[i][live[0]]):
            return [Choice((live[0],), _HOP)]
        return [Choice((live[0],), _LOST)] if len(live) == 1 and len(metadata(graph.nodes[i])) <= 2 else []
    if op in (Op.FILL, Op.WRITE) and graph.names[i] != WHERE:
        kept = live[0] == 0 and graph.shape(graph.edges[i][0]) == shape
        return [Choice((0,), _HOP)] if kept else []
    if op is None or op.kind in _IDENTITY or op in (Op.COPY, Op.SCALE, Op.FILL):
        fitting = [(k, graph.shape(graph.edges[i][k])) for k in live]
        return [Choice((k,), _HOP if other == shape else _LOST) for k, other in fitting if _stretches(other, shape)]
    return []


def part_of(graph: Graph, observer: Observer, i: int, output: int, choice: Choice, index: Tensor) -> list[Part] | None:
    """Where the elements ``index`` of an output of node ``i`` stand in the operands that ``choice`` names.

    Returns:
        None where the operation cannot be run again on the numbers of its elements. Elements that no operand brought
        (a learned token, padding) are in no part.
    """
    edges = graph.edges[i]
    if graph.ops[i] in (Op.RESHAPE, Op.SELECT, Op.JOIN) or graph.names[i] == CONSTANT_PAD:
        return _moved(graph, observer, i, output, choice, index)
    k = choice.operands[0]
    before, after = graph.shape(edges[k]), graph.shape((i, output))
    if graph.names[i] in _OPERANDS:
        return [Part(k, None, _in_product(index, before, after, first=k == _OPERANDS[graph.names[i]][0]))]
    if graph.ops[i] is Op.ATTENTION:
        return [Part(k, None, index // after[-1] * before[-1])]
    if prod(before) > prod(after):
        firsts = _firsts(observer.records.get(graph.sequence(i)), before, after)
        return None if firsts is None else [Part(k, None, firsts[index])]
    numbers = torch.arange(prod(before)).reshape(before).expand(after).reshape(-1) if before != after else None
    return [Part(k, None, index if numbers is None else numbers[index])]


def _stretches(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether broadcasting makes ``to`` of ``shape``."""
    sizes = [1] * (len(to) - len(shape)) + list(shape)
    return len(shape) <= len(to) and all(size in (1, other) for size, other in zip(sizes, to, strict=True))


def _in_product(index: Tensor, before: Sequence[int], after: Sequence[int], *, first: bool) -> Tensor:
    """The first element of the row (of the first factor) or column (of the second) that each result is made of."""
    if len(before) == 1 or len(after) == 1:  # a matrix times a vector
        return index * before[-1] if first else torch.zeros_like(index)
    row, column = index // after[-1], index % after[-1]
    if first:
        return row * before[-1]
    return row // after[-2] * (before[-2] * before[-1]) + column


def _moved(graph: Graph, observer: Observer, i: int, output: int, choice: Choice, index: Tensor) -> list[Part] | None:
    """The operation run again on the numbers of its elements, counted from 1 through all operands; 0 is no element."""
    record = observer.records[graph.sequence(i)]
    live, starts, total = [], [], 0
    for k in choice.operands:
        shape = graph.shape(graph.edges[i][k])
        starts.append(total)
        live.append(torch.arange(total + 1, total + prod(shape) + 1, dtype=torch.float64).reshape(shape))
        total += prod(shape)
    try:
        made = _on_numbers(record).call(*live)
    except (RuntimeError, IndexError, TypeError, NotImplementedError):
        return None
    result = made[output] if isinstance(made, (tuple, list)) else made
    if tuple(result.shape) != tuple(graph.shape((i, output))):
        return None
    numbers = result.reshape(-1)[index]
    parts = []
    for k, start, one in zip(choice.operands, starts, live, strict=True):
        chosen = ((numbers > start) & (numbers <= start + one.numel())).nonzero()[:, 0]
        if len(chosen):
            parts.append(Part(k, chosen, numbers[chosen].long() - (start + 1)))
    return parts


def _on_numbers(record: Record) -> Record:
    """The same operation with 0 for every operand that is not followed; indices stay."""

    def blank(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.zeros(value.shape, dtype=torch.float64) if value.is_floating_point() else value.cpu()
        if isinstance(value, (list, tuple)) and not isinstance(value, Live):
            return type(value)(blank(item) for item in value)
        return value

    kwargs = {key: blank(value) for key, value in record.kwargs.items()}
    return replace(record, args=blank(record.args), kwargs=kwargs, base=None)


def _firsts(record: Record | None, before: torch.Size, after: torch.Size) -> Tensor | None:
    """Of a reduction, for every result the first element that went into it."""
    if record is None:
        return None
    if prod(after) == 1:
        return torch.zeros(1, dtype=torch.long)
    numbers = torch.arange(prod(before)).reshape(before)
    given = dict(zip((argument.name for argument in record.func._schema.arguments), record.args, strict=False))
    dim = (given | record.kwargs).get("dim", -1)
    if dim is None:
        return None
    halves = record.func._overloadpacket is torch.ops.aten.glu
    firsts = numbers.chunk(2, dim)[0] if halves else numbers.amin(dim=dim)
    return firsts.reshape(-1) if firsts.numel() == prod(after) else None
