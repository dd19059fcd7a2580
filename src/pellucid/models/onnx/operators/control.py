"""Branches, loops, and sequences of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pellucid.errors import ModelError
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.control import Branch, Loop, Scan
from pellucid.models.graph.module import Function, GraphModule
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.onnx.read import CAPTURED
from pellucid.models.operators import tensor_lists

FAMILY = family()


def _bodies(call: Call) -> tuple[list[GraphModule], list[Value | None], list[list[Value]]]:
    """The subgraphs, the node's own inputs, and what each subgraph takes from around that only a forward makes."""
    names: tuple[tuple[str, ...], ...] = call.node.attributes[CAPTURED]
    place = len(call.inputs) - sum(len(part) for part in names)
    own = list(call.inputs[:place])
    bodies, live = [], []
    for index, part in enumerate(names):
        around = {name: value for name, value in zip(part, call.inputs[place:], strict=False) if value is not None}
        place += len(part)
        bodies.append(call.body(index, {name: value for name, value in around.items() if value.tensor is not None}))
        live.append([value for value in around.values() if value.tensor is None])
    return bodies, own, live


@FAMILY.add("If")
def _if(call: Call, a: Attributes) -> list[Value]:
    bodies, own, live = _bodies(call)
    first, second = a.integer("then_branch", 0), a.integer("else_branch", 1)
    condition = own[0]
    if condition is not None and condition.tensor is not None:
        chosen = first if bool(condition.tensor) else second
        return call.layer_many(lambda: bodies[chosen], *live[chosen], outputs=call.node.outputs)
    values = [*live[first], *live[second]]
    taken = len(live[first])
    return call.layer_many(
        lambda: Branch(bodies[first], bodies[second], taken), condition, *values, outputs=call.node.outputs
    )


@FAMILY.plain("Loop")
def _loop(call: Call) -> list[Value]:
    bodies, own, live = _bodies(call)
    states = len(own) - 2
    return call.layer_many(lambda: Loop(bodies[0], states), *own, *live[0], outputs=call.node.outputs)


@FAMILY.add("Scan")
def _scan(call: Call, a: Attributes) -> list[Value]:
    if a.version < 9:
        raise ModelError(f"{call.where} is a Scan of version {a.version}; 9 and newer are known.")
    bodies, own, live = _bodies(call)
    sequences = a.integer("num_scan_inputs", 1)
    states = len(own) - sequences
    made = len(bodies[0].output_names) - states

    def make() -> Scan:
        return Scan(
            bodies[0],
            states,
            a.integers("scan_input_axes", (0,) * sequences),
            [bool(back) for back in a.integers("scan_input_directions", (0,) * sequences)],
            a.integers("scan_output_axes", (0,) * made),
            [bool(back) for back in a.integers("scan_output_directions", (0,) * made)],
        )

    return call.layer_many(make, *own, *live[0], outputs=call.node.outputs)


def _listed(call: Call, function: Callable[..., Any], **settings: Any) -> Value:
    """A function that takes or gives a list of tensors, which is never computed while loading."""
    return call.layer(lambda: Function(function, settings), *call.inputs)


LISTS: dict[str, Callable[..., Any]] = {
    "SequenceConstruct": tensor_lists.construct,
    "SequenceEmpty": tensor_lists.construct,
    "SequenceInsert": tensor_lists.insert,
    "SequenceErase": tensor_lists.erase,
    "SequenceAt": tensor_lists.at,
    "SequenceLength": tensor_lists.length,
}


@FAMILY.plain(" ".join(LISTS))
def _list(call: Call) -> Value:
    return _listed(call, LISTS[call.node.op])


@FAMILY.add("ConcatFromSequence")
def _concat(call: Call, a: Attributes) -> Value:
    return _listed(call, tensor_lists.join, axis=a.integer("axis", 0), new=a.flag("new_axis"))


@FAMILY.add("SplitToSequence")
def _split(call: Call, a: Attributes) -> Value:
    return _listed(call, tensor_lists.split, axis=a.integer("axis", 0), keep=a.flag("keepdims", True))
