"""How ONNX's operators are written down, and what several of them read alike."""

from __future__ import annotations

from pellucid.models.graph.assembly import Call
from pellucid.models.graph.family import Family
from pellucid.models.onnx.attributes import Attributes

__all__ = ["axes_of", "family", "live_axes", "numbers"]


def family() -> Family[Attributes]:
    """An empty family of operators; those of other domains than ONNX's own are ``domain::Operator``."""
    return Family(lambda call: Attributes(call.node.attributes, call.where, call.node.version))


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
