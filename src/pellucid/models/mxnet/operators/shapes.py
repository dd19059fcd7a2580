"""Reshaping, slicing, joining and padding."""

from __future__ import annotations

from typing import Any

import torch

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.mxnet.reshape import reshape, reshape_legacy, reshape_np
from pellucid.models.operators import constants, shapes

FAMILY = family()


@FAMILY.add("Reshape reshape")
def _reshape(call: Call, a: Attributes) -> Value:
    codes = a.integers("shape") or ()
    if not codes and a.integers("target_shape"):
        target, keep = a.integers("target_shape", ()), a.flag("keep_highest")
        return call.apply(reshape_legacy, call.input(0), target=target, keep_first=keep)
    return call.apply(reshape, call.input(0), codes=codes, reverse=a.flag("reverse"))


@FAMILY.add("_np_reshape")
def _reshape_plain(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.reshape, call.input(0), shape=a.integers("newshape", ()))


@FAMILY.add("_npx_reshape _npi_reshape")
def _reshape_np(call: Call, a: Attributes) -> Value:
    codes = a.integers("newshape", ())
    return call.apply(reshape_np, call.input(0), codes=codes, reverse=a.flag("reverse"))


@FAMILY.add("reshape_like _npx_reshape_like")
def _reshape_like(call: Call, a: Attributes) -> Value:
    return call.apply(
        shapes.reshape_like,
        call.input(0),
        call.input(1),
        begin=a.integer("lhs_begin"),
        end=a.integer("lhs_end"),
        like_begin=a.integer("rhs_begin"),
        like_end=a.integer("rhs_end"),
    )


@FAMILY.add("transpose _np_transpose")
def _transpose(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.transpose, call.input(0), axes=a.integers("axes", ()))


@FAMILY.add("SwapAxis swapaxes _npi_swapaxes")
def _swap(call: Call, a: Attributes) -> Value:
    return call.apply(torch.transpose, call.input(0), dim0=a.integer("dim1", 0), dim1=a.integer("dim2", 0))


@FAMILY.add("_np_moveaxis")
def _move(call: Call, a: Attributes) -> Value:
    source, destination = a.integers("source", ()), a.integers("destination", ())
    return call.apply(torch.movedim, call.input(0), source=source, destination=destination)


@FAMILY.add("expand_dims _npi_expand_dims")
def _expand(call: Call, a: Attributes) -> Value:
    return call.apply(torch.unsqueeze, call.input(0), dim=a.integer("axis", 0))


@FAMILY.add("squeeze _np_squeeze")
def _squeeze(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.squeeze, call.input(0), axes=a.integers("axis"))


@FAMILY.add("slice crop _sparse_slice _npi_slice _npx_slice")
def _slice(call: Call, a: Attributes) -> Value:
    begin, end = a.optional_integers("begin") or (), a.optional_integers("end") or ()
    step = a.optional_integers("step") or ()
    return call.apply(shapes.strided_slice, call.input(0), begin=begin, end=end, step=step)


@FAMILY.add("slice_axis")
def _slice_axis(call: Call, a: Attributes) -> Value:
    axis, begin, end = a.integer("axis", 0), a.integer("begin", 0), a.integer("end")
    return call.apply(shapes.slice_axis, call.input(0), axis=axis, begin=begin, end=end)


@FAMILY.add("slice_like")
def _slice_like(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.slice_like, call.input(0), call.input(1), axes=a.integers("axes", ()))


@FAMILY.add("Crop")
def _crop(call: Call, a: Attributes) -> Value:
    return call.apply(
        shapes.crop,
        call.input(0),
        call.optional(1),
        size=a.integers("h_w", (0, 0)),
        offset=a.integers("offset", (0, 0)),
        center=a.flag("center_crop"),
    )


@FAMILY.add("SliceChannel split")
def _split(call: Call, a: Attributes) -> list[Value]:
    parts, axis, squeeze = a.integer("num_outputs", 1), a.integer("axis", 1), a.flag("squeeze_axis")
    settings: dict[str, Any] = {"parts": parts, "axis": axis, "squeeze": squeeze}
    return call.apply_many(shapes.split_even, call.input(0), outputs=parts, **settings)


@FAMILY.add("_split_v2 _npi_split")
def _split_at(call: Call, a: Attributes) -> list[Value]:
    settings: dict[str, Any] = {"axis": a.integer("axis", 1), "squeeze": a.flag("squeeze_axis")}
    parts = a.integer("sections", 0)
    if parts:
        return call.apply_many(shapes.split_even, call.input(0), parts=parts, outputs=parts, **settings)
    starts = a.integers("indices", ())
    starts = starts[1:] if starts[:1] == (0,) else starts  # the first part's own start
    return call.apply_many(shapes.split_at, call.input(0), starts=starts, outputs=len(starts) + 1, **settings)


@FAMILY.add("Concat concat _sparse_concat _rnn_param_concat _npi_rnn_param_concat _npi_concatenate")
def _concat(call: Call, a: Attributes) -> Value:
    axis = a.integer("dim", a.integer("axis", 1))
    return call.apply(shapes.concat, *call.inputs, dim=axis)


@FAMILY.add("stack _npi_stack")
def _stack(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.stack, *call.inputs, dim=a.integer("axis", 0))


@FAMILY.add("tile _npi_tile")
def _tile(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.tile, call.input(0), repeats=a.integers("reps", ()))


@FAMILY.add("repeat _np_repeat")
def _repeat(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.repeat, call.input(0), repeats=a.integer("repeats", 1), axis=a.integer("axis"))


@FAMILY.add("reverse flip _npi_flip")
def _reverse(call: Call, a: Attributes) -> Value:
    return call.apply(torch.flip, call.input(0), dims=a.integers("axis", ()))


@FAMILY.add("broadcast_to _npi_broadcast_to")
def _broadcast_to(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.broadcast_to, call.input(0), shape=a.integers("shape", ()))


@FAMILY.add("broadcast_axis broadcast_axes")
def _broadcast_axis(call: Call, a: Attributes) -> Value:
    axes, sizes = a.integers("axis", ()), a.integers("size", ())
    return call.apply(shapes.broadcast_axes, call.input(0), axes=axes, sizes=sizes)


@FAMILY.add("broadcast_like")
def _broadcast_like(call: Call, a: Attributes) -> Value:
    return call.apply(
        shapes.broadcast_like,
        call.input(0),
        call.input(1),
        axes=a.integers("lhs_axes"),
        like_axes=a.integers("rhs_axes"),
    )


@FAMILY.add("Pad pad")
def _pad(call: Call, a: Attributes) -> Value:
    """Widths come in pairs from the first axis on."""
    widths = a.integers("pad_width", ())
    mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}[
        a.choice("mode", ("constant", "edge", "reflect"), "constant")
    ]
    value = a.number("constant_value", 0.0)
    return call.apply(shapes.pad, call.input(0), before=widths[::2], after=widths[1::2], mode=mode, value=value)


@FAMILY.add("depth_to_space")
def _depth_to_space(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.depth_to_space, call.input(0), block=a.integer("block_size", 1))


@FAMILY.add("space_to_depth")
def _space_to_depth(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.space_to_depth, call.input(0), block=a.integer("block_size", 1))


FAMILY.same("shape_array _npx_shape_array", layers.function(constants.shape_of))
FAMILY.same("size_array", layers.function(constants.size_of))
