"""What a reader of a model file hands over: nodes that refer to each other's outputs, in an order that can be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Ref = tuple[int, int]
"""An output of a node: the node's place in the graph, and which of its outputs."""


@dataclass(frozen=True)
class Node:
    """One operation, or a variable where ``op`` is empty.

    Args:
        op: the operator as the file names it.
        name: as the file names it; names need not be unique.
        inputs: what it takes; None stands for an optional input that is left out.
        attributes: its settings, as the file holds them.
        subgraphs: bodies of loops and branches.
        version: of the operator, where the format counts versions.
        outputs: how many results the file names, where it names them.
    """

    op: str
    name: str
    inputs: tuple[Ref | None, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    subgraphs: tuple[Graph, ...] = ()
    version: int = 0
    outputs: int = 1


@dataclass(frozen=True)
class Graph:
    """Nodes, each after those that it takes from, and the outputs that count.

    Args:
        nodes: in an order that can be run.
        heads: the outputs.
        effects: places of nodes that write into what they take, and so count whether or not a head depends on them.
        names: of the outputs, where the file names them apart from the nodes.
    """

    nodes: tuple[Node, ...]
    heads: tuple[Ref, ...]
    effects: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def reached(self) -> frozenset[int]:
        """The places of the nodes that the heads depend on."""
        found: set[int] = set()
        waiting = [*(place for place, _ in self.heads), *self.effects]
        while waiting:
            place = waiting.pop()
            if place not in found:
                found.add(place)
                waiting.extend(ref[0] for ref in self.nodes[place].inputs if ref is not None)
        return frozenset(found)


@dataclass(eq=False)
class Value:
    """What flows along an edge while a module is put together: known while loading, or made by a forward.

    Args:
        name: of the variable or of the node that makes it.
        tensor: the numbers, where they are known.
        learned: whether they are, or were computed from, weights of the model.
    """

    name: str
    tensor: Tensor | None = None
    learned: bool = False
    parameter: torch.nn.Parameter | None = None
    """The one parameter made of it, however many layers hold it."""
