"""Pooling, resizing and sampling of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pellucid.errors import ModelError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators import resampling
from pellucid.models.operators.pooling import global_pool, pool

FAMILY = family()
_LAYERS: dict[str, tuple[Any, ...]] = {
    "max": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "avg": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
}


@FAMILY.add("Pooling Pooling_v1 _npx_pooling")
def _pooling(call: Call, a: Attributes) -> Value:
    """Steps of 1 where nothing is said; ``full`` rounds the number of windows up."""
    x = call.input(0)
    kind = a.choice("pool_type", ("max", "avg", "sum", "lp"), "max")
    power = a.integer("p_value", 2)
    last = not a.text("layout", "NC").startswith("NC")
    if last:
        x = call.apply(torch.movedim, x, source=-1, destination=1, label="channels_first")
    label = "pool" if last else ""
    if a.flag("global_pool"):
        made = call.apply(global_pool, x, kind=kind, power=power, label=label)
    else:
        made = _windows(call, a, x, kind, power, label)
    return call.apply(torch.movedim, made, source=1, destination=-1) if last else made


def _windows(call: Call, a: Attributes, x: Value, kind: str, power: int, label: str) -> Value:
    kernel = a.integers("kernel", ())
    if not 1 <= len(kernel) <= 3:
        raise a.wrong("kernel", "one to three whole numbers")
    stride = a.integers("stride") or (1,) * len(kernel)
    padding = a.integers("pad") or (0,) * len(kernel)
    counted = a.flag("count_include_pad", default=True)
    convention = a.choice("pooling_convention", ("valid", "full", "same"), "valid")
    if convention == "same":
        raise ModelError(f"{call.where} pools by the convention 'same', which MXNet 1.9 itself computes wrongly.")
    full = convention == "full"
    # Windows can begin beyond the padded input only where steps are long; torch drops those, MXNet keeps them.
    outside = full and any(s > k - p for k, s, p in zip(kernel, stride, padding, strict=True))
    fitting = all(p <= k // 2 for k, p in zip(kernel, padding, strict=True))
    if kind in _LAYERS and fitting and not outside:
        settings: dict[str, Any] = {"ceil_mode": full}
        if kind == "avg":
            settings["count_include_pad"] = counted
        layer = _LAYERS[kind][len(kernel) - 1]
        return call.layer(lambda: layer(kernel, stride, padding, **settings), x, label=label)
    return call.apply(
        pool,
        x,
        kind=kind,
        kernel=kernel,
        stride=stride,
        before=padding,
        after=padding,
        ceil=full,
        count_padding=counted,
        power=power,
        label=label,
    )


@FAMILY.add("_contrib_AdaptiveAvgPooling2D")
def _adaptive(call: Call, a: Attributes) -> Value:
    size = a.integers("output_size") or (1,)
    return call.layer(lambda: nn.AdaptiveAvgPool2d(size * (3 - len(size))), call.input(0))


@FAMILY.add("UpSampling")
def _upsampling(call: Call, a: Attributes) -> Value:
    scale = a.integer("scale", 1)
    if a.choice("sample_type", ("nearest", "bilinear"), "nearest") == "nearest":
        together = a.choice("multi_input_mode", ("concat", "sum"), "concat")
        return call.apply(resampling.upsample_nearest, *call.inputs, scale=scale, together=together)
    # The weight of a transposed convolution, channel by channel.
    padding = -(-(scale - 1) // 2)
    return layers.convolution(
        call,
        call.input(0),
        call.input(1),
        None,
        stride=(scale, scale),
        padding=(padding, padding),
        dilation=(1, 1),
        groups=layers.known(call, call.input(1)).shape[0],
        transposed=True,
    )


@FAMILY.add("_contrib_BilinearResize2D")
def _resize(call: Call, a: Attributes) -> Value:
    modes = ("size", "odd_scale", "like", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up")
    mode = a.choice("mode", modes, "size")
    return call.apply(
        resampling.resize_bilinear,
        call.input(0),
        call.optional(1) if mode == "like" else None,
        mode=mode,
        size=(a.integer("height", 1), a.integer("width", 1)),
        scale=(a.number("scale_height"), a.number("scale_width")),
        align_corners=a.flag("align_corners", default=True),
    )


@FAMILY.add("GridGenerator")
def _grid(call: Call, a: Attributes) -> Value:
    if a.choice("transform_type", ("affine", "warp"), "affine") == "warp":
        return call.apply(resampling.flow_grid, call.input(0))
    return call.apply(resampling.affine_grid, call.input(0), size=a.integers("target_shape", (0, 0)))


FAMILY.same("BilinearSampler", layers.function(resampling.sample))


@FAMILY.add("SpatialTransformer")
def _transformer(call: Call, a: Attributes) -> Value:
    size = a.integers("target_shape", (0, 0))
    return call.apply(resampling.transform, call.input(0), call.input(1), size=size)
