"""How a family of a format's operators is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pellucid.models.graph.assembly import Build, Call
from pellucid.models.graph.nodes import Value

__all__ = ["Built", "Family"]

A = TypeVar("A")
Built = Value | Sequence[Value]


class Family(dict[str, Build], Generic[A]):
    """Operators by name; every alias under which files know them has an entry.

    Args:
        attributes: gives the settings of a node as the format has them.
    """

    def __init__(self, attributes: Callable[[Call], A]) -> None:
        super().__init__()
        self._attributes = attributes

    def add(self, names: str) -> Callable[[Callable[[Call, A], Built]], Callable[[Call, A], Built]]:
        """Decorate a function that builds the operators of these names, divided by blanks."""

        def register(builder: Callable[[Call, A], Built]) -> Callable[[Call, A], Built]:
            self.same(names, lambda call: builder(call, self._attributes(call)))
            return builder

        return register

    def plain(self, names: str) -> Callable[[Build], Build]:
        """Decorate a function that builds operators without settings."""

        def register(builder: Build) -> Build:
            self.same(names, builder)
            return builder

        return register

    def same(self, names: str, build: Build) -> None:
        """Operators without settings."""
        self.update(dict.fromkeys(names.split(), build))
