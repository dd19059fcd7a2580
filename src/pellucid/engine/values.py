"""Forward values that a rule needs: from what consumers saved, where that is exact, else computed again.

``SAVED`` is, with the node names in ``ops.py``, all that is relied on of PyTorch's half-private interface.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.autograd.graph import Node

from pellucid.engine.graph import Edge, Graph
from pellucid.engine.observer import Observer

__all__ = ["OWN", "SAVED", "Values", "due", "saved"]

SAVED: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "ConvolutionBackward0": {0: "input", 1: "weight"},
        "ConvolutionBackward1": {0: "input", 1: "weight"},
        "AddmmBackward0": {1: "mat1", 2: "mat2"},
        "MmBackward0": {0: "self", 1: "mat2"},
        "BmmBackward0": {0: "self", 1: "mat2"},
        "BaddbmmBackward0": {1: "batch1", 2: "batch2"},
        "MvBackward0": {0: "self", 1: "vec"},
        "LinearBackward0": {0: "input", 1: "weight"},
        "GroupedMmBackward0": {0: "self", 1: "mat2"},
        "MulBackward0": {0: "self", 1: "other"},
        "DivBackward0": {1: "other"},
        "NativeBatchNormBackward0": {0: "input", 1: "weight"},
        "NativeLayerNormBackward0": {0: "input", 1: "weight"},
        "NativeGroupNormBackward0": {0: "input", 1: "weight"},
        "GeluBackward0": {0: "self"},
        "SiluBackward0": {0: "self"},
        "HardswishBackward0": {0: "self"},
        "HardtanhBackward0": {0: "self"},
        "PowBackward0": {0: "self"},
        "LogsumexpBackward0": {0: "self"},
        "MaxPool2DWithIndicesBackward0": {0: "self"},
        "ScaledDotProductFlashAttentionForCpuBackward0": {0: "query", 1: "key", 2: "value"},
        "ScaledDotProductEfficientAttentionBackward0": {0: "query", 1: "key", 2: "value"},
        "ScaledDotProductFlashAttentionBackward0": {0: "query", 1: "key", 2: "value"},
        "ScaledDotProductCudnnAttentionBackward0": {0: "query", 1: "key", 2: "value"},
        "ScaledDotProductFusedAttentionOverrideableBackward0": {0: "query", 1: "key", 2: "value"},
    }
)
"""Node name -> operand -> the field in which the node holds that operand's value."""

OWN: Mapping[str, str] = MappingProxyType(
    {
        "ReluBackward0": "result",
        "TanhBackward0": "result",
        "SigmoidBackward0": "result",
        "SoftmaxBackward0": "result",
        "ScaledDotProductFlashAttentionForCpuBackward0": "output",
        "ScaledDotProductFlashAttentionBackward0": "output",
        "ScaledDotProductEfficientAttentionBackward0": "output",
        "ScaledDotProductCudnnAttentionBackward0": "output",
    }
)
"""Node name -> the field in which the node holds its own first output."""

_HOPS = 12
"""How many operations back a value is computed again."""

_SAME_ELEMENTS = frozenset(
    f"{name}Backward{number}"
    for name, numbers in (
        ("View", "0"),
        ("UnsafeView", "0"),
        ("ReshapeAlias", "0"),
        ("Unsqueeze", "01"),
        ("Squeeze", "012345"),
    )
    for number in numbers
)


def saved(node: Node, field: str) -> Tensor | None:
    """The field ``_saved_<field>`` of ``node``; None where it is absent, freed, or was overwritten in place since."""
    try:
        value = getattr(node, f"_saved_{field}", None)
    except RuntimeError:  # the version counter says that the saved tensor was changed in place
        return None
    return value if isinstance(value, Tensor) else None


class Values:
    """Looks up the value on an edge of the graph."""

    def __init__(self, graph: Graph, observer: Observer, reached: Sequence[tuple[bool, ...]]) -> None:
        self.graph = graph
        self.observer = observer
        self.reached = reached

    def of(self, edge: Edge, *, hops: int = 0) -> Tensor | None:
        """The value on ``edge``, or None where nothing holds it and it cannot be computed again."""
        source, output = edge
        if source < 0:
            return None
        value = self.kept(edge)
        return value if value is not None or hops >= _HOPS else self._again(source, output, hops)

    def kept(self, edge: Edge) -> Tensor | None:
        """The value on ``edge`` where something holds it."""
        source, output = edge
        variable = getattr(self.graph.nodes[source], "variable", None)
        if isinstance(variable, Tensor):
            return variable.detach()
        record = self.observer.records.get(self.graph.sequence(source))
        value = record.kept() if record is not None and output == 0 else None
        if value is None and output == 0 and self.graph.names[source] in OWN:
            value = saved(self.graph.nodes[source], OWN[self.graph.names[source]])
        if value is not None:
            return value.detach().reshape(self.graph.shape(edge))
        return self._from_consumers(edge, self.graph.shape(edge), 0)

    def _again(self, source: int, output: int, hops: int) -> Tensor | None:
        """Run the operation again on the values of its live operands."""
        record = self.observer.records.get(self.graph.sequence(source))
        if record is None or record.view is not None:
            return None
        live = []
        for edge, reached in zip(self.graph.edges[source], self.reached[source], strict=True):
            if reached:
                value = self.of(edge, hops=hops + 1)
                if value is None:
                    return None
                live.append(value)
        result = record.call(*live)
        made: Tensor = result[output] if isinstance(result, (tuple, list)) else result
        return made

    def _from_consumers(self, edge: Edge, shape: torch.Size, hops: int) -> Tensor | None:
        graph = self.graph
        for i, k in graph.consumers[edge[0]]:
            if graph.edges[i][k] != edge or graph.nodes[i] is None:
                continue
            name = graph.names[i]
            field = SAVED.get(name, {}).get(k)
            value = saved(graph.nodes[i], field) if field else None
            if value is None and name in _SAME_ELEMENTS and hops < 3:
                value = self._from_consumers((i, 0), shape, hops + 1)
            if value is None:
                record = self.observer.records.get(graph.sequence(i))
                if (
                    record is not None
                    and k == 0
                    and len(record.inputs) == 1
                    and record.func._overloadpacket.__name__[-1] != "_"
                ):
                    value = record.inputs[0]
            if value is not None and value.numel() == shape.numel():
                return value.detach().reshape(shape)
        return None


def due(graph: Graph, fold_into: Mapping[int, int], keep: Container[int]) -> dict[int, list[int]]:
    """Node -> the nodes that nothing is read from any more once a walk has passed it.

    A node is read from at its own place, and for the values of its operands at those of its producers: through views,
    which hold nothing themselves, and for a folded batch-norm at its convolution.
    """
    reach = list(range(len(graph.nodes)))
    found: dict[int, list[int]] = {}
    for i in reversed(range(len(graph.nodes))):
        producers = [source for source, _ in graph.edges[i] if source >= 0]
        through = [reach[p] if graph.names[p] in _SAME_ELEMENTS else fold_into.get(p, p) for p in producers]
        last = max([i, *through])
        if graph.names[i] in _SAME_ELEMENTS:
            reach[i] = last
        if i not in keep:
            found.setdefault(last, []).append(i)
    return found
