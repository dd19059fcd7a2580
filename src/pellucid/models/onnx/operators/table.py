"""How a family of ONNX's operators is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pellucid.models.graph.assembly import Build, Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes

Built = Value | Sequence[Value]
Builder = Callable[[Call, Attributes], Built]


class Family(dict[str, Build]):
    """Operators by name; those of other domains than ONNX's own as ``domain::Operator``."""

    def add(self, names: str) -> Callable[[Builder], Builder]:
        """Decorate a function that builds the operators of these names, divided by blanks."""

        def register(builder: Builder) -> Builder:
            def build(call: Call) -> Built:
                return builder(call, Attributes(call.node.attributes, call.where, call.node.version))

            self.update(dict.fromkeys(names.split(), build))
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


def numbers(call: Call, index: int) -> tuple[int, ...] | None:
    """The whole numbers of an input, where they are known while loading; None where only a forward makes them."""
    value = call.input(index)
    return None if value.tensor is None else tuple(int(number) for number in value.tensor.reshape(-1).tolist())


def live_axes(call: Call, a: Attributes, index: int = 1) -> bool:
    """Whether axes are an input that only a forward makes."""
    value = None if "axes" in a else call.optional(index)
    return value is not None and value.tensor is None


def axes_of(call: Call, a: Attributes, index: int = 1) -> tuple[int, ...] | None:
    """Known axes, a setting in older versions and an input in newer ones; None where they are left out."""
    if "axes" in a or call.optional(index) is None:
        return a.integers("axes")
    return numbers(call, index)
