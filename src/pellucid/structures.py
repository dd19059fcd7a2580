"""Tensors alone, in a tuple or in a dict: the forms that an input and its relevance share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import InputError


def as_float(tensor: Tensor) -> Tensor:
    """The tensor in double precision on the CPU, outside any graph: what pictures, tables and sums are made from."""
    return tensor.detach().to("cpu", torch.float64)


def map_tensors(function: Callable[[Tensor], Any], structure: Any) -> Any:
    """``function`` of every tensor; what is no tensor (None, a flag of a transformer's input) stays as it is."""
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, Mapping):
        return {name: map_tensors(function, value) for name, value in structure.items()}
    if isinstance(structure, tuple | list):
        return tuple(map_tensors(function, value) for value in structure)
    return structure


def named_tensors(structure: Any) -> dict[str, Tensor]:
    """Its tensors by name: "x" for a lone one, else the dict's key or the tuple's index as text."""
    if isinstance(structure, Tensor):
        return {"x": structure}
    items = structure.items() if isinstance(structure, Mapping) else enumerate(structure or ())
    return {str(name): value for name, value in items if isinstance(value, Tensor)}


def pack(prefix: str, structure: Any, tensors: dict[str, Tensor]) -> object:
    """Describe ``structure`` for JSON and add its tensors, named ``prefix`` or ``prefix/name``, to ``tensors``."""
    if structure is None:
        return None
    if isinstance(structure, Tensor):
        tensors[prefix] = structure
        return {"kind": "tensor"}
    mapping = isinstance(structure, Mapping)
    items = [(str(name), value) for name, value in (structure.items() if mapping else enumerate(structure))]
    tensors.update({f"{prefix}/{name}": value for name, value in items if isinstance(value, Tensor)})
    slots = [[name, "tensor"] if isinstance(value, Tensor) else [name, "value", value] for name, value in items]
    return {"kind": "dict" if mapping else "tuple", "items": slots}


def unpack(prefix: str, form: object, tensor: Callable[[str], Tensor]) -> Any:
    """The structure that :func:`pack` described, each tensor fetched by ``tensor(name)``.

    Raises:
        InputError: ``form`` is not what :func:`pack` gives.
    """
    if form is None:
        return None
    kind = form.get("kind") if isinstance(form, dict) else None
    if kind == "tensor":
        return tensor(prefix)
    slots = form.get("items") if isinstance(form, dict) else None
    if kind not in ("tuple", "dict") or not isinstance(slots, list):
        raise InputError(f"the form of {prefix!r} is unknown")
    values: dict[str, Any] = {}
    for slot in slots:
        if not (isinstance(slot, list) and len(slot) in (2, 3) and isinstance(slot[0], str) and slot[0] not in values):
            raise InputError(f"the form of {prefix!r} is damaged")
        values[slot[0]] = tensor(f"{prefix}/{slot[0]}") if slot[1] == "tensor" else slot[-1]
    return values if kind == "dict" else tuple(values.values())
