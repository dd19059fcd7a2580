"""Pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import ModelError
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.onnx.operators.windows import Windows, windows_of
from pellucid.models.operators.pooling import global_pool, pool
from pellucid.models.operators.windows import average_dilated, max_places, pool_same

FAMILY = family()
_MAX: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


@FAMILY.add("MaxPool")
def _max(call: Call, a: Attributes) -> Value | list[Value]:
    w = windows_of(call, a, a.integers("kernel_shape"))
    ceil = a.flag("ceil_mode")
    fitting = _fits(w)
    settings: dict[str, Any] = {"stride": w.stride, "padding": w.before, "dilation": w.dilation, "ceil_mode": ceil}
    if call.node.outputs > 1:
        if not fitting:
            raise ModelError(f"{call.where} gives places with a padding that differs at both ends: not known here.")
        by_columns = a.flag("storage_order")
        return call.apply_many(max_places, call.input(0), kernel=w.kernel, by_columns=by_columns, outputs=2, **settings)
    if fitting:
        layer = _MAX[len(w.kernel) - 1]
        return call.layer(lambda: layer(w.kernel, **settings), call.input(0))
    return _pooled(call, w, "max", ceil)


@FAMILY.add("AveragePool")
def _average(call: Call, a: Attributes) -> Value:
    w = windows_of(call, a, a.integers("kernel_shape"))
    ceil, counted = a.flag("ceil_mode"), a.flag("count_include_pad")
    if max(w.dilation) > 1:
        if w.same:
            raise ModelError(f"{call.where} has gaps in its windows and {w.same} padding: not known here.")
        settings: dict[str, Any] = {"kernel": w.kernel, "stride": w.stride, "dilation": w.dilation, "before": w.before}
        return call.apply(average_dilated, call.input(0), **settings, after=w.after, ceil=ceil, count_padding=counted)
    if _fits(w):
        layer = _AVERAGE[len(w.kernel) - 1]
        return call.layer(lambda: layer(w.kernel, w.stride, w.before, ceil, counted), call.input(0))
    return _pooled(call, w, "avg", ceil, counted)


@FAMILY.add("LpPool")
def _lp(call: Call, a: Attributes) -> Value:
    w = windows_of(call, a, a.integers("kernel_shape"))
    if max(w.dilation) > 1:
        raise ModelError(f"{call.where} has gaps in its windows, which is not known here.")
    size = call.apply(torch.abs, call.input(0), label="size")
    return _pooled(call, w, "lp", a.flag("ceil_mode"), power=a.integer("p", 2), x=size)


def _fits(w: Windows) -> bool:
    """Whether torch's layers can do it: the same padding at both ends, at most half a window."""
    return w.symmetric and all(0 <= p <= k // 2 for p, k in zip(w.before, w.kernel, strict=True))


def _pooled(
    call: Call, w: Windows, kind: str, ceil: bool, counted: bool = True, power: int = 2, x: Value | None = None
) -> Value:
    x = call.input(0) if x is None else x
    settings: dict[str, Any] = {
        "kind": kind,
        "kernel": w.kernel,
        "stride": w.stride,
        "dilation": w.dilation,
        "count_padding": counted,
        "power": power,
    }
    if w.same:
        return call.apply(pool_same, x, lower=w.lower, **settings)
    return call.apply(pool, x, before=w.before, after=w.after, ceil=ceil, **settings)


@FAMILY.add("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def _global(call: Call, a: Attributes) -> Value:
    kind = {"GlobalAveragePool": "avg", "GlobalMaxPool": "max", "GlobalLpPool": "lp"}[call.node.op]
    x = call.apply(torch.abs, call.input(0), label="size") if kind == "lp" else call.input(0)
    return call.apply(global_pool, x, kind=kind, power=a.integer("p", 2))


@FAMILY.add("MaxUnpool")
def _unpool(call: Call, a: Attributes) -> Value:
    w = windows_of(call, a, a.integers("kernel_shape"))
    if not w.symmetric:
        raise ModelError(f"{call.where} has a padding that differs at both ends, which is not known here.")
    settings: dict[str, Any] = {"kernel": w.kernel, "stride": w.stride, "padding": w.before}
    return call.apply(max_unpool, call.input(0), call.input(1), call.optional(2), **settings)


def max_unpool(
    x: Tensor,
    places: Tensor,
    shape: Tensor | None,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Tensor:
    """Maxima put back at their places, which count through the whole tensor of the usual size; 0 elsewhere."""
    lengths = [
        (length - 1) * s - 2 * p + k for length, s, p, k in zip(x.shape[2:], stride, padding, kernel, strict=True)
    ]
    sizes = [*x.shape[:2], *lengths]
    flat = x.new_zeros(sizes).reshape(-1).scatter(0, places.reshape(-1).long(), x.reshape(-1)).reshape(sizes)
    if shape is None:
        return flat
    target = [int(length) for length in shape.tolist()]
    return F.pad(flat, [width for t, s in zip(reversed(target), reversed(sizes), strict=True) for width in (0, t - s)])
