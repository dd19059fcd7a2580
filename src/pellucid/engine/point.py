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
    CALL = "call of"


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a model.

    Args:
        kind: a floating input, the vectors that explained ids are looked up as, the output of a module, or what a
            function returned that the model calls itself.
        name: of the input (as in ``Prepared``), of the module, or of the function.
        index: which look-up of these ids, where several embeddings look them up; which run of a module that runs
            several times, from 1 (0: its only run); which call of the function, from 1.
    """

    kind: Kind
    name: str
    index: int = 0

    def __str__(self) -> str:
        run = f" (run {self.index})" if self.index and self.kind in (Kind.LAYER, Kind.CALL) else ""
        return f"{self.kind.value} {self.name!r}{run}"


Values = Mapping[Point, Tensor]
"""Tensors at points, each (n, ...)."""
