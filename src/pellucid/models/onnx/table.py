"""All operators of ONNX that are known."""

from __future__ import annotations

from pellucid.models.graph.assembly import Build
from pellucid.models.onnx.operators import (
    activations,
    arithmetic,
    attention,
    constants,
    control,
    images,
    indexing,
    layers,
    losses,
    norms,
    pooling,
    quantization,
    recurrent,
    reductions,
    shapes,
)

OPERATORS: dict[str, Build] = {
    name: build
    for family in (
        layers,
        norms,
        activations,
        pooling,
        recurrent,
        attention,
        shapes,
        arithmetic,
        reductions,
        constants,
        indexing,
        images,
        control,
        quantization,
        losses,
    )
    for name, build in family.FAMILY.items()
}
"""Operator -> how it is built. Users' own are added by :func:`pellucid.models.register_operator`."""
