"""Values picked and put by place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family

FAMILY = family()


def from_start(places: Tensor, length: int) -> Tensor:
    """Places that may count from the end, counted from the start."""
    places = places.long()
    return torch.where(places < 0, places + length, places)


@FAMILY.add("GatherElements")
def _gather(call: Call, a: Attributes) -> Value:
    return call.apply(gather_elements, call.input(0), call.input(1), axis=a.integer("axis", 0))


def gather_elements(x: Tensor, places: Tensor, axis: int) -> Tensor:
    """One value along an axis for every place."""
    return x.gather(axis, from_start(places, x.shape[axis]))


@FAMILY.add("GatherND")
def _gather_nd(call: Call, a: Attributes) -> Value:
    return call.apply(gather_nd, call.input(0), call.input(1), batch=a.integer("batch_dims", 0))


def gather_nd(x: Tensor, indices: Tensor, batch: int) -> Tensor:
    """Values or slices at coordinates along the last axis of ``indices``; the first ``batch`` axes belong together."""
    axes = [torch.arange(length, device=x.device) for length in x.shape[:batch]]
    grids = torch.meshgrid(*axes, indexing="ij") if axes else ()
    spread = [grid.reshape(*grid.shape, *(1,) * (indices.ndim - 1 - batch)) for grid in grids]
    coordinates = [from_start(part, x.shape[batch + k]) for k, part in enumerate(indices.unbind(-1))]
    return x[(*spread, *coordinates)]


@FAMILY.add("ScatterElements Scatter")
def _scatter(call: Call, a: Attributes) -> Value:
    reduction = a.choice("reduction", ("none", "add", "mul", "max", "min"), "none")
    return call.apply(scatter_elements, *call.inputs[:3], axis=a.integer("axis", 0), reduction=reduction)


def scatter_elements(x: Tensor, places: Tensor, updates: Tensor, axis: int, reduction: str) -> Tensor:
    """``x`` with values put in, or reckoned in, along an axis."""
    places = from_start(places, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    if reduction == "add":
        return x.scatter_add(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, {"mul": "prod", "max": "amax", "min": "amin"}[reduction])


@FAMILY.add("ScatterND")
def _scatter_nd(call: Call, a: Attributes) -> Value:
    reduction = a.choice("reduction", ("none", "add", "mul", "max", "min"), "none")
    return call.apply(scatter_nd, *call.inputs[:3], reduction=reduction)


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """``x`` with values or slices put in, or reckoned in, at coordinates along the last axis of ``indices``."""
    coordinates = tuple(from_start(part, x.shape[axis]) for axis, part in enumerate(indices.unbind(-1)))
    if reduction in ("none", "add"):
        return x.index_put(coordinates, updates, accumulate=reduction == "add")
    depth = len(coordinates)
    flat = torch.zeros_like(coordinates[0])
    for part, length in zip(coordinates, x.shape[:depth], strict=True):
        flat = flat * length + part
    slices = updates.reshape(flat.numel(), -1)
    places = flat.reshape(-1, 1).expand_as(slices)
    kind = {"mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return x.reshape(-1, slices.shape[1]).scatter_reduce(0, places, slices, kind).reshape(x.shape)


@FAMILY.add("Compress")
def _compress(call: Call, a: Attributes) -> Value:
    return call.apply(compress, call.input(0), call.input(1), axis=a.integer("axis"))


def compress(x: Tensor, condition: Tensor, axis: int | None) -> Tensor:
    """The slices of an axis, or the numbers, for which the condition holds."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    return x.index_select(axis, condition.nonzero().squeeze(1))


@FAMILY.add("Unique")
def _unique(call: Call, a: Attributes) -> list[Value]:
    settings: dict[str, Any] = {"axis": a.integer("axis"), "ordered": a.flag("sorted", True)}
    return call.apply_many(unique, call.input(0), outputs=4, **settings)


def unique(x: Tensor, axis: int | None, ordered: bool) -> tuple[Tensor, ...]:
    """The different numbers or slices, their first places, which of them each one is, and how often they come."""
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    flat = inverse.reshape(-1)
    places = torch.arange(len(flat), device=x.device)
    first = torch.full_like(counts, len(flat)).scatter_reduce(0, flat, places, "amin")
    if not ordered:
        order = first.argsort()
        rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=x.device))
        values, first, flat, counts = values.index_select(axis or 0, order), first[order], rank[flat], counts[order]
    return values, first, flat, counts


FAMILY.same("Where", layers.function(torch.where))
