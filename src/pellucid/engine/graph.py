"""The autograd graph as indexed nodes in topological order, outputs first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch.autograd.graph import Node

from pellucid.engine.ops import NODE_OPS, Op
from pellucid.engine.private import metadata, sequence_number

__all__ = ["Edge", "Graph", "build_graph"]

Edge = tuple[int, int]
"""(index of the node that made the operand, which of its outputs); (-1, 0) where nothing was recorded."""

_NOTHING: Edge = (-1, 0)


@dataclass(slots=True)
class Graph:
    """Nodes behind one or more roots; ``edges[i][k]`` is where operand k of node i came from."""

    nodes: list[Node]
    names: list[str]
    ops: list[Op | None]
    edges: list[tuple[Edge, ...]]
    index: dict[Node, int]
    consumers: list[list[tuple[int, int]]] = field(default_factory=list)

    def release(self, i: int) -> None:
        """Let go of node ``i`` and what it saved; its place stays."""
        node = self.nodes[i]
        self.index.pop(node, None)
        self.nodes[i] = cast(Node, None)

    def outputs(self, i: int) -> int:
        """How many outputs node ``i`` has."""
        return len(metadata(self.nodes[i]))

    def shape(self, edge: Edge) -> torch.Size:
        """Shape of the value on ``edge``."""
        shape: torch.Size = metadata(self.nodes[edge[0]])[edge[1]].shape
        return torch.Size(shape)

    def sequence(self, i: int) -> int:
        """The number that PyTorch gave node ``i`` when it was made, per thread; leaves have 2**64 - 1."""
        return sequence_number(self.nodes[i])


def build_graph(roots: list[Node]) -> Graph:
    """Collect every node behind ``roots``, each after all of its consumers.

    Sequence numbers would not do for the order: views whose base was changed in place are made again later.
    """
    order: list[Node] = []
    state: dict[Node, int] = {}
    following: dict[Node, tuple[tuple[Node | None, int], ...]] = {}
    for root in roots:
        if root in state:
            continue
        stack: list[tuple[Node, int]] = [(root, 0)]
        state[root] = 1
        following[root] = root.next_functions
        while stack:
            node, position = stack[-1]
            successors = following[node]
            while position < len(successors):
                successor = successors[position][0]
                position += 1
                if successor is not None and successor not in state:
                    state[successor] = 1
                    following[successor] = successor.next_functions
                    stack[-1] = (node, position)
                    stack.append((successor, 0))
                    break
            else:
                stack.pop()
                order.append(node)
    order.reverse()
    index = {node: i for i, node in enumerate(order)}
    names = [node.name() for node in order]
    graph = Graph(
        nodes=order,
        names=names,
        ops=[NODE_OPS.get(name) for name in names],
        edges=[
            tuple(_NOTHING if target is None else (index[target], output) for target, output in following[node])
            for node in order
        ],
        index=index,
        consumers=[[] for _ in order],
    )
    for i, edges in enumerate(graph.edges):
        for k, (source, _) in enumerate(edges):
            if source >= 0:
                graph.consumers[source].append((i, k))
    return graph
