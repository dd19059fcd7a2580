"""How a family of MXNet's operators is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pellucid.models.graph.assembly import Build, Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes

Built = Value | Sequence[Value]
Builder = Callable[[Call, Attributes], Built]


class Family(dict[str, Build]):
    """Operators by name; every alias under which files know them has an entry."""

    def add(self, names: str) -> Callable[[Builder], Builder]:
        """Decorate a function that builds the operators of these names, divided by blanks."""

        def register(builder: Builder) -> Builder:
            def build(call: Call) -> Built:
                return builder(call, Attributes(call.node.attributes, call.where))

            self.update(dict.fromkeys(names.split(), build))
            return builder

        return register

    def same(self, names: str, build: Build) -> None:
        """Operators without settings."""
        self.update(dict.fromkeys(names.split(), build))
