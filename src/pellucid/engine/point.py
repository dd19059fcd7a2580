"""Points of a model: where a value can be read, replaced, or made the beginning of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

__all__ = ["Kind", "Point", "Values"]


class Kind(Enum):
    """What kind of point it is."""

    INPUT = "input"
    LOOK_UP = "look-up of"
    LAYER = "layer"


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a model.

    Args:
        kind: a floating input, the vectors that explained ids are looked up as, or the output of a module.
        name: of the input (as in ``Prepared``), or of the module.
        index: which look-up of these ids, where several embeddings look them up.
    """

    kind: Kind
    name: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name!r}"


Values = Mapping[Point, Tensor]
"""Tensors at points, each (n, ...)."""
