"""All operators of MXNet that are known."""

from __future__ import annotations

from pellucid.models.graph.assembly import Build
from pellucid.models.mxnet.operators import (
    activations,
    arithmetic,
    constants,
    detection,
    layers,
    norms,
    pooling,
    recurrent,
    reductions,
    shapes,
)

OPERATORS: dict[str, Build] = {
    name: build
    for family in (layers, norms, activations, pooling, recurrent, shapes, arithmetic, reductions, constants, detection)
    for name, build in family.FAMILY.items()
}
"""Operator -> how it is built. Users' own are added by :func:`pellucid.models.register_operator`."""
