"""Layers that one walks as one though several nodes make them up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pellucid.engine.graph import Graph
from pellucid.engine.observer import Observer
from pellucid.engine.ops import Op
from pellucid.engine.private import ADD, MM, OPERANDS, VIEWS, field

__all__ = ["foldable_norm", "split_biases"]


def foldable_norm(graph: Graph, ops: Sequence[Op | None], i: int, on_path: Sequence[bool]) -> int | None:
    """The evaluation-mode batch-norm that alone consumes node ``i``."""
    consumers = [(c, k) for c, k in graph.consumers[i] if on_path[c]]
    if len(consumers) != 1 or consumers[0][1] != 0:
        return None
    norm = consumers[0][0]
    if ops[norm] is not Op.BATCH_NORM or field(graph.nodes[norm], "training", True):
        return None
    return norm if graph.names[norm] in OPERANDS else None


def split_biases(
    graph: Graph,
    ops: Sequence[Op | None],
    live: Sequence[tuple[bool, ...]],
    observer: Observer,
    on_path: Sequence[bool],
) -> tuple[dict[int, Tensor], set[int]]:
    """Dense layers that ran as a product and an addition, as they do for an input that is not contiguous.

    Returns:
        Product -> its bias (features,), and the additions that then bring nothing of their own.
    """
    biases: dict[int, Tensor] = {}
    absorbed: set[int] = set()
    for i, name in enumerate(graph.names):
        if name != MM or not on_path[i] or ops[i] is not Op.LINEAR:
            continue
        at = _only_consumer(graph, i, on_path)
        while at is not None and graph.names[at] in VIEWS:
            at = _only_consumer(graph, at, on_path)
        if at is None or graph.names[at] != ADD or sum(live[at]) != 1:
            continue
        record = observer.records.get(graph.sequence(at))
        dead = [] if record is None else record.dead_tensors()
        plain = record is not None and record.kwargs.get("alpha", 1) == 1
        if plain and len(dead) == 1 and dead[0].requires_grad and dead[0].shape == graph.shape((i, 0))[-1:]:
            biases[i] = dead[0].detach()
            absorbed.add(at)
    return biases, absorbed


def _only_consumer(graph: Graph, i: int, on_path: Sequence[bool]) -> int | None:
    consumers = [c for c, _ in graph.consumers[i] if on_path[c]]
    return consumers[0] if len(consumers) == 1 else None
