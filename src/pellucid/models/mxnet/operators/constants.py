"""Constants, types, and loops over time."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.errors import FileError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import MOST_FOLDED, Call
from pellucid.models.graph.loops import Foreach
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators import constants

FAMILY = family()
WHOLE = {
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}
FLOATING = ("float32", "float64", "float16", "bfloat16")


@FAMILY.add("_zeros _ones _zeros_without_dtype _full _npi_zeros _npi_ones _npi_full")
def _full(call: Call, a: Attributes) -> Value:
    """A length of 0 stands for one that is not known, mostly of the batch: 1, which broadcasts."""
    shape = tuple(length or 1 for length in a.integers("shape", ()))
    value = a.number("value", 1.0 if "ones" in call.node.op else 0.0)
    return call.apply(constants.full, shape=shape, value=value, dtype=_dtype(a))


@FAMILY.add("_arange _npi_arange")
def _arange(call: Call, a: Attributes) -> Value:
    start, stop, step = a.number("start", 0.0), a.number("stop"), a.number("step", 1.0)
    repeat = a.integer("repeat", 1)
    if stop is None:
        start, stop = 0.0, start
    if step == 0 or (stop - start) / step * repeat > MOST_FOLDED:
        raise FileError(f"{call.where} counts from {start} to {stop} by {step}, which is refused.")
    return call.apply(constants.arange, start=start, stop=stop, step=step, repeat=repeat, dtype=_dtype(a))


@FAMILY.add("_eye _npi_eye _npi_identity")
def _eye(call: Call, a: Attributes) -> Value:
    rows = (a.integers("shape") or (a.integer("N", 1),))[0]
    columns = a.integer("M", 0) or rows
    return call.apply(constants.eye, rows=rows, columns=columns, diagonal=a.integer("k", 0), dtype=_dtype(a))


def _dtype(a: Attributes) -> torch.dtype:
    name = a.choice("dtype", (*FLOATING, *WHOLE), "float32")
    return WHOLE.get(name, torch.float32)


@FAMILY.add("_contrib_arange_like _npx_arange_like")
def _arange_like(call: Call, a: Attributes) -> Value:
    return call.apply(
        constants.arange_like,
        call.input(0),
        axis=a.integer("axis"),
        start=a.number("start", 0.0),
        step=a.number("step", 1.0),
        repeat=a.integer("repeat", 1),
    )


FAMILY.same("zeros_like _sparse_zeros_like", layers.function(torch.zeros_like))
FAMILY.same("ones_like", layers.function(torch.ones_like))


@FAMILY.add("_npi_full_like")
def _full_like(call: Call, a: Attributes) -> Value:
    return call.apply(torch.full_like, call.input(0), fill_value=a.number("fill_value", 0.0))


@FAMILY.add("Cast cast _npi_cast _npx_cast amp_cast")
def _cast(call: Call, a: Attributes) -> Value:
    """Between floating types nothing happens: the type is the model's own."""
    name = a.choice("dtype", (*FLOATING, *WHOLE), "float32")
    if name in WHOLE:
        return call.apply(constants.to_type, call.input(0), dtype=WHOLE[name])
    return call.layer(constants.ToFloating, call.input(0))


FAMILY.same("amp_multicast", lambda call: [value for value in call.inputs if value is not None])


@FAMILY.add("one_hot _npx_one_hot")
def _one_hot(call: Call, a: Attributes) -> Value:
    depth, on, off = a.integer("depth", 1), a.number("on_value", 1.0), a.number("off_value", 0.0)
    return call.layer(lambda: constants.OneHot(depth, on, off), call.input(0))


@FAMILY.add("_foreach")
def _foreach(call: Call, a: Attributes) -> list[Value]:
    """The node's inputs are sequences, states and others; the settings tell which of the body's inputs each is."""
    body = call.body(0)
    sequences, states, others = (a.integers(key, ()) for key in ("in_data_locs", "in_state_locs", "remain_locs"))
    places = (*sequences, *states, *others)
    if sorted(places) != list(range(len(call.inputs))) or len(body.input_names) != len(places):
        raise FileError(f"{call.where} must say of each of its {len(call.inputs)} inputs what it is, but does not.")
    inputs = dict(zip(places, call.inputs, strict=True))

    def make() -> nn.Module:
        return Foreach(body, sequences, states, others, outputs=a.integer("num_out_data", 0))

    return call.layer_many(make, *(inputs[place] for place in sorted(places)), outputs=len(body.output_names))
