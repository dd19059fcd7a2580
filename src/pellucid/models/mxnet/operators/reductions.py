"""Reductions, orders, look-ups by place, sequences."""

from __future__ import annotations

from typing import Any

import torch

from pellucid.errors import ModelError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators import arithmetic, indexing, reductions, sequences

FAMILY = family()
KINDS = ("sum", "mean", "max", "min", "prod")


@FAMILY.add(
    "sum _sparse_sum sum_axis nansum mean _sparse_mean max max_axis min min_axis prod nanprod _np_sum _np_max _np_amax "
    "_np_min _np_amin _np_prod _np_product _npi_mean"
)
def _reduce(call: Call, a: Attributes) -> Value:
    """What is left of all axes has shape (1,), but numpy's operators give a single number."""
    kind = next(kind for kind in KINDS if kind in call.node.op)
    x = call.input(0)
    if call.node.op.startswith("nan"):
        x = call.apply(torch.nan_to_num, x, nan=0.0 if kind == "sum" else 1.0, label="numbers")
    return call.apply(
        reductions.reduce,
        x,
        kind=kind,
        axes=a.integers("axis"),
        keepdim=a.flag("keepdims"),
        exclude=a.flag("exclude"),
        at_least_1d=not call.node.op.startswith("_np"),
    )


@FAMILY.add("_npi_var _npi_std")
def _deviation(call: Call, a: Attributes) -> Value:
    if a.integer("ddof", 0):
        raise ModelError(f"{call.where} has ddof={a.integer('ddof')}; only 0 is known here.")
    kind = call.node.op.removeprefix("_npi_")
    return call.apply(reductions.reduce, call.input(0), kind=kind, axes=a.integers("axis"), keepdim=a.flag("keepdims"))


@FAMILY.add("norm _sparse_norm")
def _norm(call: Call, a: Attributes) -> Value:
    kind = f"l{a.integer('ord', 2)}"
    if kind not in ("l1", "l2"):
        raise a.wrong("ord", "1 or 2")
    return call.apply(
        reductions.reduce,
        call.input(0),
        kind=kind,
        axes=a.integers("axis"),
        keepdim=a.flag("keepdims"),
        at_least_1d=True,
    )


@FAMILY.add("argmax argmin argmax_channel _npi_argmax _npi_argmin")
def _argument(call: Call, a: Attributes) -> Value:
    axis = 1 if call.node.op == "argmax_channel" else a.integer("axis")
    found = call.apply(
        reductions.argument,
        call.input(0),
        largest="max" in call.node.op,
        axis=axis,
        keepdim=a.flag("keepdims"),
        label="place",
    )
    if call.node.op.startswith("_np"):
        return found
    return call.apply(reductions.as_numbers, found, call.input(0))


@FAMILY.add("topk _npx_topk")
def _top(call: Call, a: Attributes) -> list[Value]:
    """Places are given as floating numbers."""
    x, count, axis = call.input(0), a.integer("k", 1), _axis(call, a)
    largest = not a.flag("is_ascend")
    returned = a.choice("ret_typ", ("indices", "value", "both", "mask"), "indices")
    if returned == "mask":
        return [call.apply(reductions.top_mask, x, count=count, axis=axis, largest=largest)]
    label = "sorted" if returned == "indices" else ""
    settings: dict[str, Any] = {"count": count, "axis": axis, "largest": largest}
    values, places = call.apply_many(reductions.top_values, x, label=label, outputs=2, **settings)
    if returned == "value":
        return [values]
    numbers = call.apply(reductions.as_numbers, places, x, label="" if label else "places")
    return [values, numbers] if returned == "both" else [numbers]


@FAMILY.add("sort _npi_sort argsort _npi_argsort")
def _sort(call: Call, a: Attributes) -> Value:
    x, axis = call.input(0), _axis(call, a)
    largest = not a.flag("is_ascend", default=True)
    label = "sorted" if "arg" in call.node.op else ""
    settings: dict[str, Any] = {"count": 0, "axis": axis, "largest": largest}
    values, places = call.apply_many(reductions.top_values, x, label=label, outputs=2, **settings)
    if not label:
        return values
    return call.apply(reductions.as_numbers, places, x)


def _axis(call: Call, a: Attributes) -> int | None:
    """The last axis where nothing is said, no axis where None is."""
    return a.integer("axis") if "axis" in call.node.attributes else -1


@FAMILY.add("cumsum _np_cumsum")
def _cumulate(call: Call, a: Attributes) -> Value:
    return call.apply(reductions.cumulate, call.input(0), axis=a.integer("axis"))


@FAMILY.add("take _npi_take")
def _take(call: Call, a: Attributes) -> Value:
    mode = a.choice("mode", ("clip", "wrap", "raise"), "clip")
    mode = "negative" if mode == "raise" else mode
    return call.apply(indexing.take, call.input(0), call.input(1), axis=a.integer("axis", 0), mode=mode)


@FAMILY.add("pick _npx_pick choose_element_0index")
def _pick(call: Call, a: Attributes) -> Value:
    axis = _axis(call, a)
    mode = a.choice("mode", ("clip", "wrap"), "clip")
    return call.apply(indexing.pick, call.input(0), call.input(1), axis=axis, keepdim=a.flag("keepdims"), mode=mode)


FAMILY.same("batch_take", layers.function(indexing.pick, axis=1))
FAMILY.same("gather_nd _npi_gather_nd _npx_gather_nd", layers.function(indexing.gather_nd))


@FAMILY.add("scatter_nd")
def _scatter(call: Call, a: Attributes) -> Value:
    return call.apply(indexing.scatter_nd, call.input(0), call.input(1), shape=a.integers("shape", ()))


FAMILY.same("where _sparse_where _npi_where", layers.function(indexing.where))


@FAMILY.add("SequenceMask _npx_sequence_mask")
def _mask(call: Call, a: Attributes) -> Value:
    return call.apply(
        sequences.sequence_mask,
        call.input(0),
        _lengths(call, a),
        value=a.number("value", 0.0),
        axis=a.integer("axis", 0),
    )


@FAMILY.add("SequenceLast")
def _last(call: Call, a: Attributes) -> Value:
    return call.apply(sequences.sequence_last, call.input(0), _lengths(call, a), axis=a.integer("axis", 0))


@FAMILY.add("SequenceReverse")
def _reversed(call: Call, a: Attributes) -> Value:
    return call.apply(sequences.sequence_reverse, call.input(0), _lengths(call, a))


def _lengths(call: Call, a: Attributes) -> Value | None:
    return call.input(1) if a.flag("use_sequence_length") else None


def _cross_entropy(call: Call) -> Value:
    """The summed loss of logits and class numbers."""
    logs = call.layer(lambda: torch.nn.LogSoftmax(-1), call.input(0), label="log_softmax")
    chosen = call.apply(indexing.pick, logs, call.input(1), label="chosen")
    total = call.apply(reductions.reduce, chosen, kind="sum", at_least_1d=True, label="sum")
    return call.apply(arithmetic.multiply_scalar, total, scalar=-1.0)


FAMILY.same("softmax_cross_entropy", _cross_entropy)
