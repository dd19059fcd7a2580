"""Sums, means, extremes and orders along axes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import axes_of, family, live_axes, numbers
from pellucid.models.operators import reductions

FAMILY = family()
KINDS = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceLogSum": "logsum",
    "ReduceLogSumExp": "logsumexp",
    "ReduceSumSquare": "sumsquare",
}


@FAMILY.add(" ".join(KINDS))
def _reduce(call: Call, a: Attributes) -> Value:
    """Without axes all of them, or none where the node says so."""
    kind, keepdim = KINDS[call.node.op], a.flag("keepdims", True)
    none = a.flag("noop_with_empty_axes")
    if live_axes(call, a):
        return call.apply(reduce_live, call.input(0), call.input(1), kind=kind, keepdim=keepdim, none=none)
    return call.apply(reduce, call.input(0), kind=kind, axes=axes_of(call, a), keepdim=keepdim, none=none)


def reduce(x: Tensor, kind: str, axes: tuple[int, ...] | None, keepdim: bool, none: bool) -> Tensor:
    """One number for all places along axes; the number itself where there are none."""
    if not axes and none:
        return elementwise(x, kind)
    if kind in ("max", "min") and not x.numel():
        return empty_extreme(x, kind, axes, keepdim)
    truth = x.dtype == torch.bool
    made = reductions.reduce(x.to(torch.uint8) if truth else x, kind, axes, keepdim=keepdim)
    return made != 0 if truth else made


def reduce_live(x: Tensor, axes: Tensor, kind: str, keepdim: bool, none: bool) -> Tensor:
    """See :func:`reduce`."""
    return reduce(x, kind, tuple(axes.tolist()), keepdim, none)


def elementwise(x: Tensor, kind: str) -> Tensor:
    """What a reduction over no axes leaves of each number."""
    if kind in ("l1", "l2"):
        return x.abs()
    if kind == "sumsquare":
        return x * x
    return x.log() if kind == "logsum" else x


def empty_extreme(x: Tensor, kind: str, axes: tuple[int, ...] | None, keepdim: bool) -> Tensor:
    """The extreme of nothing: the number that every other one beats."""
    if x.is_floating_point():
        worst: Any = float("-inf") if kind == "max" else float("inf")
    elif x.dtype == torch.bool:
        worst = kind == "min"
    else:
        info = torch.iinfo(x.dtype)
        worst = info.min if kind == "max" else info.max
    shape = x.sum(axes or tuple(range(x.ndim)), keepdim=keepdim).shape
    return torch.full(shape, worst, dtype=x.dtype, device=x.device)


@FAMILY.add("ArgMax ArgMin")
def _argument(call: Call, a: Attributes) -> Value:
    return call.apply(
        reductions.argument,
        call.input(0),
        largest=call.node.op == "ArgMax",
        axis=a.integer("axis", 0),
        keepdim=a.flag("keepdims", True),
        last=a.flag("select_last_index"),
    )


@FAMILY.add("TopK")
def _top(call: Call, a: Attributes) -> list[Value]:
    """The number is a setting before version 10, an input since."""
    settings: dict[str, Any] = {"axis": a.integer("axis", -1), "largest": a.flag("largest", True)}
    count = a.integer("k")
    if count is None:
        known = numbers(call, 1)
        if known is None:
            return call.apply_many(top_live, call.input(0), call.input(1), outputs=2, **settings)
        count = known[0]
    return call.apply_many(top, call.input(0), count=count, outputs=2, **settings)


def top(x: Tensor, count: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The ``count`` largest or smallest values along an axis, and their places."""
    values, places = x.sort(dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def top_live(x: Tensor, count: Tensor, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """See :func:`top`."""
    return top(x, int(count), axis, largest)
