"""Reshaping, slicing, joining and padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import FileError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.batch import FREE
from pellucid.models.onnx.operators.table import axes_of, family, live_axes, numbers
from pellucid.models.operators import shapes
from pellucid.models.operators.sequences import sequence_reverse

FAMILY = family()


@FAMILY.add("Reshape")
def _reshape(call: Call, a: Attributes) -> Value:
    shape, keep = numbers(call, 1), not a.flag("allowzero")
    if shape is None:
        return call.apply(reshape_live, call.input(0), call.input(1), keep=keep)
    if FREE in a and shape:
        shape = (a.integer(FREE, -1), *shape[1:])
    return call.apply(reshape, call.input(0), shape=shape, keep=keep)


def reshape(x: Tensor, shape: Sequence[int], keep: bool = True) -> Tensor:
    """``x`` in another shape: -1 is what fits, 0 keeps the length of that axis (or means 0)."""
    if keep:
        shape = [length if length else x.shape[axis] for axis, length in enumerate(shape)]
    return x.reshape(tuple(shape))


def reshape_live(x: Tensor, shape: Tensor, keep: bool) -> Tensor:
    """See :func:`reshape`."""
    return reshape(x, shape.tolist(), keep)


@FAMILY.add("Flatten")
def _flatten(call: Call, a: Attributes) -> Value:
    axis = a.integer("axis", 1)
    return call.apply(shapes.flatten, call.input(0), axis=axis)


@FAMILY.add("Transpose")
def _transpose(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.transpose, call.input(0), axes=a.integers("perm", ()))


@FAMILY.add("Squeeze")
def _squeeze(call: Call, a: Attributes) -> Value:
    if live_axes(call, a):
        return call.apply(squeeze_live, call.input(0), call.input(1))
    return call.apply(squeeze, call.input(0), axes=axes_of(call, a))


def squeeze_live(x: Tensor, axes: Tensor) -> Tensor:
    """See :func:`squeeze`."""
    return squeeze(x, axes.tolist())


def squeeze(x: Tensor, axes: Sequence[int] | None) -> Tensor:
    """Without axes of length 1."""
    for axis in axes or ():
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} of {tuple(x.shape)} has not the length 1 and cannot be left out")
    return shapes.squeeze(x, axes)


@FAMILY.add("Unsqueeze")
def _unsqueeze(call: Call, a: Attributes) -> Value:
    if live_axes(call, a):
        return call.apply(unsqueeze_live, call.input(0), call.input(1))
    return call.apply(shapes.unsqueeze, call.input(0), axes=axes_of(call, a) or ())


def unsqueeze_live(x: Tensor, axes: Tensor) -> Tensor:
    """With new axes of length 1."""
    return shapes.unsqueeze(x, axes.tolist())


@FAMILY.add("Concat")
def _concat(call: Call, a: Attributes) -> Value:
    return call.apply(shapes.concat, *call.inputs, dim=a.integer("axis", 1))


@FAMILY.add("Split")
def _split(call: Call, a: Attributes) -> list[Value]:
    """The lengths are a setting before version 13, an input since; without them all are equal but the last."""
    axis, parts = a.integer("axis", 0), call.node.outputs
    lengths = a.integers("split")
    if lengths is None and call.optional(1) is not None:
        lengths = numbers(call, 1)
        if lengths is None:
            return call.apply_many(split_live, call.input(0), call.input(1), axis=axis, outputs=parts)
    if lengths is None:
        return call.apply_many(split_even, call.input(0), parts=parts, axis=axis, outputs=parts)
    if len(lengths) != parts:
        raise FileError(f"{call.where} gives {parts} parts, but names {len(lengths)} lengths.")
    return call.apply_many(split, call.input(0), lengths=lengths, axis=axis, outputs=parts)


def split(x: Tensor, lengths: Sequence[int], axis: int) -> tuple[Tensor, ...]:
    """Parts of these lengths."""
    return torch.split(x, list(lengths), axis)


def split_live(x: Tensor, lengths: Tensor, axis: int) -> tuple[Tensor, ...]:
    """See :func:`split`."""
    return torch.split(x, lengths.tolist(), axis)


def split_even(x: Tensor, parts: int, axis: int) -> tuple[Tensor, ...]:
    """Equal parts; what does not go round is missing from the last."""
    length = x.shape[axis]
    each = -(-length // parts)
    return torch.split(x, [max(0, min(each, length - place * each)) for place in range(parts)], axis)


@FAMILY.add("Slice")
def _slice(call: Call, a: Attributes) -> Value:
    """Bounds are settings before version 10, inputs since."""
    if a.version < 10:
        begin, end, axes = a.integers("starts", ()), a.integers("ends", ()), a.integers("axes")
        return call.apply(shapes.strided_slice, call.input(0), begin=begin, end=end, axes=axes)
    bounds = [call.optional(index) for index in range(1, 5)]
    if any(value is not None and value.tensor is None for value in bounds):
        return call.apply(slice_live, call.input(0), *bounds)
    known = [None if value is None else numbers(call, k + 1) for k, value in enumerate(bounds)]
    settings: dict[str, Any] = {"begin": known[0], "end": known[1], "axes": known[2], "step": known[3] or ()}
    return call.apply(shapes.strided_slice, call.input(0), **settings)


def slice_live(x: Tensor, begin: Tensor, end: Tensor, axes: Tensor | None = None, step: Tensor | None = None) -> Tensor:
    """A slice whose bounds a forward makes."""
    chosen = None if axes is None else axes.reshape(-1).tolist()
    steps = () if step is None else step.reshape(-1).tolist()
    return shapes.strided_slice(x, begin.reshape(-1).tolist(), end.reshape(-1).tolist(), steps, chosen)


@FAMILY.add("Pad")
def _pad(call: Call, a: Attributes) -> Value:
    """Widths and the number filled in are settings before version 11, inputs since."""
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = modes[a.choice("mode", tuple(modes), "constant")]
    x, axes = call.input(0), None
    value: Value | float | None
    if a.version < 11:
        widths, value = a.integers("pads", ()), a.number("value", 0.0)
    else:
        found = numbers(call, 1)
        value = call.optional(2)
        if call.optional(3) is not None:
            axes = numbers(call, 3)
        if found is None or (call.optional(3) is not None and axes is None):
            return call.apply(pad_live, x, call.input(1), value, call.optional(3), mode=mode)
        widths = found
        if value is not None:
            if value.tensor is None:
                return call.apply(pad_live, x, call.input(1), value, call.optional(3), mode=mode)
            value = value.tensor.item() if value.tensor.numel() else 0.0
    return call.apply(pad, x, widths=widths, axes=axes, mode=mode, value=value or 0.0)


def pad(x: Tensor, widths: Sequence[int], axes: Sequence[int] | None, mode: str, value: float) -> Tensor:
    """Wider on both sides of some axes, or of all; the widths before all axes come first."""
    half = len(widths) // 2
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(range(half) if axes is None else axes):
        before[axis], after[axis] = int(widths[place]), int(widths[half + place])
    return shapes.pad(x, before, after, mode, value)


def pad_live(x: Tensor, widths: Tensor, value: Tensor | None, axes: Tensor | None, mode: str) -> Tensor:
    """See :func:`pad`."""
    chosen = None if axes is None else axes.tolist()
    filled = 0.0 if value is None or not value.numel() else value.item()
    return pad(x, widths.tolist(), chosen, mode, filled)


@FAMILY.plain("Expand")
def _expand(call: Call) -> Value:
    shape = numbers(call, 1)
    if shape is None:
        return call.apply(expand_live, call.input(0), call.input(1))
    return call.apply(expand, call.input(0), shape=shape)


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` in the common shape of its own and another one."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))  # type: ignore[no-untyped-call]


def expand_live(x: Tensor, shape: Tensor) -> Tensor:
    """See :func:`expand`."""
    return expand(x, shape.tolist())


@FAMILY.plain("Tile")
def _tile(call: Call) -> Value:
    repeats = numbers(call, 1)
    if repeats is None:
        return call.apply(tile_live, call.input(0), call.input(1))
    return call.apply(shapes.tile, call.input(0), repeats=repeats)


def tile_live(x: Tensor, repeats: Tensor) -> Tensor:
    """The whole several times along each axis."""
    return x.tile(tuple(repeats.tolist()))


@FAMILY.add("DepthToSpace")
def _depth_to_space(call: Call, a: Attributes) -> Value:
    columns = a.choice("mode", ("DCR", "CRD"), "DCR") == "CRD"
    return call.apply(shapes.depth_to_space, call.input(0), block=a.integer("blocksize", 1), columns_first=columns)


@FAMILY.add("SpaceToDepth")
def _space_to_depth(call: Call, a: Attributes) -> Value:
    columns = a.choice("mode", ("DCR", "CRD"), "DCR") == "CRD"
    return call.apply(space_to_depth, call.input(0), block=a.integer("blocksize", 1), columns_first=columns)


def space_to_depth(x: Tensor, block: int, columns_first: bool) -> Tensor:
    """Blocks of pixels (N, C, H, W) moved to channels, the blocks' places counting first or last among them."""
    made = shapes.space_to_depth(x, block)
    if not columns_first:
        return made
    n, c, h, w = made.shape
    return made.reshape(n, block**2, c // block**2, h, w).transpose(1, 2).reshape(made.shape)


@FAMILY.add("Shape")
def _shape(call: Call, a: Attributes) -> Value:
    start, end = a.integer("start", 0), a.integer("end")
    return call.apply(lengths, call.input(0), start=start, end=end)


def lengths(x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    """The lengths of a range of axes."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


def count(x: Tensor) -> Tensor:
    """The number of elements."""
    return torch.tensor(math.prod(x.shape), dtype=torch.int64, device=x.device)


FAMILY.same("Size", layers.function(count))
FAMILY.same("Identity", layers.unchanged)


@FAMILY.add("Trilu")
def _triangle(call: Call, a: Attributes) -> Value:
    function = torch.triu if a.flag("upper", True) else torch.tril
    if call.optional(1) is not None and call.input(1).tensor is None:
        return call.apply(triangle_live, call.input(0), call.input(1), side=function)
    diagonal = 0 if call.optional(1) is None else int(call.known(1))
    return call.apply(function, call.input(0), diagonal=diagonal)


def triangle_live(x: Tensor, diagonal: Tensor, side: Callable[..., Tensor]) -> Tensor:
    """One side of a diagonal, 0 on the other."""
    return side(x, int(diagonal))


@FAMILY.add("CenterCropPad")
def _center(call: Call, a: Attributes) -> Value:
    return call.apply(center, call.input(0), call.input(1), axes=a.integers("axes"))


def center(x: Tensor, shape: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    """The middle of ``x``, cut or padded with zeros to a size."""
    before, after = [0] * x.ndim, [0] * x.ndim
    for axis, wanted in zip(range(x.ndim) if axes is None else axes, shape.tolist(), strict=True):
        missing = wanted - x.shape[axis]
        before[axis] = missing // 2 if missing >= 0 else -((-missing) // 2)
        after[axis] = missing - before[axis]
    return shapes.pad(x, before, after)


@FAMILY.add("ReverseSequence")
def _reverse(call: Call, a: Attributes) -> Value:
    time, batch = a.integer("time_axis", 0), a.integer("batch_axis", 1)
    return call.apply(reverse_sequence, call.input(0), call.input(1), time=time, batch=batch)


def reverse_sequence(x: Tensor, lengths: Tensor, time: int, batch: int) -> Tensor:
    """Each sequence backwards up to its length."""
    ordered = x.movedim((time, batch), (0, 1))
    return sequence_reverse(ordered, lengths).movedim((0, 1), (time, batch))


@FAMILY.add("Constant")
def _constant(call: Call, a: Attributes) -> Value:
    found = a.tensor("value")
    if found is None and "value_float" in a:
        found = torch.tensor(a.number("value_float"))
    if found is None and "value_int" in a:
        found = torch.tensor(a.integer("value_int"))
    if found is None and "value_floats" in a:
        found = torch.tensor(a.numbers("value_floats"))
    if found is None and "value_ints" in a:
        found = torch.tensor(a.integers("value_ints", ()), dtype=torch.int64)
    if found is None:
        raise FileError(f"{call.where} holds no numbers: {', '.join(call.node.attributes) or 'no value'}.")
    return Value(call.node.name, found)
