"""Regions and boxes of detectors."""

from __future__ import annotations

from pellucid.errors import ModelError
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators import resampling
from pellucid.models.operators.boxes import decode_boxes, suppress_boxes

FAMILY = family()


@FAMILY.add("_contrib_ROIAlign")
def _region_align(call: Call, a: Attributes) -> Value:
    if a.flag("position_sensitive"):
        raise ModelError(f"{call.where} pools regions by position, which is not known here.")
    return call.apply(
        resampling.region_align,
        call.input(0),
        call.input(1),
        size=a.integers("pooled_size", ()),
        scale=a.number("spatial_scale", 1.0),
        samples=a.integer("sample_ratio", -1),
        aligned=a.flag("aligned"),
    )


@FAMILY.add("ROIPooling _npx_roi_pooling")
def _region_max(call: Call, a: Attributes) -> Value:
    size, scale = a.integers("pooled_size", ()), a.number("spatial_scale", 1.0)
    return call.apply(resampling.region_max, call.input(0), call.input(1), size=size, scale=scale)


@FAMILY.add("_contrib_box_decode")
def _decode(call: Call, a: Attributes) -> Value:
    limit = a.number("clip", -1.0)
    return call.apply(
        decode_boxes,
        call.input(0),
        call.input(1),
        scales=tuple(a.number(f"std{k}", 1.0) for k in range(4)),
        corners=a.choice("format", ("center", "corner"), "center") == "corner",
        limit=limit if limit > 0 else None,
    )


@FAMILY.add("_contrib_box_nms _contrib_box_non_maximum_suppression")
def _suppress(call: Call, a: Attributes) -> Value:
    kind, background, most = (_or_none(a, key) for key in ("id_index", "background_id", "topk"))
    return call.apply(
        suppress_boxes,
        call.input(0),
        overlap=a.number("overlap_thresh", 0.5),
        score=a.integer("score_index", 1),
        corner=a.integer("coord_start", 2),
        kind=kind,
        background=background,
        threshold=a.number("valid_thresh", 0.0),
        most=most,
        across_kinds=a.flag("force_suppress"),
        centred=a.choice("in_format", ("corner", "center"), "corner") == "center",
        give_centred=a.choice("out_format", ("corner", "center"), "corner") == "center",
    )


def _or_none(a: Attributes, key: str) -> int | None:
    """A setting of which -1 means none."""
    value = a.integer(key, -1)
    return None if value < 0 else value
