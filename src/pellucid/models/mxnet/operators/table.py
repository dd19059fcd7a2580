"""How MXNet's operators are written down."""

from __future__ import annotations

from pellucid.models.graph.family import Family
from pellucid.models.mxnet.attributes import Attributes

__all__ = ["family"]


def family() -> Family[Attributes]:
    """An empty family of operators."""
    return Family(lambda call: Attributes(call.node.attributes, call.where))
