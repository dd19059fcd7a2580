"""Resizing, and sampling at given places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import ModelError
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.onnx.operators.windows import windows_of
from pellucid.models.operators import resampling
from pellucid.models.operators.boxes import select_boxes
from pellucid.models.operators.deformable import deformable_convolution
from pellucid.models.operators.resize import resize

FAMILY = family()
PLACES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


@FAMILY.add("Upsample")
def _upsample(call: Call, a: Attributes) -> Value:
    """What came before Resize: factors are a setting in version 7 and an input in 9."""
    mode = a.choice("mode", ("nearest", "linear", "bilinear"), "nearest").replace("bi", "")
    given = a.numbers("scales")
    scales = Value(f"{call.node.name}_scales", torch.tensor(given)) if given else call.input(1)
    return call.apply(resize, call.input(0), None, scales, mode=mode, places="asymmetric", rounding="floor")


@FAMILY.add("Resize")
def _resize(call: Call, a: Attributes) -> Value:
    mode = a.choice("mode", ("nearest", "linear", "cubic"), "nearest")
    if a.version < 11:
        return call.apply(resize, call.input(0), None, call.input(1), mode=mode, places="asymmetric", rounding="floor")
    settings: dict[str, Any] = {
        "axes": a.integers("axes"),
        "mode": mode,
        "places": a.choice("coordinate_transformation_mode", (*PLACES, "tf_half_pixel_for_nn"), "half_pixel"),
        "rounding": a.text("nearest_mode", "round_prefer_floor"),
        "cubic": a.number("cubic_coeff_a", -0.75),
        "exclude_outside": a.flag("exclude_outside"),
        "antialias": a.flag("antialias"),
        "outside": a.number("extrapolation_value", 0.0),
        "policy": a.choice("keep_aspect_ratio_policy", ("stretch", "not_larger", "not_smaller"), "stretch"),
    }
    if settings["places"] == "tf_half_pixel_for_nn":
        raise ModelError(f"{call.where} places by tf_half_pixel_for_nn, which ONNX has given up; it is not known here.")
    return call.apply(resize, *(call.optional(index) for index in range(4)), **settings)


@FAMILY.add("GridSample")
def _grid_sample(call: Call, a: Attributes) -> Value:
    modes = {
        "bilinear": "bilinear",
        "linear": "bilinear",
        "nearest": "nearest",
        "bicubic": "bicubic",
        "cubic": "bicubic",
    }
    settings: dict[str, Any] = {
        "mode": modes[a.choice("mode", tuple(modes), "linear")],
        "padding_mode": a.choice("padding_mode", ("zeros", "border", "reflection"), "zeros"),
        "align_corners": a.flag("align_corners"),
    }
    return call.apply(F.grid_sample, call.input(0), call.input(1), **settings)


@FAMILY.add("AffineGrid")
def _affine_grid(call: Call, a: Attributes) -> Value:
    return call.apply(affine_grid, call.input(0), call.input(1), align_corners=a.flag("align_corners"))


def affine_grid(theta: Tensor, size: Tensor, align_corners: bool) -> Tensor:
    """Places in -1..1 from affine maps."""
    return F.affine_grid(theta, size.tolist(), align_corners=align_corners)


@FAMILY.add("RoiAlign")
def _region_align(call: Call, a: Attributes) -> Value:
    """Since version 16 regions are shifted by half a pixel where nothing else is said."""
    if a.choice("mode", ("avg", "max"), "avg") == "max":
        raise ModelError(f"{call.where} takes maxima of samples, which is not known here.")
    default = "half_pixel" if a.version >= 16 else "output_half_pixel"
    form = a.choice("coordinate_transformation_mode", ("half_pixel", "output_half_pixel"), default)
    return call.apply(
        region_align,
        *(call.input(index) for index in range(3)),
        size=(a.integer("output_height", 1), a.integer("output_width", 1)),
        scale=a.number("spatial_scale", 1.0),
        samples=a.integer("sampling_ratio", 0),
        aligned=form == "half_pixel",
    )


def region_align(
    x: Tensor, boxes: Tensor, images: Tensor, size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> Tensor:
    """Means of regions (R, 4) of these images in a grid."""
    regions = torch.cat([images.unsqueeze(1).to(boxes.dtype), boxes], 1)
    return resampling.region_align(x, regions, size, scale, samples or -1, aligned)


@FAMILY.add("MaxRoiPool")
def _region_max(call: Call, a: Attributes) -> Value:
    rows, columns = a.integers("pooled_shape", (1, 1))
    return call.apply(
        resampling.region_max,
        call.input(0),
        call.input(1),
        size=(rows, columns),
        scale=a.number("spatial_scale", 1.0),
    )


@FAMILY.add("NonMaxSuppression")
def _suppression(call: Call, a: Attributes) -> Value:
    return call.apply(select_boxes, *(call.optional(index) for index in range(5)), centred=a.flag("center_point_box"))


@FAMILY.add("DeformConv")
def _deformable(call: Call, a: Attributes) -> Value:
    weight = call.input(1)
    kernel = a.integers("kernel_shape") or (None if weight.tensor is None else tuple(weight.tensor.shape[2:]))
    w = windows_of(call, a, kernel)
    if len(w.kernel) != 2 or not w.symmetric:
        raise ModelError(f"{call.where}: only two spatial axes with the same padding at both ends are known here.")
    return call.apply(
        deformable,
        *(call.optional(index) for index in range(5)),
        stride=w.stride,
        padding=w.before,
        dilation=w.dilation,
        groups=a.integer("group", 1),
        offset_groups=a.integer("offset_group", 1),
    )


def deformable(
    x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None, mask: Tensor | None, **settings: Any
) -> Tensor:
    """A deformable convolution with its inputs in ONNX's order."""
    return deformable_convolution(x, offset, mask, weight, bias, **settings)


@FAMILY.add("Col2Im")
def _fold(call: Call, a: Attributes) -> Value:
    return call.apply(
        fold,
        *(call.input(index) for index in range(3)),
        stride=a.integers("strides"),
        dilation=a.integers("dilations"),
        pads=a.integers("pads"),
    )


def fold(
    x: Tensor,
    size: Tensor,
    block: Tensor,
    stride: tuple[int, ...] | None,
    dilation: tuple[int, ...] | None,
    pads: tuple[int, ...] | None,
) -> Tensor:
    """Sums of overlapping blocks (N, C * block, L) in an image."""
    lengths, kernel = size.tolist(), block.tolist()
    axes = len(lengths)
    stride, dilation, pads = stride or (1,) * axes, dilation or (1,) * axes, pads or (0,) * 2 * axes
    whole = [length + pads[k] + pads[axes + k] for k, length in enumerate(lengths)]
    n, channels = x.shape[0], x.shape[1] // torch.Size(kernel).numel()
    places = torch.zeros((1, 1), dtype=torch.int64, device=x.device)
    for length, k, s, d in zip(whole, kernel, stride, dilation, strict=True):
        steps = (length - d * (k - 1) - 1) // s + 1
        inner = torch.arange(k, device=x.device).unsqueeze(1) * d + torch.arange(steps, device=x.device) * s
        places = (places * length)[:, None, :, None] + inner[None, :, None, :]
        places = places.reshape(places.shape[0] * k, -1)
    flat = x.reshape(n, channels, -1)
    image = flat.new_zeros(n, channels, torch.Size(whole).numel())
    image = image.index_add(2, places.reshape(-1), flat).reshape(n, channels, *whole)
    for k, length in enumerate(lengths):
        image = image.narrow(2 + k, pads[k], length)
    return image
