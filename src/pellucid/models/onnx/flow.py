"""What of a graph depends on its inputs, and which numbers are known before."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pellucid.models.graph.nodes import Graph, Ref
from pellucid.models.onnx.read import TENSOR


class Flow:
    """Follows the inputs of a graph through it.

    Args:
        graph: the main graph.
        tensors: its weights.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        self.graph, self.tensors = graph, tensors
        self.live: set[int] = set()
        """The places of nodes that depend on an input."""
        for place, node in enumerate(graph.nodes):
            variable = not node.op and node.name not in tensors
            if variable or any(ref is not None and ref[0] in self.live for ref in node.inputs):
                self.live.add(place)

    def is_live(self, ref: Ref | None) -> bool:
        """Whether an input of a node depends on an input of the graph."""
        return ref is not None and ref[0] in self.live

    def known(self, ref: Ref | None) -> Tensor | None:
        """The numbers of an input of a node that is a weight or a constant."""
        if ref is None:
            return None
        node = self.graph.nodes[ref[0]]
        if not node.op:
            return self.tensors.get(node.name)
        found = node.attributes.get(TENSOR) if node.op == "Constant" else None
        return found if isinstance(found, Tensor) else None
